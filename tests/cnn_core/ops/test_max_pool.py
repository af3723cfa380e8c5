"""Max pooling against the loop oracle: ties, NaN, infinities, and windows in the padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import MaxPool, ShapeError
from tests.comparisons import assert_close, inner, normal
from tests.oracle import loops
from tests.strategies import PoolCase, max_pool_cases, quick_settings, spaced_max_pool_cases

nan, inf = np.nan, np.inf


def gradient_of_one_window(values: list[float], ties: Any) -> list[float]:
    """The gradient that a single window over all the values receives from a grad_output of 6."""
    input = np.array(values).reshape(1, -1, 1)
    grad_input = MaxPool(kernel_size=len(values), ties=ties).backward(np.full((1, 1, 1), 6.0), input)
    assert grad_input.shape == input.shape
    return [float(value) for value in grad_input.reshape(-1)]


# ------------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("ties", ["first", "all", "split"])
@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((2, 41, 38, 5), {"kernel_size": [3, 2], "stride": 2, "padding": [[1, 1], [0, 1]]}),
        ((1, 64, 64, 8), {"kernel_size": 2}),
        ((1, 15, 16, 2), {"kernel_size": 9, "stride": 1, "padding": "same"}),
        ((1, 20, 6), {"kernel_size": 20}),
        ((1, 11, 12, 13, 2), {"kernel_size": 3, "dilation": 2, "ceil_mode": True}),
        ((40, 2, 7, 7), {"kernel_size": 3, "stride": 2, "data_format": "channels_first"}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(shape: tuple[int, ...], parameters: dict[str, Any], ties: Any) -> None:
    input = np.random.default_rng(0).integers(0, 9, size=shape).astype(np.float64)
    pool = MaxPool(**parameters, ties=ties)
    output = pool.forward(input)
    np.testing.assert_array_equal(output, loops.max_pool_forward(input, **parameters), strict=True)
    grad_output = normal(*output.shape)
    expected = loops.max_pool_backward(grad_output, input, **parameters, ties=ties)
    assert_close(pool.backward(grad_output, input), expected)


# --------------------------------------------------------------------------------------------------------- identities


@quick_settings
@given(spaced_max_pool_cases(), st.integers(0, 2**32 - 1))
def test_gradient_agrees_with_central_differences(case: PoolCase, seed: int) -> None:
    pool = MaxPool(**case.parameters)
    toward = np.random.default_rng(seed).uniform(-1e-3, 1e-3, size=case.input.shape)
    slope = inner(pool.forward(case.input + toward) - pool.forward(case.input - toward), case.grad_output) / 2
    gradient = pool.backward(case.grad_output, case.input)
    assert slope == pytest.approx(inner(toward, gradient), rel=1e-7, abs=1e-9)


@quick_settings
@given(spaced_max_pool_cases())
def test_without_ties_every_rule_gives_the_same(case: PoolCase) -> None:
    parameters = {name: value for name, value in case.parameters.items() if name != "ties"}
    first, everything, split = (
        MaxPool(**parameters | {"ties": ties}).backward(case.grad_output, case.input)
        for ties in ("first", "all", "split")
    )
    # the gradients of windows that overlap may be added in another order
    assert_close(everything, first)
    assert_close(split, first)


@quick_settings
@given(max_pool_cases(finite=True), st.sampled_from(["first", "split"]))
def test_what_arrives_is_handed_on_whole(case: PoolCase, ties: Any) -> None:
    """The gradient is conserved, and weighted with the input it gives <max(x), g>."""
    pool = MaxPool(**(case.parameters | {"ties": ties}))
    grad_input = pool.backward(case.grad_output, case.input)
    assert grad_input.sum() == pytest.approx(case.grad_output.sum(), rel=1e-10, abs=1e-10)
    product = inner(pool.forward(case.input), case.grad_output)
    assert inner(case.input, grad_input) == pytest.approx(product, rel=1e-10, abs=1e-10)


# --------------------------------------------------------------------------------------------------------------- ties


@pytest.mark.parametrize(
    ("ties", "expected"), [("first", [0, 6, 0, 0, 0]), ("all", [0, 6, 0, 6, 6]), ("split", [0, 2, 0, 2, 2])]
)
def test_ties(ties: Any, expected: list[float]) -> None:
    assert gradient_of_one_window([1.0, 3.0, 2.0, 3.0, 3.0], ties) == expected


def test_the_default_is_first() -> None:
    assert MaxPool(kernel_size=2) == MaxPool(kernel_size=2, ties="first")


def test_first_means_row_major() -> None:
    input = np.array([[0.0, 0.0, 5.0], [5.0, 0.0, 5.0], [5.0, 5.0, 0.0]]).reshape(1, 3, 3, 1)
    grad_input = MaxPool(kernel_size=3).backward(np.ones((1, 1, 1, 1)), input)
    assert grad_input[0, :, :, 0].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_zeros_of_both_signs_tie() -> None:
    assert gradient_of_one_window([-0.0, 0.0, -0.0], "first") == [6.0, 0.0, 0.0]
    assert gradient_of_one_window([0.0, -0.0, -1.0], "split") == [3.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("ties", "expected"), [("first", [0, 0, 0, 6, 0]), ("all", [0, 6, 0, 6, 0]), ("split", [0, 3, 0, 3, 0])]
)
def test_not_a_number_is_the_maximum(ties: Any, expected: list[float]) -> None:
    """As PyTorch: it propagates, and the last of several in a window gets the gradient."""
    values = [inf, nan, 7.0, nan, inf]
    output = MaxPool(kernel_size=5, ties=ties).forward(np.array(values).reshape(1, 5, 1))
    assert np.isnan(output).all()
    assert gradient_of_one_window(values, ties) == expected


def test_the_last_of_several_nans_is_row_major() -> None:
    input = np.array([[nan, 0.0, nan], [0.0, nan, 9.0], [9.0, 9.0, 9.0]]).reshape(1, 3, 3, 1)
    grad_input = MaxPool(kernel_size=3).backward(np.ones((1, 1, 1, 1)), input)
    assert grad_input[0, :, :, 0].tolist() == [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_not_a_number_stays_in_its_window() -> None:
    input = np.array([1.0, nan, 3.0, 4.0, 5.0]).reshape(1, 5, 1)
    output = MaxPool(kernel_size=2, stride=1).forward(input)
    np.testing.assert_array_equal(output.reshape(-1), [nan, nan, 4.0, 5.0])


# ------------------------------------------------------------------------------------------- infinities and the padding


@pytest.mark.parametrize(("ties", "expected"), [("first", [6, 0, 0]), ("all", [6, 6, 6]), ("split", [2, 2, 2])])
def test_a_window_of_minus_infinity(ties: Any, expected: list[float]) -> None:
    assert gradient_of_one_window([-inf, -inf, -inf], ties) == expected


@pytest.mark.parametrize(("ties", "expected"), [("first", [3, 2]), ("all", [3, 3]), ("split", [2, 2])])
def test_only_valid_taps_tie(ties: Any, expected: list[float]) -> None:
    """The padding is -inf too, but it is not part of the input: it takes no share, and it is never first."""
    pool = MaxPool(kernel_size=2, stride=1, padding=1, ties=ties)
    input = np.full((1, 2, 1), -inf)
    np.testing.assert_array_equal(pool.forward(input).reshape(-1), [-inf, -inf, -inf])
    # Windows: (padding, 0) gives 1; (0, 1) gives 2; (1, padding) gives 2, of grad_output (1, 2, 2) and its like.
    grad_output = np.array([1.0, 2.0, {"first": 2.0, "all": 1.0, "split": 1.0}[ties]]).reshape(1, 3, 1)
    assert pool.backward(grad_output, input).reshape(-1).tolist() == expected


def test_padding_is_never_the_maximum() -> None:
    input = np.array([-5.0, -7.0]).reshape(1, 2, 1)
    output = MaxPool(kernel_size=3, stride=1, padding=1).forward(input)
    assert output.reshape(-1).tolist() == [-5.0, -5.0]


def test_the_smallest_number_of_a_type_is_a_number() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        input = np.full((1, 2, 1), np.finfo(dtype).min)
        assert MaxPool(kernel_size=3, stride=1, padding=1).forward(input).tolist() == input.tolist()


def test_padding_may_exceed_half_the_kernel() -> None:
    """PyTorch refuses this; the only rule here is that every window has a valid tap."""
    input = np.array([1.0, 4.0, 2.0]).reshape(1, 3, 1)
    output = MaxPool(kernel_size=3, stride=1, padding=2).forward(input)
    assert output.reshape(-1).tolist() == [1.0, 4.0, 4.0, 4.0, 2.0]


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (3, {"kernel_size": 2, "stride": 1, "padding": 2}),  # the first window lies before the input
        (3, {"kernel_size": 2, "stride": 1, "padding": [[0, 2]]}),  # the last one behind it
        (1, {"kernel_size": 2, "dilation": 2, "padding": 1}),  # its taps lie on both sides of the input
        (2, {"kernel_size": 2, "dilation": 3, "padding": [[1, 1]]}),
        (1, {"kernel_size": 1, "stride": 2, "padding": 1}),
    ],
)
def test_a_window_without_valid_taps_is_an_error(size: int, parameters: dict[str, Any]) -> None:
    pool = MaxPool(**parameters)
    with pytest.raises(ShapeError):
        pool.forward(np.zeros((1, size, 1)))
    with pytest.raises(ShapeError):
        pool.output_shape((1, size, 1))
    with pytest.raises(ShapeError):
        pool.backward(np.zeros((1, 1, 1)), np.zeros((1, size, 1)))
    with pytest.raises(ShapeError):
        pool.forward(np.zeros((0, size, 1)))


def test_one_axis_without_valid_taps_is_enough() -> None:
    with pytest.raises(ShapeError):
        MaxPool(kernel_size=2, stride=1, padding=(0, 2)).forward(np.zeros((1, 3, 3, 1)))


@pytest.mark.parametrize("grad_output_shape", [(1, 3, 2), (1, 2, 1), (2, 2, 2), (1, 2, 2, 1), (1, 2)])
def test_grad_output_must_have_the_shape_of_the_output(grad_output_shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        MaxPool(kernel_size=2).backward(normal(*grad_output_shape), normal(1, 5, 2))
    assert "grad_output" in str(caught.value)
    assert "(1, 2, 2)" in str(caught.value)
