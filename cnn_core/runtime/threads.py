"""Blocks of a computation, computed by several threads at the same time.

NumPy releases the GIL while it computes, so threads over blocks scale. What a block computes does not depend on which
thread computes it, nor on how many threads there are: neither do the results.
"""

from __future__ import annotations

import collections
import contextvars
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..errors import ParameterError, describe
from .cancellation import check_cancelled
from .cpus import usable_cpus
from .placement import forget_pins, is_pinned, pinned_to_core
from .workspace import Workspace

__all__ = ["get_threads", "run_blocks", "set_threads", "thread_count"]

Block = TypeVar("Block")
Worker = Callable[[Block], None]

MAX_THREADS = 1024


class _Threads:
    """The threads that this process computes with, including those of the callers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()
        self.count = usable_cpus()
        self.pins = False
        self._initializer: Callable[[], None] | None = None

    def _forget(self) -> None:
        self._helpers: ThreadPoolExecutor | None = None
        self._busy = 0

    def forget_after_fork(self) -> None:
        """Start anew in a child process, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._forget()
        forget_pins()

    def resize(self, count: int, *, pin: bool, initializer: Callable[[], None] | None) -> None:
        with self._lock:
            self.count, self.pins, self._initializer = count, pin, initializer
            helpers, self._helpers = self._helpers, None
        if helpers is not None:
            helpers.shutdown(wait=False)

    def start(self, work: Callable[[], None], limit: int) -> list[Future[None]]:
        """Start work on at most ``limit`` of the idle threads; the caller counts as busy."""
        with self._lock:
            self._busy += 1
            count = max(0, min(limit, self.count - self._busy))
            helpers: list[Future[None]] = []
            try:
                if count and self._helpers is None:
                    self._helpers = ThreadPoolExecutor(self.count - 1, "cnn_core", self._initializer)
                while len(helpers) < count and self._helpers is not None:
                    # each in a context of its own, a copy of the caller's: NumPy's error state and the cancellation
                    # are part of it
                    helpers.append(self._helpers.submit(contextvars.copy_context().run, work))
            except RuntimeError:
                # no thread can be started: the system has none left, or the program ends; the caller computes alone
                self._helpers = None
            self._busy += len(helpers)
            return helpers

    def finish(self, helpers: int) -> None:
        with self._lock:
            self._busy -= 1 + helpers


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget_after_fork)


def get_threads() -> int:
    """Return how many threads this process computes with."""
    return _threads.count


def thread_count(units: int) -> int:
    """Return how many threads compute so many units of work at most."""
    return max(1, min(get_threads(), units))


def set_threads(count: int, *, pin: bool = False, initializer: Callable[[], None] | None = None) -> None:
    """Set how many threads this process computes with.

    The default is the number of cores that the process may use, by its affinity mask and its control group. Concurrent
    calls share the threads: each computes in the calling thread, with the help of those that are idle.
    BLAS's own threads are not used. Results do not depend on the number of threads.

    Parameters
    ----------
    count : int
        From 1 to 1024.
    pin : bool
        Whether each thread, including the calling thread, is pinned to a core of its own while a call
        computes on several threads (Linux only). A program whose calls come after pauses is faster with it.
    initializer : callable, optional
        Called at the start of each thread that helps those which call, as that of a ThreadPoolExecutor.

    Raises
    ------
    ParameterError
        If it is not.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_THREADS:
        raise ParameterError("count", "must be", f"an integer from 1 to {MAX_THREADS}", got=describe(count))
    _threads.resize(count, pin=pin, initializer=initializer)


def run_blocks(blocks: Iterable[Block], make_worker: Callable[[Workspace], Worker[Block]]) -> None:
    """Compute all blocks, on all threads that are idle; before each, check whether the computation must stop.

    Parameters
    ----------
    blocks : iterable
        What the workers are called with, once each, in any order.
    make_worker : callable
        Called by each thread that takes part, with its workspace; returns the function that computes a block.

    Raises
    ------
    Cancelled
        When no thread computes any more.
    """
    remaining = collections.deque(blocks)
    if len(remaining) == 1:  # a tiny layer: what follows would take longer
        check_cancelled()
        with Workspace() as workspace:
            make_worker(workspace)(remaining[0])
        return

    def work() -> None:
        with Workspace() as workspace:
            worker = None
            while True:
                try:
                    block = remaining.popleft()  # atomic
                except IndexError:
                    return
                check_cancelled()
                # created only by a thread that gets a block
                worker = worker or make_worker(workspace)
                worker(block)

    def pinned_work() -> None:
        with pinned_to_core():
            work()

    # a pinned thread is within a block already
    limit = 0 if is_pinned() else len(remaining) - 1
    pins = _threads.pins
    helpers = _threads.start(pinned_work if pins else work, limit)
    try:
        try:
            if pins and helpers:
                pinned_work()
            else:
                work()
        finally:
            remaining.clear()  # after an error; otherwise it is empty
            # helpers that have started have views of the caller's arrays and must end first; others are cancelled
            errors = [helper.exception() for helper in helpers if not helper.cancel()]
    finally:
        _threads.finish(len(helpers))
    for error in errors:
        if error is not None:
            raise error
