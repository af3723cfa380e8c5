"""Blocks of a computation side by side on several processors.

NumPy lets other threads run while it computes, so threads over blocks scale. What a block computes does not depend on
which thread computes it, nor on how many there are: neither do the results.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cnn_core.errors import ParameterError, describe
from cnn_core.runtime.cpus import usable_cpus
from cnn_core.runtime.placement import forget_places, has_own_processor, own_processor
from cnn_core.runtime.workspace import Workspace

__all__ = ["get_threads", "run_blocks", "set_threads"]

Block = TypeVar("Block")
Worker = Callable[[Block], None]

MAX_THREADS = 1024


class _Threads:
    """The threads that this process computes with, the callers' own among them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()
        self.count = usable_cpus()

    def _forget(self) -> None:
        self._helpers: ThreadPoolExecutor | None = None
        self._busy = 0

    def forget_after_fork(self) -> None:
        """Start anew in a child process, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._forget()
        forget_places()

    def resize(self, count: int) -> None:
        with self._lock:
            self.count = count
            helpers, self._helpers = self._helpers, None
        if helpers is not None:
            helpers.shutdown(wait=False)

    def start(self, work: Callable[[], None], wanted: int) -> list[Future[None]]:
        """Begin work on at most ``wanted`` of the threads that are idle; the caller counts as one that is not."""
        with self._lock:
            self._busy += 1
            count = max(0, min(wanted, self.count - self._busy))
            helpers: list[Future[None]] = []
            try:
                if count and self._helpers is None:
                    self._helpers = ThreadPoolExecutor(self.count - 1, thread_name_prefix="cnn_core")
                while len(helpers) < count and self._helpers is not None:
                    # each in a context of its own, a copy of the caller's: NumPy's error state is part of it
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


def set_threads(count: int) -> None:
    """Set how many threads this process computes with.

    At first these are as many as there are processors that the process may use, by its affinity mask and its control
    group. Calls at the same time share them: each computes in the thread that it is made from, with the help of those
    that are idle. BLAS's own threads are not used. Results do not depend on the number of threads.

    Parameters
    ----------
    count : int
        From 1 to 1024.

    Raises
    ------
    ParameterError
        If it is not.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_THREADS:
        raise ParameterError("count", "must be", f"an integer from 1 to {MAX_THREADS}", got=describe(count))
    _threads.resize(count)


def run_blocks(blocks: Iterable[Block], make_worker: Callable[[Workspace], Worker[Block]]) -> None:
    """Compute all blocks, on as many threads as are idle.

    Parameters
    ----------
    blocks : iterable
        What the workers are called with, once each, in no certain order.
    make_worker : callable
        Called by each thread that takes part, with its workspace; returns the function that computes a block.
    """
    remaining = collections.deque(blocks)

    def work() -> None:
        with Workspace() as workspace:
            worker = None
            while True:
                try:
                    block = remaining.popleft()  # which no two threads get
                except IndexError:
                    return
                # not made by a thread that comes too late for any block
                worker = worker or make_worker(workspace)
                worker(block)

    def help() -> None:
        with own_processor():
            work()

    wanted = 0 if has_own_processor() else len(remaining) - 1
    helpers = _threads.start(help, wanted)
    try:
        try:
            with own_processor() if helpers else contextlib.nullcontext():
                work()
        finally:
            remaining.clear()  # of an error; else there are none
            # those that did not start yet are not waited for, the others hold views of the caller's arrays
            errors = [helper.exception() for helper in helpers if not helper.cancel()]
    finally:
        _threads.finish(len(helpers))
    for error in errors:
        if error is not None:
            raise error
