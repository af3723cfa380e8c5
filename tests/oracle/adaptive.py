"""Pooling over adaptive windows as plain loops, and the table of windows that the newer pooling oracles walk.

Written from the rules alone, as tests.oracle.loops: float64, one scalar operation at a time, NumPy as storage only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tests.oracle.windows import (
    AnyArray,
    Array,
    Index,
    OracleError,
    Padding,
    PerAxis,
    from_channels_last,
    geometry,
    per_axis,
    to_channels_last,
)


class WindowTable(NamedTuple):
    """The output sizes, and for every output position the input elements under its window, row-major."""

    output: list[int]
    elements: dict[Index, list[Index]]


def adaptive_range(position: int, size: int, output: int) -> range:
    """The elements of one axis under a window: from floor(i n / o) up to, not including, ceil((i + 1) n / o)."""
    start = math.floor(position * size / output)
    end = math.ceil((position + 1) * size / output)
    return range(start, end)


def adaptive_windows(sizes: Sequence[int], output_size: PerAxis) -> WindowTable:
    """Rule 7; sizes are small here, so that the quotients above are exact where they are whole."""
    output = per_axis(output_size, len(sizes), least=1)
    table: dict[Index, list[Index]] = {}
    for position in itertools.product(*(range(size) for size in output)):
        ranges = [adaptive_range(at, sizes[axis], output[axis]) for axis, at in enumerate(position)]
        table[position] = list(itertools.product(*ranges))
    return WindowTable(output, table)


def pool_windows(
    sizes: Sequence[int],
    *,
    kernel_size: PerAxis | None = None,
    output_size: PerAxis | None = None,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> WindowTable:
    """The windows of a kernel, or adaptive ones."""
    if (kernel_size is None) == (output_size is None):
        raise OracleError("exactly one of kernel_size and output_size is needed")
    if output_size is not None:
        if stride is not None or padding not in {0, "valid"} or dilation != 1 or ceil_mode:
            raise OracleError("adaptive windows follow from output_size alone")
        return adaptive_windows(sizes, output_size)
    assert kernel_size is not None
    windows = geometry(sizes, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    return WindowTable(windows.output, {position: windows.valid(position) for position in windows.positions()})


def check_gradient(gradient: Array, activations: Array, table: WindowTable) -> None:
    """The gradient that arrives has the shape of the output."""
    expected = (activations.shape[0], *table.output, activations.shape[-1])
    if gradient.shape != expected:
        raise OracleError(f"grad_output of shape {gradient.shape}, needed {expected}")


def winners(values: Sequence[float], ties: str) -> list[int]:
    """Which taps of a window get the gradient of its maximum (rules 11 and 12)."""
    if not values:
        raise OracleError("a window without valid taps has no maximum")
    not_numbers = [tap for tap, value in enumerate(values) if math.isnan(value)]
    if not_numbers:
        return not_numbers[-1:] if ties == "first" else not_numbers
    largest = max(values)
    tied = [tap for tap, value in enumerate(values) if value == largest]
    return tied[:1] if ties == "first" else tied


# -------------------------------------------------------------------------------------------------------- max pooling


def max_pool_forward(
    input: AnyArray, *, output_size: PerAxis, data_format: str = "channels_last", ties: str = "first"
) -> Array:
    """The maximum of every adaptive window; which of several gets the gradient does not matter here."""
    activations = to_channels_last(input, data_format)
    table = adaptive_windows(activations.shape[1:-1], output_size)
    images, channels = activations.shape[0], activations.shape[-1]
    output = np.zeros((images, *table.output, channels))
    for position, elements in table.elements.items():
        for image, channel in itertools.product(range(images), range(channels)):
            values = [float(activations[(image, *at, channel)]) for at in elements]
            output[(image, *position, channel)] = values[winners(values, ties)[0]]
    return from_channels_last(output, data_format)


def max_pool_backward(
    grad_output: AnyArray,
    input: AnyArray,
    *,
    output_size: PerAxis,
    data_format: str = "channels_last",
    ties: str = "first",
) -> Array:
    """The gradient of a window goes to its maximum, and an element of several windows adds up theirs."""
    activations = to_channels_last(input, data_format)
    table = adaptive_windows(activations.shape[1:-1], output_size)
    gradient = to_channels_last(grad_output, data_format)
    check_gradient(gradient, activations, table)
    grad_input = np.zeros(activations.shape)
    for position, elements in table.elements.items():
        for image, channel in itertools.product(range(activations.shape[0]), range(activations.shape[-1])):
            taps = winners([float(activations[(image, *at, channel)]) for at in elements], ties)
            share = float(gradient[(image, *position, channel)]) / (len(taps) if ties == "split" else 1)
            for tap in taps:
                grad_input[(image, *elements[tap], channel)] += share
    return from_channels_last(grad_input, data_format)


# ---------------------------------------------------------------------------------------------------- average pooling


def avg_pool_forward(input: AnyArray, *, output_size: PerAxis, data_format: str = "channels_last") -> Array:
    """The mean of every adaptive window: its divisor is its own size."""
    activations = to_channels_last(input, data_format)
    table = adaptive_windows(activations.shape[1:-1], output_size)
    images, channels = activations.shape[0], activations.shape[-1]
    output = np.zeros((images, *table.output, channels))
    for position, elements in table.elements.items():
        for image, channel in itertools.product(range(images), range(channels)):
            total = math.fsum(float(activations[(image, *at, channel)]) for at in elements)
            output[(image, *position, channel)] = total / len(elements)
    return from_channels_last(output, data_format)


def avg_pool_backward(
    grad_output: AnyArray, input: AnyArray, *, output_size: PerAxis, data_format: str = "channels_last"
) -> Array:
    """Every element of a window gets the window's gradient over the window's size."""
    activations = to_channels_last(input, data_format)
    table = adaptive_windows(activations.shape[1:-1], output_size)
    gradient = to_channels_last(grad_output, data_format)
    check_gradient(gradient, activations, table)
    grad_input = np.zeros(activations.shape)
    for position, elements in table.elements.items():
        for image, channel in itertools.product(range(activations.shape[0]), range(activations.shape[-1])):
            for at in elements:
                grad_input[(image, *at, channel)] += float(gradient[(image, *position, channel)]) / len(elements)
    return from_channels_last(grad_input, data_format)
