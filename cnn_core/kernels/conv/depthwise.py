"""Convolution where every channel is a group of its own: a weighted sum of shifted inputs.

As matrices, the patches would have one column for each tap. Instead NumPy's einsum multiplies and adds in one pass,
over runs that are contiguous in memory: the channels of some adjacent windows along the last axis.

Several output channels for one of the input are computed from an input whose channels are repeated that many times.

Axes in comments as in ``im2col_gemm``; R runs along the last axis, X elements of a run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...runtime.blocks import BLOCK_BYTES
from ...runtime.threads import run_blocks, thread_count
from ...runtime.workspace import Workspace, view_cache_elements
from ..cost import MOVED_ELEMENT, STEP
from ..passes import checked, contiguous
from .padded_block import PaddedBlock
from .problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem

__all__ = ["DEPTHWISE", "Depthwise", "depthwise_work"]

Array = NDArray[Any]

MAX_TAPS = 1024
"""Each tap is a pass over the block; with more taps, matrix products are faster."""

MAX_PARTIAL_SUMS = 8
"""See ``im2col_gemm``."""

MAX_SUMMED = 512
"""Maximum number of positions that einsum adds up sequentially in float32; longer sums would lose digits."""

MAX_RUN = 1024
"""Maximum elements of a run: longer runs of input, weight and output do not fit the first-level cache of a core."""

MAX_WEIGHT_BYTES = BLOCK_BYTES // 2
"""Maximum size of the weight repeated for all windows of a run."""

MAX_PRODUCTS = 2**24
"""Maximum number of products of a block, some hundredths of a second, so that a computation can stop."""

OUTPUT_AXES, TAP_AXES = "abc", "ijk"

PRODUCT_WORK, LOOP_WORK = 20, 100
"""Work of an elementwise product and its sum, and of beginning one of NumPy's inner loops over the channels."""


class Depthwise:
    """The ``ConvKernel`` of problems in which every channel is a group."""

    def supports(self, problem: ConvProblem) -> bool:
        """Return whether every channel is a group of its own, and one pass for each tap is not too many."""
        return problem.groups > 1 and problem.group_channels == 1 and problem.taps <= MAX_TAPS

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation."""
        width = _run_windows(problem)
        # in the order of its axes, since einsum adds in an order that depends on those of all operands
        by_window = contiguous(weight[..., 0, :])
        by_run = np.tile(by_window, width) if width > 1 else by_window  # (*K, X)
        taps, outputs = TAP_AXES[: by_run.ndim - 1], OUTPUT_AXES[: by_run.ndim - 1]
        subscripts = f"n{outputs}{taps}x,{taps}x->n{outputs}x"

        def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
            def compute(block: WindowBlock) -> None:
                layout = block.layout
                runs = workspace.cached(
                    (_Runs, layout, width), lambda: _Runs(problem, layout, workspace, weight.dtype, width)
                )
                runs.write(input[block.inputs], must_clear=workspace.claim(runs))
                view, target = runs.view, output[block.outputs]  # (n, *o, R, *K, X)
                in_place = target.flags.c_contiguous
                sums = target.reshape(runs.sums.shape) if in_place else runs.sums
                weights = by_run[..., : view.shape[-1]]
                np.einsum(subscripts, view, weights, out=sums)
                if bias is not None:
                    np.add(sums, np.tile(bias, view.shape[-1] // len(bias)), out=sums)
                if not in_place:
                    target[...] = runs.memory

            return compute

        run_blocks(problem.window_blocks(_division(problem)), make_worker)

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight, from partial sums in float64."""
        partial_sums = _partial_sum_count(problem)
        window_blocks = problem.window_blocks(_grad_weight_division(problem))
        totals = np.zeros((partial_sums, *grad_weight.shape))
        rank = len(problem.windows.axes)
        taps, outputs = TAP_AXES[:rank], OUTPUT_AXES[:rank]
        subscripts = f"n{outputs}{taps}x,n{outputs}x->{taps}x"

        def make_worker(workspace: Workspace) -> Callable[[int], None]:
            def runs_of(layout: Layout) -> _Runs:
                return workspace.cached(
                    (_Runs, layout, 1), lambda: _Runs(problem, layout, workspace, grad_weight.dtype, 1)
                )

            def compute(partial_sum: int) -> None:
                for block in checked(window_blocks[partial_sum::partial_sums]):
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

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the repeated weight, and of each thread's runs."""
        repeated = _run_windows(problem) * problem.weights
        return repeated + thread_count(_division(problem).steps) * _thread_elements(problem)

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of partial sums in float64, two each in float32, and of each thread's runs and sums."""
        partial_sums = _partial_sum_count(problem)
        per_thread = _thread_elements(problem) + 2 * problem.weights
        return 2 * (partial_sums + 1) * problem.weights + thread_count(partial_sums) * per_thread

    def work(self, problem: ConvProblem) -> int:
        """Return the work of the products, of copying blocks, and of the interpreter."""
        division = _division(problem)
        copied = problem.copied_elements(division)
        return depthwise_work(problem) + MOVED_ELEMENT * copied + STEP * problem.taps * division.steps


DEPTHWISE = Depthwise()


def depthwise_work(problem: ConvProblem) -> int:
    """Return the work of the products, which NumPy multiplies and adds element by element."""
    loop = max(problem.channels, problem.features // problem.channels)
    return (1 + PRODUCT_WORK + LOOP_WORK // loop) * math.prod(problem.positions) * problem.weights


@cached_per_problem
def _division(problem: ConvProblem) -> Division:
    """Return the blocks that are computed at a time, each by one call of einsum."""
    repeated = problem.spanned_per_position * (problem.features // problem.channels)
    bytes_per_position = problem.itemsize * max(problem.features, repeated)
    most = max(1, MAX_PRODUCTS // (problem.features * problem.taps))
    return Division(problem.positions, bytes_per_position, min(BLOCK_BYTES, most * bytes_per_position))


@cached_per_problem
def _grad_weight_division(problem: ConvProblem) -> Division:
    """Return the blocks that are computed at a time for the gradient with respect to the weight."""
    division = _division(problem)
    return dataclasses.replace(division, limit=min(division.limit, MAX_SUMMED * division.bytes_per_position))


@cached_per_problem
def _run_windows(problem: ConvProblem) -> int:
    """Return how many windows along the last axis are one run at most."""
    last = problem.windows.axes[-1]
    most = min(MAX_RUN // problem.features, MAX_WEIGHT_BYTES // (problem.itemsize * problem.weights))
    if last.stride > 1 or most < 2:
        return 1
    return min(most, last.output_size)


@cached_per_problem
def _partial_sum_count(problem: ConvProblem) -> int:
    """Return the number of partial sums (split-K)."""
    return max(1, min(MAX_PARTIAL_SUMS, _grad_weight_division(problem).steps))


def _runs_elements(problem: ConvProblem) -> tuple[int, int]:
    """Return the elements that a thread allocates: a padded block whose channels are repeated, and outputs."""
    counts = _division(problem).counts
    return problem.features * problem.span(counts), problem.features * math.prod(counts)


def _thread_elements(problem: ConvProblem) -> int:
    padded, outputs = _runs_elements(problem)
    # there are two copies of a block while its channels are repeated
    repeated = padded if problem.features > problem.channels else 0
    return padded + repeated + outputs + view_cache_elements(_grad_weight_division(problem).steps)


class _Runs:
    """The runs of all blocks with the same layout, one block after the other."""

    def __init__(
        self, problem: ConvProblem, layout: Layout, workspace: Workspace, dtype: np.dtype[Any], width: int
    ) -> None:
        self._width = width
        self._repeats = problem.features // problem.channels
        padded, memory = workspace.arrays(*((count,) for count in _runs_elements(problem)), dtype=dtype)
        shape = (*layout.outputs, problem.features)
        self.memory: Array = memory[: math.prod(shape)].reshape(shape)
        """Memory for the outputs of a block, (n, *o, F)."""
        self._block = PaddedBlock(padded, layout.images, layout.windows, (problem.features,))
        self.view: Array = self._runs(layout.windows.view(self._block.array), len(layout.windows.axes))
        """The block of the input that was written, as runs: (n, *o, R, *K, X)."""
        rank = len(layout.windows.axes)
        self.sums: Array = self.memory.reshape(*self.view.shape[: rank + 1], -1)
        """The memory as runs, (n, *o, R, X)."""

    def write(self, block: Array, *, must_clear: bool) -> None:
        """Write a block of the input."""
        if self._repeats > 1:
            block = np.repeat(block, self._repeats, axis=-1)
        self._block.write(block, must_clear=must_clear)

    def _runs(self, view: Array, last: int) -> Array:
        """View adjacent windows (n, *o, *K, F) along the last axis as runs: (n, *o, R, *K, X)."""
        windows, features = view.shape[last], view.shape[-1]
        count = max(count for count in range(1, self._width + 1) if windows % count == 0)
        if count == 1:
            return view
        # the channels of a window continue where those of the window before it end
        shape = (*view.shape[:last], windows // count, *view.shape[last + 1 : -1], count * features)
        strides = (*view.strides[:last], view.strides[last] * count, *view.strides[last + 1 :])
        return as_strided(view, shape=shape, strides=strides, writeable=False)
