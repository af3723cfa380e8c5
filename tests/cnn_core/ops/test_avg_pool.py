"""Average pooling against the loop oracle: the divisor is where implementations differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import AvgPool, ShapeError
from tests.comparisons import assert_close, inner, normal
from tests.oracle import loops
from tests.oracle.windows import OracleError
from tests.strategies import PoolCase, avg_pool_cases, quick_settings, thorough_settings

seeds = st.integers(0, 2**32 - 1)


def averages(values: list[float], **parameters: Any) -> list[float]:
    """The averages over one row of values."""
    output = AvgPool(**parameters).forward(np.array(values).reshape(1, -1, 1))
    return [float(value) for value in output.reshape(-1)]


# ------------------------------------------------------------------------------------------------- against the oracle


@quick_settings
@given(avg_pool_cases(), st.integers(0, 2**20), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_special_value_reaches_only_the_windows_that_hold_it(case: PoolCase, place: int, value: float) -> None:
    """Running sums would carry it along."""
    input, grad_output = case.input.copy(), case.grad_output.copy()
    if input.size:
        input.reshape(-1)[place % input.size] = value
        grad_output.reshape(-1)[place % grad_output.size] = value
    pool = AvgPool(**case.parameters)
    assert_close(pool.forward(input), loops.avg_pool_forward(input, **case.parameters))
    expected = loops.avg_pool_backward(grad_output, case.input, **case.parameters)
    assert_close(pool.backward(grad_output, case.input), expected)


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((2, 41, 38, 5), {"kernel_size": [3, 2], "stride": 2, "padding": [[1, 1], [0, 1]]}),
        ((1, 64, 64, 8), {"kernel_size": 2}),
        ((1, 15, 16, 2), {"kernel_size": 9, "stride": 1, "padding": "same", "count_include_pad": True}),
        ((1, 20, 6), {"kernel_size": 20}),
        ((1, 11, 12, 13, 2), {"kernel_size": 3, "dilation": 2, "ceil_mode": True}),
        ((40, 2, 7, 7), {"kernel_size": 3, "stride": 2, "data_format": "channels_first", "divisor_override": 5}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(shape: tuple[int, ...], parameters: dict[str, Any]) -> None:
    input = normal(*shape)
    pool = AvgPool(**parameters)
    output = pool.forward(input)
    assert_close(output, loops.avg_pool_forward(input, **parameters))
    grad_output = normal(*output.shape, seed=1)
    assert_close(pool.backward(grad_output, input), loops.avg_pool_backward(grad_output, input, **parameters))


# --------------------------------------------------------------------------------------------------------- identities


@quick_settings
@given(avg_pool_cases(), seeds)
def test_average_pooling_is_linear(case: PoolCase, seed: int) -> None:
    pool = AvgPool(**case.parameters)
    other = np.random.default_rng(seed).standard_normal(case.input.shape)
    combined = pool.forward(3 * case.input - 0.5 * other)
    assert_close(combined, 3 * pool.forward(case.input) - 0.5 * pool.forward(other))


@thorough_settings
@given(avg_pool_cases())
def test_backward_is_the_adjoint_of_forward(case: PoolCase) -> None:
    pool = AvgPool(**case.parameters)
    product = inner(pool.forward(case.input), case.grad_output)
    gradient = pool.backward(case.grad_output, case.input)
    assert inner(case.input, gradient) == pytest.approx(product, rel=1e-10, abs=1e-10)


@quick_settings
@given(avg_pool_cases(), seeds)
def test_gradient_agrees_with_central_differences(case: PoolCase, seed: int) -> None:
    pool = AvgPool(**case.parameters)
    toward = np.random.default_rng(seed).standard_normal(case.input.shape) * 1e-3
    slope = inner(pool.forward(case.input + toward) - pool.forward(case.input - toward), case.grad_output) / 2
    gradient = pool.backward(case.grad_output, case.input)
    assert slope == pytest.approx(inner(toward, gradient), rel=1e-7, abs=1e-9)


@quick_settings
@given(avg_pool_cases())
def test_the_average_of_a_constant_without_padding(case: PoolCase) -> None:
    parameters = {
        name: value for name, value in case.parameters.items() if name not in {"count_include_pad", "divisor_override"}
    }
    try:
        loops.avg_pool_forward(case.input, **parameters)
    except OracleError:
        return  # such a window has an average only under the rules that were taken out
    output = AvgPool(**parameters).forward(np.full(case.input.shape, 7.0))
    assert_close(output, np.full(case.grad_output.shape, 7.0))


# -------------------------------------------------------------------------------------------------------- the divisor


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [6.0, 6.0, 6.0, 6.0]),
        ({"count_include_pad": True}, [4.0, 6.0, 6.0, 4.0]),
        ({"divisor_override": 1}, [12.0, 18.0, 18.0, 12.0]),
        ({"divisor_override": -2}, [-6.0, -9.0, -9.0, -6.0]),
        ({"divisor_override": 9, "count_include_pad": True}, [4 / 3, 2.0, 2.0, 4 / 3]),
    ],
)
def test_divisors_at_the_border(parameters: dict[str, Any], expected: list[float]) -> None:
    actual = averages([6.0] * 4, kernel_size=3, stride=1, padding=1, **parameters)
    assert actual == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("count_include_pad", "expected"), [(False, [6.0, 6.0]), (True, [4.0, 4.0])])
def test_the_padding_after_the_input_counts(count_include_pad: bool, expected: list[float]) -> None:
    actual = averages([6.0] * 4, kernel_size=3, stride=3, padding=1, count_include_pad=count_include_pad)
    assert actual == expected


def test_the_overhang_of_ceil_mode_never_counts() -> None:
    """n = 5, k = 4, s = 3: the second window holds elements 3 and 4 and hangs over by two taps."""
    values = [6.0] * 5
    assert averages(values, kernel_size=4, stride=3, ceil_mode=True, count_include_pad=True) == [6.0, 6.0]
    padded = averages(values, kernel_size=4, stride=3, ceil_mode=True, count_include_pad=True, padding=[[0, 1]])
    assert padded == [6.0, 4.0]  # one of the two taps is now explicit padding: 12 / 3


def test_the_divisor_is_the_product_over_the_axes() -> None:
    pool = AvgPool(kernel_size=(2, 3), stride=(2, 3), ceil_mode=True, count_include_pad=True)
    output = pool.forward(np.full((1, 3, 5, 1), 6.0))
    assert output[0, :, :, 0].tolist() == [[6.0, 6.0], [6.0, 6.0]]
    backward = pool.backward(np.full((1, 2, 2, 1), 6.0), np.zeros((1, 3, 5, 1)))
    assert backward[0, :, :, 0].tolist() == [[1.0] * 3 + [1.5] * 2, [1.0] * 3 + [1.5] * 2, [2.0] * 3 + [3.0] * 2]


def test_dilated_taps_in_the_overhang_do_not_count() -> None:
    """n = 4, k = 2, d = 2, s = 2, ceil: the second window has its second tap at index 4, beyond the end."""
    for count_include_pad in (False, True):
        actual = averages(
            [1.0, 2.0, 3.0, 4.0],
            kernel_size=2,
            dilation=2,
            stride=2,
            ceil_mode=True,
            count_include_pad=count_include_pad,
        )
        assert actual == [2.0, 3.0]


# ------------------------------------------------------------------------------------------------ windows without taps


@pytest.mark.parametrize("parameters", [{"count_include_pad": True}, {"divisor_override": 3}, {"divisor_override": -1}])
def test_a_window_in_the_padding_averages_to_zero(parameters: dict[str, Any]) -> None:
    assert averages([6.0], kernel_size=1, stride=1, padding=2, **parameters)[0] == 0.0
    pool = AvgPool(kernel_size=1, stride=1, padding=2, **parameters)
    gradient = pool.backward(np.array([5.0, 5.0, 0.0, 5.0, 5.0]).reshape(1, 5, 1), np.ones((1, 1, 1)))
    assert gradient.item() == 0.0


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (3, {"kernel_size": 2, "stride": 1, "padding": 2}),
        (3, {"kernel_size": 2, "stride": 1, "padding": [[0, 2]]}),
        (1, {"kernel_size": 2, "dilation": 2, "padding": 1}),
    ],
)
def test_a_window_without_valid_taps_is_an_error_where_only_they_count(size: int, parameters: dict[str, Any]) -> None:
    pool = AvgPool(**parameters)
    with pytest.raises(ShapeError):
        pool.forward(np.zeros((1, size, 1)))
    with pytest.raises(ShapeError):
        pool.output_shape((1, size, 1))
    with pytest.raises(ShapeError):
        pool.backward(np.zeros((1, 1, 1)), np.zeros((1, size, 1)))
    with pytest.raises(ShapeError):
        pool.forward(np.zeros((0, size, 1)))


@pytest.mark.parametrize("grad_output_shape", [(1, 3, 2), (1, 2, 1), (2, 2, 2), (1, 2, 2, 1), (1, 2)])
def test_grad_output_must_have_the_shape_of_the_output(grad_output_shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        AvgPool(kernel_size=2).backward(normal(*grad_output_shape), normal(1, 5, 2))
    assert "grad_output" in str(caught.value)
    assert "(1, 2, 2)" in str(caught.value)
