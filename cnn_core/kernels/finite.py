"""Whether all elements of an array are finite, from one sum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .passes import parts

__all__ = ["is_all_finite"]


def is_all_finite(array: NDArray[Any]) -> bool:
    """Return whether no element is an infinity or NaN; False also if the sum, or that of the squares, overflows."""
    # infinities and NaNs make a sum non-finite; BLAS computes the sum of the squares several times as fast
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        sums = (np.dot(flat[part], flat[part]) for part in parts(flat.shape, flat.itemsize))
    else:
        sums = (np.add.reduce(array[part], axis=None) for part in parts(array.shape, array.itemsize))
    return bool(np.isfinite(sum(sums, start=array.dtype.type(0))))
