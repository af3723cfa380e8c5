"""Rules of docs/where-frameworks-disagree.md that are nobody else's subject: each by hand, on a few numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cnn_core import AvgPool, Conv, ConvTranspose, LpPool, MaxPool, ParameterError


def line(*values: float) -> Any:
    """One channel on one axis."""
    return np.array(values, dtype=np.float64).reshape(1, -1, 1)


def kernel(*values: float) -> Any:
    return np.array(values, dtype=np.float64).reshape(-1, 1, 1)


def test_the_default_padding_is_none() -> None:
    assert Conv().output_shape((1, 5, 1), (3, 1, 1)) == (1, 3, 1)
    assert MaxPool(kernel_size=3, stride=1).output_shape((1, 5, 1)) == (1, 3, 1)
    assert ConvTranspose().output_shape((1, 3, 1), (3, 1, 1)) == (1, 5, 1)


def test_the_two_sides_may_have_different_padding() -> None:
    assert Conv(padding=((0, 2),)).forward(line(1, 2, 3), kernel(1, 10, 100)).ravel().tolist() == [321, 32, 3]
    pooled = AvgPool(kernel_size=2, stride=1, padding=((1, 0),), count_include_pad=True).forward(line(2, 4))
    assert pooled.ravel().tolist() == [1, 3]


@pytest.mark.parametrize(("size", "stride", "expected"), [(5, 2, 3), (6, 2, 3), (7, 3, 3), (3, 5, 1)])
def test_same_with_a_stride_gives_the_rounded_up_quotient(size: int, stride: int, expected: int) -> None:
    for padding in ("same", "same_lower"):
        assert Conv(stride=stride, padding=padding).output_shape((1, size, 1), (3, 1, 1)) == (1, expected, 1)
        pool = MaxPool(kernel_size=3, stride=stride, padding=padding)
        assert pool.output_shape((1, size, 1)) == (1, expected, 1)


def test_dilation_counts_in_same_padding() -> None:
    # the window spans 5 elements, so there are 2 zeros on each side
    convolved = Conv(padding="same", dilation=2).forward(line(1, 2, 3, 4), kernel(1, 10, 100))
    assert convolved.ravel().tolist() == [310, 420, 31, 42]
    pooled = MaxPool(kernel_size=2, stride=1, dilation=2, padding="same").forward(line(4, 3, 2, 1))
    assert pooled.ravel().tolist() == [3, 4, 3, 2]


def test_stride_and_dilation_go_together() -> None:
    convolved = Conv(stride=2, dilation=2).forward(line(1, 2, 3, 4, 5), kernel(1, 10))
    assert convolved.ravel().tolist() == [31, 53]


def test_a_transposed_convolution_has_no_padding_mode() -> None:
    assert "padding_mode" not in {field.name for field in dataclasses.fields(ConvTranspose)}


def test_a_window_that_starts_past_the_input_is_dropped() -> None:
    # rounded up there are 3 windows; the third would start at element 4, which is the first one of the trailing padding
    dropped: dict[str, Any] = {"kernel_size": 2, "stride": 2, "padding": [[0, 1]], "ceil_mode": True}
    for pool in (MaxPool(**dropped), AvgPool(**dropped), LpPool(**dropped)):
        assert pool.output_shape((1, 4, 1)) == (1, 2, 1)
        assert pool.output_shape((1, 5, 1)) == (1, 3, 1)


def test_every_pooling_has_dilation() -> None:
    window: dict[str, Any] = {"kernel_size": 2, "stride": 1, "dilation": 2}
    input = line(3, 1, 4, 1)
    assert MaxPool(**window).forward(input).ravel().tolist() == [4, 1]
    assert AvgPool(**window).forward(input).ravel().tolist() == [3.5, 1]
    assert LpPool(**window, norm_type=1).forward(input).ravel().tolist() == [7, 2]


def test_a_global_maximum_may_be_split() -> None:
    tied = line(3, 1, 3, 3)
    gradient = np.full((1, 1, 1), 6.0)
    assert MaxPool(output_size=1, ties="split").backward(gradient, tied).ravel().tolist() == [2, 0, 2, 2]
    assert MaxPool(output_size=1).backward(gradient, tied).ravel().tolist() == [6, 0, 0, 0]


def test_same_in_a_transposed_convolution_never_gives_less_than_the_stride() -> None:
    # three windows of 3 elements, 4 apart: what follows the last one are zeros
    for padding in ("same", "same_lower"):
        spread = ConvTranspose(stride=4, padding=padding).forward(line(1, 1, 1), kernel(1, 2, 3))
        assert spread.ravel().tolist() == [1, 2, 3, 0] * 3


def test_same_with_output_padding() -> None:
    with pytest.raises(ParameterError):
        ConvTranspose(stride=2, padding="same", output_padding=1).output_shape((1, 3, 1), (3, 1, 1))
    # Keras: what is given adds to (n - 1) * s + k - 2 * (k // 2)
    for added, expected in ((0, [2, 13, 20, 130, 200]), (1, [1, 2, 13, 20, 130, 200])):
        op = ConvTranspose(stride=2, padding="same", output_padding=added, framework="tensorflow")
        assert op.forward(line(1, 10, 100), kernel(1, 2, 3)).ravel().tolist() == expected
    # ONNX: the size is n * s still, and the second element that is too many is cut at the start
    op = ConvTranspose(stride=2, padding="same", output_padding=1, framework="onnx", data_format="channels_last")
    assert op.forward(line(1, 10, 100), kernel(1, 2, 3)).ravel().tolist() == [2, 13, 20, 130, 200, 300]
