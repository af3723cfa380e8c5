"""The scales of QLinearConv: any finite number above 0, and results as exact fractions have them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import OperandError, QLinearConv
from tests.oracle import quantized as oracle
from tests.oracle.windows import AnyArray
from tests.strategies import thorough_settings


def convolved(*scales: Any, zero: int = 7) -> list[int]:
    input = np.array([0, 1, 2], dtype=np.uint8).reshape(1, 3, 1)
    weight, none = np.ones((1, 1, 1), dtype=np.uint8), np.uint8(0)
    input_scale, weight_scale, output_scale = scales
    result: list[int] = (
        QLinearConv()
        .forward(input, input_scale, none, weight, weight_scale, none, output_scale, np.uint8(zero))
        .ravel()
        .tolist()
    )
    return result


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((1e200, 1e200, 1e200), [7, 255, 255]),  # 0 of any scale is 0
        ((1e-300, 1e-300, 1e-300), [7, 7, 7]),
        ((1e200, 1e200, 1e308), [7, 255, 255]),
        ((1e200, 1e-200, 1.0), [7, 8, 9]),
        ((1e-200, 1e-200, 1e-308), [7, 7, 7]),
        ((5e-324, 1e300, 5e-24), [7, 8, 9]),
        ((1e-200, 1e200, 1e-320), [7, 255, 255]),
    ],
)
def test_products_beyond_the_range_saturate_or_vanish(scales: tuple[float, ...], expected: list[int]) -> None:
    assert convolved(*scales) == expected


def test_a_product_that_overflows_on_the_way() -> None:
    assert convolved(2.0**600, 2.0**600, 2.0**1000) == [7, 255, 255]
    assert convolved(2.0**600, 2.0**424, 2.0**1023) == [7, 9, 11]  # 2^1024 is beyond float64, twice 1 is not


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_what_is_no_scale(place: int, value: float) -> None:
    scales = [1.0, 1.0, 1.0]
    scales[place] = value
    with pytest.raises(OperandError) as caught:
        convolved(*scales)
    assert caught.value.subject == ("input_scale", "weight_scale", "output_scale")[place]
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("bias", [None, 2**31 - 1, -(2**31)])
def test_sums_with_the_bias_wrap_around(bias: int | None) -> None:
    """300 x 300 products of 255 x 255 are 1.36 times 2^32; what is left is above 0, or below it with a bias."""
    image = np.full((1, 300, 300, 1), 255, dtype=np.uint8)
    none = np.uint8(0)
    added = None if bias is None else np.array([bias], dtype=np.int32)
    output = QLinearConv().forward(
        image, 1.0, none, image.reshape(300, 300, 1, 1), 1.0, none, 2.0**25, np.uint8(100), added
    )
    total = (300 * 300 * 255 * 255 + (bias or 0) + 2**31) % 2**32 - 2**31
    assert output.item() == 100 + round(total / 2**25)


# ---------------------------------------------------------------------------------------------------- half-way, exactly

INT32 = np.iinfo(np.int32)


def any_scale(dtype: str) -> st.SearchStrategy[float]:
    """Numbers of a type: plain, with few bits, and from the whole range, subnormal ones included."""
    limits = np.finfo(dtype)
    smallest, largest = float(limits.smallest_subnormal), float(limits.max)
    width: Any = limits.bits
    return st.one_of(
        st.sampled_from([0.05, 0.03, 0.1, 1 / 3, 0.7, 4.5, smallest, largest, float(limits.smallest_normal)]),
        st.builds(lambda odd, power: float(np.ldexp(odd, power)), st.integers(1, 99), st.integers(-8, 3)),
        st.floats(smallest, largest, width=width),
    )


def near_half_way(multiplier: Fraction, halves: list[int]) -> list[int]:
    """The sums that such halves lie next to, and some others."""
    nearest = [int(Fraction(half, 2) / multiplier) for half in halves]
    around = [total + step for total in nearest for step in (-1, 0, 1)]
    return [total for total in (*around, -1, 0, 1, INT32.min, INT32.max) if INT32.min <= total <= INT32.max]


@st.composite
def scaled_sums(draw: st.DrawFn) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, AnyArray]:
    """Scales, of which two often cancel each other, sums next to what they take half-way, and a zero point."""
    types = [draw(st.sampled_from(["float32", "float64", "float64", "float16"])) for _ in range(3)]
    first, weights, last = [np.array(draw(any_scale(dtype)), dtype) for dtype in types]
    by_channel = draw(st.booleans())
    if by_channel:
        weights = np.array([weights, *draw(st.lists(any_scale(types[1]), min_size=1, max_size=3))], types[1])
    last = draw(st.sampled_from([last, first, weights.reshape(-1)[:1]]))
    halves = draw(st.lists(st.integers(-512, 512), min_size=1, max_size=8))
    steps = [Fraction(float(weight)) * Fraction(float(first)) / Fraction(last.item()) for weight in weights.reshape(-1)]
    sums = [near_half_way(step, halves) for step in steps]
    zero_point = np.array(draw(st.integers(0, 127)), draw(st.sampled_from(["int8", "uint8"])))
    channels = np.array([total for totals in sums for total in totals], np.int32)
    if by_channel:
        weights = np.repeat(weights, [len(totals) for totals in sums])
    return first, weights, last, channels, zero_point


@thorough_settings
@given(scaled_sums(), st.sampled_from([1, 3]))
def test_what_is_next_to_half_way_rounds_as_exact_fractions_do(drawn: Any, positions: int) -> None:
    """Each sum is the bias of a channel, whose weight and input are 0."""
    input_scale, weight_scale, output_scale, sums, zero_point = drawn
    zero = np.int8(0)
    operands: list[Any] = [np.zeros((1, positions, 1), np.int8), input_scale, zero]
    operands += [np.zeros((1, 1, len(sums)), np.int8), weight_scale, zero, output_scale, zero_point, sums]
    expected = oracle.qlinear_conv(*(np.asarray(operand) for operand in operands))
    np.testing.assert_array_equal(QLinearConv().forward(*operands), expected, strict=True)


@pytest.mark.parametrize(
    ("input", "scales", "expected"),
    [
        (6, (0.05, 0.75, 0.05), 4),  # 4.5
        (1, (0.03, 4.5, 0.03), 4),  # 4.5
        (3, (1.0, 1.0, 6.0), 0),  # 0.5
        (9, (1.0, 1.0, 6.0), 2),  # 1.5
        (1, (1.0, np.nextafter(0.5, 1), 1.0), 1),
        (1, (1.0, np.nextafter(1.5, 0), 1.0), 1),
        (5, (2.0**-1074, 0.5, 2.0**-1074), 2),  # 2.5
        (255, (1.0, np.nextafter(0.5, 0) / 255, 1.0), 0),
    ],
)
def test_ties_by_hand(input: int, scales: tuple[float, float, float], expected: int) -> None:
    zero = np.uint8(0)
    image, weight = np.full((1, 1, 1), input, np.uint8), np.ones((1, 1, 1), np.uint8)
    output = QLinearConv().forward(image, scales[0], zero, weight, scales[1], zero, scales[2], zero)
    assert output.item() == expected


def test_many_ties_in_many_channels() -> None:
    """Every sum from -512 to 512 in 40 channels, of which each has a multiplier of its own, in several blocks."""
    numbers, weights = np.arange(-512, 513, dtype=np.int32), np.arange(1, 41) / 64
    zero, one = np.int8(0), np.array(0.3)
    input = np.stack([numbers // 8, numbers % 8], axis=-1).astype(np.int8)[None]
    kernel = np.broadcast_to(np.array([8, 1], np.int8)[:, None], (1, 2, 40))
    output = QLinearConv().forward(input, one, zero, kernel, weights, zero, one, zero)
    expected = np.rint(numbers[:, None] * weights).clip(-128, 127)  # few digits: exact
    np.testing.assert_array_equal(output[0], expected)
