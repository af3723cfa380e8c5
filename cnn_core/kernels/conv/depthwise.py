"""Correlation where every channel is a group of its own: a weighted sum of shifted inputs.

As matrices the patches would have one column for each tap. Instead NumPy's einsum multiplies and adds in one pass, over
runs that lie in one piece in memory: the channels of some windows next to each other along the last axis.

Several output channels for one of the input are computed from an input whose channels are repeated as often.

Axes in comments as in ``direct``; R runs along the last axis, X elements of a run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cnn_core.kernels.conv.padded_block import PaddedPart
from cnn_core.kernels.conv.problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem
from cnn_core.runtime.blocks import BLOCK_BYTES
from cnn_core.runtime.threads import run_blocks
from cnn_core.runtime.workspace import Workspace

__all__ = ["applies", "correlate", "correlate_grad_weight", "division", "partial_sum_count"]

Array = NDArray[Any]

MAX_TAPS = 1024
MAX_PARTIAL_SUMS = 8
MAX_SUMMED = 512
MAX_RUN = 1024
"""Elements: longer ones of input, weight and output do not fit a core's first-level cache together."""

MAX_WEIGHT_BYTES = BLOCK_BYTES // 2
OUTPUT_AXES, TAP_AXES = "abc", "ijk"


@cached_per_problem
def applies(problem: ConvProblem) -> bool:
    """Return whether every channel is a group of its own, and one pass for each tap is not too many."""
    return problem.groups > 1 and problem.group_channels == 1 and problem.taps <= MAX_TAPS


@cached_per_problem
def division(problem: ConvProblem) -> Division:
    """Return the blocks that are computed at a time."""
    repeated = problem.spanned_per_position * (problem.features // problem.channels)
    return Division(problem.positions, problem.itemsize * max(problem.features, repeated), BLOCK_BYTES)


@cached_per_problem
def grad_weight_division(problem: ConvProblem) -> Division:
    """Return the blocks that are computed at a time for the gradient of the weight."""
    found = division(problem)
    # einsum adds one position after the other: longer sums would lose digits in float32, those of blocks are in float64
    return dataclasses.replace(found, limit=min(found.limit, MAX_SUMMED * found.bytes_per_position))


@cached_per_problem
def run_windows(problem: ConvProblem) -> int:
    """Return how many windows along the last axis are one run at most."""
    last = problem.windows.axes[-1]
    most = min(MAX_RUN // problem.features, MAX_WEIGHT_BYTES // (problem.itemsize * problem.weights))
    if last.stride > 1 or most < 2:
        return 1
    return min(most, last.output_size)


def correlate(problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
    """Write the cross-correlation; shapes as in ``cnn_core.kernels.conv.correlate``."""
    together = run_windows(problem)
    by_run = np.tile(weight[..., 0, :], together)  # (*K, X)
    taps, outputs = TAP_AXES[: by_run.ndim - 1], OUTPUT_AXES[: by_run.ndim - 1]
    subscripts = f"n{outputs}{taps}x,{taps}x->n{outputs}x"

    def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
        def compute(block: WindowBlock) -> None:
            layout = block.layout
            key = (_Runs, layout, together)
            runs = workspace.cached(key, lambda: _Runs(problem, layout, workspace, weight.dtype, together))
            runs.write(input[block.inputs], must_clear=workspace.claim(runs))
            view, target = runs.view, output[block.outputs]  # (n, *o, R, *K, X)
            in_place = target.flags.c_contiguous
            sums = target.reshape(runs.sums.shape) if in_place else runs.sums
            np.einsum(subscripts, view, by_run[..., : view.shape[-1]], out=sums)
            if bias is not None:
                np.add(sums, np.tile(bias, view.shape[-1] // len(bias)), out=sums)
            if not in_place:
                target[...] = runs.memory

        return compute

    run_blocks(problem.window_blocks(division(problem)), make_worker)


def correlate_grad_weight(problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight; shapes as in ``cnn_core.kernels.conv``.

    Blocks are added up in lanes, as in ``direct``, which are sums in float64.
    """
    partial_sums = partial_sum_count(problem)
    window_blocks = problem.window_blocks(grad_weight_division(problem))
    totals = np.zeros((partial_sums, *grad_weight.shape))
    rank = len(problem.windows.axes)
    taps, outputs = TAP_AXES[:rank], OUTPUT_AXES[:rank]
    subscripts = f"n{outputs}{taps}x,n{outputs}x->{taps}x"

    def make_worker(workspace: Workspace) -> Callable[[int], None]:
        def runs_of(layout: Layout) -> _Runs:
            return workspace.cached((_Runs, layout, 1), lambda: _Runs(problem, layout, workspace, grad_weight.dtype, 1))

        def compute(partial_sum: int) -> None:
            for block in window_blocks[partial_sum::partial_sums]:
                runs = runs_of(block.layout)
                runs.write(input[block.inputs], must_clear=workspace.claim(runs))
                gradient = grad_output[block.outputs]
                if gradient.dtype != grad_weight.dtype or not gradient.flags.c_contiguous:
                    runs.memory[...] = gradient
                    gradient = runs.memory
                totals[partial_sum, ..., 0, :] += np.einsum(subscripts, runs.view, gradient)

        return compute

    run_blocks(range(partial_sums), make_worker)
    grad_weight[...] = totals.sum(axis=0)


@cached_per_problem
def partial_sum_count(problem: ConvProblem) -> int:
    """Return how many sums of blocks are added side by side."""
    found = grad_weight_division(problem)
    return max(1, min(MAX_PARTIAL_SUMS, found.steps))


class _Runs:
    """The runs of all blocks in which windows lie alike, one block after the other."""

    def __init__(
        self, problem: ConvProblem, layout: Layout, workspace: Workspace, dtype: np.dtype[Any], together: int
    ) -> None:
        self._together = together
        self._repeats = problem.features // problem.channels
        counts = division(problem).counts
        padded, memory = workspace.arrays(
            (problem.features * problem.span(counts),), (problem.features * math.prod(counts),), dtype=dtype
        )
        shape = (*layout.outputs, problem.features)
        self.memory: Array = memory[: math.prod(shape)].reshape(shape)
        """Memory for the outputs of a block, (n, *o, F)."""
        self._part = PaddedPart(padded, layout.images, layout.windows, (problem.features,))
        self.view: Array = self._runs(layout.windows.view(self._part.array), len(layout.windows.axes))
        """The part of the input that was written, as runs: (n, *o, R, *K, X)."""
        rank = len(layout.windows.axes)
        self.sums: Array = self.memory.reshape(*self.view.shape[: rank + 1], -1)
        """The memory as runs, (n, *o, R, X)."""

    def write(self, part: Array, *, must_clear: bool) -> None:
        """Write a part of the input."""
        if self._repeats > 1:
            part = np.repeat(part, self._repeats, axis=-1)
        self._part.write(part, must_clear=must_clear)

    def _runs(self, view: Array, last: int) -> Array:
        """View windows (n, *o, *K, F) next to each other along the last axis as runs: (n, *o, R, *K, X)."""
        windows, features = view.shape[last], view.shape[-1]
        count = max(count for count in range(1, self._together + 1) if windows % count == 0)
        if count == 1:
            return view
        # their channels go on where those of the last one end
        shape = (*view.shape[:last], windows // count, *view.shape[last + 1 : -1], count * features)
        strides = (*view.strides[:last], view.strides[last] * count, *view.strides[last + 1 :])
        return as_strided(view, shape=shape, strides=strides, writeable=False)
