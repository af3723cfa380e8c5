"""The window of an element: summing over the taps and places that are named gives the element."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import AvgPool, Conv, ConvTranspose
from service.diagnosis.layer import Layer
from service.diagnosis.windows import window_of
from service.operations.catalogue import CATALOGUE
from tests.oracle import conv_transpose as transposed_loops
from tests.oracle import loops
from tests.strategies import quick_settings

ENTRIES = {entry.name: entry for entry in CATALOGUE}


def layer_of(op: Any, **tensors: Any) -> Layer:
    name = {"Conv": "conv", "ConvTranspose": "conv_transpose", "AvgPool": "pool"}[type(op).__name__]
    return Layer(ENTRIES[name], op, tensors)


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, Any], Any, Any]:
    sizes, kernel = draw(st.tuples(*[st.integers(3, 6)] * 2)), draw(st.tuples(*[st.integers(1, 3)] * 2))
    parameters = {
        "stride": draw(st.tuples(*[st.integers(1, 3)] * 2)),
        "dilation": draw(st.tuples(*[st.integers(1, 2)] * 2)),
        "padding": draw(st.tuples(*[st.tuples(st.integers(2, 3), st.integers(0, 2))] * 2)),
    }
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return parameters, random.standard_normal((1, *sizes, 2)), random.standard_normal((*kernel, 2, 3))


@quick_settings
@given(layers())
def test_an_output_is_the_sum_over_its_window(drawn: Any) -> None:
    parameters, input, weight = drawn
    output = loops.conv_forward(input, weight, **parameters)
    layer = layer_of(Conv(**parameters), input=input, weight=weight)
    for y, x, f in np.ndindex(output.shape[1:]):
        window = window_of(layer, "output", (0, y, x, f))
        assert window is not None
        pairs = [list(zip(axis["taps"], axis["input"], strict=True)) for axis in window["axes"]]
        total = sum(weight[k, m, :, f] @ input[0, i, j] for (k, i), (m, j) in itertools.product(*pairs))
        assert total == pytest.approx(output[0, y, x, f])
        for axis, size in zip(window["axes"], weight.shape, strict=False):
            assert sorted([*axis["taps"], *axis["padding"]]) == list(range(size))


@quick_settings
@given(layers())
def test_a_gradient_of_the_input_is_the_sum_over_its_windows(drawn: Any) -> None:
    parameters, input, weight = drawn
    gradient = np.random.default_rng(1).standard_normal(loops.conv_forward(input, weight, **parameters).shape)
    expected, expected_weight, _ = loops.conv_backward(gradient, input, weight, **parameters)
    layer = layer_of(Conv(**parameters), input=input, weight=weight, grad_output=gradient)
    for y, x, c in np.ndindex(input.shape[1:]):
        window = window_of(layer, "grad_input", (0, y, x, c))
        assert window is not None
        pairs = [list(zip(axis["taps"], axis["windows"], strict=True)) for axis in window["axes"]]
        total = sum(weight[k, m, c] @ gradient[0, i, j] for (k, i), (m, j) in itertools.product(*pairs))
        assert total == pytest.approx(expected[0, y, x, c])
    for k, m in np.ndindex(weight.shape[:2]):
        window = window_of(layer, "grad_weight", (k, m, 0, 0))
        assert window is not None
        steps = []
        for axis, stride in zip(window["axes"], parameters["stride"], strict=True):
            windows = range(axis["windows"][0], axis["windows"][1] + 1) if axis["windows"] else range(0)
            places = range(axis["input"][0], axis["input"][1] + 1, stride) if axis["input"] else range(0)
            steps.append(list(zip(windows, places, strict=True)))
        total = sum(gradient[0, i, j, 0] * input[0, p, q, 0] for (i, p), (j, q) in itertools.product(*steps))
        assert total == pytest.approx(expected_weight[k, m, 0, 0])


@quick_settings
@given(st.integers(1, 3), st.integers(0, 1), st.integers(0, 99))
def test_an_output_of_a_transposed_convolution(stride: int, padding: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    input, weight = random.standard_normal((1, 4, 3, 2)), random.standard_normal((3, 2, 4, 2))
    output = transposed_loops.conv_transpose_forward(input, weight, stride=stride, padding=padding)
    layer = layer_of(ConvTranspose(stride=stride, padding=padding), input=input, weight=weight)
    for y, x, c in np.ndindex(output.shape[1:]):
        window = window_of(layer, "output", (0, y, x, c))
        assert window is not None
        pairs = [list(zip(axis["taps"], axis["windows"], strict=True)) for axis in window["axes"]]
        total = sum(weight[k, m, c] @ input[0, i, j] for (k, i), (m, j) in itertools.product(*pairs))
        assert total == pytest.approx(output[0, y, x, c])


@pytest.mark.parametrize("output_size", [1, 2, 3, 5, 7])
def test_windows_of_adaptive_pooling(output_size: int) -> None:
    input = np.random.default_rng(0).standard_normal((1, 5, 1))
    layer = layer_of(AvgPool(output_size=output_size), input=input)
    for window in range(output_size):
        first, last = window * 5 // output_size, -(-(window + 1) * 5 // output_size)
        found = window_of(layer, "output", (0, window, 0))
        assert found == {
            "axes": [{"taps": list(range(last - first)), "input": list(range(first, last)), "padding": []}]
        }
    for element in range(5):
        found = window_of(layer, "grad_input", (0, element, 0))
        having = [i for i in range(output_size) if i * 5 // output_size <= element < -(-(i + 1) * 5 // output_size)]
        assert found == {"axes": [{"windows": having}]}
