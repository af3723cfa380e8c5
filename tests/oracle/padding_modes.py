"""Convolution whose padding takes values of the input, as plain loops.

Each element of the padding is traced to the element of the input that it repeats; where the rule finds none, it is 0.
"""

from __future__ import annotations

import numpy as np

from tests.oracle.loops import ConvGradients, check_bias, conv_geometry
from tests.oracle.windows import (
    AnyArray,
    Array,
    Geometry,
    Index,
    OracleError,
    Padding,
    PerAxis,
    from_channels_last,
    kernel_from_channels_last,
    kernel_to_channels_last,
    to_channels_last,
)


def source_index(position: int, size: int, padding_mode: str) -> int | None:
    """Which element of an axis stands at a position, counted from its first element; None is a zero."""
    if 0 <= position < size:
        return position
    if padding_mode == "zeros":
        return None
    if padding_mode == "replicate":  # the nearest edge
        return 0 if position < 0 else size - 1
    if padding_mode == "reflect":  # as far inside as the position is outside, from the edge, which is not repeated
        last = size - 1
        return -position if position < 0 else last - (position - last)
    if padding_mode == "circular":  # the axis begins again after its end
        return position + size if position < 0 else position - size
    raise OracleError(f"unknown padding_mode {padding_mode!r}")


def check_reach(windows: Geometry, padding_mode: str) -> None:
    """Reflect needs less padding than there are elements, circular no more than there are."""
    most = {"reflect": -1, "circular": 0}
    if padding_mode not in most:
        return
    for size, pair in zip(windows.sizes, windows.padding, strict=True):
        if max(pair) > size + most[padding_mode]:
            raise OracleError(f"{padding_mode} padding {pair} of {size} elements")


def source(windows: Geometry, position: Index, tap: Index, padding_mode: str) -> Index | None:
    """Where the value under a tap comes from, or None if it is a zero of the padding."""
    indices: list[int] = []
    for at, size in zip(windows.coordinates(position, tap), windows.sizes, strict=True):
        index = source_index(at, size, padding_mode)
        if index is None:
            return None
        indices.append(index)
    return tuple(indices)


def conv_forward(
    input: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlation of the input, continued beyond its edges as the mode has it."""
    activations = to_channels_last(input, data_format)
    kernel = kernel_to_channels_last(weight, data_format)
    windows = conv_geometry(activations, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    check_reach(windows, padding_mode)
    channels_per_group, filters = kernel.shape[-2:]
    check_bias(bias, filters, input.ndim)
    output = np.zeros((activations.shape[0], *windows.output, filters))
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for feature in range(filters):
                first_channel = feature // (filters // groups) * channels_per_group
                total = 0.0 if bias is None else float(bias.reshape(-1)[feature])
                for tap in windows.taps():
                    at = source(windows, position, tap, padding_mode)
                    if at is None:
                        continue
                    for channel in range(channels_per_group):
                        element = activations[(image, *at, first_channel + channel)]
                        total += float(element) * float(kernel[(*tap, channel, feature)])
                output[(image, *position, feature)] = total
    return from_channels_last(output, data_format)


def conv_backward(
    grad_output: AnyArray,
    input: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> ConvGradients:
    """A product with an element of the padding hands its gradient to the element that the padding repeats."""
    activations = to_channels_last(input, data_format)
    kernel = kernel_to_channels_last(weight, data_format)
    windows = conv_geometry(activations, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    check_reach(windows, padding_mode)
    channels_per_group, filters = kernel.shape[-2:]
    check_bias(bias, filters, input.ndim)
    gradient = to_channels_last(grad_output, data_format)
    if gradient.shape != (activations.shape[0], *windows.output, filters):
        raise OracleError(f"grad_output of shape {grad_output.shape}")
    grad_input, grad_weight = np.zeros(activations.shape), np.zeros(kernel.shape)
    grad_bias = np.zeros(filters)
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for feature in range(filters):
                first_channel = feature // (filters // groups) * channels_per_group
                arriving = float(gradient[(image, *position, feature)])
                grad_bias[feature] += arriving
                for tap in windows.taps():
                    at = source(windows, position, tap, padding_mode)
                    if at is None:
                        continue
                    for channel in range(channels_per_group):
                        element = (image, *at, first_channel + channel)
                        grad_input[element] += float(kernel[(*tap, channel, feature)]) * arriving
                        grad_weight[(*tap, channel, feature)] += float(activations[element]) * arriving
    return ConvGradients(
        from_channels_last(grad_input, data_format),
        kernel_from_channels_last(grad_weight, data_format),
        grad_bias if bias is None else grad_bias.reshape(bias.shape),
    )
