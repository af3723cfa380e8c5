"""Transposed convolution as plain loops: every input element is scattered through the kernel.

Input position i and tap t meet the output element i * stride + t * dilation - before, which is the input element of the
convolution that this transposes. The geometry is therefore that of the convolution, with the roles of its two ends
exchanged: its ``sizes`` are those of the output here, its ``output`` those of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracle.loops import ConvGradients, check_bias
from tests.oracle.windows import (
    AnyArray,
    Array,
    Geometry,
    OracleError,
    Padding,
    PerAxis,
    from_channels_last,
    kernel_from_channels_last,
    kernel_to_channels_last,
    per_axis,
    resolve_padding,
    to_channels_last,
)


class WrongParameterError(OracleError):
    """The parameters contradict each other or the sizes."""


class WrongShapeError(OracleError):
    """Good parameters, but this input leaves no output."""


def halves(total: int, *, extra_at_the_start: bool) -> tuple[int, int]:
    """Split a total padding over both sides."""
    smaller, larger = total // 2, total - total // 2
    return (larger, smaller) if extra_at_the_start else (smaller, larger)


def axis_geometry(
    size: int,
    extent: int,
    stride: int,
    dilation: int,
    padding: str | tuple[int, int],
    output_padding: int | None,
    output_size: int | None,
    framework: str | None = None,
) -> tuple[int, tuple[int, int]]:
    """Resolve one spatial axis to its output size and its padding before and after."""
    reach = (size - 1) * stride + extent  # of all windows together
    limit = max(stride, dilation)
    if framework == "tensorflow" and isinstance(padding, str) and output_padding is not None and output_size is None:
        # Keras: as if half a window, rounded down, were cut off both sides; tf.nn then wants so many windows to fit
        output_size = (size - 1) * stride + extent - 2 * (extent // 2) + output_padding
        output_padding = None
    if output_padding is not None and not 0 <= output_padding < limit:
        raise WrongParameterError(f"output_padding {output_padding} with stride {stride}, dilation {dilation}")
    if output_size is not None and framework == "onnx":
        total = reach + (output_padding or 0) - output_size
        if total < 0:
            return output_size, (0, total)
        return output_size, halves(total, extra_at_the_start=padding != "same")
    if output_padding and output_size is not None:
        raise WrongParameterError("both output_padding and output_size")
    if isinstance(padding, str):
        if output_padding:
            raise WrongParameterError(f"output_padding {output_padding} with padding {padding}")
        wanted = size * stride if output_size is None else output_size
        if math.ceil(wanted / stride) != size:
            raise WrongParameterError(f"{padding} padding of {wanted} with stride {stride} does not yield {size}")
        return wanted, halves(max(0, reach - wanted), extra_at_the_start=padding == "same_lower")
    least = reach - sum(padding)
    if output_size is None:
        if output_padding is None:
            output_padding = max(stride - extent, 0) if framework == "tensorflow" else 0
        if least + output_padding < 1:
            raise WrongShapeError(f"output of {least + output_padding} elements")
        return least + output_padding, padding
    if not 0 <= output_size - least < limit:
        raise WrongParameterError(f"output_size {output_size} is not among {least} to {least + limit - 1}")
    return output_size, padding


def transposed_geometry(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    output_padding: PerAxis | None = None,
    output_size: PerAxis | None = None,
    framework: str | None = None,
) -> Geometry:
    """Resolve a call to the windows of the convolution that it transposes."""
    rank = len(sizes)
    strides, dilations = per_axis(stride, rank, least=1), per_axis(dilation, rank, least=1)
    extents = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilations, strict=True)]
    more = [None] * rank if output_padding is None else per_axis(output_padding, rank, least=0)
    wanted = [None] * rank if output_size is None else per_axis(output_size, rank, least=1)
    follows_the_output = padding in {"same", "same_lower"} if isinstance(padding, str) else False
    output: list[int] = []
    paddings: list[tuple[int, int]] = []
    for axis in range(rank):
        given = str(padding) if follows_the_output else resolve_padding(padding, sizes, extents, strides)[axis]
        resolved, pair = axis_geometry(
            sizes[axis], extents[axis], strides[axis], dilations[axis], given, more[axis], wanted[axis], framework
        )
        output.append(resolved)
        paddings.append(pair)
    return Geometry(output, list(kernel), strides, dilations, paddings, list(sizes))


def _checked(
    input: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None,
    data_format: str,
    groups: int,
) -> tuple[Array, Array, int]:
    """Turn the operands to channels_last and count the output channels of a group."""
    activations = to_channels_last(input, data_format)
    kernel = kernel_to_channels_last(weight, data_format)
    features_per_group, channels = kernel.shape[-2:]
    if activations.shape[-1] != channels or channels % groups:
        raise OracleError(f"input {activations.shape} and weight {kernel.shape} do not form {groups} groups")
    check_bias(bias, groups * features_per_group, input.ndim)
    return activations, kernel, features_per_group


def conv_transpose_forward(
    input: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    output_padding: PerAxis | None = None,
    output_size: PerAxis | None = None,
    framework: str | None = None,
) -> Array:
    """Add each input element, times the weight of each tap, to the output element under that tap."""
    activations, kernel, features_per_group = _checked(input, weight, bias, data_format, groups)
    windows = transposed_geometry(
        activations.shape[1:-1],
        kernel.shape[:-2],
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_padding=output_padding,
        output_size=output_size,
        framework=framework,
    )
    channels = kernel.shape[-1]
    output = np.zeros((activations.shape[0], *windows.sizes, groups * features_per_group))
    if bias is not None:
        output += bias.astype(np.float64).reshape(-1)
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for tap in windows.taps():
                at = windows.coordinates(position, tap)
                if not windows.inside(at):
                    continue  # cropped by the padding
                for channel in range(channels):
                    first_feature = channel // (channels // groups) * features_per_group
                    element = float(activations[(image, *position, channel)])
                    for feature in range(features_per_group):
                        product = element * float(kernel[(*tap, feature, channel)])
                        output[(image, *at, first_feature + feature)] += product
    return from_channels_last(output, data_format)


def conv_transpose_backward(
    grad_output: AnyArray,
    input: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    output_padding: PerAxis | None = None,
    output_size: PerAxis | None = None,
    framework: str | None = None,
) -> ConvGradients:
    """Every product of the forward pass hands its gradient to both of its factors."""
    activations, kernel, features_per_group = _checked(input, weight, bias, data_format, groups)
    windows = transposed_geometry(
        activations.shape[1:-1],
        kernel.shape[:-2],
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_padding=output_padding,
        output_size=output_size,
        framework=framework,
    )
    channels = kernel.shape[-1]
    gradient = to_channels_last(grad_output, data_format)
    if gradient.shape != (activations.shape[0], *windows.sizes, groups * features_per_group):
        raise OracleError(f"grad_output of shape {grad_output.shape}")
    grad_input, grad_weight = np.zeros(activations.shape), np.zeros(kernel.shape)
    grad_bias = np.zeros(groups * features_per_group)
    for at in np.ndindex(gradient.shape):
        grad_bias[at[-1]] += gradient[at]
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for tap in windows.taps():
                at = windows.coordinates(position, tap)
                if not windows.inside(at):
                    continue
                for channel in range(channels):
                    first_feature = channel // (channels // groups) * features_per_group
                    for feature in range(features_per_group):
                        arriving = float(gradient[(image, *at, first_feature + feature)])
                        factors = (image, *position, channel), (*tap, feature, channel)
                        grad_input[factors[0]] += float(kernel[factors[1]]) * arriving
                        grad_weight[factors[1]] += float(activations[factors[0]]) * arriving
    return ConvGradients(
        from_channels_last(grad_input, data_format),
        kernel_from_channels_last(grad_weight, data_format),
        grad_bias if bias is None else grad_bias.reshape(bias.shape),
    )


def output_element(
    input: Array, weight: Array, windows: Geometry, groups: int, at: Sequence[int], feature: int
) -> float:
    """Gather one element of the first image's output from all that reach it, without a bias, channels_last."""
    channels_per_group, features_per_group = input.shape[-1] // groups, weight.shape[-2]
    first_channel = feature // features_per_group * channels_per_group
    total = 0.0
    for tap in windows.taps():
        position: list[int] = []
        for axis, place in enumerate(at):
            distance = place + windows.padding[axis][0] - tap[axis] * windows.dilation[axis]
            if distance % windows.stride[axis] == 0 and 0 <= distance < windows.output[axis] * windows.stride[axis]:
                position.append(distance // windows.stride[axis])
        if len(position) < len(at):
            continue  # no window has this tap here
        for channel in range(first_channel, first_channel + channels_per_group):
            element = float(input[(0, *position, channel)])
            total += element * float(weight[(*tap, feature % features_per_group, channel)])
    return total
