"""Pin each thread that computes blocks to a core of its own, for as long as it does.

Linux often wakes a thread on the core of the thread that woke it, as those do that wait for the GIL, and leaves both
there until it balances the load, some 60 ms later: two threads then take as long as one. Programs ask for pinning with
``set_threads(count, pin=True)``; see docs/decisions/0012-pinned-threads.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator

__all__ = ["forget_pins", "is_pinned", "pinned_to_core"]

_lock = threading.Lock()
_taken: set[int] = set()
_this_thread = threading.local()


def forget_pins() -> None:
    """Start anew in a child process, which has none of its parent's threads."""
    global _lock  # noqa: PLW0603  (a thread that the child does not have may hold it)
    _lock = threading.Lock()
    _taken.clear()


def is_pinned() -> bool:
    """Return whether this thread is pinned; threads that it starts now would inherit that, and stay pinned."""
    return getattr(_this_thread, "is_pinned", False)


def _core_getter() -> Callable[[], int] | None:
    """Return a function that returns the core that a thread runs on; None where threads cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        return ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None


_current_core = _core_getter()


@contextlib.contextmanager
def pinned_to_core() -> Iterator[None]:
    """Pin this thread to a core that no other thread in this context has, if there is one."""
    if _current_core is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    with _lock:
        free = allowed - _taken
        current = _current_core()
        core = current if current in free else min(free, default=None)
        if core is not None:
            _taken.add(core)
    if core is None:
        yield
        return
    try:
        _this_thread.is_pinned = True
        _set_affinity({core})
        yield
    finally:
        _set_affinity(allowed)
        _this_thread.is_pinned = False
        with _lock:
            _taken.discard(core)


def _set_affinity(cores: set[int]) -> None:
    # the system may have taken some of them away in the meantime
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)
