"""Where the maxima of pooling lie, counted by every scheme, and unpooling, as plain loops.

Written from the rules alone (rule 16). An index is found by walking the positions that it may count, so that nothing
here divides an index into coordinates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.oracle.adaptive import pool_windows, winners
from tests.oracle.windows import (
    AnyArray,
    Array,
    Index,
    OracleError,
    Padding,
    PerAxis,
    from_channels_last,
    per_axis,
    resolve_padding,
    to_channels_last,
)

Indices = npt.NDArray[np.int64]


def index_of(
    image: int,
    at: Index,
    channel: int,
    *,
    sizes: Sequence[int],
    channels: int,
    data_format: str,
    index_scheme: str,
    storage_order: str,
) -> int:
    """The index of the element at the coordinates ``at`` of a channel of an image."""
    axes = list(range(len(sizes)))
    if storage_order == "column_major":
        axes.reverse()
    elif storage_order != "row_major":
        raise OracleError(f"unknown storage_order {storage_order!r}")
    in_plane = 0
    for axis in axes:
        in_plane = in_plane * sizes[axis] + at[axis]
    plane = math.prod(sizes)
    in_image = channel * plane + in_plane if data_format == "channels_first" else in_plane * channels + channel
    by_scheme = {"plane": in_plane, "image": in_image, "tensor": image * channels * plane + in_image}
    return by_scheme[index_scheme]


def max_pool_indices(
    input: AnyArray,
    *,
    index_scheme: str = "plane",
    storage_order: str = "row_major",
    data_format: str = "channels_last",
    ties: str = "first",  # the index is that of the first one, whatever the gradient does
    **windows: Any,
) -> Indices:
    """The index of every window's first maximum, or of its last NaN."""
    del ties
    activations = to_channels_last(input, data_format)
    sizes, channels = activations.shape[1:-1], activations.shape[-1]
    table = pool_windows(sizes, **windows)
    indices = np.zeros((activations.shape[0], *table.output, channels))
    for position, elements in table.elements.items():
        for image, channel in itertools.product(range(activations.shape[0]), range(channels)):
            values = [float(activations[(image, *at, channel)]) for at in elements]
            indices[(image, *position, channel)] = index_of(
                image,
                elements[winners(values, "first")[0]],
                channel,
                sizes=sizes,
                channels=channels,
                data_format=data_format,
                index_scheme=index_scheme,
                storage_order=storage_order,
            )
    return from_channels_last(indices, data_format).astype(np.int64)


# --------------------------------------------------------------------------------------------------------- unpooling


def inferred_sizes(sizes: Sequence[int], kernel_size: PerAxis, stride: PerAxis | None, padding: Padding) -> list[int]:
    """(n - 1) s - before - after + k on every axis."""
    kernel = per_axis(kernel_size, len(sizes), least=1)
    strides = kernel if stride is None else per_axis(stride, len(sizes), least=1)
    sides = resolve_padding(padding, sizes, kernel, strides)
    inferred = [
        (size - 1) * step - before - after + taps
        for size, step, (before, after), taps in zip(sizes, strides, sides, kernel, strict=True)
    ]
    if min(inferred) < 1:
        raise OracleError(f"output sizes {inferred}")
    return inferred


def unpool_targets(
    input: AnyArray,
    indices: AnyArray,
    *,
    counted: Sequence[int],
    data_format: str,
    index_scheme: str,
    storage_order: str,
) -> dict[Index, Index]:
    """Where values go, channels_last in the output, and which value that is, in the input's own layout.

    The input is walked in the order of its memory: of several values for one place, the last one stays.
    """
    first = data_format == "channels_first"
    images, channels = input.shape[0], input.shape[1] if first else input.shape[-1]
    places: dict[Index, Index] = {}
    for image, channel in itertools.product(range(images), range(channels)):
        scope = {"plane": (image, channel), "image": (image,), "tensor": ()}[index_scheme]
        for at in itertools.product(*(range(size) for size in counted)):
            index = index_of(
                image,
                at,
                channel,
                sizes=counted,
                channels=channels,
                data_format=data_format,
                index_scheme=index_scheme,
                storage_order=storage_order,
            )
            places[(*scope, index)] = (image, *at, channel)
    sources: dict[Index, Index] = {}
    for source in np.ndindex(input.shape):
        channel = source[1] if first else source[-1]
        scope = {"plane": (source[0], channel), "image": (source[0],), "tensor": ()}[index_scheme]
        place = places.get((*scope, int(indices[source])))
        if place is None:
            raise OracleError(f"index {indices[source]} is outside")
        sources[place] = source
    return sources


def unpool(
    input: AnyArray,
    indices: AnyArray,
    grad_output: AnyArray | None = None,
    *,
    kernel_size: PerAxis | None = None,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    output_size: PerAxis | None = None,
    index_scheme: str = "plane",
    storage_order: str = "row_major",
    data_format: str = "channels_last",
    onnx_rule: bool = False,
) -> Array:
    """The output of unpooling, or with a grad_output the gradient of its input."""
    activations = to_channels_last(input, data_format)
    sizes = activations.shape[1:-1]
    if output_size is not None:
        output_sizes = per_axis(output_size, len(sizes), least=1)
    elif kernel_size is not None:
        output_sizes = inferred_sizes(sizes, kernel_size, stride, padding)
    else:
        raise OracleError("neither kernel_size nor output_size")
    counted = output_sizes
    if onnx_rule:
        assert kernel_size is not None
        counted = inferred_sizes(sizes, kernel_size, stride, padding)
    sources = unpool_targets(
        input,
        indices,
        counted=counted,
        data_format=data_format,
        index_scheme=index_scheme,
        storage_order=storage_order,
    )
    output = np.zeros((activations.shape[0], *output_sizes, activations.shape[-1]))
    if grad_output is None:
        for place, source in sources.items():
            output[place] = float(input[source])
        return from_channels_last(output, data_format)
    gradient = to_channels_last(grad_output, data_format)
    if gradient.shape != output.shape:
        raise OracleError(f"grad_output of shape {grad_output.shape}")
    grad_input = np.zeros(input.shape)
    for place, source in sources.items():
        grad_input[source] = float(gradient[place])
    return grad_input
