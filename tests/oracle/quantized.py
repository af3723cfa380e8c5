"""Convolution of quantized operands as plain loops over Python's integers and fractions, which are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tests.oracle.loops import conv_geometry
from tests.oracle.windows import AnyArray, Padding, PerAxis, kernel_to_channels_last, to_channels_last


def wrapped(value: int) -> int:
    """What 32 bits in two's complement keep of an integer."""
    return (value + 2**31) % 2**32 - 2**31


def of_filter(values: AnyArray, feature: int) -> AnyArray:
    """The value of an operand that has one element, or one for each filter."""
    flat = values.reshape(-1)
    one: AnyArray = flat[feature] if flat.size > 1 else flat[0]
    return one


def accumulated(
    input: AnyArray,
    weight: AnyArray,
    input_zero_point: AnyArray,
    weight_zero_point: AnyArray,
    *,
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> npt.NDArray[np.object_]:
    """Sums of products of the differences to the zero points, as Python's integers, channels_last.

    The padding is the zero point, so its differences are 0.
    """
    activations = to_channels_last(input, data_format)
    kernel = kernel_to_channels_last(weight, data_format)
    windows = conv_geometry(activations, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    channels_per_group, filters = kernel.shape[-2:]
    zero = int(input_zero_point.reshape(-1)[0])
    sums = np.zeros((activations.shape[0], *windows.output, filters), dtype=object)
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for feature in range(filters):
                first_channel = feature // (filters // groups) * channels_per_group
                weight_zero = int(of_filter(weight_zero_point, feature))
                total = 0
                for tap in windows.taps():
                    at = windows.coordinates(position, tap)
                    if not windows.inside(at):
                        continue
                    for channel in range(channels_per_group):
                        element = int(activations[(image, *at, first_channel + channel)]) - zero
                        total += element * (int(kernel[(*tap, channel, feature)]) - weight_zero)
                sums[(image, *position, feature)] = total
    return sums


def _in_layout(values: AnyArray, data_format: str) -> AnyArray:
    return np.moveaxis(values, -1, 1) if data_format == "channels_first" else values


def conv_integer(
    input: AnyArray,
    weight: AnyArray,
    input_zero_point: AnyArray | None = None,
    weight_zero_point: AnyArray | None = None,
    *,
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> npt.NDArray[np.int32]:
    """The sums in 32 bits."""
    sums = accumulated(
        input,
        weight,
        np.zeros(()) if input_zero_point is None else input_zero_point,
        np.zeros(()) if weight_zero_point is None else weight_zero_point,
        data_format=data_format,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    output = np.zeros(sums.shape, dtype=np.int32)
    for at in np.ndindex(sums.shape):
        output[at] = wrapped(int(sums[at]))
    return _in_layout(output, data_format)


def qlinear_conv(
    input: AnyArray,
    input_scale: AnyArray,
    input_zero_point: AnyArray,
    weight: AnyArray,
    weight_scale: AnyArray,
    weight_zero_point: AnyArray,
    output_scale: AnyArray,
    output_zero_point: AnyArray,
    bias: AnyArray | None = None,
    *,
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> AnyArray:
    """Scale the sums, round to the nearest integer, ties to the even one, shift by the zero point and saturate."""
    sums = accumulated(
        input,
        weight,
        input_zero_point,
        weight_zero_point,
        data_format=data_format,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    output = np.zeros(sums.shape, dtype=output_zero_point.dtype)
    limits = np.iinfo(output_zero_point.dtype)
    input_step, output_step = (Fraction(float(scale.reshape(-1)[0])) for scale in (input_scale, output_scale))
    shift = int(output_zero_point.reshape(-1)[0])
    for at in np.ndindex(sums.shape):
        total = int(sums[at]) + (0 if bias is None else int(bias[at[-1]]))
        step = input_step * Fraction(float(of_filter(weight_scale, at[-1]))) / output_step
        rounded = round(total * step)  # a fraction rounds its ties to the even integer
        output[at] = min(max(rounded + shift, int(limits.min)), int(limits.max))
    return _in_layout(output, data_format)
