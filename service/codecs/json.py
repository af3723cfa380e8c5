"""JSON: operands and parameters side by side in one object."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from ..problems import Finding, InvalidRequest, TooLarge, UnreadablePayload
from .buffers import widened_bytes
from .codec import Codec
from .described import DescribedOperation, command
from .json_numbers import ExactNumbers, without_mark
from .json_schemas import DTYPE_SCHEMA, TENSOR_SCHEMA, tensor_reference
from .json_syntax import syntax_error
from .json_tensors import (
    TensorForm,
    form_of,
    json_kind,
    longest_text,
    read_dtype,
    read_tensor,
    write_tensor,
)
from .media_types import JSON, NPY, NPZ
from .message import Buffer, Decoded, Encoded, Limits, RequestContext, ResponseContext, TensorType
from .names import pointer_to

__all__ = ["JsonCodec", "load_object"]

STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?', re.DOTALL)
"""A string, and the colon that follows if it is the name of a member. Possessive: a way back would take memory for
every repetition."""

MAX_LISTS = 2_000_000
MAX_OBJECTS = 1_000
MAX_QUOTATION_MARKS = 10_000
"""A list, an object or a string takes far more memory than its text: a body full of them must not fill the memory.
Tensors may hold many lists, but no request holds more than a few objects and strings."""

DEFAULT_FORM: TensorForm = "nested"

MEMORY_OF_CHARACTER, MEMORY_OF_LIST = 16, 100
"""Bytes allocated while JSON is parsed. The shortest number and its comma become an object, a slot in each of two lists
and an element of an array; a list is an object of its own."""


def load_object(body: bytearray) -> dict[str, Any]:
    """Parse a body that must be a JSON object.

    Raises
    ------
    UnreadablePayload, TooLarge
    """
    if body.count(b"[") > MAX_LISTS:
        expected = f"at most {MAX_LISTS} lists, or flat, base64 or binary tensors"
        raise TooLarge.of("", "the body has too many lists", got="more lists", expected=expected)
    if body.count(b"{") > MAX_OBJECTS or body.count(b'"') > MAX_QUOTATION_MARKS:
        expected = "operands and parameters side by side in one object"
        fault = "the body has too many objects or strings"
        raise UnreadablePayload.of("", fault, got="more objects or strings", expected=expected)
    try:
        content = orjson.loads(without_mark(body))
    except orjson.JSONDecodeError as error:
        raise syntax_error(body, error) from None
    if not isinstance(content, dict):
        expected = "an object with operands and parameters side by side"
        raise UnreadablePayload.of("", "the body is JSON but not an object", got=json_kind(content), expected=expected)
    _refuse_repeated(content, body)
    return content


def _refuse_repeated(content: Mapping[str, Any], body: bytearray) -> None:
    """Refuse a member that occurs in an object twice; the parser keeps the last one without an error."""
    written = collections.Counter(
        orjson.loads(b'"%b"' % match.group(1)) for match in STRING.finditer(body) if match.group(2)
    )
    parsed = collections.Counter(_member_names(content))
    # a name that occurs only in objects within lists is not one of a request's, and an error of its own
    repeated = [name for name, count in written.items() if 0 < parsed[name] < count]
    if repeated:
        fault = "a member occurs in its object more than once"
        raise InvalidRequest(
            *(
                Finding.of(pointer_to(name) if name in content else "", fault, got="two values", expected="one value")
                for name in repeated
            )
        )


def _member_names(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all members of an object and of the objects in it."""
    objects = [content]
    while objects:
        for name, value in objects.pop().items():
            yield name
            if isinstance(value, dict):
                objects.append(value)


class JsonCodec(Codec):
    """Operands and parameters in one JSON object; results in another."""

    media_type: ClassVar[str] = JSON
    title: ClassVar[str] = "JSON"
    charset: ClassVar[str] = "utf-8"
    parameters_in: ClassVar[str] = "next to the operands in JSON"
    extension: ClassVar[str] = "json"
    compressible: ClassVar[bool] = True
    components: ClassVar[Mapping[str, Any]] = {"Tensor": TENSOR_SCHEMA}

    def decode(self, body: bytearray, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        memory = MEMORY_OF_CHARACTER * len(body) + MEMORY_OF_LIST * body.count(b"[")
        limits.charge(memory)
        content = load_object(body)
        text = ExactNumbers(body, lambda: limits.charge(memory))
        default_dtype = read_dtype(content.pop("dtype"), "/dtype") if "dtype" in content else None
        # null is what many clients write for an operand that is not given
        present = [name for name in request.operands if content.get(name) is not None]
        tensors: dict[str, NDArray[Any]] = {}
        findings: list[Finding] = []
        for name in present:
            try:
                tensors[name] = read_tensor(content[name], f"/{name}", default_dtype, text)
            except InvalidRequest as problem:
                findings.extend(problem.findings)
        if findings:
            raise InvalidRequest(*findings)
        parameters = {name: value for name, value in content.items() if name not in request.operands}
        return Decoded(tensors, parameters, {"form": form_of(content[present[0]])} if present else {})

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: D102
        form = options.get("form", DEFAULT_FORM)
        return sum(longest_text(result, form) for result in results) + widened_bytes(results)

    def encode(self, results: Mapping[str, NDArray[Any]], response: ResponseContext) -> Encoded:  # noqa: D102
        form = response.options.get("form", DEFAULT_FORM)
        chunks: list[Buffer] = []
        for name, result in results.items():
            if form != "base64" and not np.isfinite(result).all():
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
        operands = {operand.name: tensor_reference(operand.description) for operand in operation.operands}
        dtype = {**DTYPE_SCHEMA, "description": "Type of nested lists and bare numbers; float64 if not given."}
        schema = {
            "type": "object",
            "properties": {**operands, "dtype": dtype, **operation.parameters},
            "required": operation.required_operands,
            "additionalProperties": False,
        }
        return {"schema": schema, "example": _example_operands(operation)}

    def response_content(self, operation: DescribedOperation) -> dict[str, Any]:  # noqa: D102
        schema = {"type": "object", "properties": {name: tensor_reference() for name in operation.results}}
        if operation.required_results:
            schema["required"] = list(operation.required_results)
        # a response has the form of the first operand
        typed = next(operand.typed for operand in operation.operands if operand.name in operation.example_operands)
        example = {name: _as_json(result, typed=typed) for name, result in operation.example_results.items()}
        return {"schema": schema, "example": example}


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
