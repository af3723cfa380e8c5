"""Examples of requests: one for each operation and payload format, made with the codecs themselves.

They stand in /openapi.json, and as files under /examples, so that every command in the documentation runs as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import numpy as np
import orjson
from numpy.typing import NDArray

from service.codecs import CODECS, Buffer
from service.operations.operation import CatalogueEntry, Operation

__all__ = [
    "SERVER",
    "as_text",
    "curl_command",
    "example_files",
    "example_parameters",
    "file_names",
    "json_answer",
    "json_example",
    "json_operands",
    "shape_example",
]

SERVER = "http://127.0.0.1:8000"
"""The service in the commands. The page /docs puts the address in its place that it was opened with."""


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
    entry = operation.entry.resolve(operation.call(parameters).op, shapes)
    if operation.direction == "backward":
        tensors = {"grad_output": np.ones(entry.output_shape), **tensors}
    return {**parameters, "spatial_axes": len(entry.windows.axes)}, tensors


def example_parameters(operation: Operation) -> dict[str, Any]:
    """Return the parameters of an operation's example."""
    return example(operation)[0]


def json_operands(operation: Operation) -> dict[str, Any]:
    """Return the operands as the body of a JSON request has them."""
    return {name: _as_json(tensor, typed=name in _typed(operation)) for name, tensor in example(operation)[1].items()}


def json_example(operation: Operation) -> dict[str, Any]:
    """Return the body of a JSON request that holds everything."""
    return {**example_parameters(operation), **json_operands(operation)}


def json_answer(operation: Operation) -> dict[str, Any]:
    """Return the body of the answer to the JSON example."""
    parameters, tensors = example(operation)
    results = operation.compute(operation.call(parameters), tensors)
    typed = next(iter(tensors)) in _typed(operation)  # an answer has the form of the first operand
    return {name: _as_json(result, typed=typed) for name, result in results.items()}


def _typed(operation: Operation) -> list[str]:
    """Return the operands that have a type of their own, which nested lists cannot say."""
    return [operand.name for operand in operation.operands if operand.dtypes]


def _as_json(tensor: NDArray[Any], *, typed: bool) -> Any:
    if not typed:
        return tensor.tolist()
    return {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "data": tensor.reshape(-1).tolist()}


def shape_example(entry: CatalogueEntry) -> dict[str, Any]:
    """Return the body of a shape call."""
    parameters, tensors = _split(entry)
    return {**parameters, "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()}}


def example_files(operation: Operation) -> Mapping[str, tuple[list[Buffer], str]]:
    """Return the files under /examples/{operation}: name, content and media type."""
    npy, npz = CODECS["application/x-npy"], CODECS["application/x-npz"]
    _, tensors = example(operation)
    files: dict[str, tuple[list[Buffer], str]] = {
        f"{name}.npy": (npy.encode({name: tensor}, ""), npy.media_type) for name, tensor in tensors.items()
    }
    files["request.npz"] = (npz.encode(tensors, ""), npz.media_type)
    request = orjson.dumps(json_example(operation), option=orjson.OPT_APPEND_NEWLINE)
    files["request.json"] = ([request], "application/json")
    return files


def file_names(operation: Operation, media_type: str) -> list[str]:
    """Return which files under /examples/{operation} the example in a format is sent with."""
    tensors = example(operation)[1]
    if media_type == "multipart/form-data":
        return [f"{name}.npy" for name in tensors]
    return {
        "application/json": ["request.json"],
        "application/x-npz": ["request.npz"],
        "application/x-npy": [f"{next(iter(tensors))}.npy"],
    }[media_type]


def curl_command(operation: Operation, media_type: str) -> str:
    """Return a command for bash that runs the example, in the given format, against a server on this machine."""
    parameters, tensors = example(operation)
    url, files = f"{SERVER}{operation.path}", f"{SERVER}/examples/{operation.name}"
    if media_type == "application/json":
        body = ",\n  ".join(
            f'"{name}": {orjson.dumps(value).decode()}' for name, value in json_example(operation).items()
        )
        return _lines(f"curl -s {url}", f"-H 'Content-Type: {media_type}'", f"-d '{{\n  {body}\n}}'")
    if media_type == "multipart/form-data":
        parts = [
            f"-F {name}=@<(curl -s {files}/{file})"
            for name, file in zip(tensors, file_names(operation, media_type), strict=True)
        ]
        fields = [f"-F '{name}={as_text(value)}'" for name, value in parameters.items()]
        return _lines(f"curl -s {url}", "-H 'Accept: application/json'", *parts, *fields)
    (file,) = file_names(operation, media_type)
    query = urlencode({name: as_text(value) for name, value in parameters.items()})
    headers = f"-H 'Content-Type: {media_type}' -H 'Accept: application/json'"
    address = f"'{url}?{query}'" if query else url
    return _lines(f"curl -s {files}/{file} |", f"curl -s {address}", headers, "--data-binary @-")


def _lines(*parts: str) -> str:
    return " \\\n  ".join(parts)


def as_text(value: Any) -> str:
    """Write a parameter as a query string or a form field has it."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
