"""The buffers that OpenBLAS packs matrices into, touched before the first large product.

OpenBLAS packs the right matrix of a product into a buffer, and its AVX2 kernels prefetch beyond what is packed. Until a
page of the buffer has been touched, each such prefetch costs a walk through the page tables: products of 32 to 256
columns, which never reach the far pages themselves, then run at a third of their speed, for good. One product of 512
columns touches all pages that the others prefetch. ``benchmarks/first_product.py`` measures it.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from .blas import is_openblas, one_blas_thread

__all__ = ["touch_packing_buffers"]

SIZE = 512
"""Rows and columns of the product. It takes some milliseconds, so that all threads are in BLAS at the same time."""

MAX_WAIT_SECONDS = 1.0
"""Time for all threads to start; the buffers of those that have not started by then stay untouched."""


class _Touched:
    """The number of threads at a time whose buffers have been touched in this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, as in a child process, whose pages are untouched copies."""
        self.count = 0
        self._lock = threading.Lock()

    def touch(self, threads: int) -> None:
        with self._lock:
            if self.count >= threads:
                return
            self.count = threads
            # threads that are in BLAS at the same time take different buffers, so they all must be there at once
            barrier = threading.Barrier(threads)
            helpers = []
            try:
                for _ in range(threads - 1):
                    helper = threading.Thread(target=_multiply, args=(barrier,), name="cnn_core touching")
                    helper.start()
                    helpers.append(helper)
            except RuntimeError:  # the system has no thread left, or the program ends
                barrier.abort()
            _multiply(barrier)
            for helper in helpers:
                helper.join()


def _multiply(barrier: threading.Barrier) -> None:
    ones = np.ones((SIZE, SIZE), np.float32)
    try:
        barrier.wait(MAX_WAIT_SECONDS)
    except threading.BrokenBarrierError:
        return
    with one_blas_thread:
        ones @ ones


_touched = _Touched()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_touched.forget)


def touch_packing_buffers(threads: int) -> None:
    """Touch the buffers of OpenBLAS for so many threads at a time, once; nothing for another BLAS.

    Parameters
    ----------
    threads : int
        How many threads are in BLAS at the same time at most.
    """
    if _touched.count < threads and is_openblas():
        _touched.touch(threads)
