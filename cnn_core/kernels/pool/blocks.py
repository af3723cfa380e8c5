"""Division of a pooling into blocks that fit the cache, and their computation side by side.

Windows do not reach across images, nor across channels. Along the first spatial axis windows of different blocks may
overlap. A gradient is then written by one block alone: a block computes all windows that reach into the elements that
it writes, though others compute some of them too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cnn_core.geometry import AnyWindows, Windows
from cnn_core.kernels.cost import STEP, Cost, Costs
from cnn_core.kernels.pool.scatter import Routes, routes_by_tap
from cnn_core.runtime.blocks import block_sizes
from cnn_core.runtime.threads import get_threads, run_blocks
from cnn_core.runtime.workspace import Workspace, view_cache_elements

__all__ = ["PoolBlock", "PoolSizes", "pool_backward", "pool_forward", "write_rows"]

Array = NDArray[Any]

MAX_KEPT_PROBLEMS, MAX_KEPT_BLOCKS = 256, 64

BLOCK_BYTES = 2**21
"""Of the input, or of the output if that is larger: pooling takes many short steps, and threads wait for each other
between them, so that blocks are larger than what a core's second-level cache holds."""

MAX_PIECES = 256

MIN_ROWS = 4
"""How many times as many windows a block has along the first axis as it shares with the block before."""


@dataclass(frozen=True, eq=False)
class PoolLayout:
    """How windows lie in a block: one object for all blocks in which they lie alike, which no other one equals.

    Parameters
    ----------
    windows : AnyWindows
        Over the block's part of the input alone.
    written : slice
        Of the elements along the first spatial axis of the part, those whose gradients the block writes; they may begin
        before the part, or end after it.
    """

    windows: AnyWindows
    written: slice

    @property
    def rows(self) -> int:
        """Elements along the first spatial axis whose gradients the block writes."""
        return int(self.written.stop - self.written.start)

    @functools.cached_property
    def routes(self) -> Routes | None:
        """Routes to these elements, of ordinary windows; None if there are others, or so few that taps are more."""
        return routes_by_tap(self.windows.axes[0], self.written.start, self.written.stop)


@dataclass(frozen=True)
class PoolBlock:
    """A block of windows.

    Parameters
    ----------
    outputs, inputs : tuple of slice
        The windows, and the part of the input that they cover: of the axes before the spatial ones, and of the first of
        these.
    written : slice
        Elements along the first spatial axis whose gradients this block writes.
    layout : PoolLayout
    """

    outputs: tuple[slice, ...]
    inputs: tuple[slice, ...]
    written: slice
    layout: PoolLayout

    @property
    def windows(self) -> AnyWindows:
        """The windows over the part of the input alone."""
        return self.layout.windows


Reduction = Callable[[Array, PoolBlock, Sequence[Array]], None]
Route = Callable[[Array, Array, PoolBlock, Array], None]


@dataclass(frozen=True)
class PoolSizes:
    """The sizes of a pooling: an input (*outer, *S, *inner), of which the spatial axes are pooled.

    Parameters
    ----------
    outer : tuple of int
        (N,) channels-last, (N, C) channels-first.
    inner : int
        Elements at one position: C channels-last, 1 channels-first.
    windows : AnyWindows
    itemsize : int
    held : int
        How many times as much as the input, or the output, is held where that is more than twice as much.
    """

    outer: tuple[int, ...]
    inner: int
    windows: AnyWindows
    itemsize: int
    held: int = 1

    @property
    def _row_bytes(self) -> int:
        """Bytes of the input, or of the output if these are more, for one element along the first spatial axis."""
        rest = max(math.prod(self.windows.sizes[1:]), math.prod(self.windows.output_sizes[1:]))
        return max(1, rest * self.inner * self.itemsize * self.held)

    @property
    def _pieces(self) -> int:
        """Steps in Python of a block, one for each piece of each axis."""
        return sum(axis.piece_count for axis in self.windows.axes)

    @property
    def is_whole(self) -> bool:
        """Whether no block divides the first spatial axis."""
        return not isinstance(self.windows, Windows) or self.windows.axes[0].goes_by_window

    @property
    def shared(self) -> int:
        """Windows along the first spatial axis that reach beyond the start of the one after them."""
        if not isinstance(self.windows, Windows):
            return 0
        axis = self.windows.axes[0]
        return (axis.extent - 1) // axis.stride

    def block_counts(self) -> list[int]:
        """Return how many elements of (*outer, O) a block has along each axis."""
        axis = self.windows.axes[0]
        if self._pieces > MAX_PIECES and not isinstance(self.windows, Windows):
            # each block goes through all of them
            return [*(max(1, size) for size in self.outer), axis.output_size]
        if self.is_whole:
            whole = self._row_bytes * max(axis.size, axis.output_size)
            return [*block_sizes(self.outer, whole, BLOCK_BYTES), axis.output_size]
        row = self._row_bytes * max(1, -(-axis.size // axis.output_size))
        counts = block_sizes((*self.outer, axis.output_size), row, BLOCK_BYTES)
        least = MIN_ROWS * self.shared
        if counts[-1] < min(least, axis.output_size):
            return block_sizes((*self.outer, axis.output_size), row, row * least)
        return counts

    @property
    def planes(self) -> int:
        """Planes that are pooled: images times channels."""
        return math.prod(self.outer) * self.inner

    def in_blocks(self, costs: Callable[[int, AnyWindows], Costs], shared_elements: int = 0) -> Costs:
        """Return what a pooling costs whose blocks are computed side by side.

        Parameters
        ----------
        costs : callable
            Returns what as many planes cost at one time with certain windows.
        shared_elements : int
            Further elements that are held beside the blocks.
        """
        *images, along = self.block_counts()
        first = self.windows.axes[0]
        steps = math.prod(-(-size // count) for size, count in zip(self.outer, images, strict=True))
        steps *= -(-first.output_size // along)
        second = slice(along, min(2 * along, first.output_size))
        is_divided = second.start < second.stop
        largest = self._along(second.start, second.stop, self.shared)[2] if is_divided else self.windows
        whole = costs(self.planes, self.windows)
        block = costs(math.prod(images) * self.inner, largest)
        threads = max(1, min(get_threads(), steps))

        def blocked(all_planes: Cost, of_block: Cost) -> Cost:
            work = all_planes.work + STEP * steps * min(self._pieces, MAX_PIECES)
            return Cost(work, shared_elements + threads * (of_block.workspace_elements + view_cache_elements(steps)))

        return Costs(
            blocked(whole.forward, block.forward),
            {name: blocked(cost, block.backward[name]) for name, cost in whole.backward.items()},
        )

    def pool_blocks(self, shared: int) -> Sequence[PoolBlock]:
        """Return the blocks; each computes some windows too that the block before it has along the first axis."""
        first = self.windows.axes[0]
        counts = self.block_counts()
        along = [
            self._along(start, min(start + counts[-1], first.output_size), shared)
            for start in range(0, first.output_size, counts[-1])
        ]
        layouts: dict[tuple[object, ...], PoolLayout] = {}
        blocks = []
        for images in _grid(self.outer, counts[:-1]):
            for outputs, inputs, windows, written in along:
                relative = slice(written.start - inputs.start, written.stop - inputs.start)
                shape = (part.stop - part.start for part in images)
                key = (*shape, windows, relative.start, relative.stop)
                layout = layouts.setdefault(key, PoolLayout(windows, relative))
                blocks.append(PoolBlock((*images, outputs), (*images, inputs), written, layout))
        return blocks

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


@functools.lru_cache(maxsize=MAX_KEPT_PROBLEMS)
def _kept_blocks(sizes: PoolSizes, shared: int) -> Sequence[PoolBlock] | None:
    blocks = sizes.pool_blocks(shared)
    return blocks if len(blocks) <= MAX_KEPT_BLOCKS else None


def _pool_blocks(sizes: PoolSizes, shared: int) -> Sequence[PoolBlock]:
    """Return the blocks of a pooling, which are kept unless they are many."""
    return _kept_blocks(sizes, shared) or sizes.pool_blocks(shared)


def pool_forward(
    sizes: PoolSizes, input: Array, make_reduction: Callable[[Workspace], Reduction], results: Sequence[Array]
) -> None:
    """Write the results of all windows.

    Parameters
    ----------
    sizes : PoolSizes
    input : ndarray, shape (*outer, *S, *inner)
    make_reduction : callable
        Called by each thread with its workspace. What it returns takes a part of the input and its block, and writes
        parts of the results.
    results : sequence of ndarray, each of shape (*outer, *O, *inner)
    """

    def make_worker(workspace: Workspace) -> Callable[[PoolBlock], None]:
        reduce = make_reduction(workspace)

        def compute(block: PoolBlock) -> None:
            reduce(input[block.inputs], block, [result[block.outputs] for result in results])

        return compute

    run_blocks(_pool_blocks(sizes, 0), make_worker)


def pool_backward(
    sizes: PoolSizes, input: Array, gradient: Array, make_route: Callable[[Workspace], Route], grad_input: Array
) -> None:
    """Write the gradient with respect to the input.

    Parameters
    ----------
    sizes : PoolSizes
    input : ndarray, shape (*outer, *S, *inner)
    gradient : ndarray, shape (*outer, *O, *inner)
    make_route : callable
        Called by each thread with its workspace. What it returns takes parts of the gradient and of the input, and
        their block, and writes the rows of the gradient of the input that are the block's.
    grad_input : ndarray, shape of the input
    """

    def make_worker(workspace: Workspace) -> Callable[[PoolBlock], None]:
        route = make_route(workspace)

        def compute(block: PoolBlock) -> None:
            *images, _ = block.inputs
            route(gradient[block.outputs], input[block.inputs], block, grad_input[(*images, block.written)])

        return compute

    run_blocks(_pool_blocks(sizes, sizes.shared), make_worker)


def write_rows(routed: Array, block: PoolBlock, axis: int, target: Array) -> None:
    """Write the rows of a block's gradient that are its own, given the gradient of its whole part of the input.

    Parameters
    ----------
    routed : ndarray
        Of the shape of the part.
    block : PoolBlock
    axis : int
        The first spatial one.
    target : ndarray
        The rows that the block writes.
    """
    written, ahead = block.layout.written, (slice(None),) * axis
    low = min(max(written.start, 0), written.stop)
    high = max(low, min(written.stop, routed.shape[axis]))
    # what no window reaches
    for rest in (slice(0, low - written.start), slice(high - written.start, block.layout.rows)):
        if rest.start < rest.stop:
            target[(*ahead, rest)] = 0
    if low < high:
        target[(*ahead, slice(low - written.start, high - written.start))] = routed[(*ahead, slice(low, high))]


def _grid(shape: Sequence[int], counts: Sequence[int]) -> list[tuple[slice, ...]]:
    grid: list[tuple[slice, ...]] = [()]
    for size, count in zip(shape, counts, strict=True):
        grid = [(*one, slice(start, min(start + count, size))) for one in grid for start in range(0, size, count)]
    return grid
