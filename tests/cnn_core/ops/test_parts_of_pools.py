"""A part of a batch or of an image has the bits of averages and norms that it has in the whole, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import AvgPool, LpPool
from tests.cnn_core.parts import assert_same_bits, part_of, parts
from tests.strategies import quick_settings

Array = NDArray[Any]
Numbers = tuple[int, int]

MOST_SIZE = {1: 90, 2: 20, 3: 7}
MOST_TAPS = {1: 64, 2: 11, 3: 4}


@dataclass(frozen=True)
class Case:
    """A pooling, channels-last."""

    op: type[AvgPool | LpPool]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    channels: int
    more: dict[str, Any]
    dtype: str

    def along(self, axis: int, padding: tuple[int, int]) -> AvgPool | LpPool:
        """Return the op with another padding of one axis."""
        pairs = list(self.padding)
        pairs[axis] = padding
        return self.op(kernel_size=self.kernel, stride=self.stride, padding=tuple(pairs), **self.more)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, MOST_TAPS[rank])) for _ in range(rank))
    stride = tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in range(rank))
    padding = tuple((draw(st.integers(0, taps // 2)), draw(st.integers(0, taps // 2))) for taps in kernel)
    sizes = tuple(taps + draw(st.integers(0, MOST_SIZE[rank])) for taps in kernel)
    data_format = draw(st.sampled_from(["channels_last", "channels_first"]))
    op, more = draw(
        st.sampled_from([(AvgPool, {"count_include_pad": False}), (AvgPool, {"count_include_pad": True})])
        | st.sampled_from([(LpPool, {"norm_type": each}) for each in (1, 2, 3)])
    )
    channels = draw(st.sampled_from([1, 1, 3, 16]))
    dtype = draw(st.sampled_from(["float16", "float32", "float64"]))
    return Case(op, kernel, stride, padding, sizes, channels, {**more, "data_format": data_format}, dtype)


def check(case: Case, axis: int, numbers: Numbers, images: Numbers) -> None:
    axis %= len(case.kernel)
    first = case.more["data_format"] == "channels_first"
    along = axis + (2 if first else 1)
    random = np.random.default_rng(0)
    shape = (4, case.channels, *case.sizes) if first else (4, *case.sizes, case.channels)
    input = random.standard_normal(shape).astype(case.dtype)
    op = case.along(axis, case.padding[axis])
    output = op.forward(input)
    gradient = random.standard_normal(output.shape).astype(case.dtype)
    grad_input = op.backward(gradient, input)

    some = part_of(4, images)
    assert_same_bits(op.forward(input[some]), output[some], some)
    assert_same_bits(op.backward(gradient[some], input[some]), grad_input[some], some)

    def view(array: Array, chosen: slice) -> Array:
        return array[(slice(None),) * along + (chosen,)]

    # some windows, from the elements that they cover
    size, taps, stride, before = case.sizes[axis], case.kernel[axis], case.stride[axis], case.padding[axis][0]
    windows = part_of(output.shape[along], numbers)
    low, high = windows.start * stride - before, (windows.stop - 1) * stride + taps - before
    region = case.along(axis, (max(0, -low), max(0, high - size)))
    covered = slice(max(0, low), min(size, high))
    assert_same_bits(region.forward(view(input, covered)), view(output, windows), windows)
    # the gradient of those elements that no other window covers
    found = region.backward(view(gradient, windows), view(input, covered))
    start = covered.start if windows.start == 0 else max(covered.start, (windows.start - 1) * stride + taps - before)
    last = windows.stop == output.shape[along]
    stop = covered.stop if last else min(covered.stop, windows.stop * stride - before)
    if start < stop:
        own = slice(start - covered.start, stop - covered.start)
        assert_same_bits(view(found, own), view(grad_input, slice(start, stop)), (windows, start, stop))


@settings(quick_settings, max_examples=300)
@given(cases(), st.integers(0, 2), parts, parts)
def test_parts(case: Case, axis: int, numbers: Numbers, images: Numbers) -> None:
    check(case, axis, numbers, images)


@pytest.mark.exhaustive
@settings(quick_settings, max_examples=6000)
@given(cases(), st.integers(0, 2), parts, parts)
def test_parts_of_many_layers(case: Case, axis: int, numbers: Numbers, images: Numbers) -> None:
    check(case, axis, numbers, images)
