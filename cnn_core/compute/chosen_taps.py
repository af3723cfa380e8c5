"""Which tap of each window holds its maximum, for ordinary windows: all taps are compared with the maximum at once.

For windows of many taps, those that are not at equal distances, and those that hold a NaN, ``window_maximum`` goes
through the axes one by one instead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.axis_by_axis import integers_of, mask_of
from cnn_core.compute.window_maximum import MOST_TAPS, window_maximum
from cnn_core.geometry import AnyWindows, Windows

__all__ = ["ChosenTaps", "chosen_taps"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ChosenTaps:
    """The first tap of each window that holds its maximum.

    Parameters
    ----------
    windows : Windows
    axes : sequence of int
        Of the array, those that are pooled.
    shape : tuple of int
        Of the array.
    largest : ndarray
        The maxima.
    taps : ndarray of uint8
        Of each window the number of its tap, in row-major order.
    """

    windows: Windows
    axes: Sequence[int]
    shape: tuple[int, ...]
    largest: Array
    taps: NDArray[np.uint8]

    def positions(self) -> list[NDArray[np.int64]]:
        """Return where each window's tap lies: its index along each pooled axis."""
        offsets = np.unravel_index(np.arange(math.prod(self.windows.kernel_sizes)), self.windows.kernel_sizes)
        positions = []
        for axis, along, offset in zip(self.axes, self.windows.axes, offsets, strict=True):
            position = np.take(offset * along.dilation, self.taps, mode="clip")
            position += along.starts().reshape(-1, *(1,) * (len(self.shape) - 1 - axis))
            positions.append(position)
        return positions

    def route(self, gradient: Array) -> Array:
        """Give each window's gradient to its tap: an array of the input's shape."""
        padded = np.zeros(_padded_shape(self.shape, self.windows, self.axes), dtype=gradient.dtype)
        if any(axis.overlaps for axis in self.windows.axes):
            places = np.take(_tap_offsets(padded.shape, self.windows, self.axes), self.taps, mode="clip")
            places += _window_offsets(padded.shape, self.windows, tuple(self.axes))
            np.add.at(padded.reshape(-1), places.reshape(-1), gradient.reshape(-1))
        else:
            integers = integers_of(gradient)
            numbers = np.arange(math.prod(self.windows.kernel_sizes), dtype=np.uint8)
            numbers = numbers.reshape(*self.windows.kernel_sizes, *(1,) * self.taps.ndim)
            mask = mask_of(self.taps == numbers, integers.dtype)
            np.bitwise_and(mask, integers, out=self.windows.taps_first(integers_of(padded), self.axes, writeable=True))
        return padded[_inside(self.windows, self.axes)]


def chosen_taps(array: Array, windows: AnyWindows, axes: Sequence[int]) -> ChosenTaps | None:
    """Return the first tap of each window that holds its maximum; None if this is not the way to find it."""
    if not isinstance(windows, Windows) or math.prod(windows.kernel_sizes) > MOST_TAPS:
        return None
    largest = window_maximum(array, windows, axes)
    if np.isnan(largest).any():
        return None
    shape = array.shape
    if any(axis.reach > axis.size for axis in windows.axes):
        # neither padding nor overhang equals a maximum, which may be minus infinity
        padded = np.full(_padded_shape(array.shape, windows, axes), np.nan, dtype=array.dtype)
        padded[_inside(windows, axes)] = array
        array = padded
    equal = np.equal(windows.taps_first(array, axes), largest)
    taps = equal.view(np.uint8).reshape(-1, *largest.shape)
    # the number of a tap that equals the maximum, and 255 for one that does not; the smallest is the first
    np.subtract(taps, 1, out=taps)
    np.bitwise_or(taps, np.arange(len(taps), dtype=np.uint8).reshape(-1, *(1,) * largest.ndim), out=taps)
    return ChosenTaps(windows, axes, shape, largest, np.minimum.reduce(taps, axis=0))


def _padded_shape(shape: Sequence[int], windows: Windows, axes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an array with all that its windows reach."""
    padded = list(shape)
    for axis, along in zip(axes, windows.axes, strict=True):
        padded[axis] = along.reach
    return tuple(padded)


def _inside(windows: Windows, axes: Sequence[int]) -> tuple[slice, ...]:
    """Return slices of what is not padding."""
    inside = (slice(axis.before, axis.before + axis.size) for axis in windows.axes)
    return (*(slice(None),) * axes[0], *inside)


def _tap_offsets(shape: Sequence[int], windows: Windows, axes: Sequence[int]) -> NDArray[np.int64]:
    """Return by how many elements of an array of this shape each tap lies after its window's first."""
    steps = (math.prod(shape[axis + 1 :]) for axis in axes)
    along = (
        np.arange(axis.kernel_size) * (axis.dilation * step) for axis, step in zip(windows.axes, steps, strict=True)
    )
    return functools.reduce(np.add.outer, along).reshape(-1)


@functools.lru_cache(maxsize=8)
def _window_offsets(shape: tuple[int, ...], windows: Windows, axes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where in a padded array of this shape each window's first tap lies; the array is not to be written."""
    counts, steps = list(shape), [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    for axis, along in zip(axes, windows.axes, strict=True):
        counts[axis] = along.output_size
        steps[axis] *= along.stride
    offsets = functools.reduce(
        np.add.outer, (np.arange(count) * step for count, step in zip(counts, steps, strict=True))
    )
    offsets.flags.writeable = False
    return offsets
