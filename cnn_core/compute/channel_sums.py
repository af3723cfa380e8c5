"""Sums over all positions of a batch, one for each channel: the gradient of a bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.blocks import BLOCK_BYTES, blocks
from cnn_core.compute.threads import run_blocks
from cnn_core.compute.workspace import Workspace
from cnn_core.operands import accumulation_dtype, common_dtype

__all__ = ["channel_sums"]

FEW_ROWS = 16

FEW = 2**12
"""Elements that are not worth dividing."""


def channel_sums(array: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of (N, *spatial, C) over all axes but the last, in float64."""
    channels = array.shape[-1]
    if array.size <= FEW:
        few: NDArray[Any] = array.sum(axis=tuple(range(array.ndim - 1)), dtype=np.float64)
        return few
    parts = list(blocks(array.shape[:-1], array.itemsize * channels, BLOCK_BYTES // 4))
    sums = np.empty((len(parts), channels))
    added_in = accumulation_dtype(common_dtype(array))

    def make_worker(_: Workspace) -> Callable[[int], None]:
        def compute(number: int) -> None:
            part = array[parts[number]]
            try:
                rows = part.reshape(-1, channels, copy=False)
            except ValueError:  # not in one piece: along what is, NumPy adds pairwise
                sums[number] = np.add.reduce(part, axis=tuple(range(part.ndim - 1)), dtype=added_in)
                return
            sums[number] = _column_sums(rows.astype(added_in, copy=False))

        return compute

    run_blocks(range(len(parts)), make_worker)
    total: NDArray[Any] = sums.sum(axis=0)
    return total


def _column_sums(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of the columns in float64; halves are added, and halves of these, so that few digits are lost."""
    total = np.zeros(rows.shape[1])
    while len(rows) > FEW_ROWS:
        half = len(rows) // 2
        if len(rows) % 2:
            total += rows[-1]
        rows = rows[:half] + rows[half : 2 * half]
    total += rows.sum(axis=0, dtype=np.float64)
    return total
