"""Lp pooling against decimal arithmetic: norms of every type, of every magnitude, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import AvgPool, LpPool
from tests.comparisons import assert_close, inner, normal
from tests.oracle import lp_pool
from tests.oracle.windows import AnyArray
from tests.strategies import PoolCase, quick_settings
from tests.strategies_pool import lp_pool_cases, lp_pool_cases_away_from_zero

nan, inf = np.nan, np.inf
some_settings = settings(quick_settings, max_examples=40)
every_norm_type = pytest.mark.parametrize("norm_type", [1, 1.5, 2, 3, 20, 1000])


def one_window(values: Any, norm_type: float, dtype: str = "float64") -> AnyArray:
    """The norm of all the values, in a result of one element."""
    input = np.array(values, dtype=dtype).reshape(1, -1, 1)
    output: AnyArray = LpPool(kernel_size=input.size, norm_type=norm_type).forward(input)
    assert output.dtype == dtype
    assert output.shape == (1, 1, 1)
    return output.reshape(-1)


def gradient_of_one_window(values: Any, norm_type: float, dtype: str = "float64") -> AnyArray:
    """The gradient of all the values for a grad_output of 1."""
    input = np.array(values, dtype=dtype).reshape(1, -1, 1)
    one = np.ones((1, 1, 1), dtype=dtype)
    grad_input: AnyArray = LpPool(kernel_size=input.size, norm_type=norm_type).backward(one, input)
    assert grad_input.dtype == dtype
    return grad_input.reshape(-1)


# ------------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.one_in(4)
@pytest.mark.parametrize("norm_type", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((1, 31, 28, 2), {"kernel_size": [3, 2], "stride": 2, "padding": [[1, 1], [0, 1]]}),
        ((1, 32, 32, 4), {"kernel_size": 2}),
        ((1, 15, 16, 2), {"kernel_size": 9, "stride": 1, "padding": "same"}),
        ((1, 200, 6), {"kernel_size": 200}),
        ((1, 9, 10, 11, 2), {"kernel_size": 3, "dilation": 2, "ceil_mode": True}),
        ((20, 2, 7, 7), {"kernel_size": 3, "stride": 2, "data_format": "channels_first"}),
        ((1, 25, 31, 2), {"output_size": [7, 1]}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(
    shape: tuple[int, ...], parameters: dict[str, Any], norm_type: float
) -> None:
    input = normal(*shape)
    pool = LpPool(**parameters, norm_type=norm_type)
    output = pool.forward(input)
    assert_close(output, lp_pool.lp_pool_forward(input, **parameters, norm_type=norm_type), 1e-13)
    grad_output = normal(*output.shape, seed=1)
    exact = lp_pool.lp_pool_backward(grad_output, input, **parameters, norm_type=norm_type)
    assert_close(pool.backward(grad_output, input), exact, 1e-12)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("windows", [{"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (1, 90)}])
def test_an_input_that_is_computed_in_parts(windows: dict[str, Any], data_format: str) -> None:
    """Half a million elements, as sums of squares and by Euler's theorem: <x, grad_input> = <y, grad_output>."""
    input = normal(*((12, 60, 90, 8) if data_format == "channels_last" else (12, 8, 60, 90)))
    parameters: dict[str, Any] = windows | {"data_format": data_format}
    output = LpPool(**parameters).forward(input)
    squares = AvgPool(**parameters, divisor_override=1).forward(input**2)
    assert_close(output, np.sqrt(squares))
    grad_output = normal(*output.shape, seed=1)
    gradient = LpPool(**parameters).backward(grad_output, input)
    shares = AvgPool(**parameters, divisor_override=1).backward(grad_output / output, input)
    assert_close(gradient, input * shares)


# --------------------------------------------------------------------------------------------------------- identities


@quick_settings
@given(lp_pool_cases_away_from_zero(), st.integers(0, 2**32 - 1))
def test_gradient_agrees_with_central_differences(case: PoolCase, seed: int) -> None:
    pool = LpPool(**case.parameters)
    toward = np.random.default_rng(seed).uniform(-1e-5, 1e-5, size=case.input.shape)
    slope = inner(pool.forward(case.input + toward) - pool.forward(case.input - toward), case.grad_output) / 2
    gradient = pool.backward(case.grad_output, case.input)
    assert slope == pytest.approx(inner(toward, gradient), rel=1e-6, abs=1e-12)


@quick_settings
@given(lp_pool_cases(kinds=("normal", "few")))
def test_a_norm_is_homogeneous(case: PoolCase) -> None:
    """Euler's theorem: <x, grad_input> = <y, grad_output>, as y(t x) = t y(x) for t > 0."""
    pool = LpPool(**case.parameters)
    gradient = pool.backward(case.grad_output, case.input)
    product = inner(pool.forward(case.input), case.grad_output)
    assert inner(case.input, gradient) == pytest.approx(product, rel=1e-10, abs=1e-10)


@quick_settings
@given(lp_pool_cases(kinds=("normal", "few")))
def test_the_sign_of_the_input_turns_the_gradient_and_nothing_else(case: PoolCase) -> None:
    """PyTorch drops the absolute value: negative inputs and an odd norm_type give it NaN."""
    pool = LpPool(**case.parameters)
    np.testing.assert_array_equal(pool.forward(-case.input), pool.forward(case.input))
    turned = pool.backward(case.grad_output, -case.input)
    np.testing.assert_array_equal(turned, -pool.backward(case.grad_output, case.input))


@quick_settings
@given(lp_pool_cases(kinds=("normal", "few"), adaptive=False))
def test_the_norm_of_type_1_is_a_sum_of_absolute_values(case: PoolCase) -> None:
    windows = {name: value for name, value in case.parameters.items() if name != "norm_type"}
    sums = AvgPool(divisor_override=1, **windows)
    assert_close(LpPool(norm_type=1, **windows).forward(case.input), sums.forward(np.abs(case.input)))
    gradient = LpPool(norm_type=1, **windows).backward(case.grad_output, case.input)
    assert_close(gradient, sums.backward(case.grad_output, case.input) * np.sign(case.input))


# ------------------------------------------------------------------------------------------------------ norms by hand


@pytest.mark.parametrize(
    ("values", "norm_type", "norm"),
    [
        ([3, -4], 2, 5.0),
        ([-1, -2, 4], 1, 7.0),
        ([-1, -2, -2], 3, 17 ** (1 / 3)),
        ([-4, 4], 1.5, 16 ** (2 / 3)),
        ([-7, 1], 1000, 7.0),
        ([0, 0, -3], 20, 3.0),
        ([-6], 3, 6.0),
    ],
)
def test_norms(values: list[float], norm_type: float, norm: float) -> None:
    assert one_window(values, norm_type).item() == pytest.approx(norm, rel=1e-14)


def test_the_default_norm_type_is_2() -> None:
    assert LpPool(kernel_size=2) == LpPool(kernel_size=2, norm_type=2)
    assert LpPool(kernel_size=2).forward(np.array([3.0, 4.0]).reshape(1, 2, 1)).item() == pytest.approx(5, rel=1e-15)


def test_gradients_by_hand() -> None:
    assert_close(gradient_of_one_window([3, -4], 2), np.array([0.6, -0.8]))
    assert gradient_of_one_window([3, -4, 0], 1).tolist() == [1.0, -1.0, 0.0]
    assert_close(gradient_of_one_window([-1, -2, -2], 3), -np.array([1, 4, 4]) * 17 ** (-2 / 3))


def test_windows_that_overlap_add_their_gradients() -> None:
    input = np.array([-3.0, 4.0, 3.0]).reshape(1, 3, 1)
    grad_output = np.array([10.0, 100.0]).reshape(1, 2, 1)
    gradient = LpPool(kernel_size=2, stride=1).backward(grad_output, input)
    assert_close(gradient.reshape(-1), np.array([-6.0, 8.0 + 80.0, 60.0]))


# -------------------------------------------------------------------------------------------------------------- zeros


@every_norm_type
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_window_of_zeros_has_norm_0_and_gradient_0(norm_type: float, zero: float) -> None:
    assert one_window([zero, zero, zero], norm_type).tolist() == [0.0]
    assert gradient_of_one_window([zero, zero, zero], norm_type).tolist() == [0.0, 0.0, 0.0]


@every_norm_type
def test_a_zero_beside_other_values_has_gradient_0(norm_type: float) -> None:
    gradient = gradient_of_one_window([0.0, -5.0, -0.0], norm_type)
    assert gradient.tolist() == [0.0, pytest.approx(-1.0, rel=1e-12), 0.0]


@every_norm_type
def test_a_window_wholly_in_the_padding_has_norm_0(norm_type: float) -> None:
    pool = LpPool(kernel_size=2, padding=((2, 3),), norm_type=norm_type)
    input = np.array([-3.0]).reshape(1, 1, 1)
    assert pool.forward(input).reshape(-1).tolist() == [0.0, pytest.approx(3.0, rel=1e-14), 0.0]
    gradient = pool.backward(np.array([100.0, 7.0, 100.0]).reshape(1, 3, 1), input)
    assert gradient.item() == pytest.approx(-7.0, rel=1e-12)


def test_the_overhang_of_ceil_mode_counts_as_nothing() -> None:
    output = LpPool(kernel_size=2, ceil_mode=True).forward(np.array([3.0, 4.0, -2.0]).reshape(1, 3, 1))
    assert_close(output.reshape(-1), np.array([5.0, 2.0]))


# --------------------------------------------------------------------------------------------------- every magnitude


@every_norm_type
@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [
        ("float16", 1e4, 2e-3),
        ("float16", 1e-4, 2e-2),  # its last digits are lost already
        ("float32", 1e30, 1e-4),
        ("float32", 1e-30, 1e-4),
        ("float64", 1e200, 1e-12),
        ("float64", 1e-200, 1e-12),
        ("float64", 1e307, 1e-12),
        ("float64", 1e-306, 1e-12),
    ],
)
def test_the_powers_of_huge_and_tiny_values_stay_in_range(
    dtype: str, scale: float, tolerance: float, norm_type: float
) -> None:
    values = np.array([1.5, -0.5, 1.0, 0.0, -1.25], dtype=np.float64)
    expected = one_window(values, norm_type).astype(np.float64)
    norm = one_window(values * scale, norm_type, dtype).astype(np.float64)
    np.testing.assert_allclose(norm / scale, expected, rtol=tolerance)
    gradient = gradient_of_one_window(values * scale, norm_type, dtype).astype(np.float64)
    np.testing.assert_allclose(
        gradient, gradient_of_one_window(values, norm_type), rtol=tolerance * norm_type, atol=1e-7
    )


@pytest.mark.parametrize(("dtype", "huge", "tiny"), [("float32", 1e30, 1e-30), ("float64", 1e200, 1e-200)])
@pytest.mark.parametrize("norm_type", [1.5, 2, 3])
def test_windows_of_different_magnitude_side_by_side(dtype: str, huge: float, tiny: float, norm_type: float) -> None:
    """What keeps one window in range must not make its neighbours, nor its other channel, vanish."""
    input = np.array([[huge, tiny], [-huge, tiny], [tiny, huge], [tiny, -huge]], dtype=dtype).reshape(1, 4, 2)
    pool = LpPool(kernel_size=2, stride=1, norm_type=norm_type)
    factor = 2 ** (1 / norm_type)
    expected = [[factor * huge, factor * tiny], [huge, huge], [factor * tiny, factor * huge]]
    np.testing.assert_allclose(pool.forward(input)[0].astype(np.float64), expected, rtol=1e-5)
    gradient = pool.backward(np.ones((1, 3, 2), dtype=dtype), input)[0].astype(np.float64)
    share = 2 ** (1 / norm_type - 1)
    expected = [[share, share], [-share - 1, share], [share, 1 + share], [share, -share]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("norm_type", [1, 2, 20])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_largest_and_the_smallest_number_of_a_type(dtype: str, norm_type: float) -> None:
    limits: Any = np.finfo(dtype)
    np.testing.assert_allclose(one_window([limits.max], norm_type, dtype), limits.max, rtol=8 * limits.eps)
    np.testing.assert_allclose(one_window([-limits.max, 0], norm_type, dtype), limits.max, rtol=8 * limits.eps)
    smallest = limits.smallest_subnormal
    assert one_window([smallest], norm_type, dtype).item() == smallest
    assert one_window([0, -smallest], norm_type, dtype).item() == smallest
    assert gradient_of_one_window([0, -smallest], norm_type, dtype).tolist() == [0.0, pytest.approx(-1.0, rel=1e-2)]
    if norm_type == 2:  # sqrt(4) of them
        assert one_window([smallest] * 4, norm_type, dtype).item() == 2 * smallest


@pytest.mark.parametrize("norm_type", [1, 1.5, 2, 3, 20])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_gradient_where_the_norm_itself_is_beyond_its_type(dtype: str, norm_type: float) -> None:
    """(|x| / y)^(p - 1) is a fraction, however far y is out of range, or how few digits a subnormal y has."""
    limits: Any = np.finfo(dtype)
    share = 2 ** (1 / norm_type - 1)
    for value in (limits.max, limits.smallest_subnormal):
        gradient = gradient_of_one_window([value, -value], norm_type, dtype).astype(np.float64)
        np.testing.assert_allclose(gradient, [share, -share], rtol=1e-3)


@pytest.mark.parametrize("norm_type", [1e6, 1e15, 1e300])
def test_a_huge_exponent_finds_the_maximum_and_shares_its_gradient(norm_type: float) -> None:
    assert one_window([3, -1, -3], norm_type).item() == pytest.approx(3, rel=1e-6)
    assert gradient_of_one_window([3, -1, -3], norm_type).tolist() == pytest.approx([0.5, 0, -0.5], rel=1e-6)


def test_a_norm_beyond_the_largest_float_is_infinite() -> None:
    """As IEEE 754 has it, and without a warning, which the tests turn into an error."""
    assert one_window([3e38, -3e38], 1, "float32").item() == inf
    assert one_window([1.7e308, 1.7e308], 2).item() == inf
    assert one_window([60000, 60000], 2, "float16").item() == inf


def test_float16_accumulates_in_float32() -> None:
    """Counting in float16 stops at 2048."""
    assert one_window([1] * 4096, 1, "float16").item() == 4096
    assert one_window([3] * 4096, 2, "float16").item() == 192
    ones = np.ones((1, 4096, 1), dtype=np.float16)
    peak = np.zeros((1, 8191, 1), dtype=np.float16)
    peak[0, 4095] = 1
    gradient = LpPool(kernel_size=4096, stride=1).backward(ones, peak)
    assert gradient.dtype == np.float16
    assert gradient[0, 4095].item() == 4096


# -------------------------------------------------------------------------------------------------------- not finite


@every_norm_type
def test_not_a_number_and_infinities_stay_in_their_windows(norm_type: float) -> None:
    input = np.array([1, nan, 0, -inf, inf, 2, 0, 0, nan, nan], dtype=np.float64).reshape(1, 10, 1)
    output = LpPool(kernel_size=2, norm_type=norm_type).forward(input)
    np.testing.assert_array_equal(output.reshape(-1), [nan, inf, inf, 0, nan])


@every_norm_type
def test_not_a_number_beside_an_infinity_is_not_a_number(norm_type: float) -> None:
    assert np.isnan(one_window([inf, nan], norm_type)).all()
    assert np.isnan(one_window([nan, -inf], norm_type)).all()


@pytest.mark.parametrize("norm_type", [1.5, 2, 3])
def test_the_gradient_of_a_norm_that_is_not_a_number_is_not_a_number(norm_type: float) -> None:
    input = np.array([1.0, nan, 3.0, 0.0]).reshape(1, 4, 1)
    gradient = LpPool(kernel_size=2, norm_type=norm_type).backward(np.ones((1, 2, 1)), input)
    np.testing.assert_allclose(gradient.reshape(-1), [nan, nan, 1.0, 0.0], rtol=1e-12)
