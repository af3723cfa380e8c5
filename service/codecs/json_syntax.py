"""What is wrong with a text that is not JSON, and where: the parser's own words, or clearer ones where there are."""

from __future__ import annotations

import math
import re

import orjson

from ..problems import UnreadablePayload
from .media_types import FORM_DATA, NPY, NPZ

__all__ = ["syntax_error", "without_mark"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

FILES = {
    b"\x93NUMPY": ("an npy file", NPY),
    b"PK\x03\x04": ("a zip file, as an npz is", NPZ),
}
"""How binary files begin, what they are, and the Content-Type that they are sent with."""

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![\w.+-])", re.ASCII)
LIKE_A_NUMBER = re.compile(r"[+-]*\.?[0-9][\w.+-]*", re.ASCII)
CHARACTERS_AROUND = 40
FORM_BYTES = 1024
"""The start of a form, with the headers of its first part."""

HINTS = [
    (re.compile(pattern), hint)
    for pattern, hint in (
        (
            r"(?i:nan|inf|infinity)(?!\w)",
            "JSON has no NaN and no Infinity; npy, npz and tensors in base64 can hold them",
        ),
        (
            r"(?!(?:true|false|null)(?!\w))(?i:true|false|null|none|undefined)(?!\w)",
            "JSON writes true, false and null, in lower case; None and undefined are null",
        ),
        (
            r"['\u2018\u2019\u201c\u201d\xab\xbb`]",
            'JSON writes strings and names in double quotes, as in "mode": "max"',
        ),
        (r"[^\W\d]\w*+\s*+:", 'JSON writes names in double quotes, as in "mode": "max"'),
        (r",\s*+[\]}]", "a comma has nothing after it but a closing bracket (a trailing comma)"),
        (r"//|/\*|#", "JSON has no comments"),
        (r"\(", "JSON writes lists in square brackets"),
        (r"\\u[0-9A-Fa-f]{4}", "an escape is half of a surrogate pair without its other half"),
        (r"\\", 'JSON has only the escapes \\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four hexadecimal digits'),
        (
            r"[\x00-\x1f]",
            "a control character is not allowed here; write it as an escape in a string, such as \\n or \\t",
        ),
    )
]
"""The text at which the parser stopped, and what to say about it."""


def without_mark(body: bytearray) -> memoryview:
    """Return a text without a byte order mark, which some editors and shells put before UTF-8.

    A parser may ignore it (RFC 8259, section 8.1).
    """
    return memoryview(body)[len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0 :]


def syntax_error(body: bytearray, error: orjson.JSONDecodeError) -> UnreadablePayload:
    """Return the problem with a body that the parser refused."""
    for magic, (kind, media_type) in FILES.items():
        if body.startswith(magic):
            expected = f"Content-Type: {media_type}, and with curl --data-binary"
            return UnreadablePayload.of("", "the Content-Type says JSON", got=kind, expected=expected)
    if body.startswith(b"--") and b"content-disposition:" in body[:FORM_BYTES].lower():
        expected = "a Content-Type with the form's boundary"
        hint = f"drop your own Content-Type header: curl -F and HTTP libraries set {FORM_DATA} with its boundary"
        return UnreadablePayload.of("", "the Content-Type says JSON", got="a form", expected=expected, hint=hint)
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:2]:
        return _problem("its text is not UTF-8 but most likely UTF-16", "another encoding")
    try:
        text = str(without_mark(body), "utf-8")
    except UnicodeDecodeError as fault:
        before = str(bytes(fault.object[: fault.start]), "utf-8")
        return _problem(f"{_place(before, len(before))}: a byte that is not UTF-8", "another byte")
    if not text or text.isspace():
        return _problem("it is empty", "nothing")
    if error.pos >= len(text):
        reason = "the text breaks off before its last string, list or object is closed"
        return _problem(f"{_place(text, error.pos)}: {reason}", "the end of the text")
    character = text[error.pos]
    other = "a control character" if character < " " else "another character"
    got = f"the character {character}" if "!" <= character <= "~" else other
    return _problem(f"{_place(text, error.pos)}: {_reason(text, error)}", got)


def _problem(reason: str, got: str) -> UnreadablePayload:
    return UnreadablePayload.of("", f"the body is not JSON: {reason}", got=got, expected="a JSON object in UTF-8")


def _place(text: str, position: int) -> str:
    """Return the line and the column, in characters, that a position has."""
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}"


def _reason(text: str, error: orjson.JSONDecodeError) -> str:
    for pattern, hint in HINTS:
        if pattern.match(text, error.pos):
            return hint
    if number := NUMBER.match(text, error.pos):
        return "a number is beyond the range of float64" if math.isinf(float(number.group())) else error.msg
    start = max(0, error.pos - CHARACTERS_AROUND)
    for token in LIKE_A_NUMBER.finditer(text, start, error.pos + CHARACTERS_AROUND):
        if token.start() <= error.pos <= token.end() and not NUMBER.fullmatch(token.group()):
            return "a number is not as JSON writes it: digits on both sides of a point, and no + or 0 before it"
    return error.msg
