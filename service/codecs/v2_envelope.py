"""The JSON of an Open Inference Protocol request: its members and their types, and what to say of one that is wrong.

msgspec checks the structure while it parses, in microseconds; the ``data`` of tensors stay text until the datatype and
the shape are known. Where msgspec refuses a text, its words are put into this service's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ..problems import InvalidRequest, RequestProblem
from .json_objects import LONG, Unreadable, json_kind, parse
from .json_skeleton import STRING, Skeleton
from .json_syntax import without_mark
from .message import MAX_NDIM, Buffer, Limits
from .names import pointer_to
from .steps import STEP_BYTES

__all__ = ["InferRequest", "RequestedOutput", "Tensor", "parse_request", "parsed_parameters", "refuse_unknown"]

MAX_TENSORS = 64
"""Maximum number of inputs or outputs, more than any operation has: a bound on the findings of one response."""

NOTHING = msgspec.Raw()
Size = Annotated[int, msgspec.Meta(ge=0)]


class Tensor(msgspec.Struct, forbid_unknown_fields=True):
    """An input: its data are either text in JSON or, if ``parameters`` has ``binary_data_size``, bytes after it."""

    name: str
    shape: Annotated[list[Size], msgspec.Meta(max_length=MAX_NDIM)]
    datatype: str
    parameters: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING


class RequestedOutput(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is asked for."""

    name: str
    parameters: msgspec.Raw = NOTHING


class InferRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An inference request."""

    inputs: Annotated[list[Tensor], msgspec.Meta(max_length=MAX_TENSORS)]
    id: str | None = None
    parameters: msgspec.Raw = NOTHING
    outputs: Annotated[list[RequestedOutput], msgspec.Meta(max_length=MAX_TENSORS)] | None = None
    model_name: msgspec.Raw = NOTHING  # KServe's client sends it; the URL says which model it is


IGNORED_OF_TENSORS = ("content_type", "headers")
"""Parameters of inputs and outputs that MLServer's schema has, and that say nothing about the numbers."""

_DECODER = msgspec.json.Decoder(InferRequest)

WORDS = {
    "int": "an integer",
    "float": "a number with a point",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
"""What msgspec calls the kinds of JSON values, and what they are called here."""

MEMBERS = {
    r"": InferRequest,
    r"/inputs/\d+": Tensor,
    r"/outputs/\d+": RequestedOutput,
}
"""The objects of a request by a pattern of their pointer."""

WRONG_KIND = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
TOO_LONG = re.compile(r"Expected `array` of length <= (\d+)")
NEGATIVE = re.compile(r"Expected `int` >= 0")
MISSING = re.compile(r"Object missing required field `([a-z]+)`")
UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
PLACE = re.compile(r" - at `\$([][.\w]*)`\Z")
"""The forms that msgspec's messages have."""


def parse_request(text: Buffer) -> InferRequest:
    """Parse the JSON of a request.

    The data of its tensors are views of the text, and JSON as far as ``json_objects.read_members`` says.

    Raises
    ------
    Unreadable
        If it is not JSON.
    InvalidRequest, UnreadablePayload
        If it is JSON, but not a request.
    """
    skeleton = Skeleton.of(without_mark(text))
    try:
        request = _DECODER.decode(skeleton.content)
    except msgspec.ValidationError as error:
        raise _translated(str(error)) from None
    except msgspec.DecodeError:
        raise Unreadable from None
    except RecursionError:
        expected = "lists of as many levels as the operands have axes"
        raise InvalidRequest.of("", "the body is nested too deeply", got="more levels", expected=expected) from None
    if any(gap.kind == STRING for gap in skeleton.gaps):
        fault, expected = "a string is longer than any in a request", f"at most {STEP_BYTES} bytes"
        raise InvalidRequest.of("", fault, got="a longer one", expected=expected)
    if skeleton.gaps:
        request.parameters = _original(skeleton, request.parameters)
        for tensor in request.inputs:
            tensor.parameters = _original(skeleton, tensor.parameters)
            tensor.data = _original(skeleton, tensor.data)
        for output in request.outputs or []:
            output.parameters = _original(skeleton, output.parameters)
    return request


def _original(skeleton: Skeleton, part: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(skeleton.original(part)) if memoryview(part) else part


def parsed_parameters(parameters: msgspec.Raw, pointer: str, limits: Limits) -> dict[str, Any]:
    """Return the parameters of a request, an input or an output; none if they are left out, or null.

    Raises
    ------
    Unreadable, UnreadablePayload, InvalidRequest, TooLarge
    """
    text = memoryview(parameters)
    value = parse(text, limits) if text else None
    if value is None:
        return {}
    if value is LONG:
        fault, expected = f"the value at {pointer}/parameters is too long", f"at most {STEP_BYTES} bytes"
        raise InvalidRequest.of(f"{pointer}/parameters", fault, got="a longer one", expected=expected)
    if not isinstance(value, dict):
        fault, expected = f"the value at {pointer}/parameters has the wrong type", "an object or null"
        raise InvalidRequest.of(f"{pointer}/parameters", fault, got=json_kind(value), expected=expected)
    return value


def _translated(message: str) -> RequestProblem:
    place = PLACE.search(message)
    pointer = re.sub(r"[.[]", "/", place[1]).replace("]", "").replace("/...", "") if place else ""
    where = f"the value at {pointer}" if pointer else "the request"
    if match := UNKNOWN.match(message):
        known = next(struct for pattern, struct in MEMBERS.items() if re.fullmatch(pattern, pointer))
        name = pointer_to(match[1]).removeprefix("/")
        fault = f"{where} has a member that the protocol does not have".replace("the value at", "the object at")
        hint = "parameters of the operation go in the request's parameters" if known is InferRequest else ""
        expected = ", ".join(known.__struct_fields__)
        return InvalidRequest.of(pointer, fault, got=name or "another member", expected=expected, hint=hint)
    if match := MISSING.match(message):
        return InvalidRequest.of(pointer, f"{where} has no {match[1]}", got="nothing", expected=match[1])
    if match := WRONG_KIND.match(message):
        expected = " or ".join(WORDS.get(kind, kind) for kind in match[1].split(" | "))
        fault = f"{where} has the wrong type"
        return InvalidRequest.of(pointer, fault, got=WORDS.get(match[2], match[2]), expected=expected)
    if match := TOO_LONG.match(message):
        return InvalidRequest.of(pointer, f"{where} is too long", got="more entries", expected=f"at most {match[1]}")
    if NEGATIVE.match(message):
        return InvalidRequest.of(pointer, f"{where} is negative", got="a number below 0", expected="an integer >= 0")
    return InvalidRequest.of(pointer, f"{where} is out of range", got="another value", expected="a smaller number")


def refuse_unknown(parameters: Mapping[str, Any], known: tuple[str, ...], pointer: str) -> None:
    """Raise InvalidRequest if a tensor's own parameters hold one that would have to be ignored.

    Parameters
    ----------
    parameters : mapping of str to object
    known : tuple of str
        The names that mean something for this tensor.
    pointer : str
        The tensor, to be named in the error.
    """
    for name in parameters:
        if name in known or name in IGNORED_OF_TENSORS:
            continue
        if name.startswith("shared_memory"):
            fault, expected = "tensors in shared memory are not read or written", "binary or JSON data"
            raise InvalidRequest.of(pointer, fault, got=pointer_to(name).removeprefix("/"), expected=expected)
        fault = f"{pointer.removeprefix('/')} has a parameter of its own that is not known"
        raise InvalidRequest.of(
            pointer,
            fault,
            got=pointer_to(name).removeprefix("/") or "another parameter",
            expected=", ".join(known),
            hint="parameters of the operation go in the request's parameters",
        )
