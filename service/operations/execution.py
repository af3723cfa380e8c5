"""Computation off the event loop, on a bounded number of threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from cnn_core import set_threads

from ..problems import Busy
from ..settings import Settings

__all__ = ["ComputePool", "Ticket"]

Returned = TypeVar("Returned")


class Ticket:
    """A request's place among those in progress, and the memory that is charged to it.

    As a context manager, it takes the place and gives it back.
    """

    def __init__(self, pool: ComputePool) -> None:
        self._pool = pool
        self._bytes = 0

    def charge(self, count: int) -> None:
        """Charge memory to the request, or raise Busy if all requests together would take too much.

        A request that is alone is always taken, so that one limit does not make another meaningless.
        """
        with self._pool.lock:
            if self._pool.requests > 1 and self._pool.memory + count > self._pool.settings.max_memory_bytes:
                expected = f"at most {self._pool.settings.max_memory_bytes} with this request's {count}"
                raise _busy(f"{self._pool.memory} bytes in use", expected)
            self._pool.memory += count
            self._bytes += count

    def take(self) -> None:
        """Take the place, or raise Busy if there is none."""
        with self._pool.lock:
            if self._pool.requests >= self._pool.settings.max_requests:
                raise _busy(
                    f"{self._pool.requests} requests in progress", f"fewer than {self._pool.settings.max_requests}"
                )
            self._pool.requests += 1

    def give_back(self) -> None:
        """Give the place and the memory back."""
        with self._pool.lock:
            self._pool.requests -= 1
            self._pool.memory -= self._bytes

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


class ComputePool:
    """Threads that compute, and the bounds on the requests in progress: being read, computed or sent.

    The core computes a request on as many of these threads as others leave idle: several requests at a time use as many
    cores together as one alone.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.requests = 0
        self.memory = 0
        self._threads = ThreadPoolExecutor(settings.compute_threads, thread_name_prefix="compute")
        set_threads(settings.compute_threads, pin=True)  # requests come after pauses: docs/decisions/0012

    async def run(self, function: Callable[[], Returned], abandoned: Coroutine[Any, Any, None]) -> Returned:
        """Run a function on one of the threads.

        Parameters
        ----------
        function : callable
        abandoned : coroutine
            Ends when the client no longer waits for the result. If the function has not started by then, it is
            cancelled; once started, it cannot be stopped.

        Raises
        ------
        Busy
            If the client is gone before the function starts, or the grace period of a shutdown is over.
        """
        future = self._threads.submit(function)
        result = asyncio.wrap_future(future)
        watch = asyncio.ensure_future(abandoned)
        try:
            await asyncio.wait((result, watch), return_when=asyncio.FIRST_COMPLETED)
            if not result.done() and future.cancel():
                raise _busy("a closed connection", "a client that waits for the response")
            return await result
        except asyncio.CancelledError:
            future.cancel()
            raise _busy("the server shuts down", "a running server") from None
        finally:
            watch.cancel()

    def close(self) -> None:
        """Cancel what has not started, and do not wait for what still runs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _busy(got: str, expected: str) -> Busy:
    return Busy.of("", "the server is busy", got=got, expected=expected, hint="try again later")
