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

__all__ = ["PatchSource", "by_group", "gathers", "group_matrices", "is_pointwise", "split_channels", "weight_matrices"]

Array = NDArray[Any]

MAX_TAKEN_BYTES = 64
"""Up to this length of a run, ``np.take`` copies many times as fast as an assignment does."""


@cached_per_problem
def is_pointwise(problem: ConvProblem) -> bool:
    """Return whether the input itself is the matrix of patches."""
    return all(
        (axis.kernel_size, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in problem.windows.axes
    )


def gathers(problem: ConvProblem) -> bool:
    """Return whether the channels of each group lie apart in a block of the input, so that patches are gathered."""
    return problem.groups > 1 and problem.group_channels > 1


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
        # where groups are single channels, memory has these one after the other, with adjacent taps adjacent
        self._trailing = (problem.channels,) if gathers(problem) else (problem.groups, problem.group_channels)
        self._block = PaddedBlock(padded, layout.images, windows, self._trailing)
        rank = len(windows.axes)
        split = (*self._block.array.shape[: 1 + rank], problem.groups, problem.group_channels)
        view = windows.view(self._block.array.reshape(split, copy=False))  # (n, *o, *K, G, C/G)
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
        if not gathers(problem) or run > MAX_TAKEN_BYTES:
            self._copy = functools.partial(np.copyto, *_by_run(patches, source))
            return
        counts, steps = source.shape[:-1], tuple(stride // run for stride in source.strides[:-1])
        self._copy = functools.partial(_take, self._block.array.reshape(-1, channel_count), counts, steps, patches)

    def patches(self, block: Array, *, must_clear: bool) -> Array:
        """Return the patches of a block of the input: one matrix (P, k*c) for each group."""
        if self._is_pointwise and block.dtype == self._dtype:
            matrices = by_group(split_channels(block, self._groups))
            if matrices is not None:
                return matrices[..., self._channels]
        if must_clear:
            self._ones.fill(1)
        self._block.write(block.reshape(*block.shape[:-1], *self._trailing), must_clear=must_clear)
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
    while source.ndim > 2:
        merged = (*source.shape[:-2], source.shape[-2] * source.shape[-1])
        try:
            patches, source = patches.reshape(merged, copy=False), source.reshape(merged, copy=False)
        except ValueError:  # the taps are not adjacent
            break
    return as_runs(patches, source)


def split_channels(array: Array, groups: int) -> Array:
    """View (..., channels) as (..., G, channels/G); splitting one axis never copies."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def by_group(array: Array, axis: int = -2) -> Array | None:
    """View (n, *o, G, ...), whose groups are an axis, as one matrix (P, -1) for each; None if that needs a copy."""
    groups, *features = array.shape[axis:]
    try:
        shape = (math.prod(array.shape[:axis]), groups, math.prod(features))
        return array.reshape(shape, copy=False).swapaxes(0, 1)
    except ValueError:
        return None


def group_matrices(array: Array, axis: int, dtype: np.dtype[Any], memory: Array) -> Array:
    """Return (n, *o, G, ...) of a type as one matrix (P, -1) for each group; copied to memory if need be."""
    matrices = by_group(array, axis) if array.dtype == dtype else None
    if matrices is None:
        groups_first = np.moveaxis(array, axis, 0)
        copied = memory[: array.size].reshape(groups_first.shape)
        copied[...] = groups_first
        matrices = copied.reshape(len(copied), math.prod(array.shape[:axis]), math.prod(array.shape[axis:][1:]))
    return matrices


def weight_matrices(weight: Array, groups: int) -> Array:
    """Return (*K, C/G, F) as one matrix (K*C/G, F/G) for each group."""
    columns = weight.shape[-1]
    return contiguous(contiguous(weight).reshape(-1, groups, columns // groups).transpose(1, 0, 2))
