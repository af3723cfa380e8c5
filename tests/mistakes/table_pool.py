"""The mistakes that ports of pooling make, as data."""

from __future__ import annotations

from typing import Any

from tests.mistakes import pooling
from tests.mistakes.drawing import (
    Accept,
    Random,
    backward_differs,
    choose,
    differs,
    draw,
    effect_of_backward,
    names,
    overlapping,
    with_operands,
)
from tests.mistakes.entries import EVERYWHERE_PADDED, LAST, cut, steps_off_on_one_axis, together, two_axes, uneven_steps
from tests.mistakes.layers import Layer, read_windows
from tests.mistakes.mistake import Make, Mistake
from tests.mistakes.table_conv import names_of_backward

SCALAR, PADDED = pooling.results, together(pooling.padded_loops)
BOTH = "output grad_input"


def pool(
    mode: str,
    name: str,
    expected: str,
    spoils: str,
    *,
    make: Make = SCALAR,
    wrong: str = "",
    beside: str = "",
    accept: Accept | None = None,
    kind: str = "normal",
    **fixed: Any,
) -> Mistake:
    """An entry of the table."""
    indexed = "indices" in f"{spoils} {beside}"

    def drawn(random: Random) -> Layer:
        return with_operands(draw(random, "pool", accept, mode=mode, return_indices=indexed, **fixed), random, kind)

    return Mistake(
        name=f"{mode} pool: {name}",
        layer="pool",
        expected=tuple(expected.split()),
        draw=drawn,
        make=make,
        wrong=wrong or name,
        spoils=tuple(spoils.split()),
        beside=tuple(beside.split()),
    )


# ------------------------------------------------------------------------------------------------------------- windows

WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "padding_sides_swapped": ("padding_other_side", {}),
    "padding_none": ("padding_none", {}),
    "padding_before_only": ("padding_one_side", {}),
    "padding_half_extent": ("padding_half_window padding_same", {}),
    "padding_half_window": ("padding_half_window padding_same", {}),
    "padding_more": ("padding_off_by_one", {}),
    "padding_axes_swapped": ("padding_axes_swapped", {"rank": two_axes}),
    "padding_less": ("padding_off_by_one", EVERYWHERE_PADDED),
    "pads_in_another_order": ("padding_axes_swapped", {"rank": two_axes}),
    "padding_same": ("padding_same padding_half_window", {}),
    "padding_same_lower": ("padding_same padding_half_window", {}),
    "stride_swapped": ("stride_swapped", {"rank": two_axes}),
    "stride_one": ("stride_one", {"rank": 2, "stride": uneven_steps}),
    "stride_more": ("stride_off_by_one", {}),
    "stride_of_the_first_axis": ("stride_same_on_all_axes", {"rank": 2, "stride": (3, 1)}),
    "stride_of_the_last_axis": ("stride_same_on_all_axes", {"rank": 2, "stride": (1, 3)}),
    "stride_of_the_kernel": ("stride_kernel_size", {"rank": 2, "kernel": (2, 3), "stride": (3, 1)}),
    "dilation_of_the_first_axis": ("dilation_same_on_all_axes", {"rank": 2, "dilation": (3, 1)}),
    "dilation_of_the_last_axis": ("dilation_same_on_all_axes", {"rank": 2, "dilation": (1, 3)}),
    "dilation_swapped": ("dilation_swapped", {"rank": two_axes}),
    "dilation_one": ("dilation_one", {"rank": 2, "dilation": uneven_steps}),
    "dilation_more": ("dilation_off_by_one", {}),
    "ceil_mode_turned": ("ceil_mode", {}),
    "kernel_axes_swapped": ("kernel_axes_swapped", {"rank": two_axes}),
    "input_axes_swapped": ("input_axes_swapped", {"rank": two_axes}),
    **steps_off_on_one_axis("stride"),
    **steps_off_on_one_axis("dilation"),
}
"""Each mistake of the windows, with the ids that name it and what the layer must have."""


def rivals(wrong: str) -> tuple[str, ...]:
    """The mistakes of the windows that go by another id."""
    ids = set(WINDOWS[wrong][0].split())
    return tuple(other for other, (theirs, _) in WINDOWS.items() if not ids & set(theirs.split()))


def reads_other_elements(wrong: str) -> Accept:
    def accept(layer: Layer) -> bool:
        windows = read_windows(layer, names(wrong))
        real = all(any(tap is not None for tap in taps) for axis in windows.effect() for taps in axis)
        return real and min(windows.output) > 0 and differs(layer, wrong, rivals(wrong))

    return accept


def hands_to_other_elements(wrong: str) -> Accept:
    """Layers whose wrong windows end in the input, as slices of a padded copy must."""

    def accept(layer: Layer) -> bool:
        windows = read_windows(layer, names(wrong))
        fit = all(
            (m - 1) * s + (k - 1) * d < b + n
            for m, s, k, d, b, n in zip(
                layer.output,
                windows.stride,
                windows.kernel,
                windows.dilation,
                windows.before,
                windows.sizes,
                strict=True,
            )
        )
        real = all(any(tap is not None for tap in taps) for axis in effect_of_backward(layer, wrong) for taps in axis)
        return (
            fit
            and real
            and backward_differs(layer, wrong, tuple(other for other in rivals(wrong) if other not in BEHIND))
        )

    return accept


BEHIND = {"padding_before_only", "padding_more", "padding_less", "ceil_mode_turned", "input_axes_swapped"}
"""What changes nothing of a gradient whose windows are given, and what is no mistake of a backward pass."""

MANY: dict[str, Any] = {"images": 3, "channels": 3}
"""So many planes that the same maxima are no accident."""

RARELY_FIT = {"stride_swapped", "stride_of_the_first_axis", "stride_of_the_last_axis", "stride_of_the_kernel"}
"""Wrong windows that hardly ever end in the input."""

WINDOW_MISTAKES = [
    *(
        pool(mode, f"{wrong}, forward", ids, "output", wrong=wrong, accept=reads_other_elements(wrong), **MANY, **fixed)
        for mode in ("max", "avg", "lp")
        for wrong, (ids, fixed) in WINDOWS.items()
    ),
    *(
        pool(
            mode,
            f"{wrong}, backward",
            names_of_backward(wrong, ids),
            "grad_input",
            wrong=wrong,
            accept=hands_to_other_elements(wrong),
            **MANY,
            **fixed,
        )
        for mode in ("max", "avg")
        for wrong, (ids, fixed) in WINDOWS.items()
        if wrong not in BEHIND | RARELY_FIT
    ),
]

# -------------------------------------------------------------------------------------------------------------- maxima


def padded(layer: Layer) -> bool:
    return any(max(pair) > 0 for pair in layer.padding)


def several_channels(layer: Layer) -> bool:
    return layer.channels > 1 and min(layer.output) > 1


def not_of(field: str, *values: str | bool) -> dict[str, Any]:
    return {field: lambda random: choose(random, *values)}


MAXIMA = [
    pool("max", "ties_last", "ties_last", "grad_input", beside="output", kind="ties"),
    pool(
        "max",
        "ties_last, with indices",
        "ties_last",
        "indices grad_input",
        wrong="ties_last",
        beside="output",
        kind="ties",
    ),
    pool("max", "ties_all", "ties_all", "grad_input", beside="output", kind="ties", **not_of("ties", "first", "split")),
    pool("max", "ties_split", "ties_split", "grad_input", kind="ties", **not_of("ties", "first", "all")),
    pool("max", "ties_first", "ties_first", "grad_input", kind="ties", **not_of("ties", "all", "split")),
    pool("max", "padded_with_zeros", "max_over_zero_padding", "output", kind="negative", accept=padded),
    pool(
        "max",
        "padded_with_zeros, both",
        "max_over_zero_padding",
        BOTH,
        wrong="padded_with_zeros",
        kind="negative",
        accept=padded,
    ),
    *(
        pool(
            "max",
            f"index_of_{used} for {meant}",
            "index_scheme",
            "indices",
            wrong=f"index_of_{used}",
            beside="output grad_input",
            accept=several_channels,
            index_scheme=meant,
        )
        for used in ("plane", "image", "tensor")
        for meant in ("plane", "image", "tensor")
        if used != meant
    ),
    pool(
        "max",
        "storage_order_turned",
        "storage_order",
        "indices",
        beside="output",
        rank=two_axes,
        **not_of("storage_order", "row_major", "column_major"),
    ),
    pool(
        "max",
        "index_of_padded_plane",
        "index_of_padded_plane",
        "indices",
        beside="output",
        accept=padded,
        rank=two_axes,
    ),
    pool("max", "grad_input_assigned", "gradient_overwritten", "grad_input", beside="output", accept=overlapping),
    pool(
        "max",
        "grad_input_window_assigned",
        "gradient_overwritten",
        "grad_input",
        make=PADDED,
        accept=overlapping,
        **LAST,
    ),
]

# ------------------------------------------------------------------------------------------------- averages and norms

OTHERS = [
    pool(
        "avg",
        "count_include_pad_turned",
        "count_include_pad",
        BOTH,
        accept=padded,
        **not_of("count_include_pad", False, True),
    ),
    pool(
        "avg",
        "count_include_pad_turned, backward",
        "count_include_pad",
        "grad_input",
        wrong="count_include_pad_turned",
        beside="output",
        accept=padded,
        **not_of("count_include_pad", False, True),
    ),
    pool(
        "avg",
        "divisor_of_the_window",
        "divisor",
        BOTH,
        accept=lambda layer: layer.ceil_mode and overhangs(layer) and padded(layer),
        ceil_mode=True,
        **not_of("count_include_pad", False, True),
    ),
    pool(
        "avg",
        "divisor_override_ignored",
        "divisor",
        BOTH,
        accept=lambda layer: min(layer.kernel) > 1,
        divisor_override=5,
    ),
    pool("avg", "sum_instead", "divisor constant_factor", BOTH, accept=lambda layer: min(layer.kernel) > 1),
    pool("avg", "grad_input_assigned", "gradient_overwritten", "grad_input", beside="output", accept=overlapping),
    pool(
        "avg",
        "grad_input_window_assigned",
        "gradient_overwritten",
        "grad_input",
        make=PADDED,
        accept=overlapping,
        count_include_pad=True,
        **LAST,
    ),
    pool(
        "avg",
        "padding_returned",
        "padding_gradient_kept",
        "grad_input",
        make=PADDED,
        accept=cut(),
        count_include_pad=True,
        **LAST,
    ),
    pool("max", "cropped_from_the_start", "padding_gradient_kept", "grad_input", make=PADDED, accept=cut(), **LAST),
    pool(
        "max",
        "cropped_one_row_late",
        "shifted_by_one",
        "grad_input",
        make=PADDED,
        beside="output",
        accept=cut(1, 0),
        **LAST,
    ),
    pool(
        "lp",
        "absolute_value_missing of a sum",
        "absolute_value_missing",
        BOTH,
        wrong="absolute_value_missing",
        norm_type=1.0,
    ),
    pool(
        "lp",
        "absolute_value_missing of cubes",
        "absolute_value_missing",
        "output",
        wrong="absolute_value_missing",
        norm_type=3.0,
    ),
]

FURTHER_POOL = [
    pool("max", "index_in_the_window", "index_in_the_window", "indices", beside="output"),
    pool("max", "index_from_one", "index_from_one", "indices", beside="output", rank=two_axes),
    pool("max", "avg_instead", "mode", "output"),
    pool("avg", "max_instead", "mode", "output", accept=lambda layer: min(layer.kernel) > 1),
    pool(
        "lp",
        "norm_of_two",
        "norm_type norm_otherwise",
        "output",
        norm_type=3.0,
        accept=lambda layer: min(layer.kernel) > 1,
    ),
    pool(
        "lp",
        "mean_of_the_powers",
        "mean_of_the_powers",
        "output",
        accept=lambda layer: min(layer.kernel) > 1,
    ),
    pool("lp", "root_missing", "root_missing", "output"),
    pool(
        "lp",
        "absolute_value_missing in the gradient",
        "absolute_value_missing",
        "grad_input",
        wrong="absolute_value_missing",
        norm_type=3.0,
    ),
    pool(
        "max",
        "grad_input_window_assigned of scalars",
        "gradient_overwritten",
        "grad_input",
        wrong="grad_input_window_assigned",
        beside="output",
        accept=overlapping,
    ),
]


def overhangs(layer: Layer) -> bool:
    """Whether the last window leaves the padded input, along some axis."""
    windows = read_windows(layer)
    return any(
        (m - 1) * s + e > n + sum(pair)
        for m, s, e, n, pair in zip(
            windows.output, windows.stride, layer.extents, layer.sizes, layer.padding, strict=True
        )
    )
