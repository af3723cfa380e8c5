"""Passes over whole arrays, a part at a time, so that a computation can stop between the parts.

A copy of a large array in another type or another order takes some tenths of a second as a single call of NumPy. Each
element is computed from those at the same place, so the parts do not change the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..runtime.blocks import BLOCK_BYTES, blocks
from ..runtime.cancellation import check_cancelled, is_cancellable
from ..runtime.threads import run_blocks

__all__ = ["checked", "contiguous", "converted", "copy", "elementwise", "fill", "parts"]

Array = NDArray[Any]
Item = TypeVar("Item")

PART_BLOCK_BYTES = 2 * BLOCK_BYTES
"""Size of a part. An array of at most this size is not divided: that takes about a millisecond."""


def checked(items: Iterable[Item]) -> Iterator[Item]:
    """Return the items of a long loop; before each, check whether the computation must stop."""
    # without a token, a tiny layer goes through its few items as fast as ever
    return _checked(items) if is_cancellable() else iter(items)


def _checked(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        check_cancelled()
        yield item


def parts(shape: Sequence[int], itemsize: int) -> Iterable[tuple[slice, ...]]:
    """Return slices that cover an array of this shape once; before each, check whether the computation must stop."""
    if math.prod(shape) * itemsize <= PART_BLOCK_BYTES:
        check_cancelled()
        return [(slice(None),) * len(shape)]
    return checked(blocks(shape, itemsize, PART_BLOCK_BYTES))


def copy(target: Array, source: Array) -> None:
    """Write a source to a target of the same shape, in the target's type; on all threads that are idle."""
    if max(target.nbytes, source.nbytes) <= PART_BLOCK_BYTES:
        check_cancelled()
        np.copyto(target, source, casting="unsafe")
        return
    # in the order of the source's memory, of which a part then fits the cache, where the target has another order
    order = sorted(range(source.ndim), key=lambda axis: -abs(source.strides[axis]))
    target, source = target.transpose(order), source.transpose(order)

    def make_worker(_: object) -> Callable[[tuple[slice, ...]], None]:
        return lambda part: np.copyto(target[part], source[part], casting="unsafe")

    run_blocks(blocks(source.shape, max(target.itemsize, source.itemsize), PART_BLOCK_BYTES), make_worker)


def fill(target: Array, value: ArrayLike) -> None:
    """Write a number, or an array that broadcasts, to every element."""
    if target.nbytes <= PART_BLOCK_BYTES:
        target[...] = value
    else:
        copy(target, np.broadcast_to(value, target.shape))


def converted(array: Array, dtype: DTypeLike) -> Array:
    """Return an array in a type: itself if it has that type, else a copy with the same order of its axes in memory."""
    if array.dtype == dtype:
        return array
    if array.nbytes <= PART_BLOCK_BYTES // 8:
        return array.astype(dtype)
    result = np.empty_like(array, dtype=dtype)
    copy(result, array)
    return result


def contiguous(array: Array) -> Array:
    """Return an array in C order: itself if it is, else a copy."""
    if array.flags.c_contiguous or array.nbytes <= PART_BLOCK_BYTES:
        return np.ascontiguousarray(array)
    result = np.empty(array.shape, dtype=array.dtype)
    copy(result, array)
    return result


def elementwise(function: Callable[..., object], out: Array, *operands: Array) -> None:
    """Call a ufunc on operands that broadcast to the shape of its result, which may be one of them."""
    if out.nbytes <= PART_BLOCK_BYTES:
        function(*operands, out=out)
        return
    # broadcasting changes the strides of axes of size 1, by which NumPy no longer sees that an operand is the result
    views = [operand if operand.shape == out.shape else np.broadcast_to(operand, out.shape) for operand in operands]
    for part in parts(out.shape, out.itemsize):
        function(*(view[part] for view in views), out=out[part])
