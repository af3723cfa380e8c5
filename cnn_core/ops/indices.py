"""Indices of elements: how the places of maxima are counted as one number each.

An index counts the elements of the plane of one channel, of one image, or of the whole tensor, in the order in which
they lie in memory; only the order of the spatial axes among themselves may be the other one (ONNX ``storage_order``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.errors import OperandError
from cnn_core.operands import as_operand, spatial_axes
from cnn_core.ops.base import Op
from cnn_core.parameters import (
    INDEX_SCHEME,
    STORAGE_ORDER,
    DataFormat,
    Framework,
    IndexScheme,
    StorageOrder,
    parameter,
)

__all__ = ["ElementIndices", "Indexed", "as_indices"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ElementIndices:
    """The way in which the elements of a tensor are counted.

    Parameters
    ----------
    batch, spatial, channels : int, tuple of int, int
        Sizes of the tensor.
    data_format : {"channels_last", "channels_first"}
    scheme : {"plane", "image", "tensor"}
        What is counted through: the spatial plane of a channel, an image, or the whole tensor.
    storage_order : {"row_major", "column_major"}
        Whether the last spatial axis goes fastest, or the first one.
    """

    batch: int
    spatial: tuple[int, ...]
    channels: int
    data_format: DataFormat
    scheme: IndexScheme
    storage_order: StorageOrder

    @property
    def count(self) -> int:
        """Number of elements that are counted through: indices are less than it."""
        plane = math.prod(self.spatial)
        return plane * {"plane": 1, "image": self.channels, "tensor": self.channels * self.batch}[self.scheme]

    @property
    def _channel_axis(self) -> int:
        return len(self.spatial) + 1 if self.data_format == "channels_last" else 1

    def _steps(self) -> tuple[int, ...]:
        """Return by how much an index grows with the image, with each spatial position, and with the channel."""
        plane = math.prod(self.spatial)
        position = self.channels if self.data_format == "channels_last" and self.scheme != "plane" else 1
        slower_first = self.spatial if self.storage_order == "row_major" else self.spatial[::-1]
        steps = [position * math.prod(slower_first[axis + 1 :]) for axis in range(len(slower_first))]
        spatial = tuple(steps if self.storage_order == "row_major" else steps[::-1])
        channel = 1 if self.data_format == "channels_last" else plane
        image = plane * self.channels
        return (image if self.scheme == "tensor" else 0, *spatial, 0 if self.scheme == "plane" else channel)

    def encode(self, in_plane: Indices) -> Indices:
        """Return the indices of elements.

        Parameters
        ----------
        in_plane : ndarray of int64
            Where the elements are in their spatial plane, row-major; of the shape (N, *anything, C) of a layer's
            output, in the layout ``data_format``, which also says their image and channel. Overwritten.
        """
        steps = self._steps()
        if self.storage_order == "row_major":
            indices = np.multiply(in_plane, steps[-2], out=in_plane)
        else:
            indices = np.zeros(in_plane.shape, dtype=np.int64)
            for size, step in zip(self.spatial[::-1], steps[-2:0:-1], strict=True):
                in_plane, position = np.divmod(in_plane, size)
                indices += np.multiply(position, step, out=position)
        for axis, step in ((0, steps[0]), (self._channel_axis, steps[-1])):
            indices += step * _numbers_along(indices, axis)
        return indices

    def places(self, indices: Indices, spatial: tuple[int, ...]) -> Indices:
        """Return where in memory the counted elements lie in a tensor of other spatial sizes, all of them larger.

        Parameters
        ----------
        indices : ndarray of int64
            Of the shape of a layer's input; where they do not count the image and the channel, their own are meant.
        spatial : tuple of int
            The sizes of the tensor that is addressed.

        Returns
        -------
        ndarray of int64, shape of ``indices``
        """
        target = ElementIndices(self.batch, spatial, self.channels, self.data_format, "tensor", "row_major")
        axes = (0, *spatial_axes(len(spatial), self.data_format), self._channel_axis)
        sizes = (self.batch, *self.spatial, self.channels)
        digits = []
        places = np.zeros(indices.shape, dtype=np.int64)
        for axis, size, step, place in zip(axes, sizes, self._steps(), target._steps(), strict=True):
            if step and size > 1:
                digits.append((step, place))
            elif not step:
                places += place * _numbers_along(indices, axis)
        # an index is a number whose digits are the positions; the one with the largest step comes first
        remaining = indices
        for step, place in sorted(digits, reverse=True):
            digit, remaining = np.divmod(remaining, step)
            digit *= place
            places += digit
        return places


@dataclass(frozen=True)
class Indexed(Op):
    """Base of the ops that tell, or are told, where elements lie by their index."""

    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {
        "tensorflow": {"index_scheme": "image"},
        "onnx": {"index_scheme": "tensor"},
    }

    index_scheme: IndexScheme = parameter(
        INDEX_SCHEME,
        "What an index counts the elements of, in their order in memory: the spatial plane of a channel, an image, or "
        "the whole tensor.",
        "plane",
    )
    storage_order: StorageOrder = parameter(
        STORAGE_ORDER,
        "Order of the spatial axes within an index: the last axis goes fastest, or the first.",
        "row_major",
    )

    def _counted(self, batch: int, spatial: tuple[int, ...], channels: int) -> ElementIndices:
        """Return how indices count the elements of a tensor of these sizes."""
        return ElementIndices(batch, spatial, channels, self.data_format, self.index_scheme, self.storage_order)


def _numbers_along(array: Indices, axis: int) -> Indices:
    """Return the numbers of an array's elements along one axis, in a shape that broadcasts over it."""
    return np.arange(array.shape[axis], dtype=np.int64).reshape(-1, *(1,) * (array.ndim - 1 - axis))


def as_indices(name: str, value: ArrayLike, count: int) -> Indices:
    """Return an operand as indices that are less than ``count``.

    Floats are taken where they are whole numbers that their type holds exactly, as nested lists of JSON are read.

    Raises
    ------
    DtypeError
        If the type is not one that the ops compute with.
    OperandError
        If an index is no whole number, or not one from 0 to ``count - 1``.
    """
    array = as_operand(name, value)
    if array.dtype.kind == "f":
        exact = 2 ** (np.finfo(array.dtype).nmant + 1)
        wrong = ~(np.abs(array) < exact) | (array != np.floor(array))
        if wrong.any():
            expected = f"whole numbers below {exact} in {array.dtype.name}, or an integer type"
            first = float(array[wrong].flat[0])
            raise OperandError(
                name, f"{name} holds {first!r}; needed: {expected}", got=f"the number {first!r}", expected=expected
            )
    outside = (array < 0) | (array >= count)
    if outside.any():
        first = int(array[outside].flat[0])
        expected = f"0 to {count - 1}"
        raise OperandError(
            name, f"{name} holds {first}; needed: indices from {expected}", got=str(first), expected=expected
        )
    return array.astype(np.int64, copy=False)
