"""The windows along one axis, at equal distances.

Tap ``j`` of window ``i`` is at input index ``i * stride - before + j * dilation``. A tap outside ``[0, size)`` is in
the padding, or in the overhang that ceil_mode allows at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "AxisWindows", "Piece"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of the pairs of a window and a tap on one axis: one tap of many windows, or many taps of one window.

    The slices are of the kernel axis, of the output axis, and of the input axis, where the two meet. One of ``offsets``
    and ``outputs`` selects a single element, the other as many as ``inputs``.
    """

    offsets: slice
    outputs: slice
    inputs: slice

    @property
    def spans_taps(self) -> bool:
        """Whether this piece has several taps of one window."""
        return int(self.offsets.stop - self.offsets.start) > 1


class Axis(ABC):
    """The windows along one axis, whatever rule places them: what a reduction over windows needs to know."""

    __slots__ = ()

    size: int
    output_size: int
    dilation: int

    @property
    @abstractmethod
    def tap_count(self) -> int:
        """Number of pairs of a window and one of its taps, including taps in the padding."""

    @property
    @abstractmethod
    def tap_piece_count(self) -> int:
        """Number of pieces if each is one tap of many windows."""

    @property
    def goes_by_window(self) -> bool:
        """Whether each piece is one window with all its taps; chosen if that makes fewer pieces."""
        return self.tap_piece_count > self.output_size

    @property
    def piece_count(self) -> int:
        """Upper bound of the number of pieces."""
        return min(self.tap_piece_count, self.output_size)

    @property
    @abstractmethod
    def overlaps(self) -> bool:
        """Whether windows may have an element in common."""

    @property
    @abstractmethod
    def is_covered(self) -> bool:
        """Whether every element is certain to be in some window."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Divide the pairs of a window and one of its taps inside the input into as few regular pieces as possible."""

    @abstractmethod
    def starts(self) -> NDArray[np.int64]:
        """Return the index of each window's first tap; it may be in the padding, before index 0."""

    def first_taps(self) -> NDArray[np.int64]:
        """Return the offset of each window's first tap inside the input, or 0 where there is none."""
        return np.zeros(self.output_size, dtype=np.int64)

    @abstractmethod
    def counts(self, *, include_padding: bool) -> NDArray[np.int64]:
        """Count each window's taps inside the input, or inside the input and its padding."""

    @abstractmethod
    def has_window_in_padding(self) -> bool:
        """Return whether some window has no tap inside the input."""


@dataclass(frozen=True, slots=True)
class AxisWindows(Axis):
    """Windows of one size at equal distances; all values are counts of elements.

    Parameters
    ----------
    size, before, after : int
        Size of the input, and of the padding at its start and at its end.
    kernel_size, stride, dilation : int
        Taps of a window, distance from one window to the next, distance from one tap to the next.
    output_size : int
        Number of windows.
    """

    size: int
    kernel_size: int
    stride: int
    dilation: int
    before: int
    after: int
    output_size: int

    @property
    def extent(self) -> int:
        """The distance from a window's first tap to its last, plus one."""
        return (self.kernel_size - 1) * self.dilation + 1

    @property
    def reach(self) -> int:
        """Elements from the start of the padding to the end of the last window, or of the input if that is later."""
        return max(self.before + self.size, (self.output_size - 1) * self.stride + self.extent)

    @property
    def overhang(self) -> int:
        """Elements by which the last window exceeds the padded input, as ceil_mode allows."""
        return max(0, (self.output_size - 1) * self.stride + self.extent - self.before - self.size - self.after)

    @property
    def last_start(self) -> int:
        """Index of the last window's first tap."""
        return (self.output_size - 1) * self.stride - self.before

    @property
    def output_padding(self) -> int:
        """Elements by which the input exceeds the span of the windows within the padding; for transposed ops."""
        return self.size - ((self.output_size - 1) * self.stride + self.extent - self.before - self.after)

    @property
    def tap_count(self) -> int:  # noqa: D102
        return self.output_size * self.kernel_size

    @property
    def tap_piece_count(self) -> int:  # noqa: D102
        return self.kernel_size

    @property
    def overlaps(self) -> bool:  # noqa: D102
        return self.output_size > 1 and self.stride < self.extent

    @property
    def is_covered(self) -> bool:  # noqa: D102
        reached = (self.output_size - 1) * self.stride + self.extent - self.before
        return self.dilation == 1 and self.stride <= self.kernel_size and reached >= self.size

    def tap(self, offset: int) -> tuple[slice, slice] | None:
        """Return which windows have the tap at an offset inside the input, and where: slices of output and input."""
        return _inside(offset * self.dilation - self.before, self.stride, self.output_size, self.size)

    def pieces(self) -> Iterator[Piece]:
        """Divide the pairs of a window and one of its taps inside the input into as few regular pieces as possible.

        There is one piece for each tap, over all windows, or one for each window, over all its taps: whichever are
        fewer. So an ordinary layer takes as many steps as its kernel has taps, and a global pooling takes one. Either
        way, an element is in a piece of its last window first.
        """
        if not self.goes_by_window:
            for offset in range(self.kernel_size):
                slices = self.tap(offset)
                if slices is not None:
                    yield Piece(slice(offset, offset + 1), *slices)
        else:
            for window in reversed(range(self.output_size)):
                slices = _inside(window * self.stride - self.before, self.dilation, self.kernel_size, self.size)
                if slices is not None:
                    yield Piece(slices[0], slice(window, window + 1), slices[1])

    def starts(self) -> NDArray[np.int64]:  # noqa: D102
        return np.arange(self.output_size, dtype=np.int64) * self.stride - self.before

    def first_taps(self) -> NDArray[np.int64]:  # noqa: D102
        first: NDArray[np.int64] = np.maximum(0, -(self.starts() // self.dilation))
        return np.where(first < self.kernel_size, first, 0)

    def counts(self, *, include_padding: bool) -> NDArray[np.int64]:
        """Count each window's taps inside the input, or inside the input and its padding.

        The overhang of ceil_mode is neither: it never counts (PyTorch ``AvgPoolKernel.cpp``; ONNX issue 5276).
        """
        start = self.starts()
        end = self.size + (self.after if include_padding else 0)
        first = 0 if include_padding else np.maximum(0, -(start // self.dilation))
        stop = np.minimum(self.kernel_size, -((start - end) // self.dilation))
        return np.maximum(0, stop - first)

    def has_window_in_padding(self) -> bool:
        """Return whether some window has no tap inside the input, in constant memory and logarithmic time."""
        if (self.output_size - 1) * self.stride - self.before >= self.size or self.extent <= self.before:
            return True
        if self.size >= self.dilation:
            return False
        # Only windows that start in the leading padding are left. Their taps step over the whole input where the first
        # tap at an index >= 0, which is start mod dilation, is at or beyond the end. Count those:
        # [start mod d >= n] = floor((start + d - n) / d) - floor(start / d).
        windows = min(self.output_size, -(-self.before // self.stride))
        shifted = _floor_sum(windows, self.dilation, self.stride, self.dilation - self.size - self.before)
        return shifted != _floor_sum(windows, self.dilation, self.stride, -self.before)

    def reaching(self, start: int, stop: int) -> tuple[int, int]:
        """Return from which window to which, exclusively, they span some of the elements from start to stop.

        Only these windows have taps there. Both numbers are the same if there are none.
        """
        first = max(0, (start + self.before - self.extent) // self.stride + 1)
        return first, max(first, min(self.output_size, (stop - 1 + self.before) // self.stride + 1))

    def block(self, start: int, stop: int) -> tuple[slice, AxisWindows]:
        """Return the part of the input that the windows ``start`` to ``stop`` cover, and these windows over it."""
        first = start * self.stride - self.before
        span = (stop - start - 1) * self.stride + self.extent
        low = min(max(first, 0), self.size)
        high = max(low, min(first + span, self.size))
        before = min(span, max(0, -first)) if first < self.size else span
        part = AxisWindows(
            high - low, self.kernel_size, self.stride, self.dilation, before, span - before - (high - low), stop - start
        )
        return slice(low, high), part


def _inside(start: int, step: int, count: int, size: int) -> tuple[slice, slice] | None:
    """Return which of ``count`` positions from ``start`` on are in ``[0, size)``, and their slice; None if none is."""
    first, last = max(0, -(start // step)), min(count - 1, (size - 1 - start) // step)
    if first > last:
        return None
    return slice(first, last + 1), slice(start + first * step, start + last * step + 1, step)


def _floor_sum(terms: int, modulus: int, factor: int, constant: int) -> int:
    """Sum ``(factor * i + constant) // modulus`` over ``i`` from 0 to ``terms - 1`` with Euclid's algorithm."""
    total = 0
    while terms > 0:
        total += factor // modulus * (terms * (terms - 1) // 2) + constant // modulus * terms
        factor %= modulus
        constant %= modulus
        terms, constant = divmod(factor * terms + constant, modulus)
        modulus, factor = factor, modulus
    return total
