"""Convolution against the loop oracle, and the identities that need no oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import Conv, ParameterError
from tests.comparisons import assert_close, inner, normal
from tests.oracle import loops
from tests.oracle.windows import AnyArray, Array
from tests.strategies import ConvCase, conv_cases, quick_settings, thorough_settings

seeds = st.integers(0, 2**32 - 1)


# ------------------------------------------------------------------------------------------------- against the oracle


@quick_settings
@given(conv_cases(), st.integers(0, 2**20))
def test_not_a_number_in_the_gradient_reaches_only_its_own_window(case: ConvCase, place: int) -> None:
    grad_output = case.grad_output.copy()
    if grad_output.size:
        grad_output.reshape(-1)[place % grad_output.size] = np.nan
    gradients = Conv(**case.parameters).backward(grad_output, case.input, case.weight, wrt=("input", "bias"))
    expected = loops.conv_backward(grad_output, case.input, case.weight, **case.parameters)
    assert_close(gradients.grad_input, expected.grad_input)
    assert_close(gradients.grad_bias, expected.grad_bias)


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "parameters"),
    [
        ((2, 40, 37, 6), (5, 3, 3, 8), {"groups": 2, "stride": [2, 3], "padding": [[2, 1], [0, 3]]}),
        ((1, 33, 35, 12), (3, 3, 1, 24), {"groups": 12, "padding": "same"}),
        ((2, 20, 20, 16), (1, 1, 16, 9), {}),
        ((1, 300, 5), (25, 5, 7), {"dilation": 4, "padding": 30}),
        ((1, 9, 10, 11, 4), (3, 2, 3, 4, 5), {"padding": 1, "stride": [1, 2, 1]}),
        ((9, 12, 12, 3), (12, 12, 3, 2), {}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(
    input_shape: tuple[int, ...], weight_shape: tuple[int, ...], parameters: dict[str, Any]
) -> None:
    """A blocked or otherwise clever algorithm may only start at such sizes, where the loops would take long."""
    input, weight = normal(*input_shape), normal(*weight_shape, seed=1)
    conv = Conv(**parameters)
    output = conv.forward(input, weight)
    grad_output = normal(*output.shape, seed=2)
    gradients = conv.backward(grad_output, input, weight)
    assert inner(output, grad_output) == pytest.approx(inner(input, gradients.grad_input), rel=1e-9)
    assert inner(output, grad_output) == pytest.approx(inner(weight, gradients.grad_weight), rel=1e-9)
    assert_close(gradients.grad_bias, grad_output.reshape(-1, grad_output.shape[-1]).sum(axis=0), 1e-10)
    for position, value in some_outputs_of_the_first_image(input, weight, parameters).items():
        assert output[position] == pytest.approx(value, rel=1e-10, abs=1e-10)


def some_outputs_of_the_first_image(
    input: Array, weight: Array, parameters: dict[str, Any]
) -> dict[tuple[int, ...], float]:
    """Elements of the output at random positions, computed from their definition."""
    windows = loops.conv_geometry(
        input,
        weight,
        stride=parameters.get("stride", 1),
        padding=parameters.get("padding", 0),
        dilation=parameters.get("dilation", 1),
        groups=parameters.get("groups", 1),
    )
    random = np.random.default_rng(3)
    channels_per_group, filters = weight.shape[-2:]
    values: dict[tuple[int, ...], float] = {}
    for _ in range(40):
        position = tuple(int(random.integers(size)) for size in windows.output)
        feature = int(random.integers(filters))
        first_channel = feature // (filters // parameters.get("groups", 1)) * channels_per_group
        total = 0.0
        for tap in windows.taps():
            at = windows.coordinates(position, tap)
            if windows.inside(at):
                for channel in range(channels_per_group):
                    total += float(input[(0, *at, first_channel + channel)]) * float(weight[(*tap, channel, feature)])
        values[0, *position, feature] = total
    return values


# --------------------------------------------------------------------------------------------------------- identities


@thorough_settings
@given(conv_cases())
def test_backward_is_the_adjoint_of_forward(case: ConvCase) -> None:
    """<conv(x, w), g> = <x, grad_input> = <w, grad_weight>, without a bias."""
    conv = Conv(**case.parameters)
    product = inner(conv.forward(case.input, case.weight), case.grad_output)
    gradients = conv.backward(case.grad_output, case.input, case.weight)
    assert inner(case.input, gradients.grad_input) == pytest.approx(product, rel=1e-10, abs=1e-10)
    assert inner(case.weight, gradients.grad_weight) == pytest.approx(product, rel=1e-10, abs=1e-10)


@quick_settings
@given(conv_cases(), seeds)
def test_gradients_agree_with_central_differences(case: ConvCase, seed: int) -> None:
    conv = Conv(**case.parameters)
    random = np.random.default_rng(seed)
    gradients = conv.backward(case.grad_output, case.input, case.weight, case.bias)
    step = 1e-3

    def loss(input: AnyArray, weight: AnyArray, bias: AnyArray | None) -> float:
        return inner(conv.forward(input, weight, bias), case.grad_output)

    toward = random.standard_normal(case.input.shape) * step
    slope = loss(case.input + toward, case.weight, case.bias) - loss(case.input - toward, case.weight, case.bias)
    assert slope / 2 == pytest.approx(inner(toward, gradients.grad_input), rel=1e-7, abs=1e-9)
    toward = random.standard_normal(case.weight.shape) * step
    slope = loss(case.input, case.weight + toward, case.bias) - loss(case.input, case.weight - toward, case.bias)
    assert slope / 2 == pytest.approx(inner(toward, gradients.grad_weight), rel=1e-7, abs=1e-9)
    if case.bias is not None:
        toward = random.standard_normal(case.bias.shape) * step
        slope = loss(case.input, case.weight, case.bias + toward) - loss(case.input, case.weight, case.bias - toward)
        assert slope / 2 == pytest.approx(inner(toward, gradients.grad_bias), rel=1e-7, abs=1e-9)


def test_the_kernel_is_not_flipped() -> None:
    input = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    weight = np.array([10.0, 1.0]).reshape(2, 1, 1)
    assert Conv().forward(input, weight).reshape(-1).tolist() == [12.0, 23.0]


def test_group_of_an_output_channel() -> None:
    """Output channel f reads the channels of group f // (F/G)."""
    input = np.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 4)
    weight = np.ones((1, 2, 6))
    assert Conv(groups=2).forward(input, weight).reshape(-1).tolist() == [11.0] * 3 + [1100.0] * 3
    input, weight = np.moveaxis(input, -1, 1), np.moveaxis(weight, (-1, -2), (0, 1))
    output = Conv(groups=2, data_format="channels_first").forward(input, weight)
    assert output.shape == (1, 6, 1)
    assert output.reshape(-1).tolist() == [11.0] * 3 + [1100.0] * 3


def test_the_tail_that_no_window_reached_has_no_gradient() -> None:
    """Rule 6: with stride 2, a kernel of 3 over 6 elements never sees the last one."""
    gradients = Conv(stride=2).backward(np.ones((1, 2, 1)), np.ones((1, 6, 1)), np.ones((3, 1, 1)))
    assert gradients.grad_input is not None
    assert gradients.grad_input.reshape(-1).tolist() == [1.0, 1.0, 2.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(("padding", "expected"), [("same", [3.0, 5.0, 3.0]), ("same_lower", [1.0, 3.0, 5.0])])
def test_the_odd_element_of_same_padding(padding: Any, expected: list[float]) -> None:
    input = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    assert Conv(padding=padding).forward(input, np.ones((2, 1, 1))).reshape(-1).tolist() == expected


@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_same_never_crops(padding: Any) -> None:
    """The total of rule 3 would be negative for a kernel shorter than the stride."""
    input = np.arange(6.0).reshape(1, 6, 1)
    assert Conv(stride=3, padding=padding).forward(input, np.ones((1, 1, 1))).reshape(-1).tolist() == [0.0, 3.0]


def test_padding_of_an_empty_side_loses_nothing() -> None:
    """The notebook sliced the padding off with 0:-0."""
    grad_output, weight = np.ones((1, 2, 2, 1)), np.ones((2, 2, 1, 1))
    gradients = Conv(padding=((0, 0), (0, 1))).backward(grad_output, np.ones((1, 3, 2, 1)), weight)
    assert gradients.grad_input is not None
    assert gradients.grad_input[0, :, :, 0].tolist() == [[1.0, 2.0], [2.0, 4.0], [1.0, 2.0]]


# --------------------------------------------------------------------------------------------------------- wrt and bias


@quick_settings
@given(conv_cases(), st.sets(st.sampled_from(["input", "weight", "bias"]), min_size=1), st.booleans())
def test_wrt_limits_the_gradients(case: ConvCase, wanted: set[str], as_list: bool) -> None:
    conv = Conv(**case.parameters)
    wrt: Any = sorted(wanted) if as_list else tuple(sorted(wanted, reverse=True))
    everything = conv.backward(case.grad_output, case.input, case.weight, case.bias)
    gradients = conv.backward(case.grad_output, case.input, case.weight, case.bias, wrt=wrt)
    for name in ("input", "weight", "bias"):
        gradient = getattr(gradients, f"grad_{name}")
        if name in wanted:
            assert_close(gradient, getattr(everything, f"grad_{name}"), 1e-13)
        else:
            assert gradient is None


@pytest.mark.parametrize(
    "wrt", [("weights",), ["input", "output"], "inputs", ("grad_input",), (1,), None, 3, [["input"]]]
)
def test_wrt_names_operands_only(wrt: Any) -> None:
    with pytest.raises(ParameterError):
        Conv().backward(normal(1, 2, 2, 1), normal(1, 3, 3, 1), normal(2, 2, 1, 1), wrt=wrt)


@pytest.mark.parametrize("bias_shape", [(4,), (1, 1, 1, 4)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_grad_bias_has_the_shape_of_the_bias(bias_shape: tuple[int, ...], data_format: Any) -> None:
    conv = Conv(data_format=data_format)
    input, weight = normal(2, 3, 3, 3), normal(1, 1, 3, 4)
    if data_format == "channels_first":
        weight = normal(4, 3, 1, 1)
    bias = normal(*bias_shape)
    output = conv.forward(input, weight, bias)
    plain = conv.forward(input, weight)
    ones = np.ones(output.shape)
    gradients = conv.backward(ones, input, weight, bias)
    assert_close(gradients.grad_bias, np.full(bias_shape, 18.0))
    along = (1, -1, 1, 1) if data_format == "channels_first" else (1, 1, 1, -1)
    assert_close(output - plain, np.broadcast_to(bias.reshape(along), output.shape))


def test_grad_bias_without_a_bias() -> None:
    gradients = Conv().backward(np.ones((2, 3, 3, 4)), normal(2, 3, 3, 5), normal(1, 1, 5, 4))
    assert_close(gradients.grad_bias, np.full(4, 18.0))
