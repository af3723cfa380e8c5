"""Convolution and pooling as plain loops over every output position and every tap.

This is the oracle of the tests, written from the rules alone and kept slow and obvious on purpose: float64, one scalar
operation at a time, NumPy as storage only. The rule numbers are those of the semantics that the project states.
Everything works on channels_last arrays, (N, *spatial, C) and (*kernel, C/groups, F); channels_first is turned around
at the door.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from tests.oracle.windows import (
    AnyArray,
    Array,
    Geometry,
    Index,
    OracleError,
    Padding,
    PerAxis,
    from_channels_last,
    geometry,
    kernel_from_channels_last,
    kernel_to_channels_last,
    to_channels_last,
)


class ConvGradients(NamedTuple):
    """What the backward pass of a convolution returns."""

    grad_input: Array
    grad_weight: Array
    grad_bias: Array


# -------------------------------------------------------------------------------------------------------- convolution


def conv_geometry(
    activations: Array, kernel: Array, *, stride: PerAxis, padding: Padding, dilation: PerAxis, groups: int
) -> Geometry:
    """Check the channels of channels_last operands and resolve the windows."""
    if activations.ndim != kernel.ndim:
        raise OracleError(f"{activations.ndim} axes of input, {kernel.ndim} axes of weight")
    if groups < 1 or activations.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise OracleError(f"input {activations.shape} and weight {kernel.shape} do not form {groups} groups")
    return geometry(activations.shape[1:-1], kernel.shape[:-2], stride, padding, dilation)


def check_bias(bias: AnyArray | None, filters: int, axes: int) -> None:
    """A bias is (F,) or as many axes as the input with F the last of them and ones before."""
    if bias is not None and bias.shape not in {(filters,), (1,) * (axes - 1) + (filters,)}:
        raise OracleError(f"bias of shape {bias.shape} for {filters} filters")


def conv_forward(
    input: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    data_format: str = "channels_last",
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlation: the kernel is not flipped (rule 9)."""
    activations = to_channels_last(input, data_format)
    kernel = kernel_to_channels_last(weight, data_format)
    windows = conv_geometry(activations, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    channels_per_group, filters = kernel.shape[-2:]
    check_bias(bias, filters, input.ndim)
    output = np.zeros((activations.shape[0], *windows.output, filters))
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for feature in range(filters):
                first_channel = feature // (filters // groups) * channels_per_group
                total = 0.0
                for tap in windows.taps():
                    at = windows.coordinates(position, tap)
                    if not windows.inside(at):
                        continue  # the padding is zeros
                    for channel in range(channels_per_group):
                        element = activations[(image, *at, first_channel + channel)]
                        total += float(element) * float(kernel[(*tap, channel, feature)])
                if bias is not None:
                    total += float(bias.reshape(-1)[feature])
                output[(image, *position, feature)] = total
    return from_channels_last(output, data_format)


def conv_backward(
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
) -> ConvGradients:
    """Every product of the forward pass hands its gradient to both of its factors."""
    activations = to_channels_last(input, data_format)
    kernel = kernel_to_channels_last(weight, data_format)
    windows = conv_geometry(activations, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    channels_per_group, filters = kernel.shape[-2:]
    check_bias(bias, filters, input.ndim)
    gradient = to_channels_last(grad_output, data_format)
    if gradient.shape != (activations.shape[0], *windows.output, filters):
        raise OracleError(f"grad_output of shape {grad_output.shape}")
    grad_input = np.zeros(activations.shape)
    grad_weight = np.zeros(kernel.shape)
    grad_bias = np.zeros(filters)
    for image in range(activations.shape[0]):
        for position in windows.positions():
            for feature in range(filters):
                first_channel = feature // (filters // groups) * channels_per_group
                arriving = float(gradient[(image, *position, feature)])
                grad_bias[feature] += arriving
                for tap in windows.taps():
                    at = windows.coordinates(position, tap)
                    if not windows.inside(at):
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


# -------------------------------------------------------------------------------------------------------- max pooling


def max_pool_forward(
    input: AnyArray,
    *,
    kernel_size: PerAxis,
    data_format: str = "channels_last",
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    ties: str = "first",
) -> Array:
    """The maximum of the valid taps (rule 10), or NaN where there is a NaN among them (rule 11)."""
    if ties not in {"first", "all", "split"}:
        raise OracleError(f"unknown ties {ties!r}")
    activations = to_channels_last(input, data_format)
    windows = geometry(activations.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    images, channels = activations.shape[0], activations.shape[-1]
    output = np.zeros((images, *windows.output, channels))
    for position in windows.positions():
        valid = windows.valid(position)
        if not valid:
            raise OracleError(f"the window at {position} has no valid tap")
        for image, channel in itertools.product(range(images), range(channels)):
            elements = [float(activations[(image, *at, channel)]) for at in valid]
            largest = elements[0]
            for element in elements:
                if math.isnan(element) or element > largest:
                    largest = element  # once it is NaN, no comparison replaces it
            output[(image, *position, channel)] = largest
    return from_channels_last(output, data_format)


def max_pool_backward(
    grad_output: AnyArray,
    input: AnyArray,
    *,
    kernel_size: PerAxis,
    data_format: str = "channels_last",
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    ties: str = "first",
) -> Array:
    """The gradient of a window goes to its maximum; NaNs count as the maximum (rules 11 and 12)."""
    activations = to_channels_last(input, data_format)
    windows = geometry(activations.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    gradient = to_channels_last(grad_output, data_format)
    images, channels = activations.shape[0], activations.shape[-1]
    if gradient.shape != (images, *windows.output, channels):
        raise OracleError(f"grad_output of shape {grad_output.shape}")
    grad_input = np.zeros(activations.shape)
    for position in windows.positions():
        valid = windows.valid(position)
        if not valid:
            raise OracleError(f"the window at {position} has no valid tap")
        for image, channel in itertools.product(range(images), range(channels)):
            elements = [float(activations[(image, *at, channel)]) for at in valid]
            not_numbers = [at for at, element in zip(valid, elements, strict=True) if math.isnan(element)]
            if not_numbers:
                winners = not_numbers[-1:] if ties == "first" else not_numbers
            else:
                largest = max(elements)
                tied = [at for at, element in zip(valid, elements, strict=True) if element == largest]
                winners = tied[:1] if ties == "first" else tied
            share = float(gradient[(image, *position, channel)])
            if ties == "split":
                share /= len(winners)
            for at in winners:
                grad_input[(image, *at, channel)] += share
    return from_channels_last(grad_input, data_format)


# ---------------------------------------------------------------------------------------------------- average pooling


def average_divisor(windows: Geometry, position: Index, count_include_pad: bool, divisor_override: int | None) -> int:
    """What the sum of a window is divided by (rule 13)."""
    if divisor_override is not None:
        if divisor_override == 0:
            raise OracleError("divisor_override is 0")
        return divisor_override
    if not count_include_pad:
        divisor = len(windows.valid(position))
        if divisor == 0:
            raise OracleError(f"the window at {position} has no valid tap")
        return divisor
    counted = 0
    for tap in windows.taps():
        at = windows.coordinates(position, tap)
        # Explicit padding counts on both sides, the overhang of ceil_mode beyond it does not.
        if all(at[axis] < windows.sizes[axis] + windows.padding[axis][1] for axis in range(len(at))):
            counted += 1
    return counted


def avg_pool_forward(
    input: AnyArray,
    *,
    kernel_size: PerAxis,
    data_format: str = "channels_last",
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    divisor_override: int | None = None,
) -> Array:
    """The sum of the valid taps over the divisor of rule 13."""
    activations = to_channels_last(input, data_format)
    windows = geometry(activations.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    images, channels = activations.shape[0], activations.shape[-1]
    output = np.zeros((images, *windows.output, channels))
    for position in windows.positions():
        divisor = average_divisor(windows, position, count_include_pad, divisor_override)
        for image, channel in itertools.product(range(images), range(channels)):
            total = 0.0
            for at in windows.valid(position):
                total += float(activations[(image, *at, channel)])
            output[(image, *position, channel)] = total / divisor
    return from_channels_last(output, data_format)


def avg_pool_backward(
    grad_output: AnyArray,
    input: AnyArray,
    *,
    kernel_size: PerAxis,
    data_format: str = "channels_last",
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    divisor_override: int | None = None,
) -> Array:
    """Every valid tap of a window gets the window's gradient over its divisor."""
    activations = to_channels_last(input, data_format)
    windows = geometry(activations.shape[1:-1], kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    gradient = to_channels_last(grad_output, data_format)
    images, channels = activations.shape[0], activations.shape[-1]
    if gradient.shape != (images, *windows.output, channels):
        raise OracleError(f"grad_output of shape {grad_output.shape}")
    grad_input = np.zeros(activations.shape)
    for position in windows.positions():
        divisor = average_divisor(windows, position, count_include_pad, divisor_override)
        for image, channel in itertools.product(range(images), range(channels)):
            for at in windows.valid(position):
                grad_input[(image, *at, channel)] += float(gradient[(image, *position, channel)]) / divisor
    return from_channels_last(grad_input, data_format)
