"""Clients that call servers again and again while something happens to these, and check every answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

import httpx
import numpy as np

from convpool.client import Client, Retries
from convpool.client.errors import CallError
from convpool.client.operations import Operations
from convpool.client.wire import Call
from tests.waiting import SECONDS, wait_until

from .layers import SMALL, Layer

__all__ = ["Load"]

RETRIES = Retries(attempts=20, patience=SECONDS)


class _Requests(Operations):
    """The client's operations, which return the call instead of making it."""

    def _call(self, call: Call) -> Call:
        return call


class Load:
    """Threads, each of which calls on a connection of its own that it keeps; a context manager, whose end ends them.

    Parameters
    ----------
    base_url : str
        May have a path.
    clients : int
    layer : Layer
        What they call: one that keeps a processor busy.
    retrying : bool
        Whether they are those of ``convpool.client``, which repeat what failed; otherwise each request is sent once.
    pause : float
        Seconds between a response, or a failure, and the next request.

    Attributes
    ----------
    right, wrong : int
        Responses with the right result and with another one.
    failures : list of str
        Requests, or with ``retrying`` calls, that had no result: an error, or no whole response.
    statuses : Counter of int
        Of all responses; with ``retrying`` only those that the client handed on.
    milliseconds : list of float
        How long each right answer took.
    seconds : float
        From the first request to the last response.
    """

    def __init__(
        self, base_url: str, clients: int = 8, *, layer: Layer = SMALL, retrying: bool = False, pause: float = 0.0
    ) -> None:
        self._url, self._layer, self._retrying, self._pause = base_url.rstrip("/"), layer, retrying, pause
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._served = [0] * clients
        self._right: set[bytes] = set()
        self._began = 0.0
        self.wrong, self.failures, self.seconds = 0, list[str](), 0.0
        self.statuses, self.milliseconds = Counter[int](), list[float]()
        work = self._call if retrying else self._send
        self._threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]

    @property
    def right(self) -> int:
        """Right answers so far."""
        return sum(self._served)

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)
        self.seconds = time.perf_counter() - self._began
        assert not any(thread.is_alive() for thread in self._threads), "a request goes on without an end"

    def wait_for_more(self, count: int = 3) -> None:
        """Wait until each client has had some more right answers."""
        before = list(self._served)
        self.wait_until(lambda: all(now >= then + count for now, then in zip(self._served, before, strict=True)))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        wait_until(condition, state=lambda: (self.right, self.failures[:3]))

    # ------------------------------------------------------------------------------------------------------ the threads

    def _call(self, number: int) -> None:
        with Client(self._url, retries=RETRIES) as client:
            while not self._end.is_set():
                start = time.perf_counter()
                try:
                    output = client.conv_forward(**self._layer.operands)
                except CallError as error:
                    self._fail(number, repr(error))
                else:
                    with self._lock:
                        self.statuses[200] += 1
                    self._judge(number, start, np.array_equal(output, self._layer.expected))
                self._end.wait(self._pause)

    def _send(self, number: int) -> None:
        call: Call = _Requests().conv_forward(**self._layer.operands)
        with httpx.Client(base_url=self._url, timeout=SECONDS, trust_env=False) as client:
            while not self._end.is_set():
                start = time.perf_counter()
                try:
                    response = client.request(**call.request())
                except httpx.HTTPError as error:
                    self._fail(number, repr(error))
                else:
                    with self._lock:
                        self.statuses[response.status_code] += 1
                    if response.status_code == 200:
                        self._judge(number, start, self._is_right(call, response))
                    else:
                        retry = response.headers.get("retry-after")
                        self._fail(number, f"{response.status_code}, Retry-After {retry}: {response.text}")
                self._end.wait(self._pause)

    def _is_right(self, call: Call, response: httpx.Response) -> bool:
        content = response.content
        if content not in self._right:  # results do not depend on what else goes on, so that most are the same bytes
            with contextlib.suppress(CallError):
                if np.array_equal(call.result(response), self._layer.expected):
                    self._right.add(content)
        return content in self._right

    def _judge(self, number: int, start: float, is_right: bool) -> None:
        milliseconds = 1000 * (time.perf_counter() - start)
        with self._lock:
            if is_right:
                self._served[number] += 1
                self.milliseconds.append(milliseconds)
            else:
                self.wrong += 1

    def _fail(self, number: int, what: str) -> None:
        time.sleep(0.01)  # rather than to fill the list with refused connections
        with self._lock:
            self.failures.append(f"client {number}: {what}")
