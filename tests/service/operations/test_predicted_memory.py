"""The memory that a call takes stays within what the service predicts from shapes and types, for every operation."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from cnn_core import ConvpoolError, get_threads
from cnn_core.runtime import workspace
from cnn_core.runtime.packing import touch_packing_buffers
from service.operations.catalogue import OPERATIONS
from service.operations.operation import Operation
from tests.strategies import thorough_settings

OVERHEAD = 2**18
"""Bytes of iterators, slices, and NumPy's own buffers, which hold 8,192 elements of each of three operands."""

OPERATIONS_BY_NAME = {operation.name: operation for operation in OPERATIONS}


@pytest.fixture(scope="module", autouse=True)
def nothing_kept() -> Iterator[None]:
    """What a thread keeps from an earlier call would not be counted again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "MAX_KEPT_BYTES", 0)
        touch_packing_buffers(get_threads())  # once in a process, whichever layer is its first large one
        yield


Shape = tuple[int, ...]
Operands = dict[str, tuple[Shape, str]]
"""Shape and type of each operand of forward; the type "" stands for the floating type of the test."""
ResolvedOp = tuple[str, dict[str, Any], Operands]


def images(*shape: int, dtype: str = "") -> Operands:
    return {"input": (shape, dtype)}


def weighted(input_shape: Shape, weight_shape: Shape, *bias: int) -> Operands:
    return {"input": (input_shape, ""), "weight": (weight_shape, "")} | ({"bias": (bias, "")} if bias else {})


def quantized(input_shape: Shape, weight_shape: Shape, features: int, dtype: str = "uint8") -> Operands:
    """The operands of a QLinearConv with a scale and a zero point for each output channel."""
    return {
        "input": (input_shape, dtype),
        "input_scale": ((), "float32"),
        "input_zero_point": ((), dtype),
        "weight": (weight_shape, "int8"),
        "weight_scale": ((features,), "float32"),
        "weight_zero_point": ((features,), "int8"),
        "output_scale": ((), "float32"),
        "output_zero_point": ((), "int8"),
        "bias": ((features,), "int32"),
    }


def of_integers(operands: Operands) -> Operands:
    """The operands of a ConvInteger among those of a QLinearConv."""
    names = ("input", "weight", "input_zero_point", "weight_zero_point")
    return {name: operands[name] for name in names}


def indexed(shape: Shape, dtype: str = "int64") -> Operands:
    return {"input": (shape, ""), "indices": (shape, dtype)}


FIRST = {"data_format": "channels_first"}
INDICES = {"mode": "max", "return_indices": True}
COLUMNS = {"index_scheme": "tensor", "storage_order": "column_major"}
SMALL_AXES = [[0, 0], [39, 0], [0, 5000]]
QUANTIZED = quantized((4, 40, 40, 16), (3, 3, 16, 32), 32)
QUANTIZED_FIRST = quantized((4, 32, 40, 40), (64, 1, 5, 5), 64, "int8")
QUANTIZED_LONG = quantized((1, 20_000, 2), (5000, 2, 6), 6)

OF_ALGORITHMS: dict[str, tuple[str, Operands]] = {
    "conv": ("winograd", weighted((2, 40, 40, 32), (3, 3, 32, 48), 48)),
    "conv of many channels": ("winograd", weighted((1, 14, 14, 256), (3, 3, 256, 256))),
    "conv of few channels": ("winograd", weighted((4, 60, 60, 3), (3, 3, 3, 5), 5)),
    "conv volume": ("winograd", weighted((1, 6, 20, 20, 16), (3, 3, 3, 16, 16))),
    "conv_transpose": ("winograd", weighted((2, 40, 40, 48), (3, 3, 32, 48), 32)),
    "conv of a long window": ("fft", weighted((4, 6000, 2), (400, 2, 3), 3)),
    "conv of a large window": ("fft", weighted((2, 90, 80, 1), (20, 21, 1, 4))),
    "conv_transpose of a long window": ("fft", weighted((2, 5000, 3), (400, 2, 3))),
}
"""Layers that an algorithm applies to; all of them are worth it to algorithm=fastest, but those of few channels."""

CATALOGUE: dict[str, ResolvedOp] = {
    **{
        f"{layer}, {algorithm}": (layer.split(" ")[0], {"algorithm": algorithm}, operands)
        for layer, (own, operands) in OF_ALGORITHMS.items()
        for algorithm in (own, "fastest")
    },
    "transposed": ("conv_transpose", {"stride": 2, "padding": 1}, weighted((4, 28, 28, 16), (4, 4, 8, 16), 8)),
    "transposed first": ("conv_transpose", {"stride": 2, **FIRST}, weighted((4, 16, 28, 28), (16, 8, 3, 3), 8)),
    "transposed depthwise": ("conv_transpose", {"stride": 2, "groups": 64}, weighted((2, 28, 28, 64), (3, 3, 1, 64))),
    "transposed far apart": ("conv_transpose", {"stride": 1000}, weighted((2, 500, 2), (3, 1, 2))),
    "transposed of a long kernel": ("conv_transpose", {}, weighted((2, 50, 2), (20_000, 3, 2))),
    "transposed of many channels": ("conv_transpose", {"stride": 2}, weighted((1, 4, 4, 1000), (2, 2, 1000, 1000))),
    "transposed, much cut off": ("conv_transpose", {"stride": 9, "padding": 5000}, weighted((50, 1200, 1), (7, 1, 1))),
    "transposed volume": ("conv_transpose", {"stride": (1, 1, 90)}, weighted((1, 9, 7, 3, 6), (40, 3, 30, 6, 6))),
    "reflect": ("conv", {"padding": 1, "padding_mode": "reflect"}, weighted((4, 56, 56, 16), (3, 3, 16, 16))),
    "circular": ("conv", {"padding": 30, "padding_mode": "circular"}, weighted((2, 30, 30, 16), (3, 3, 16, 4))),
    "replicate": ("conv", {"padding": 40_000, "padding_mode": "replicate"}, weighted((2, 4, 3), (3, 3, 2))),
    "replicate first": (
        "conv",
        {"padding": 300, "padding_mode": "replicate", **FIRST},
        weighted((3, 2, 4, 4), (2,) * 4),
    ),
    "replicate on some axes": (
        "conv",
        {"padding": SMALL_AXES, "stride": (1, 1, 1000), "groups": 2, "padding_mode": "replicate"},
        weighted((1, 1, 40, 3, 6), (1, 40, 3, 3, 30)),
    ),
    "lp": ("pool", {"mode": "lp", "kernel_size": 3, "stride": 2, "padding": 1}, images(8, 112, 112, 8)),
    "lp of one element": ("pool", {"mode": "lp", "kernel_size": 1, "norm_type": 3}, images(8, 60, 60, 64)),
    "lp of overlapping windows": (
        "pool",
        {"mode": "lp", "kernel_size": 3, "stride": 1, "padding": 1, "norm_type": 2.5, **FIRST},
        images(2, 4, 16, 18, 20),
    ),
    "lp over everything": ("pool", {"mode": "lp", "output_size": 1, "norm_type": 1}, images(4, 50, 50, 16)),
    "lp to more windows": ("pool", {"mode": "lp", "output_size": 100}, images(4, 40, 1, 64)),
    "adaptive max": ("pool", {"mode": "max", "output_size": 7}, images(4, 30, 30, 64)),
    "adaptive max to far more": ("pool", {"mode": "max", "output_size": 20_000, **FIRST}, images(2, 16, 9)),
    "adaptive max to far fewer": ("pool", {"mode": "max", "output_size": 3, "ties": "split"}, images(2, 20_000, 16)),
    "adaptive avg": ("pool", {"mode": "avg", "output_size": (7, 9), **FIRST}, images(4, 64, 30, 30)),
    "adaptive avg to far more": ("pool", {"mode": "avg", "output_size": (500, 700)}, images(1, 9, 11, 2)),
    "adaptive avg of channels": ("pool", {"mode": "avg", "output_size": (2, 3, 1)}, images(1, 9, 10, 7, 1000)),
    "indices": ("pool", {**INDICES, "kernel_size": 2}, images(8, 64, 64, 8)),
    "indices of one element": ("pool", {**INDICES, "kernel_size": 1, **FIRST}, images(8, 64, 40, 40)),
    "indices by column": ("pool", {**INDICES, **COLUMNS, "kernel_size": 3, "stride": 1}, images(2, 20, 22, 24, 8)),
    "indices in an image": ("pool", {**INDICES, "index_scheme": "image", "output_size": 50}, images(2, 60, 60, 16)),
    "indices of long windows": ("pool", {**INDICES, "kernel_size": 9000, "stride": 9000}, images(4, 20_000, 6)),
    "unpool": ("unpool", {"kernel_size": 2}, indexed((8, 32, 32, 16))),
    "unpool first": ("unpool", {"kernel_size": 3, "stride": 1, **COLUMNS, **FIRST}, indexed((2, 64, 40, 40), "int32")),
    "unpool to far more": ("unpool", {"output_size": 400_000}, indexed((2, 10, 3), "float64")),
    "unpool to one": ("unpool", {"output_size": 1}, indexed((2, 40, 40, 40, 3), "uint8")),
    "unpool of a whole tensor": (
        "unpool",
        {"kernel_size": 2, "framework": "onnx"},
        indexed((64, 1000, 2, 2), "uint64"),
    ),
    "unfold": ("unfold", {"kernel_size": 3, "padding": 1}, images(4, 28, 28, 16)),
    "unfold first": ("unfold", {"kernel_size": 3, "padding": 1, **FIRST}, images(4, 16, 28, 28)),
    "unfold much padding": ("unfold", {"kernel_size": 9, "padding": 90_000, "stride": 3000}, images(4, 100, 1)),
    "unfold in one window": ("unfold", {"kernel_size": (20, 30, 40)}, images(2, 20, 30, 40, 6)),
    "fold": ("fold", {"kernel_size": 3, "padding": 1, "output_size": [28, 28]}, images(4, 784, 144)),
    "fold first": ("fold", {"kernel_size": 3, "output_size": [28, 28], **FIRST}, images(4, 144, 676)),
    "fold of one element": ("fold", {"kernel_size": 1, "stride": 9, "output_size": [90_000]}, images(4, 10_000, 2)),
    "integers": ("conv_integer", {"padding": 1}, of_integers(QUANTIZED)),
    "integers first": ("conv_integer", {"groups": 32, **FIRST}, of_integers(QUANTIZED_FIRST)),
    "integers of a long kernel": ("conv_integer", {"padding": 2500}, of_integers(QUANTIZED_LONG)),
    "quantized": ("qlinear_conv", {"padding": 1}, QUANTIZED),
    "quantized first": ("qlinear_conv", {"groups": 32, **FIRST}, QUANTIZED_FIRST),
    "quantized of a long kernel": ("qlinear_conv", {"stride": 7}, QUANTIZED_LONG),
}


def in_layout(data_format: str, batch: int, sizes: Shape, channels: int) -> Shape:
    return (batch, *sizes, channels) if data_format == "channels_last" else (batch, channels, *sizes)


@st.composite
def layers(draw: st.DrawFn) -> ResolvedOp:
    """Layers over axes of very different sizes, windows, strides and padding, with results of a few megabytes."""

    def choose(*options: Any) -> Any:
        return draw(st.sampled_from(options))

    some_sizes = choose([20_000], [1, 3, 40, 700], [1, 3, 40, 700], [1, 3, 40])
    rank = {20_000: 1, 700: 2, 40: 3}[some_sizes[-1]]
    sizes = tuple(choose(*some_sizes) for _ in range(rank))
    kernel = tuple(choose(1, 2, 30, size) for size in sizes)
    dilation = tuple(choose(1, 3, 100) if taps < 40 else 1 for taps in kernel)
    reach = [(taps - 1) * apart for taps, apart in zip(kernel, dilation, strict=True)]
    padding = tuple((choose(0, taps - 1, most), choose(0, most)) for taps, most in zip(kernel, reach, strict=True))
    stride = tuple(choose(1, 2, 50, 1000) for _ in sizes)
    data_format = choose("channels_last", "channels_first")
    batch, channels = choose(1, 5, 200), choose(1, 2, 6, 64, 1000)
    shape = in_layout(data_format, batch, sizes, channels)
    layout: dict[str, Any] = {"data_format": data_format}
    spaced = {**layout, "stride": stride, "padding": padding}
    windows = {**spaced, "dilation": dilation, "kernel_size": kernel}
    orders = {
        "index_scheme": choose("plane", "image", "tensor"),
        "storage_order": choose("row_major", "column_major"),
    }
    kind = choose("conv", "conv_transpose", "quantized", "pool", "pool", "unpool", "unfold", "fold")
    match kind:
        case "pool":
            wanted = tuple(choose(1, 2, 3, 7, 30, size, size + 1, 2 * size) for size in sizes)
            parameters = choose(windows, {**layout, "output_size": wanted})
            mode = choose("max", "avg", "lp")
            if mode == "max":
                parameters = {**parameters, "ties": choose("first", "all", "split")}
                parameters |= choose({}, {"return_indices": True, **orders})
            elif mode == "lp":
                parameters = {**parameters, "norm_type": choose(1, 2, 2.5, 3)}
            return kind, {"mode": mode, **parameters}, images(*shape)
        case "unpool":
            wanted = tuple(choose(1, size, 2 * size, 100) for size in sizes)
            parameters = choose({**spaced, "kernel_size": kernel}, {**layout, "output_size": wanted})
            return (
                kind,
                {**parameters, **orders},
                indexed(shape, choose("int64", "int32", "uint8", "float32", "float64")),
            )
        case "unfold":
            return kind, windows, images(*shape)
        case "fold":
            spans = zip(sizes, padding, reach, stride, strict=True)
            number = math.prod((size + sum(pads) - most - 1) // step + 1 for size, pads, most, step in spans)
            columns = channels * math.prod(kernel)
            matrix = (batch, number, columns) if data_format == "channels_last" else (batch, columns, number)
            return kind, {**windows, "output_size": sizes}, images(*matrix)
    groups = choose(1, channels, math.gcd(2, channels))
    features = choose(1, 5) * channels if groups > 1 else choose(1, 3, channels)
    first = data_format == "channels_first"
    weight = (features, channels // groups, *kernel) if first else (*kernel, channels // groups, features)
    parameters = {**spaced, "dilation": dilation, "groups": groups}
    if kind == "quantized":
        operands = quantized(shape, weight, features, choose("uint8", "int8"))
        kind, operands = choose(("qlinear_conv", operands), ("conv_integer", of_integers(operands)))
        return kind, parameters, operands
    if kind == "conv_transpose":
        most_added = tuple(max(step, apart) - 1 for step, apart in zip(stride, dilation, strict=True))
        parameters |= choose({}, {"padding": "same"}, {"output_padding": most_added})
        return kind, parameters, weighted(in_layout(data_format, batch, sizes, features), weight, channels)
    mode = choose("zeros", "reflect", "replicate", "circular")
    most_padding = {"reflect": -1, "circular": 0}
    if mode in most_padding:
        limits = [size + most_padding[mode] for size in sizes]
        parameters["padding"] = tuple(
            (choose(0, limit), min(limit, taps - 1)) for limit, taps in zip(limits, kernel, strict=True)
        )
    elif mode == "replicate":
        parameters["padding"] = tuple((choose(0, taps - 1, 5000), choose(0, 5000)) for taps in kernel)
    return kind, {**parameters, "padding_mode": mode}, weighted(shape, weight, *choose((), (features,)))


def peak(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def tensor(name: str, shape: Shape, dtype: str) -> np.ndarray[Any, Any]:
    """An operand whose values suit every layer: indices 0, scales and zero points 1, and values of both signs."""
    if name == "indices":
        return np.zeros(shape, dtype)
    values = np.ones(shape, dtype)
    if name == "input" and values.dtype.kind == "f":
        values.reshape(-1)[::3] = -2
    return values


def directions(name: str) -> list[Operation]:
    both = (OPERATIONS_BY_NAME.get(f"{name}_{direction}") for direction in ("forward", "backward"))
    return [operation for operation in both if operation]


def require_predicted_memory(layer: ResolvedOp, dtype: str) -> None:
    name, parameters, operands = layer
    tensors = {operand: tensor(operand, shape, own or dtype) for operand, (shape, own) in operands.items()}
    for operation in directions(name):
        call = operation.parse_parameters(parameters)
        if operation.direction == "backward":
            shapes = {operand: shape for operand, (shape, _) in operands.items()}
            output_shape = operation.entry.resolve(call.op, shapes).output_shape
            tensors = {"grad_output": np.ones(output_shape, dtype), **tensors}
        prediction = operation.predict(call, tensors)
        taken = peak(lambda: operation.compute(call, tensors))  # noqa: B023  (called at once)
        assert taken <= prediction.result_bytes + prediction.workspace_bytes + OVERHEAD


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layer", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_memory_stays_within_the_prediction(layer: ResolvedOp, dtype: str) -> None:
    require_predicted_memory(layer, dtype)


@settings(thorough_settings, max_examples=150)
@given(layers(), st.sampled_from(["float16", "float32", "float64"]))
def test_memory_stays_within_the_prediction_in_any_geometry(layer: ResolvedOp, dtype: str) -> None:
    name, parameters, operands = layer
    shapes = {operand: shape for operand, (shape, _) in operands.items()}
    operation = OPERATIONS_BY_NAME[f"{name}_forward"]
    assume(all(math.prod(shape) < 2**20 for shape in shapes.values()))
    try:
        resolved = operation.entry.resolve(operation.parse_parameters(parameters).op, shapes)
    except ConvpoolError:
        reject()
    assume(math.prod(resolved.output_shape) < 2**20)
    assume(resolved.multiply_accumulates < 2**27)
    costs = resolved.costs()
    assume(all(cost.work < 2**31 for cost in (costs.forward, *costs.backward.values())))
    require_predicted_memory(layer, dtype)
