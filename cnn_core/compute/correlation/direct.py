"""Correlation as products of matrices, one block of windows at a time.

With the windows of the input laid out as a matrix of patches, one row for each window and one column for each tap and
channel, two of the three computations are products of matrices (per group):

    output      = patches @ weight
    grad_weight = patches.T @ grad_output

The matrix of patches is never whole: it is made for one block of windows at a time, in memory that stays in the
processor's cache. Where windows have one tap and no distance, the input itself is that matrix.

Axes in comments: N batch, S spatial sizes, O output sizes, K kernel sizes, G groups, C channels in, F channels out,
P windows in a block.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.blocks import BLOCK_BYTES
from cnn_core.compute.correlation.parts import PaddedParts
from cnn_core.compute.correlation.sizes import Correlation, Division, WindowBlock, remembered
from cnn_core.compute.outer_sum import outer_sum
from cnn_core.compute.threads import run_blocks
from cnn_core.compute.workspace import Workspace
from cnn_core.geometry import Windows

__all__ = ["correlate", "correlate_grad_weight", "division"]

Array = NDArray[Any]

LARGEST_BLOCK_BYTES = 4 * BLOCK_BYTES
LARGEST_RUN_BYTES = 128
LARGEST_TAKEN_BYTES = 64
"""Of pieces up to this size, ``take`` copies many times as fast as an assignment does."""

MOST_SUMMED = 4096
LANES = 8
LARGEST_LANE_BYTES = BLOCK_BYTES
FEWEST_PARTS = 8
"""Of a large weight, computed side by side."""


@remembered
def division(sizes: Correlation) -> Division:
    """Return the blocks that patches are made in."""
    # of a window: its patch, what it spans, and its outputs, to which a bias is added while they are in the cache
    patch = max(sizes.taps * sizes.channels, sizes.spanned_per_position)
    bytes_of_patch = sizes.itemsize * (patch + sizes.features)
    # every block reads the whole weight: with a large one, blocks of more windows than fit the cache read less
    limit = min(max(BLOCK_BYTES, sizes.itemsize * sizes.weights // 2), LARGEST_BLOCK_BYTES)
    return Division(sizes.positions, bytes_of_patch, limit)


def correlate(sizes: Correlation, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
    """Write the cross-correlation; shapes as in ``cnn_core.compute.correlation.correlate``."""
    matrices = weight_matrices(weight, sizes.groups)  # (G, K*C/G, F/G)

    def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
        patches = _Patches(sizes, workspace, weight.dtype, division(sizes), sizes.taps * sizes.channels)

        def compute(block: WindowBlock) -> None:
            matrix = patches(input[block.inputs], block.windows)
            target = output[block.outputs]
            windows = by_group(target, sizes.groups)  # (G, P, F/G) where that needs no copy
            if windows is None:
                computed = patches.memory[: target.size].reshape(target.shape)
                np.matmul(matrix, matrices, out=by_group(computed, sizes.groups))
                target[...] = computed
            else:
                np.matmul(matrix, matrices, out=windows)
            if bias is not None:
                target += bias

        return compute

    run_blocks(sizes.window_blocks(division(sizes)), make_worker)


def correlate_grad_weight(sizes: Correlation, input: Array, grad_output: Array, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight; shapes as in ``cnn_core.compute.correlation``.

    Blocks go to a few lanes in turn, each of which adds its blocks up one after the other; at last the lanes are
    added. Of a large weight there is one lane, and different taps and channels are computed side by side instead. Both
    follow from the sizes alone: sums are the same on any number of threads.
    """
    parts = weight_parts(sizes)
    lanes = lane_count(sizes)
    window_blocks = sizes.window_blocks(grad_weight_division(sizes))
    dtype = grad_weight.dtype
    totals = np.zeros((lanes, *grad_weight.shape), dtype=dtype) if lanes > 1 else grad_weight[None]
    if lanes == 1:
        grad_weight[...] = 0

    def make_worker(workspace: Workspace) -> Callable[[tuple[int, tuple[slice, ...]]], None]:
        patches = _Patches(sizes, workspace, dtype, grad_weight_division(sizes), part_columns(sizes))

        def compute(unit: tuple[int, tuple[slice, ...]]) -> None:
            lane, chosen = unit
            total = totals[lane][chosen]  # (*k, c, F)
            sums = spare = None
            for block in window_blocks[lane::lanes]:
                matrix = patches(input[block.inputs], block.windows, chosen)  # (G, P, k*c)
                part = grad_output[block.outputs]
                gradient = group_matrices(part, sizes.groups, dtype, patches.memory)  # (G, P, F/G)
                if sums is None:
                    sums = np.matmul(matrix.swapaxes(1, 2), gradient)  # (G, k*c, F/G)
                else:
                    spare = np.matmul(matrix.swapaxes(1, 2), gradient, out=spare)
                    sums += spare
            if sums is not None:
                split = sums.reshape(sizes.groups, *total.shape[:-1], -1)
                split_channels(total, sizes.groups)[...] = np.moveaxis(split, 0, -2)

        return compute

    run_blocks(list(itertools.product(range(lanes), parts)), make_worker)
    if lanes > 1:
        np.add.reduce(totals, axis=0, out=grad_weight)


@remembered
def grad_weight_division(sizes: Correlation) -> Division:
    """Return the blocks that patches are made in for the gradient of the weight: larger where they are of one part."""
    if len(weight_parts(sizes)) == 1:
        whole = division(sizes)
        # longer sums would lose digits in float32; those of blocks are added apart
        most = MOST_SUMMED * whole.bytes_per_position
        return dataclasses.replace(whole, limit=min(whole.limit, most))
    elements = max(part_columns(sizes), sizes.features, sizes.spanned_per_position)
    return Division(sizes.positions, sizes.itemsize * elements, BLOCK_BYTES)


@remembered
def weight_parts(sizes: Correlation) -> list[tuple[slice, ...]]:
    """Return slices of the kernel and of the channels (*K, C/G) that cover a weight once; one if it is small."""
    if sizes.groups > 1 or sizes.itemsize * sizes.weights <= LARGEST_LANE_BYTES:
        return [(slice(None),) * (len(sizes.weight_shape) - 1)]
    return list(_weight_division(sizes).blocks())


def _weight_division(sizes: Correlation) -> Division:
    weight_bytes = sizes.itemsize * sizes.weights
    return Division(sizes.weight_shape[:-1], sizes.itemsize * sizes.features, weight_bytes // FEWEST_PARTS)


@remembered
def part_columns(sizes: Correlation) -> int:
    """Return the columns of a patch in the largest part of the weight."""
    if len(weight_parts(sizes)) == 1:
        return sizes.taps * sizes.channels
    return math.prod(_weight_division(sizes).counts)


@remembered
def lane_count(sizes: Correlation) -> int:
    """Return how many sums of blocks are added side by side."""
    if len(weight_parts(sizes)) > 1:
        return 1
    weight_bytes = sizes.itemsize * sizes.weights
    steps = grad_weight_division(sizes).steps
    return max(1, min(LANES, steps, LANES * LARGEST_LANE_BYTES // weight_bytes))


class _Patches:
    """Makes the matrices of patches of one block after the other in the memory of a thread."""

    def __init__(
        self, sizes: Correlation, workspace: Workspace, dtype: np.dtype[Any], found: Division, columns: int
    ) -> None:
        self._groups, self._dtype = sizes.groups, dtype
        positions = math.prod(found.counts)
        self._is_pointwise = all(
            (axis.kernel_size, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in sizes.windows.axes
        )
        self._patches, padded, self.memory = workspace.arrays(
            (columns * positions,),
            (sizes.span(found.counts) * sizes.channels,),
            (sizes.features * positions,),
            dtype=dtype,
        )
        self._padded = PaddedParts(padded)
        self._known: tuple[object, ...] = ()
        self._copies: Callable[[], None] = lambda: None
        self._matrices = padded

    def __call__(self, input: Array, windows: Windows, chosen: tuple[slice, ...] = ()) -> Array:
        """Return the patches of a part of the input, (G, P, K*C/G), or of the chosen taps and channels of them."""
        if self._is_pointwise and input.dtype == self._dtype:
            matrix = by_group(input, self._groups)
            if matrix is not None:
                return matrix[(slice(None), slice(None), *chosen[-1:])]
        padded = self._padded(input, windows)
        if self._known != (windows, len(input), chosen):
            self._known = (windows, len(input), chosen)
            self._prepare(padded, windows, chosen)
        self._copies()
        return self._matrices

    def _prepare(self, padded: Array, windows: Windows, chosen: tuple[slice, ...]) -> None:
        """Make the views that patches are copied from and to, for all blocks in which windows lie alike."""
        rank = len(windows.axes)
        view = windows.view(split_channels(padded, self._groups))  # (n, *o, *K, G, C/G)
        if chosen:
            *taps, channels = chosen
            view = view[(*(slice(None),) * (1 + rank), *taps, slice(None), channels)]
        source = view.transpose(2 * rank + 1, *range(2 * rank + 1), 2 * rank + 2)  # (G, n, *o, *K, C/G)
        patches = self._patches[: source.size].reshape(source.shape)
        self._matrices = patches.reshape(self._groups, math.prod(source.shape[1 : 2 + rank]), -1)
        channels = source.shape[-1]
        piece = channels * source.itemsize
        if self._groups == 1 or piece > LARGEST_TAKEN_BYTES:
            self._copies = functools.partial(np.copyto, *_by_run(patches, source))
            return
        counts, steps = source.shape[:-1], tuple(stride // piece for stride in source.strides[:-1])
        rows = outer_sum(counts, steps)
        # clipping needs no buffer; no row is outside
        self._copies = functools.partial(np.take, padded.reshape(-1, channels), rows, axis=0, out=patches, mode="clip")


def _by_run(patches: Array, source: Array) -> tuple[Array, Array]:
    """View the channels of taps next to each other as one element, if they are few: copies go through it at once."""
    *_, taps, channels = source.shape
    merged = (*source.shape[:-2], taps * channels)
    run = taps * channels * source.itemsize
    if run > LARGEST_RUN_BYTES:
        return patches, source
    try:
        views = patches.reshape(merged, copy=False), source.reshape(merged, copy=False)
    except ValueError:  # taps are apart
        return patches, source
    if any(view.strides[-1] != source.itemsize for view in views):
        return patches, source
    kind = np.dtype((np.void, run))
    target, origin = (view.view(kind)[..., 0] for view in views)
    return target, origin


def split_channels(array: Array, groups: int) -> Array:
    """View (..., channels) as (..., G, channels/G); splitting one axis never copies."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def by_group(array: Array, groups: int) -> Array | None:
    """View (n, *o, channels) as one matrix (P, channels/G) for each group; None if that needs a copy."""
    shape = (math.prod(array.shape[:-1]), groups, array.shape[-1] // groups)
    try:
        return array.reshape(shape, copy=False).transpose(1, 0, 2)
    except ValueError:
        return None


def group_matrices(array: Array, groups: int, dtype: np.dtype[Any], memory: Array) -> Array:
    """Return (n, *o, channels) as one matrix (P, channels/G) for each group, of a type; a copy in memory if need be."""
    matrices = by_group(array, groups) if array.dtype == dtype else None
    if matrices is None:
        copied = memory[: array.size].reshape(array.shape)
        copied[...] = array
        matrices = by_group(copied, groups)
        assert matrices is not None  # noqa: S101  (it is in one piece)
    return matrices


def weight_matrices(weight: Array, groups: int) -> Array:
    """Return (*K, C/G, F) as one matrix (K*C/G, F/G) for each group."""
    columns = weight.shape[-1]
    return np.ascontiguousarray(weight.reshape(-1, groups, columns // groups).transpose(1, 0, 2))
