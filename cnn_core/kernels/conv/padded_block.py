"""The part of an input that a block of windows covers, with its padding, channels-last and in one piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from cnn_core.geometry import Windows

__all__ = ["PaddedPart"]

Array = NDArray[Any]


class PaddedPart:
    """Where the parts of an input stand, one after the other, for all blocks in which windows lie alike.

    Taps in the padding are real zeros and are multiplied like any element: an infinite weight over padding gives NaN,
    as it does over an input that was padded beforehand.

    Parameters
    ----------
    memory : ndarray
        Of one axis, and of as many elements as the part at least.
    images : int
    windows : Windows
        Over the part.
    rest : sequence of int
        Sizes of the axes after the spatial ones.
    """

    def __init__(self, memory: Array, images: int, windows: Windows, rest: Sequence[int]) -> None:
        shape = (images, *windows.padded_sizes, *rest)
        self.array: Array = memory[: math.prod(shape)].reshape(shape)
        self._inside = self.array[(slice(None), *windows.inside)]

    def write(self, part: Array, *, must_clear: bool) -> None:
        """Write a part of an input, (n, *s, ...); the padding too if it is the first since others used the memory."""
        if must_clear:
            self.array.fill(0)
        self._inside[...] = part
