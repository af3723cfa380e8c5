"""How the tables write an entry, and what the layers of several entries have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.mistakes import flat_buffers, im2col, scalar_loops, slices
from tests.mistakes.drawing import (
    Accept,
    Random,
    backward_differs,
    choose,
    draw,
    overlapping,
    whole,
    with_operands,
)
from tests.mistakes.layers import AnyArray, Index, Layer, Pairs, Wrong
from tests.mistakes.mistake import Make, Mistake, Results

GRADIENTS = "grad_input grad_weight"


def loops(by_tensor: Mapping[str, Callable[[Layer, Wrong], AnyArray]]) -> Make:
    """A port that has a function for each tensor."""
    return lambda layer, wrong, tensors: {name: by_tensor[name](layer, wrong) for name in tensors}


def together(function: Callable[[Layer, Wrong], Results]) -> Make:
    """A port that has one function for all tensors."""
    return lambda layer, wrong, tensors: {
        name: made for name, made in function(layer, wrong).items() if name in tensors
    }


SCALAR, SLICES = loops(scalar_loops.LOOPS), loops(slices.LOOPS)
FLAT = together(flat_buffers.results)
BY_CONVOLUTION = loops({"grad_input": slices.grad_input_by_convolution})
IM2COL = loops({"output": im2col.forward, "grad_weight": im2col.grad_weight})


def conv(
    name: str,
    expected: str,
    spoils: str = "output",
    *,
    make: Make = SCALAR,
    wrong: str = "",
    beside: str = "",
    accept: Accept | None = None,
    kind: str = "normal",
    **fixed: Any,
) -> Mistake:
    """An entry of the table; ``fixed`` are fields of the layer, or functions that draw them."""

    def drawn(random: Random) -> Layer:
        return with_operands(draw(random, "conv", accept, **fixed), random, kind)

    return Mistake(
        f"conv: {name}", "conv", tuple(expected.split()), drawn, make, wrong or name,
        tuple(spoils.split()), tuple(beside.split()),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ kernels and channels


def two_axes(random: Random) -> int:
    return int(choose(random, 2, 2, 3))


def several_taps(layer: Layer) -> bool:
    return min(layer.kernel) > 1 and min(layer.output) > 1


def square_kernel(layer: Layer) -> bool:
    return layer.kernel[-1] == layer.kernel[-2] > 1


def several_channels(layer: Layer) -> bool:
    return min(layer.group_channels, layer.features, *layer.kernel) > 1


def swappable(layer: Layer) -> bool:
    return layer.group_channels == layer.features > 1


FIRST: dict[str, Any] = {"rank": 2, "layout": "channels_first"}
LAST: dict[str, Any] = {"rank": 2, "layout": "channels_last"}
NOTEBOOK: dict[str, Any] = {**LAST, "groups": 1}
MATRIX: dict[str, Any] = {**FIRST, "groups": 1}


def uneven_steps(random: Random) -> Index:
    """Strides or dilations of which one less is not one everywhere."""
    steps: Index = choose(random, (2, 3), (3, 2), (3, 3))
    return steps


def padded_everywhere(random: Random) -> Pairs:
    """Padding at all four sides."""
    return tuple((whole(random, 1, 2), whole(random, 1, 2)) for _ in range(2))


UNEVEN_DILATION: dict[str, Any] = {"rank": 2, "dilation": uneven_steps}
EVERYWHERE_PADDED: dict[str, Any] = {"rank": 2, "padding": padded_everywhere, "stride": uneven_steps}
"""Layers in which less padding is not a part of the output, as with a stride of 1."""


def cut(*late: int) -> Accept:
    """Layers with much padding, in which no other padding explains a cut that is so many elements late."""

    def accept(layer: Layer) -> bool:
        (top, bottom), (left, right) = layer.padding
        padded = top == 2 and bottom > 0 and left > 0 and right > 0
        return padded and overlapping(layer) and backward_differs(layer, "", PADDINGS, late or (-top, -left))

    return accept


def steps_off_on_one_axis(what: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Mistakes of the windows: the stride or the dilation of a single axis is off by one."""
    ids = f"{what}_off_by_one"
    rank: dict[str, Any] = {"rank": 2, what: uneven_steps}
    return {
        f"{what}_{change}_on_the_{axis}_axis": (ids, rank) for change in ("more", "less") for axis in ("first", "last")
    }


PADDINGS = (
    "padding_half_extent",
    "padding_sides_swapped",
    "padding_half_window",
    "padding_more",
    "padding_less",
    "padding_axes_swapped",
    "pads_in_another_order",
    "padding_same",
    "padding_same_lower",
)
