"""Computation off the event loop: which request is computed when, and what ends a computation early."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from cnn_core import Cancellation, Cancelled, DeadlineExceeded, set_threads

from ..problems import ClientGone, ComputeTimeout, QueueTimeout, ShuttingDown
from ..settings import Settings

__all__ = ["LIGHT_WORK", "LONG_WORK", "TINY_WORK", "ComputePool"]

Returned = TypeVar("Returned")

TINY_WORK, LIGHT_WORK = 2**20, 2**24
"""Multiply-accumulates of what has threads of its own, beside anything larger: a millisecond, and some."""

LONG_WORK = 2**31
"""Multiply-accumulates of what may not take all threads: about half a second."""

WORK_PER_SECOND = 5e9
"""Multiply-accumulates. Only the order of requests depends on it: each may be overtaken for as long as it will take."""


NICENESS = 10
"""How much lower the priority of threads is that may compute for long: the event loop and what is small come first."""


class _Turn(NamedTuple):
    """A computation that waits for a thread."""

    due: float
    number: int
    is_long: bool
    comes: asyncio.Future[None]


class ComputePool:
    """Threads that compute, and the order in which requests get them.

    What is tiny and what is light have threads that nothing else takes. Everything else is computed in the order of
    arrival plus expected duration: a short computation overtakes a long one that came shortly before it, and none is
    overtaken for ever. Of several threads one is left to computations that are not long.

    The core computes a request on as many threads as others leave idle: several requests at a time use as many cores
    together as one alone.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._max_running = settings.compute_threads
        self._max_long = max(1, settings.compute_threads - 1)
        self._running = self._long = 0
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(self._max_running, "compute", _let_others_go_first)
        few = max(1, self._max_running // 2)
        self._lanes = {
            TINY_WORK: ThreadPoolExecutor(few, thread_name_prefix="tiny"),
            LIGHT_WORK: ThreadPoolExecutor(few, thread_name_prefix="light"),
        }
        # pinned, as requests come after pauses: docs/decisions/0012
        set_threads(settings.compute_threads, pin=True, initializer=_let_others_go_first)

    @property
    def waiting(self) -> int:
        """How many computations wait for a thread."""
        return len(self._turns)

    @property
    def is_busy(self) -> bool:
        """Whether anything is computed that is not light."""
        return self._running > 0

    def most_work(self, work: int) -> int:
        """Return the most work that threads do which take so much work; more belongs on other threads."""
        return next((most for most in self._lanes if work <= most), sys.maxsize)

    async def run(
        self, function: Callable[[], Returned], work: int, gone: asyncio.Future[None], *, has_begun: bool = False
    ) -> Returned:
        """Run a function on one of the threads; once it has started, this returns or raises after it has ended.

        Parameters
        ----------
        function : callable
        work : int
            What it will take, in multiply-accumulates.
        gone : future
            Done once the client no longer waits for the result: the function is then stopped at its next block.
        has_begun : bool
            Whether it goes on with something that was begun and cannot be tried again: it then waits as long as it
            must, which is not for ever, as every computation ends, and none is overtaken again and again.

        Raises
        ------
        QueueTimeout
            If no thread is free in time.
        ComputeTimeout
            If the function takes longer than the settings allow.
        ClientGone
            If the client is gone before the function ends.
        ShuttingDown
            If the grace period of a shutdown is over.
        """
        try:
            lane = self._lanes.get(self.most_work(work))
            if lane is not None:
                return await self._run(function, lane, gone)
            is_long = work > LONG_WORK
            await self._turn(work, is_long, gone, None if has_begun else self._settings.queue_timeout)
            try:
                return await self._run(function, self._threads, gone)
            finally:
                self._end(is_long)
        except asyncio.CancelledError:
            raise ShuttingDown.busy("the server shuts down", "a running server") from None

    def close(self) -> None:
        """Cancel what has not started, and do not wait for what still runs."""
        for threads in (self._threads, *self._lanes.values()):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, function: Callable[[], Returned], threads: ThreadPoolExecutor, gone: asyncio.Future[None]
    ) -> Returned:
        token = Cancellation(seconds=self._settings.compute_timeout)

        def run() -> Returned:
            with token:
                return function()

        started = threads.submit(run)
        result = asyncio.wrap_future(started)
        try:
            await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                token.cancel()
                if started.cancel():
                    raise _client_gone()
            return await result  # also of a client that is gone: until then the memory is in use
        except DeadlineExceeded:
            seconds = f"at most {self._settings.compute_timeout:g} s, as CONVPOOL_COMPUTE_TIMEOUT says"
            raise ComputeTimeout.busy("a longer computation", seconds) from None
        except Cancelled:
            raise _client_gone() from None
        except asyncio.CancelledError:
            token.cancel()
            raise
        finally:
            # an exception in them refers to this frame by its traceback: with the body, which it would keep in memory
            del started, result

    async def _turn(self, work: int, is_long: bool, gone: asyncio.Future[None], seconds: float | None) -> None:
        """Wait until it is this computation's turn; ``_end`` must follow."""
        loop = asyncio.get_running_loop()
        turn = _Turn(loop.time() + work / WORK_PER_SECOND, next(self._numbers), is_long, loop.create_future())
        heapq.heappush(self._turns, turn)
        self._start_next()
        if turn.comes.done():
            return
        awaited: tuple[asyncio.Future[Any], ...] = (turn.comes, gone)
        try:
            await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.comes.done():
                self._end(is_long)
            raise
        finally:
            if not turn.comes.done():
                self._turns.remove(turn)
                heapq.heapify(self._turns)
        if turn.comes.done():
            return
        if gone.done():
            raise _client_gone()
        raise QueueTimeout.busy("other computations in progress", f"a free thread within {seconds:g} s")

    def _end(self, is_long: bool) -> None:
        self._running -= 1
        self._long -= is_long
        self._start_next()

    def _start_next(self) -> None:
        skipped = []
        while self._turns and self._running < self._max_running:
            turn = heapq.heappop(self._turns)
            if turn.is_long and self._long >= self._max_long:
                skipped.append(turn)
                continue
            self._running += 1
            self._long += turn.is_long
            turn.comes.set_result(None)
        for turn in skipped:
            heapq.heappush(self._turns, turn)


def _let_others_go_first() -> None:
    """Lower the priority of this thread, on Linux, where threads have one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _client_gone() -> ClientGone:
    return ClientGone.busy("a closed connection", "a client that waits for the response")
