"""Sums over all positions of a batch, one for each channel: the gradient of a bias."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..operands import accumulation_dtype, common_dtype
from ..runtime.blocks import BLOCK_BYTES, block_count, blocks
from ..runtime.threads import run_blocks, thread_count
from ..runtime.workspace import Workspace
from .cost import MOVED_ELEMENT, Cost

__all__ = ["channel_sums", "channel_sums_cost"]

MAX_BLOCK_BYTES = 8 * BLOCK_BYTES
"""Size of a block. It is larger than in other kernels, since it is read only once: adding less than this is faster than
starting another thread."""

MAX_COPIED_BYTES = BLOCK_BYTES // 4
"""Maximum size of a block that must be copied."""

MIN_COLUMNS = 64
"""Rows of fewer channels are added several at a time, as one longer row, since BLAS is slow for few columns."""

MAX_SUMMED = 16
"""This many rows are added in their own type, and their sums in float64, so that float32 loses few digits."""

MAX_UNDIVIDED_ELEMENTS = 2**12
"""Arrays of at most this size are added by a single call, as dividing them takes longer."""


def channel_sums(array: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of (N, *spatial, C) over all axes but the last, in float64."""
    channels = array.shape[-1]
    if array.size <= MAX_UNDIVIDED_ELEMENTS:
        few: NDArray[Any] = np.add.reduce(array, axis=tuple(range(array.ndim - 1)), dtype=np.float64)
        return few
    added_in = accumulation_dtype(common_dtype(array))
    is_plain = array.dtype == added_in and array.flags.c_contiguous
    limit = MAX_BLOCK_BYTES if is_plain else MAX_COPIED_BYTES
    parts = list(blocks(array.shape[:-1], array.itemsize * channels, limit))
    sums = np.empty((len(parts), channels))
    channels_are_apart = abs(array.strides[-1]) > min(map(abs, array.strides[:-1]))

    def make_worker(_: Workspace) -> Callable[[int], None]:
        def compute(index: int) -> None:
            part = array[parts[index]]
            if channels_are_apart:  # along contiguous axes NumPy adds pairwise
                sums[index] = np.add.reduce(part, axis=tuple(range(part.ndim - 1)), dtype=added_in)
                return
            rows = np.ascontiguousarray(part, dtype=added_in)
            sums[index] = _column_sums(rows.reshape(-1, channels))

        return compute

    run_blocks(range(len(parts)), make_worker)
    total: NDArray[Any] = sums.sum(axis=0)
    return total


def channel_sums_cost(shape: Sequence[int]) -> Cost:
    """Return what ``channel_sums`` of an array of this shape costs, whichever its type and layout."""
    size, channels = math.prod(shape), shape[-1]
    if size <= MAX_UNDIVIDED_ELEMENTS:
        return Cost(MOVED_ELEMENT * size, 2 * channels)
    parts = block_count(shape[:-1], 8 * channels, MAX_COPIED_BYTES)  # the most, those of float64
    # a copy of a block of float16 in float32 and the sums of its rows, or those of a larger block that is not copied
    copied = max(channels, min(size, MAX_COPIED_BYTES // 2))
    uncopied = max(channels, min(size, MAX_BLOCK_BYTES // 4)) // MAX_SUMMED
    per_thread = max(copied + copied // MAX_SUMMED, uncopied) + 2 * channels
    # the sums of all blocks are in float64, which is two elements of float32
    return Cost(MOVED_ELEMENT * size, thread_count(parts) * per_thread + 2 * (parts + 1) * channels)


def _column_sums(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of the columns in float64; those of some rows at a time are in the type of the rows."""
    channels = rows.shape[1]
    # if there are few columns, several rows are joined to one
    together = max(1, MIN_COLUMNS // channels)
    at_once = together * MAX_SUMMED
    parts = len(rows) // at_once
    rest: NDArray[Any] = rows[parts * at_once :].sum(axis=0, dtype=np.float64)
    if not parts:
        return rest
    # by BLAS, at the speed of memory
    ones = np.ones((1, MAX_SUMMED), dtype=rows.dtype)
    sums = np.matmul(ones, rows[: parts * at_once].reshape(parts, MAX_SUMMED, together * channels))
    rest += sums.reshape(-1, channels).sum(axis=0, dtype=np.float64)
    return rest
