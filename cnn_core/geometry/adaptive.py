"""The windows along one axis that divide it into a requested number of parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .axis import Axis, Piece

__all__ = ["AdaptiveAxis"]


@dataclass(frozen=True, slots=True)
class AdaptiveAxis(Axis):
    """Windows of an adaptive pooling: window ``i`` of ``o`` is ``[floor(i * n / o), ceil((i + 1) * n / o))``.

    With ``g = gcd(n, o)`` window ``i + o / g`` is window ``i`` moved by ``n / g``. So the windows fall into ``o / g``
    classes, each of ``g`` windows of one size at equal distances.

    The windows overlap where the output size ``o`` does not divide the size ``n``, and repeat elements where it is
    larger.
    """

    size: int
    output_size: int
    dilation: ClassVar[int] = 1  # type: ignore[misc]

    @property
    def _repeats(self) -> int:
        return math.gcd(self.size, self.output_size)

    @property
    def tap_count(self) -> int:  # noqa: D102
        # the windows cover the axis once, and share an element at each border except where a class starts over
        return self.size + self.output_size - self._repeats

    @property
    def tap_piece_count(self) -> int:  # noqa: D102
        return self.tap_count // self._repeats

    @property
    def overlaps(self) -> bool:  # noqa: D102
        return self.size % self.output_size != 0

    @property
    def is_covered(self) -> bool:
        """Every element is in a window."""
        return True

    def _span(self, window: int) -> tuple[int, int]:
        return window * self.size // self.output_size, -(-(window + 1) * self.size // self.output_size)

    def pieces(self) -> Iterator[Piece]:
        """Divide the pairs of a window and one of its taps into as few regular pieces as possible.

        There is one piece for each tap of each class, over all windows of the class, or one for each window, over all
        its taps: whichever are fewer.
        """
        if self.goes_by_window:
            for window in range(self.output_size):
                start, stop = self._span(window)
                yield Piece(slice(0, stop - start), slice(window, window + 1), slice(start, stop))
            return
        repeats = self._repeats
        classes, distance = self.output_size // repeats, self.size // repeats
        for window in range(classes):
            start, stop = self._span(window)
            for index in range(start, stop):
                offset = index - start
                inputs = slice(index, index + (repeats - 1) * distance + 1, distance)
                yield Piece(slice(offset, offset + 1), slice(window, None, classes), inputs)

    def starts(self) -> NDArray[np.int64]:  # noqa: D102
        return np.arange(self.output_size, dtype=np.int64) * self.size // self.output_size

    def counts(self, *, include_padding: bool) -> NDArray[np.int64]:  # noqa: ARG002
        """Count each window's taps; there is no padding."""
        following = np.arange(1, self.output_size + 1, dtype=np.int64)
        return -(-following * self.size // self.output_size) - self.starts()

    def has_window_in_padding(self) -> bool:
        """Every window has a tap inside the input."""
        return False
