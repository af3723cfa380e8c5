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
    "depthwise with a multiplier": (Conv(padding=1, groups=32), (4, 28, 28, 32), (3, 3, 1, 256)),
    "groups of two": (Conv(padding=1, groups=32), (2, 28, 28, 64), (3, 3, 2, 64)),
    "a long kernel": (Conv(), (1, 20_000, 1), (1001, 1, 1)),
    "a large kernel": (Conv(), (1, 100, 100, 2), (60, 60, 2, 2)),
    "a very large weight": (Conv(padding=1), (2, 7, 7, 512), (3, 3, 512, 512)),
    "channels first": (Conv(padding=1, data_format="channels_first"), (4, 16, 28, 28), (16, 16, 3, 3)),
    "three axes": (Conv(padding=1), (1, 12, 14, 16, 8), (3, 3, 3, 8, 8)),
    "global max": (MaxPool(kernel_size=50), (4, 50, 50, 16), None),
    "global avg": (AvgPool(kernel_size=50), (4, 50, 50, 16), None),
    "overlapping max over three axes": (MaxPool(kernel_size=3, stride=1, padding=1), (1, 16, 18, 20, 4), None),
    "avg of long padding": (
        AvgPool(kernel_size=2, stride=1, padding=500_000, count_include_pad=True),
        (1, 10, 1),
        None,
    ),
}


def peak(function: Any, *arguments: Any) -> int:
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("op", "input_shape", "weight_shape"), LAYERS.values(), ids=LAYERS.keys())
def test_memory_stays_within_the_prediction(op: Any, input_shape: Any, weight_shape: Any, dtype: str) -> None:
    operands = [np.ones(shape, dtype=dtype) for shape in (input_shape, weight_shape) if shape]
    layer = op.layer(*(operand.shape for operand in operands))
    output = np.ones(layer.output_shape, dtype=dtype)
    itemsize = max(4, output.itemsize)  # float16 is computed in float32
    gradients = sum(int(np.prod(shape)) for shape in layer.gradient_shapes.values())
    for function, cost, arguments, results in (
        (op.forward, layer.forward, operands, output.size),
        (op.backward, layer.backward, [output, *operands], gradients),
    ):
        elements = results + cost.workspace_elements
        if dtype == "float16":  # the operands are converted, and at last the results
            elements += sum(operand.size for operand in arguments) + results
        # beside the elements there are iterators, slices, and the buffers in which NumPy converts
        assert peak(function, *arguments) <= itemsize * elements + 2**17
