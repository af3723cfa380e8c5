"""The descriptor of a convolution problem: its sizes, and how its output is divided into blocks."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from ...geometry import AxisWindows, Windows
from ...runtime.blocks import block_count, block_sizes, blocks, elements_of_least_blocks
from ..passes import checked, contiguous

__all__ = [
    "ConvProblem",
    "Division",
    "Layout",
    "WindowBlock",
    "cached_per_problem",
    "conv_problem",
    "transposed_weight",
    "window_blocks",
]


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of windows in a block: one object for all blocks with the same layout, which no other one equals.

    Parameters
    ----------
    images : int
    windows : Windows
        Over the block's part of the input alone.
    """

    images: int
    windows: Windows

    @functools.cached_property
    def outputs(self) -> tuple[int, ...]:
        """Windows along each axis, after the images."""
        return (self.images, *self.windows.output_sizes)


@dataclass(frozen=True, eq=False)
class WindowBlock:
    """A block of windows.

    Parameters
    ----------
    outputs, inputs : tuple of slice
        The windows, (N, *O), and the part of the input that they cover, (N, *S).
    layout : Layout
    """

    outputs: tuple[slice, ...]
    inputs: tuple[slice, ...]
    layout: Layout


@dataclass(frozen=True, eq=False)
class Division:
    """Division of positions (N, *O) into blocks: the bytes that a position takes, and those that a block may take.

    Along the last axis, blocks begin at multiples of a number.
    """

    positions: tuple[int, ...]
    bytes_per_position: int
    limit: int
    multiple: int = 1

    @functools.cached_property
    def counts(self) -> list[int]:
        """Positions of a block along each axis; the last one may have fewer."""
        return block_sizes(self.positions, self.bytes_per_position, self.limit, self.multiple)

    @functools.cached_property
    def steps(self) -> int:
        """Number of blocks."""
        return block_count(self.positions, self.bytes_per_position, self.limit, self.multiple)

    def blocks(self) -> Iterator[tuple[slice, ...]]:
        """Yield slices of the positions of each block."""
        return blocks(self.positions, self.bytes_per_position, self.limit, self.multiple)


Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

MAX_CACHED_BLOCKS = 64
MAX_CACHED_PROBLEMS = 256


def cached_per_problem(
    function: Callable[[ConvProblem, *Arguments], Result],
) -> Callable[[ConvProblem, *Arguments], Result]:
    """Let a function of a problem compute once for each object; the objects are cached by ``conv_problem``."""

    @functools.wraps(function)
    def wrapped(problem: ConvProblem, *arguments: *Arguments) -> Result:
        cache, key = problem.cache, (function, *arguments)
        found = cache.get(key, cache)  # which no function returns; None may be a result
        if found is cache:
            found = cache[key] = function(problem, *arguments)
        return found  # type: ignore[no-any-return]

    return wrapped


@dataclass(frozen=True)
class ConvProblem:
    """A cross-correlation of an input (N, *S, C) with a weight (*K, C/G, F) to an output (N, *O, F).

    Parameters
    ----------
    batch : int
    weight_shape : tuple of int
        (*K, C/G, F).
    groups : int
    windows : Windows
    itemsize : int
        Bytes of an element of the type that is computed in.
    """

    batch: int
    weight_shape: tuple[int, ...]
    groups: int
    windows: Windows
    itemsize: int

    @functools.cached_property
    def cache(self) -> dict[Any, Any]:
        """Results of functions of this problem."""
        return {}

    @functools.cached_property
    def one_image(self) -> ConvProblem:
        """The same for a batch of one image."""
        return conv_problem(1, self.weight_shape, self.groups, self.windows, self.itemsize)

    @functools.cached_property
    def taps(self) -> int:
        """Taps of a window."""
        return math.prod(self.weight_shape[:-2])

    @functools.cached_property
    def group_channels(self) -> int:
        """Channels of the input in one group."""
        return self.weight_shape[-2]

    @functools.cached_property
    def channels(self) -> int:
        """Channels of the input."""
        return self.weight_shape[-2] * self.groups

    @functools.cached_property
    def features(self) -> int:
        """Channels of the output."""
        return self.weight_shape[-1]

    @functools.cached_property
    def weights(self) -> int:
        """Elements of the weight."""
        return math.prod(self.weight_shape)

    @functools.cached_property
    def products(self) -> int:
        """Multiplications: an element of the weight for each position."""
        return math.prod(self.positions) * self.weights

    @functools.cached_property
    def positions(self) -> tuple[int, ...]:
        """(N, *O)."""
        return (self.batch, *self.windows.output_sizes)

    @functools.cached_property
    def spanned_per_position(self) -> int:
        """Elements of the padded input that the windows span, for each window."""
        outputs = self.windows.output_sizes
        return -(-self.channels * self.span((1, *outputs)) // math.prod(outputs))

    def span(self, counts: Sequence[int]) -> int:
        """Return how many elements of the padded input, of one channel, so many images and windows span."""
        images, *windows = counts
        axes = zip(windows, self.windows.axes, strict=True)
        return images * math.prod((count - 1) * axis.stride + axis.extent for count, axis in axes)

    def in_blocks_of(self, rows: int, division: Division) -> Division:
        """Return a division of blocks with at least so many positions, unless their windows span more than patches."""
        if self.spanned_per_position > self.taps * self.channels:
            return division
        least = division.bytes_per_position * elements_of_least_blocks(division.positions, rows)
        return dataclasses.replace(division, limit=max(division.limit, least))

    def copied_elements(self, division: Division) -> int:
        """Return the total number of elements of the padded blocks of a division.

        Where taps are far apart or windows overlap much, blocks copy the elements that they span many times.
        """
        return division.steps * self.channels * self.span(division.counts)

    def window_blocks(self, division: Division) -> list[WindowBlock]:
        """Return the blocks of a division; those with the same layout come one after the other."""
        return self.cached_blocks(division, division.blocks)

    def cached_blocks(self, key: object, outputs: Callable[[], Iterable[tuple[slice, ...]]]) -> list[WindowBlock]:
        """Return cached blocks of windows, given slices of (N, *O) that this problem and a key determine."""
        if key in self.cache:
            return self.cache[key]  # type: ignore[no-any-return]
        blocks_of_windows = window_blocks(self.windows, outputs())
        if len(blocks_of_windows) <= MAX_CACHED_BLOCKS:
            self.cache[key] = blocks_of_windows
        return blocks_of_windows


conv_problem = functools.lru_cache(maxsize=MAX_CACHED_PROBLEMS)(ConvProblem)
"""Returns the same object for the same arguments, which are those of ``ConvProblem``."""


def window_blocks(windows: Windows, outputs: Iterable[tuple[slice, ...]]) -> list[WindowBlock]:
    """Return blocks of windows, given slices of (N, *O); those with the same layout come one after the other."""
    along: list[dict[tuple[int, int], tuple[slice, AxisWindows]]] = [{} for _ in windows.axes]
    layouts: dict[tuple[int, tuple[AxisWindows, ...]], tuple[Layout, list[WindowBlock]]] = {}
    for block in checked(outputs):
        inputs, axes = [block[0]], []
        for axis, chosen, cache in zip(windows.axes, block[1:], along, strict=True):
            key = (chosen.start, chosen.stop)
            if key not in cache:
                cache[key] = axis.block(*key)
            covered, part = cache[key]
            inputs.append(covered)
            axes.append(part)
        layout_key = (block[0].stop - block[0].start, tuple(axes))
        if layout_key not in layouts:
            layouts[layout_key] = (Layout(layout_key[0], Windows(layout_key[1])), [])
        shared, listed = layouts[layout_key]
        listed.append(WindowBlock(block, tuple(inputs), shared))
    return [block for _, listed in layouts.values() for block in listed]


def transposed_weight(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """Return a weight (*K, C/G, F) flipped along the kernel and with its channels exchanged: (*K, F/G, C)."""
    *kernel, group_channels, features = weight.shape
    flipped = np.flip(weight, axis=tuple(range(len(kernel))))
    by_group = flipped.reshape(*kernel, group_channels, groups, features // groups)
    exchanged = np.moveaxis(by_group, -1, -3).swapaxes(-1, -2)  # (*K, F/G, G, C/G)
    return contiguous(exchanged).reshape(*kernel, features // groups, group_channels * groups)
