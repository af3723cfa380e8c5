"""Reductions over windows, one axis at a time: what sums, maxima and norms have in common.

A sum over a box is a sum over its axes in turn, and so are a maximum and a norm: a window of K1 x K2 taps costs K1 + K2
passes over the array, not K1 * K2. Where ties are broken by position, the last axis is reduced first: the first maximum
along each axis in turn is then the first in row-major order. Otherwise the axis that leaves the fewest elements is.

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

from ..geometry import AnyWindows, Axis, Piece
from .cost import STEP, Cost, Costs
from .passes import checked, copy

__all__ = [
    "at",
    "innermost_first",
    "level_sizes",
    "pieces_of",
    "reduce_axes",
    "reduced",
    "reduction_costs",
    "resized",
    "smallest_first",
    "spanned_windows",
]

Array = NDArray[Any]

MAX_NAIVE_TAPS = 64
"""Longer windows are reduced in ``many_in``: NumPy adds one element after the other over any axis but the last, and a
float32 sum of this many taps still has an error below 2^-18 of its absolute values."""

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


def smallest_first(windows: AnyWindows, axes: Sequence[int]) -> list[tuple[int, Axis]]:
    """Pair each axis of the array with the windows along it, the axis that leaves the fewest elements first.

    On a tie the first axis is first, since its contiguous rows are the longest.
    """
    pairs = zip(axes, windows.axes, strict=True)
    return sorted(pairs, key=lambda pair: pair[1].output_size / max(1, pair[1].size))


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
    first = _first_operands(along) if along.piece_count <= MAX_CACHED_PIECES else ()
    if len(first) == 1:
        return at(array, axis, first[0].inputs)
    result: Array
    if first:
        result = function(*(at(array, axis, piece.inputs) for piece in first), out=out)
    elif out is not None:
        result = out
        result.fill(initial)
    else:
        result = np.full(resized(array, axis, along.output_size), initial, dtype=array.dtype)
    for piece in checked(pieces):
        if piece in first:
            continue
        values = at(array, axis, piece.inputs)
        if piece.spans_taps:
            reduced_in = many_in if values.shape[axis] > MAX_NAIVE_TAPS else None
            values = function.reduce(values, axis=axis, keepdims=True, dtype=reduced_in)
        outputs = at(result, axis, piece.outputs)
        function(outputs, values, out=outputs, casting="same_kind")
    return result


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
def _first_operands(along: Axis) -> tuple[Piece, ...]:
    """Return the pieces that a reduction starts with instead of an initial value: each is one tap of all windows.

    Two of them; or a single one, if the axis has no other piece; or none, if the axis has fewer than two.
    """
    pieces, whole = _cached_pieces(along), (0, along.output_size, 1)
    complete = tuple(
        piece for piece in pieces if not piece.spans_taps and piece.outputs.indices(along.output_size) == whole
    )
    return complete[:2] if len(complete) > 1 or complete == pieces else ()


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
