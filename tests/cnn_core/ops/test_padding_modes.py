"""Convolution whose padding takes values of the input, against the loop oracle, NumPy's pad and the rules by hand."""

from __future__ import annotations

import copy
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import Conv, ConvpoolError, ParameterError, ShapeError
from tests.comparisons import assert_close, assert_gradients_close, inner, normal
from tests.oracle import padding_modes as oracle
from tests.strategies import ConvCase, conv_cases, quick_settings
from tests.strategies_conv import few_settings, memory_layouts, padding_mode_cases, refused

GRADIENTS = ("input", "weight", "bias")
NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "circular": "wrap", "replicate": "edge", "zeros": "constant"}
modes = pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])


def padded_line(count: int, mode: str, before: int, after: int) -> list[float]:
    """The numbers 1, 2, ... as a window of one element sees them with their padding."""
    input = np.arange(1.0, count + 1).reshape(1, count, 1)
    conv = Conv(padding=((before, after),), padding_mode=mode)  # type: ignore[arg-type]
    elements: list[float] = conv.forward(input, np.ones((1, 1, 1))).reshape(-1).tolist()
    return elements


# ------------------------------------------------------------------------------------------------- against the oracle


@quick_settings
@given(padding_mode_cases(), st.sets(st.sampled_from(GRADIENTS), min_size=1))
def test_backward_agrees_with_the_loops_for_every_choice_of_gradients(case: ConvCase, wanted: set[str]) -> None:
    conv = Conv(**case.parameters)
    operands = (case.grad_output, case.input, case.weight, case.bias)
    expected = oracle.conv_backward(*operands, **case.parameters)
    assert_gradients_close(conv.backward(*operands), expected, GRADIENTS)
    some: Any = tuple(wanted)
    assert_gradients_close(conv.backward(*operands, wrt=some), expected, wanted)


@few_settings
@given(padding_mode_cases(), st.integers(0, 2**20))
def test_a_gradient_that_is_not_a_number_reaches_the_sources_of_its_window(case: ConvCase, place: int) -> None:
    grad_output = case.grad_output.copy()
    if grad_output.size:
        grad_output.reshape(-1)[place % grad_output.size] = np.nan
    gradients = Conv(**case.parameters).backward(grad_output, case.input, case.weight, wrt=("input", "bias"))
    expected = oracle.conv_backward(grad_output, case.input, case.weight, **case.parameters)
    assert_close(gradients.grad_input, expected.grad_input)
    assert_close(gradients.grad_bias, expected.grad_bias)


# --------------------------------------------------------------------------------------------------------- identities


@quick_settings
@given(padding_mode_cases())
def test_backward_is_the_adjoint_of_forward(case: ConvCase) -> None:
    """<conv(x, w), g> = <x, grad_input> = <w, grad_weight>, without a bias."""
    conv = Conv(**case.parameters)
    product = inner(conv.forward(case.input, case.weight), case.grad_output)
    gradients = conv.backward(case.grad_output, case.input, case.weight)
    assert inner(case.input, gradients.grad_input) == pytest.approx(product, rel=1e-10, abs=1e-10)
    assert inner(case.weight, gradients.grad_weight) == pytest.approx(product, rel=1e-10, abs=1e-10)


@few_settings
@given(padding_mode_cases(), st.integers(0, 2**32 - 1))
def test_gradients_agree_with_central_differences(case: ConvCase, seed: int) -> None:
    conv = Conv(**case.parameters)
    random = np.random.default_rng(seed)
    operands: dict[str, Any] = {"input": case.input, "weight": case.weight}
    if case.bias is not None:
        operands["bias"] = case.bias
    gradients = conv.backward(case.grad_output, **operands)
    for name, operand in operands.items():
        toward = random.standard_normal(operand.shape) * 1e-3
        ahead, behind = (conv.forward(**{**operands, name: operand + sign * toward}) for sign in (1, -1))
        slope = inner(ahead - behind, case.grad_output) / 2
        assert slope == pytest.approx(inner(toward, getattr(gradients, f"grad_{name}")), rel=1e-7, abs=1e-9)


@few_settings
@given(padding_mode_cases())
def test_predicted_shapes_are_the_actual_shapes_and_those_of_zeros(case: ConvCase) -> None:
    conv = Conv(**case.parameters)
    shapes = [operand.shape for operand in (case.input, case.weight, case.bias) if operand is not None]
    output = conv.forward(case.input, case.weight, case.bias)
    assert conv.output_shape(*shapes) == conv.resolve(*shapes).output_shape == output.shape == case.grad_output.shape
    gradients = conv.backward(case.grad_output, case.input, case.weight, case.bias)
    actual = {name: getattr(gradients, f"grad_{name}").shape for name in GRADIENTS}
    assert dict(conv.resolve(*shapes).gradient_shapes) == actual
    assert Conv(**{**case.parameters, "padding_mode": "zeros"}).output_shape(*shapes) == output.shape


@few_settings
@given(conv_cases())
def test_zeros_are_the_default(case: ConvCase) -> None:
    output = Conv(**case.parameters, padding_mode="zeros").forward(case.input, case.weight, case.bias)
    np.testing.assert_array_equal(output, Conv(**case.parameters).forward(case.input, case.weight, case.bias))
    assert Conv(**case.parameters, padding_mode="zeros") == Conv(**case.parameters)


@modes
@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "padding", "parameters"),
    [
        ((2, 20, 17, 6), (5, 3, 3, 8), [[2, 1], [0, 3]], {"groups": 2, "stride": [2, 3]}),
        ((1, 33, 35, 12), (3, 3, 1, 24), [[1, 1], [1, 1]], {"groups": 12}),
        ((1, 200, 5), (25, 5, 7), [[48, 49]], {"dilation": 4}),
        ((1, 9, 10, 11, 4), (3, 2, 3, 4, 5), [[8, 0], [0, 9], [3, 4]], {"stride": [1, 2, 1]}),
        ((9, 12, 12, 3), (12, 12, 3, 2), [[11, 11], [1, 0]], {}),
    ],
)
def test_it_is_convolution_of_what_numpy_pads(
    mode: str,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    padding: list[list[int]],
    parameters: dict[str, Any],
) -> None:
    """A blocked algorithm may only start at such sizes."""
    input, weight = normal(*input_shape), normal(*weight_shape, seed=1)
    padded = np.pad(input, [(0, 0), *map(tuple, padding), (0, 0)], mode=NUMPY_MODES[mode])
    conv, plain = Conv(**parameters, padding=padding, padding_mode=mode), Conv(**parameters)  # type: ignore[arg-type]
    output = conv.forward(input, weight)
    assert_close(output, plain.forward(padded, weight))
    grad_output = normal(*output.shape, seed=2)
    gradients, expected = conv.backward(grad_output, input, weight), plain.backward(grad_output, padded, weight)
    assert_close(gradients.grad_weight, np.asarray(expected.grad_weight), 1e-10)
    assert_close(gradients.grad_bias, np.asarray(expected.grad_bias), 1e-10)
    assert inner(output, grad_output) == pytest.approx(inner(input, gradients.grad_input), rel=1e-9)
    direction = normal(*input_shape, seed=3)  # any other input must find its adjoint too
    slope = inner(conv.forward(direction, weight), grad_output)
    assert slope == pytest.approx(inner(direction, gradients.grad_input), rel=1e-9)


# ------------------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
    ("mode", "before", "after", "expected"),
    [
        ("reflect", 2, 1, [3, 2, 1, 2, 3, 4, 3]),
        ("reflect", 0, 3, [1, 2, 3, 4, 3, 2, 1]),
        ("circular", 2, 1, [3, 4, 1, 2, 3, 4, 1]),
        ("circular", 4, 4, [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]),
        ("replicate", 2, 1, [1, 1, 1, 2, 3, 4, 4]),
        ("replicate", 0, 6, [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]),
        ("zeros", 2, 1, [0, 0, 1, 2, 3, 4, 0]),
    ],
)
def test_which_element_stands_where(mode: str, before: int, after: int, expected: list[float]) -> None:
    assert padded_line(4, mode, before, after) == expected


def test_a_single_element() -> None:
    assert padded_line(1, "replicate", 3, 2) == [1] * 6
    assert padded_line(1, "circular", 1, 1) == [1] * 3
    assert padded_line(1, "reflect", 0, 0) == [1]
    with refused(ShapeError, "input|padding", 1, 0):
        padded_line(1, "reflect", 1, 0)


def test_each_axis_is_continued_by_itself() -> None:
    """The corners of the padding repeat the element that both rules lead to."""
    input = np.arange(6.0).reshape(1, 2, 3, 1)
    output = Conv(padding=((1, 0), (0, 2)), padding_mode="reflect").forward(input, np.ones((1, 1, 1, 1)))
    assert output[0, :, :, 0].tolist() == [[3, 4, 5, 4, 3], [0, 1, 2, 1, 0], [3, 4, 5, 4, 3]]


@pytest.mark.parametrize(
    ("mode", "padding", "expected"),
    [
        ("reflect", ((2, 1),), [1, 2, 3, 1]),
        ("circular", ((2, 1),), [2, 1, 2, 2]),
        ("replicate", ((2, 1),), [3, 1, 1, 2]),
        ("reflect", "valid", [1, 1, 1, 1]),
    ],
)
def test_the_gradient_of_padding_returns_to_its_source(mode: Any, padding: Any, expected: list[float]) -> None:
    input, weight = normal(1, 4, 1), np.ones((1, 1, 1))
    conv = Conv(padding=padding, padding_mode=mode)
    grad_output = np.ones(conv.output_shape(input.shape, weight.shape))
    gradient = conv.backward(grad_output, input, weight).grad_input
    assert np.asarray(gradient).reshape(-1).tolist() == expected


@pytest.mark.parametrize(("padding", "expected"), [("same", [3, 5, 3]), ("same_lower", [0, 4, 6])])
def test_same_padding_is_of_the_mode_too(padding: Any, expected: list[float]) -> None:
    """Windows of two over [1, 2, 3, 4, 5, 4], or with the odd element at the start [2, 1, 2, 3, 4, 5]."""
    input, weight = np.arange(1.0, 6).reshape(1, 5, 1), np.array([-1.0, 2.0]).reshape(2, 1, 1)
    output = Conv(padding=padding, stride=2, padding_mode="reflect").forward(input, weight)
    assert output.reshape(-1).tolist() == expected


@modes
def test_zeros_appear_nowhere(mode: Any) -> None:
    """0 times an infinity is no number, and an average of ones is 1 at the edges too."""
    ones, weight = np.ones((1, 4, 5, 2)), np.full((3, 3, 1, 2), 1 / 9)
    output = Conv(padding=1, padding_mode=mode, groups=2).forward(ones, weight)
    assert_close(output, np.ones((1, 4, 5, 2)))
    weight[0, 0] = np.inf
    assert np.isposinf(Conv(padding=1, padding_mode=mode, groups=2).forward(ones, weight)).all()


# ----------------------------------------------------------------------------------------------------------- operands


@modes
@pytest.mark.parametrize(
    ("input", "weight", "bias", "expected"),
    [
        ("float16", "float16", "float16", "float16"),
        ("float32", "float32", None, "float32"),
        ("float32", "float16", "float64", "float64"),
        ("int8", "uint8", None, "float64"),
    ],
)
def test_results_have_the_common_floating_dtype(
    mode: Any, input: str, weight: str, bias: str | None, expected: str
) -> None:
    x, w = np.arange(10).reshape(1, 5, 2).astype(input), np.ones((2, 2, 3)).astype(weight)
    b = None if bias is None else np.arange(3).astype(bias)
    parameters: dict[str, Any] = {"padding": 2, "padding_mode": mode}
    output = Conv(**parameters).forward(x, w, b)
    assert_close(output, oracle.conv_forward(x, w, b, **parameters).astype(expected))
    gradients = Conv(**parameters).backward(output, x, w, b)
    by_loops = oracle.conv_backward(output, x, w, b, **parameters)
    for name in GRADIENTS:
        assert_close(getattr(gradients, f"grad_{name}"), getattr(by_loops, f"grad_{name}").astype(expected))


def test_float16_folds_back_in_float32() -> None:
    """The one element is the source of 4096 elements of the padding; counting in float16 stops at 2048."""
    one = np.ones((1, 1, 1), dtype=np.float16)
    conv = Conv(padding=((4095, 0),), padding_mode="replicate")
    gradients = conv.backward(np.ones((1, 4096, 1), dtype=np.float16), one, one)
    assert_close(gradients.grad_input, 4096 * one)
    assert_close(gradients.grad_weight, 4096 * one)


@few_settings
@given(padding_mode_cases(), memory_layouts)
def test_operands_of_any_memory_layout_are_read_and_never_written(case: ConvCase, change: Any) -> None:
    operands = [case.grad_output, case.input, case.weight, *([] if case.bias is None else [case.bias])]
    changed = [change(operand) for operand in operands]
    plain = [np.array(operand, dtype=np.float64) for operand in changed]
    conv = Conv(**copy.deepcopy(case.parameters))
    output, gradients = conv.forward(*changed[1:]), conv.backward(*changed)
    assert_close(output, conv.forward(*plain[1:]))
    for name in GRADIENTS:
        assert_close(getattr(gradients, f"grad_{name}"), getattr(conv.backward(*plain), f"grad_{name}"))
    for result in (output, *gradients):
        assert result is not None
        result.fill(np.nan)  # a result may be written to: it is no view of an operand
    for operand, copied in zip(changed, plain, strict=True):
        np.testing.assert_array_equal(operand, copied)


# ----------------------------------------------------------------------------------------------------------- refusals


@quick_settings
@given(
    mode=st.sampled_from(["reflect", "reflect", "circular", "circular", "replicate"]),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    reaches=st.lists(st.tuples(st.integers(-6, 1), st.integers(-6, 1)), min_size=3, max_size=3),
)
def test_reflect_needs_less_padding_than_elements_and_circular_no_more(
    mode: Any, sizes: list[int], reaches: list[tuple[int, int]]
) -> None:
    """Paddings around the number of elements, which are allowed on every axis or refused for one of them."""
    padding = [tuple(max(0, size + reach) for reach in pair) for size, pair in zip(sizes, reaches, strict=False)]
    most = {"reflect": -1, "circular": 0, "replicate": 9}[mode]
    allowed = all(max(pair) <= size + most for size, pair in zip(sizes, padding, strict=True))
    conv = Conv(padding=padding, padding_mode=mode)  # type: ignore[arg-type]
    shapes = (1, *sizes, 1), (1,) * (len(sizes) + 2)
    if allowed:
        expected = [size + sum(pair) for size, pair in zip(sizes, padding, strict=True)]
        assert conv.output_shape(*shapes) == (1, *expected, 1)
        assert conv.forward(np.ones(shapes[0]), np.ones(shapes[1])).min() == 1
    else:
        with pytest.raises(ShapeError):
            conv.output_shape(*shapes)
        with pytest.raises(ShapeError):
            conv.forward(np.ones(shapes[0]), np.ones(shapes[1]))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"padding": [[0, 0], [0, 5]], "padding_mode": "reflect"}, ("reflect", 5, 3)),
        ({"padding": [[7, 0], [0, 0]], "padding_mode": "circular"}, ("circular", 7, 4)),
        ({"padding": "same", "dilation": 9, "padding_mode": "reflect"}, ("reflect", 9, 4)),
        ({"padding": "same_lower", "dilation": 9, "padding_mode": "circular"}, ("circular", 9, 4)),
    ],
    ids=str,
)
def test_too_much_padding_is_refused_in_every_call(parameters: dict[str, Any], words: tuple[object, ...]) -> None:
    """The message says how much padding there is, of which mode, and how many elements."""
    conv = Conv(**parameters)
    input, weight = normal(1, 4, 3, 1), normal(3, 3, 1, 1)
    for call in (conv.forward, conv.resolve):
        operands: Any = (input, weight) if call == conv.forward else (input.shape, weight.shape)
        with refused(ShapeError, "input|padding|padding_mode", *words):
            call(*operands)
    with pytest.raises(ConvpoolError):
        conv.backward(normal(1, 4, 3, 1), input, weight)


@pytest.mark.parametrize(
    "value", ["constant", "edge", "wrap", "symmetric", "Reflected", "", None, 1, True, ["reflect", "zeros"]], ids=repr
)
def test_names_of_no_mode_are_refused(value: Any) -> None:
    with refused(ParameterError, "padding_mode", "zeros", "reflect", "replicate", "circular"):
        Conv(padding_mode=value)


def test_predicting_a_huge_padding_costs_nothing() -> None:
    huge = 10**9
    tracemalloc.start()
    shape = Conv(padding=huge, padding_mode="replicate").output_shape((1, 3, 1), (1, 1, 1))
    with refused(ShapeError, "input|padding|padding_mode", huge, 3):
        Conv(padding=huge, padding_mode="circular").output_shape((1, 3, 1), (1, 1, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shape == (1, 2 * huge + 3, 1)
    assert peak < 2**20


@pytest.mark.parametrize("framework", [None, "torch", "onnx", "tensorflow", "jax"])
def test_data_format_of_a_framework(framework: Any) -> None:
    default = "channels_first" if framework in {"torch", "onnx", "jax"} else "channels_last"
    assert Conv(framework=framework).data_format == default
    assert Conv(framework=framework, data_format="channels_first").data_format == "channels_first"
    assert Conv(framework=framework, data_format="channels_last").data_format == "channels_last"
    output_shape = Conv(framework=framework).output_shape((1, 3, 3), (3, 3, 3))
    assert output_shape == ((1, 3, 1) if default == "channels_first" else (1, 1, 3))
