"""Indices of elements: the position of a maximum as one integer.

An index counts the elements of the plane of one channel, of one image, or of the whole tensor, in memory order; only
the spatial axes may be in the opposite order (ONNX ``storage_order``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import OperandError, describe
from ..kernels.passes import converted, parts
from ..operands import as_operand, spatial_axes
from ..parameters import DataFormat, Framework, IndexScheme, StorageOrder, parameter
from .base import Op
from .rules import INDEX_SCHEME, STORAGE_ORDER

__all__ = ["ElementIndices", "Indexed", "as_indices"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ElementIndices:
    """How the elements of a tensor are counted, see the parameters of ``Indexed``; the other fields are its sizes."""

    batch: int
    spatial: tuple[int, ...]
    channels: int
    data_format: DataFormat
    scheme: IndexScheme
    storage_order: StorageOrder

    @property
    def count(self) -> int:
        """How many elements are counted: every index is less than this."""
        plane = math.prod(self.spatial)
        return plane * {"plane": 1, "image": self.channels, "tensor": self.channels * self.batch}[self.scheme]

    @property
    def _channel_axis(self) -> int:
        return len(self.spatial) + 1 if self.data_format == "channels_last" else 1

    def _steps(self) -> tuple[int, ...]:
        """Return the steps of an index along the batch, each spatial axis, and the channels."""
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
            Positions of the elements in their spatial plane, row-major; of the shape (N, *anything, C) of an output, in
            the layout ``data_format``, which also says their image and channel. Overwritten.
        """
        steps = self._steps()
        offsets = [_offsets(in_plane, axis, step) for axis, step in ((0, steps[0]), (self._channel_axis, steps[-1]))]
        for part in parts(in_plane.shape, in_plane.itemsize):
            indices = in_plane[part]
            if self.storage_order == "row_major":
                indices *= steps[-2]
            else:
                remaining, total = indices, np.zeros(indices.shape, dtype=np.int64)
                for size, step in zip(self.spatial[::-1], steps[-2:0:-1], strict=True):
                    remaining, position = np.divmod(remaining, size)
                    total += np.multiply(position, step, out=position)
                indices[...] = total
            for offset in offsets:
                indices += offset[part]
        return in_plane

    def flat_positions(self, indices: Indices, spatial: tuple[int, ...]) -> Indices:
        """Return the positions in memory that indices refer to in a tensor of other, larger spatial sizes.

        Where indices do not count the image and the channel, those of their own position apply.
        """
        target = ElementIndices(self.batch, spatial, self.channels, self.data_format, "tensor", "row_major")
        axes = (0, *spatial_axes(len(spatial), self.data_format), self._channel_axis)
        sizes = (self.batch, *self.spatial, self.channels)
        digits, offsets = [], []
        for axis, size, step, target_step in zip(axes, sizes, self._steps(), target._steps(), strict=True):
            if step and size > 1:
                digits.append((step, target_step))
            elif not step:
                offsets.append(_offsets(indices, axis, target_step))
        positions = np.zeros(indices.shape, dtype=np.int64)
        for part in parts(indices.shape, indices.itemsize):
            remaining, total = indices[part], positions[part]
            for offset in offsets:
                total += offset[part]
            # the digits of an index are the positions; the one with the largest step comes first
            for step, target_step in sorted(digits, reverse=True):
                digit, remaining = np.divmod(remaining, step)
                digit *= target_step
                total += digit
        return positions


@dataclass(frozen=True)
class Indexed(Op):
    """Base of the ops that return or take indices of elements."""

    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {
        "tensorflow": {"index_scheme": "image"},
        "onnx": {"index_scheme": "tensor"},
    }

    index_scheme: IndexScheme = parameter(
        INDEX_SCHEME,
        "Within what an index counts the elements, in memory order: the spatial plane of a channel (PyTorch), an image "
        "(TensorFlow), or the whole tensor (ONNX).",
        "plane",
    )
    storage_order: StorageOrder = parameter(
        STORAGE_ORDER,
        "Order of the spatial axes within an index: row_major: the last axis varies fastest; column_major: the first.",
        "row_major",
    )

    def _counted(self, batch: int, spatial: tuple[int, ...], channels: int) -> ElementIndices:
        """Return how indices count the elements of a tensor of these sizes."""
        return ElementIndices(batch, spatial, channels, self.data_format, self.index_scheme, self.storage_order)


def _offsets(array: Indices, axis: int, step: int) -> Indices:
    """Return an array of the same shape with 0, step, 2 * step, ... along one axis; it is read-only."""
    along = np.arange(array.shape[axis], dtype=np.int64) * step
    return np.broadcast_to(along.reshape(-1, *(1,) * (array.ndim - 1 - axis)), array.shape)


def as_indices(name: str, value: ArrayLike, count: int) -> Indices:
    """Return an operand as indices that are less than ``count``.

    Floats are accepted if they are whole numbers that their type represents exactly.

    Raises
    ------
    DtypeError
        If the type is not one that the ops compute with.
    OperandError
        If an index is not a whole number from 0 to ``count - 1``.
    """
    array = as_operand(name, value)
    if array.dtype.kind == "f":
        exact = 2 ** (np.finfo(array.dtype).nmant + 1)
        for part in parts(array.shape, array.itemsize):
            values = array[part]
            wrong = ~(np.abs(values) < exact) | (values != np.floor(values))
            if wrong.any():
                raise OperandError(
                    name,
                    "must hold",
                    f"whole numbers below {exact} in {array.dtype.name}, or an integer type",
                    got=describe(float(values[wrong].flat[0])),
                )
    for part in parts(array.shape, array.itemsize):
        values = array[part]
        outside = (values < 0) | (values >= count)
        if outside.any():
            raise OperandError(name, "must be", f"0 to {count - 1}", got=str(int(values[outside].flat[0])))
    return converted(array, np.int64)
