"""The scales of QLinearConv: any finite number above 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core import OperandError, QLinearConv


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
