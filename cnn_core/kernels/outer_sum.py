"""Places in memory: sums of numbers along several axes, each with its own step."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_KEPT_ELEMENTS", "outer_sum"]

MAX_KEPT_SUMS, MAX_KEPT_ELEMENTS = 16, 2**18


def outer_sum(counts: tuple[int, ...], steps: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where the elements of an array of such counts lie, with such steps along its axes; not to be written."""
    return _kept(counts, steps) if math.prod(counts) <= MAX_KEPT_ELEMENTS else _outer_sum(counts, steps)


def _outer_sum(counts: tuple[int, ...], steps: tuple[int, ...]) -> NDArray[np.int64]:
    along = (np.arange(count) * step for count, step in zip(counts, steps, strict=True))
    total: NDArray[np.int64] = functools.reduce(np.add.outer, along)
    return total


_kept = functools.lru_cache(maxsize=MAX_KEPT_SUMS)(_outer_sum)
