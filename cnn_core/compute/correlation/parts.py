"""The part of an input that a block of windows covers, with its padding, channels-last and in one piece."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from cnn_core.geometry import Windows

__all__ = ["PaddedParts"]

Array = NDArray[Any]


class PaddedParts:
    """Makes the parts of an input one after the other in the same memory.

    Taps in the padding are real zeros and are multiplied like any element: an infinite weight over padding gives NaN,
    as it does over an input that was padded beforehand.

    Parameters
    ----------
    memory : ndarray
        Of one axis, and as many elements as the largest part. Of the type that is computed in.
    """

    def __init__(self, memory: Array) -> None:
        self._memory = memory
        self._windows: Windows | None = None
        self._part = self._inside = memory

    def __call__(self, input: Array, windows: Windows) -> Array:
        """Return a part of an input (n, *S, C) with the padding of the windows over it, (n, *padded, C).

        For the same Windows object and as many images it is the same array again.
        """
        if windows is not self._windows or len(input) != len(self._part):
            self._windows = windows
            shape = (input.shape[0], *windows.padded_sizes, input.shape[-1])
            part = self._memory[: math.prod(shape)].reshape(shape)
            # only what is inside is written each time
            part.fill(0)
            self._part, self._inside = part, part[(slice(None), *windows.inside)]
        self._inside[...] = input
        return self._part
