"""The mistakes that ports of transposed convolution make, as data."""

from __future__ import annotations

from typing import Any

from tests.mistakes import transposed
from tests.mistakes.drawing import Accept, Random, backward_differs, draw, whole, with_operands
from tests.mistakes.entries import GRADIENTS, several_taps, square_kernel, two_axes, uneven_steps
from tests.mistakes.layers import Layer, Pairs, read_windows
from tests.mistakes.mistake import Mistake

ALL = f"output {GRADIENTS}"


def transpose(
    name: str,
    expected: str,
    spoils: str = ALL,
    *,
    wrong: str = "",
    beside: str = "",
    accept: Accept | None = None,
    **fixed: Any,
) -> Mistake:
    """An entry of the table."""

    def drawn(random: Random) -> Layer:
        return with_operands(draw(random, "conv_transpose", accept, **fixed), random)

    return Mistake(
        name=f"conv_transpose: {name}",
        layer="conv_transpose",
        expected=tuple(expected.split()),
        draw=drawn,
        make=transposed.results,
        wrong=wrong or name,
        spoils=tuple(spoils.split()),
        beside=tuple(beside.split()),
    )


def overlapping_output(layer: Layer) -> bool:
    """Whether what the elements scatter overlaps, along every axis."""
    return all(
        s % d == 0 and s // d < k and n > 1
        for k, d, s, n in zip(layer.kernel, layer.dilation, layer.stride, layer.sizes, strict=True)
    )


def gaps(layer: Layer) -> bool:
    """Whether some element of the output is reached by nothing."""
    return any(s > e for s, e in zip(layer.stride, layer.extents, strict=True))


GAPS: dict[str, Any] = {"rank": 2, "kernel": (2, 2), "stride": (3, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0))}
"""Windows with gaps between them along one axis, and with overlap along the other."""

WIDE: dict[str, Any] = {"rank": 1, "kernel": (3,), "dilation": (2,)}
"""Windows that reach far beyond their padding."""


def thin(random: Random) -> Pairs:
    """Padding of at most one element."""
    return ((whole(random, 0, 1), whole(random, 0, 1)),)


def jax_like(layer: Layer) -> bool:
    """Layers whose padding, read as padding of the spread input, gives another size and is not more than the extent."""
    return (
        all(max(pair) <= e - 1 and sum(pair) != e - 1 for pair, e in zip(layer.padding, layer.extents, strict=True))
        and min(transposed.read_transposed(layer, frozenset({"padding_of_the_spread_input"})).sizes) > 0
    )


def valid(*mistakes: str) -> Accept:
    return lambda layer: min(read_windows(layer, frozenset(mistakes)).sizes) > 0 and several_taps(layer)


TRANSPOSED = [
    transpose("kernel_flipped", "kernel_flipped", accept=several_taps, rank=two_axes),
    transpose("kernel_flipped_first_axis", "kernel_flipped_one_axis", accept=several_taps, rank=two_axes),
    transpose("kernel_axes_swapped", "kernel_axes_swapped", accept=square_kernel, rank=two_axes),
    transpose(
        "weight_channels_swapped",
        "weight_channels_swapped weight_layout",
        accept=lambda layer: layer.channels == layer.features > 1,
        groups=1,
    ),
    transpose("padding_none", "padding_none", "output", accept=valid("padding_none")),
    transpose(
        "padding_sides_swapped",
        "padding_other_side",
        ALL,
        accept=lambda layer: (
            several_taps(layer)
            and backward_differs(
                layer, "padding_sides_swapped", ("padding_none", "window_starts_late", "window_starts_early")
            )
        ),
    ),
    transpose(
        "padding_before_only",
        "padding_one_side",
        "output",
        accept=lambda layer: several_taps(layer) and all(min(pair) > 0 for pair in layer.padding),
    ),
    transpose(
        "stride_swapped",
        "stride_swapped",
        "output",
        accept=lambda layer: valid("stride_swapped")(layer) and layer.stride[-1] != layer.stride[-2],
        rank=2,
        output_padding=(0, 0),
    ),
    transpose(
        "stride_one",
        "stride_one",
        "output",
        accept=valid("stride_one"),
        rank=2,
        stride=uneven_steps,
        padding=((0, 0), (0, 1)),
    ),
    transpose("stride_more", "stride_off_by_one", "output", accept=valid("stride_more")),
    transpose(
        "dilation_swapped",
        "dilation_swapped",
        "output",
        accept=lambda layer: valid("dilation_swapped")(layer) and layer.dilation[-1] != layer.dilation[-2],
        rank=2,
    ),
    transpose("dilation_one", "dilation_one", "output", accept=valid("dilation_one"), rank=2, dilation=uneven_steps),
    transpose("dilation_more", "dilation_off_by_one", "output", accept=valid("dilation_more")),
    transpose("bias_missing", "bias_missing", "output"),
    transpose("bias_twice", "bias_twice", "output"),
    transpose("grad_weight_last_image", "grad_weight_one_image", "grad_weight", beside="output grad_bias"),
    transpose("grad_weight_mean_images", "grad_weight_averaged", "grad_weight", beside="grad_input"),
]

FURTHER_TRANSPOSED = [
    transpose("output_assigned", "output_overwritten gradient_overwritten", "output", accept=overlapping_output),
    transpose("bias_only_where_windows_reach", "bias_only_where_windows_reach", "output", accept=gaps, **GAPS),
    transpose(
        "output_padding_ignored", "output_padding", "output", accept=lambda layer: any(layer.output_padding), rank=2
    ),
    transpose(
        "padding_of_the_spread_input",
        "padding_transposed",
        "output",
        accept=jax_like,
        padding=thin,
        output_padding=(0,),
        **WIDE,
    ),
]
