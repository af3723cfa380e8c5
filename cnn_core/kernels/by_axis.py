"""Reductions over windows, one axis at a time: what sums, maxima and norms have in common.

A sum over a box is a sum over its axes in turn, and so are a maximum and a norm: a window of K1 x K2 taps costs K1 + K2
passes over the array, not K1 * K2. Where ties are broken by position, the last axis is reduced first: the first maximum
along each axis in turn is then the first in row-major order. Otherwise the axis with the largest stride is first, as it
leaves the fewest elements.

A sum has the same bits in the whole image and in a part of it: the order of the axes follows from the layer alone, and
along an axis the taps of a window are added one after the other, however many windows there are.

``axis`` is an axis of the array, ``along`` the windows along it. A piece is a set of (window, tap) pairs along one axis
(see ``geometry.Piece``). The level sizes of a reduction are the array's sizes before it and after each axis.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import AnyWindows, Axis, AxisWindows, Piece
from .cost import STEP, Cost, Costs
from .passes import checked, copy

__all__ = [
    "added",
    "at",
    "innermost_first",
    "largest_stride_first",
    "level_sizes",
    "pieces_of",
    "reduce_axes",
    "reduced",
    "reduction_costs",
    "resized",
    "spanned_windows",
]

Array = NDArray[Any]

MAX_NAIVE_TAPS = 64
"""Longer windows are reduced in ``many_in``: NumPy adds one element after the other over any axis but the last, and a
float32 sum of this many taps still has an error below 2^-18 of its absolute values."""

SHORT_ROW, MIN_ROW, FEW_ROWS = 4, 16, 64
"""Many rows that are shorter are not added up by one call: NumPy takes as long for each as for so many elements."""

MAX_CACHED_PIECES, MAX_CACHED_AXES = 64, 512
"""The pieces of an axis are cached for the next call unless there are more than this; so many axes at most."""

FORWARD_TAP, BACKWARD_TAP = 10, 120
"""Estimated work of one tap of one window along one axis, in the unit of ``Cost.work``."""


def at(array: Array, axis: int, chosen: slice) -> Array:
    """View some indices of one axis."""
    return array[(slice(None),) * axis + (chosen,)]


def resized(array: Array, axis: int, size: int) -> tuple[int, ...]:
    """Return an array's shape with another size of one axis."""
    return (*array.shape[:axis], size, *array.shape[axis + 1 :])


def innermost_first(windows: AnyWindows, axes: Sequence[int]) -> list[tuple[int, Axis]]:
    """Pair each axis of the array with the windows along it, the last axis first."""
    return list(zip(axes, windows.axes, strict=True))[::-1]


def largest_stride_first(windows: AnyWindows, axes: Sequence[int]) -> list[tuple[int, Axis]]:
    """Pair each axis of the array with the windows along it, the axis that leaves the fewest elements first.

    Windows at equal distances leave the fewer, the larger the stride is, and then the larger the windows are. On a tie
    the first axis is first, since its contiguous rows are the longest; but the last one if no channels follow it and
    the windows are as long as the stride, and may be all of a short row.
    """

    def rank(pair: tuple[int, Axis]) -> tuple[float, int, int]:
        axis, along = pair
        if not isinstance(along, AxisWindows):
            return along.output_size / max(1, along.size), 0, axis
        has_short_rows = axes[0] > 1 and SHORT_ROW <= along.stride == along.extent < MIN_ROW
        return 1 / along.stride, -along.extent, -axis if has_short_rows else axis

    return sorted(zip(axes, windows.axes, strict=True), key=rank)


def reduced(
    function: np.ufunc,
    array: Array,
    axis: int,
    along: Axis,
    initial: float,
    many_in: np.dtype[Any] | None = None,
    out: Array | None = None,
) -> Array:
    """Reduce each window's taps inside the input along one axis.

    Parameters
    ----------
    function : ufunc
    array : ndarray
    axis : int
    along : Axis
    initial : float
        The result for a window without a tap.
    many_in : dtype, optional
        The type in which more than MAX_NAIVE_TAPS taps of one window are reduced, if not that of the array.
    out : ndarray, optional
        Where the result may be written; of the array's type.

    Returns
    -------
    ndarray
        Of the array's type. It may be a view of the array, or ``out``.
    """
    pieces = pieces_of(along)
    first = _first_operands(along, function is not np.add) if along.piece_count <= MAX_CACHED_PIECES else ()
    count = len(first)
    if count == 1 and along.piece_count == 1:
        values = at(array, axis, first[0].inputs)
        return _over_taps(function, values, axis, many_in) if first[0].spans_taps else values
    result: Array
    if count == 2:
        result = function(*(at(array, axis, piece.inputs) for piece in first), out=out)
    else:
        result = np.empty(resized(array, axis, along.output_size), dtype=array.dtype) if out is None else out
        if first:
            np.copyto(result, at(array, axis, first[0].inputs))
        else:
            result.fill(initial)
    for piece in checked(pieces):
        if piece in first:
            continue
        values = at(array, axis, piece.inputs)
        if piece.spans_taps:
            values = _over_taps(function, values, axis, many_in)
        outputs = at(result, axis, piece.outputs)
        function(outputs, values, out=outputs)
    return result


def _over_taps(function: np.ufunc, values: Array, axis: int, many_in: np.dtype[Any] | None) -> Array:
    """Reduce all taps of one window along an axis, to the type of the values."""
    result: Array
    if function is np.add:
        result = added(values, axis, many_in).astype(values.dtype, copy=False)
    else:
        result = function.reduce(values, axis=axis, keepdims=True)
    return result


def added(values: Array, axis: int, many_in: np.dtype[Any] | None = None) -> Array:
    """Add up an axis, one element after the other, as taps are that are added one at a time.

    Parameters
    ----------
    values : ndarray
    axis : int
    many_in : dtype, optional
        The type in which more than MAX_NAIVE_TAPS elements are added, in any order, if not that of the array.
    """
    if many_in is not None and values.shape[axis] > MAX_NAIVE_TAPS:
        return np.add.reduce(values, axis=axis, keepdims=True, dtype=many_in)
    row = math.prod(values.shape[axis + 1 :])
    # NumPy adds up adjacent elements in pairs, and takes long for many short rows
    if row >= MIN_ROW or (row > 1 and math.prod(values.shape[:axis]) <= FEW_ROWS):
        return np.add.reduce(values, axis=axis, keepdims=True)
    total, *rest = (at(values, axis, slice(index, index + 1)) for index in range(values.shape[axis]))
    for index, each in enumerate(rest):
        total = np.add(total, each, out=total if index else None)
    return total


def reduce_axes(
    function: np.ufunc,
    array: Array,
    pairs: Sequence[tuple[int, Axis]],
    initial: float,
    target: Array,
    many_in: np.dtype[Any] | None = None,
) -> None:
    """Reduce each window's taps inside the input along several axes in turn, and write the results.

    Parameters
    ----------
    pairs : sequence of (axis, Axis)
    target : ndarray
        Of the array's type or of another one.
    function, array, initial, many_in
        See ``reduced``.
    """
    for axis, along in pairs[:-1]:
        array = reduced(function, array, axis, along, initial, many_in)
    axis, along = pairs[-1]
    out = target if target.dtype == array.dtype else None
    result = reduced(function, array, axis, along, initial, many_in, out)
    if result is not target:
        copy(target, result)


def pieces_of(along: Axis) -> Iterable[Piece]:
    """Return the pieces of an axis, cached unless there are many."""
    return _cached_pieces(along) if along.piece_count <= MAX_CACHED_PIECES else checked(along.pieces())


@functools.lru_cache(maxsize=MAX_CACHED_AXES)
def _cached_pieces(along: Axis) -> tuple[Piece, ...]:
    return tuple(along.pieces())


@functools.lru_cache(maxsize=MAX_CACHED_AXES)
def _first_operands(along: Axis, in_any_order: bool) -> tuple[Piece, ...]:
    """Return the pieces that a reduction starts with instead of an initial value.

    At most two that are one tap of all windows each, in a sum of the first two taps, which may change places; or all
    taps of the only window.
    """
    pieces, whole = _cached_pieces(along), (0, along.output_size, 1)
    complete = [
        piece
        for piece in (pieces if in_any_order else pieces[:2])
        if (not piece.spans_taps or along.output_size == 1) and piece.outputs.indices(along.output_size) == whole
    ]
    return tuple(complete[:2])


def level_sizes(planes: int, windows: AnyWindows) -> list[int]:
    """Return the number of elements before any axis is reduced, after the last axis is, and so on to the output."""
    sizes, outputs = windows.sizes, windows.output_sizes
    rank = len(sizes)
    return [planes * math.prod((*sizes[: rank - reduced], *outputs[rank - reduced :])) for reduced in range(rank + 1)]


def spanned_windows(levels: Sequence[int], windows: AnyWindows) -> int:
    """Return how many windows are reduced at a time, at most, where a piece is all taps of one window of its axis."""
    after_axis = zip(levels[1:], windows.axes[::-1], strict=True)
    spanned = (size // axis.output_size for size, axis in after_axis if axis.goes_by_window)
    return max(spanned, default=0)


def reduction_costs(planes: int, windows: AnyWindows, forward_elements: int, backward_elements: int) -> Costs:
    """Return the costs of a reduction with a pass over each axis in either direction, given its workspaces."""
    after_axis = zip(level_sizes(planes, windows)[1:], windows.axes[::-1], strict=True)
    taps = sum(size // axis.output_size * axis.tap_count for size, axis in after_axis)
    steps = sum(axis.piece_count for axis in windows.axes)
    backward = Cost(BACKWARD_TAP * taps + 2 * STEP * steps, backward_elements)
    return Costs(Cost(FORWARD_TAP * taps + STEP * steps, forward_elements), {"input": backward})
