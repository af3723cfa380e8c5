"""The memory that a layer takes beside operands and results stays within what its prediction says."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from cnn_core import AvgPool, Conv, MaxPool, ShapeError
from cnn_core.runtime import workspace
from tests.strategies import thorough_settings

OVERHEAD = 2**18
"""Bytes of iterators, slices, and NumPy's own buffers, which hold 8,192 elements of each of three operands."""

CATALOGUE = {
    "ordinary": (Conv(padding=1), (8, 56, 56, 16), (3, 3, 16, 16)),
    "many images with much padding": (Conv(padding=100_000, stride=50_000), (300, 10, 1), (3, 1, 1)),
    "far apart taps": (Conv(padding=50_000, dilation=100_000), (200, 10, 1), (2, 1, 1)),
    "1x1 to many features": (Conv(), (1, 256, 256, 1), (1, 1, 1, 60)),
    "a large weight": (Conv(), (1, 3, 3, 256), (3, 3, 256, 512)),
    "depthwise": (Conv(padding=1, groups=64), (4, 56, 56, 64), (3, 3, 1, 64)),
    "groups of very many taps": (
        Conv(padding=((0, 39), (0, 39)), stride=(1, 2), groups=2),
        (1, 40, 40, 2),
        (40, 40, 1, 2),
    ),
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
    "max that spans an axis": (MaxPool(kernel_size=(40, 2, 1), stride=(1, 2, 1)), (1, 40, 3, 40, 64), None),
    "overlapping max over three axes": (MaxPool(kernel_size=3, stride=1, padding=1), (1, 16, 18, 20, 4), None),
    "avg long across and padded down": (
        AvgPool(kernel_size=(1, 2000), stride=1, padding=((1999, 0), (0, 0)), count_include_pad=True),
        (1, 1, 2000, 1),
        None,
    ),
    "avg of long padding": (
        AvgPool(kernel_size=2, stride=1, padding=500_000, count_include_pad=True),
        (1, 10, 1),
        None,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def nothing_kept() -> Iterator[None]:
    """What a thread keeps from an earlier call would not be counted again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "MAX_KEPT_BYTES", 0)
        yield


@st.composite
def layers(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Layers over axes of very different sizes, windows, strides and padding, with results of a few megabytes."""
    some_sizes = draw(st.sampled_from([[20_000], [1, 3, 40, 700], [1, 3, 40, 700], [1, 3, 40]]))
    rank = {20_000: 1, 700: 2, 40: 3}[some_sizes[-1]]
    sizes = tuple(draw(st.sampled_from(some_sizes)) for _ in range(rank))
    kernel = tuple(draw(st.sampled_from([1, 2, 30, size])) for size in sizes)
    stride = tuple(draw(st.sampled_from([1, 2, 50])) for _ in range(rank))
    padding = tuple((draw(st.sampled_from([0, taps - 1])), draw(st.sampled_from([0, taps - 1]))) for taps in kernel)
    dilation = tuple(draw(st.sampled_from([1, 3])) if taps < 40 else 1 for taps in kernel)
    batch, channels = draw(st.sampled_from([1, 5])), draw(st.sampled_from([1, 2, 6, 64]))
    data_format = draw(st.sampled_from(["channels_last", "channels_first"]))
    parameters: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    parameters["data_format"] = data_format
    kind = draw(st.sampled_from(["conv", "depthwise", "max", "split", "avg"]))
    weight_shape: tuple[int, ...] = ()
    if kind in {"conv", "depthwise"}:
        groups = channels if kind == "depthwise" else 1
        op: Any = Conv(**parameters, groups=groups)
        weight_shape = (*kernel, channels // groups, draw(st.sampled_from([1, 5])) * channels)
    elif kind == "avg":
        op = AvgPool(**parameters, kernel_size=kernel, count_include_pad=True)
    else:
        op = MaxPool(**parameters, kernel_size=kernel, ties="split" if kind == "split" else "first")
    input_shape = (batch, *sizes, channels)
    if data_format == "channels_first":
        input_shape = (batch, channels, *sizes)
        weight_shape = weight_shape and (weight_shape[-1], weight_shape[-2], *kernel)
    try:
        layer = op.resolve(*(shape for shape in (input_shape, weight_shape) if shape))
    except ShapeError:
        reject()
    assume(math.prod(layer.output_shape) < 2**20)
    assume(math.prod(input_shape) < 2**20)
    assume(layer.multiply_accumulates < 2**27)
    return op, input_shape, weight_shape


def peak(function: Any, *arguments: Any) -> int:
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("op", "input_shape", "weight_shape"), CATALOGUE.values(), ids=CATALOGUE.keys())
def test_memory_stays_within_the_prediction(op: Any, input_shape: Any, weight_shape: Any, dtype: str) -> None:
    require_predicted_memory(op, input_shape, weight_shape, dtype)


@settings(thorough_settings, max_examples=100)
@given(layers(), st.sampled_from(["float16", "float32", "float64"]))
def test_memory_stays_within_the_prediction_in_any_geometry(layer: tuple[Any, Any, Any], dtype: str) -> None:
    require_predicted_memory(*layer, dtype)


def require_predicted_memory(op: Any, input_shape: Any, weight_shape: Any, dtype: str) -> None:
    operands = [np.ones(shape, dtype=dtype) for shape in (input_shape, weight_shape) if shape]
    layer = op.resolve(*(operand.shape for operand in operands))
    output = np.ones(layer.output_shape, dtype=dtype)
    gradients = sum(math.prod(shape) for shape in layer.gradient_shapes.values())
    for function, costs, arguments, results in (
        (op.forward, [layer.costs().forward], operands, output.size),
        (op.backward, layer.costs().backward.values(), [output, *operands], gradients),
    ):
        elements = results + max(cost.workspace_elements for cost in costs)
        if dtype == "float16":  # the operands are converted, and at last the results
            elements += sum(operand.size for operand in arguments) + results
        # float16 is computed in float32
        assert peak(function, *arguments) <= max(4, output.itemsize) * elements + OVERHEAD
