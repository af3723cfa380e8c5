"""Whether a text is JSON, checked in steps: what is wrong first, and where.

A parser checks the skeleton of the text. Then it checks what is left out of it, piece by piece: a piece of a list ends
at a comma, and gets the brackets before and after it that are open there, so that the parser says of the piece what it
would say of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from .json_skeleton import LIST, MAX_DEPTH, MAX_NUMBER, STRING, Gap, Skeleton
from .message import Buffer
from .steps import STEP_BYTES, count, find

__all__ = ["NOT_UTF_8", "TOO_LONG", "SyntaxFault", "check", "cut_at_commas", "loads", "opened", "string_pieces"]

NOT_UTF_8 = "a byte that is not UTF-8"
TOO_LONG = f"a number has more than {MAX_NUMBER} characters, or something else that is no JSON has"

TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{}]', re.DOTALL)
"""A string, or a bracket outside of strings."""

WHOLE_ESCAPES = re.compile(
    rb"(?:[^\\]++"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    rb"|\\[^u])*+",
    re.DOTALL,
)
"""What of a string may be cut off: no part of an escape or of a surrogate pair."""

LONGEST_ESCAPE = 12


OUT_OF_MEMORY = "failed to allocate memory"


class SyntaxFault(Exception):
    """What is wrong with a text first.

    Parameters
    ----------
    position : int
        Where in the text, in bytes.
    message : str
        The parser's words, NOT_UTF_8 or TOO_LONG.
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(position, message)
        self.position, self.message = position, message


def loads(text: Buffer) -> Any:
    """Parse a text that is small.

    The parser takes a text that begins with two blanks after a bracket for an indented one, and reserves too little for
    one that is dense after that: it fails as if there were no memory. Within another list, it begins otherwise.

    Raises
    ------
    orjson.JSONDecodeError
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.msg != OUT_OF_MEMORY:
            raise
    try:
        return orjson.loads(b"".join([b"[", text, b"]"]))[0]
    except orjson.JSONDecodeError as error:
        raise orjson.JSONDecodeError(error.msg, "", error.pos - 1) from None


def check(text: Buffer) -> tuple[Any, Skeleton]:
    """Return the skeleton of a text, parsed, and itself.

    Raises
    ------
    SyntaxFault
        If the text is not JSON.
    UnreadablePayload
        If it has too many objects or strings.
    """
    skeleton = Skeleton.of(text)
    content, fault = None, None
    try:
        content = _parsed(skeleton)
    except SyntaxFault as error:
        fault = error
    for gap, open_brackets in _gaps_in_context(skeleton):
        if fault and gap.start > fault.position:  # where it is equal, the fault may be in what stands for the gap
            break
        if gap.kind == LIST:
            _check_elements(text, gap, open_brackets)
        else:
            _check_string(text, gap)
    if fault:
        raise fault
    return content, skeleton


def _parsed(skeleton: Skeleton) -> Any:
    content = skeleton.content
    try:
        return loads(content)
    except orjson.JSONDecodeError as error:
        try:
            position = len(content.decode()[: error.pos].encode())
        except UnicodeDecodeError as fault:
            raise SyntaxFault(skeleton.place(fault.start), NOT_UTF_8) from None
        if skeleton.is_cut and position >= len(content):
            raise SyntaxFault(skeleton.place(position), TOO_LONG) from None
        raise SyntaxFault(skeleton.place(position), error.msg) from None


def _gaps_in_context(skeleton: Skeleton) -> Iterator[tuple[Gap, bytes]]:
    """Yield the lists and strings that are left out, and the brackets that are open before each of them."""
    content, opened, position = skeleton.content, bytearray(), 0
    for gap in skeleton.gaps:
        if gap.kind == LIST:
            for token in TOKEN.finditer(content, position, gap.position):
                if token[0] in b"[{":
                    opened += token[0]
                elif token[0] in b"]}":
                    del opened[-1:]
            position = gap.position
        if gap.kind in {LIST, STRING}:
            yield gap, bytes(opened)


def cut_at_commas(text: Buffer, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the pieces of a list between two places start and end: each but the last ends with a comma."""
    while start < end:
        comma = find(text, b",", min(end, start + STEP_BYTES), end)
        last = comma + 1 if comma >= 0 else end
        yield start, last
        start = last


def opened(text: Buffer, start: int, end: int) -> int:
    """Return how many more lists open than close between two places."""
    return count(text, b"[", start, end) - count(text, b"]", start, end)


def _check_elements(text: Buffer, gap: Gap, open_brackets: bytes) -> None:
    """Check elements of a list, with the brackets that are open before them."""
    depth = len(open_brackets) - 1 - open_brackets.rfind(b"{")  # of lists, in the innermost object
    outside = len(open_brackets) - depth
    before, after = (b"[" * (outside - 1) + b'{"":', b"}" + b"]" * (outside - 1)) if outside else (b"", b"")
    for start, end in cut_at_commas(text, gap.start, gap.end):
        piece = Skeleton(text)
        piece.leave_out(start - 1, start - 1, before + b"[" * depth + b"0")
        depth += opened(text, start, end)
        # from the comma before it to the one after it: the parser may name either
        last = end + 1 if end == gap.end and depth > 0 else end
        piece.keep(start - 1, last)
        another = b"0" if last > end or end < gap.end else b""
        piece.leave_out(last, last, another + b"]" * min(depth, MAX_DEPTH) + after)
        _parsed(piece)


def _check_string(text: Buffer, gap: Gap) -> None:
    for start, end in string_pieces(text, gap.start, gap.end):
        piece = Skeleton(text)
        piece.leave_out(start, start, b'"')
        piece.keep(start, end)
        piece.leave_out(end, end, b'"')
        _parsed(piece)


def string_pieces(text: Buffer, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the pieces of what is within a string start and end: each is what is within a string, too."""
    view = memoryview(text)
    while start < end:
        limit = min(end, start + STEP_BYTES - 2 * LONGEST_ESCAPE)
        match = WHOLE_ESCAPES.match(view, start, limit)
        last = match.end() if match else start
        if last < limit - LONGEST_ESCAPE:  # an escape that is none: the parser will say so
            last = min(end, last + LONGEST_ESCAPE)
        while start < last < end and view[last] & 0xC0 == 0x80:  # within a character
            last -= 1
        last = last if last > start else min(end, start + LONGEST_ESCAPE)
        yield start, last
        start = last
