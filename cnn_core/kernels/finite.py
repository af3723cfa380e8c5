"""Whether all elements of an array are finite, from one sum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_all_finite"]


def is_all_finite(array: NDArray[Any]) -> bool:
    """Return whether no element is an infinity or NaN; False also if the sum, or that of the squares, overflows."""
    # infinities and NaNs make a sum non-finite; BLAS computes the sum of the squares several times as fast
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        return bool(np.isfinite(np.dot(flat, flat)))
    return bool(np.isfinite(np.add.reduce(array, axis=None)))
