"""Small valid calls of every operation of the service, and what the core computes for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnn_core import AvgPool, Conv, ConvInteger, ConvTranspose, Fold, LpPool, MaxPool, MaxUnpool, QLinearConv, Unfold
from tests.comparisons import normal
from tests.service import payloads
from tests.service.payloads import AnyArray, Call, Operands

OPS: dict[str, Callable[..., Any]] = {
    "conv": Conv,
    "conv_transpose": ConvTranspose,
    "max": MaxPool,
    "avg": AvgPool,
    "lp": LpPool,
    "unpool": MaxUnpool,
    "unfold": Unfold,
    "fold": Fold,
    "conv_integer": ConvInteger,
    "qlinear_conv": QLinearConv,
}
OPTIONAL_OPERANDS = ("bias", "input_zero_point", "weight_zero_point")
GRADIENTS = ("grad_input", "grad_weight", "grad_bias")


def layer_of(call: Call) -> str:
    """Which op it is: the mode of a pooling, else the first part of the path."""
    return str(call.parameters.get("mode") or call.path.split("/")[1])


def op_of(call: Call) -> Any:
    """The op of the core with the parameters of the call."""
    return OPS[layer_of(call)](**{name: value for name, value in call.parameters.items() if name != "mode"})


def computed(call: Call, operands: Mapping[str, Any]) -> dict[str, AnyArray]:
    """The results of cnn_core itself, by name."""
    op = op_of(call)
    direction = op.forward if call.path.endswith("forward") else op.backward
    returned = direction(**operands)
    if isinstance(returned, np.ndarray):
        return {call.results[0]: returned}
    return {name: array for name, array in returned._asdict().items() if array is not None}


def as_type(operands: Operands, dtype: str) -> dict[str, AnyArray]:
    """The operands with another floating type; those of an integer type have that for a reason."""
    return {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in operands.items()}


def dtypes_of(arrays: Operands) -> dict[str, str]:
    return {name: array.dtype.name for name, array in arrays.items()}


def assert_identical(actual: Operands, expected: Operands) -> None:
    """The same names in the same order, and bit for bit the same arrays."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        assert payloads.little_endian(actual[name]).tobytes() == payloads.little_endian(array).tobytes(), name


# ------------------------------------------------------------------------------------------------------------ the calls

INPUT = normal(2, 6, 5, 4, seed=1)
WEIGHT = normal(3, 2, 2, 6, seed=2)
BIAS = normal(6, seed=3)
CONV: dict[str, Any] = {"stride": [2, 1], "padding": [[0, 1], [1, 0]], "groups": 2}
REFLECTED: dict[str, Any] = {"padding": "same_lower", "padding_mode": "reflect", "groups": 2}
TRANSPOSED: dict[str, Any] = {"stride": [2, 3], "padding": [[0, 1], [1, 0]], "output_padding": [1, 2], "groups": 2}
MAX: dict[str, Any] = {"kernel_size": [3, 2], "stride": 2, "padding": 1, "ceil_mode": True, "ties": "split"}
INDEXED: dict[str, Any] = {"kernel_size": [3, 2], "stride": 2, "return_indices": True, "index_scheme": "image"}
AVERAGE: dict[str, Any] = {"kernel_size": 2, "stride": [1, 2], "padding": "same_lower", "count_include_pad": True}
NORM: dict[str, Any] = {"kernel_size": 3, "stride": [1, 2], "padding": [0, 1], "norm_type": 3.5}
UNPOOLED: dict[str, Any] = {"kernel_size": [2, 3], "padding": [[1, 0], [0, 0]], "storage_order": "column_major"}
UNFOLDED: dict[str, Any] = {"kernel_size": [3, 2], "stride": 2, "padding": [[0, 1], [1, 0]], "dilation": [1, 2]}
FOLDED: dict[str, Any] = {"output_size": [6, 5], **UNFOLDED}
INTEGER: dict[str, Any] = {"stride": [1, 2], "padding": [[0, 1], [1, 0]], "groups": 2}


def _integers(dtype: str, *shape: int, seed: int) -> AnyArray:
    """Any values of an integer type, its extremes included."""
    limits = np.iinfo(dtype)
    random = np.random.default_rng(seed)
    return random.integers(int(limits.min), int(limits.max), size=shape, dtype=dtype, endpoint=True)


conv_operands = {"input": INPUT, "weight": WEIGHT, "bias": BIAS}
transposed_operands = {"input": normal(2, 3, 2, 6, seed=5), "weight": WEIGHT, "bias": normal(4, seed=6)}
unpool_operands: dict[str, AnyArray] = {
    "input": normal(2, 3, 2, 4, seed=7),
    "indices": np.random.default_rng(8).permutation(5 * 6)[: 3 * 2 * 4].reshape(1, 3, 2, 4).repeat(2, axis=0),
}
matrix = {"input": normal(2, *Unfold(**UNFOLDED).output_shape((1, 6, 5, 3))[1:], seed=9)}
bytes_operands = {
    "input": _integers("uint8", 2, 6, 5, 4, seed=10),
    "weight": _integers("int8", 3, 2, 2, 6, seed=11),
    "input_zero_point": np.array(100, np.uint8),
    "weight_zero_point": _integers("int8", 6, seed=12),
}
unsigned_operands = {name: array.astype(np.uint8) for name, array in bytes_operands.items()}
quantized_operands = {
    "input": bytes_operands["input"],
    "input_scale": np.array(0.02, np.float32),
    "input_zero_point": bytes_operands["input_zero_point"],
    "weight": bytes_operands["weight"],
    "weight_scale": np.linspace(0.01, 0.03, 6, dtype=np.float32),
    "weight_zero_point": bytes_operands["weight_zero_point"],
    "output_scale": np.array([3.0]),
    "output_zero_point": np.array(-7, np.int8),
    "bias": _integers("int32", 6, seed=13) // 2**20,
}


def _forward(layer: str, operands: Operands, parameters: dict[str, Any], results: Sequence[str] = ("output",)) -> Call:
    return Call("forward", f"/{layer}/forward", dict(operands), parameters, tuple(results))


def _with_backward(name: str, forward: Call, gradients: Sequence[str] = ("grad_input",)) -> list[Call]:
    """The call and that of its gradient, whose grad_output has the shape that the core predicts."""
    shape = op_of(forward).output_shape(*(array.shape for array in forward.operands.values()))
    operands = {"grad_output": normal(*shape, seed=4), **forward.operands}
    path = forward.path.replace("forward", "backward")
    backward = Call(f"{name}_backward", path, operands, forward.parameters, tuple(gradients))
    return [forward._replace(name=f"{name}_forward"), backward]


CALLS = [
    *_with_backward("conv", _forward("conv", conv_operands, CONV), GRADIENTS),
    *_with_backward("padding_mode", _forward("conv", conv_operands, REFLECTED), GRADIENTS),
    *_with_backward("conv_transpose", _forward("conv_transpose", transposed_operands, TRANSPOSED), GRADIENTS),
    *_with_backward("max", _forward("pool", {"input": INPUT}, {"mode": "max", **MAX})),
    *_with_backward("max_adaptive", _forward("pool", {"input": INPUT}, {"mode": "max", "output_size": [4, 7]})),
    *_with_backward("avg", _forward("pool", {"input": INPUT}, {"mode": "avg", **AVERAGE})),
    *_with_backward("avg_global", _forward("pool", {"input": INPUT}, {"mode": "avg", "output_size": 1})),
    *_with_backward("lp", _forward("pool", {"input": INPUT}, {"mode": "lp", **NORM})),
    *_with_backward("unpool", _forward("unpool", unpool_operands, UNPOOLED)),
    *_with_backward("unfold", _forward("unfold", {"input": INPUT[..., :3]}, UNFOLDED)),
    *_with_backward("fold", _forward("fold", matrix, FOLDED)),
    _forward("pool", {"input": INPUT}, {"mode": "max", **INDEXED}, ("output", "indices"))._replace(name="max_indices"),
    _forward("conv_integer", bytes_operands, INTEGER)._replace(name="conv_integer_mixed"),
    _forward("conv_integer", unsigned_operands, INTEGER)._replace(name="conv_integer_unsigned"),
    _forward("qlinear_conv", quantized_operands, INTEGER)._replace(name="qlinear_conv"),
]
CALLS_BY_NAME = {call.name: call for call in CALLS}
