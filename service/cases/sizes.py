"""Drawing of the shapes of a layer's operands: by the role of each axis, within what a request gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_core import Fold, MaxUnpool
from cnn_core.geometry import resolve_windows
from cnn_core.geometry.padding import padding_of_axis
from cnn_core.operands import layer_shape
from cnn_core.ops.base import Op
from cnn_core.ops.conv_base import Convolution
from cnn_core.ops.conv_transpose import ConvTranspose
from cnn_core.parameters import DataFormat, one_per_axis

from ..operations.operation import CatalogueEntry
from ..problems import Finding
from .streams import Draws
from .unfit import Unfit

__all__ = ["Range", "Shapes", "draw_shapes", "ranks_of", "roles_of"]

Range = tuple[int, int]
Shapes = Mapping[str, Sequence[Range | None] | None]
"""What a request says of the shapes: for an axis the sizes from low to high, or None; for an operand None if it is left
out."""

BATCHES = CHANNELS = GROUP_CHANNELS = (1, 3)
LARGEST_KERNEL = {1: 5, 2: 4, 3: 3}
LARGEST_SCATTERED = {1: 6, 2: 4, 3: 3}
SPAN = {1: 9, 2: 6, 3: 3}
"""Sizes by the number of spatial axes: of a kernel, of the input of an op that enlarges it, and how much larger than a
window an input may be."""

PRESENT = (True, True, True, False)
"""Whether an operand is there that a layer can do without."""

PER_CHANNEL = ("weight_scale", "weight_zero_point")
"""Operands that have one value for all output channels or one for each."""


def ranks_of(operand: str, axes: int, *, is_folded: bool) -> set[int]:
    """Return the numbers of spatial axes that an operand with so many axes is for; none if it never has so many."""
    if operand == "bias" or operand in PER_CHANNEL:
        return {1, 2, 3} if axes in ((1,) if operand == "bias" else (0, 1)) else set()
    if operand == "input" and is_folded:
        return {1, 2, 3} if axes == 3 else set()
    if operand in ("input", "weight", "indices"):
        return {1, 2, 3} & {axes - 2}
    return {1, 2, 3} if axes == 0 else set()


def roles_of(op: Op, operand: str, rank: int) -> tuple[str, ...]:
    """Return what each axis of an operand is, in the layout of an op."""
    layout = next(each.layout for each in op.operands if each.name == operand)
    roles: list[str] = []
    for axis in layout.axes(op.data_format):
        roles += [f"{axis[1:]} axis {number}" for number in range(rank)] if axis.startswith("*") else [axis]
    return tuple(roles)


@dataclass(frozen=True)
class _Sizes:
    """The ranges of the sizes of a layer by role, and the draws that choose within them."""

    draws: Draws
    ranges: Mapping[str, Range]

    def draw(self, role: str, otherwise: Range) -> int:
        return self.draws.between(*self.ranges.get(role, otherwise))

    def draw_at_least(self, smallest: int, role: str, span: int) -> int:
        """Draw a size that is not too small, unless all are that the request allows."""
        low, high = self.ranges.get(role, (smallest, smallest + span))
        return self.draws.between(max(low, smallest) if smallest <= high else low, high)

    def multiple(self, role: str, factor: int, otherwise: Range, within: Range | None = None) -> int:
        """Draw how many times a factor a size is; ``within`` is a range of that number itself, if there is one."""
        low, high = otherwise if within is None else within
        if role in self.ranges:
            wanted = self.ranges[role]
            multiples = (-(-wanted[0] // factor), wanted[1] // factor)
            low, high = multiples if within is None else (max(low, multiples[0]), min(high, multiples[1]))
        if low > high or low < 1:
            raise Unfit(
                Finding.of(
                    "/shapes",
                    f"no size of {role} is a multiple of {factor} and fits the other shapes",
                    got="shapes or ranges without one",
                    expected=f"a size that {factor} divides (groups, or the taps of a window)",
                )
            )
        return self.draws.between(low, high)


def draw_shapes(draws: Draws, entry: CatalogueEntry, op: Op, rank: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Draw the shapes of the operands of an op.

    Raises
    ------
    Unfit
        If no sizes satisfy what the request says.
    """
    sizes = _Sizes(draws, _ranges(op, rank, shapes))
    batch = sizes.draw("N", BATCHES)
    drawn = _draw_main(sizes, op, rank, batch)
    for operand in entry.operands:
        if operand.name in drawn:
            continue
        given = shapes.get(operand.name, ())
        if operand.optional and (given is None or (operand.name not in shapes and not draws.choose(PRESENT))):
            continue
        drawn[operand.name] = _secondary_shape(draws, op, operand.name, shapes, drawn)
    return {operand.name: drawn[operand.name] for operand in entry.operands if operand.name in drawn}


def _secondary_shape(
    draws: Draws, op: Op, name: str, shapes: Shapes, drawn: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    if name == "indices":
        return drawn["input"]
    if name not in ("bias", *PER_CHANNEL):
        return ()
    first = op.data_format == "channels_first"
    features = drawn["weight"][0 if first else -1]
    if name in PER_CHANNEL:
        given = shapes.get(name)
        return (features,) if (draws.choose((False, True)) if given is None else len(given) == 1) else ()
    if isinstance(op, ConvTranspose):
        return (drawn["weight"][1 if first else -2] * op.groups,)
    return (features,)


def _ranges(op: Op, rank: int, shapes: Shapes) -> dict[str, Range]:
    """Return the range of each role's size that all operands allow."""
    ranges: dict[str, Range] = {}
    for operand, axes in shapes.items():
        for role, given in zip(roles_of(op, operand, rank), axes or (), strict=False):
            if given is None:
                continue
            low, high = ranges.get(role, given)
            ranges[role] = low, high = max(low, given[0]), min(high, given[1])
            if low > high:
                raise Unfit(
                    Finding.of(
                        f"/shapes/{operand}",
                        f"no size of {role} fits all the shapes",
                        got=f"{given[0]} to {given[1]}" if given[0] < given[1] else str(given[0]),
                        expected="a size that the other operands have too, or null to let it follow from theirs",
                    )
                )
    return ranges


def _draw_main(sizes: _Sizes, op: Op, rank: int, batch: int) -> dict[str, tuple[int, ...]]:
    """Draw the shapes of the input and the weight."""
    if isinstance(op, Convolution):
        return _draw_convolution(sizes, op, rank, batch)
    if isinstance(op, Fold):
        taps = math.prod(one_per_axis("kernel_size", op.kernel_size, rank))
        _, *axes = roles_of(op, "input", rank)
        patch = next(role for role in axes if role != "windows")
        channels = sizes.multiple(patch, taps, CHANNELS)
        windows = resolve_windows(
            one_per_axis("output_size", op.output_size, rank),
            op.kernel_size,
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            subject="output_size",
        )
        matrix = (math.prod(windows.output_sizes), channels * taps)
        return {"input": (batch, *(matrix if op.data_format == "channels_last" else matrix[::-1]))}
    channels = sizes.draw("C", CHANNELS)
    kernel_size: Any = getattr(op, "kernel_size", None)
    kernel = None if kernel_size is None else one_per_axis("kernel_size", kernel_size, rank)
    spatial = _draw_spatial(sizes, op, rank, None if isinstance(op, MaxUnpool) else kernel)
    return {"input": layer_shape(batch, spatial, channels, op.data_format)}


def _draw_convolution(sizes: _Sizes, op: Convolution, rank: int, batch: int) -> dict[str, tuple[int, ...]]:
    kernel = tuple(sizes.draw(f"kernel axis {axis}", (1, LARGEST_KERNEL[rank])) for axis in range(rank))
    groups = op.groups
    group_channels = sizes.multiple("C", groups, GROUP_CHANNELS, sizes.ranges.get("C/groups"))
    features = groups * sizes.multiple("C_out", groups, GROUP_CHANNELS)
    is_transposed = isinstance(op, ConvTranspose)
    spatial = _draw_spatial(sizes, op, rank, None if is_transposed else kernel)
    channels = features if is_transposed else groups * group_channels
    return {
        "input": layer_shape(batch, spatial, channels, op.data_format),
        "weight": _weight_shape(kernel, group_channels, features, op.data_format),
    }


def _weight_shape(
    kernel: tuple[int, ...], group_channels: int, features: int, data_format: DataFormat
) -> tuple[int, ...]:
    if data_format == "channels_last":
        return (*kernel, group_channels, features)
    return (features, group_channels, *kernel)


def _draw_spatial(sizes: _Sizes, op: Op, rank: int, kernel: tuple[int, ...] | None) -> tuple[int, ...]:
    """Draw the spatial sizes of an input: from those that a window and the padding need, where there are windows."""
    if kernel is None:
        return tuple(sizes.draw(f"spatial axis {axis}", (1, LARGEST_SCATTERED[rank])) for axis in range(rank))
    return tuple(
        sizes.draw_at_least(_smallest(op, rank, axis, kernel[axis]), f"spatial axis {axis}", SPAN[rank])
        for axis in range(rank)
    )


def _smallest(op: Any, rank: int, axis: int, kernel_size: int) -> int:
    """Return the smallest size of an axis that a window fits in, with the padding."""
    if op.padding in ("same", "same_lower"):
        return 2
    dilation = one_per_axis("dilation", op.dilation, rank)[axis]
    before, after = padding_of_axis(op.padding, axis, rank, 1, 1, 1)
    source = {"reflect": max(before, after) + 1, "circular": max(before, after)}
    return max(1, (kernel_size - 1) * dilation + 1 - before - after, source.get(getattr(op, "padding_mode", ""), 1))
