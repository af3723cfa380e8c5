"""ONNX Runtime, forward only: it trains in other packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from benchmarks.engines.computation import Computation
from benchmarks.suite import Layer

OPS = {"conv": "Conv", "max": "MaxPool", "avg": "AveragePool"}
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
_threads = 0


def version() -> str:
    return f"ONNX Runtime {onnxruntime.__version__}"


def set_threads(threads: int) -> None:
    global _threads  # noqa: PLW0603  (a session takes it when it is made)
    _threads = threads


def build(layer: Layer, operands: dict[str, Any]) -> list[Computation]:
    """Return one computation, channels-first, its weight a constant of the model."""
    rank = len(layer.kernel)
    attributes = {
        "kernel_shape": layer.kernel,
        "strides": [layer.stride] * rank,
        "pads": [layer.padding] * (2 * rank),
        "dilations": [layer.dilation] * rank,
    }
    constants = []
    if layer.kind == "conv":
        attributes["group"] = layer.groups
        weight = np.ascontiguousarray(np.moveaxis(operands["weight"], (-1, -2), (0, 1)))
        constants = [onnx.numpy_helper.from_array(weight, "weight")]
        constants.append(onnx.numpy_helper.from_array(operands["bias"], "bias"))
    if layer.kind == "avg":
        attributes["count_include_pad"] = 1
    node = helper.make_node(OPS[layer.kind], ["input", *(each.name for each in constants)], ["output"], **attributes)
    input = np.ascontiguousarray(np.moveaxis(operands["input"], -1, 1))
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("input", TYPES[layer.dtype], input.shape)],
        [helper.make_tensor_value_info("output", TYPES[layer.dtype], None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return []
    return [Computation("NCHW", lambda: session.run(None, {"input": input})[0], None)]
