"""The loops of the notebook that this project comes from, as its tests transcribe them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines.computation import Computation
from benchmarks.suite import Layer
from tests.cnn_core.ops.test_notebook import convolve_backward, convolve_forward, pooling_backward, pooling_forward


def version() -> str:
    return f"NumPy {np.__version__}"


def build(layer: Layer, operands: dict[str, Any]) -> list[Computation]:
    """Return one computation: two spatial axes, square windows, and no padding of a pooling layer."""
    size, *_ = layer.kernel
    input, gradient = operands["input"], operands["grad_output"]
    if layer.kind == "conv":
        weight, bias = operands["weight"], operands["bias"].reshape(1, 1, 1, -1)
        return [
            Computation(
                "channels last",
                lambda: convolve_forward(input, weight, bias, layer.stride, layer.padding),
                lambda: convolve_backward(gradient, input, weight, bias, stride=layer.stride, pad=layer.padding),
            )
        ]
    return [
        Computation(
            "channels last",
            lambda: pooling_forward(input, size, layer.stride),
            lambda: (pooling_backward(gradient, input, size, layer.stride),),
        )
    ]
