"""The models of the Open Inference Protocol: each operation of the catalogue is one.

What a model says of itself is derived: the names from the operation, the types and numbers of axes from its example.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from cnn_core import __version__
from cnn_core.ops.base import Operand

from ..codecs.v2 import MODEL_VERSION
from ..codecs.v2_tensors import NAMES
from ..documentation.examples import example
from ..operations.catalogue import OPERATIONS
from ..operations.operation import Operation

__all__ = ["EXTENSIONS", "config", "implied_parameters", "index", "metadata", "model_called", "server_metadata"]

EXTENSIONS = ["binary_tensor_data", "model_configuration", "parameters"]
"""The protocol's extensions that are served as a whole. Of model_repository only the index is: nothing is loaded."""

PLATFORM = "convpool"
MODELS = {operation.name: operation for operation in OPERATIONS}
ANY = -1
"""A size that is not known before a request."""

MAX_NAME = 100
"""Maximum number of characters of an unknown name that are compared with the known names."""


def model_called(model: str, version: str | None = None) -> Operation:
    """Return the operation that is a model, or raise HTTPException 404 if there is none of that name and version."""
    operation = MODELS.get(model)
    if operation is None:
        close = difflib.get_close_matches(model[:MAX_NAME].lower(), MODELS, n=3, cutoff=0.5)
        listed = f"the closest names are {', '.join(close)}" if close else f"the models are {', '.join(MODELS)}"
        raise HTTPException(404, f"There is no model of this name; {listed}.")
    if version not in (None, MODEL_VERSION):
        raise HTTPException(404, f"There is no such version of {model}; the only one is {MODEL_VERSION}.")
    return operation


@functools.cache
def implied_parameters(operation: Operation) -> Mapping[str, Mapping[str, Any]]:
    """Return the results of an operation and, for each, the parameters by which it is asked for."""
    parameters = {name for model in operation.models.values() for name in model.model_fields}
    if "wrt" in parameters:
        return {name: {"wrt": [name.removeprefix("grad_")]} for name in operation.results}
    return {name: {flag: True} if (flag := f"return_{name}") in parameters else {} for name in operation.results}


def server_metadata() -> dict[str, Any]:
    """Return what the server says of itself."""
    return {"name": "convpool", "version": __version__, "extensions": EXTENSIONS}


def index() -> list[dict[str, str]]:
    """Return the models, all of which are always ready."""
    return [{"name": name, "version": MODEL_VERSION, "state": "READY", "reason": ""} for name in MODELS]


@functools.cache
def metadata(operation: Operation) -> dict[str, Any]:
    """Return a model's metadata."""
    inputs, outputs = _tensors(operation)
    return {
        "name": operation.name,
        "versions": [MODEL_VERSION],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }


@functools.cache
def config(operation: Operation) -> dict[str, Any]:
    """Return a model's configuration, as Triton's ModelConfig has it."""
    inputs, outputs = (
        [
            {"name": tensor["name"], "data_type": f"TYPE_{tensor['datatype']}", "dims": tensor["shape"]}
            for tensor in tensors
        ]
        for tensors in _tensors(operation)
    )
    optional = {operand.name: operand.optional for operand in operation.operands}
    return {
        "name": operation.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0,
        "input": [{**tensor, "optional": optional[tensor["name"]]} for tensor in inputs],
        "output": outputs,
    }


@functools.cache
def _tensors(operation: Operation) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return name, datatype and shape of each input and output.

    The protocol has one of each, but an operation takes several: float32 stands for all types that it computes in, and
    two spatial axes for one to three.
    """
    parameters, tensors = example(operation)
    untyped = {operand.name for operand in operation.operands if not operand.dtypes}
    tensors = {name: tensor.astype(np.float32) if name in untyped else tensor for name, tensor in tensors.items()}
    for implied in implied_parameters(operation).values():
        parameters = {**parameters, **{name: value for name, value in implied.items() if name != "wrt"}}
    results = operation.results_of(operation.parse_parameters(parameters), tensors)
    inputs = [
        _described(operand.name, tensors[operand.name].dtype, tensors[operand.name].ndim)
        if operand.name in tensors
        else _described(operand.name, _first_type(operand), 1)
        for operand in operation.operands
    ]
    return inputs, [_described(name, result.dtype, result.ndim) for name, result in results.items()]


def _first_type(operand: Operand) -> np.dtype[Any]:
    return np.dtype(operand.dtypes[0] if operand.dtypes else np.float32)


def _described(name: str, dtype: np.dtype[Any], ndim: int) -> dict[str, Any]:
    return {"name": name, "datatype": NAMES[dtype], "shape": [ANY] * ndim}
