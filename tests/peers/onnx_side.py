"""Single operators of ONNX run by ONNX Runtime, and their attributes from the parameters of cnn_core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from tests.peers.cases import Array, Axis, output_size, per_axis, resolve_padding

OPSET, IR_VERSION = 22, 10
AUTO_PAD = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
REFUSAL = (errors.Fail, errors.InvalidArgument, errors.NotImplemented, errors.RuntimeException)


def run(
    operation: str, operands: Sequence[Array | None], results: Sequence[type] | None = None, **attributes: Any
) -> list[Array]:
    """Run one operator on one thread; an operand that is None is left out.

    The results have the first operand's type, or those that are given.
    """
    feeds = {f"operand_{number}": array for number, array in enumerate(operands) if array is not None}
    names = [f"operand_{number}" if array is not None else "" for number, array in enumerate(operands)]
    describe, kind = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    first = next(iter(feeds.values())).dtype
    dtypes = [np.dtype(dtype) for dtype in results] if results is not None else [first]
    outputs = [f"result_{number}" for number in range(len(dtypes))]
    graph = helper.make_graph(
        [helper.make_node(operation, names, outputs, **attributes)],
        "graph",
        [describe(name, kind(array.dtype), array.shape) for name, array in feeds.items()],
        [describe(name, kind(dtype), None) for name, dtype in zip(outputs, dtypes, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    arrays: list[Array] = session.run(None, {name: np.ascontiguousarray(array) for name, array in feeds.items()})
    return arrays


def window_attributes(parameters: dict[str, Any], rank: int) -> dict[str, Any]:
    """The attributes that lay windows; those that are not given are left to ONNX, too."""
    names = {"stride": "strides", "dilation": "dilations"}
    attributes: dict[str, Any] = {
        name: per_axis(parameters[given], rank) for given, name in names.items() if given in parameters
    }
    padding = parameters.get("padding")
    if isinstance(padding, str):
        attributes["auto_pad"] = AUTO_PAD[padding]
    elif padding is not None:
        sides = [resolve_padding(padding, axis, 1, 1, 1, 1) for axis in range(rank)]
        attributes["pads"] = [before for before, _ in sides] + [after for _, after in sides]
    if "ceil_mode" in parameters:
        attributes["ceil_mode"] = int(parameters["ceil_mode"])
    if "groups" in parameters:
        attributes["group"] = parameters["groups"]
    return attributes


def geometry(parameters: dict[str, Any], spatial: Sequence[int], kernel: Sequence[int]) -> list[Axis]:
    """The windows by the rules of the documentation, with ONNX's default stride."""
    rank = len(spatial)
    stride, dilation = (per_axis(parameters.get(name, 1), rank) for name in ("stride", "dilation"))
    axes = []
    for axis, (n, k, s, d) in enumerate(zip(spatial, kernel, stride, dilation, strict=True)):
        before, after = resolve_padding(parameters.get("padding", 0), axis, n, k, s, d)
        output = output_size(n, k, s, d, before, after, parameters.get("ceil_mode", False))
        axes.append(Axis(n, k, s, d, before, after, output))
    return axes


def crops_start(parameters: dict[str, Any], axes: Sequence[Axis]) -> bool:
    """Whether ONNX Runtime's same padding may be negative at the start: half of what the windows do not cover.

    An odd element goes to the other side, and half of -1 is 0. Its convolutions crop one element later.
    """
    padding = parameters.get("padding")
    reaches = [(axis.output - 1) * axis.stride + axis.extent - axis.size for axis in axes]
    return padding in ("same", "same_lower") and any(
        int((reach + (padding == "same_lower")) / 2) < 0 for reach in reaches
    )
