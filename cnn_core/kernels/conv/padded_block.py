"""A block of the input with its padding, channels-last and contiguous."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from ...geometry import Windows

__all__ = ["PaddedBlock"]

Array = NDArray[Any]


class PaddedBlock:
    """Memory into which blocks with the same layout are written, one after the other.

    Taps in the padding are real zeros and are multiplied like any element: an infinite weight over padding gives NaN,
    as it does over an input that was padded beforehand.

    Parameters
    ----------
    memory : ndarray
        Memory with one axis and at least as many elements as the block.
    images : int
    windows : Windows
        Over the block.
    trailing : sequence of int
        Sizes of the axes after the spatial ones.
    """

    def __init__(self, memory: Array, images: int, windows: Windows, trailing: Sequence[int]) -> None:
        shape = (images, *windows.padded_sizes, *trailing)
        self.array: Array = memory[: math.prod(shape)].reshape(shape)
        self._inside = self.array[(slice(None), *windows.inside)]

    def write(self, block: Array, *, must_clear: bool) -> None:
        """Write a block of the input, (n, *s, ...), and the padding if the memory must be cleared."""
        if must_clear:
            self.array.fill(0)
        self._inside[...] = block
