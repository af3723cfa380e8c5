"""Padding with copies of the input's elements, and the gradient of that padding.

The padded input is built in full, before the computation is divided: a block of windows alone may not hold the
elements that its padding is a copy of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..parameters import PaddingMode
from .by_axis import at
from .passes import copy, elementwise

__all__ = ["fold_source_padding", "pad_from_source"]

Array = NDArray[Any]
Padding = Sequence[tuple[int, int]]


def pad_from_source(input: Array, padding: Padding, mode: PaddingMode) -> Array:
    """Return the input (N, *S, C) with its padding."""
    sizes = [before + size + after for size, (before, after) in zip(input.shape[1:-1], padding, strict=True)]
    padded = np.empty((len(input), *sizes, input.shape[-1]), dtype=input.dtype)
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(input.shape[1:-1], padding, strict=True))
    copy(padded[(slice(None), *inside)], input)
    # along each axis, what is padded along the axes before it; corners are copies of copies
    for axis, (before, after) in enumerate(padding, start=1):
        end = padded.shape[axis] - after
        leading, trailing = at(padded, axis, slice(0, before)), at(padded, axis, slice(end, None))
        if mode == "reflect":  # the edge is not repeated
            copy(leading, np.flip(at(padded, axis, slice(before + 1, 2 * before + 1)), axis))
            copy(trailing, np.flip(at(padded, axis, slice(end - 1 - after, end - 1)), axis))
        elif mode == "circular":
            copy(leading, at(padded, axis, slice(end - before, end)))
            copy(trailing, at(padded, axis, slice(before, before + after)))
        else:
            for copies, edge in ((leading, before), (trailing, end - 1)):
                copy(copies, np.broadcast_to(at(padded, axis, slice(edge, edge + 1)), copies.shape))
    return padded


def fold_source_padding(gradient: Array, padding: Padding, mode: PaddingMode) -> Array:
    """Add the gradient of each element of the padding to that of the element it is a copy of.

    Parameters
    ----------
    gradient : ndarray, shape (N, *padded, C)
        Of the padded input. Overwritten.
    padding : sequence of (before, after)
    mode : {"reflect", "replicate", "circular"}

    Returns
    -------
    ndarray, shape (N, *S, C)
        The gradient of the input, a view.
    """
    # corners are copies of copies: what is folded along one axis is folded on along the next
    for axis, (before, after) in enumerate(padding, start=1):
        end = gradient.shape[axis] - after
        leading, trailing = at(gradient, axis, slice(0, before)), at(gradient, axis, slice(end, None))
        gradient = at(gradient, axis, slice(before, end))
        size = end - before
        if mode == "reflect":  # the edge is not repeated
            _add(at(gradient, axis, slice(1, 1 + before)), np.flip(leading, axis))
            _add(at(gradient, axis, slice(size - 1 - after, size - 1)), np.flip(trailing, axis))
        elif mode == "circular":
            _add(at(gradient, axis, slice(size - before, size)), leading)
            _add(at(gradient, axis, slice(0, after)), trailing)
        else:
            for copies, edge in ((leading, 0), (trailing, size - 1)):
                if copies.shape[axis]:  # the sums of no copies would still be an array of all other axes
                    # in float64: the edge may be repeated without bound
                    total = copies.sum(axis=axis, keepdims=True, dtype=np.float64)
                    _add(at(gradient, axis, slice(edge, edge + 1)), total)
    return gradient


def _add(target: Array, values: Array) -> None:
    elementwise(np.add, target, target, values)
