"""Reductions over windows, one axis at a time: what sums, maxima and norms have in common.

A sum over a box is a sum over its axes in turn, and so are a maximum and a norm: a window of K1 x K2 taps costs K1 + K2
passes over the array, not K1 * K2. The last axis goes first: then the first maximum along each axis in turn is the
first one in row-major order.

``axis`` is a position in the array; ``along`` are the windows along it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.cost import STEP, Cost, Costs
from cnn_core.geometry import AnyWindows, Axis

__all__ = [
    "accumulate",
    "add_where",
    "at",
    "innermost_first",
    "level_sizes",
    "reduction_costs",
    "resized",
    "spanned_windows",
]

Array = NDArray[Any]

FORWARD_TAP, BACKWARD_TAP = 10, 120
"""Work of one tap of one window along one axis."""


def at(array: Array, axis: int, part: slice) -> Array:
    """View a part of one axis."""
    return array[(slice(None),) * axis + (part,)]


def resized(array: Array, axis: int, size: int) -> tuple[int, ...]:
    """Return an array's shape with another size of one axis."""
    return (*array.shape[:axis], size, *array.shape[axis + 1 :])


def innermost_first(windows: AnyWindows, axes: Sequence[int]) -> list[tuple[int, Axis]]:
    """Pair each axis of the array with the windows along it, the last axis first."""
    return list(zip(axes, windows.axes, strict=True))[::-1]


def accumulate(
    function: np.ufunc, array: Array, axis: int, along: Axis, result: Array, reduced_in: np.dtype[Any]
) -> None:
    """Reduce each window's taps inside the input into ``result``; many taps of one window in ``reduced_in``."""
    for piece in along.pieces():
        values = at(array, axis, piece.inputs)
        if piece.spans_taps:
            values = function.reduce(values, axis=axis, keepdims=True, dtype=reduced_in)
        part = at(result, axis, piece.outputs)
        function(part, values, out=part)


def add_where(condition: Array, values: Array, target: Array) -> None:
    """Add values where a condition holds."""
    # several times faster than np.add(..., where=condition), which goes element by element
    target += np.where(condition, values, values.dtype.type(0))


def level_sizes(planes: int, windows: AnyWindows) -> list[int]:
    """Return the elements before any axis is reduced, after the last one is, and so on to the output."""
    sizes, outputs = windows.sizes, windows.output_sizes
    rank = len(sizes)
    return [planes * math.prod((*sizes[: rank - reduced], *outputs[rank - reduced :])) for reduced in range(rank + 1)]


def spanned_windows(levels: Sequence[int], windows: AnyWindows) -> int:
    """Return the most windows that are reduced at one time where a piece spans all taps of one window of its axis."""
    after_axis = zip(levels[1:], windows.axes[::-1], strict=True)
    spanned = (size // axis.output_size for size, axis in after_axis if axis.goes_by_window)
    return max(spanned, default=0)


def reduction_costs(planes: int, windows: AnyWindows, forward_elements: int, backward_elements: int) -> Costs:
    """Return the costs of a reduction with a pass over each axis, forward and back, that holds so many elements."""
    after_axis = zip(level_sizes(planes, windows)[1:], windows.axes[::-1], strict=True)
    taps = sum(size // axis.output_size * axis.tap_count for size, axis in after_axis)
    steps = sum(axis.piece_count for axis in windows.axes)
    backward = Cost(BACKWARD_TAP * taps + 2 * STEP * steps, backward_elements)
    return Costs(Cost(FORWARD_TAP * taps + STEP * steps, forward_elements), {"input": backward})
