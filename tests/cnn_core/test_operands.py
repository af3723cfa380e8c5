"""What holds for the operands of every operation: dtypes, memory layouts, and that nobody writes to them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import AvgPool, Conv, DtypeError, MaxPool
from tests.comparisons import assert_close, normal
from tests.oracle import loops
from tests.oracle.windows import AnyArray, Array
from tests.strategies import ConvCase, PoolCase, avg_pool_cases, conv_cases, max_pool_cases, quick_settings

pools = pytest.mark.parametrize("pool", [MaxPool(kernel_size=2, stride=1), AvgPool(kernel_size=2, stride=1)])
not_supported = pytest.mark.parametrize(
    "dtype", ["bool", "complex64", "complex128", "object", "S1", "U1", "datetime64[s]", "timedelta64[s]", "i4,f8"]
)

# -------------------------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize(
    ("input", "weight", "bias", "expected"),
    [
        ("float16", "float16", None, "float16"),
        ("float16", "float16", "float16", "float16"),
        ("float16", "float32", None, "float32"),
        ("float32", "float32", "float64", "float64"),
        ("float16", "float16", "float32", "float32"),
        ("float32", "float32", "float32", "float32"),
        ("int8", "float16", None, "float64"),
        ("uint8", "uint8", None, "float64"),
        ("int64", "uint64", "int16", "float64"),
        ("float32", "int32", None, "float64"),
        ("float32", "float32", "int64", "float64"),
    ],
)
def test_dtype_of_the_results_of_conv(input: str, weight: str, bias: str | None, expected: str) -> None:
    x = np.arange(10).reshape(1, 5, 2).astype(input)
    w = np.ones((2, 2, 3)).astype(weight)
    b = None if bias is None else np.arange(3).astype(bias)
    output = Conv().forward(x, w, b)
    assert_close(output, loops.conv_forward(x, w, b).astype(expected))
    gradients = Conv().backward(output, x, w, b)
    by_loops = loops.conv_backward(output, x, w, b)
    assert_close(gradients.grad_input, by_loops.grad_input.astype(expected))
    assert_close(gradients.grad_weight, by_loops.grad_weight.astype(expected))
    assert_close(gradients.grad_bias, by_loops.grad_bias.astype(expected))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pools
def test_integers_pool_as_float64(pool: MaxPool | AvgPool, dtype: str) -> None:
    input = np.array([100, 120, 127], dtype=dtype).reshape(1, 3, 1)
    output = pool.forward(input)
    assert output.dtype == np.float64
    assert output.reshape(-1).tolist() == ([120.0, 127.0] if isinstance(pool, MaxPool) else [110.0, 123.5])
    assert pool.backward(np.ones((1, 2, 1), dtype=dtype), input).dtype == np.float64


def test_integers_convolve_as_float64() -> None:
    output = Conv().forward(np.full((1, 3, 1), 200, dtype=np.uint8), np.full((3, 1, 1), -100, dtype=np.int8))
    assert output.dtype == np.float64
    assert output.item() == -60000


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pools
def test_dtype_of_the_results_of_a_pool(pool: MaxPool | AvgPool, dtype: str) -> None:
    input = normal(1, 3, 2).astype(dtype)
    assert pool.forward(input).dtype == dtype
    assert pool.backward(normal(1, 2, 2).astype(dtype), input).dtype == dtype


@pools
def test_dtype_of_grad_output_counts(pool: MaxPool | AvgPool) -> None:
    narrow = normal(1, 3, 1).astype("float32")
    assert pool.backward(normal(1, 2, 1), narrow).dtype == np.float64
    assert pool.backward(normal(1, 2, 1).astype("float16"), narrow).dtype == np.float32
    gradients = Conv().backward(normal(1, 2, 1), narrow, normal(2, 1, 1).astype("float32"))
    for gradient in (gradients.grad_input, gradients.grad_weight, gradients.grad_bias):
        assert gradient is not None
        assert gradient.dtype == np.float64


@pytest.mark.parametrize("operand", ["input", "weight", "bias", "grad_output"])
@not_supported
def test_dtypes_that_conv_refuses(dtype: str, operand: str) -> None:
    shapes = {"input": (1, 3, 1), "weight": (2, 1, 1), "bias": (1,), "grad_output": (1, 2, 1)}
    operands: dict[str, Any] = {name: np.ones(shape) for name, shape in shapes.items()}
    operands[operand] = np.zeros(shapes[operand], dtype=dtype)
    with pytest.raises(DtypeError, match=operand):
        Conv().backward(**operands)
    if operand != "grad_output":
        del operands["grad_output"]
        with pytest.raises(DtypeError, match=operand):
            Conv().forward(**operands)


@pools
@not_supported
def test_dtypes_that_a_pool_refuses(dtype: str, pool: MaxPool | AvgPool) -> None:
    refused = np.zeros((1, 3, 1), dtype=dtype)
    with pytest.raises(DtypeError, match="input"):
        pool.forward(refused)
    with pytest.raises(DtypeError, match="input"):
        pool.backward(normal(1, 2, 1), refused)
    with pytest.raises(DtypeError, match="grad_output"):
        pool.backward(refused[:, :2], normal(1, 3, 1))


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_long_double_is_refused() -> None:
    long_double = np.ones((1, 3, 1), dtype=np.longdouble)
    with pytest.raises(DtypeError):
        Conv().forward(long_double, normal(2, 1, 1))
    with pytest.raises(DtypeError):
        MaxPool(kernel_size=2).forward(long_double)
    with pytest.raises(DtypeError):
        AvgPool(kernel_size=2).forward(long_double)


# ------------------------------------------------------------------------------------------------------ narrow floats

narrow_floats = st.sampled_from([("float16", 6e-4), ("float32", 1e-5)])


def assert_rounded_once(actual: AnyArray | None, exact: Array, dtype: str, tolerance: float) -> None:
    assert actual is not None
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual.astype(np.float64), exact, rtol=tolerance, atol=3e-5)


@quick_settings
@given(conv_cases(), narrow_floats)
def test_narrow_floats_of_conv(case: ConvCase, dtype_and_tolerance: tuple[str, float]) -> None:
    """The result is the exact one of the narrow operands, rounded once."""
    dtype, _ = dtype_and_tolerance
    input, weight, grad_output = (a.astype(dtype) for a in (case.input, case.weight, case.grad_output))
    bias = None if case.bias is None else case.bias.astype(dtype)
    conv = Conv(**case.parameters)
    exact = loops.conv_forward(input, weight, bias, **case.parameters)
    assert_rounded_once(conv.forward(input, weight, bias), exact, *dtype_and_tolerance)
    gradients = conv.backward(grad_output, input, weight, bias)
    by_loops = loops.conv_backward(grad_output, input, weight, bias, **case.parameters)
    assert_rounded_once(gradients.grad_input, by_loops.grad_input, *dtype_and_tolerance)
    assert_rounded_once(gradients.grad_weight, by_loops.grad_weight, *dtype_and_tolerance)
    assert_rounded_once(gradients.grad_bias, by_loops.grad_bias, *dtype_and_tolerance)


@quick_settings
@given(avg_pool_cases(), narrow_floats)
def test_narrow_floats_of_average_pooling(case: PoolCase, dtype_and_tolerance: tuple[str, float]) -> None:
    dtype, _ = dtype_and_tolerance
    input, grad_output = case.input.astype(dtype), case.grad_output.astype(dtype)
    pool = AvgPool(**case.parameters)
    exact = loops.avg_pool_forward(input, **case.parameters)
    assert_rounded_once(pool.forward(input), exact, *dtype_and_tolerance)
    exact = loops.avg_pool_backward(grad_output, input, **case.parameters)
    assert_rounded_once(pool.backward(grad_output, input), exact, *dtype_and_tolerance)


@quick_settings
@given(max_pool_cases(), narrow_floats)
def test_narrow_floats_of_max_pooling(case: PoolCase, dtype_and_tolerance: tuple[str, float]) -> None:
    dtype, _ = dtype_and_tolerance
    input, grad_output = case.input.astype(dtype), case.grad_output.astype(dtype)
    pool = MaxPool(**case.parameters)
    exact = loops.max_pool_forward(input, **case.parameters)
    np.testing.assert_array_equal(pool.forward(input), exact.astype(dtype), strict=True)
    exact = loops.max_pool_backward(grad_output, input, **case.parameters)
    assert_rounded_once(pool.backward(grad_output, input), exact, *dtype_and_tolerance)


def test_float16_accumulates_in_float32() -> None:
    """The mean of 512 values of 1000: their sum is far beyond the largest float16, 65504."""
    input = np.full((1, 512, 1), 1000, dtype=np.float16)
    mean = AvgPool(kernel_size=512).forward(input)
    assert mean.dtype == np.float16
    assert mean.item() == 1000
    mean = Conv().forward(input, np.full((512, 1, 1), 1 / 512, dtype=np.float16))
    assert mean.dtype == np.float16
    assert mean.item() == 1000
    # The sum passes 100 * 1000 on its way to 1000, over the taps and over the channels.
    signs = np.array([1] * 100 + [-1] * 99, dtype=np.float16)
    assert Conv().forward(input[:, :199], signs.reshape(199, 1, 1)).item() == 1000
    assert Conv().forward(input[:, :199].reshape(1, 1, 199), signs.reshape(1, 199, 1)).item() == 1000
    assert Conv(groups=2).forward(
        input[:, :398].reshape(1, 1, 398), np.stack([signs, signs], axis=-1).reshape(1, 199, 2)
    ).tolist() == [[[1000.0, 1000.0]]]


def test_float16_gradients_accumulate_in_float32() -> None:
    """Counting in float16 stops at 2048."""
    one = np.ones((1, 1, 1), dtype=np.float16)
    ones = np.ones((1, 4096, 1), dtype=np.float16)
    gradients = Conv().backward(ones, ones, one)
    assert gradients.grad_weight is not None
    assert gradients.grad_bias is not None
    assert gradients.grad_weight.item() == 4096
    assert gradients.grad_bias.item() == 4096
    filters = ones.reshape(1, 1, 4096)
    gradients = Conv().backward(filters, one, filters)
    assert gradients.grad_input is not None
    assert gradients.grad_input.item() == 4096
    # Every one of the 4096 windows holds the largest element, the 4096th of 8191.
    peak = np.zeros((1, 8191, 1), dtype=np.float16)
    peak[0, 4095] = 1
    for every in (MaxPool(kernel_size=4096, stride=1, ties="first"), MaxPool(kernel_size=4096, stride=1, ties="all")):
        gradient = every.backward(ones, peak)
        assert gradient.dtype == np.float16
        assert gradient[0, 4095].item() == 4096
        assert np.count_nonzero(gradient) == 1
    gradient = AvgPool(kernel_size=3, stride=1).backward(ones, np.zeros((1, 4098, 1), dtype=np.float16))
    assert gradient[0, 2:-2].tolist() == [[1.0]] * 4094  # 3 * (1 / 3), with a third rounded to float16: 0.9998
    gradient = AvgPool(kernel_size=4096, stride=1, divisor_override=1).backward(ones, peak)
    assert gradient[0, 4095].item() == 4096


def test_float16_is_rounded_after_the_bias() -> None:
    """4097 + 2 is 4099, which rounds to 4100; 4097 rounds to 4096, and 4096 + 2 to 4096."""
    input = np.array([2048, 2048, 1], dtype=np.float16).reshape(1, 1, 3)
    output = Conv().forward(input, np.ones((1, 3, 1), dtype=np.float16), np.array([2], dtype=np.float16))
    assert output.item() == 4100


def test_a_result_beyond_the_largest_float_is_infinite() -> None:
    """As IEEE 754 has it, and without a warning, which the tests turn into an error."""
    large = np.full((1, 2, 1), 40000, dtype=np.float16)
    assert Conv().forward(large, np.ones((2, 1, 1), dtype=np.float16)).item() == np.inf
    assert AvgPool(kernel_size=2, divisor_override=-1).forward(large).item() == -np.inf
    gradient = MaxPool(kernel_size=2, stride=1).backward(large, np.array([0, 1, 0], dtype=np.float16).reshape(1, 3, 1))
    assert gradient.reshape(-1).tolist() == [0.0, np.inf, 0.0]
    assert Conv().forward(np.full((1, 2, 1), 1e308), np.full((2, 1, 1), 10.0)).item() == np.inf


# -------------------------------------------------------------------------------------------------- memory of operands


def as_strided(array: AnyArray) -> AnyArray:
    """The same values as every second element of a larger array, backwards along every axis."""
    larger = np.full([2 * size for size in array.shape], np.nan)
    view = larger[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def as_big_endian(array: AnyArray) -> AnyArray:
    """The same values with their most significant byte first."""
    return array.astype(">f8")


def as_fortran(array: AnyArray) -> AnyArray:
    """The same values with the first axis running fastest."""
    return np.asfortranarray(array)


def as_read_only(array: AnyArray) -> AnyArray:
    """The same values where nobody can write, as those of a request's body."""
    array = array.copy()
    array.flags.writeable = False
    return array


def as_unaligned(array: AnyArray) -> AnyArray:
    """The same values at an odd address, as in a file that was mapped into memory."""
    view = np.empty(array.nbytes + 1, dtype=np.uint8)[1:].view(np.float64).reshape(array.shape)
    view[...] = array
    return view


def as_broadcast(array: AnyArray) -> AnyArray:
    """The first element along the last axis, seen as many times without being stored so often."""
    return np.broadcast_to(array[..., :1], array.shape)


layouts = st.sampled_from([as_strided, as_big_endian, as_fortran, as_read_only, as_unaligned, as_broadcast])


@quick_settings
@given(conv_cases(), layouts)
def test_the_memory_layout_of_the_operands_of_conv_does_not_matter(case: ConvCase, change: Any) -> None:
    conv = Conv(**case.parameters)
    input, weight, grad_output = change(case.input), change(case.weight), change(case.grad_output)
    bias = None if case.bias is None else change(case.bias)
    plain_input, plain_weight = np.array(input, dtype=np.float64), np.array(weight, dtype=np.float64)
    plain_bias = None if bias is None else np.array(bias, dtype=np.float64)
    plain_grad_output = np.array(grad_output, dtype=np.float64)
    output = conv.forward(input, weight, bias)
    assert output.dtype.isnative
    assert_close(output, conv.forward(plain_input, plain_weight, plain_bias))
    gradients = conv.backward(grad_output, input, weight, bias)
    expected = conv.backward(plain_grad_output, plain_input, plain_weight, plain_bias)
    for name in ("grad_input", "grad_weight", "grad_bias"):
        assert_close(getattr(gradients, name), getattr(expected, name))


@quick_settings
@given(st.one_of(max_pool_cases(), avg_pool_cases()), layouts)
def test_the_memory_layout_of_the_operands_of_a_pool_does_not_matter(case: PoolCase, change: Any) -> None:
    input, grad_output = change(case.input), change(case.grad_output)
    plain_input, plain_grad_output = np.array(input, dtype=np.float64), np.array(grad_output, dtype=np.float64)
    for pool in pools_of(case):
        output = pool.forward(input)
        assert output.dtype.isnative
        assert_close(output, pool.forward(plain_input))
        gradient = pool.backward(grad_output, input)
        assert gradient.dtype.isnative
        assert_close(gradient, pool.backward(plain_grad_output, plain_input))


def pools_of(case: PoolCase) -> list[MaxPool | AvgPool]:
    """The pools that accept the parameters of a case."""
    if {"count_include_pad", "divisor_override"} & case.parameters.keys():
        return [AvgPool(**case.parameters)]
    if "ties" in case.parameters:
        return [MaxPool(**case.parameters)]
    return [MaxPool(**case.parameters), AvgPool(**case.parameters)]


def spoil(result: AnyArray | None) -> None:
    """Write to a result, as its owner may: it must be no view of an operand."""
    assert result is not None
    result.fill(np.nan)


@quick_settings
@given(conv_cases())
def test_conv_never_modifies_its_operands(case: ConvCase) -> None:
    before = copy.deepcopy(case)
    conv = Conv(**case.parameters)
    spoil(conv.forward(case.input, case.weight, case.bias))
    gradients = conv.backward(case.grad_output, case.input, case.weight, case.bias)
    for name in ("input", "weight", "bias"):
        spoil(getattr(gradients, f"grad_{name}"))
    assert case.parameters == before.parameters
    for name in ("input", "weight", "bias", "grad_output"):
        np.testing.assert_array_equal(getattr(case, name), getattr(before, name))


@quick_settings
@given(st.one_of(max_pool_cases(), avg_pool_cases()))
def test_a_pool_never_modifies_its_operands(case: PoolCase) -> None:
    before = copy.deepcopy(case)
    for pool in pools_of(case):
        spoil(pool.forward(case.input))
        spoil(pool.backward(case.grad_output, case.input))
    assert case.parameters == before.parameters
    np.testing.assert_array_equal(case.input, before.input)
    np.testing.assert_array_equal(case.grad_output, before.grad_output)


# --------------------------------------------------------------------------------------------------------- empty batch


def test_conv_of_an_empty_batch() -> None:
    conv = Conv(padding=1, stride=2)
    input, weight = np.zeros((0, 5, 5, 2)), normal(3, 3, 2, 4)
    output = conv.forward(input, weight, normal(4))
    assert output.shape == conv.output_shape((0, 5, 5, 2), (3, 3, 2, 4)) == (0, 3, 3, 4)
    gradients = conv.backward(output, input, weight)
    assert_close(gradients.grad_input, input)
    assert_close(gradients.grad_weight, np.zeros((3, 3, 2, 4)))
    assert_close(gradients.grad_bias, np.zeros(4))


@pools
def test_a_pool_of_an_empty_batch(pool: MaxPool | AvgPool) -> None:
    input = np.zeros((0, 5, 5, 2), dtype=np.float32)
    output = pool.forward(input)
    assert output.dtype == np.float32
    assert output.shape == pool.output_shape(input.shape) == (0, 4, 4, 2)
    assert_close(pool.backward(output, input), input)
