"""Examples of requests: one for each operation, from which each codec makes its body, its files and its command.

They are in /openapi.json, and as files under /examples, so that every command in the documentation runs as it is.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..operations.operation import CatalogueEntry, Operation

__all__ = ["SERVER", "check_example", "example", "shape_example"]

SERVER = "http://127.0.0.1:8000"
"""The service in the commands. The page /docs replaces it by the address that the page itself was opened with."""


def _split(entry: CatalogueEntry) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    operands = {operand.name: operand for operand in entry.operands}
    parameters = {name: value for name, value in entry.example.items() if name not in operands}
    tensors = {
        name: np.array(value, dtype=operands[name].dtypes[0] if operands[name].dtypes else np.float64)
        for name, value in entry.example.items()
        if name in operands
    }
    return parameters, tensors


@functools.cache
def example(operation: Operation) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the parameters and operands of an operation's example; grad_output is all ones. Not to be changed."""
    parameters, tensors = _split(operation.entry)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    resolved = operation.entry.resolve(operation.parse_parameters(parameters).op, shapes)
    if operation.direction == "backward":
        tensors = {"grad_output": np.ones(resolved.output_shape), **tensors}
    return {**parameters, "spatial_axes": len(resolved.windows.axes)}, tensors


def shape_example(entry: CatalogueEntry) -> dict[str, Any]:
    """Return the body of a shape call."""
    parameters, tensors = _split(entry)
    return {**parameters, "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()}}


@functools.cache
def check_example(entry: CatalogueEntry) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the parameters and tensors of a check: of what a flipped kernel, or a factor, leads to."""
    parameters, tensors = example(entry.forward)
    mistaken = {**tensors, "weight": np.flip(tensors["weight"])} if "weight" in tensors else tensors
    output = entry.forward.results_of(entry.forward.parse_parameters(parameters), mistaken)["output"]
    return parameters, {**tensors, "claimed_output": output if "weight" in tensors else 2 * output}
