"""Sums over windows, and their transpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.axis_by_axis import (
    at,
    level_sizes,
    pieces_of,
    reduced,
    reduction_costs,
    resized,
    smallest_first,
    spanned_windows,
)
from cnn_core.compute.cost import Costs
from cnn_core.geometry import AnyWindows

__all__ = ["sum_costs", "window_sum", "window_sum_transposed"]

Array = NDArray[Any]


def window_sum(array: Array, windows: AnyWindows, axes: Sequence[int]) -> Array:
    """Sum each window's taps inside the input. Returns an array of the same type with the axes reduced."""
    for axis, along in smallest_first(windows, axes):
        # over an axis that is not the last one NumPy adds naively, which loses digits of many taps in float32
        array = reduced(np.add, array, axis, along, 0, np.dtype(np.float64))
    return array


def window_sum_transposed(gradient: Array, windows: AnyWindows, axes: Sequence[int]) -> Array:
    """Give every tap of a window the window's value and add up where windows overlap: the transpose of window_sum."""
    # back along the way of window_sum, through arrays of the same shapes
    for axis, along in reversed(smallest_first(windows, axes)):
        alone = not along.overlaps
        spread = (np.empty if alone and along.is_covered else np.zeros)(
            resized(gradient, axis, along.size), dtype=gradient.dtype
        )
        for piece in pieces_of(along):
            part, values = at(spread, axis, piece.inputs), at(gradient, axis, piece.outputs)
            if alone:
                part[...] = values
            else:
                np.add(part, values, out=part)
        gradient = spread
    return gradient


def sum_costs(planes: int, windows: AnyWindows) -> Costs:
    """Return what ``window_sum`` costs, and what ``window_sum_transposed`` costs.

    Parameters
    ----------
    planes : int
        Images times channels.
    windows : AnyWindows
    """
    levels = level_sizes(planes, windows)
    # the array after each axis, sums in float64 of all taps of one window, and the quotient
    forward = sum(levels[1:]) + 2 * spanned_windows(levels, windows) + levels[-1]
    return reduction_costs(planes, windows, forward, sum(levels) + levels[-1])
