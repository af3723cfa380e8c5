"""The mistakes that ports of convolution make with bias, padding modes and gradients, and some more, as data."""

from __future__ import annotations

from typing import Any

from tests.mistakes.drawing import (
    Accept,
    overlapping,
)
from tests.mistakes.entries import (
    BY_CONVOLUTION,
    FIRST,
    FLAT,
    GRADIENTS,
    IM2COL,
    LAST,
    MATRIX,
    NOTEBOOK,
    SLICES,
    conv,
    cut,
    padded_everywhere,
    several_channels,
    several_taps,
    two_axes,
)
from tests.mistakes.layers import Layer

PADDED: dict[str, Any] = {"padding": padded_everywhere, "rank": 2}
MODES = ("zeros", "replicate", "reflect", "circular")
PADDING_MODES = [
    conv(
        f"{used} padding where {meant} is meant",
        "padding_mode",
        "output" if used == "zeros" else "output grad_input",
        wrong=f"padding_mode_{used}",
        accept=lambda layer: min(layer.sizes) > 2,
        padding_mode=meant,
        **PADDED,
    )
    for used in MODES
    for meant in MODES
    if used != meant
]


# ------------------------------------------------------------------------------------------------- bias and gradients


def features_at(axis: int) -> Accept:
    """Layers with as many features as positions along an axis: broadcasting does not notice."""
    return lambda layer: layer.features == layer.output[axis] > 1


BIASES = [
    conv("bias_missing", "bias_missing"),
    conv("bias_twice", "bias_twice"),
    conv("bias_subtracted", "bias_subtracted"),
    conv("bias_of_the_column", "bias_axis", accept=features_at(-1)),
    conv("bias_of_the_row", "bias_axis", accept=features_at(0), rank=two_axes),
    conv("bias_of_the_image", "bias_axis", accept=lambda layer: layer.features == layer.images),
    conv("bias_along_the_row", "bias_axis", make=IM2COL, accept=features_at(-1), **MATRIX),
]

GRADIENT_MISTAKES = [
    conv(
        "grad_input_assigned window by window",
        "gradient_overwritten",
        "grad_input",
        wrong="grad_input_assigned",
        beside="output",
        accept=overlapping,
    ),
    conv(
        "grad_input_assigned tap by tap",
        "gradient_overwritten",
        "grad_input",
        wrong="grad_input_assigned taps_outside",
        beside="grad_weight",
        accept=overlapping,
    ),
    conv(
        "grad_input_assigned by slices",
        "gradient_overwritten",
        "grad_input",
        wrong="grad_input_assigned",
        make=SLICES,
        beside="output",
        accept=overlapping,
        **NOTEBOOK,
    ),
    conv("padding_returned", "padding_gradient_kept", "grad_input", make=SLICES, accept=cut(), **NOTEBOOK),
    conv(
        "cropped_from_the_start",
        "padding_gradient_kept padding_none",
        "grad_input",
        make=SLICES,
        beside="grad_weight",
        accept=cut(),
        **NOTEBOOK,
    ),
    conv("cropped_one_row_late", "shifted_by_one", "grad_input", make=SLICES, accept=cut(1, 0), **NOTEBOOK),
    conv("cropped_one_row_early", "shifted_by_one", "grad_input", make=SLICES, accept=cut(-1, 0), **NOTEBOOK),
    conv("cropped_one_column_late", "shifted_by_one", "grad_input", make=SLICES, accept=cut(0, 1), **NOTEBOOK),
    conv("grad_weight_first_image", "grad_weight_one_image", "grad_weight", beside="grad_bias"),
    conv("grad_weight_last_image", "grad_weight_one_image", "grad_weight", beside="output"),
    conv("grad_weight_mean_images", "grad_weight_averaged", "grad_weight", beside="grad_input"),
    conv("grad_weight_mean_positions", "grad_weight_averaged", "grad_weight"),
    conv("grad_weight_mean_all", "grad_weight_averaged", "grad_weight"),
    conv("grad_bias_first_image", "grad_bias_not_summed", "grad_bias", beside="grad_weight"),
    conv("grad_bias_last_image", "grad_bias_not_summed", "grad_bias"),
    conv("grad_bias_first_position", "grad_bias_not_summed gradient_of_one_position", "grad_bias"),
    conv("grad_bias_assigned", "grad_bias_not_summed gradient_of_one_position", "grad_bias"),
    conv("grad_bias_mean_images", "grad_bias_averaged", "grad_bias", beside="grad_input"),
    conv("grad_bias_mean_positions", "grad_bias_averaged", "grad_bias"),
    conv("grad_bias_mean_all", "grad_bias_averaged", "grad_bias"),
    conv(
        "divided_by_the_window", "constant_factor products_scaled", "output", accept=lambda layer: min(layer.kernel) > 1
    ),
    conv("doubled", "constant_factor products_scaled", "output"),
    conv("grad_input_averaged", "constant_factor grad_input_averaged", "grad_input", beside="grad_weight"),
]

# -------------------------------------------------------------------------------------------- what the list had not yet


def several_features(layer: Layer) -> bool:
    """Layers whose output's axes, and whose input's, are told apart by more than one element each."""
    return min(layer.features, layer.channels, *layer.kernel, *layer.output) > 1


FURTHER = [
    conv(
        "input and output as nchw",
        "input_layout output_layout",
        f"output {GRADIENTS}",
        wrong="input_as_nchw output_as_nchw",
        make=FLAT,
        accept=lambda layer: layer.channels > 1 < layer.features,
        **LAST,
    ),
    conv(
        "input and output as nhwc",
        "input_layout output_layout",
        f"output {GRADIENTS}",
        wrong="input_as_nhwc output_as_nhwc",
        make=FLAT,
        accept=lambda layer: layer.channels > 1 < layer.features,
        **FIRST,
    ),
    conv("output_as_nchw", "output_layout", "output", make=FLAT, accept=several_features, **LAST),
    conv("output_as_nhwc", "output_layout", "output", make=FLAT, accept=several_features, **FIRST),
    conv("output_reshaped", "output_layout result_axes", make=IM2COL, accept=several_features, **MATRIX),
    conv("output_of_positions_reshaped", "output_layout result_axes", make=IM2COL, accept=several_features, **MATRIX),
    conv(
        "weight_matrix_reshaped and channels_last_in_the_rows",
        "weight_layout",
        "output",
        wrong="weight_matrix_reshaped channels_last_in_the_rows",
        make=IM2COL,
        accept=several_channels,
        **MATRIX,
    ),
    conv("group_offset_missing", "group_offset_missing", f"output {GRADIENTS}", accept=lambda layer: layer.groups > 1),
    conv("relu_applied", "relu_applied", "output"),
    conv("rounded_to_integers", "rounded_to_integers", make=SLICES, **NOTEBOOK),
    conv(
        "last_row_missing",
        "cropped padding_one_side padding_off_by_one stride_off_by_one",
        make=SLICES,
        accept=several_taps,
        **NOTEBOOK,
    ),
    conv(
        "last_row_and_column_missing",
        "cropped padding_one_side padding_off_by_one stride_off_by_one",
        make=SLICES,
        accept=several_taps,
        **NOTEBOOK,
    ),
    conv(
        "gradient_not_spread",
        "stride_one",
        "grad_input",
        make=BY_CONVOLUTION,
        accept=lambda layer: max(layer.stride) > 1 < min(layer.output),
        dilation=(1, 1),
        **NOTEBOOK,
    ),
    conv(
        "grad_input_assigned_for_each_filter",
        "gradient_overwritten",
        "grad_input",
        make=SLICES,
        accept=overlapping,
        **NOTEBOOK,
    ),
    conv(
        "grad_weight_assigned",
        "grad_weight_not_summed gradient_of_one_position gradient_overwritten",
        "grad_weight",
        make=SLICES,
        padding=((0, 0), (0, 0)),
        accept=several_features,
        beside="grad_bias",
        **NOTEBOOK,
    ),
    conv("grad_bias_of_each_image", "grad_bias_not_summed", "grad_bias", make=SLICES, **NOTEBOOK),
    conv("grad_bias_of_one_axis", "grad_bias_not_summed", "grad_bias", make=SLICES, **NOTEBOOK),
    conv(
        "cropped_other_sides",
        "padding_gradient_kept shifted_by_one padding_other_side",
        "grad_input",
        make=SLICES,
        accept=lambda layer: any(one != other for one, other in layer.padding),
        **NOTEBOOK,
    ),
    conv(
        "padding mode reflects the edge too",
        "edge_repeated padding_mode",
        wrong="padding_mode_reflect_with_edge",
        accept=lambda layer: min(layer.sizes) > 2,
        padding_mode="reflect",
        **PADDED,
    ),
]
