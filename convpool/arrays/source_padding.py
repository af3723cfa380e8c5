"""Padding that is copied from the input, and its gradient, where the input is in chunks.

The copied elements may be in another chunk than the windows that need them. So the padded input is an array of Dask of
its own, as the op itself makes one of NumPy.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import dask.array as da
import numpy as np

from cnn_core import Conv
from cnn_core.operands import layer_shape, spatial_axes, split_layer_shape
from cnn_core.parameters import PaddingMode

from .parts import Layer

__all__ = ["SourcePadding", "over_padded_input"]

Chunks = tuple[tuple[int, ...], ...]

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""The names of the padding modes in NumPy and Dask."""


@dataclasses.dataclass(frozen=True)
class SourcePadding:
    """How much padding an array has, and what it is copied from.

    Parameters
    ----------
    by_axis : dict of int to (before, after)
    mode : {"reflect", "replicate", "circular"}
    """

    by_axis: dict[int, tuple[int, int]]
    mode: PaddingMode

    def pad(self, input: da.Array) -> da.Array:
        """Return an input with its padding."""
        return da.pad(input, [self.by_axis.get(axis, (0, 0)) for axis in range(input.ndim)], mode=MODES[self.mode])

    def padded_chunks(self, chunks: Chunks) -> Chunks:
        """Return the chunks of a padded array in which the padding is in the first and the last chunk of the array."""
        padded = [list(along) for along in chunks]
        for axis, (before, after) in self.by_axis.items():
            padded[axis][0] += before
            padded[axis][-1] += after
        return tuple(map(tuple, padded))

    def fold(self, gradient: da.Array) -> da.Array:
        """Add the gradient of each element of the padding to that of the element it is a copy of, axis by axis.

        As ``cnn_core.kernels.source_padding.fold_source_padding`` does, in the same order.
        """
        for axis, (before, after) in self.by_axis.items():
            size = gradient.shape[axis] - before - after
            end = before + size
            leading, trailing = _at(gradient, axis, 0, before), _at(gradient, axis, end, end + after)
            gradient = _at(gradient, axis, before, end)
            if self.mode == "reflect":  # the edge is not repeated
                gradient = _add(gradient, axis, 1, da.flip(leading, axis))
                gradient = _add(gradient, axis, size - 1 - after, da.flip(trailing, axis))
            elif self.mode == "circular":
                gradient = _add(gradient, axis, size - before, leading)
                gradient = _add(gradient, axis, 0, trailing)
            else:
                gradient = _add(gradient, axis, 0, _total(leading, axis))
                gradient = _add(gradient, axis, size - 1, _total(trailing, axis))
        return gradient


def over_padded_input(layer: Layer, **dtypes: np.dtype[Any]) -> tuple[Layer, SourcePadding | None]:
    """Return the layer over the input with the padding that is copied from it, and that padding.

    Without such padding it is the layer itself. ``dtypes`` are types of operands to use instead of the layer's.
    """
    op, padding = layer.op, layer.resolved.windows.padding
    if not isinstance(op, Conv) or op.padding_mode == "zeros" or not any(map(any, padding)):
        return layer, None
    batch, sizes, channels = split_layer_shape("input", layer.shapes["input"], op.data_format)
    padded = [before + size + after for size, (before, after) in zip(sizes, padding, strict=True)]
    shapes = {**layer.shapes, "input": layer_shape(batch, padded, channels, op.data_format)}
    over_padded = Layer(dataclasses.replace(op, padding=0, padding_mode="zeros"), shapes, {**layer.dtypes, **dtypes})
    by_axis = dict(zip(spatial_axes(len(sizes), op.data_format), padding, strict=True))
    return over_padded, SourcePadding(by_axis, op.padding_mode)


def _at(array: da.Array, axis: int, start: int, stop: int) -> da.Array:
    return array[(slice(None),) * axis + (slice(start, stop),)]


def _add(target: da.Array, axis: int, start: int, values: da.Array) -> da.Array:
    """Add values to some elements of a target along an axis; the others keep their bits."""
    if not values.shape[axis]:
        return target
    stop = start + values.shape[axis]
    added = da.add(_at(target, axis, start, stop), values).astype(target.dtype)
    around = (_at(target, axis, 0, start), added, _at(target, axis, stop, target.shape[axis]))
    return da.concatenate([part for part in around if part.shape[axis]], axis=axis)


def _total(copies: da.Array, axis: int) -> da.Array:
    """Return the sum of the copies of an edge, in float64, which may be many."""
    if not copies.shape[axis]:
        return copies
    chunks = tuple((1,) if along == axis else sizes for along, sizes in enumerate(copies.chunks))
    # dtype would be an argument of map_blocks
    total = functools.partial(np.sum, axis=axis, keepdims=True, dtype=np.float64)
    return da.map_blocks(total, copies.rechunk({axis: -1}), chunks=chunks, meta=np.empty((0,) * copies.ndim))
