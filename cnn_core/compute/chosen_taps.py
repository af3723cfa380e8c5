"""Which tap of each window holds its maximum, for ordinary windows: all taps are compared with the maximum at once.

For windows of many taps, those that are not at equal distances, and those that hold a NaN, ``window_maximum`` goes
through the axes one by one instead.

Axes in comments: K kernel sizes as one axis, then those of the output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.axis_by_axis import integers_of
from cnn_core.compute.outer_sum import outer_sum
from cnn_core.compute.window_maximum import MOST_TAPS
from cnn_core.compute.workspace import Workspace
from cnn_core.geometry import AnyWindows, Windows

__all__ = ["ChosenTaps"]

Array = NDArray[Any]

LARGEST_PIXEL = 128
"""Bytes of the channels at one position, up to which they are copied as one element."""


class ChosenTaps:
    """Finds the first tap of each window that holds its maximum, for one block after the other.

    Parameters
    ----------
    workspace : Workspace
    axes : sequence of int
        Those of a block that are pooled.
    """

    def __init__(self, workspace: Workspace, axes: Sequence[int]) -> None:
        self._workspace, self._axes = workspace, tuple(axes)
        self._known: tuple[Any, ...] = ()
        self._step: _Step | None = None

    def find(self, part: Array, windows: AnyWindows) -> _Step | None:
        """Find the taps in a part of the input; None if this is not the way to find them.

        What is returned is valid until the next part.
        """
        if not isinstance(windows, Windows) or math.prod(windows.kernel_sizes) > MOST_TAPS:
            return None
        known = (windows, part.shape, part.dtype)
        if self._step is None or self._known != known:
            self._known, self._step = known, _Step(self._workspace, part, windows, self._axes)
        return self._step if self._step.find(part) else None


class _Step:
    """What is done for all blocks in which windows lie alike.

    Most views are made beforehand: between NumPy's calls a thread is to hold Python's lock as briefly as possible.
    """

    def __init__(self, workspace: Workspace, part: Array, windows: Windows, axes: tuple[int, ...]) -> None:
        self._windows, self._axes = windows, axes
        taps, dtype = math.prod(windows.kernel_sizes), part.dtype
        shape, reached = list(part.shape), list(part.shape)
        # the channels of a position, where these come last and are few
        is_last = axes[-1] < part.ndim - 1 and part.strides[-1] == part.itemsize
        self._has_pixels = is_last and part.itemsize * part.shape[-1] <= LARGEST_PIXEL
        for axis, along in zip(axes, windows.axes, strict=True):
            shape[axis], reached[axis] = along.output_size, along.reach
        needed: list[tuple[Sequence[int], Any]] = [
            (reached, dtype),
            (reached, dtype),
            ((taps, *shape), dtype),
            (shape, dtype),
            (shape, np.int64),
            ((taps, *shape), np.uint8),
            (shape, np.uint8),
        ]
        memory = workspace.arrays(
            *((math.prod(sizes) * np.dtype(kind).itemsize,) for sizes, kind in needed), dtype="u1"
        )
        arrays = [array.view(kind).reshape(sizes) for array, (sizes, kind) in zip(memory, needed, strict=True)]
        self._padded, self._routed, self._gathered, self.largest, self._places, self._equal, self._chosen = arrays
        self._numbers = np.arange(taps, dtype=np.uint8).reshape(-1, *(1,) * len(shape))
        inside = (*(slice(None),) * axes[0], *windows.inside)
        self._by_tap = self._whole(self._gathered.reshape(*windows.kernel_sizes, *shape))
        self._is_padded = reached != list(part.shape)
        if self._is_padded:
            self._padded.fill(-np.inf)
            self._inside = self._padded[inside]
            self._windowed = self._whole(windows.taps_first(self._padded, axes))
        self._routed_inside = self._routed[inside]
        self._routed_windows = self._whole(windows.taps_first(self._routed, axes, writeable=True))
        self._overlaps = any(axis.overlaps for axis in windows.axes)
        self._is_covered = all(axis.is_covered for axis in windows.axes)
        steps = [math.prod(reached[axis + 1 :]) for axis in range(len(reached))]
        between_taps = (along.dilation * steps[axis] for axis, along in zip(axes, windows.axes, strict=True))
        self._offsets = outer_sum(windows.kernel_sizes, tuple(between_taps)).reshape(-1)
        for axis, along in zip(axes, windows.axes, strict=True):
            steps[axis] *= along.stride
        self._starts = outer_sum(tuple(shape), tuple(steps)) if self._overlaps else self._places

    def _whole(self, array: Array) -> Array:
        return by_pixel(array) if self._has_pixels else array

    def find(self, part: Array) -> bool:
        """Find the taps; tell whether all maxima are numbers, which are not minus infinity."""
        if self._is_padded:
            np.copyto(self._inside, part)
            np.copyto(self._by_tap, self._windowed)
        else:
            np.copyto(self._by_tap, self._whole(self._windows.taps_first(part, self._axes)))
        np.maximum.reduce(self._gathered, axis=0, out=self.largest)
        # minus infinity would be found in the padding too
        if not np.minimum.reduce(self.largest, axis=None) > -np.inf:
            return False
        np.equal(self._gathered, self.largest, out=self._equal.view(np.bool_))
        # the number of a tap that equals the maximum, and 255 for one that does not; the smallest is the first
        np.subtract(self._equal, 1, out=self._equal)
        np.bitwise_or(self._equal, self._numbers, out=self._equal)
        np.minimum.reduce(self._equal, axis=0, out=self._chosen)
        return True

    def positions(self) -> list[NDArray[np.int64]]:
        """Return where in the part each window's tap lies: its index along each pooled axis."""
        offsets = np.unravel_index(np.arange(len(self._numbers)), self._windows.kernel_sizes)
        positions = []
        for axis, along, offset in zip(self._axes, self._windows.axes, offsets, strict=True):
            position = np.take(offset * along.dilation, self._chosen, mode="clip")
            position += along.starts().reshape(-1, *(1,) * (self._chosen.ndim - 1 - axis))
            positions.append(position)
        return positions

    def route(self, gradient: Array) -> Array:
        """Give each window's gradient to its tap: an array of the shape of the part."""
        self._write(gradient)
        routed: Array = self._routed_inside
        return routed

    def _write(self, gradient: Array) -> None:
        if self._overlaps:
            np.take(self._offsets, self._chosen, out=self._places, mode="clip")
            np.add(self._places, self._starts, out=self._places)
            self._routed.fill(0)
            np.add.at(self._routed.reshape(-1), self._places.reshape(-1), gradient.reshape(-1))
            return
        if not self._is_covered:
            self._routed.fill(0)
        chosen, masks = self._equal.view(np.bool_), integers_of(self._gathered)
        np.equal(self._chosen, self._numbers, out=chosen)
        np.copyto(masks, chosen)
        np.negative(masks, out=masks)
        np.bitwise_and(masks, integers_of(gradient), out=masks)
        np.copyto(self._routed_windows, self._by_tap)


def by_pixel(array: Array) -> Array:
    """View the last axis, which must be in one piece, as one element: copies go through it at once then."""
    pixel = array.itemsize * array.shape[-1]
    pixels: Array = array.view(np.dtype((np.void, pixel)))[..., 0]
    return pixels
