"""Convolution as matrix products (im2col and GEMM), one block of windows at a time.

With the windows of the input laid out as a matrix of patches, one row for each window and one column for each tap and
channel, two of the three computations are matrix products (for each group):

    output      = patches @ weight
    grad_weight = patches.T @ grad_output

The whole matrix of patches never exists as a whole: it is built for one block of windows at a time, in memory that
stays in the cache of a core. Where windows have a single tap, no gaps and no padding, the input itself is that matrix.

Axes in comments: N batch, S spatial sizes, O output sizes, K kernel sizes, G groups, C channels in, F channels out,
P windows in a block; lower case for those of a block.
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

from ...runtime.blocks import BLOCK_BYTES, block_limit
from ...runtime.threads import run_blocks, thread_count
from ...runtime.workspace import Workspace, view_cache_elements
from ..cost import MOVED_ELEMENT, STEP
from ..outer_sum import MAX_CACHED_ELEMENTS
from ..passes import checked
from ..products import least_rows, multiply, multiply_transposed, padded_elements, parts_of_rows
from .patches import (
    PatchSource,
    by_group,
    group_matrices,
    is_pointwise,
    split_channels,
    weight_matrices,
)
from .problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem

__all__ = ["IM2COL_GEMM", "Im2colGemm"]

Array = NDArray[Any]

MAX_SUMMED = 4096
"""Rows that one product of float32 matrices adds up; more of them would lose digits, so blocks are added apart."""

MAX_PARTIAL_SUMS = 8
"""Maximum number of partial sums (split-K), which threads add in parallel: enough for a machine with eight cores."""

MAX_PARTIAL_SUM_BYTES = BLOCK_BYTES
"""A partial sum that is larger would not stay in the cache of its core; the weight is cut into slices instead."""

MIN_WEIGHT_SLICES = 8
"""Minimum number of slices of a large weight, whose gradients are computed in parallel."""

GROUPS_OF_A_STEP = 10
"""Number of groups whose small matrix products take as long as one interpreter iteration."""


class Im2colGemm:
    """The ``ConvKernel`` that supports every problem."""

    def supports(self, problem: ConvProblem) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation."""
        matrices = weight_matrices(weight, problem.groups)  # (G, K*C/G, F/G)
        # as one more row of the weight, for a column of ones, a bias takes no time but that for copying patches
        with_ones = bias is not None and problem.groups == 1 and _has_bias_row(problem)
        if bias is not None and with_ones:
            matrices = np.concatenate([matrices, bias.reshape(1, 1, -1)], axis=1)

        def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
            def compute(block: WindowBlock) -> None:
                layout = block.layout
                patches = workspace.cached(
                    (_Patches, layout, with_ones),
                    lambda: _Patches(problem, layout, workspace, weight.dtype, with_ones),
                )
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

        run_blocks(problem.window_blocks(_division(problem)), make_worker)

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight.

        Blocks are assigned in turn to a few partial sums, each of which adds up its blocks one after the other; finally
        the partial sums are added. A large weight has only one partial sum, and slices of it are computed in parallel
        instead. Both follow from the problem alone: results are the same on any number of threads.
        """
        slices, partial_sums, units = _sums(problem)
        window_blocks = problem.window_blocks(_grad_weight_division(problem))
        dtype = grad_weight.dtype
        totals = np.empty((partial_sums, *grad_weight.shape), dtype=dtype) if partial_sums > 1 else grad_weight[None]

        def make_worker(workspace: Workspace) -> Callable[[tuple[int, int]], None]:
            def compute(unit: tuple[int, int]) -> None:
                partial_sum, index = unit
                chosen = slices[index] if len(slices) > 1 else ()
                step = None
                for block in checked(window_blocks[partial_sum::partial_sums]):
                    is_alone = step is None
                    step = workspace.cached(
                        (_WeightGradient, block.layout, index),
                        functools.partial(_WeightGradient, problem, block.layout, workspace, dtype, chosen),
                    )
                    must_clear = workspace.claim(step)
                    step.add(input[block.inputs], grad_output[block.outputs], must_clear=must_clear, is_alone=is_alone)
                total = totals[partial_sum][slices[index]]  # (*k, c, F)
                if step is None:  # an empty batch
                    total[...] = 0
                else:
                    split_channels(total, problem.groups)[...] = step.by_tap

            return compute

        run_blocks(units, make_worker)
        if partial_sums > 1:
            np.add.reduce(totals, axis=0, out=grad_weight)

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the weight's matrices, and of each thread's patches, with and without padding."""
        division = _division(problem)
        per_thread = _index_elements(problem, division) + view_cache_elements(division.steps)
        inner, columns = problem.taps * problem.group_channels, problem.features // problem.groups
        # a bias is a row more
        per_thread += problem.groups * max(padded_elements(rows, columns) for rows in (inner, inner + 1))
        return 2 * problem.weights + thread_count(division.steps) * (per_thread + sum(_forward_elements(problem)))

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the partial sums, and of each thread's patches and products."""
        division, slices, partial_sums = (
            _grad_weight_division(problem),
            len(_weight_slices(problem)),
            _partial_sum_count(problem),
        )
        per_thread = _index_elements(problem, division) + view_cache_elements(division.steps * slices)
        per_thread += sum(_grad_weight_elements(problem))
        totals = partial_sums * problem.weights if partial_sums > 1 else 0
        return totals + thread_count(partial_sums * slices) * per_thread

    def work(self, problem: ConvProblem) -> int:
        """Return the work of the products, of copying patches, and of the interpreter."""
        division, positions = _division(problem), math.prod(problem.positions)
        steps = division.steps * (1 + problem.groups // GROUPS_OF_A_STEP)
        copied = positions * problem.taps * problem.channels + problem.copied_elements(division)
        return positions * problem.weights + MOVED_ELEMENT * copied + STEP * steps


IM2COL_GEMM = Im2colGemm()


def _has_bias_row(problem: ConvProblem) -> bool:
    """Return whether patches are copied, or may be; not by the padding, which regions of an image have less of."""
    copied = any((axis.kernel_size, axis.stride) != (1, 1) for axis in problem.windows.axes)
    return copied or 2 * problem.channels <= problem.features


@cached_per_problem
def _division(problem: ConvProblem) -> Division:
    """Return the blocks of windows whose patches are copied at a time: of as many rows as a product has at least."""
    rows = least_rows(problem.taps * problem.group_channels, problem.features // problem.groups)
    return problem.in_blocks_of(rows, _division_by_size(problem))


@cached_per_problem
def _division_by_size(problem: ConvProblem) -> Division:
    """Return the blocks of windows whose patches fit the cache."""
    # for each window: its patch, what it spans, and its outputs, to which a bias is added while they are in the cache
    patch = max(problem.taps * problem.channels, problem.spanned_per_position)
    bytes_of_patch = problem.itemsize * (patch + problem.features)
    # every block reads the whole weight: with a large one, blocks of more windows than fit the cache read less
    whole = 0 if is_pointwise(problem) else math.prod(problem.positions) * bytes_of_patch
    limit = block_limit(whole, problem.itemsize * problem.weights // 2)
    if problem.groups > 1:
        # the indices that patches are gathered by are cached, unless there are very many
        limit = min(limit, bytes_of_patch * (MAX_CACHED_ELEMENTS // (problem.taps * problem.groups)))
    return Division(problem.positions, bytes_of_patch, max(1, limit))


@cached_per_problem
def _grad_weight_division(problem: ConvProblem) -> Division:
    """Return the blocks of windows whose patches are copied at a time for grad_weight: larger if there are slices."""
    if len(_weight_slices(problem)) == 1:
        whole = _division_by_size(problem)
        return dataclasses.replace(whole, limit=min(whole.limit, MAX_SUMMED * whole.bytes_per_position))
    elements = max(_slice_columns(problem)[0], problem.features, problem.spanned_per_position)
    return Division(problem.positions, problem.itemsize * elements, BLOCK_BYTES)


@cached_per_problem
def _weight_slices(problem: ConvProblem) -> list[tuple[slice, ...]]:
    """Return slices of the kernel and of the channels (*K, C/G) that cover a weight once; one if it is small."""
    if problem.groups > 1 or problem.itemsize * problem.weights <= MAX_PARTIAL_SUM_BYTES:
        return [(slice(None),) * (len(problem.weight_shape) - 1)]
    return list(_weight_division(problem).blocks())


def _weight_division(problem: ConvProblem) -> Division:
    weight_bytes = problem.itemsize * problem.weights
    return Division(problem.weight_shape[:-1], problem.itemsize * problem.features, weight_bytes // MIN_WEIGHT_SLICES)


@cached_per_problem
def _sums(problem: ConvProblem) -> tuple[list[tuple[slice, ...]], int, list[tuple[int, int]]]:
    """Return the slices, the number of partial sums, and all pairs of a partial sum and a slice, by index."""
    slices, partial_sums = _weight_slices(problem), _partial_sum_count(problem)
    return slices, partial_sums, list(itertools.product(range(partial_sums), range(len(slices))))


@cached_per_problem
def _slice_columns(problem: ConvProblem) -> list[int]:
    """Return the columns that a patch has in slices of the weight: each number once, the largest first."""
    shape = problem.weight_shape[:-1]
    of_slices = {
        problem.groups * math.prod(len(range(*part.indices(size))) for part, size in zip(some, shape, strict=True))
        for some in _weight_slices(problem)
    }
    return sorted(of_slices, reverse=True)


@cached_per_problem
def _partial_sum_count(problem: ConvProblem) -> int:
    """Return the number of partial sums (split-K)."""
    if len(_weight_slices(problem)) > 1:
        return 1
    most = MAX_PARTIAL_SUMS * MAX_PARTIAL_SUM_BYTES // (problem.itemsize * problem.weights)
    return max(1, min(MAX_PARTIAL_SUMS, _grad_weight_division(problem).steps, most))


def _index_elements(problem: ConvProblem, division: Division) -> int:
    """Return the elements of the int64 gather indices of a block; building them takes three temporaries."""
    return 6 * math.prod(division.counts) * problem.taps * problem.groups if problem.groups > 1 else 0


@cached_per_problem
def _forward_elements(problem: ConvProblem) -> tuple[int, int, int]:
    """Return the elements that a thread allocates: patches with a column of ones, a padded block, outputs."""
    counts = _division(problem).counts
    positions = math.prod(counts)
    return (
        (problem.taps * problem.channels + 1) * positions,
        problem.span(counts) * problem.channels,
        problem.features * positions,
    )


class _Patches:
    """The matrices of patches of all blocks with the same layout."""

    def __init__(
        self, problem: ConvProblem, layout: Layout, workspace: Workspace, dtype: np.dtype[Any], with_ones: bool
    ) -> None:
        memory, padded, outputs = workspace.arrays(*((count,) for count in _forward_elements(problem)), dtype=dtype)
        shape = (*layout.outputs, problem.features)
        self.outputs: Array = outputs[: math.prod(shape)].reshape(shape)
        """Memory for the outputs of a block, (n, *o, F)."""
        by_position = self.outputs.reshape(
            math.prod(layout.outputs), problem.groups, problem.features // problem.groups
        )
        self.of_groups: Array = by_position.transpose(1, 0, 2)
        """The same as one matrix for each group, (G, P, F/G)."""
        self._source = PatchSource(problem, layout, padded, memory, with_ones=with_ones)

    def __call__(self, block: Array, *, must_clear: bool) -> Array:
        """Return the patches of a block of the input, (G, P, K*C/G)."""
        return self._source.patches(block, must_clear=must_clear)


@cached_per_problem
def _grad_weight_elements(problem: ConvProblem) -> tuple[int, ...]:
    """Return the elements that a thread allocates for the gradient with respect to the weight.

    They are patches, a padded block, a copy of a block of grad_output, sums, the products of a block, and those of
    some rows of it at a time.
    """
    division, (most, *fewer) = _grad_weight_division(problem), _slice_columns(problem)
    positions = math.prod(division.counts)
    sums = most * problem.features // problem.groups
    by_chunk = [0]
    for columns in (most, *fewer):  # a smaller slice may be divided where a larger one is not
        chunks = parts_of_rows(positions, columns // problem.groups, problem.features // problem.groups)
        if chunks > 1:
            by_chunk.append(columns * problem.features // problem.groups * chunks)
    return (
        most * positions,
        problem.span(division.counts) * problem.channels,
        problem.features * positions,
        sums,
        sums,
        max(by_chunk),
    )


class _WeightGradient:
    """Adds up what blocks with the same layout give to the gradient of a slice of the weight."""

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        workspace: Workspace,
        dtype: np.dtype[Any],
        weight_slice: tuple[slice, ...],
    ) -> None:
        self._groups, self._dtype = problem.groups, dtype
        arrays = workspace.arrays(*((count,) for count in _grad_weight_elements(problem)), dtype=dtype)
        memory, padded, self._copied, sums, products, self._by_chunk = arrays
        self._source = PatchSource(problem, layout, padded, memory, weight_slice)
        columns = math.prod(self._source.shape) // (problem.groups * math.prod(layout.outputs))
        shape = (problem.groups, columns, problem.features // problem.groups)
        # in the same memory as the sums of other layouts
        self.sums: Array = sums[: math.prod(shape)].reshape(shape)
        """The sum of what was added, (G, k*c, F/G)."""
        split = self.sums.reshape(problem.groups, *self._source.shape[len(layout.outputs) + 1 :], -1)
        self.by_tap: Array = split.transpose(*range(1, split.ndim - 1), 0, -1)
        """The same as (*k, c, G, F/G)."""
        self._products = products[: math.prod(shape)].reshape(shape)

    def add(self, block: Array, gradient: Array, *, must_clear: bool, is_alone: bool) -> None:
        """Add the product of a block of the input and one of grad_output; write it if nothing was added before."""
        matrix = self._source.patches(block, must_clear=must_clear)  # (G, P, k*c)
        of_groups = group_matrices(gradient, self._groups, self._dtype, self._copied)  # (G, P, F/G)
        multiply_transposed(matrix, of_groups, self.sums if is_alone else self._products, self._by_chunk)
        if not is_alone:
            np.add(self.sums, self._products, out=self.sums)
