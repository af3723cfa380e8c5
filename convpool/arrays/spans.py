"""Which elements the windows of a part of an axis need, and which windows the elements of a part.

The arithmetic is that of ``cnn_core.geometry``. Borders between parts have no padding, those of the axis their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_core.geometry import AxisWindows
from cnn_core.kernels.conv.alignment import Alignment

__all__ = ["Range", "Span", "chunks_of_elements", "chunks_of_windows", "over_elements", "over_windows", "ranges"]

Range = tuple[int, int]
"""From the first to the last one, exclusively."""


@dataclass(frozen=True, slots=True)
class Span:
    """Some windows along an axis, and the elements that they cover.

    Parameters
    ----------
    windows, elements : (start, stop)
    padding : (before, after)
        Of the part: what its windows have outside the axis.
    zeros : (before, after)
        Padding that has to be elements: of windows that start beyond the axis, or have no element of it, which an op
        could not place.
    overhangs : bool
        Whether the last window hangs over the end of the padding, as ceil_mode allows.
    uncovered : int
        Elements after the last window: less than a stride.
    """

    windows: Range
    elements: Range
    padding: Range = (0, 0)
    zeros: Range = (0, 0)
    overhangs: bool = False
    uncovered: int = 0


def over_windows(axis: AxisWindows, start: int, stop: int, *, ceil_mode: bool = False) -> Span:
    """Return the windows from start to stop with the elements that they cover.

    Parameters
    ----------
    axis : AxisWindows
    start, stop : int
    ceil_mode : bool
        Whether the op may drop windows that start beyond the axis, so that their padding has to be elements.

    Examples
    --------
    >>> over_windows(AxisWindows(size=9, kernel_size=3, stride=2, dilation=1, before=1, after=1, output_size=5), 0, 2)
    Span(windows=(0, 2), elements=(0, 4), padding=(1, 0), zeros=(0, 0), overhangs=False, uncovered=0)
    """
    inside, part = axis.block(start, stop)
    overhang = axis.overhang if stop == axis.output_size else 0
    windows, elements, padding = (start, stop), (inside.start, inside.stop), (part.before, part.after - overhang)
    if part.size == 0 or (ceil_mode and part.last_start >= part.size):
        return Span(windows, elements, zeros=padding)
    return Span(windows, elements, padding, overhangs=overhang > 0)


def over_elements(
    axis: AxisWindows, start: int, stop: int, *, ceil_mode: bool = False, alignment: Alignment | None = None
) -> Span | None:
    """Return the windows that have taps in the elements from start to stop, with all elements that they cover.

    For the whole axis they are all windows, those in the padding too, as in one call.

    Parameters
    ----------
    axis : AxisWindows
    start, stop : int
    ceil_mode : bool
        As of ``over_windows``.
    alignment : Alignment, optional
        Where the windows or the elements must begin, and how many there must be. Then there are more than needed.

    Returns
    -------
    Span or None
        None if no window reaches them, or there are none.
    """
    first, last = axis.reaching(start, stop)
    if (start, stop) == (0, axis.size):
        whole = over_windows(axis, 0, axis.output_size, ceil_mode=ceil_mode)
        if not any(whole.zeros):
            return whole
    if start >= stop or first >= last:
        return None
    if alignment is not None:
        if alignment.of_elements:
            return _around_elements(axis, *alignment.around(start, stop, axis.size))
        first, last = alignment.around(first, last, axis.output_size)
    return over_windows(axis, first, last, ceil_mode=ceil_mode)


def _around_elements(axis: AxisWindows, start: int, stop: int) -> Span:
    """Return just these elements, with all windows that have taps there, which may have others in the padding."""
    first, last = axis.reaching(start, stop)
    first = min(first, (start + axis.before) // axis.stride)  # so that it does not start within the elements
    end = (last - 1) * axis.stride + axis.extent - axis.before
    padding = (start + axis.before - first * axis.stride, max(0, end - stop))
    return Span((first, last), (start, stop), padding, uncovered=max(0, stop - end))


def ranges(chunks: Sequence[int]) -> list[Range]:
    """Return from where to where each chunk goes.

    Examples
    --------
    >>> ranges([3, 3, 1])
    [(0, 3), (3, 6), (6, 7)]
    """
    return list(itertools.pairwise(itertools.accumulate(chunks, initial=0)))


def chunks_of_windows(axis: AxisWindows, chunks: Sequence[int]) -> tuple[int, ...]:
    """Return how many windows have their middle in each chunk of the elements, without the chunks that have none.

    Examples
    --------
    >>> same = AxisWindows(size=9, kernel_size=3, stride=1, dilation=1, before=1, after=1, output_size=9)
    >>> chunks_of_windows(same, (4, 4, 1))
    (4, 4, 1)
    """
    middle = (axis.extent - 1) // 2 - axis.before
    borders = [-(-(stop - middle) // axis.stride) for _, stop in ranges(chunks)[:-1]]
    return _chunks(borders, axis.output_size)


def chunks_of_elements(axis: AxisWindows, chunks: Sequence[int]) -> tuple[int, ...]:
    """Return a chunk of the elements for each chunk of the windows, from the middle of its first window on.

    Examples
    --------
    >>> doubled = AxisWindows(size=8, kernel_size=2, stride=2, dilation=1, before=0, after=0, output_size=4)
    >>> chunks_of_elements(doubled, (2, 2))
    (4, 4)
    """
    middle = (axis.extent - 1) // 2 - axis.before
    return _chunks([stop * axis.stride + middle for _, stop in ranges(chunks)[:-1]], axis.size)


def _chunks(borders: Sequence[int], size: int) -> tuple[int, ...]:
    inside = sorted({border for border in borders if 0 < border < size})
    return tuple(stop - start for start, stop in itertools.pairwise([0, *inside, size]))
