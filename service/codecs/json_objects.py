"""JSON text as objects: the members of an object as text, or everything in it as Python objects.

Operands are millions of numbers and stay text, which ``json_tensors`` reads without an object for each of them. Where
that finds something wrong, the whole body is checked, which takes longer, to say what is wrong and where.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec
import orjson

from ..problems import Finding, InvalidRequest, UnreadablePayload
from .json_check import SyntaxFault, check, loads
from .json_skeleton import MAX_NUMBER, MAX_OBJECTS, OTHER, Skeleton, too_many
from .json_syntax import syntax_error, without_mark
from .message import Buffer, Limits
from .names import pointer_to
from .steps import STEP_BYTES

__all__ = [
    "LONG",
    "Text",
    "Unreadable",
    "json_kind",
    "kind_of",
    "load_object",
    "parse",
    "read_body",
    "read_members",
    "reading_memory",
    "refuse_unreadable",
    "require_json",
    "text_memory",
]

Text = memoryview
"""One JSON value, without whitespace before it."""

STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"([ \t\r\n]*+:)?', re.DOTALL)
"""A string, and the colon that follows if it is the name of a member. Possessive: a way back would take memory for
every repetition."""

LONG = b""
"""Stands for a value that is longer than any parameter's. No parameter accepts bytes, so the error names it."""

MEMORY_OF_CHARACTER = 64
"""Bytes allocated while JSON becomes Python objects. The shortest list and its comma, three characters, are an object
of its own and a slot in another."""

MEMORY_OF_CHUNK_CHARACTER, MEMORY_OF_LONG_NUMBER = 32, 8
"""Bytes allocated while a chunk of numbers is read: the shortest number and its comma are an object, a slot in a list
and elements of some arrays; the text of a -0, or of the middle between two numbers, is an object, too."""

SPLITTING_MEMORY = 2**22
"""Bytes allocated at most while an object is split into its members: by copies of its skeleton."""

CHECKING_MEMORY = 2**23
"""Bytes allocated while a text is checked: the objects of one piece of it, or of its skeleton."""

KINDS = {'"': "a string", "t": "true or false", "f": "true or false", "[": "a list", "{": "an object", "n": "null"}
"""What a JSON value is, by the first character of its text."""


class Unreadable(Exception):
    """A text is not JSON, or an object in it has a member twice: ``refuse_unreadable`` says what and where."""


class _Name(str):
    """The name of a member, different from every other name even if it is the same: so that a dict keeps both."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_MEMBERS = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda _, name: _Name(name))


def reading_memory(size: int) -> int:
    """Return the bytes that reading a body of a size allocates besides its tensors, if there is no fault in it."""
    if size <= STEP_BYTES:
        return MEMORY_OF_CHUNK_CHARACTER * size
    return MEMORY_OF_CHUNK_CHARACTER * STEP_BYTES + MEMORY_OF_LONG_NUMBER * MAX_NUMBER + SPLITTING_MEMORY


def text_memory(size: int) -> int:
    """Return an estimate of what reading a body of a size allocates: a byte of a tensor for each character."""
    return size + reading_memory(size)


def read_body(body: Buffer) -> dict[str, Text]:
    """Return the members of a body that must be an object, as ``read_members`` does.

    Raises
    ------
    Unreadable
    """
    return read_members(without_mark(body))


def read_members(text: Text) -> dict[str, Text]:
    """Return the members of an object as views of its text.

    They are JSON as far as they are short: of lists, strings and whitespace, the middle may be anything that has as
    many brackets. A number may be beyond the range of float64, and a string may not be UTF-8. There may be whitespace
    after them.

    Raises
    ------
    Unreadable, UnreadablePayload
    """
    try:
        if len(text) <= STEP_BYTES:
            members = _MEMBERS.decode(text)
            named = {str(name): memoryview(value) for name, value in members.items()}
        else:
            skeleton = Skeleton.of(text)
            members = _MEMBERS.decode(skeleton.content)
            named = {str(name): skeleton.original(value) for name, value in members.items()}
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable from None
    if len(named) < len(members):
        raise Unreadable
    return named


def parse(text: Text, limits: Limits) -> Any:
    """Parse a parameter, after its memory has been charged; return LONG if it is longer than any parameter is.

    Raises
    ------
    Unreadable, UnreadablePayload
    """
    if len(text) > STEP_BYTES:
        require_json(text, limits)
        return LONG
    limits.charge(MEMORY_OF_CHARACTER * len(text))
    try:
        return loads(text)
    except orjson.JSONDecodeError:
        raise Unreadable from None


def require_json(text: Text, limits: Limits) -> None:
    """Raise Unreadable unless a text of any size is JSON."""
    limits.charge(CHECKING_MEMORY)
    try:
        check(text)
    except SyntaxFault:
        raise Unreadable from None


def refuse_unreadable(body: Buffer, limits: Limits) -> NoReturn:
    """Raise what is wrong with a body that is not a JSON object, or has a member twice in an object.

    Raises
    ------
    UnreadablePayload, InvalidRequest
    """
    limits.charge(CHECKING_MEMORY)
    _checked_object(body)
    expected = "lists of as many levels as the operands have axes"
    raise InvalidRequest.of("", "the body is nested too deeply", got="more levels", expected=expected)


def load_object(body: Buffer) -> dict[str, Any]:
    """Parse a body that must be a JSON object with parameters and no tensors.

    Raises
    ------
    UnreadablePayload, InvalidRequest
    """
    content, skeleton = _checked_object(body)
    if any(gap.kind != OTHER for gap in skeleton.gaps):
        fault, expected = "a list or a string is longer than any parameter", f"at most {STEP_BYTES} bytes"
        raise InvalidRequest.of("", fault, got="a longer one", expected=expected)
    return content


def _checked_object(body: Buffer) -> tuple[dict[str, Any], Skeleton]:
    """Return the skeleton of a body, parsed, and itself; raise what is wrong with a body that is not an object."""
    try:
        content, skeleton = check(without_mark(body))
    except SyntaxFault as fault:
        raise syntax_error(body, fault) from None
    if skeleton.content.count(b"{") > MAX_OBJECTS:
        raise too_many()
    if not isinstance(content, dict):
        expected = "an object with operands and parameters side by side"
        raise UnreadablePayload.of("", "the body is JSON but not an object", got=json_kind(content), expected=expected)
    _refuse_repeated(content, skeleton.content)
    return content, skeleton


def _refuse_repeated(content: Mapping[str, Any], text: bytes) -> None:
    """Refuse a member that occurs in an object twice; the parser keeps the last one without an error."""
    written = collections.Counter(
        orjson.loads(b'"%b"' % match.group(1)) for match in STRING.finditer(text) if match.group(2)
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


def kind_of(text: Text, limits: Limits) -> str:
    """Say what the JSON value in a text is.

    Raises
    ------
    Unreadable
        If it is none.
    """
    require_json(text, limits)
    return KINDS.get(chr(text[0]), "a number")


def json_kind(value: Any) -> str:
    """Say what a JSON value is, or LONG."""
    names = {
        str: "a string",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        int: "a number",
        float: "a number",
        bytes: "a long value",
    }
    return names.get(type(value), "null")
