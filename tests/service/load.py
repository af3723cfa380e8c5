"""Clients that call a server again and again while something happens to it, and count what fails."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator

import httpx
import orjson

from tests.waiting import wait_until

__all__ = ["Load", "under_load"]

SECONDS = 60.0
PATH, BODY = "/pool/forward", orjson.dumps({"mode": "max", "kernel_size": 1, "input": [[[[1]]]]})
HEADERS = {"Content-Type": "application/json"}
RESPONSE = {"output": [[[[1.0]]]]}


class Load:
    """Threads that call: half of them on connections that they keep, half on a new one each time.

    Parameters
    ----------
    base_url : str
    clients : int
    """

    def __init__(self, base_url: str, clients: int) -> None:
        self._url = httpx.URL(base_url)
        self._has_ended = threading.Event()
        self.served = [0] * clients
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._has_ended.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def wait_for_more(self, count: int = 5) -> None:
        """Wait until each client was served some times more."""
        before = list(self.served)
        wait_until(
            lambda: all(now >= then + count for now, then in zip(self.served, before, strict=True)),
            state=lambda: self.failures[:3],
        )

    def _call(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._url.host, self._url.port, timeout=SECONDS)
        while not self._has_ended.is_set():
            try:
                connection.request("POST", PATH, BODY, HEADERS)
                response = connection.getresponse()
                content = response.read()
                assert response.status == 200, content
                assert orjson.loads(content) == RESPONSE
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(f"client {number}: {error!r}")
                connection.close()
            else:
                self.served[number] += 1
            if number % 2:
                connection.close()
            time.sleep(0.02)  # rather some requests at each moment than many
        connection.close()


@contextlib.contextmanager
def under_load(base_url: str, clients: int = 4) -> Iterator[Load]:
    """Yield clients that call until the end of the block."""
    load = Load(base_url, clients)
    load.start()
    try:
        load.wait_for_more()
        yield load
        load.wait_for_more()
    finally:
        load.end()
