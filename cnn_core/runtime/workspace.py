"""Memory that blocks are computed in, reused by the next block and the next call.

Fresh memory is slow: the operating system clears each page when it is first touched. Views of the memory are cached
with it, since creating those of a convolution takes as long as computing a block, and holds the GIL.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["MAX_KEPT_BYTES", "Workspace", "view_cache_elements"]

ALIGNMENT = 64
"""Arrays start at a multiple of this, the bytes of a cache line."""

MAX_KEPT_BYTES = 16 * 2**20
"""A thread keeps its memory for its next call unless it is larger than this."""

MAX_CACHED_VIEWS = 64
"""Number of objects cached with a thread's memory; the oldest one makes room."""

VIEW_BYTES = 2**12
"""Approximate memory of one cached object, for predictions."""

Cached = TypeVar("Cached")

_kept = threading.local()


def view_cache_elements(layouts: int) -> int:
    """Return how many elements of 4 bytes the views for so many layouts take at most."""
    return min(layouts, MAX_CACHED_VIEWS) * VIEW_BYTES // 4


class Workspace:
    """The memory of one thread for one call.

    A context manager: entering takes the memory that the thread kept, and leaving keeps it for the next call.
    """

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] | None = None
        self._cached: dict[Hashable, Any] = {}
        self._last_user: object = None

    def __enter__(self) -> Workspace:
        # taken away, so that a call within a call gets memory of its own
        self._memory, self._cached = vars(_kept).pop("memory", (None, {}))
        return self

    def __exit__(self, *_: object) -> None:
        if self._memory is not None and self._memory.nbytes <= MAX_KEPT_BYTES:
            _kept.memory = self._memory, self._cached
        self._memory, self._cached, self._last_user = None, {}, None

    def arrays(self, *shapes: Sequence[int], dtype: DTypeLike) -> list[NDArray[Any]]:
        """Return uninitialized arrays of these shapes; arrays of an earlier call are no longer valid."""
        dtype = np.dtype(dtype)
        sizes = [-(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT for shape in shapes]
        needed = sum(sizes) + ALIGNMENT
        if self._memory is None or self._memory.nbytes < needed:
            self._memory, self._cached = None, {}  # freed before more is allocated
            self._memory = np.empty(needed, dtype=np.uint8)
        start = -self._memory.ctypes.data % ALIGNMENT
        arrays = []
        for shape, size in zip(shapes, sizes, strict=True):
            arrays.append(np.ndarray(tuple(shape), dtype, self._memory.data, start))
            start += size
        return arrays

    def cached(self, key: Hashable, factory: Callable[[], Cached]) -> Cached:
        """Return the object cached for a key with this memory, which an earlier call of this thread may have created.

        Parameters
        ----------
        key : hashable
            Must determine what the factory returns. It is cached too.
        factory : callable
            Allocates with ``arrays``, where nothing is set that this call has not written. It is not called again for
            the same key until the memory is freed, or MAX_CACHED_VIEWS other objects were cached.
        """
        if key not in self._cached:
            created = factory()  # may replace the memory
            while len(self._cached) >= MAX_CACHED_VIEWS:
                del self._cached[next(iter(self._cached))]
            self._cached[key] = created
        cached: Cached = self._cached[key]
        return cached

    def claim(self, user: object) -> bool:
        """Take the memory for a user; return whether others may have written to it, so that it must be cleared."""
        is_other = self._last_user is not user
        self._last_user = user
        return is_other
