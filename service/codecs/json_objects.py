"""JSON text as objects: the members of an object as text, or everything in it as Python objects.

Operands are millions of numbers and stay text, which ``json_tensors`` reads without an object for each of them. Where
that finds something wrong, the whole body is parsed, which takes longer, to say what is wrong and where.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec
import orjson

from ..problems import Finding, InvalidRequest, TooLarge, UnreadablePayload
from .json_syntax import syntax_error, without_mark
from .message import Limits
from .names import pointer_to

__all__ = [
    "Text",
    "Unreadable",
    "json_kind",
    "load",
    "load_object",
    "parse",
    "read_body",
    "read_members",
    "refuse_unreadable",
]

Text = memoryview
"""One JSON value, without whitespace around it."""

STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?', re.DOTALL)
"""A string, and the colon that follows if it is the name of a member. Possessive: a way back would take memory for
every repetition."""

MAX_LISTS = 2_000_000
MAX_OBJECTS = 1_000
MAX_QUOTATION_MARKS = 10_000
"""A list, an object or a string takes far more memory than its text: a body full of them must not fill the memory.
Tensors may hold many lists, but no request holds more than a few objects and strings."""

MEMORY_OF_CHARACTER, MEMORY_OF_LIST = 16, 100
"""Bytes allocated while JSON becomes Python objects. The shortest number and its comma are an object and a slot in each
of two lists; a list is an object of its own."""


class Unreadable(Exception):
    """A text is not JSON, or an object in it has a member twice: ``refuse_unreadable`` says what and where."""


class _Name(str):
    """The name of a member, different from every other name even if it is the same: so that a dict keeps both."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_MEMBERS = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda _, name: _Name(name))


def read_body(body: bytearray) -> dict[str, Text]:
    """Return the members of a body that must be an object, as ``read_members`` does.

    Raises
    ------
    Unreadable
    """
    position = -1
    for _ in range(MAX_QUOTATION_MARKS + 1):  # finding a few takes a tenth of the time of counting them
        if (position := body.find(b'"', position + 1)) < 0:
            return read_members(without_mark(body))
    raise Unreadable


def read_members(text: Text) -> dict[str, Text]:
    """Return the members of an object as views of its text.

    They are JSON, but a number may be beyond the range of float64, and a string may not be UTF-8.

    Raises
    ------
    Unreadable
    """
    try:
        members = _MEMBERS.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable from None
    named = {str(name): memoryview(value) for name, value in members.items()}
    if len(named) < len(members):
        raise Unreadable
    return named


def load(text: Text) -> Any:
    """Parse a text that is small, or a single string.

    Raises
    ------
    Unreadable
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Unreadable from None


def parse(text: Text, limits: Limits) -> Any:
    """Parse a text of any size, after its memory has been charged.

    Raises
    ------
    Unreadable, UnreadablePayload, TooLarge
    """
    content = bytes(text)
    limits.charge(_memory(content))
    _refuse_too_many(content)
    return load(text)


def refuse_unreadable(body: bytearray, limits: Limits) -> NoReturn:
    """Raise what is wrong with a body that is not a JSON object, or has a member twice in an object.

    Raises
    ------
    UnreadablePayload, InvalidRequest, TooLarge
    """
    limits.charge(_memory(body))
    load_object(body)
    expected = "lists of as many levels as the operands have axes"
    raise InvalidRequest.of("", "the body is nested too deeply", got="more levels", expected=expected)


def load_object(body: bytearray) -> dict[str, Any]:
    """Parse a body that must be a JSON object.

    Raises
    ------
    UnreadablePayload, InvalidRequest, TooLarge
    """
    _refuse_too_many(body)
    try:
        content = orjson.loads(without_mark(body))
    except orjson.JSONDecodeError as error:
        raise syntax_error(body, error) from None
    if not isinstance(content, dict):
        expected = "an object with operands and parameters side by side"
        raise UnreadablePayload.of("", "the body is JSON but not an object", got=json_kind(content), expected=expected)
    _refuse_repeated(content, body)
    return content


def _memory(text: bytes | bytearray) -> int:
    """Return the bytes that parsing a text allocates."""
    return MEMORY_OF_CHARACTER * len(text) + MEMORY_OF_LIST * text.count(b"[")


def _refuse_too_many(text: bytes | bytearray) -> None:
    if text.count(b"[") > MAX_LISTS:
        expected = f"at most {MAX_LISTS} lists, or flat, base64 or binary tensors"
        raise TooLarge.of("", "the body has too many lists", got="more lists", expected=expected)
    if text.count(b"{") > MAX_OBJECTS or text.count(b'"') > MAX_QUOTATION_MARKS:
        expected = "operands and parameters side by side in one object"
        fault = "the body has too many objects or strings"
        raise UnreadablePayload.of("", fault, got="more objects or strings", expected=expected)


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


def json_kind(value: Any) -> str:
    """Say what a JSON value is."""
    names = {
        str: "a string",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
