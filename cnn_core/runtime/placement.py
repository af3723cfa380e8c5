"""A processor for each thread that computes a block.

Threads that wake each other, as those do that wait for Python's lock, are often put on one processor by Linux's
scheduler, and stay there until it balances the load, some 60 ms later: two threads then take as long as one. That is
what a request meets that comes after a pause. So as long as they compute side by side, each thread keeps to a processor
that no other one of them has taken; afterwards it may run where it could before.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator

__all__ = ["forget_places", "has_own_processor", "own_processor"]

_lock = threading.Lock()
_taken: set[int] = set()
_mine = threading.local()


def forget_places() -> None:
    """Start anew in a child process, which has none of its parent's threads."""
    global _lock  # noqa: PLW0603  (it may be held by a thread that there is no more)
    _lock = threading.Lock()
    _taken.clear()


def has_own_processor() -> bool:
    """Return whether this thread keeps to a processor; one that it begins now would keep to it for ever."""
    return getattr(_mine, "is_kept", False)


def _found() -> Callable[[], int] | None:
    """Return what tells the processor that a thread runs on; None where threads cannot be kept to one."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        return ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None


_current = _found()


@contextlib.contextmanager
def own_processor() -> Iterator[None]:
    """Keep this thread to a processor that no other thread in this context has, if there is one."""
    if _current is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    with _lock:
        free = allowed - _taken
        place = _current() if _current() in free else min(free, default=None)
        if place is not None:
            _taken.add(place)
    if place is None:
        yield
        return
    try:
        _mine.is_kept = True
        _keep_to({place})
        yield
    finally:
        _keep_to(allowed)
        _mine.is_kept = False
        with _lock:
            _taken.discard(place)


def _keep_to(processors: set[int]) -> None:
    # the system may have taken some of them away in the meantime
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, processors)
