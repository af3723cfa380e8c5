"""Reductions over windows, one axis at a time, and the routes of their gradients back to the input.

Sums and maxima over a box are sums and maxima over its axes in turn, so a window of K1 x K2 taps costs K1 + K2 passes
over the array, not K1 * K2. The last axis goes first: then the first maximum along each axis in turn is the first one
in row-major order.

``axis`` is a position in the array; ``windows`` are the windows along it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.cost import STEP, Cost, Costs
from cnn_core.geometry import AxisWindows, Piece, Windows

__all__ = [
    "MaximumLevel",
    "maximum_costs",
    "maximum_levels",
    "route_to_chosen",
    "route_to_tied",
    "sum_costs",
    "window_maximum",
    "window_sum",
    "window_sum_transposed",
]

Array = NDArray[Any]

FORWARD_TAP, BACKWARD_TAP = 10, 120
"""Work of one tap of one window along one axis."""


def _at(array: Array, axis: int, part: slice) -> Array:
    return array[(slice(None),) * axis + (part,)]


def _resized(array: Array, axis: int, size: int) -> tuple[int, ...]:
    return (*array.shape[:axis], size, *array.shape[axis + 1 :])


def _innermost_first(windows: Windows, axes: Sequence[int]) -> list[tuple[int, AxisWindows]]:
    return list(zip(axes, windows.axes, strict=True))[::-1]


def window_sum(array: Array, windows: Windows, axes: Sequence[int]) -> Array:
    """Sum each window's taps inside the input. Returns an array of the same type with the axes reduced."""
    for axis, along in _innermost_first(windows, axes):
        total = np.zeros(_resized(array, axis, along.output_size), dtype=array.dtype)
        # over an axis that is not the last one NumPy adds naively, which loses digits of many taps in float32
        _accumulate(np.add, array, axis, along, total, np.dtype(np.float64))
        array = total
    return array


def window_maximum(array: Array, windows: Windows, axes: Sequence[int]) -> Array:
    """Return each window's maximum; NaN if the window holds one. Every window must have a tap inside the input."""
    for axis, along in _innermost_first(windows, axes):
        largest = np.full(_resized(array, axis, along.output_size), -np.inf, dtype=array.dtype)
        _accumulate(np.maximum, array, axis, along, largest, array.dtype)
        array = largest
    return array


def _accumulate(
    function: np.ufunc, array: Array, axis: int, along: AxisWindows, result: Array, reduced_in: np.dtype[Any]
) -> None:
    for piece in along.pieces():
        values = _at(array, axis, piece.inputs)
        if piece.spans_taps:
            values = function.reduce(values, axis=axis, keepdims=True, dtype=reduced_in)
        part = _at(result, axis, piece.outputs)
        function(part, values, out=part)


def window_sum_transposed(gradient: Array, windows: Windows, axes: Sequence[int]) -> Array:
    """Give every tap of a window the window's value and add up where windows overlap: the transpose of window_sum."""
    # back along the way of window_sum, through arrays of the same shapes
    for axis, along in reversed(_innermost_first(windows, axes)):
        spread = np.zeros(_resized(gradient, axis, along.size), dtype=gradient.dtype)
        for piece in along.pieces():
            part = _at(spread, axis, piece.inputs)
            np.add(part, _at(gradient, axis, piece.outputs), out=part)
        gradient = spread
    return gradient


@dataclass(frozen=True)
class MaximumLevel:
    """One axis of a maximum over windows: the values before and after, and the offset of the tap that was chosen."""

    axis: int
    windows: AxisWindows
    values: Array
    largest: Array
    chosen: Array


def maximum_levels(array: Array, windows: Windows, axes: Sequence[int]) -> list[MaximumLevel]:
    """Compute window_maximum and keep for each axis, innermost first, what routing the gradient needs.

    The chosen tap is the first that holds the maximum, or the last NaN, as in PyTorch. A window starts with its first
    tap inside the input, so that one of minus infinity is chosen where there is nothing else.
    """
    levels = []
    for axis, along in _innermost_first(windows, axes):
        shape = _resized(array, axis, along.output_size)
        largest = np.full(shape, -np.inf, dtype=array.dtype)
        chosen = np.full(shape, -1, dtype=np.int32)
        for piece in along.pieces():
            value, tap = _best_tap(_at(array, axis, piece.inputs), axis, piece)
            best, choice = _at(largest, axis, piece.outputs), _at(chosen, axis, piece.outputs)
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


def route_to_chosen(gradient: Array, levels: Sequence[MaximumLevel]) -> Array:
    """Give each window's gradient to its chosen tap."""
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        for piece in level.windows.pieces():
            offsets = np.arange(piece.offsets.start, piece.offsets.stop, dtype=level.chosen.dtype)
            along_axis = offsets.reshape(-1, *(1,) * (routed.ndim - 1 - level.axis))
            is_chosen = _at(level.chosen, level.axis, piece.outputs) == along_axis
            _add_where(is_chosen, _at(gradient, level.axis, piece.outputs), _at(routed, level.axis, piece.inputs))
        gradient = routed
    return gradient


def _add_where(condition: Array, values: Array, target: Array) -> None:
    # several times faster than np.add(..., where=condition), which goes element by element
    target += np.where(condition, values, values.dtype.type(0))


def route_to_tied(gradient: Array, levels: Sequence[MaximumLevel], *, shared: bool) -> Array:
    """Give each window's gradient to every tap that equals its maximum: all of it, or an equal share."""
    if shared:
        gradient = gradient / _tied_taps(levels, gradient.dtype)
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        for piece in level.windows.pieces():
            tied = _equals_maximum(level, piece)
            _add_where(tied, _at(gradient, level.axis, piece.outputs), _at(routed, level.axis, piece.inputs))
        gradient = routed
    return gradient


def _equals_maximum(level: MaximumLevel, piece: Piece) -> Array:
    value, largest = _at(level.values, level.axis, piece.inputs), _at(level.largest, level.axis, piece.outputs)
    equal: Array = (value == largest) | (np.isnan(value) & np.isnan(largest))
    return equal


def _tied_taps(levels: Sequence[MaximumLevel], dtype: np.dtype[Any]) -> Array:
    """Count the taps of each window that equal its maximum."""
    counts = np.ones(levels[0].values.shape, dtype=dtype)
    for level in levels:
        total = np.zeros(level.largest.shape, dtype=dtype)
        for piece in level.windows.pieces():
            tied = np.where(_equals_maximum(level, piece), _at(counts, level.axis, piece.inputs), 0)
            if piece.spans_taps:
                tied = tied.sum(axis=level.axis, keepdims=True)
            part = _at(total, level.axis, piece.outputs)
            np.add(part, tied, out=part)
        counts = total
    return counts


def sum_costs(planes: int, windows: Windows, divisor_elements: int) -> Costs:
    """Return what ``window_sum`` costs, and what ``window_sum_transposed`` costs.

    Parameters
    ----------
    planes : int
        Images times channels.
    windows : Windows
    divisor_elements : int
        Further elements, for what the sums are divided by.
    """
    levels = _levels(planes, windows)
    # the array after each axis, and sums in float64 of all taps of one window
    forward = sum(levels[1:]) + 2 * _spanned(levels, windows) + divisor_elements
    return _costs(planes, windows, forward, sum(levels[1:]) + divisor_elements)


def maximum_costs(planes: int, windows: Windows) -> Costs:
    """Return what ``window_maximum`` costs, and what ``maximum_levels`` and a route back cost together."""
    levels = _levels(planes, windows)
    spanned = _spanned(levels, windows)
    # forward the array after each axis, and the maxima of all taps of one window; backward a maximum and its index
    # after each axis, four positions of 64 bits where all taps of a window are searched, and, of one axis at a time:
    # the gradient before and after, what is chosen from it, and four masks
    return _costs(planes, windows, sum(levels[1:]) + spanned, 2 * sum(levels[1:]) + 8 * spanned + 5 * max(levels))


def _levels(planes: int, windows: Windows) -> list[int]:
    """Return the elements before any axis is reduced, after the last one is, and so on to the output."""
    sizes, outputs = [axis.size for axis in windows.axes], windows.output_sizes
    rank = len(sizes)
    return [planes * math.prod((*sizes[: rank - reduced], *outputs[rank - reduced :])) for reduced in range(rank + 1)]


def _spanned(levels: Sequence[int], windows: Windows) -> int:
    """Return the most windows that are reduced at one time where a piece spans all taps of one window of its axis."""
    after_axis = zip(levels[1:], windows.axes[::-1], strict=True)
    spanned = (size // axis.output_size for size, axis in after_axis if axis.kernel_size > axis.output_size)
    return max(spanned, default=0)


def _costs(planes: int, windows: Windows, forward_elements: int, backward_elements: int) -> Costs:
    after_axis = zip(_levels(planes, windows)[1:], windows.axes[::-1], strict=True)
    taps = sum(size * axis.kernel_size for size, axis in after_axis)
    steps = sum(min(axis.kernel_size, axis.output_size) for axis in windows.axes)
    backward = Cost(BACKWARD_TAP * taps + 2 * STEP * steps, backward_elements)
    return Costs(Cost(FORWARD_TAP * taps + STEP * steps, forward_elements), {"input": backward})
