"""How a correlation is computed: by which of its algorithms, in which blocks, and what that costs.

All of it follows from shapes alone: what decides on the computation also predicts its cost. The time is predicted for
float64, whose blocks hold the fewest windows; the memory for float32, whose blocks hold the most.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnn_core.compute.blocks import BLOCK_BYTES, block_count, block_sizes, blocks
from cnn_core.compute.cost import MOVED_ELEMENT, STEP, Cost, Costs
from cnn_core.geometry import Windows

__all__ = ["CorrelationPlan", "WindowBlock", "correlation_costs"]

WindowBlock = tuple[tuple[slice, ...], tuple[slice, ...], Windows]
"""Slices of the output (N, *O), slices of the part of the input (N, *S) that its windows cover, and the windows over
that part alone."""

Division = tuple[tuple[int, ...], int, int]
"""What is divided into blocks, (N, *O), the bytes that each of its elements takes, and those that a block may take."""

MOST_DEPTHWISE_TAPS = 1024
FEWER_STEPS = 4
"""How many times fewer the steps tap by tap must be: each of them reads and writes more than a step of a fold."""

TAP_BLOCK_BYTES = BLOCK_BYTES // 4
"""Products, and the arrays that they are made of and added to, are to fit the cache together."""

LARGEST_BLOCK_BYTES = 16 * BLOCK_BYTES
SMALLEST_ITEMSIZE, LARGEST_ITEMSIZE = 4, 8
DEPTHWISE_PRODUCT, DEPTHWISE_LOOP = 20, 100
"""Work of an elementwise product and its sum, and of one of NumPy's loops over the channels, which are short where
there are few of them."""

GROUPS_OF_A_STEP = 10
"""Products of small matrices that take as long as a step in Python."""


@dataclass(frozen=True)
class CorrelationPlan:
    """The plan for operands of given shapes.

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

    @property
    def taps(self) -> int:
        """Taps of a window."""
        return math.prod(self.weight_shape[:-2])

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.weight_shape[-2] * self.groups

    @property
    def features(self) -> int:
        """Channels of the output."""
        return self.weight_shape[-1]

    @property
    def output_positions(self) -> tuple[int, ...]:
        """(N, *O)."""
        return (self.batch, *self.windows.output_sizes)

    @property
    def is_depthwise(self) -> bool:
        """Whether elementwise products tap by tap take the place of matrices with one column for each tap."""
        # a step for each tap pays only as long as there are few of them
        return self.groups > 1 and self.weight_shape[-2] == 1 and self.taps <= MOST_DEPTHWISE_TAPS

    @property
    def folds(self) -> bool:
        """Whether grad_input is made of patches that are folded back, and not tap by tap."""
        return not self.is_depthwise and FEWER_STEPS * self.tap_steps >= self.fold_steps

    @property
    def tap_steps(self) -> int:
        """Steps in Python tap by tap."""
        return block_count(*self._tap_division) * self.taps

    @property
    def fold_steps(self) -> int:
        """Pieces in which all patches are folded back."""
        sizes = block_sizes(*self._patch_division)[1:]
        pieces = math.prod(min(taps, size) for taps, size in zip(self.windows.kernel_sizes, sizes, strict=True))
        return self.patch_steps * pieces

    @property
    def patch_steps(self) -> int:
        """Blocks that patches are made in."""
        return block_count(*self._patch_division)

    @functools.cached_property
    def _tap_division(self) -> Division:
        """The arguments of ``blocks`` for going tap by tap."""
        return self.output_positions, self._bytes_of_taps, TAP_BLOCK_BYTES

    @functools.cached_property
    def _patch_division(self) -> Division:
        """The arguments of ``blocks`` for making patches."""
        # of a window: its patch, or what it takes tap by tap
        bytes_of_patch = max(self.itemsize * self.taps * self.channels, self._bytes_of_taps)
        # every block reads the whole weight: with a large one, blocks of more windows than fit the cache read less
        weight_bytes = self.itemsize * math.prod(self.weight_shape)
        limit = min(max(BLOCK_BYTES, weight_bytes // 4), LARGEST_BLOCK_BYTES)
        return self.output_positions, bytes_of_patch, limit

    @functools.cached_property
    def _bytes_of_taps(self) -> int:
        """Workspace of a window tap by tap: its products, or its part of the padded input."""
        # a block holds what its windows span; padding beyond the last window is never made
        spans = math.prod((axis.output_size - 1) * axis.stride + axis.extent for axis in self.windows.axes)
        part = -(-self.channels * spans // math.prod(self.windows.output_sizes))
        return self.itemsize * max(self.channels, self.features, part)

    @property
    def workspace_elements(self) -> int:
        """Upper bound of the elements that are held at one time beside operands and results."""
        products = 4 * max(self.channels, self.features)
        by_patch = self._block_elements(self._patch_division, 2 * self.taps * self.channels + products)
        by_tap = self._block_elements(self._tap_division, products)
        # of the weight: its matrices, the sum of its gradient, and what a block adds to that
        return max(by_patch, by_tap) + 3 * math.prod(self.weight_shape)

    @property
    def padded_elements(self) -> int:
        """Elements of the parts of the input that are copied with their padding, in all blocks together."""
        if not any(before or after for before, after in self.windows.padding):
            return 0
        division = self._tap_division if self.is_depthwise else self._patch_division
        return block_count(*division) * self._part_elements(block_sizes(*division))

    def _block_elements(self, division: Division, elements_per_window: int) -> int:
        """Return the elements of a block, with its part of the input twice: one is held while the next one is made."""
        sizes = block_sizes(*division)
        return 2 * self._part_elements(sizes) + elements_per_window * math.prod(sizes)

    def _part_elements(self, sizes: Sequence[int]) -> int:
        """Return the elements of the part of the padded input that the windows of a block span."""
        images, *windows = sizes
        spans = ((size - 1) * axis.stride + axis.extent for size, axis in zip(windows, self.windows.axes, strict=True))
        return images * self.channels * math.prod(spans)

    def tap_blocks(self) -> Iterator[WindowBlock]:
        """Yield the blocks for going tap by tap."""
        return self._blocks(self._tap_division)

    def patch_blocks(self) -> Iterator[WindowBlock]:
        """Yield the blocks for making patches."""
        return self._blocks(self._patch_division)

    def _blocks(self, division: Division) -> Iterator[WindowBlock]:
        for block in blocks(*division):
            covered, part = self.windows.block(block[1:])
            yield block, (block[0], *covered), part


def correlation_costs(batch: int, channels: int, weight_shape: tuple[int, ...], windows: Windows) -> Costs:
    """Return what a correlation costs, and what each of its gradients costs.

    Parameters
    ----------
    batch, channels : int
    weight_shape : tuple of int
        (*K, C/G, F).
    windows : Windows
    """
    plan = CorrelationPlan(batch, weight_shape, channels // weight_shape[-2], windows, LARGEST_ITEMSIZE)
    positions, weights = math.prod(plan.output_positions), math.prod(weight_shape)
    work = positions * weights
    if plan.is_depthwise:
        loop = max(channels, plan.features // channels)
        work += (DEPTHWISE_PRODUCT + DEPTHWISE_LOOP // loop) * positions * weights
        steps = back_steps = plan.tap_steps
    else:
        work += MOVED_ELEMENT * positions * plan.taps * channels
        steps = plan.patch_steps * (1 + plan.groups // GROUPS_OF_A_STEP)
        back_steps = plan.fold_steps if plan.folds else plan.tap_steps
    # where taps are far apart or windows overlap much, blocks copy what they span many times over
    spans = MOVED_ELEMENT * plan.padded_elements
    # blocks of small elements hold the most of them
    workspace = dataclasses.replace(plan, itemsize=SMALLEST_ITEMSIZE).workspace_elements
    output = Cost(work + spans + STEP * steps, workspace)
    backward = {
        "input": Cost(work + STEP * back_steps, workspace),
        "weight": output,
        "bias": Cost(MOVED_ELEMENT * positions * plan.features, 2 * plan.features),
    }
    return Costs(output, backward)
