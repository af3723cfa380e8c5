"""The mistakes that ports of convolution make with kernels, channels and windows, as data."""

from __future__ import annotations

from typing import Any

from tests.mistakes.drawing import (
    Accept,
    backward_differs,
    differs,
    names,
)
from tests.mistakes.entries import (
    BY_CONVOLUTION,
    EVERYWHERE_PADDED,
    FIRST,
    FLAT,
    GRADIENTS,
    IM2COL,
    LAST,
    MATRIX,
    NOTEBOOK,
    UNEVEN_DILATION,
    conv,
    several_channels,
    several_taps,
    square_kernel,
    steps_off_on_one_axis,
    swappable,
    two_axes,
    uneven_steps,
)
from tests.mistakes.layers import read_windows

KERNELS = [
    conv(
        "kernel_flipped",
        "kernel_flipped",
        f"output {GRADIENTS}",
        beside="grad_bias",
        accept=several_taps,
        rank=two_axes,
    ),
    conv(
        "kernel_flipped in one dimension",
        "kernel_flipped kernel_flipped_one_axis",
        wrong="kernel_flipped",
        accept=several_taps,
        rank=1,
    ),
    conv(
        "kernel_flipped_first_axis",
        "kernel_flipped_one_axis",
        f"output {GRADIENTS}",
        accept=several_taps,
        rank=two_axes,
    ),
    conv("kernel_flipped_last_axis", "kernel_flipped_one_axis", "output", accept=several_taps, rank=two_axes),
    conv(
        "kernel_flipped in the gradient only",
        "kernel_flipped",
        "grad_input",
        wrong="kernel_not_turned",
        make=BY_CONVOLUTION,
        beside="",
        accept=several_taps,
        dilation=(1, 1),
        **NOTEBOOK,
    ),
    conv(
        "kernel_axes_swapped of a square kernel",
        "kernel_axes_swapped",
        f"output {GRADIENTS}",
        wrong="kernel_axes_swapped",
        accept=square_kernel,
        rank=two_axes,
    ),
    conv(
        "kernel_axes_swapped of an oblong kernel",
        "kernel_axes_swapped",
        "output",
        wrong="kernel_axes_swapped",
        accept=lambda layer: layer.kernel[-1] != layer.kernel[-2],
        rank=2,
    ),
    conv(
        "weight_channels_swapped",
        "weight_channels_swapped weight_layout",
        f"output {GRADIENTS}",
        accept=swappable,
        groups=1,
    ),
    *(
        conv(
            f"weight_as_{order}",
            "weight_layout weight_channels_swapped",
            f"output {GRADIENTS}",
            make=FLAT,
            accept=several_channels,
            **LAST,
        )
        for order in ("fchw", "fhwc", "hwfc", "cfhw", "chwf")
    ),
    *(
        conv(
            f"weight_as_{order} where it is fchw",
            "weight_layout weight_channels_swapped",
            f"output {GRADIENTS}",
            wrong=f"weight_as_{order}",
            make=FLAT,
            accept=several_channels,
            **FIRST,
        )
        for order in ("hwcf", "fhwc", "cfhw", "hwfc")
    ),
    conv("weight_matrix_reshaped", "weight_layout", make=IM2COL, accept=several_channels, **MATRIX),
    conv(
        "channels_last_in_the_rows",
        "weight_layout",
        "output grad_weight",
        make=IM2COL,
        accept=several_channels,
        **MATRIX,
    ),
    conv(
        "grad_weight_matrix_reshaped",
        "weight_layout result_axes",
        "grad_weight",
        make=IM2COL,
        beside="output",
        accept=several_channels,
        **MATRIX,
    ),
    conv(
        "features_interleaved",
        "groups_interleaved",
        f"output {GRADIENTS}",
        accept=lambda layer: min(layer.groups, layer.group_features) > 1,
    ),
    conv(
        "channels_interleaved",
        "groups_interleaved",
        f"output {GRADIENTS}",
        accept=lambda layer: min(layer.groups, layer.group_channels) > 1,
    ),
    conv(
        "both interleaved",
        "groups_interleaved",
        f"output {GRADIENTS}",
        wrong="features_interleaved channels_interleaved",
        accept=lambda layer: min(layer.groups, layer.group_channels, layer.group_features) > 1,
    ),
    conv(
        "input_as_nchw",
        "input_layout",
        f"output {GRADIENTS}",
        make=FLAT,
        accept=lambda layer: layer.channels > 1,
        **LAST,
    ),
    conv(
        "input_as_nhwc",
        "input_layout",
        f"output {GRADIENTS}",
        make=FLAT,
        accept=lambda layer: layer.channels > 1,
        **FIRST,
    ),
    conv(
        "input_axes_swapped of a square input",
        "input_axes_swapped",
        f"output {GRADIENTS}",
        wrong="input_axes_swapped",
        accept=lambda layer: layer.sizes[-1] == layer.sizes[-2] and min(layer.output) > 1,
        rank=2,
    ),
    conv(
        "input_axes_swapped of an oblong input",
        "input_axes_swapped",
        "output",
        wrong="input_axes_swapped",
        accept=lambda layer: layer.sizes[-1] != layer.sizes[-2] and min(layer.output) > 1,
        rank=2,
    ),
]

# ------------------------------------------------------------------------------------------------------------- windows


SAME = "padding_same padding_half_window padding_other_side padding_one_side padding_none"
WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "padding_sides_swapped": ("padding_other_side", {}),
    "padding_none": ("padding_none", {}),
    "padding_before_only": ("padding_one_side", {}),
    "padding_after_only": ("padding_one_side", {}),
    "padding_half_extent": ("padding_half_window padding_same", {}),
    "padding_half_window": ("padding_half_window padding_same", {}),
    "padding_more": ("padding_off_by_one", {}),
    "padding_less": ("padding_off_by_one", EVERYWHERE_PADDED),
    "padding_axes_swapped": ("padding_axes_swapped", {"rank": two_axes}),
    "pads_in_another_order": ("padding_axes_swapped", {"rank": two_axes}),
    "padding_same": ("padding_same padding_half_window", {}),
    "padding_same_lower": ("padding_same padding_half_window", {}),
    "padding_symmetric": (SAME, {"same": "same"}),
    "padding_of_stride_one": (SAME, {"same": "same"}),
    "window_starts_late": ("shifted_by_one padding_one_side padding_other_side padding_off_by_one", {}),
    "window_starts_early": ("shifted_by_one padding_one_side padding_other_side padding_off_by_one", {}),
    "stride_swapped": ("stride_swapped", {"rank": two_axes}),
    "stride_one": ("stride_one", {}),
    "stride_more": ("stride_off_by_one", {}),
    "stride_of_the_first_axis": ("stride_same_on_all_axes", {"rank": 2, "stride": (3, 1)}),
    "stride_of_the_last_axis": ("stride_same_on_all_axes", {"rank": 2, "stride": (1, 3)}),
    "stride_less": ("stride_off_by_one", {"rank": 2, "stride": uneven_steps}),
    "dilation_swapped": ("dilation_swapped", {"rank": two_axes}),
    "dilation_one": ("dilation_one", UNEVEN_DILATION),
    "dilation_more": ("dilation_off_by_one", {}),
    "dilation_of_the_last_axis": ("dilation_same_on_all_axes", {"rank": 2, "dilation": (1, 3)}),
    "dilation_of_the_first_axis": ("dilation_same_on_all_axes", {"rank": 2, "dilation": (3, 1)}),
    "dilation_less": ("dilation_off_by_one", UNEVEN_DILATION),
    **steps_off_on_one_axis("stride"),
    **steps_off_on_one_axis("dilation"),
}
"""Each mistake of the windows, with the ids that name it and what the layer must have."""


def rivals(wrong: str) -> tuple[str, ...]:
    """The mistakes of the windows that go by another id."""
    ids = set(WINDOWS[wrong][0].split())
    return tuple(other for other, (theirs, _) in WINDOWS.items() if not ids & set(theirs.split()))


def reads_other_elements(wrong: str) -> Accept:
    """Layers in which no other mistake of the windows reads the same elements."""
    return lambda layer: min(read_windows(layer, names(wrong)).output) > 0 and differs(layer, wrong, rivals(wrong))


def hands_to_other_elements(wrong: str) -> Accept:
    others = tuple(other for other in rivals(wrong) if (wrong, other) != ("padding_none", "padding_after_only"))
    return lambda layer: backward_differs(layer, wrong, others)


BESIDE_THE_START = {
    "padding_before_only",
    "padding_after_only",
    "padding_more",
    "padding_less",
    "window_starts_late",
    "window_starts_early",
}
"""What a backward pass cannot be told from another mistake by: its windows are those of grad_output in any case."""


def names_of_backward(wrong: str, ids: str) -> str:
    """The ids that name it in a backward pass, where padding moves the windows and does nothing else."""
    if wrong == "padding_none":
        ids += " padding_one_side padding_gradient_kept"
    return f"{ids} shifted_by_one" if wrong.startswith("pad") else ids


WINDOW_MISTAKES = [
    *(
        conv(f"{wrong}, forward", ids, wrong=wrong, accept=reads_other_elements(wrong), **fixed)
        for wrong, (ids, fixed) in WINDOWS.items()
    ),
    *(
        conv(
            f"{wrong}, backward",
            names_of_backward(wrong, ids),
            GRADIENTS,
            wrong=wrong,
            accept=hands_to_other_elements(wrong),
            **fixed,
        )
        for wrong, (ids, fixed) in WINDOWS.items()
        if wrong not in BESIDE_THE_START
    ),
]
