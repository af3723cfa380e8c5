"""Division of an output into blocks whose workspace fits the cache of a core."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

__all__ = ["BLOCK_BYTES", "block_count", "block_limit", "block_sizes", "blocks", "elements_of_least_blocks"]

BLOCK_BYTES = 2**20
"""Workspace of one block: about the size of a core's second-level cache."""

MAX_BLOCK_BYTES = 4 * BLOCK_BYTES
BLOCKS_OF_LARGE_OPS = 8
MAX_UNDIVIDED_BLOCKS = 3
"""An op of at most this many times BLOCK_BYTES is one block: starting another thread takes longer than it saves."""


def block_limit(whole: int, least: int = 0) -> int:
    """Return the bytes that a block's workspace may have.

    Between NumPy's calls threads wait for the GIL, the longer the more calls they make. So many blocks are larger than
    the cache: matrix products lose less by that than threads lose by waiting.

    Parameters
    ----------
    whole : int
        Workspace of all blocks together, in bytes.
    least : int
        Lower bound for a kernel whose smaller blocks are slow for other reasons.
    """
    few = whole if whole <= MAX_UNDIVIDED_BLOCKS * BLOCK_BYTES else whole // BLOCKS_OF_LARGE_OPS
    return min(max(BLOCK_BYTES, few, least), MAX_BLOCK_BYTES)


def blocks(
    shape: Sequence[int], bytes_per_element: int, limit: int = BLOCK_BYTES, multiple: int = 1
) -> Iterator[tuple[slice, ...]]:
    """Yield slices over all axes of ``shape`` that cover it once, in row-major order.

    As many trailing axes as fit the limit are taken whole, the axis before them is cut into chunks, and the axes before
    that one are taken element by element. A single element may exceed the limit.

    Parameters
    ----------
    shape : sequence of int
        Sizes of the axes to divide.
    bytes_per_element : int
        Workspace needed for each element of ``shape``.
    limit : int
        Bytes that a block's workspace may have.
    multiple : int
        Blocks begin at multiples of this along the last axis, even if they exceed the limit by less than it.

    Examples
    --------
    >>> [block[1] for block in blocks((1, 5), bytes_per_element=8, limit=16)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    sizes = block_sizes(shape, bytes_per_element, limit, multiple)
    ranges = (range(0, size, step) for size, step in zip(shape, sizes, strict=True))
    for starts in itertools.product(*ranges):
        yield tuple(
            slice(start, min(start + step, size)) for start, step, size in zip(starts, sizes, shape, strict=True)
        )


def block_count(shape: Sequence[int], bytes_per_element: int, limit: int = BLOCK_BYTES, multiple: int = 1) -> int:
    """Return how many slices ``blocks`` yields."""
    sizes = block_sizes(shape, bytes_per_element, limit, multiple)
    return math.prod(-(-size // step) for size, step in zip(shape, sizes, strict=True))


def block_sizes(shape: Sequence[int], bytes_per_element: int, limit: int = BLOCK_BYTES, multiple: int = 1) -> list[int]:
    """Return the size of the blocks along each axis; the last one may be smaller."""
    capacity = max(1, limit // bytes_per_element)
    sizes = []
    for axis, size in enumerate(shape):
        most = max(1, min(size, capacity // max(1, math.prod(shape[axis + 1 :]))))
        # blocks of equal sizes, so that all threads take equally long
        sizes.append(-(-size // -(-size // most)) if size else 1)
    if multiple > 1 and sizes[-1] < shape[-1]:
        sizes[-1] = min(shape[-1], -(-sizes[-1] // multiple) * multiple)
    return sizes


def elements_of_least_blocks(shape: Sequence[int], least: int) -> int:
    """Return the elements of the smallest equal blocks that have at least so many, where the shape has.

    Examples
    --------
    >>> [elements_of_least_blocks((10, 64), least) for least in (24, 48, 100)]
    [32, 64, 128]
    """
    inside = 1  # elements of the trailing axes that blocks have whole
    for size in reversed(shape):
        if inside * size >= least:
            return inside * -(-size // (size // -(-least // inside)))
        inside *= max(1, size)
    return inside
