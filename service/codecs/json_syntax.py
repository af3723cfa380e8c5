"""What is wrong with a text that is not JSON, and where: the parser's own words, or clearer ones where there are."""

from __future__ import annotations

import math
import re

import numpy as np

from ..problems import UnreadablePayload
from .json_check import NOT_UTF_8, TOO_LONG, SyntaxFault
from .media_types import FORM_DATA, NPY, NPZ
from .message import Buffer
from .steps import ARRAY_BYTES, count, is_blank, rfind, steps

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
BYTES_BEFORE, BYTES_AFTER = 4 * CHARACTERS_AROUND, 2**14
"""What is looked at of the text around a fault."""

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


def without_mark(body: Buffer) -> memoryview:
    """Return a text without a byte order mark, which some editors and shells put before UTF-8.

    A parser may ignore it (RFC 8259, section 8.1).
    """
    content = memoryview(body)
    return content[len(BYTE_ORDER_MARK) if content[: len(BYTE_ORDER_MARK)] == BYTE_ORDER_MARK else 0 :]


def syntax_error(body: Buffer, fault: SyntaxFault) -> UnreadablePayload:
    """Return the problem with a body whose text, without a byte order mark, has a fault."""
    start = bytes(memoryview(body)[:FORM_BYTES])
    for magic, (kind, media_type) in FILES.items():
        if start.startswith(magic):
            expected = f"Content-Type: {media_type}, and with curl --data-binary"
            return UnreadablePayload.of("", "the Content-Type says JSON", got=kind, expected=expected)
    if start.startswith(b"--") and b"content-disposition:" in start.lower():
        expected = "a Content-Type with the form's boundary"
        hint = f"drop your own Content-Type header: curl -F and HTTP libraries set {FORM_DATA} with its boundary"
        return UnreadablePayload.of("", "the Content-Type says JSON", got="a form", expected=expected, hint=hint)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:2]:
        return _problem("its text is not UTF-8 but most likely UTF-16", "another encoding")
    text, position = without_mark(body), fault.position
    place = _place(text, position)
    if fault.message == NOT_UTF_8:
        return _problem(f"{place}: {NOT_UTF_8}", "another byte")
    if fault.message == TOO_LONG:
        return _problem(f"{place}: {TOO_LONG}", "more characters")
    if is_blank(text, 0, len(text)):
        return _problem("it is empty", "nothing")
    if position >= len(text):
        reason = "the text breaks off before its last string, list or object is closed"
        return _problem(f"{place}: {reason}", "the end of the text")
    before = str(text[max(0, position - BYTES_BEFORE) : position], "utf-8", "replace")
    around = before + str(text[position : position + BYTES_AFTER], "utf-8", "replace")
    character = around[len(before)]
    other = "a control character" if character < " " else "another character"
    got = f"the character {character}" if "!" <= character <= "~" else other
    return _problem(f"{place}: {_reason(around, len(before), fault.message)}", got)


def _problem(reason: str, got: str) -> UnreadablePayload:
    return UnreadablePayload.of("", f"the body is not JSON: {reason}", got=got, expected="a JSON object in UTF-8")


def _place(text: memoryview, position: int) -> str:
    """Return the line and the column, in characters, that a position in UTF-8 has."""
    line = rfind(text, b"\n", 0, position) + 1
    codes = np.frombuffer(text, np.uint8)
    # a character has one byte that does not continue another one
    column = sum(
        int(np.count_nonzero(codes[first:last] & 0xC0 != 0x80)) for first, last in steps(line, position, ARRAY_BYTES)
    )
    lines = count(text, b"\n", 0, position)
    return f"line {lines + 1}, column {column + 1}"


def _reason(text: str, position: int, message: str) -> str:
    for pattern, hint in HINTS:
        if pattern.match(text, position):
            return hint
    if number := NUMBER.match(text, position):
        return "a number is beyond the range of float64" if math.isinf(float(number.group())) else message
    start = max(0, position - CHARACTERS_AROUND)
    for token in LIKE_A_NUMBER.finditer(text, start, position + CHARACTERS_AROUND):
        if token.start() <= position <= token.end() and not NUMBER.fullmatch(token.group()):
            return "a number is not as JSON writes it: digits on both sides of a point, and no + or 0 before it"
    return message
