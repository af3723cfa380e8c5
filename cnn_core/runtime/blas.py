"""The threads of the BLAS library that NumPy is linked with.

``np.matmul`` divides a large product among threads of BLAS's own. Blocks that are computed in parallel do not need
them: both together would be more threads than there are cores. So BLAS gets one thread as long as blocks are computed,
and as many as before when the last of them is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable

from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # the module that is linked with BLAS

__all__ = ["is_openblas", "one_blas_thread"]

SETTERS_AND_GETTERS = (
    ("scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"),  # NumPy's own wheels
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads"),
    ("openblas_set_num_threads64_", "openblas_get_num_threads64_"),
    ("openblas_set_num_threads", "openblas_get_num_threads"),  # Debian, conda-forge
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
)


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        # symbols are looked up in the libraries that this one is linked with, too
        return ctypes.CDLL(_multiarray_umath.__file__)
    except (AttributeError, OSError):
        return None


def _setter_and_getter() -> tuple[Callable[[int], object], Callable[[], int]] | None:
    """Return the functions that set and get the number of BLAS's threads; None if none of the known ones exists."""
    library = _library()
    for setter, getter in SETTERS_AND_GETTERS:
        if hasattr(library, setter) and hasattr(library, getter):
            return getattr(library, setter), getattr(library, getter)
    return None


def is_openblas() -> bool:
    """Return whether NumPy is linked with OpenBLAS."""
    library = _library()
    return library is not None and any("openblas" in name and hasattr(library, name) for name, _ in SETTERS_AND_GETTERS)


class _Limit:
    """How many computations need BLAS to have one thread, and how many threads it had before the first of them.

    BLAS gets one thread even where a computation is a single block: after a product its threads spin for some
    hundredths of a second, waiting for more work, and occupy cores that the threads over blocks need.
    """

    def __init__(self) -> None:
        self._functions = _setter_and_getter()
        self._lock = threading.Lock()
        self._users = 0
        self._before = 1

    def before_fork(self) -> None:
        """Let no fork happen while the number is changed."""
        self._lock.acquire()

    def after_fork(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start anew in a child process, in which no computation of its parent runs."""
        self._lock = threading.Lock()
        if self._users and self._functions is not None and self._before != 1:
            self._functions[0](self._before)
        self._users = 0

    def __enter__(self) -> None:
        if self._functions is None:
            return
        with self._lock:
            if self._users == 0:
                self._before = self._functions[1]()
                if self._before != 1:
                    self._functions[0](1)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        if self._functions is None:
            return
        with self._lock:
            if not self._users:  # a child process, forked during a computation, leaves it
                return
            self._users -= 1
            if self._users == 0 and self._before != 1:
                self._functions[0](self._before)


one_blas_thread = _Limit()
"""A context manager: BLAS computes in the thread that calls it, in this whole process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=one_blas_thread.before_fork,
        after_in_parent=one_blas_thread.after_fork,
        after_in_child=one_blas_thread.after_fork_in_child,
    )
