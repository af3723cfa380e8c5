"""A load of checked calls beside which a server is attacked: how long each took, and whether its answer was right."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .wire import Connection, Response

if TYPE_CHECKING:
    from .calls import CheckedCall

__all__ = ["Figures", "Load"]

BUSY = (429, 503)


@dataclass
class Figures:
    """What clients saw.

    Attributes
    ----------
    milliseconds : list of float
        From before a request was sent, and its connection opened if it was the first, to the end of its response.
    statuses : Counter of int
    by_kind : Counter of (str, int)
        Statuses by the kind of call.
    failures : Counter of str
        Requests without a whole response, by the reason.
    wrong : Counter of str
        Responses that no server should give, by what is wrong with them.
    """

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """Return the time in milliseconds that this share of the responses took at most; infinite if none came."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.inf

    def add(self, other: Figures) -> None:
        """Count another client's in."""
        self.milliseconds += other.milliseconds
        self.statuses += other.statuses
        self.by_kind += other.by_kind
        self.failures += other.failures
        self.wrong += other.wrong


class Load:
    """Clients, each with a connection of its own that it keeps; a context manager, whose end closes them.

    Parameters
    ----------
    port : int
    calls : sequence of CheckedCall
        Each client sends one after the other, in an order of its own.
    clients : int
    pause : float
        Seconds between a response and the next request, on average: a load that leaves the server time.
    patience : float
        Seconds after which a request has failed.
    """

    def __init__(
        self, port: int, calls: Sequence[CheckedCall], clients: int = 4, pause: float = 0.01, patience: float = 30.0
    ) -> None:
        self._clients = [_Client(port, calls, number, pause, patience) for number in range(clients)]
        self._threads: list[threading.Thread] = []
        self._end = threading.Event()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.drop()

    def run(self, seconds: float) -> Figures:
        """Send requests for some time, and return the figures."""
        self.start()
        self._end.wait(seconds)
        return self.stop()

    def start(self) -> None:
        """Begin to send requests."""
        self._end = threading.Event()
        self._threads = [threading.Thread(target=client.work, args=(self._end,)) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Figures:
        """Wait for the responses that are under way, and return the figures since the start."""
        self._end.set()
        figures = Figures()
        for client, thread in zip(self._clients, self._threads, strict=True):
            thread.join()
            figures.add(client.figures)
        self._threads = []
        return figures


class _Client:
    def __init__(self, port: int, calls: Sequence[CheckedCall], number: int, pause: float, patience: float) -> None:
        self._port, self._calls, self._pause, self._patience = port, calls, pause, patience
        self._random = random.Random(number)
        self._connection: Connection | None = None
        self.figures = Figures()

    def drop(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def work(self, end: threading.Event) -> None:
        """Send requests until the end."""
        self.figures = Figures()
        while not end.is_set():
            self._send(self._random.choice(self._calls))
            if end.wait(self._random.uniform(0, 2 * self._pause)):
                break

    def _send(self, call: CheckedCall) -> None:
        figures, start = self.figures, time.perf_counter()
        try:
            response = self._ask(call.request)
        except ConnectionRefusedError:
            figures.failures["refused"] += 1
            time.sleep(0.01)
        except (OSError, ValueError) as error:
            figures.failures["timed out" if isinstance(error, TimeoutError) else f"{type(error).__name__}"] += 1
            self.drop()
        else:
            figures.milliseconds.append(1000 * (time.perf_counter() - start))
            figures.statuses[response.status] += 1
            figures.by_kind[call.kind, response.status] += 1
            fault = fault_of(call, response)
            if fault:
                figures.wrong[fault] += 1
            if response.closes:
                self.drop()

    def _ask(self, request: bytes) -> Response:
        if self._connection is not None and self._connection.has_news():  # closed while it was idle, as pools notice
            self.drop()
        if self._connection is None:
            self._connection = Connection(self._port, self._patience)
        return self._connection.ask(request)


def fault_of(call: CheckedCall, response: Response) -> str:
    """Return what is wrong with a response: a wrong answer, or a status that a sound request must not get."""
    if response.status == 200:
        return call.fault(response)
    if response.status in BUSY:
        return "" if "retry-after" in response.headers else f"{response.status} without Retry-After"
    return f"{call.name}: status {response.status}: {response.content[:200]!r}"
