"""The memory that a layer takes beside operands and results stays within what its prediction says."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from cnn_core import AvgPool, Conv, MaxPool

LAYERS = {
    "ordinary": (Conv(padding=1), (8, 56, 56, 16), (3, 3, 16, 16)),
    "many images with much padding": (Conv(padding=100_000, stride=50_000), (300, 10, 1), (3, 1, 1)),
    "far apart taps": (Conv(padding=50_000, dilation=100_000), (200, 10, 1), (2, 1, 1)),
    "1x1 to many features": (Conv(), (1, 256, 256, 1), (1, 1, 1, 60)),
    "a large weight": (Conv(), (1, 3, 3, 256), (3, 3, 256, 512)),
    "depthwise": (Conv(padding=1, groups=64), (4, 56, 56, 64), (3, 3, 1, 64)),
    "depthwise with much padding": (Conv(padding=50_000, stride=25_000, groups=4), (100, 10, 4), (3, 1, 4)),
    "max": (MaxPool(kernel_size=3, stride=2, padding=1), (8, 112, 112, 8), None),
    "max with ties": (MaxPool(kernel_size=2, ties="split"), (8, 64, 64, 8), None),
    "avg": (AvgPool(kernel_size=2), (8, 112, 112, 8), None),
    "avg of long padding": (
        AvgPool(kernel_size=2, stride=1, padding=500_000, count_include_pad=True),
        (1, 10, 1),
        None,
    ),
}


def peak(function: Any, *arguments: Any) -> tuple[int, Any]:
    tracemalloc.start()
    try:
        returned = function(*arguments)
        return tracemalloc.get_traced_memory()[1], returned
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("op", "input_shape", "weight_shape"), LAYERS.values(), ids=LAYERS.keys())
def test_memory_stays_within_the_prediction(op: Any, input_shape: Any, weight_shape: Any) -> None:
    operands = [np.ones(shape, dtype=np.float32) for shape in (input_shape, weight_shape) if shape]
    layer = op.layer(*(operand.shape for operand in operands))
    allowed = 4 * layer.workspace_elements
    forward, output = peak(op.forward, *operands)
    assert forward <= output.nbytes + allowed
    results = sum(int(np.prod(shape)) for shape in layer.gradient_shapes.values()) * 4
    backward, _ = peak(op.backward, np.ones(output.shape, dtype=np.float32), *operands)
    assert backward <= results + allowed
