"""JSON: operands and parameters side by side in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from numpy.typing import NDArray

from ..problems import Finding, InvalidRequest
from .buffers import is_finite, widened_bytes
from .codec import Codec
from .described import DescribedOperation, command, with_description
from .json_objects import Unreadable, load_object, parse, read_body, reading_memory, refuse_unreadable, text_memory
from .json_schemas import DTYPE_SCHEMA, TENSOR_SCHEMA
from .json_tensors import TensorForm, longest_text, read_dtype, read_tensor, write_tensor
from .media_types import JSON, NPY, NPZ
from .message import Buffer, Decoded, Encoded, Limits, RequestContext, ResponseContext, TensorType

__all__ = ["JsonCodec", "load_object"]

DEFAULT_FORM: TensorForm = "nested"
NULL = memoryview(b"null")


class JsonCodec(Codec):
    """Operands and parameters in one JSON object; results in another."""

    media_type: ClassVar[str] = JSON
    title: ClassVar[str] = "JSON"
    charset: ClassVar[str] = "utf-8"
    parameters_in: ClassVar[str] = "next to the operands in JSON"
    extension: ClassVar[str] = "json"
    compressible: ClassVar[bool] = True

    def decode_memory(self, size: int) -> int:
        """Return an estimate: a byte of a tensor for each character, as numbers of eight characters take.

        Longer ones take less, and the shortest four times that. ``decode`` counts the numbers, and charges what they
        take exactly, before it reads them.
        """
        return text_memory(size)

    def decode(self, body: bytearray, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        limits.charge(reading_memory(len(body)))
        try:
            return _read(body, request.operands, limits)
        except Unreadable:
            refuse_unreadable(body, limits)

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: D102
        form = options.get("form", DEFAULT_FORM)
        return sum(longest_text(result, form) for result in results) + widened_bytes(results)

    def encode(self, results: Mapping[str, NDArray[Any]], response: ResponseContext) -> Encoded:  # noqa: D102
        form = response.options.get("form", DEFAULT_FORM)
        chunks: list[Buffer] = []
        for name, result in results.items():
            if form != "base64" and not is_finite(result):
                raise InvalidRequest.of(
                    f"/{name}",
                    f"{name} contains NaN or infinity, which JSON cannot represent",
                    got="a result that is not finite",
                    expected=f"Accept: {NPY} or {NPZ}, or the first operand as base64",
                )
            chunks.append(b"%b%b:" % (b"," if chunks else b"{", orjson.dumps(name)))
            chunks.extend(write_tensor(result, form))
        return Encoded([*chunks, b"}\n"])  # so that a shell's prompt starts on a new line

    def encode_example(self, operation: DescribedOperation) -> Encoded:  # noqa: D102
        return Encoded([orjson.dumps(_example(operation), option=orjson.OPT_APPEND_NEWLINE)])

    def curl_command(self, operation: DescribedOperation) -> str:  # noqa: D102
        members = (f'"{name}": {orjson.dumps(value).decode()}' for name, value in _example(operation).items())
        body = ",\n  ".join(members)
        return command(f"curl -s {operation.url}", f"-H 'Content-Type: {JSON}'", f"-d '{{\n  {body}\n}}'")

    def request_content(self, operation: DescribedOperation) -> dict[str, Any]:  # noqa: D102
        operands = {
            operand.name: with_description(TENSOR_SCHEMA, operand.description) for operand in operation.operands
        }
        dtype = with_description(DTYPE_SCHEMA, "Type of nested lists and bare numbers; float64 if not given.")
        schema = {
            "title": f"{operation.title}Request",
            "type": "object",
            "properties": {**operands, "dtype": dtype, **operation.parameters},
            "required": operation.required_operands,
            "additionalProperties": False,
        }
        return {"schema": schema, "example": _example_operands(operation)}

    def response_content(self, operation: DescribedOperation) -> dict[str, Any]:  # noqa: D102
        schema: dict[str, Any] = {
            "title": f"{operation.title}Result",
            "type": "object",
            "properties": dict.fromkeys(operation.results, TENSOR_SCHEMA),
        }
        if operation.required_results:
            schema["required"] = list(operation.required_results)
        # a response has the form of the first operand
        typed = next(operand.typed for operand in operation.operands if operand.name in operation.example_operands)
        example = {name: _as_json(result, typed=typed) for name, result in operation.example_results.items()}
        return {"schema": schema, "example": example}


def _read(body: bytearray, operands: Sequence[str], limits: Limits) -> Decoded:
    members = read_body(body)
    texts = {name: members.pop(name) for name in operands if name in members}
    content = {name: parse(text, limits) for name, text in members.items()}
    # without operands it is a parameter like any other
    default_dtype = read_dtype(content.pop("dtype"), "/dtype") if operands and "dtype" in content else None
    tensors: dict[str, NDArray[Any]] = {}
    forms: list[TensorForm] = []
    findings: list[Finding] = []
    for name, text in texts.items():
        if text == NULL:  # what many clients write for an operand that is not given
            continue
        try:
            tensors[name], form = read_tensor(text, f"/{name}", default_dtype, limits)
            forms.append(form)
        except InvalidRequest as problem:
            findings.extend(problem.findings)
    if findings:
        raise InvalidRequest(*findings)
    return Decoded(tensors, content, {"form": forms[0]} if forms else {})


def _example(operation: DescribedOperation) -> dict[str, Any]:
    return {**operation.example_parameters, **_example_operands(operation)}


def _example_operands(operation: DescribedOperation) -> dict[str, Any]:
    typed = {operand.name: operand.typed for operand in operation.operands}
    return {name: _as_json(tensor, typed=typed[name]) for name, tensor in operation.example_operands.items()}


def _as_json(tensor: NDArray[Any], *, typed: bool) -> Any:
    """Return a tensor as nested lists, or with its type where it needs one, which nested lists cannot say."""
    if not typed:
        return tensor.tolist()
    return {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "data": tensor.reshape(-1).tolist()}
