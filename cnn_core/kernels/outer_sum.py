"""Offsets of the elements of an array in memory: sums of an index times a step along several axes."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_CACHED_ELEMENTS", "outer_sum"]

MAX_CACHED_SUMS, MAX_CACHED_ELEMENTS = 16, 2**18


def outer_sum(counts: tuple[int, ...], steps: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the offset of each element of an array of this shape with these steps; read-only, since it is cached."""
    return _cached_outer_sum(counts, steps) if math.prod(counts) <= MAX_CACHED_ELEMENTS else _outer_sum(counts, steps)


def _outer_sum(counts: tuple[int, ...], steps: tuple[int, ...]) -> NDArray[np.int64]:
    along = (np.arange(count) * step for count, step in zip(counts, steps, strict=True))
    total: NDArray[np.int64] = functools.reduce(np.add.outer, along)
    return total


_cached_outer_sum = functools.lru_cache(maxsize=MAX_CACHED_SUMS)(_outer_sum)
