"""Sums over windows, and their transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.geometry import AnyWindows, Axis, Windows
from cnn_core.kernels.by_axis import (
    SHORT,
    at,
    level_sizes,
    pieces_of,
    reduce_axes,
    reduction_costs,
    resized,
    smallest_first,
    spanned_windows,
)
from cnn_core.kernels.cost import Costs
from cnn_core.kernels.pool.blocks import PoolBlock, write_rows
from cnn_core.kernels.pool.scatter import routes_by_tap, spread

__all__ = ["sum_costs", "window_sum", "window_sum_transposed"]

Array = NDArray[Any]

MIN_CHANNELS = 64
"""That one of NumPy's loops goes through at once, for a single pass to be faster than one for each axis."""


def window_sum(array: Array, windows: AnyWindows, axes: Sequence[int], target: Array) -> None:
    """Write the sum of each window's taps inside the input, in the type of the array."""
    if isinstance(windows, Windows) and _is_added_at_once(array, windows, axes, target):
        taps = len(axes)
        kept = range(taps, taps + array.ndim)
        np.einsum(windows.taps_first(array, axes), range(taps + array.ndim), kept, out=target)
        return
    # over an axis that is not the last one NumPy adds naively, which loses digits of many taps in float32
    reduce_axes(np.add, array, smallest_first(windows, axes), 0, target, np.dtype(np.float64))


def _is_added_at_once(array: Array, windows: Windows, axes: Sequence[int], target: Array) -> bool:
    """Return whether all taps are added in a single pass, which is faster for few of them and many channels."""
    return (
        # no window reaches beyond the input
        all(axis.before == 0 and axis.reach == axis.size for axis in windows.axes)
        and math.prod(windows.kernel_sizes) <= SHORT
        and axes[-1] == array.ndim - 2
        and array.shape[-1] >= MIN_CHANNELS
        and target.dtype == array.dtype
    )


def window_sum_transposed(gradient: Array, block: PoolBlock, axes: Sequence[int], target: Array) -> None:
    """Give every tap of a window the window's value and add up where windows overlap: the transpose of window_sum.

    Parameters
    ----------
    gradient : ndarray
        Of a block's windows.
    block : PoolBlock
    axes : sequence of int
    target : ndarray
        The rows that the block writes.
    """
    # back along the way of window_sum, through arrays of the same shapes
    (last_axis, last), *others = smallest_first(block.windows, axes)
    for axis, along in reversed(others):
        gradient = _spread_whole(gradient, axis, along)
    routes = block.layout.routes
    if last_axis != axes[0] or routes is None:
        write_rows(_spread_whole(gradient, last_axis, last), block, axes[0], target)
        return
    # rows that are others' are left out
    into = target if target.dtype == gradient.dtype else np.empty(target.shape, dtype=gradient.dtype)
    spread(gradient, last_axis, routes, into)
    if into is not target:
        target[...] = into


def _spread_whole(gradient: Array, axis: int, along: Axis) -> Array:
    """Return what all elements along an axis get."""
    whole = np.empty(resized(gradient, axis, along.size), dtype=gradient.dtype)
    routes = routes_by_tap(along, 0, along.size)
    if routes is not None:
        spread(gradient, axis, routes, whole)
        return whole
    whole.fill(0)
    for piece in pieces_of(along):
        part = at(whole, axis, piece.inputs)
        np.add(part, at(gradient, axis, piece.outputs), out=part)
    return whole


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
