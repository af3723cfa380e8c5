"""The oracle of the highlights against cnn_core: sums over its windows are the layer's output."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.operations.catalogue import CATALOGUE
from tests.browser.playground.layers import KINDS, Example, examples
from tests.browser.playground.oracle import Reach, windows_of
from tests.oracle.adaptive import winners


def value(example: Example, output: int, terms: list[Reach], shape: tuple[int, ...]) -> float:
    """The output cell from its terms."""
    input = example.tensors["input"].reshape(-1).astype(float)
    under = [float(input[term.input]) for term in terms if term.input is not None]
    mode = example.parameters.get("mode")
    if example.op in {"conv", "conv_transpose", "conv_integer"}:
        weight = example.tensors["weight"].reshape(-1).astype(float)
        shifts = [float(example.tensors.get(f"{name}_zero_point", np.array(0.0))) for name in ("input", "weight")]
        products = [
            (float(input[term.input]) - shifts[0]) * (float(weight[term.weight]) - shifts[1])
            for term in terms
            if term.input is not None and term.weight is not None
        ]
        feature = np.unravel_index(output, shape)[1 if example.first else -1]
        return math.fsum(products) + (float(example.tensors["bias"][feature]) if "bias" in example.tensors else 0.0)
    if mode == "max":
        return under[winners(under, "first")[0]]
    if mode == "lp":
        return math.fsum(abs(each) ** example.parameters["norm_type"] for each in under)
    return math.fsum(under)


def one_of_average(example: Example) -> Example:
    """Averages and norms as sums, which are exact; an adaptive average has its own divisor."""
    if example.parameters.get("mode") == "avg" and "output_size" not in example.parameters:
        return Example(example.op, example.parameters | {"divisor_override": 1}, example.tensors)
    return example


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "qlinear_conv"])
def test_sums_over_the_windows_are_the_output_of_cnn_core(kind: str) -> None:
    for drawn in examples(25, [kind], seed=16):
        example = one_of_average(drawn)
        output = example.computed()["output"]
        windows = windows_of(example.op, example.parameters, example.operands)
        assert windows.output_shape == output.shape
        assert sorted(windows.terms) == list(range(output.size))
        for index, terms in windows.terms.items():
            expected, got = value(example, index, terms, output.shape), float(output.reshape(-1)[index])
            if example.parameters.get("mode") == "lp":
                assert got ** example.parameters["norm_type"] == pytest.approx(expected, abs=1e-9)
            elif kind == "adaptive_pool" and example.parameters["mode"] == "avg":
                assert got == pytest.approx(expected / len(terms), abs=1e-12)
            else:
                assert got == expected, (example.parameters, index)


def test_every_layer_of_the_catalogue_is_drawn() -> None:
    drawn = {example.op for example in examples(len(KINDS), list(KINDS), seed=1)}
    assert drawn == {layer.name for layer in CATALOGUE}


def test_the_terms_name_padding_and_what_it_repeats() -> None:
    input, weight = np.zeros((1, 3, 1)), np.zeros((3, 1, 1))
    shapes = {"input": input, "weight": weight}
    zeros = windows_of("conv", {"padding": 1}, shapes)
    assert zeros.terms[0] == [Reach((-1,), 0, None, 0), Reach((0,), 0, 0, 1), Reach((1,), 0, 1, 2)]
    circular = windows_of("conv", {"padding": 1, "padding_mode": "circular"}, shapes)
    assert circular.terms[0][0] == Reach((-1,), 0, 2, 0)
    assert circular.fan_out() == {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}}
    assert zeros.fan_out() == {0: {0, 1}, 1: {0, 1, 2}, 2: {1, 2}}
    assert zeros.uses()[0] == {(1, 0), (2, 1)}
