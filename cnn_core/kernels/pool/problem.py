"""A pooling problem: its sizes, its division into blocks, and the computation of the blocks by a kernel."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import AnyWindows, Windows
from ...runtime.blocks import block_sizes
from ...runtime.threads import run_blocks, thread_count
from ...runtime.workspace import Workspace
from ..cost import STEP, Cost, Costs
from ..passes import checked, converted, copy
from .block import PoolBlock
from .kernel import PoolKernel

__all__ = ["PoolProblem", "pool_backward", "pool_forward"]

Array = NDArray[Any]

MAX_CACHED_PROBLEMS, MAX_CACHED_BLOCKS = 256, 64
"""The blocks of a problem are cached for the next call unless there are more than this; so many problems at most."""

BLOCK_BYTES = 2**21
"""Size of a block: of its input, or of its output if that is larger. Twice the second-level cache, since pooling takes
many short NumPy calls, and threads wait for the GIL between them."""

MAX_PIECES = 256
"""Poolings of more pieces are not divided along a pooled axis, as each block would iterate over all of the pieces."""

MIN_ROWS_PER_SHARED_ROW = 4
"""A block has at least this many times the windows along the first axis that the block before it computes too."""


@dataclass(frozen=True)
class PoolProblem:
    """The sizes of a pooling: an input (*outer, *S, *inner), of which the spatial axes are pooled.

    Parameters
    ----------
    outer : tuple of int
        (N,) channels-last, (N, C) channels-first.
    inner : int
        Elements at one position: C channels-last, 1 channels-first.
    windows : AnyWindows
    itemsize : int
        Bytes of an element of the type that is computed in.
    """

    outer: tuple[int, ...]
    inner: int
    windows: AnyWindows
    itemsize: int

    @property
    def _row_bytes(self) -> int:
        """Bytes of the input, or of the output if these are more, for one element along the first spatial axis."""
        rest = max(math.prod(self.windows.sizes[1:]), math.prod(self.windows.output_sizes[1:]))
        return max(1, rest * self.inner * self.itemsize)

    @property
    def _pieces(self) -> int:
        """Interpreter iterations of a block, one for each piece of each axis."""
        return sum(axis.piece_count for axis in self.windows.axes)

    @property
    def shared_windows(self) -> int:
        """Windows along the first spatial axis that reach beyond the start of the one after them."""
        if not isinstance(self.windows, Windows):
            return 0
        axis = self.windows.axes[0]
        return (axis.extent - 1) // axis.stride

    def block_counts(self) -> list[int]:
        """Return how many elements of (*outer, O) a block has along each axis."""
        axis = self.windows.axes[0]
        if self._pieces > MAX_PIECES and not isinstance(self.windows, Windows):
            return [*(max(1, size) for size in self.outer), axis.output_size]
        if not isinstance(self.windows, Windows) or axis.goes_by_window:  # only the axes before it are divided
            whole = self._row_bytes * max(axis.size, axis.output_size)
            return [*block_sizes(self.outer, whole, BLOCK_BYTES), axis.output_size]
        row = self._row_bytes * max(1, -(-axis.size // axis.output_size))
        counts = block_sizes((*self.outer, axis.output_size), row, BLOCK_BYTES)
        least = MIN_ROWS_PER_SHARED_ROW * self.shared_windows
        if counts[-1] < min(least, axis.output_size):
            return block_sizes((*self.outer, axis.output_size), row, row * least)
        return counts

    @property
    def planes(self) -> int:
        """Planes that are pooled: images times channels."""
        return math.prod(self.outer) * self.inner

    def costs(self, kernel: PoolKernel) -> Costs:
        """Return the costs of the pooling if a kernel computes it in blocks on all threads."""
        *images, along = self.block_counts()
        first = self.windows.axes[0]
        count = math.prod(-(-size // of_block) for size, of_block in zip(self.outer, images, strict=True))
        count *= -(-first.output_size // along)
        # the second block is the largest: it also computes windows of the first
        second = slice(along, min(2 * along, first.output_size))
        is_divided = second.start < second.stop
        largest = self._along(second.start, second.stop, self.shared_windows)[2] if is_divided else self.windows
        whole = kernel.costs(self.planes, self.windows)
        block = kernel.costs(math.prod(images) * self.inner, largest)
        threads = thread_count(count)
        shared = kernel.shared_elements(self.planes, self.windows)

        def in_blocks(of_all: Cost, of_block: Cost) -> Cost:
            work = of_all.work + STEP * count * min(self._pieces, MAX_PIECES)
            return Cost(work, shared + threads * of_block.workspace_elements)

        return Costs(
            in_blocks(whole.forward, block.forward),
            {name: in_blocks(cost, block.backward[name]) for name, cost in whole.backward.items()},
        )

    def blocks(self, shared_windows: int) -> Sequence[PoolBlock]:
        """Return the blocks; each also has the last windows along the first axis of the block before it."""
        first = self.windows.axes[0]
        counts = self.block_counts()
        along = [
            self._along(start, min(start + counts[-1], first.output_size), shared_windows)
            for start in range(0, first.output_size, counts[-1])
        ]
        images = itertools.product(
            *(
                [slice(start, min(start + count, size)) for start in range(0, size, count)]
                for size, count in zip(self.outer, counts[:-1], strict=True)
            )
        )
        return [
            PoolBlock((*ahead, outputs), (*ahead, inputs), owned, windows)
            for ahead in checked(images)
            for outputs, inputs, windows, owned in along
        ]

    def _along(self, start: int, stop: int, shared: int) -> tuple[slice, slice, AnyWindows, slice]:
        first = self.windows.axes[0]
        if start == 0 and stop == first.output_size:
            return slice(0, stop), slice(0, first.size), self.windows, slice(0, first.size)
        assert isinstance(self.windows, Windows)  # noqa: S101  (others are not divided)
        axis = self.windows.axes[0]
        from_window = max(0, start - shared)
        inputs, part = axis.block(from_window, stop)
        low = 0 if start == 0 else min(max(start * axis.stride - axis.before, 0), axis.size)
        high = axis.size if stop == axis.output_size else min(max(stop * axis.stride - axis.before, 0), axis.size)
        return slice(from_window, stop), inputs, Windows((part, *self.windows.axes[1:])), slice(low, high)


@functools.lru_cache(maxsize=MAX_CACHED_PROBLEMS)
def _cached_blocks(problem: PoolProblem, shared_windows: int) -> Sequence[PoolBlock] | None:
    blocks = problem.blocks(shared_windows)
    return blocks if len(blocks) <= MAX_CACHED_BLOCKS else None


def _blocks(problem: PoolProblem, shared_windows: int) -> Sequence[PoolBlock]:
    return _cached_blocks(problem, shared_windows) or problem.blocks(shared_windows)


def pool_forward(problem: PoolProblem, kernel: PoolKernel, input: Array, results: Sequence[Array]) -> None:
    """Write the results of all windows.

    Parameters
    ----------
    problem : PoolProblem
    kernel : PoolKernel
    input : ndarray, shape (*outer, *S, *inner)
    results : sequence of ndarray, each of shape (*outer, *O, *inner)
        Floating ones may be of another type than is computed in.
    """

    def make_worker(workspace: Workspace) -> Callable[[PoolBlock], None]:
        def compute(block: PoolBlock) -> None:
            targets = [result[block.outputs] for result in results]
            written = [target if target.dtype.kind == "i" else _in_type(target, kernel.dtype) for target in targets]
            kernel.forward(workspace, converted(input[block.inputs], kernel.dtype), block, written)
            _copy_back(written, targets)

        return compute

    run_blocks(_blocks(problem, 0), make_worker)


def pool_backward(problem: PoolProblem, kernel: PoolKernel, input: Array, gradient: Array, grad_input: Array) -> None:
    """Write the gradient with respect to the input.

    Parameters
    ----------
    problem : PoolProblem
    kernel : PoolKernel
    input : ndarray, shape (*outer, *S, *inner)
    gradient : ndarray, shape (*outer, *O, *inner)
    grad_input : ndarray, shape of the input
    """

    def make_worker(workspace: Workspace) -> Callable[[PoolBlock], None]:
        def compute(block: PoolBlock) -> None:
            *images, _ = block.inputs
            target = grad_input[(*images, block.owned)]
            written = _in_type(target, kernel.dtype)
            of_windows = converted(gradient[block.outputs], kernel.dtype)
            kernel.backward(workspace, of_windows, input[block.inputs], block, written)
            _copy_back([written], [target])

        return compute

    run_blocks(_blocks(problem, problem.shared_windows), make_worker)


def _in_type(target: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array of the shape of the target and of this type: the target itself if it is of this type."""
    return target if target.dtype == dtype else np.empty(target.shape, dtype=dtype)


def _copy_back(written: Sequence[Array], targets: Sequence[Array]) -> None:
    for array, target in zip(written, targets, strict=True):
        if array is not target:
            copy(target, array)
