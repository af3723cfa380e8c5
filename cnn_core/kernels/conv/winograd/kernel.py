"""Winograd's minimal filtering for windows of 3 x 3: F(4 x 4, 3 x 3).

A tile of 4 x 4 outputs covers 6 x 6 inputs. Evaluated at six points along either axis (see ``tiles``), 36 products do
what 144 would. With all channels they are products of matrices: 36 of (tiles x C) @ (C x F) for outputs, of
(C x tiles) @ (tiles x F) for the gradient of the weight.

Tiles are over the last two axes. Windows may have taps along others too: the tiles of all taps along these are
adjacent, like the channels, and their products are added as those of channels are.

Rounding is in proportion to the largest input of a tile, where direct sums lose in proportion to their own terms: next
to an input of 1e6, one of 1 counts for less. A tile whose outputs are not all finite is computed again directly: an
infinity would make all of them NaN.

Axes in comments: N batch, O outputs and K kernel sizes along the axes before the last two, T tiles of a plane, P
points, C channels in, F channels out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ....geometry import Windows
from ....runtime.threads import run_blocks, thread_count
from ....runtime.workspace import MAX_KEPT_BYTES, Workspace, view_cache_elements
from ...opaque import as_runs
from ...passes import checked, contiguous, copy
from ...products import multiplication
from ..im2col_gemm import IM2COL_GEMM
from ..padded_block import PaddedBlock
from ..problem import (
    ConvProblem,
    Layout,
    WindowBlock,
    window_blocks,
)
from .blocks import (
    division,
    gathers_taps,
    grad_weight_division,
    gradient_elements,
    over_tiles,
    partial_sum_count,
    point_parts,
    points_of_weight,
    taps_ahead,
    tile_blocks,
    tile_elements,
)
from .tiles import OUTPUTS, POINTS, TAPS, A, B, Evaluation, G, Interpolation

__all__ = ["WINOGRAD", "Winograd"]

Array = NDArray[Any]

COLUMNS = 2**14
"""Number of columns of the weight that are transformed at a time."""


class Winograd:
    """The ``ConvKernel`` of windows of 3 x 3; its results are rounded."""

    def supports(self, problem: ConvProblem) -> bool:
        """Return whether windows are dense, of 3 x 3 with stride 1 along the last two axes, and there is one group."""
        axes = problem.windows.axes
        return (
            problem.groups == 1
            and len(axes) >= 2
            and all((axis.kernel_size, axis.stride, axis.dilation) == (TAPS, 1, 1) for axis in axes[-2:])
        )

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation."""
        by_point = _transformed_weight(weight)  # (P, K * C, F)
        not_finite: list[WindowBlock] = []

        def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
            def compute(block: WindowBlock) -> None:
                layout = block.layout
                step = workspace.cached((_Outputs, layout), lambda: _Outputs(problem, layout, workspace, weight.dtype))
                if step.compute(input[block.inputs], by_point, must_clear=workspace.claim(step)):
                    step.interpolation.write(output[block.outputs], bias)
                else:
                    not_finite.append(block)

            return compute

        run_blocks(tile_blocks(problem, division(problem)), make_worker)
        for block in not_finite:
            target = output[block.outputs]
            written = (
                slice(each.start, each.start + size) for each, size in zip(block.outputs, target.shape, strict=False)
            )
            (alone,) = window_blocks(problem.windows, [tuple(written)])
            part = ConvProblem(alone.layout.images, problem.weight_shape, 1, alone.layout.windows, problem.itemsize)
            IM2COL_GEMM.forward(part, input[alone.inputs], weight, bias, target)

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight, from partial sums; of a large one, some points at a time."""
        partial_sums, row_count = partial_sum_count(problem), POINTS // point_parts(problem)
        blocks = tile_blocks(problem, grad_weight_division(problem))
        totals = np.empty(
            (partial_sums, POINTS, POINTS, taps_ahead(problem) * problem.channels, problem.features),
            dtype=grad_weight.dtype,
        )
        if not blocks:
            totals.fill(0)

        def make_worker(workspace: Workspace) -> Callable[[tuple[int, int]], None]:
            def step_of(layout: Layout, written: tuple[int, ...], start: int) -> _WeightGradient:
                rows = slice(start, start + row_count)
                # blocks in the padding have the same layout, and the last of them fewer outputs
                return workspace.cached(
                    (_WeightGradient, layout, written, start),
                    lambda: _WeightGradient(problem, layout, rows, written, workspace, grad_weight.dtype),
                )

            def compute(unit: tuple[int, int]) -> None:
                partial_sum, start = unit
                total = totals[partial_sum, start : start + row_count].reshape(-1, *totals.shape[-2:])
                for index, block in enumerate(checked(blocks[partial_sum::partial_sums])):
                    gradient = grad_output[block.outputs]
                    step = step_of(block.layout, gradient.shape, start)
                    must_clear = workspace.claim(step)
                    step.add(input[block.inputs], gradient, total, must_clear=must_clear, is_alone=index == 0)

            return compute

        run_blocks(list(itertools.product(range(partial_sums), range(0, POINTS, row_count))), make_worker)
        total = np.add.reduce(totals, axis=0) if partial_sums > 1 else totals[0]
        back = np.kron(G, G).T.astype(grad_weight.dtype)  # (9, P)
        by_tap = np.matmul(back, total.reshape(POINTS**2, -1))
        copy(_by_square(grad_weight), by_tap.reshape(TAPS**2, taps_ahead(problem), *grad_weight.shape[-2:]))
        if not np.isfinite(grad_weight).all():
            IM2COL_GEMM.grad_weight(problem, input, grad_output, grad_weight)

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the weight at all points and of each thread's tiles; blocks may be computed again."""
        steps = division(problem).steps
        per_thread = sum(tile_elements(problem, division(problem))) + view_cache_elements(steps)
        return points_of_weight(problem) + thread_count(steps) * per_thread + IM2COL_GEMM.forward_workspace(problem)

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the partial sums and of each thread's tiles; the sums may be computed again."""
        partial_sums, parts = partial_sum_count(problem), point_parts(problem)
        points, blocks = POINTS // parts, grad_weight_division(problem)
        per_thread = sum(tile_elements(problem, blocks, points)) + sum(gradient_elements(problem, points))
        per_thread += view_cache_elements(blocks.steps * parts)
        totals = (partial_sums + 1) * points_of_weight(problem) + problem.weights
        of_tiles = thread_count(partial_sums * parts) * per_thread
        reused = thread_count(partial_sums) * MAX_KEPT_BYTES // problem.itemsize
        return totals + max(of_tiles, IM2COL_GEMM.grad_weight_workspace(problem)) + reused

    def work(self, problem: ConvProblem) -> int:
        """Return the work of computing directly, which takes longer."""
        return IM2COL_GEMM.work(problem)


WINOGRAD = Winograd()


def _by_square(weight: Array) -> Array:
    """View a weight (*K, 3, 3, C, F) as (9, K, C, F)."""
    return weight.reshape(-1, TAPS**2, *weight.shape[-2:]).swapaxes(0, 1)


def _transformed_weight(weight: Array) -> Array:
    """Return (*K, 3, 3, C, F) at all points: (P, K * C, F)."""
    columns = contiguous(_by_square(weight)).reshape(TAPS**2, -1)
    transform = np.kron(G, G).astype(weight.dtype)
    by_point = np.empty((POINTS**2, columns.shape[1]), dtype=weight.dtype)

    def make_worker(_: Workspace) -> Callable[[slice], None]:
        def compute(chosen: slice) -> None:
            np.matmul(transform, columns[:, chosen], out=by_point[:, chosen])

        return compute

    run_blocks([slice(start, start + COLUMNS) for start in range(0, columns.shape[1], COLUMNS)], make_worker)
    return by_point.reshape(POINTS**2, -1, weight.shape[-1])


class _Tiles:
    """Evaluates the tiles of a block's part of the input, with the tiles of all taps ahead adjacent."""

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        rows: slice,
        gathered: Array,
        evaluated: Array,
        adjacent: Array,
        padded: Array,
    ) -> None:
        windows = layout.windows
        self._part = PaddedBlock(padded, layout.images, windows, (problem.channels,))
        planes = self._part.array.reshape(-1, *self._part.array.shape[-3:])
        self._evaluation = Evaluation(planes, POINTS, B[rows], B, gathered, evaluated)
        by_tile = self._evaluation.by_tile
        tiles, channels = by_tile.shape[-2:]
        self._copying: tuple[Array, Array] | None = None
        if not gathers_taps(problem):
            self.by_tile = by_tile.reshape(len(by_tile), -1, channels)
            return
        # (P, N, *O, T, *K, C)
        ahead = Windows(windows.axes[:-2])
        steps, step = [by_tile.strides[1] * math.prod(ahead.padded_sizes)], by_tile.strides[1]
        between_taps: list[int] = []
        for axis, size in reversed(list(zip(ahead.axes, ahead.padded_sizes, strict=True))):
            steps.insert(1, step * axis.stride)
            between_taps.insert(0, step * axis.dilation)
            step *= size
        source = as_strided(
            by_tile,
            shape=(len(by_tile), layout.images, *ahead.output_sizes, tiles, *ahead.kernel_sizes, channels),
            strides=(by_tile.strides[0], *steps, by_tile.strides[-2], *between_taps, by_tile.strides[-1]),
        )
        target = adjacent[: source.size].reshape(source.shape)
        self._copying = as_runs(target, source)
        self.by_tile = target.reshape(len(by_tile), -1, taps_ahead(problem) * channels)

    def compute(self, part: Array, *, must_clear: bool) -> None:
        """Evaluate the tiles of a part of the input: ``by_tile``, (P, tiles, K * C)."""
        self._part.write(part, must_clear=must_clear)
        self._evaluation.compute()
        if self._copying is not None:
            np.copyto(*self._copying)


class _Outputs:
    """Computes the outputs of a block of tiles."""

    def __init__(self, problem: ConvProblem, layout: Layout, workspace: Workspace, dtype: np.dtype[Any]) -> None:
        elements = tile_elements(problem, division(problem))
        gathered, evaluated, adjacent, padded = workspace.arrays(*((count,) for count in elements), dtype=dtype)
        self._tiles = _Tiles(problem, layout, slice(None), gathered, evaluated, adjacent, padded)
        by_tile = self._tiles.by_tile
        shape = (*by_tile.shape[:2], problem.features)
        products = gathered[: math.prod(shape)].reshape(shape)
        self._multiply = multiplication(by_tile, (POINTS**2, by_tile.shape[-1], problem.features), products)
        *ahead, rows, columns = layout.outputs
        self.interpolation = Interpolation(products, (*ahead, rows // OUTPUTS, columns // OUTPUTS), evaluated)

    def compute(self, part: Array, by_point: Array, *, must_clear: bool) -> bool:
        """Compute the outputs of a part of the input; return whether all are finite."""
        self._tiles.compute(part, must_clear=must_clear)
        self._multiply(by_point)
        return self.interpolation.compute()


class _WeightGradient:
    """Computes what a block of tiles adds to the gradient of the weight, at some of the points."""

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        rows: slice,
        written: tuple[int, ...],
        workspace: Workspace,
        dtype: np.dtype[Any],
    ) -> None:
        points = rows.stop - rows.start
        elements = tile_elements(problem, grad_weight_division(problem), points)
        gathered, evaluated, adjacent, padded, of_gradient, padded_gradient, sums = workspace.arrays(
            *((count,) for count in (*elements, *gradient_elements(problem, points))), dtype=dtype
        )
        self._tiles = _Tiles(problem, layout, rows, gathered, evaluated, adjacent, padded)
        whole_tiles = over_tiles(written, layout)
        self._gradient = PaddedBlock(padded_gradient, layout.images, whole_tiles, (problem.features,))
        planes = self._gradient.array.reshape(-1, *self._gradient.array.shape[-3:])
        self._evaluation = Evaluation(planes, OUTPUTS, A.T[rows], A.T, gathered, of_gradient)
        by_tile = self._tiles.by_tile
        self._by_channel = by_tile.swapaxes(1, 2)  # (P, K * C, tiles)
        self._by_tile = self._evaluation.by_tile.reshape(*by_tile.shape[:2], -1)  # (P, tiles, F)
        self._sums = sums.reshape(len(by_tile), -1, problem.features)

    def add(self, part: Array, gradient: Array, total: Array, *, must_clear: bool, is_alone: bool) -> None:
        """Add what parts of the input and of grad_output give; write it if nothing was added before."""
        self._tiles.compute(part, must_clear=must_clear)
        self._gradient.write(gradient, must_clear=must_clear)
        self._evaluation.compute()
        np.matmul(self._by_channel, self._by_tile, out=total if is_alone else self._sums)
        if not is_alone:
            np.add(total, self._sums, out=total)
