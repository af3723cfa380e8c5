"""Window geometry and memory layouts for the loop oracle, one output position and one tap at a time.

Written from the rules alone; the rule numbers are those of the semantics that the project states.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
Index = tuple[int, ...]
PerAxis = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]


class OracleError(Exception):
    """The rules say that this call is an error."""


# ---------------------------------------------------------------------------------------------------------- geometry


def per_axis(value: PerAxis, rank: int, least: int) -> list[int]:
    """One whole number per spatial axis, from one for all of them or a list."""
    values = [value] * rank if isinstance(value, int) else list(value)
    if len(values) != rank:
        raise OracleError(f"{len(values)} values for {rank} spatial axes")
    for one in values:
        if one < least:
            raise OracleError(f"{one} is less than {least}")
    return values


def resolve_padding(
    padding: Padding, sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding before and after the input on every spatial axis (rule 3)."""
    resolved: list[tuple[int, int]] = []
    if isinstance(padding, str):
        for size, extent, stride in zip(sizes, extents, strides, strict=True):
            if padding == "valid":
                resolved.append((0, 0))
                continue
            total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
            smaller, larger = total // 2, total - total // 2
            if padding == "same":
                resolved.append((smaller, larger))
            elif padding == "same_lower":
                resolved.append((larger, smaller))
            else:
                raise OracleError(f"unknown padding {padding!r}")
        return resolved
    entries: list[int | Sequence[int]] = [padding] * len(sizes) if isinstance(padding, int) else list(padding)
    if len(entries) != len(sizes):
        raise OracleError(f"{len(entries)} paddings for {len(sizes)} spatial axes")
    for entry in entries:
        pair = [entry, entry] if isinstance(entry, int) else list(entry)
        if len(pair) != 2 or min(pair) < 0:
            raise OracleError(f"padding {entry} is not two whole numbers >= 0")
        resolved.append((pair[0], pair[1]))
    return resolved


def output_size(size: int, before: int, after: int, extent: int, stride: int, *, ceil_mode: bool = False) -> int:
    """The number of window positions on one axis (rules 1 and 2)."""
    room = size + before + after - extent
    if not ceil_mode:
        if room < 0:
            raise OracleError(f"window of extent {extent} on {size + before + after} elements")
        return room // stride + 1
    positions = -(-room // stride) + 1
    if (positions - 1) * stride >= size + before:
        positions -= 1
    if positions < 1:
        raise OracleError(f"no window of extent {extent} on {size + before + after} elements")
    return positions


@dataclass(frozen=True)
class Geometry:
    """Everything about the windows of one call; every list has one entry per spatial axis."""

    sizes: list[int]
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    padding: list[tuple[int, int]]
    output: list[int]

    def positions(self) -> Iterator[Index]:
        """Every output position, row-major."""
        return itertools.product(*(range(size) for size in self.output))

    def taps(self) -> Iterator[Index]:
        """Every tap of the kernel, row-major."""
        return itertools.product(*(range(size) for size in self.kernel))

    def coordinates(self, position: Index, tap: Index) -> Index:
        """Where a tap lies, counted from the first element of the input: negative in the leading padding."""
        return tuple(
            position[axis] * self.stride[axis] + tap[axis] * self.dilation[axis] - self.padding[axis][0]
            for axis in range(len(self.sizes))
        )

    def inside(self, coordinates: Index) -> bool:
        """Whether the coordinates are those of an input element."""
        return all(0 <= at < size for at, size in zip(coordinates, self.sizes, strict=True))

    def valid(self, position: Index) -> list[Index]:
        """The input elements under the window, row-major: its taps without those in the padding."""
        reached = [self.coordinates(position, tap) for tap in self.taps()]
        return [coordinates for coordinates in reached if self.inside(coordinates)]


def geometry(
    sizes: Sequence[int],
    kernel_size: PerAxis,
    stride: PerAxis | None,
    padding: Padding,
    dilation: PerAxis,
    *,
    ceil_mode: bool = False,
) -> Geometry:
    """Resolve the parameters of a call against the spatial sizes of its input."""
    rank = len(sizes)
    if rank not in {1, 2, 3} or min(sizes) < 1:
        raise OracleError(f"spatial sizes {list(sizes)}")
    kernel = per_axis(kernel_size, rank, least=1)
    strides = kernel if stride is None else per_axis(stride, rank, least=1)
    dilations = per_axis(dilation, rank, least=1)
    extents = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilations, strict=True)]
    paddings = resolve_padding(padding, sizes, extents, strides)
    output = [
        output_size(sizes[axis], *paddings[axis], extents[axis], strides[axis], ceil_mode=ceil_mode)
        for axis in range(rank)
    ]
    return Geometry(list(sizes), kernel, strides, dilations, paddings, output)


# ------------------------------------------------------------------------------------------------------------ layout


def to_channels_last(activations: AnyArray, data_format: str) -> Array:
    """(N, C, *spatial) or (N, *spatial, C) to float64 (N, *spatial, C)."""
    if data_format not in {"channels_last", "channels_first"}:
        raise OracleError(f"unknown data_format {data_format!r}")
    if activations.ndim not in {3, 4, 5} or min(activations.shape[1:]) < 1:
        raise OracleError(f"activations of shape {activations.shape}")
    turned = np.moveaxis(activations, 1, -1) if data_format == "channels_first" else activations
    return turned.astype(np.float64)


def from_channels_last(activations: Array, data_format: str) -> Array:
    """(N, *spatial, C) to the layout asked for."""
    return np.moveaxis(activations, -1, 1) if data_format == "channels_first" else activations


def kernel_to_channels_last(weight: AnyArray, data_format: str) -> Array:
    """(F, C/G, *kernel) or (*kernel, C/G, F) to float64 (*kernel, C/G, F)."""
    if min(weight.shape, default=0) < 1:
        raise OracleError(f"weight of shape {weight.shape}")
    turned = np.moveaxis(weight, (0, 1), (-1, -2)) if data_format == "channels_first" else weight
    return turned.astype(np.float64)


def kernel_from_channels_last(weight: Array, data_format: str) -> Array:
    """(*kernel, C/G, F) to the layout asked for."""
    return np.moveaxis(weight, (-1, -2), (0, 1)) if data_format == "channels_first" else weight
