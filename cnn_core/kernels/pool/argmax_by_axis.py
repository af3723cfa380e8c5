"""Maxima over windows, where they lie, and the routes of their gradients back to the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.geometry import AnyWindows, Axis, Piece, Windows
from cnn_core.kernels.by_axis import (
    add_where,
    at,
    innermost_first,
    level_sizes,
    pieces_of,
    put_where,
    reduce_axes,
    reduction_costs,
    resized,
    smallest_first,
    spanned_windows,
)
from cnn_core.kernels.cost import Cost, Costs

__all__ = [
    "MAX_TAPS",
    "MaximumLevel",
    "chosen_elements",
    "maximum_costs",
    "maximum_levels",
    "positions_of_chosen",
    "route_to_chosen",
    "route_to_tied",
    "window_maximum",
]

MAX_TAPS = 32
"""Of a window, for all of them to be compared at once."""

Array = NDArray[Any]
Chooser = Callable[[Array, int, Array, Array], None]


def window_maximum(array: Array, windows: AnyWindows, axes: Sequence[int], target: Array) -> None:
    """Write each window's maximum; NaN if the window holds one. Every window must have a tap inside the input."""
    reduce_axes(np.maximum, array, smallest_first(windows, axes), -np.inf, target)


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
    levels = _levels(array, windows, axes, _choose_numbers)
    # a window that holds a NaN has one as its maximum
    return _levels(array, windows, axes, _choose) if np.isnan(levels[-1].largest).any() else levels


def _levels(array: Array, windows: AnyWindows, axes: Sequence[int], choose: Chooser) -> list[MaximumLevel]:
    levels = []
    for axis, along in innermost_first(windows, axes):
        shape = resized(array, axis, along.output_size)
        # of a window the first tap inside the input, until another one is larger
        largest, chosen = np.full(shape, -np.inf, dtype=array.dtype), np.empty(shape, dtype=_smallest_type(along))
        chosen[...] = along.first_taps().reshape(-1, *(1,) * (len(shape) - 1 - axis))
        for piece in pieces_of(along):
            values = at(array, axis, piece.inputs)
            best, choice = at(largest, axis, piece.outputs), at(chosen, axis, piece.outputs)
            if piece.spans_taps:
                largest_of_all, tap = _best_tap(values, axis, piece)
                np.copyto(best, largest_of_all)
                np.copyto(choice, tap, casting="unsafe")
            else:
                choose(values, piece.offsets.start, best, choice)
        levels.append(MaximumLevel(axis, along, array, largest, chosen))
        array = largest
    return levels


def _smallest_type(along: Axis) -> np.dtype[Any]:
    return np.min_scalar_type(along.tap_count // along.output_size)


def _choose_numbers(values: Array, tap: int, best: Array, choice: Array) -> None:
    """Choose a tap where its value is larger than those of the taps before it, of which none is NaN."""
    better = np.greater(values, best)
    np.maximum(best, values, out=best)
    if tap:
        # taps come in their order: the last one that was larger is the largest
        np.maximum(choice, np.multiply(better, choice.dtype.type(tap)), out=choice)


def _choose(values: Array, tap: int, best: Array, choice: Array) -> None:
    """Choose a tap where its value is larger than those of the taps before it, or NaN."""
    better = (values > best) | np.isnan(values)
    np.copyto(best, values, where=better)
    np.copyto(choice, choice.dtype.type(tap), where=better)


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
        axis, along = level.axis, level.windows
        alone = not along.overlaps
        routed = (np.empty if alone and along.is_covered else np.zeros)(level.values.shape, dtype=gradient.dtype)
        for piece in pieces_of(along):
            offsets = np.arange(piece.offsets.start, piece.offsets.stop, dtype=level.chosen.dtype)
            along_axis = offsets.reshape(-1, *(1,) * (routed.ndim - 1 - axis)) if piece.spans_taps else offsets[0]
            is_chosen = at(level.chosen, axis, piece.outputs) == along_axis
            values, part = at(gradient, axis, piece.outputs), at(routed, axis, piece.inputs)
            if alone:
                put_where(is_chosen, values, part)
            else:
                add_where(is_chosen, values, part)
        gradient = routed
    return gradient


def route_to_tied(gradient: Array, levels: Sequence[MaximumLevel], *, shared: bool) -> Array:
    """Give each window's gradient to every tap that equals its maximum: all of it, or an equal share."""
    if shared:
        gradient = gradient / _tied_taps(levels, gradient.dtype)
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        for piece in pieces_of(level.windows):
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
        for piece in pieces_of(level.windows):
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
    backward = levels[0] + max(found + 4 * max(levels), chosen_elements(planes, windows))
    costs = reduction_costs(planes, windows, sum(levels[1:]) + spanned, backward)
    if not with_positions:
        return costs
    # for each axis an index of 64 bits, before and after it is reduced
    positions = max(found + 4 * len(windows.axes) * max(levels[1:]), chosen_elements(planes, windows))
    return Costs(Cost(costs.backward["input"].work, positions), costs.backward)


def chosen_elements(planes: int, windows: AnyWindows) -> int:
    """Return the elements that are held where taps are numbered, as in ``chosen_taps``; of 4 bytes each."""
    if not isinstance(windows, Windows) or math.prod(windows.kernel_sizes) > MAX_TAPS:
        return 0
    shape = list(windows.sizes)
    levels = []
    for number, axis in enumerate(windows.axes):
        before = planes * math.prod(shape)
        shape[number] = axis.output_size
        after = planes * math.prod(shape)
        # the largest of each window; in a byte each the numbers of taps, and whether they are chosen; the values of all
        # taps, and where gradients go
        in_bytes = (1 + 2 * axis.kernel_size) * after
        levels.append(after + -(-in_bytes // 4) + axis.kernel_size * after + (before if number else 0))
    # of one axis at a time what gradients leave of them; the gradient in another type; positions of 64 bits
    largest = planes * math.prod(max(axis.size, axis.output_size) for axis in windows.axes)
    return sum(levels) + 2 * largest + (2 + 2 * len(shape)) * planes * math.prod(shape)
