"""Windows of few channels that are computed as one wider window: they give what each of them gives by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Conv, ConvTranspose
from cnn_core.kernels.conv import window_blocking
from cnn_core.kernels.conv.window_blocking import BlockedCol2im, WindowBlocking
from tests.cnn_core import tap_by_tap
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.tap_by_tap import RESULTS, assert_near
from tests.oracle import loops
from tests.strategies import ConvCase, quick_settings, thorough_settings
from tests.strategies_conv import backwards, big_endian, read_only

Array = NDArray[Any]

BOUNDS = {"float16": 2.0**-11 + 1e-5, "float32": 2e-6, "float64": 1e-12}
NAMES = ("forward", "grad_input", "grad_weight")
OPERANDS = ["input", "weight", "grad_output"]

dtypes = st.sampled_from(["float32", "float64"])
layouts = st.sampled_from([np.ascontiguousarray, np.asfortranarray, backwards, read_only, big_endian])
most_columns = st.sampled_from([16, 40, 128])
few_bytes = st.sampled_from([200, 3_000, 2**20])
odd_values = st.lists(st.sampled_from([np.inf, -np.inf, np.nan]), min_size=1, max_size=3)


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Which computations windows are widened for."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            kernel = BlockedCol2im if name == "grad_input" else WindowBlocking
            original = getattr(kernel, name)

            def noted(*arguments: Any, name: str = name, original: Any = original) -> None:
                calls.append(name)
                original(*arguments)

            patch.setattr(kernel, name, noted)
        yield calls


@contextlib.contextmanager
def widening(columns: int = 128, block_bytes: int = 2**20) -> Iterator[list[str]]:
    """Windows of small layers are widened, too: as many as can be, with at most so many columns."""
    with pytest.MonkeyPatch.context() as patch, counted() as calls:
        patch.setattr(window_blocking, "MIN_WINDOWS", 1)
        patch.setattr(window_blocking, "MAX_COLUMNS", columns)
        patch.setattr(window_blocking, "COPIED_RUN", 1e9)  # the longer runs are, the faster
        with small_blocks(block_bytes):  # which forgets what was found out with other limits
            yield calls


@st.composite
def narrow_cases(draw: st.DrawFn, *, operands: str = "normal") -> ConvCase:
    """Layers of few channels whose outputs along the last axis can be divided, often by many numbers."""
    rank = draw(st.integers(1, 3))
    outputs = [draw(st.integers(1, 5 if rank < 3 else 3)) for _ in range(rank - 1)]
    outputs.append(draw(st.sampled_from([2, 3, 4, 6, 8, 12, 15, 24])))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank - 1)] + [draw(st.integers(1, 5))]
    stride, dilation, sizes = [], [], []
    padding: list[list[int]] = []
    for axis in range(rank):
        stride.append(draw(st.integers(1, 3)))
        dilation.append(draw(st.integers(1, 3)))
        padding.append([draw(st.sampled_from([0, 0, 1, 2, 5])), draw(st.sampled_from([0, 0, 1, 2, 5]))])
        span = (outputs[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1
        sizes.append(span - sum(padding[axis]) + draw(st.integers(0, stride[axis] - 1)))
        assume(sizes[axis] >= 1)
    channels, features = draw(st.sampled_from([1, 1, 2, 3, 8])), draw(st.sampled_from([1, 2, 3, 6, 16]))
    assume(channels * kernel[-1] <= 32)
    batch, has_bias = draw(st.integers(1, 3)), draw(st.booleans())
    first = draw(st.booleans())
    parameters: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    parameters["data_format"] = "channels_first" if first else "channels_last"
    shapes = [(batch, *sizes, channels), (*kernel, channels, features), (batch, *outputs, features), (features,)]
    if first:
        shapes[:3] = [(batch, channels, *sizes), (features, channels, *kernel), (batch, features, *outputs)]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawn = (
        random.standard_normal(shape) if operands == "normal" else random.integers(-9, 10, shape, dtype=operands)
        for shape in shapes
    )
    image, weight, gradient, bias = drawn
    return ConvCase(parameters, image, weight, bias if has_bias else None, gradient)


def of_dtype(case: ConvCase, dtype: str) -> ConvCase:
    bias = None if case.bias is None else case.bias.astype(dtype)
    return ConvCase(
        case.parameters, case.input.astype(dtype), case.weight.astype(dtype), bias, case.grad_output.astype(dtype)
    )


def computed(case: ConvCase, algorithm: Any = "direct") -> dict[str, Array]:
    op = Conv(**case.parameters, algorithm=algorithm)
    gradients = op.backward(case.grad_output, case.input, case.weight, case.bias)
    return {"output": op.forward(case.input, case.weight, case.bias), **gradients._asdict()}


def last_output(case: ConvCase) -> tuple[int, int]:
    """Windows along the last axis, and features."""
    first = case.parameters["data_format"] == "channels_first"
    shape = case.grad_output.shape
    return (shape[-1], shape[1]) if first else (shape[-2], shape[-1])


def assert_taken(calls: list[str], case: ConvCase, columns: int) -> None:
    """Forward and for the gradient of the weight, where any number of windows divides all of them."""
    _, features = last_output(case)
    joined = 2 * features <= columns
    assert {"forward", "grad_weight"}.issubset(calls) if joined else "grad_weight" not in calls


def assert_same_pattern(actual: Array, expected: Array, name: str) -> None:
    """NaN and either infinity at the same places, and the same numbers between them."""
    of_actual, of_expected = (
        np.where(np.isnan(each), 3, np.where(np.isinf(each), np.sign(each), 0)) for each in (actual, expected)
    )
    np.testing.assert_array_equal(of_actual, of_expected, err_msg=name)
    finite = np.isfinite(expected)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=1e-4, atol=1e-4, err_msg=name)


# -------------------------------------------------------------------------------------------------- the same results


@thorough_settings
@given(narrow_cases(), dtypes, most_columns, few_bytes)
def test_any_layer_of_few_channels(case: ConvCase, dtype: str, columns: int, block_bytes: int) -> None:
    case = of_dtype(case, dtype)
    expected = tap_by_tap.conv(case)
    with widening(columns, block_bytes) as calls:
        results = computed(case)
    assert_taken(calls, case, columns)
    for name in RESULTS:
        assert results[name].dtype == dtype
        assert_near(results[name], getattr(expected, name), BOUNDS[dtype], expected.terms[name])


@quick_settings
@given(narrow_cases(), st.sampled_from(["float16", "float32"]))
def test_whichever_algorithm_is_asked_for(case: ConvCase, dtype: str) -> None:
    case = of_dtype(case, dtype)
    expected = tap_by_tap.conv(case)
    for algorithm in ("fastest", "winograd"):
        with widening() as calls:
            results = computed(case, algorithm)
        if algorithm == "fastest":
            assert_taken(calls, case, 128)
        for name in RESULTS:
            bound = max(1e-5, BOUNDS[dtype])
            assert_near(results[name], getattr(expected, name), bound, expected.terms[name])


@quick_settings
@given(narrow_cases(), dtypes, layouts, layouts, layouts)
def test_operands_of_any_layout(case: ConvCase, dtype: str, of_input: Any, of_weight: Any, of_gradient: Any) -> None:
    plain = of_dtype(case, dtype)
    bias = None if plain.bias is None else backwards(plain.bias)
    laid = ConvCase(
        plain.parameters, of_input(plain.input), of_weight(plain.weight), bias, of_gradient(plain.grad_output)
    )
    expected = tap_by_tap.conv(plain)
    with widening() as calls:
        results = computed(laid)
    assert_taken(calls, plain, 128)
    for name in RESULTS:
        assert_near(results[name], getattr(expected, name), BOUNDS[dtype], expected.terms[name])
    for name in OPERANDS:
        np.testing.assert_array_equal(getattr(laid, name), getattr(plain, name))


@quick_settings
@given(st.sampled_from(["int8", "int32", "int64"]).flatmap(lambda dtype: narrow_cases(operands=dtype)), few_bytes)
def test_integers_are_exact(case: ConvCase, block_bytes: int) -> None:
    expected = tap_by_tap.conv(case)
    with widening(block_bytes=block_bytes):
        results = computed(case)
    for name in RESULTS:
        assert results[name].dtype == np.float64
        np.testing.assert_array_equal(results[name], getattr(expected, name))


@quick_settings
@given(narrow_cases(), dtypes, few_bytes, st.sampled_from([None, None, np.inf, np.nan]))
def test_transposed_layers_are_the_adjoint(case: ConvCase, dtype: str, block_bytes: int, odd: float | None) -> None:
    """The bias of theirs is added to what windows give back, whichever way that is computed."""
    case = dataclasses.replace(of_dtype(case, dtype), bias=None)
    if odd is not None:
        case.grad_output.reshape(-1)[case.grad_output.size // 2] = odd
    first = case.parameters["data_format"] == "channels_first"
    expected = tap_by_tap.conv(case)
    sizes = case.input.shape[2:] if first else case.input.shape[1:-1]
    op = ConvTranspose(**case.parameters, output_size=sizes, algorithm="direct")
    bias = np.arange(case.input.shape[1 if first else -1], dtype=dtype)
    with widening(block_bytes=block_bytes) as calls:
        output = op.forward(case.grad_output, case.weight, bias)
        gradients = op.backward(case.input, case.grad_output, case.weight)
    assert_taken(calls, case, 128)
    wanted = expected.grad_input + (bias.reshape(-1, *(1,) * len(sizes)) if first else bias)
    pairs = {"grad_input": (output, wanted), "output": (gradients.grad_input, expected.output)}
    pairs["grad_weight"] = (gradients.grad_weight, expected.grad_weight)
    for name, (found, by_taps) in pairs.items():
        if odd is None:
            assert_near(found, by_taps, BOUNDS[dtype], expected.terms[name])
        else:
            assert_same_pattern(np.asarray(found), by_taps, name)


# --------------------------------------------------------------------------------------------------------- not finite


@settings(thorough_settings, max_examples=50)
@given(
    narrow_cases(),
    st.sampled_from([*OPERANDS, "bias"]),
    odd_values,
    st.lists(st.integers(0, 2**20), min_size=3, max_size=3),
    dtypes,
    few_bytes,
)
def test_infinities_and_nans(
    case: ConvCase, operand: str, values: list[float], places: list[int], dtype: str, block_bytes: int
) -> None:
    """The zeros of a wider weight would make NaN of an infinity in a window beside it."""
    case = of_dtype(case, dtype)
    operand = "input" if operand == "bias" and case.bias is None else operand
    array: Any = np.ascontiguousarray(getattr(case, operand))
    for value, place in zip(values, places, strict=False):
        array.reshape(-1)[place % array.size] = value
    case = dataclasses.replace(case, **{operand: array})
    expected = tap_by_tap.conv(case)
    with widening(block_bytes=block_bytes) as calls:
        results = computed(case)
    assert_taken(calls, case, 128)
    for name in RESULTS:
        assert_same_pattern(results[name], getattr(expected, name), name)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_infinity_reaches_only_the_windows_that_hold_it(stride: int, odd: float) -> None:
    image, weight = np.ones((1, 4, 30, 1)), np.ones((1, 3, 1, 2))
    image[0, 1, 12, 0] = odd
    op = Conv(stride=(1, stride), algorithm="direct")
    gradient = np.ones(op.output_shape(image.shape, weight.shape))
    with widening() as calls:
        output, gradients = op.forward(image, weight), op.backward(gradient, np.ones(image.shape), weight)
        gradient[0, 2, 3, 1] = odd
        of_gradient = op.backward(gradient, np.ones(image.shape), weight)
    assert "grad_input" in calls
    np.testing.assert_array_equal(output, loops.conv_forward(image, weight, stride=[1, stride]))
    assert (~np.isfinite(output)).sum() == 2 * math.ceil(3 / stride)
    assert gradients.grad_input is not None
    assert of_gradient.grad_input is not None
    reached = np.zeros(image.shape, dtype=bool)
    reached[0, 2, 3 * stride : 3 * stride + 3] = True
    np.testing.assert_array_equal(~np.isfinite(of_gradient.grad_input), reached)
    np.testing.assert_array_equal(of_gradient.grad_input[~reached], gradients.grad_input[~reached])


def test_numbers_whose_sum_is_not_finite() -> None:
    """All results are numbers, but the largest ones."""
    image = np.full((2, 30, 31, 1), 3e38, dtype=np.float32)
    weight = np.zeros((3, 4, 1, 2), dtype=np.float32)
    weight[1, 2, 0] = [1, -1]
    case = ConvCase({"data_format": "channels_last"}, image, weight, None, np.full((2, 28, 28, 2), 1, np.float32))
    with widening() as calls:
        results = computed(case)
    assert "forward" in calls
    assert results["output"].dtype == np.float32
    assert (results["output"] == np.array([3e38, -3e38], dtype=np.float32)).all()


# ------------------------------------------------------------------------------------------------- which are widened


LARGE: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "5 x 5": ({}, (64, 28, 28, 1), (5, 5, 1, 6)),
    "5 x 5, padded": ({"padding": 2}, (16, 28, 28, 1), (5, 5, 1, 6)),
    "7 x 7, strided": ({"padding": 3, "stride": 2}, (3, 90, 92, 3), (7, 7, 3, 16)),
    "a prime number of windows": ({}, (16, 28, 27, 1), (5, 5, 1, 6)),
    "one image": ({}, (1, 28, 28, 1), (5, 5, 1, 6)),
    "dilated": ({"padding": 2, "dilation": 2}, (4, 40, 40, 2), (3, 3, 2, 4)),
    "1-D": ({"padding": 1}, (4, 3000, 2), (3, 2, 4)),
    "3-D": ({"padding": 1}, (2, 12, 14, 20, 1), (3, 3, 3, 1, 8)),
}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", LARGE)
def test_large_layers_of_few_channels_are_widened(name: str, data_format: str) -> None:
    parameters, input_shape, weight_shape = LARGE[name]
    random = np.random.default_rng(0)
    output_shape = Conv(**parameters).output_shape(input_shape, weight_shape)
    shapes = (input_shape, weight_shape, weight_shape[-1:], output_shape)
    image, weight, bias, gradient = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    if data_format == "channels_first":
        image, gradient = np.moveaxis(image, -1, 1), np.moveaxis(gradient, -1, 1)
        weight = np.moveaxis(weight, (-1, -2), (0, 1))
    case = ConvCase({**parameters, "data_format": data_format}, image, weight, bias, gradient)
    expected = tap_by_tap.conv(case)
    with counted() as calls:
        results = computed(case, "fastest")
    assert sorted(calls) == sorted(NAMES)
    for result in RESULTS:
        terms = expected.terms[result]
        assert_near(results[result], getattr(expected, result), 2e-6 * max(1, math.sqrt(terms / 2048)), terms)


OTHERS: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "few windows along the last axis": ({}, (64, 28, 11, 1), (5, 5, 1, 6)),
    "many features": ({}, (16, 28, 28, 1), (5, 5, 1, 17)),
    "many channels": ({}, (16, 28, 28, 7), (5, 5, 7, 6)),
    "groups": ({"groups": 2}, (16, 28, 28, 2), (5, 5, 1, 6)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_are_not(name: str) -> None:
    parameters, input_shape, weight_shape = OTHERS[name]
    gradient = np.ones(Conv(**parameters).output_shape(input_shape, weight_shape))
    with counted() as calls:
        computed(ConvCase(parameters, np.ones(input_shape), np.ones(weight_shape), None, gradient))
    assert not calls


def test_an_empty_batch() -> None:
    case = ConvCase({}, np.ones((0, 9, 10, 1)), np.ones((3, 3, 1, 2)), None, np.ones((0, 7, 8, 2)))
    with widening():
        results = computed(case)
    assert results["output"].shape == case.grad_output.shape
    assert not np.asarray(results["grad_weight"]).any()
