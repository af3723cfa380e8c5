"""Maxima over windows, where they lie, and the routes of their gradients back to the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.axis_by_axis import (
    accumulate,
    add_where,
    at,
    innermost_first,
    level_sizes,
    reduction_costs,
    resized,
    spanned_windows,
)
from cnn_core.compute.cost import Cost, Costs
from cnn_core.geometry import AnyWindows, Axis, Piece

__all__ = [
    "MaximumLevel",
    "maximum_costs",
    "maximum_levels",
    "positions_of_chosen",
    "route_to_chosen",
    "route_to_tied",
    "window_maximum",
]

Array = NDArray[Any]


def window_maximum(array: Array, windows: AnyWindows, axes: Sequence[int]) -> Array:
    """Return each window's maximum; NaN if the window holds one. Every window must have a tap inside the input."""
    for axis, along in innermost_first(windows, axes):
        largest = np.full(resized(array, axis, along.output_size), -np.inf, dtype=array.dtype)
        accumulate(np.maximum, array, axis, along, largest, array.dtype)
        array = largest
    return array


@dataclass(frozen=True)
class MaximumLevel:
    """One axis of a maximum over windows: the values before and after, and the offset of the tap that was chosen."""

    axis: int
    windows: Axis
    values: Array
    largest: Array
    chosen: Array


def maximum_levels(array: Array, windows: AnyWindows, axes: Sequence[int]) -> list[MaximumLevel]:
    """Compute window_maximum and keep for each axis, innermost first, what routing the gradient needs.

    The chosen tap is the first that holds the maximum, or the last NaN, as in PyTorch. A window starts with its first
    tap inside the input, so that one of minus infinity is chosen where there is nothing else.
    """
    levels = []
    for axis, along in innermost_first(windows, axes):
        shape = resized(array, axis, along.output_size)
        largest = np.full(shape, -np.inf, dtype=array.dtype)
        chosen = np.full(shape, -1, dtype=np.int32)
        for piece in along.pieces():
            value, tap = _best_tap(at(array, axis, piece.inputs), axis, piece)
            best, choice = at(largest, axis, piece.outputs), at(chosen, axis, piece.outputs)
            better = (value > best) | np.isnan(value) | (choice < 0)
            np.copyto(best, value, where=better)
            np.copyto(choice, tap, where=better, casting="same_kind")
        levels.append(MaximumLevel(axis, along, array, largest, chosen))
        array = largest
    return levels


def _best_tap(values: Array, axis: int, piece: Piece) -> tuple[Array, Array | int]:
    """Return the maximum over the piece's taps and the offset of the tap that is chosen for it."""
    if not piece.spans_taps:
        return values, piece.offsets.start
    largest = np.maximum.reduce(values, axis=axis, keepdims=True)
    is_largest = (values == largest) | np.isnan(values)
    first = is_largest.argmax(axis=axis, keepdims=True)
    last = values.shape[axis] - 1 - np.flip(is_largest, axis).argmax(axis=axis, keepdims=True)
    return largest, piece.offsets.start + np.where(np.isnan(largest), last, first)


def positions_of_chosen(levels: Sequence[MaximumLevel]) -> list[Array]:
    """Return where each window's chosen tap lies: its index along each reduced axis, outermost first, as int64."""
    positions: list[Array] = []
    for level in levels:
        starts = level.windows.starts().reshape(-1, *(1,) * (level.chosen.ndim - 1 - level.axis))
        position = np.multiply(level.chosen, level.windows.dilation, dtype=np.int64)
        position += starts
        # of the windows along the axes before, those at the chosen place count
        positions = [np.take_along_axis(inner, position, axis=level.axis) for inner in positions]
        positions.append(position)
    return positions[::-1]


def route_to_chosen(gradient: Array, levels: Sequence[MaximumLevel]) -> Array:
    """Give each window's gradient to its chosen tap."""
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        for piece in level.windows.pieces():
            offsets = np.arange(piece.offsets.start, piece.offsets.stop, dtype=level.chosen.dtype)
            along_axis = offsets.reshape(-1, *(1,) * (routed.ndim - 1 - level.axis))
            is_chosen = at(level.chosen, level.axis, piece.outputs) == along_axis
            add_where(is_chosen, at(gradient, level.axis, piece.outputs), at(routed, level.axis, piece.inputs))
        gradient = routed
    return gradient


def route_to_tied(gradient: Array, levels: Sequence[MaximumLevel], *, shared: bool) -> Array:
    """Give each window's gradient to every tap that equals its maximum: all of it, or an equal share."""
    if shared:
        gradient = gradient / _tied_taps(levels, gradient.dtype)
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        for piece in level.windows.pieces():
            tied = _equals_maximum(level, piece)
            add_where(tied, at(gradient, level.axis, piece.outputs), at(routed, level.axis, piece.inputs))
        gradient = routed
    return gradient


def _equals_maximum(level: MaximumLevel, piece: Piece) -> Array:
    value, largest = at(level.values, level.axis, piece.inputs), at(level.largest, level.axis, piece.outputs)
    equal: Array = (value == largest) | (np.isnan(value) & np.isnan(largest))
    return equal


def _tied_taps(levels: Sequence[MaximumLevel], dtype: np.dtype[Any]) -> Array:
    """Count the taps of each window that equal its maximum."""
    counts = np.ones(levels[0].values.shape, dtype=dtype)
    for level in levels:
        total = np.zeros(level.largest.shape, dtype=dtype)
        for piece in level.windows.pieces():
            tied = np.where(_equals_maximum(level, piece), at(counts, level.axis, piece.inputs), 0)
            if piece.spans_taps:
                tied = tied.sum(axis=level.axis, keepdims=True)
            part = at(total, level.axis, piece.outputs)
            np.add(part, tied, out=part)
        counts = total
    return counts


def maximum_costs(planes: int, windows: AnyWindows, *, with_positions: bool) -> Costs:
    """Return what ``window_maximum`` costs, and what ``maximum_levels`` and a route back cost together.

    Parameters
    ----------
    planes : int
        Images times channels.
    windows : AnyWindows
    with_positions : bool
        Whether the forward computation tells where the maxima lie.
    """
    levels = level_sizes(planes, windows)
    spanned = spanned_windows(levels, windows)
    # a maximum and its index after each axis, four positions of 64 bits where all taps of a window are searched, and
    # four masks of one axis at a time
    found = 2 * sum(levels[1:]) + 8 * spanned + max(levels)
    # forward the array after each axis, and the maxima of all taps of one window; backward also, of one axis at a time,
    # the gradient before and after, what is chosen from it, and the numbers of tied taps
    costs = reduction_costs(planes, windows, sum(levels[1:]) + spanned, found + 4 * max(levels))
    if not with_positions:
        return costs
    # for each axis an index of 64 bits, before and after it is reduced
    positions = Cost(costs.backward["input"].work, found + 4 * len(windows.axes) * max(levels[1:]))
    return Costs(positions, costs.backward)
