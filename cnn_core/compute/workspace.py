"""Memory that blocks are computed in, used again by the next block and the next call.

Fresh memory is slow: the operating system clears each page of it when it is first touched.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["MOST_KEPT_BYTES", "Workspace"]

ALIGNMENT = 64
"""Bytes of a cache line."""

MOST_KEPT_BYTES = 16 * 2**20
"""What a thread keeps for its next call at most."""

_kept = threading.local()


class Workspace:
    """The memory of one thread for one call.

    A context manager: entering takes the memory that the thread kept, leaving keeps it for the next call.
    """

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] | None = None

    def __enter__(self) -> Workspace:
        # taken away, so that a call within a call gets memory of its own
        self._memory = vars(_kept).pop("memory", None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._memory is not None and self._memory.nbytes <= MOST_KEPT_BYTES:
            _kept.memory = self._memory
        self._memory = None

    def arrays(self, *shapes: Sequence[int], dtype: DTypeLike) -> list[NDArray[Any]]:
        """Return arrays of these shapes whose elements are not set; those of an earlier call are no longer valid."""
        dtype = np.dtype(dtype)
        sizes = [-(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT for shape in shapes]
        needed = sum(sizes) + ALIGNMENT
        if self._memory is None or self._memory.nbytes < needed:
            self._memory = None  # given back before more is taken
            self._memory = np.empty(needed, dtype=np.uint8)
        start = -self._memory.ctypes.data % ALIGNMENT
        arrays = []
        for shape, size in zip(shapes, sizes, strict=True):
            arrays.append(np.ndarray(tuple(shape), dtype, self._memory.data, start))
            start += size
        return arrays
