"""Patches of an input as matrices, one row for each window and one column for each tap and channel.

Axes in comments as in ``im2col_gemm``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..opaque import as_runs
from ..outer_sum import MAX_CACHED_ELEMENTS, outer_sum
from ..passes import checked, contiguous
from .padded_block import PaddedBlock
from .problem import ConvProblem, Layout, cached_per_problem

__all__ = ["PatchSource", "by_group", "group_matrices", "is_pointwise", "split_channels", "weight_matrices"]

Array = NDArray[Any]

MAX_TAKEN_BYTES = 64
"""Up to this length of a run, ``np.take`` copies many times as fast as an assignment does."""


@cached_per_problem
def is_pointwise(problem: ConvProblem) -> bool:
    """Return whether the input itself is the matrix of patches."""
    return all(
        (axis.kernel_size, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in problem.windows.axes
    )


class PatchSource:
    """Copies patches from blocks of an input; the views for that are created in advance.

    Parameters
    ----------
    problem : ConvProblem
    layout : Layout
    padded, memory : ndarray
        Memory with one axis, for a padded block of the input and for patches.
    weight_slice : tuple of slice
        Taps and channels, (*K, C/G); all of them if empty.
    with_ones : bool
        Whether the last column of a matrix is ones.
    """

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        padded: Array,
        memory: Array,
        weight_slice: tuple[slice, ...] = (),
        *,
        with_ones: bool = False,
    ) -> None:
        windows, self._groups, self._dtype = layout.windows, problem.groups, memory.dtype
        self._is_pointwise = is_pointwise(problem) and not with_ones
        self._channels = weight_slice[-1] if weight_slice else slice(None)
        self._block = PaddedBlock(padded, layout.images, windows, (problem.channels,))
        rank = len(windows.axes)
        view = windows.view(split_channels(self._block.array, problem.groups))  # (n, *o, *K, G, C/G)
        if weight_slice:
            *taps, channels = weight_slice
            view = view[(*(slice(None),) * (1 + rank), *taps, slice(None), channels)]
        source = view.transpose(2 * rank + 1, *range(2 * rank + 1), 2 * rank + 2)  # (G, n, *o, *k, c)
        self.shape = source.shape
        rows, columns = math.prod(source.shape[: 2 + rank]), math.prod(source.shape[2 + rank :])
        matrix = memory[: rows * (columns + with_ones)].reshape(rows, columns + with_ones)
        patches = matrix[:, :columns].reshape(source.shape, copy=False)
        self._ones = matrix[:, columns:]
        self._matrices = matrix.reshape(problem.groups, -1, columns + with_ones)
        channel_count = source.shape[-1]
        run = channel_count * source.itemsize
        if problem.groups == 1 or run > MAX_TAKEN_BYTES:
            self._copy = functools.partial(np.copyto, *_by_run(patches, source))
            return
        counts, steps = source.shape[:-1], tuple(stride // run for stride in source.strides[:-1])
        self._copy = functools.partial(_take, self._block.array.reshape(-1, channel_count), counts, steps, patches)

    def patches(self, block: Array, *, must_clear: bool) -> Array:
        """Return the patches of a block of the input: one matrix (P, k*c) for each group."""
        if self._is_pointwise and block.dtype == self._dtype:
            matrices = by_group(block, self._groups)
            if matrices is not None:
                return matrices[..., self._channels]
        if must_clear:
            self._ones.fill(1)
        self._block.write(block, must_clear=must_clear)
        self._copy()
        return self._matrices


def _take(runs: Array, counts: tuple[int, ...], steps: tuple[int, ...], patches: Array) -> None:
    # the indices are not cached here: for each layout they may be as large as the patches
    groups = max(1, MAX_CACHED_ELEMENTS // math.prod(counts[1:]))
    for start in checked(range(0, counts[0], groups)):
        some = patches[start : start + groups]
        indices = outer_sum((len(some), *counts[1:]), steps)
        # clipping needs no buffer; no index is outside
        np.take(runs[start * steps[0] :], indices, axis=0, out=some, mode="clip")


def _by_run(patches: Array, source: Array) -> tuple[Array, Array]:
    """View the channels of adjacent taps as one element, if they are few, so that a copy moves them at once."""
    merged = (*source.shape[:-2], source.shape[-2] * source.shape[-1])
    try:
        return as_runs(patches.reshape(merged, copy=False), source.reshape(merged, copy=False))
    except ValueError:  # the taps are not adjacent
        return as_runs(patches, source)


def split_channels(array: Array, groups: int) -> Array:
    """View (..., channels) as (..., G, channels/G); splitting one axis never copies."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def by_group(array: Array, groups: int) -> Array | None:
    """View (n, *o, channels) as one matrix (P, channels/G) for each group; None if that needs a copy.

    The rows are contiguous. BLAS would take others, too, but add in another order, so that results would depend on how
    the caller's array lies in memory.
    """
    if array.strides[-1] != array.itemsize and array.shape[-1] > 1:
        return None
    shape = (math.prod(array.shape[:-1]), groups, array.shape[-1] // groups)
    try:
        return array.reshape(shape, copy=False).transpose(1, 0, 2)
    except ValueError:
        return None


def group_matrices(array: Array, groups: int, dtype: np.dtype[Any], memory: Array) -> Array:
    """Return (n, *o, channels) of a type as one matrix (P, channels/G) for each group; copied to memory if need be."""
    matrices = by_group(array, groups) if array.dtype == dtype else None
    if matrices is None:
        copied = memory[: array.size].reshape(array.shape)
        copied[...] = array
        matrices = by_group(copied, groups)
        assert matrices is not None  # noqa: S101  (it is contiguous)
    return matrices


def weight_matrices(weight: Array, groups: int) -> Array:
    """Return (*K, C/G, F) as one matrix (K*C/G, F/G) for each group."""
    columns = weight.shape[-1]
    return contiguous(contiguous(weight).reshape(-1, groups, columns // groups).transpose(1, 0, 2))
