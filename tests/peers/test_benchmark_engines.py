"""The engines of `make bench` compute the same from the same operands: otherwise its ratios mean nothing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.engines import convpool
from benchmarks.suite import Layer

BOUND = 1e-5  # of the largest value, in float32
LAYERS = (
    Layer("conv", "conv", (2, 9, 8, 6), (3, 2), features=4, stride=2, padding=1, groups=2),
    Layer("1-D conv", "conv", (2, 20, 3), (5,), features=4, dilation=2),
    Layer("max", "max", (2, 9, 8, 6), (3, 3), stride=2, padding=1),
    Layer("1-D max", "max", (2, 20, 3), (2,), stride=2),
    Layer("avg", "avg", (2, 9, 8, 6), (3, 3), stride=2, padding=1),
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


def assert_same(actual: Any, expected: Any, *, channels_first: bool, is_weight: bool = False) -> None:
    array = np.asarray(actual.detach() if hasattr(actual, "detach") else actual)
    if channels_first and array.ndim > 1:
        array = np.moveaxis(array, (0, 1), (-1, -2)) if is_weight else np.moveaxis(array, 1, -1)
    np.testing.assert_allclose(array, expected, rtol=0, atol=BOUND * np.abs(expected).max())


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("name", ["pytorch", "onnx_runtime", "jax"])
def test_an_engine_agrees_with_convpool(name: str, layer: Layer) -> None:
    operands = layer.operands()
    (ours,) = convpool.build(layer, operands)
    output, gradients = ours.forward(), ours.backward()
    computations = importlib.import_module(f"benchmarks.engines.{name}").build(layer, operands)
    assert computations
    for each in computations:
        first = name != "jax"
        assert_same(each.forward(), output, channels_first=first)
        for backward in filter(None, (each.backward, each.backward_alone)):
            for number, (theirs, expected) in enumerate(zip(backward(), gradients, strict=True)):
                assert_same(theirs, expected, channels_first=first, is_weight=number == 1)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_only_pytorch_pools_know_a_backward_alone(layer: Layer) -> None:
    for name in ("pytorch", "onnx_runtime", "jax", "convpool"):
        for each in importlib.import_module(f"benchmarks.engines.{name}").build(layer, layer.operands()):
            assert (each.backward_alone is not None) is (name == "pytorch" and layer.kind != "conv")


def test_pytorch_computes_forward_again_for_each_backward_of_a_pool() -> None:
    """What counts begins from the operands: with another input it gives another gradient."""
    layer = LAYERS[2]
    operands = layer.operands()
    _, computation = importlib.import_module("benchmarks.engines.pytorch").build(layer, operands)
    assert computation.name == "NHWC"  # which takes the operands as they are in memory

    def gradients() -> list[Any]:
        return [function()[0].numpy().copy() for function in (computation.backward, computation.backward_alone)]

    before, before_alone = gradients()
    operands["input"] *= -1
    after, after_alone = gradients()
    assert np.array_equal(before_alone, after_alone)
    assert not np.array_equal(before, after)
