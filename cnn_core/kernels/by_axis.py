"""Reductions over windows, one axis at a time: what sums, maxima and norms have in common.

A sum over a box is a sum over its axes in turn, and so are a maximum and a norm: a window of K1 x K2 taps costs K1 + K2
passes over the array, not K1 * K2. Where it counts which maximum is the first, the last axis goes first: then the first
one along each axis in turn is the first in row-major order. Else the axis goes first that leaves least.

``axis`` is a position in the array; ``along`` are the windows along it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.geometry import AnyWindows, Axis, Piece
from cnn_core.kernels.cost import STEP, Cost, Costs

__all__ = [
    "add_where",
    "at",
    "innermost_first",
    "integers_of",
    "level_sizes",
    "pieces_of",
    "put_where",
    "reduce_axes",
    "reduced",
    "reduction_costs",
    "resized",
    "smallest_first",
    "spanned_windows",
]

Array = NDArray[Any]

SHORT = 64
"""Taps whose sum in the type of the array loses nothing that counts."""

MAX_KEPT_AXES = 512

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


def smallest_first(windows: AnyWindows, axes: Sequence[int]) -> list[tuple[int, Axis]]:
    """Pair each axis of the array with the windows along it, the one that leaves least first.

    Of several the first axis goes first: there what lies in one piece is longest.
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
        The type in which more taps of one window than SHORT are reduced, if not that of the array.
    out : ndarray, optional
        Where the result may be written; of the array's type.

    Returns
    -------
    ndarray
        Of the array's type. It may be a view of the array, or ``out``.
    """
    pieces = pieces_of(along)
    begun = _begun(along) if along.piece_count <= SHORT else ()
    if len(begun) == 1:
        return at(array, axis, begun[0].inputs)
    result: Array
    if begun:
        result = function(*(at(array, axis, piece.inputs) for piece in begun), out=out)
    elif out is not None:
        result = out
        result.fill(initial)
    else:
        result = np.full(resized(array, axis, along.output_size), initial, dtype=array.dtype)
    for piece in pieces:
        if piece in begun:
            continue
        values = at(array, axis, piece.inputs)
        if piece.spans_taps:
            reduced_in = many_in if values.shape[axis] > SHORT else None
            values = function.reduce(values, axis=axis, keepdims=True, dtype=reduced_in)
        part = at(result, axis, piece.outputs)
        function(part, values, out=part, casting="same_kind")
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
        As of ``reduced``.
    """
    for axis, along in pairs[:-1]:
        array = reduced(function, array, axis, along, initial, many_in)
    axis, along = pairs[-1]
    out = target if target.dtype == array.dtype else None
    result = reduced(function, array, axis, along, initial, many_in, out)
    if result is not target:
        target[...] = result


def pieces_of(along: Axis) -> Iterable[Piece]:
    """Return the pieces of an axis, which are kept unless they are many."""
    return _kept_pieces(along) if along.piece_count <= SHORT else along.pieces()


@functools.lru_cache(maxsize=MAX_KEPT_AXES)
def _kept_pieces(along: Axis) -> tuple[Piece, ...]:
    return tuple(along.pieces())


@functools.lru_cache(maxsize=MAX_KEPT_AXES)
def _begun(along: Axis) -> tuple[Piece, ...]:
    """Return two pieces that are each one tap of all windows; the only piece of all if it is such a one; or nothing."""
    pieces = _kept_pieces(along)
    of_all = tuple(piece for piece in pieces if _is_of_all(piece, along))
    return of_all[:2] if len(of_all) > 1 or of_all == pieces else ()


def _is_of_all(piece: Piece, along: Axis) -> bool:
    """Return whether a piece is one tap of all windows."""
    first, last, step = piece.outputs.indices(along.output_size)
    return not piece.spans_taps and (first, last, step) == (0, along.output_size, 1)


def add_where(condition: Array, values: Array, target: Array) -> None:
    """Add values where a condition holds."""
    target += _masked(condition, values).view(values.dtype)


def put_where(condition: Array, values: Array, target: Array) -> None:
    """Write values where a condition holds, and zeros elsewhere."""
    integers = integers_of(values)
    np.bitwise_and(_mask_of(condition, integers.dtype), integers, out=integers_of(target))


def _masked(condition: Array, values: Array) -> Array:
    integers = integers_of(values)
    mask = _mask_of(condition, integers.dtype)
    return np.bitwise_and(mask, integers, out=mask) if mask.shape == values.shape else np.bitwise_and(mask, integers)


def _mask_of(condition: Array, dtype: np.dtype[Any]) -> Array:
    """Return integers all of whose bits are set where a condition holds, and none elsewhere."""
    # several times faster than np.where, or than a ufunc with where=condition, which goes element by element
    mask: Array = condition.astype(dtype)
    np.negative(mask, out=mask)
    return mask


def integers_of(values: Array) -> Array:
    """View floating numbers as integers of their size."""
    return values.view(np.dtype(f"i{values.itemsize}"))


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
