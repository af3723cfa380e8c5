"""Windows as the columns or rows of a matrix and back, one element at a time.

A window is numbered by its position, row-major; within it, channels_first counts (C, *kernel) and channels_last
(*kernel, C).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

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
    to_channels_last,
)


def places(windows: Geometry, channels: int, data_format: str) -> Iterator[tuple[Index, Index]]:
    """Pair every place in the matrix of one image with the channels_last place that it shows, padding left out."""
    taps = math.prod(windows.kernel)
    for number, position in enumerate(windows.positions()):
        for tap_number, tap in enumerate(windows.taps()):
            at = windows.coordinates(position, tap)
            if not windows.inside(at):
                continue
            for channel in range(channels):
                if data_format == "channels_first":
                    yield (channel * taps + tap_number, number), (*at, channel)
                else:
                    yield (number, tap_number * channels + channel), (*at, channel)


def matrix_shape(windows: Geometry, batch: int, channels: int, data_format: str) -> tuple[int, int, int]:
    """(N, C * taps, L) or (N, L, taps * C)."""
    rows, count = channels * math.prod(windows.kernel), math.prod(windows.output)
    return (batch, rows, count) if data_format == "channels_first" else (batch, count, rows)


def unfold(
    input: AnyArray,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    data_format: str = "channels_last",
) -> Array:
    """Copy every window into a matrix; what lies in the padding is 0."""
    activations = to_channels_last(input, data_format)
    windows = geometry(activations.shape[1:-1], kernel_size, stride, padding, dilation)
    batch, channels = activations.shape[0], activations.shape[-1]
    matrix = np.zeros(matrix_shape(windows, batch, channels, data_format))
    for image in range(batch):
        for place, shown in places(windows, channels, data_format):
            matrix[(image, *place)] = activations[(image, *shown)]
    return matrix


def fold(
    input: AnyArray,
    *,
    output_size: Sequence[int],
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    data_format: str = "channels_last",
) -> Array:
    """Add every element of a matrix of windows to the place that it shows."""
    windows = geometry(output_size, kernel_size, stride, padding, dilation)
    taps = math.prod(windows.kernel)
    rows = input.shape[1] if data_format == "channels_first" else input.shape[2]
    channels = rows // taps
    if input.shape != matrix_shape(windows, input.shape[0], channels, data_format):
        raise OracleError(f"no matrix of windows: {input.shape}")
    output = np.zeros((input.shape[0], *output_size, channels))
    for image in range(input.shape[0]):
        for place, shown in places(windows, channels, data_format):
            output[(image, *shown)] += float(input[(image, *place)])
    return from_channels_last(output, data_format)
