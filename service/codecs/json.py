"""JSON: operands and parameters side by side in one object."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from service.codecs.json_numbers import ExactNumbers, without_mark
from service.codecs.json_syntax import syntax_error
from service.codecs.json_tensors import form_of, json_kind, longest_text, read_dtype, read_tensor, write_tensor
from service.codecs.message import Buffer, Codec, Decoded, Limits, TensorForm, TensorType
from service.codecs.names import pointer_to
from service.problems import Finding, InvalidRequest, TooLarge, UnreadablePayload

__all__ = ["JsonCodec", "load_object"]

STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?', re.DOTALL)
"""A string, and the colon that follows if it is the name of a member. Possessive: a way back would take memory for
every repetition."""

MAX_LISTS = 2_000_000
MAX_OBJECTS = 1_000
MAX_QUOTATION_MARKS = 10_000
"""A list, an object or a string takes far more memory than its text: a body full of them must not fill the memory.
Tensors may hold many lists, but no request holds more than a few objects and strings."""

MEMORY_OF_CHARACTER, MEMORY_OF_LIST = 16, 100
"""Bytes that are taken while JSON is parsed. The shortest number and its comma make an object, its place in two lists,
and its place in an array; a list is an object of its own."""


def load_object(body: bytearray) -> dict[str, Any]:
    """Parse a body that must be a JSON object.

    Raises
    ------
    UnreadablePayload, TooLarge
    """
    if body.count(b"[") > MAX_LISTS:
        expected = f"at most {MAX_LISTS} lists"
        message = f"the body has more lists than are taken; needed: {expected}, or flat, base64 or binary tensors"
        raise TooLarge.of("", message, got="more lists", expected=expected)
    if body.count(b"{") > MAX_OBJECTS or body.count(b'"') > MAX_QUOTATION_MARKS:
        expected = "operands and parameters side by side in one object"
        message = f"the body has more objects or strings than any request; needed: {expected}"
        raise UnreadablePayload.of("", message, got="more objects or strings", expected=expected)
    try:
        content = orjson.loads(without_mark(body))
    except orjson.JSONDecodeError as error:
        raise syntax_error(body, error) from None
    if not isinstance(content, dict):
        raise UnreadablePayload.of(
            "",
            "the body is JSON but no object; needed: operands and parameters side by side in one object",
            got=json_kind(content),
            expected="an object",
        )
    _refuse_repeated(content, body)
    return content


def _refuse_repeated(content: Mapping[str, Any], body: bytearray) -> None:
    """Refuse a member that stands in an object twice; the parser keeps the last one and says nothing."""
    written = collections.Counter(
        orjson.loads(b'"%b"' % match.group(1)) for match in STRING.finditer(body) if match.group(2)
    )
    kept = collections.Counter(_member_names(content))
    # a name that stands only in objects within lists is none of a request's, and an error of its own
    repeated = [name for name, count in written.items() if 0 < kept[name] < count]
    if repeated:
        message = "a member stands in its object more than once"
        raise InvalidRequest(
            *(
                Finding(pointer_to(name) if name in content else "", message, "two values", "one value")
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

    media_type: ClassVar[str] = "application/json"

    def decode(  # noqa: D102
        self, body: bytearray, operands: Sequence[str], options: Mapping[str, str], limits: Limits
    ) -> Decoded:
        memory = MEMORY_OF_CHARACTER * len(body) + MEMORY_OF_LIST * body.count(b"[")
        limits.charge(memory)
        content = load_object(body)
        text = ExactNumbers(body, lambda: limits.charge(memory))
        default_dtype = read_dtype(content.pop("dtype"), "/dtype") if "dtype" in content else None
        # null is what many clients write for an operand that is not given
        present = [name for name in operands if content.get(name) is not None]
        tensors: dict[str, NDArray[Any]] = {}
        findings: list[Finding] = []
        for name in present:
            try:
                tensors[name] = read_tensor(content[name], f"/{name}", default_dtype, text)
            except InvalidRequest as problem:
                findings.extend(problem.findings)
        if findings:
            raise InvalidRequest(*findings)
        parameters = {name: value for name, value in content.items() if name not in operands}
        form = form_of(content[present[0]]) if present else "nested"
        return Decoded(tensors, parameters, form)

    def memory_of_answer(self, results: Sequence[TensorType], form: TensorForm) -> int:  # noqa: D102
        return sum(longest_text(result, form) for result in results)

    def encode(self, results: Mapping[str, NDArray[Any]], form: TensorForm) -> list[Buffer]:  # noqa: D102
        pieces: list[Buffer] = []
        for name, result in results.items():
            if form != "base64" and not np.isfinite(result).all():
                raise InvalidRequest.of(
                    f"/{name}",
                    f"{name} holds NaN or infinity, which JSON has not; ask for npy or npz with the Accept header, or "
                    "send the first operand as base64",
                    got="a result that is not finite",
                    expected="Accept: application/x-npy or application/x-npz, or base64 tensors",
                )
            pieces.append(b"%b%b:" % (b"," if pieces else b"{", orjson.dumps(name)))
            pieces.extend(write_tensor(result, form))
        return [*pieces, b"}\n"]  # a shell's prompt then stands on a line of its own
