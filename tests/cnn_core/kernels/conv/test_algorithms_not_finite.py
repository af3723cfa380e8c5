"""Infinities, NaN and the largest numbers: every algorithm has them where the products of direct sums have them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Conv, ConvTranspose
from tests.cnn_core import tap_by_tap
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.tap_by_tap import RESULTS
from tests.comparisons import normal
from tests.oracle import loops
from tests.strategies import ConvCase, conv_cases, quick_settings

Array = NDArray[Any]

ALGORITHMS: list[Any] = ["auto", "direct", "fastest", "winograd", "fft"]
OPERANDS = ["input", "weight", "grad_output"]
ODD = [np.inf, -np.inf, np.nan]
LARGEST = float(np.finfo(np.float32).max)

algorithms = st.sampled_from(ALGORITHMS)
odd_values = st.lists(st.sampled_from(ODD), min_size=1, max_size=3)


def pattern(array: Array) -> Array:
    """Which elements are finite, NaN, and either infinity."""
    return np.where(np.isnan(array), 3, np.where(np.isinf(array), np.sign(array), 0)).astype(int)


def assert_same_pattern(actual: Array, expected: Array, bound: float, name: str) -> None:
    """Infinities and NaN at the same places, and between them numbers within a bound of the largest."""
    np.testing.assert_array_equal(pattern(actual), pattern(expected), err_msg=name)
    finite = np.isfinite(expected)
    if finite.any():
        scale = max(float(np.abs(expected[finite]).max()), 1.0)
        worst = float(np.abs(actual[finite].astype(np.float64) - expected[finite]).max()) / scale
        assert worst <= bound, f"{name}: error {worst:.2g} of {scale:.3g}"


def computed(case: ConvCase, algorithm: Any) -> dict[str, Array]:
    op = Conv(**case.parameters, algorithm=algorithm)
    gradients = op.backward(case.grad_output, case.input, case.weight, case.bias)
    return {"output": op.forward(case.input, case.weight, case.bias), **gradients._asdict()}


def dense_case(
    sizes: tuple[int, int], channels: int, features: int, *, padding: int = 1, batch: int = 2, seed: int = 0
) -> ConvCase:
    """A convolution of 3 x 3 in float32."""
    random = np.random.default_rng(seed)
    outputs = [size + 2 * padding - 2 for size in sizes]
    shapes = [(batch, *sizes, channels), (3, 3, channels, features), (batch, *outputs, features)]
    image, weight, gradient = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
    return ConvCase({"padding": padding}, image, weight, None, gradient)


def with_odd(case: ConvCase, operand: str, values: list[float], places: list[int]) -> ConvCase:
    """The case with some values at some places of an operand."""
    array = getattr(case, operand).copy()
    for value, place in zip(values, places, strict=False):
        if array.size:
            array.reshape(-1)[place % array.size] = value
    return dataclasses.replace(case, **{operand: array})


# ---------------------------------------------------------------------------------------------------------- the rules


@settings(quick_settings, max_examples=30)
@given(conv_cases(), st.sampled_from(["input", "grad_output"]), odd_values, st.lists(st.integers(0, 2**20), min_size=3))
def test_tap_by_tap_has_them_where_the_loops_have_them(
    case: ConvCase, operand: str, values: list[float], places: list[int]
) -> None:
    """Where zeros of the padding meet no infinity: the loops leave the padding out, a rule says that it is zeros."""
    case = with_odd(case, operand, values, places)
    expected = tap_by_tap.conv(case)
    with np.errstate(all="ignore"):
        output = loops.conv_forward(case.input, case.weight, case.bias, **case.parameters)
        gradients = loops.conv_backward(case.grad_output, case.input, case.weight, case.bias, **case.parameters)
    assert_same_pattern(expected.output, output, 1e-12, "output")
    assert_same_pattern(expected.grad_input, gradients.grad_input, 1e-12, "grad_input")
    if operand == "input" or case.parameters.get("padding", 0) in (0, "valid"):
        assert_same_pattern(expected.grad_weight, gradients.grad_weight, 1e-12, "grad_weight")


@settings(quick_settings, max_examples=40)
@given(
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(OPERANDS),
    odd_values,
    st.lists(st.integers(0, 2**20), min_size=3, max_size=3),
    st.sampled_from([200, 3_000, 2**20]),
)
def test_windows_of_3_x_3(
    sizes: tuple[int, int],
    channels: int,
    features: int,
    padding: int,
    operand: str,
    values: list[float],
    places: list[int],
    block_bytes: int,
) -> None:
    case = with_odd(dense_case(sizes, channels, features, padding=padding), operand, values, places)
    expected = tap_by_tap.conv(case)
    with small_blocks(block_bytes):
        for algorithm in ALGORITHMS:
            results = computed(case, algorithm)
            for name in RESULTS:
                assert_same_pattern(results[name], getattr(expected, name), 1e-5, f"{algorithm} {name}")


@settings(quick_settings, max_examples=40)
@given(conv_cases(), st.sampled_from(OPERANDS), odd_values, st.lists(st.integers(0, 2**20), min_size=3), algorithms)
def test_any_layer(case: ConvCase, operand: str, values: list[float], places: list[int], algorithm: Any) -> None:
    case = with_odd(case, operand, values, places)
    expected, results = tap_by_tap.conv(case), computed(case, algorithm)
    for name in RESULTS:
        assert_same_pattern(results[name], getattr(expected, name), 1e-12, f"{algorithm} {name}")


# ------------------------------------------------------------------------------------------------ one infinity's reach


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("odd", ODD)
def test_one_element_of_the_input_reaches_nine_outputs(odd: float, algorithm: Any) -> None:
    case = dense_case((17, 18), 5, 4, batch=3)
    case.input[1, 6, 7, 2] = odd
    output = Conv(padding=1, algorithm=algorithm).forward(case.input, case.weight)
    reached = np.zeros(output.shape, dtype=bool)
    reached[1, 5:8, 6:9] = True
    np.testing.assert_array_equal(~np.isfinite(output), reached)
    if not np.isnan(odd):
        assert not np.isnan(output).any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("odd", ODD)
def test_one_element_of_the_gradient_reaches_its_window(odd: float, algorithm: Any) -> None:
    case = dense_case((17, 18), 9, 10, batch=3)
    case.grad_output[2, 6, 7, 3] = odd
    gradients = Conv(padding=1, algorithm=algorithm).backward(case.grad_output, case.input, case.weight)
    reached = np.zeros(case.input.shape, dtype=bool)
    reached[2, 5:8, 6:9] = True
    np.testing.assert_array_equal(~np.isfinite(np.asarray(gradients.grad_input)), reached)
    np.testing.assert_array_equal(
        ~np.isfinite(np.asarray(gradients.grad_weight)), np.broadcast_to(np.arange(10) == 3, case.weight.shape)
    )
    np.testing.assert_array_equal(~np.isfinite(np.asarray(gradients.grad_bias)), np.arange(10) == 3)


@pytest.mark.one_in(7)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize("channels", [2, 40])
@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_an_infinite_weight_reaches_only_elements_under_its_tap(
    odd: float, channels: int, padding: int, algorithm: Any
) -> None:
    """No window has its first tap over the last rows and columns, unless windows begin in the padding after them."""
    case = dense_case((9, 10), channels, 3, padding=padding)
    case.weight[0, 0, -1, 1] = odd
    gradients = Conv(padding=padding, algorithm=algorithm).backward(case.grad_output, case.input, case.weight)
    assert gradients.grad_input is not None
    reached = np.zeros(case.input.shape, dtype=bool)
    reached[:, : 8 + padding - 1, : 9 + padding - 1, -1] = True
    np.testing.assert_array_equal(~np.isfinite(gradients.grad_input), reached)
    with np.errstate(all="ignore"):
        by_loops = loops.conv_backward(
            case.grad_output, case.input[..., -1:], case.weight[:, :, -1:], **case.parameters
        ).grad_input
    assert_same_pattern(gradients.grad_input[..., -1:], by_loops, 1e-5, "grad_input")


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("parameters", "weight_shape"),
    [
        ({"padding": 1, "groups": 12}, (3, 3, 1, 12)),
        ({"padding": 1, "groups": 12}, (3, 3, 1, 24)),
        ({"padding": 1, "groups": 12, "stride": 2}, (3, 3, 1, 12)),
        ({"padding": 2, "groups": 12, "dilation": 2}, (3, 3, 1, 12)),
        ({"padding": 1, "groups": 4}, (3, 3, 3, 8)),
        ({"padding": 2}, (5, 5, 12, 4)),
        ({"padding": 1, "stride": 2}, (3, 3, 12, 4)),
    ],
)
@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("odd", ODD)
def test_other_layers(odd: float, operand: str, parameters: dict[str, Any], weight_shape: tuple[int, ...]) -> None:
    image, weight = normal(2, 9, 10, 12), normal(*weight_shape, seed=1)
    gradient = normal(*Conv(**parameters).output_shape(image.shape, weight_shape), seed=2)
    case = ConvCase(parameters, image, weight, None, gradient)
    for place in (0, getattr(case, operand).size // 2, -1):
        odd_case = with_odd(case, operand, [odd], [place])
        expected, results = tap_by_tap.conv(odd_case), computed(odd_case, "fastest")
        for name in RESULTS:
            assert_same_pattern(results[name], getattr(expected, name), 1e-12, f"{name}, {place}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("operand", ["input", "weight"])
@pytest.mark.parametrize("channels", [2, 9])
def test_transposed_layers(channels: int, operand: str, algorithm: Any) -> None:
    """The output of the transposed layer is the convolution's gradient of the input."""
    case = dense_case((11, 12), channels, 10)
    odd_case = with_odd(case, "grad_output" if operand == "input" else "weight", [np.inf], [0])
    output = ConvTranspose(padding=1, algorithm=algorithm).forward(odd_case.grad_output, odd_case.weight)
    assert_same_pattern(output, tap_by_tap.conv(odd_case).grad_input, 1e-5, "output")
    assert np.isinf(output).any()
    assert np.isfinite(output).any()


# ------------------------------------------------------------------------------------------------------- large layers


@pytest.mark.one_in(4)
@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("odd", ODD)
def test_large_layers(odd: float, operand: str) -> None:
    case = dense_case((37, 38), 64, 48, batch=3)
    odd_case = with_odd(case, operand, [odd], [12_345])
    expected = tap_by_tap.conv(odd_case)
    for algorithm in ALGORITHMS:
        results = computed(odd_case, algorithm)
        for name in RESULTS:
            assert_same_pattern(results[name], getattr(expected, name), 1e-5, f"{algorithm} {name}")


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("odd", ODD)
def test_a_bias_and_both_layouts_beside_an_infinity(odd: float, operand: str) -> None:
    case = with_odd(dense_case((13, 14), 33, 34), operand, [odd], [4321])
    first = [np.moveaxis(array, -1, 1) for array in (case.input, case.grad_output)]
    weight, bias = np.moveaxis(case.weight, (-1, -2), (0, 1)), np.arange(34, dtype=np.float32)
    expected = tap_by_tap.conv(case)
    op = Conv(padding=1, data_format="channels_first", algorithm="winograd")
    output, gradients = op.forward(first[0], weight, bias), op.backward(first[1], first[0], weight)
    assert_same_pattern(np.moveaxis(output, 1, -1), expected.output + bias, 1e-5, "output")
    assert gradients.grad_weight is not None
    assert gradients.grad_input is not None
    assert_same_pattern(np.moveaxis(gradients.grad_input, 1, -1), expected.grad_input, 1e-5, "grad_input")
    assert_same_pattern(np.moveaxis(gradients.grad_weight, (0, 1), (-1, -2)), expected.grad_weight, 1e-5, "grad_weight")


# ---------------------------------------------------------------------------------------------------- largest numbers


FACTOR_OF = {
    "input": ["output", "grad_weight"],
    "weight": ["output", "grad_input"],
    "grad_output": ["grad_input", "grad_weight", "grad_bias"],
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("large", OPERANDS)
@pytest.mark.parametrize(("largest", "smallest"), [(LARGEST, 1e-4), (LARGEST / 1000, 1e-2), (1e30, 2e-37)])
def test_finite_sums_of_the_largest_numbers_are_finite(
    largest: float, smallest: float, large: str, algorithm: Any
) -> None:
    """All of one operand are as large as they can be, the others so small that no direct sum overflows."""
    random, case = np.random.default_rng(0), dense_case((14, 15), 40, 34)
    arrays = {name: np.sign(getattr(case, name)) * np.float32(smallest) for name in OPERANDS}
    shape = arrays[large].shape
    arrays[large] = (random.uniform(0.5, 1, shape) * random.choice([-largest, largest], shape)).astype(np.float32)
    case = dataclasses.replace(case, **arrays)
    expected, results = tap_by_tap.conv(case), computed(case, algorithm)
    for name in FACTOR_OF[large]:
        exact = getattr(expected, name)
        scale = np.abs(exact).max()
        if scale > LARGEST / 4:
            assert name == "grad_bias"  # a sum of the large ones themselves
            continue
        assert np.isfinite(results[name]).all(), name
        np.testing.assert_allclose(results[name] / scale, exact / scale, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_largest_number_leaves_the_windows_beside_it_as_they_are(algorithm: Any) -> None:
    case = dense_case((14, 15), 40, 34)
    case.input[0, 6, 7, 8] = LARGEST
    case.weight[...] *= np.float32(0.1)
    direct = computed(case, "direct")
    results = computed(case, algorithm)
    far = np.ones(results["output"].shape, dtype=bool)
    far[0, :12, :12] = False  # of other tiles than that of the large number
    assert_same_pattern(results["output"][far], direct["output"][far], 1e-5, "output")
    for name in RESULTS:
        assert_same_pattern(results[name], direct[name], 1e-5, name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_warns_or_raises(algorithm: Any) -> None:
    """Whatever the caller's own error state is."""
    case = with_odd(dense_case((37, 38), 40, 34), "input", [np.inf, -np.inf, np.nan], [1, 5, 40_000])
    states: list[Any] = ["warn", "raise"]
    for state in states:
        with np.errstate(all=state):
            assert np.isnan(computed(case, algorithm)["output"]).any()
            assert np.geterr()["over"] == state
