"""The core of this project."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np

import cnn_core
from benchmarks.engines.computation import Computation
from benchmarks.processes import DIRECTIONS
from benchmarks.suite import Layer

OPS = {"conv": "Conv", "max": "MaxPool", "avg": "AvgPool"}


def version() -> str:
    return f"convpool {cnn_core.__version__}, NumPy {np.__version__}"


def set_threads(threads: int) -> None:
    if hasattr(cnn_core, "set_threads"):
        cnn_core.set_threads(threads)
        return
    with contextlib.suppress(ImportError):  # an older checkout has no threads but BLAS's, or does not export this
        importlib.import_module("cnn_core.runtime.threads").set_threads(threads, pin=True)  # as the service does


def choices(layer: Layer) -> dict[str, dict[str, Any]]:
    """Return the options with which ``build`` makes each computation that differs, by the value of ``algorithm``.

    That is "auto", and "fastest" of a convolution that takes another algorithm then.
    """
    options = {"auto": {}, "fastest": {"algorithm": "fastest"}}
    if layer.kind == "conv" and _algorithms(layer) != _algorithms(layer, **options["fastest"]):
        return options
    return {"auto": options["auto"]}


def _algorithms(layer: Layer, **options: Any) -> list[str]:
    op = _op(layer, options)
    resolved = op.resolve(layer.input, layer.weight)
    itemsize = np.dtype(layer.dtype).itemsize
    return [op.resolved_parameters(resolved, itemsize, direction)["algorithm"] for direction in DIRECTIONS]


def build(layer: Layer, operands: dict[str, Any], **options: Any) -> list[Computation]:
    """Return one computation, channels-last; other parameters of the op may be given as options."""
    op = _op(layer, options)
    inputs = [operands[name] for name in ("input", "weight", "bias") if name in operands]

    def backward() -> tuple[Any, ...]:
        gradients = op.backward(operands["grad_output"], *inputs)
        return gradients if isinstance(gradients, tuple) else (gradients,)

    return [Computation("channels last", lambda: op.forward(*inputs), backward)]


def _op(layer: Layer, options: dict[str, Any]) -> Any:
    parameters = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, **options}
    if layer.kind == "conv":
        parameters["groups"] = layer.groups
    else:
        parameters["kernel_size"] = layer.kernel
    if layer.kind == "avg":
        parameters["count_include_pad"] = True
    return getattr(cnn_core, OPS[layer.kind])(**parameters)
