"""The windows over all spatial axes of an input."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .axis import Axis, AxisWindows, Piece

__all__ = ["AnyWindows", "Windows"]


@dataclass(frozen=True)
class AnyWindows:
    """The windows over all spatial axes, whatever rule places them: one Axis for each."""

    axes: tuple[Axis, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size of the input along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def output_sizes(self) -> tuple[int, ...]:
        """Number of windows along each axis."""
        return tuple(axis.output_size for axis in self.axes)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Padding (before, after) of each axis."""
        return ((0, 0),) * len(self.axes)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that place these windows, resolved for each axis and side."""
        return {}

    def pieces(self) -> Iterator[tuple[Piece, ...]]:
        """Yield all combinations of the axes' pieces."""
        return itertools.product(*(tuple(axis.pieces()) for axis in self.axes))


@dataclass(frozen=True)
class Windows(AnyWindows):
    """Windows at equal distances along every axis."""

    axes: tuple[AxisWindows, ...]

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        """Taps of a window along each axis."""
        return tuple(axis.kernel_size for axis in self.axes)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:  # noqa: D102
        return tuple((axis.before, axis.after) for axis in self.axes)

    def parameters(self) -> dict[str, Any]:  # noqa: D102
        return {
            "kernel_size": self.kernel_sizes,
            "stride": tuple(axis.stride for axis in self.axes),
            "padding": self.padding,
            "dilation": tuple(axis.dilation for axis in self.axes),
        }

    @property
    def padded_sizes(self) -> tuple[int, ...]:
        """Size of the input with its padding, along each axis."""
        return tuple(axis.before + axis.size + axis.after for axis in self.axes)

    @property
    def inside(self) -> tuple[slice, ...]:
        """Slices of the padded input, along each axis, without the padding."""
        return tuple(slice(axis.before, axis.before + axis.size) for axis in self.axes)

    def over_padded_input(self) -> Windows:
        """Return the same windows over an input that already contains its padding."""
        return Windows(
            tuple(
                dataclasses.replace(axis, size=size, before=0, after=0)
                for axis, size in zip(self.axes, self.padded_sizes, strict=True)
            )
        )

    def pad(self, input: NDArray[Any]) -> NDArray[Any]:
        """Return the input (N, *spatial, ...) with its zero padding; the input itself if there is none."""
        if not any(axis.before or axis.after for axis in self.axes):
            return input
        rest = input.shape[1 + len(self.axes) :]
        padded = np.zeros((input.shape[0], *self.padded_sizes, *rest), dtype=input.dtype)
        padded[(slice(None), *self.inside)] = input
        return padded

    def view(self, padded: NDArray[Any]) -> NDArray[Any]:
        """View the windows of a padded input (N, *padded spatial, ...) as (N, *output_sizes, *kernel_sizes, ...)."""
        inner = 1 + len(self.axes)
        along = list(zip(self.axes, padded.strides[1:inner], strict=True))
        shape = (len(padded), *self.output_sizes, *self.kernel_sizes, *padded.shape[inner:])
        between = (*(axis.stride * step for axis, step in along), *(axis.dilation * step for axis, step in along))
        strides = (padded.strides[0], *between, *padded.strides[inner:])
        if padded.flags.c_contiguous:
            # several times faster than as_strided, which matters for small layers
            return np.ndarray(shape, padded.dtype, padded.data, 0, strides)
        return as_strided(padded, shape=shape, strides=strides, writeable=False)
