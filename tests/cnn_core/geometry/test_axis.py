"""The windows along one axis of any size up to 2^31 - 1 are exact, at equal distances and adaptive ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core.geometry import AdaptiveAxis, AxisWindows, resolve_windows
from cnn_core.geometry.axis import Axis

LARGEST = 2**31 - 1


@pytest.mark.parametrize("count", [1, 7, 1000, 65_536])
@pytest.mark.parametrize("size", [5, 2**16 + 1, 2**30, LARGEST])
def test_adaptive_windows_of_large_sizes_are_exact(size: int, count: int) -> None:
    axis = AdaptiveAxis(size, count)
    starts = [number * size // count for number in range(count)]
    stops = [-(-(number + 1) * size // count) for number in range(count)]
    assert axis.starts().tolist() == starts
    taps = [stop - start for start, stop in zip(starts, stops, strict=True)]
    assert axis.counts(include_padding=False).tolist() == taps
    assert axis.tap_count == sum(taps)
    require_pieces(axis, list(zip(starts, stops, strict=True)))


@pytest.mark.parametrize(("size", "output_size"), [(LARGEST, LARGEST), (3, LARGEST), (LARGEST, 2**31 - 3)])
def test_the_last_windows_of_large_axes_are_exact(size: int, output_size: int) -> None:
    """The products of the largest sizes still are 64-bit integers."""
    last = np.arange(output_size - 3, output_size, dtype=np.int64)
    assert (last * size // output_size).tolist() == [number * size // output_size for number in last.tolist()]
    ends = -(-(last + 1) * size // output_size)
    assert ends.tolist() == [-(-(number + 1) * size // output_size) for number in last.tolist()]


@pytest.mark.parametrize("dilation", [1, 2**20, 2**30])
@pytest.mark.parametrize("before", [0, 2**30, LARGEST])
def test_windows_of_large_sizes_are_exact(before: int, dilation: int) -> None:
    stride, kernel, size, windows = 2**31 - 5, 3, LARGEST, 4
    axis = AxisWindows(size, kernel, stride, dilation, before, 4 * LARGEST, windows)
    starts = [number * stride - before for number in range(windows)]
    assert axis.starts().tolist() == starts
    taps = [sum(0 <= start + tap * dilation < size for tap in range(kernel)) for start in starts]
    assert axis.counts(include_padding=False).tolist() == taps
    assert axis.counts(include_padding=True).tolist() == [
        sum(-before <= start + tap * dilation < size + axis.after for tap in range(kernel)) for start in starts
    ]


def require_pieces(axis: Axis, spans: list[tuple[int, int]]) -> None:
    """Check that the pieces join every window with its taps, if there are not too many to go through."""
    if axis.goes_by_window:
        assert [(piece.inputs.start, piece.inputs.stop) for piece in axis.pieces()] == spans
        return
    if axis.tap_count > 500_000:
        return
    pieces = list(axis.pieces())
    assert len(pieces) <= axis.piece_count
    pairs = 0
    for piece in pieces:
        windows = range(len(spans))[piece.outputs]
        taps = range(axis.size)[piece.inputs]
        assert len(windows) == len(taps)
        assert all(
            spans[window][0] + piece.offsets.start == tap < spans[window][1]
            for window, tap in zip(windows, taps, strict=True)
        )
        pairs += len(windows)
    assert pairs == axis.tap_count


@st.composite
def axes(draw: st.DrawFn) -> AxisWindows:
    """Windows as the rules of the ops place them, those that hang over the end included."""
    kernel, stride, dilation = (draw(st.integers(1, 4)) for _ in range(3))
    before, after = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    size = draw(st.integers(max(1, (kernel - 1) * dilation + 1 - before - after), 20))
    windows = resolve_windows(
        (size,), kernel, stride=stride, padding=((before, after),), dilation=dilation, ceil_mode=draw(st.booleans())
    )
    return windows.axes[0]


@given(axes(), st.data())
@settings(deadline=None, max_examples=300)
def test_windows_that_reach_some_elements(axis: AxisWindows, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis.size - 1))
    stop = data.draw(st.integers(start + 1, axis.size))
    first_taps = axis.starts().tolist()
    spanning = [
        window
        for window, tap in enumerate(first_taps)
        if tap < stop and tap + (axis.kernel_size - 1) * axis.dilation >= start
    ]
    first, end = axis.reaching(start, stop)
    assert list(range(first, end)) == spanning
    assert axis.last_start == first_taps[-1]
    assert axis.overhang == max(0, first_taps[-1] + axis.extent - axis.size - axis.after)
