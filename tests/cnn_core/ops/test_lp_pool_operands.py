"""The operands of Lp pooling: dtypes, memory layouts, an empty batch; and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from cnn_core import DtypeError, LpPool, ParameterError, ShapeError
from tests.comparisons import assert_close, normal
from tests.strategies import PoolCase, quick_settings
from tests.strategies_pool import lp_pool_cases, memory_layouts

nan, inf = np.nan, np.inf


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint64"])
def test_integers_pool_as_float64(dtype: str) -> None:
    input = np.array([3, 4, 0], dtype=dtype).reshape(1, 3, 1)
    pool = LpPool(kernel_size=2, stride=1)
    assert_close(pool.forward(input).reshape(-1), np.array([5.0, 4.0]))
    assert pool.backward(np.ones((1, 2, 1), dtype=dtype), input).dtype == np.float64


def test_the_smallest_int8_has_an_absolute_value() -> None:
    """In int8 the absolute value of -128 is -128."""
    input = np.array([-128, 0], dtype=np.int8).reshape(1, 2, 1)
    assert LpPool(kernel_size=2, norm_type=3).forward(input).item() == pytest.approx(128, rel=1e-14)


def test_the_dtype_of_grad_output_counts() -> None:
    narrow = normal(1, 4, 1).astype("float32")
    assert LpPool(kernel_size=2).forward(narrow).dtype == np.float32
    assert LpPool(kernel_size=2).backward(normal(1, 2, 1).astype("float16"), narrow).dtype == np.float32
    assert LpPool(kernel_size=2).backward(normal(1, 2, 1), narrow).dtype == np.float64


@pytest.mark.parametrize("dtype", ["bool", "complex128", "object", "U1"])
def test_dtypes_that_are_refused(dtype: str) -> None:
    with pytest.raises(DtypeError, match=r"input must have dtype float16, float32, float64.*; got") as caught:
        LpPool(kernel_size=2).forward(np.zeros((1, 2, 1), dtype=dtype))
    assert caught.value.subject == "input"
    with pytest.raises(DtypeError) as caught:
        LpPool(kernel_size=2).backward(np.zeros((1, 1, 1), dtype=dtype), np.zeros((1, 2, 1)))
    assert caught.value.subject == "grad_output"


@quick_settings
@given(lp_pool_cases(kinds=("normal", "few")), memory_layouts)
def test_operands_in_any_memory_layout_are_left_as_they_were(case: PoolCase, change: Any) -> None:
    before = copy.deepcopy(case)
    input, grad_output = change(case.input), change(case.grad_output)
    pool = LpPool(**case.parameters)
    results = [pool.forward(input), pool.backward(grad_output, input)]
    for result, plain in zip(
        results, [pool.forward(case.input), pool.backward(case.grad_output, case.input)], strict=True
    ):
        assert result.dtype.isnative
        assert_close(result, plain)
        result.fill(nan)  # a result is its caller's own: it must be no view of an operand
    for array in (input, case.input):
        np.testing.assert_array_equal(array, before.input)
    for array in (grad_output, case.grad_output):
        np.testing.assert_array_equal(array, before.grad_output)


def test_an_empty_batch() -> None:
    input = np.zeros((0, 5, 5, 2), dtype=np.float32)
    output = LpPool(kernel_size=2, stride=1).forward(input)
    assert output.dtype == np.float32
    assert output.shape == (0, 4, 4, 2)
    assert_close(LpPool(kernel_size=2, stride=1).backward(output, input), input)


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("value", [0.5, 0, -1, -2.0, nan, inf, -inf, True, False, "2", "", None, [2], 2 + 0j], ids=repr)
def test_a_norm_type_is_a_finite_number_of_at_least_1(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"norm_type.*1") as caught:
        LpPool(kernel_size=2, norm_type=value)
    assert caught.value.subject == "norm_type"


def test_a_window_larger_than_the_padded_input() -> None:
    with pytest.raises(ShapeError, match=r"7.*6") as caught:
        LpPool(kernel_size=7, padding=1).forward(normal(1, 4, 1))
    assert caught.value.subject == "input"


def test_grad_output_must_have_the_shape_of_the_output() -> None:
    with pytest.raises(ShapeError, match=r"grad_output.*\(1, 2, 2\).*\(1, 3, 2\)") as caught:
        LpPool(kernel_size=2).backward(normal(1, 3, 2), normal(1, 5, 2))
    assert caught.value.subject == "grad_output"


@pytest.mark.parametrize("other", [{"ties": "first"}, {"divisor_override": 3}, {"count_include_pad": True}])
def test_parameters_of_other_kinds_of_pooling(other: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ParameterError)):
        LpPool(kernel_size=2, **other)


@pytest.mark.parametrize(
    ("dtype", "value"), [("float64", 1.7e308), ("float32", 3e38), ("float64", 5e-324), ("float16", 6e4)]
)
def test_a_box_of_extreme_values(dtype: str, value: float) -> None:
    """Over two axes: the norm along the first one is beyond the type, or has too few digits."""
    input = np.full((1, 2, 2, 1), value, dtype=dtype)
    gradient = LpPool(kernel_size=2).backward(np.ones((1, 1, 1, 1), dtype=dtype), input)
    np.testing.assert_allclose(gradient, np.full((1, 2, 2, 1), 0.5), rtol=1e-3)
    smaller = LpPool(kernel_size=2).forward(input / 2 if value > 1 else input).item()
    assert smaller == pytest.approx(float(input.flat[0]) * (1 if value > 1 else 2), rel=1e-3)


def test_an_infinity_beside_huge_values() -> None:
    input = np.array([[np.inf, 1], [3e38, 1]], dtype=np.float32).reshape(1, 2, 2, 1)
    assert LpPool(kernel_size=2).forward(input).item() == np.inf


@pytest.mark.parametrize(
    ("dtype", "values", "norm_type", "expected"),
    [
        ("float32", [1e-30, 1e20], 1.001, 10**-0.05),
        ("float64", [1e-170, 1e170], 1.001, 10**-0.34),
        ("float64", [1e-170, 1e170], 1.5, 1e-170),
    ],
)
def test_a_power_of_a_ratio_that_is_no_number_of_the_type(
    dtype: str, values: list[float], norm_type: float, expected: float
) -> None:
    gradient = LpPool(kernel_size=2, norm_type=norm_type).backward(
        np.ones((1, 1, 1), dtype=dtype), np.array(values, dtype=dtype).reshape(1, 2, 1)
    )
    assert gradient.ravel().tolist() == pytest.approx([expected, 1.0], rel=1e-5)
