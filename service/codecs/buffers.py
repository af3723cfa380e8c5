"""Tensors in the bytes of a body, and the bytes of a tensor: without a copy wherever its layout allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .message import BFLOAT16, TensorType
from .steps import steps

__all__ = [
    "ALIGNMENT",
    "aligned",
    "converted",
    "in_type_of_numpy",
    "is_finite",
    "tensor_at",
    "tensor_bytes",
    "type_of_numpy",
    "widened_bytes",
]

ALIGNMENT = 8
"""Bytes; the largest alignment of any type that a tensor may have."""

COPIED_BYTES = 2**16
"""What is smaller is copied where it lies badly, not moved: a small body is not changed, so that it can be decoded
again."""


MOVED_BYTES, ELEMENTS = 2**21, 2**18
"""What is moved, or converted, at a time: where NumPy holds the GIL meanwhile, that is a millisecond or less."""


def aligned(content: memoryview, start: int) -> memoryview:
    """Return what follows a header, at an address that ALIGNMENT divides.

    A header may have any length. What follows it is moved within the buffer, over the end of the header, so that it
    takes no second buffer.

    Parameters
    ----------
    content : memoryview
        Of bytes that may be overwritten.
    start : int
        Length of the header, which has been read; at least ALIGNMENT - 1.
    """
    data = content[start:]
    if len(data) >= ALIGNMENT and np.frombuffer(data, np.float64, 1).flags.aligned:
        return data
    if len(data) < COPIED_BYTES:
        return memoryview(bytearray(data))
    excess = np.frombuffer(data, np.uint8, 1).__array_interface__["data"][0] % ALIGNMENT
    moved = content[start - excess : len(content) - excess]
    for first, last in steps(0, len(data), MOVED_BYTES):  # to the left: no step overwrites what follows it
        moved[first:last] = data[first:last]
    return moved


def tensor_at(
    content: memoryview, start: int, dtype: np.dtype[Any], shape: Sequence[int], order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """Return the tensor that starts somewhere in a buffer: a view, which need not be aligned, in native byte order.

    Bytes in the order of other machines are reversed where they are.
    """
    size = math.prod(shape)
    if not size:  # NumPy takes no view of an empty buffer
        return np.empty(shape, dtype.newbyteorder("="))
    array = np.frombuffer(content, dtype, size, start)
    if not dtype.isnative:
        if array.nbytes < COPIED_BYTES:
            array = array.byteswap()
        else:
            for first, last in steps(0, size, ELEMENTS):
                array[first:last].byteswap(inplace=True)
        array = array.view(dtype.newbyteorder("="))
    return array.reshape(shape, order=order)


def tensor_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a tensor, little-endian and in C order: its own memory, if that is how they lie there."""
    flat = np.asarray(array, array.dtype.newbyteorder("<"), order="C").reshape(-1)
    return flat.view(np.uint8).data


def converted(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a tensor in another type, without warnings about infinities and NaNs; itself if it has the type."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        if array.size <= ELEMENTS or not array.flags.c_contiguous:
            return array.astype(dtype)
        result = np.empty(array.shape, dtype)
        source, target = array.reshape(-1), result.reshape(-1)
        for first, last in steps(0, array.size, ELEMENTS):
            target[first:last] = source[first:last]
        return result


def is_finite(array: NDArray[Any]) -> bool:
    """Return whether a tensor has neither infinities nor NaNs."""
    if array.size <= ELEMENTS:
        return bool(np.isfinite(array).all())
    flat = array.reshape(-1)
    return all(bool(np.isfinite(flat[first:last]).all()) for first, last in steps(0, array.size, ELEMENTS))


def type_of_numpy(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that a format has for a tensor if it has NumPy's own only: float32 holds what bfloat16 does."""
    return np.dtype(np.float32) if dtype == BFLOAT16 else dtype


def in_type_of_numpy(array: NDArray[Any]) -> NDArray[Any]:
    """Return a tensor as a format has it that has NumPy's own types only."""
    return converted(array, type_of_numpy(array.dtype))


def widened_bytes(tensors: Sequence[TensorType]) -> int:
    """Return the memory that ``in_type_of_numpy`` takes for tensors."""
    return sum(
        math.prod(tensor.shape) * type_of_numpy(tensor.dtype).itemsize for tensor in tensors if tensor.dtype == BFLOAT16
    )
