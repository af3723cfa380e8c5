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

from cnn_core.kernels.conv.padded_block import PaddedPart
from cnn_core.kernels.conv.problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem
from cnn_core.kernels.opaque import as_runs
from cnn_core.kernels.outer_sum import MAX_KEPT_ELEMENTS, outer_sum
from cnn_core.kernels.products import multiply, multiply_transposed, parts_of_rows
from cnn_core.runtime.blocks import BLOCK_BYTES, block_limit
from cnn_core.runtime.threads import run_blocks
from cnn_core.runtime.workspace import Workspace

__all__ = ["correlate", "correlate_grad_weight", "division", "gradient_elements"]

Array = NDArray[Any]

MAX_TAKEN_BYTES = 64
"""Of pieces up to this size, ``take`` copies many times as fast as an assignment does."""

MAX_SUMMED = 4096
MAX_PARTIAL_SUMS = 8
MAX_PARTIAL_SUM_BYTES = BLOCK_BYTES
MIN_PARTS = 8
"""Of a large weight, computed side by side."""


@cached_per_problem
def is_pointwise(problem: ConvProblem) -> bool:
    """Return whether the input itself is the matrix of patches."""
    return all(
        (axis.kernel_size, axis.stride, axis.before, axis.after) == (1, 1, 0, 0) for axis in problem.windows.axes
    )


@cached_per_problem
def division(problem: ConvProblem) -> Division:
    """Return the blocks that patches are made in."""
    # of a window: its patch, what it spans, and its outputs, to which a bias is added while they are in the cache
    patch = max(problem.taps * problem.channels, problem.spanned_per_position)
    bytes_of_patch = problem.itemsize * (patch + problem.features)
    # every block reads the whole weight: with a large one, blocks of more windows than fit the cache read less
    whole = 0 if is_pointwise(problem) else math.prod(problem.positions) * bytes_of_patch
    limit = block_limit(whole, problem.itemsize * problem.weights // 2)
    if problem.groups > 1:
        # the numbers of the pieces that patches are taken from are kept, but not if they are very many
        limit = min(limit, bytes_of_patch * (MAX_KEPT_ELEMENTS // (problem.taps * problem.groups)))
    return Division(problem.positions, bytes_of_patch, max(1, limit))


def correlate(problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
    """Write the cross-correlation; shapes as in ``cnn_core.kernels.conv.correlate``."""
    matrices = weight_matrices(weight, problem.groups)  # (G, K*C/G, F/G)
    # as one more row of the weight, for a column of ones, a bias takes no time but that for patches
    is_copied = not is_pointwise(problem) or 2 * problem.channels <= problem.features
    with_ones = bias is not None and problem.groups == 1 and is_copied
    if bias is not None and with_ones:
        matrices = np.concatenate([matrices, bias.reshape(1, 1, -1)], axis=1)

    def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
        def compute(block: WindowBlock) -> None:
            layout = block.layout
            key = (_Patches, layout, with_ones)
            patches = workspace.cached(key, lambda: _Patches(problem, layout, workspace, weight.dtype, with_ones))
            matrix = patches(input[block.inputs], must_clear=workspace.claim(patches))
            target = output[block.outputs]
            windows = by_group(target, problem.groups)  # (G, P, F/G) where that needs no copy
            if windows is None:
                multiply(matrix, matrices, out=patches.of_groups)
                target[...] = patches.outputs
            else:
                multiply(matrix, matrices, out=windows)
            if bias is not None and not with_ones:
                target += bias

        return compute

    run_blocks(problem.window_blocks(division(problem)), make_worker)


def correlate_grad_weight(problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight; shapes as in ``cnn_core.kernels.conv``.

    Blocks go to a few lanes in turn, each of which adds its blocks up one after the other; at last the lanes are
    added. Of a large weight there is one lane, and different taps and channels are computed side by side instead. Both
    follow from the sizes alone: sums are the same on any number of threads.
    """
    parts = weight_parts(problem)
    partial_sums = partial_sum_count(problem)
    window_blocks = problem.window_blocks(grad_weight_division(problem))
    dtype = grad_weight.dtype
    totals = np.zeros((partial_sums, *grad_weight.shape), dtype=dtype) if partial_sums > 1 else grad_weight[None]
    if partial_sums == 1:
        grad_weight[...] = 0

    def make_worker(workspace: Workspace) -> Callable[[tuple[int, int]], None]:
        def step_of(layout: Layout, part: int) -> _WeightGradient:
            return workspace.cached(
                (_WeightGradient, layout, part),
                lambda: _WeightGradient(problem, layout, workspace, dtype, parts[part] if len(parts) > 1 else ()),
            )

        def compute(unit: tuple[int, int]) -> None:
            partial_sum, part = unit
            step = None
            for block in window_blocks[partial_sum::partial_sums]:
                is_alone = step is None
                step = step_of(block.layout, part)
                must_clear = workspace.claim(step)
                step.add(input[block.inputs], grad_output[block.outputs], must_clear=must_clear, is_alone=is_alone)
            if step is not None:
                total = totals[partial_sum][parts[part]]  # (*k, c, F)
                split = step.sums.reshape(problem.groups, *total.shape[:-1], -1)
                split_channels(total, problem.groups)[...] = np.moveaxis(split, 0, -2)

        return compute

    run_blocks(list(itertools.product(range(partial_sums), range(len(parts)))), make_worker)
    if partial_sums > 1:
        np.add.reduce(totals, axis=0, out=grad_weight)


@cached_per_problem
def grad_weight_division(problem: ConvProblem) -> Division:
    """Return the blocks that patches are made in for the gradient of the weight: larger where they are of one part."""
    if len(weight_parts(problem)) == 1:
        whole = division(problem)
        # longer sums would lose digits in float32; those of blocks are added apart
        most = MAX_SUMMED * whole.bytes_per_position
        return dataclasses.replace(whole, limit=min(whole.limit, most))
    elements = max(part_columns(problem), problem.features, problem.spanned_per_position)
    return Division(problem.positions, problem.itemsize * elements, BLOCK_BYTES)


@cached_per_problem
def weight_parts(problem: ConvProblem) -> list[tuple[slice, ...]]:
    """Return slices of the kernel and of the channels (*K, C/G) that cover a weight once; one if it is small."""
    if problem.groups > 1 or problem.itemsize * problem.weights <= MAX_PARTIAL_SUM_BYTES:
        return [(slice(None),) * (len(problem.weight_shape) - 1)]
    return list(_weight_division(problem).blocks())


def _weight_division(problem: ConvProblem) -> Division:
    weight_bytes = problem.itemsize * problem.weights
    return Division(problem.weight_shape[:-1], problem.itemsize * problem.features, weight_bytes // MIN_PARTS)


@cached_per_problem
def part_columns(problem: ConvProblem) -> int:
    """Return the columns of a patch in the largest part of the weight."""
    if len(weight_parts(problem)) == 1:
        return problem.taps * problem.channels
    return math.prod(_weight_division(problem).counts)


@cached_per_problem
def partial_sum_count(problem: ConvProblem) -> int:
    """Return how many sums of blocks are added side by side."""
    if len(weight_parts(problem)) > 1:
        return 1
    weight_bytes = problem.itemsize * problem.weights
    steps = grad_weight_division(problem).steps
    return max(1, min(MAX_PARTIAL_SUMS, steps, MAX_PARTIAL_SUMS * MAX_PARTIAL_SUM_BYTES // weight_bytes))


class _Patches:
    """Makes the matrices of patches for all blocks in which windows lie alike."""

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        workspace: Workspace,
        dtype: np.dtype[Any],
        with_ones: bool,
    ) -> None:
        found = division(problem)
        positions = math.prod(found.counts)
        memory, padded, outputs = workspace.arrays(
            ((problem.taps * problem.channels + with_ones) * positions,),
            (problem.span(found.counts) * problem.channels,),
            (problem.features * positions,),
            dtype=dtype,
        )
        shape = (*layout.outputs, problem.features)
        self.outputs: Array = outputs[: math.prod(shape)].reshape(shape)
        """Memory for the outputs of a block, (n, *o, F)."""
        by_position = self.outputs.reshape(
            math.prod(layout.outputs), problem.groups, problem.features // problem.groups
        )
        self.of_groups: Array = by_position.transpose(1, 0, 2)
        """The same as one matrix for each group, (G, P, F/G)."""
        self._source = _Source(problem, layout, padded, memory, with_ones=with_ones)

    def __call__(self, part: Array, *, must_clear: bool) -> Array:
        """Return the patches of a part of the input, (G, P, K*C/G)."""
        return self._source.patches(part, must_clear=must_clear)


class _WeightGradient:
    """Adds up what blocks in which windows lie alike give to the gradient of the weight, or of a part of it."""

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        workspace: Workspace,
        dtype: np.dtype[Any],
        chosen: tuple[slice, ...],
    ) -> None:
        self._groups, self._dtype = problem.groups, dtype
        elements = gradient_elements(problem)
        arrays = workspace.arrays(*((count,) for count in elements), dtype=dtype)
        memory, padded, self._copied, sums, products, self._by_part = arrays
        self._source = _Source(problem, layout, padded, memory, chosen)
        columns = math.prod(self._source.chosen_shape) // (problem.groups * math.prod(layout.outputs))
        shape = (problem.groups, columns, problem.features // problem.groups)
        # where those of other layouts are
        self.sums: Array = sums[: math.prod(shape)].reshape(shape)
        """What was added up, (G, k*c, F/G)."""
        self._products = products[: math.prod(shape)].reshape(shape)

    def add(self, part: Array, gradient: Array, *, must_clear: bool, is_alone: bool) -> None:
        """Add what parts of the input and of grad_output give; write it if nothing was added before."""
        matrix = self._source.patches(part, must_clear=must_clear)  # (G, P, k*c)
        of_groups = group_matrices(gradient, self._groups, self._dtype, self._copied)  # (G, P, F/G)
        multiply_transposed(matrix, of_groups, self.sums if is_alone else self._products, self._by_part)
        if not is_alone:
            np.add(self.sums, self._products, out=self.sums)


@cached_per_problem
def gradient_elements(problem: ConvProblem) -> tuple[int, ...]:
    """Return the elements of the arrays that a thread holds for the gradient of the weight.

    They are patches, a part of the padded input, a copy of a part of grad_output, sums, products of a block, and those
    of some rows of it at a time.
    """
    found, columns = grad_weight_division(problem), part_columns(problem)
    positions = math.prod(found.counts)
    sums = columns * problem.features // problem.groups
    of_group = columns // problem.groups, problem.features // problem.groups
    by_part = parts_of_rows(positions, *of_group)
    return (
        columns * positions,
        problem.span(found.counts) * problem.channels,
        problem.features * positions,
        sums,
        sums,
        sums * by_part if by_part > 1 else 0,
    )


class _Source:
    """Copies patches from the parts of an input; the views for that are made beforehand.

    Parameters
    ----------
    problem : ConvProblem
    layout : Layout
    padded, memory : ndarray
        Of one axis, for a part of the padded input and for patches.
    chosen : tuple of slice
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
        chosen: tuple[slice, ...] = (),
        *,
        with_ones: bool = False,
    ) -> None:
        windows, self._groups, self._dtype = layout.windows, problem.groups, memory.dtype
        self._is_pointwise = is_pointwise(problem) and not with_ones
        self._channels = chosen[-1] if chosen else slice(None)
        self._part = PaddedPart(padded, layout.images, windows, (problem.channels,))
        rank = len(windows.axes)
        view = windows.view(split_channels(self._part.array, problem.groups))  # (n, *o, *K, G, C/G)
        if chosen:
            *taps, channels = chosen
            view = view[(*(slice(None),) * (1 + rank), *taps, slice(None), channels)]
        source = view.transpose(2 * rank + 1, *range(2 * rank + 1), 2 * rank + 2)  # (G, n, *o, *K, C/G)
        self.chosen_shape = source.shape
        rows, columns = math.prod(source.shape[: 2 + rank]), math.prod(source.shape[2 + rank :])
        matrix = memory[: rows * (columns + with_ones)].reshape(rows, columns + with_ones)
        patches = matrix[:, :columns].reshape(source.shape, copy=False)
        self._ones = matrix[:, columns:]
        self._matrices = matrix.reshape(problem.groups, -1, columns + with_ones)
        channels = source.shape[-1]
        piece = channels * source.itemsize
        if problem.groups == 1 or piece > MAX_TAKEN_BYTES:
            self._copy = functools.partial(np.copyto, *_by_run(patches, source))
            return
        counts, steps = source.shape[:-1], tuple(stride // piece for stride in source.strides[:-1])
        self._copy = functools.partial(_take, self._part.array.reshape(-1, channels), counts, steps, patches)

    def patches(self, part: Array, *, must_clear: bool) -> Array:
        """Return the patches of a part of the input: one matrix (P, k*c) for each group."""
        if self._is_pointwise and part.dtype == self._dtype:
            matrices = by_group(part, self._groups)
            if matrices is not None:
                return matrices[..., self._channels]
        if must_clear:
            self._ones.fill(1)
        self._part.write(part, must_clear=must_clear)
        self._copy()
        return self._matrices


def _take(pieces: Array, counts: tuple[int, ...], steps: tuple[int, ...], patches: Array) -> None:
    # the numbers of the pieces are not held here: they may be as large as the patches, for each layout
    # clipping needs no buffer; no piece is outside
    np.take(pieces, outer_sum(counts, steps), axis=0, out=patches, mode="clip")


def _by_run(patches: Array, source: Array) -> tuple[Array, Array]:
    """View the channels of taps next to each other as one element, if they are few: copies go through it at once."""
    merged = (*source.shape[:-2], source.shape[-2] * source.shape[-1])
    try:
        return as_runs(patches.reshape(merged, copy=False), source.reshape(merged, copy=False))
    except ValueError:  # taps are apart
        return as_runs(patches, source)


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
