"""What remains of a large JSON text without its long lists, strings and whitespace: small enough to be parsed at once.

A parser holds the GIL until it is done, several nanoseconds for each byte. So what is long is left out of the text that
it gets, and what is left out is read in steps, by whoever needs it. What remains is JSON whenever the text is: the
elements in the middle of a long list are replaced by some zeros, and by the brackets that close and open there.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np

from ..problems import UnreadablePayload
from .message import Buffer
from .steps import STEP_BYTES, count, find, is_blank, positions, rfind, steps

__all__ = ["LIST", "MAX_DEPTH", "MAX_NUMBER", "MAX_OBJECTS", "OTHER", "STRING", "Gap", "Skeleton", "too_many"]

LIST, STRING, OTHER = range(3)
"""What is left out: elements of lists, what is within a string, and whitespace."""

MAX_OBJECTS = 1_000
MAX_QUOTATION_MARKS = 10_000
"""An object or a string takes far more memory than its text, and no request holds more than a few."""

MAX_SKELETON = 2**20
"""Bytes that may remain: a millisecond or a few for a parser."""

MAX_NUMBER = 2**18
"""Characters of a number. Any two numbers of float64 have less than 1,100 digits between them."""

SHORT = 2**12
"""Bytes of elements or whitespace that are not worth leaving out."""

ELEMENTS = b",".join([b"0"] * 9)
"""What stands for the elements that are left out: more than a shape may have, so that none is taken for a short one."""

MAX_DEPTH = 1100
"""More levels than a parser takes."""


class Gap(NamedTuple):
    """What is left out.

    Parameters
    ----------
    position, length : int
        Where the skeleton has something else for it, and how long that is.
    start, end : int
        Where it is in the text.
    kind : int
        LIST, STRING or OTHER.
    """

    position: int
    length: int
    start: int
    end: int
    kind: int


class Skeleton:
    """A text without what is long.

    Parameters
    ----------
    text : buffer

    Attributes
    ----------
    gaps : list of Gap
        What is left out, in its order.
    is_cut : bool
        Whether it ends in the middle of the text: there is a number that is too long, or something that is no JSON.
    """

    def __init__(self, text: Buffer) -> None:
        self._text = memoryview(text)
        self._parts: list[Buffer] = []
        self._size = 0
        self._content: bytes | None = None
        self.gaps: list[Gap] = []
        self.is_cut = False

    @classmethod
    def of(cls, text: Buffer) -> Skeleton:
        """Return the skeleton of a text.

        Raises
        ------
        UnreadablePayload
            If there are too many objects or strings.
        """
        skeleton, end = cls(text), len(text)
        if end <= STEP_BYTES:
            skeleton.keep(0, end)
            return skeleton
        marks = positions(text, b'"', 0, end, MAX_QUOTATION_MARKS)
        if marks is None:
            raise too_many()
        start, index = 0, 0
        while index < len(marks):
            opening = marks[index]
            skeleton._keep_outside_strings(start, opening)
            index = skeleton._closing(marks, index)
            start = marks[index] if index < len(marks) else end
            skeleton._keep_string(opening, start)
            index += 1
        # the closing mark of a string is the first character of what follows
        skeleton._keep_outside_strings(start, end)
        return skeleton

    @property
    def content(self) -> bytes:
        """The text that remains."""
        if self._content is None:
            self._content = b"".join(self._parts)
        return self._content

    def keep(self, start: int, end: int) -> None:
        """Append a part of the text, without long whitespace; cut it off if it is longer than any number or name."""
        if end - start <= STEP_BYTES:
            self._append(self._text[start:end])
            return
        limit = self._size + MAX_NUMBER
        for first, last in steps(start, end):
            if is_blank(self._text, first, last):
                self.leave_out(first, last, b" ")
            else:
                self._append(self._text[first:last])
            if self._size > limit:
                self.is_cut = True

    def leave_out(self, start: int, end: int, instead: bytes, kind: int = OTHER) -> None:
        """Append something else instead of a part of the text."""
        if not self.is_cut:
            self.gaps.append(Gap(self._size, len(instead), start, end, kind))
            self._append(instead)

    def place(self, position: int) -> int:
        """Return where in the text a position of the skeleton is."""
        index = bisect.bisect_right(self.gaps, position, key=lambda gap: gap.position) - 1
        if index < 0:
            return position
        gap = self.gaps[index]
        behind = position - gap.position - gap.length
        return gap.start if behind < 0 else gap.end + behind

    def original(self, part: Buffer) -> memoryview:
        """Return the part of the text that a view of the content stands for, and maybe whitespace after it."""
        if not self.gaps:
            return memoryview(part)
        start = _address(part) - _address(self.content)
        return self._text[self.place(start) : self.place(start + len(memoryview(part)))]

    def _append(self, part: Buffer) -> None:
        if self.is_cut or not part:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_SKELETON:
            raise too_many()

    def _closing(self, marks: list[int], index: int) -> int:
        """Return which quotation mark closes the string that one opens."""
        opening = marks[index]
        for following in range(index + 1, len(marks)):
            if not self._is_escaped(opening + 1, marks[following]):
                return following
        return len(marks)

    def _is_escaped(self, start: int, mark: int) -> bool:
        """Return whether a quotation mark follows an odd number of backslashes."""
        end = mark
        while end > start and self._text[end - 1] == ord("\\"):
            block = bytes(self._text[max(start, end - STEP_BYTES) : end])
            end -= len(block) - len(block.rstrip(b"\\"))
        return (mark - end) % 2 == 1

    def _keep_string(self, opening: int, closing: int) -> None:
        """Append a string without its closing mark."""
        if closing - opening <= STEP_BYTES:
            self._append(self._text[opening:closing])
            return
        self._append(b'"')
        # names that are left out must differ from each other
        self.leave_out(opening + 1, closing, b"#%d" % opening, STRING)

    def _keep_outside_strings(self, start: int, end: int) -> None:
        if end - start <= SHORT:
            self._append(self._text[start:end])
            return
        braces = positions(self._text, b"{}", start, end, 2 * MAX_OBJECTS)
        if braces is None:
            raise too_many()
        for brace in [*braces, end]:
            self._keep_outside_objects(start, brace)
            start = brace

    def _keep_outside_objects(self, start: int, end: int) -> None:
        """Append what has neither strings nor objects in it, but maybe the mark or brace that it begins with."""
        if end - start > SHORT:
            first, last = find(self._text, b",", start, end), rfind(self._text, b",", start, end)
            if last - first > SHORT:
                # complete elements; the commas before and after them stay
                self.keep(start, first + 1)
                opened = count(self._text, b"[", first, last) - count(self._text, b"]", first, last)
                opened = min(max(opened, -MAX_DEPTH), MAX_DEPTH)
                brackets = b"]" * -opened if opened <= 0 else b",%b0" % (b"[" * opened)
                self.leave_out(first + 1, last, ELEMENTS + brackets, LIST)
                start = last
        self.keep(start, end)


def too_many() -> UnreadablePayload:
    """Return the problem with a text that has too many objects or strings."""
    expected = "operands and parameters side by side in one object"
    fault = "the body has too many objects or strings"
    return UnreadablePayload.of("", fault, got="more objects or strings", expected=expected)


def _address(part: Buffer) -> int:
    return int(np.frombuffer(part, np.uint8).__array_interface__["data"][0])
