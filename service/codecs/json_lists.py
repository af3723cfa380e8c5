"""The shape of nested lists in JSON, from their text: of regular lists in one way, of all others in another.

A regular nested list is determined by its brackets and commas: without anything else, its text must be that of a list
of its shape. Lists that are not regular are parsed piece by piece, to say which element is the first that is wrong.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from .json_check import cut_at_commas, loads, opened
from .json_numbers import invalid
from .json_objects import Text, Unreadable, json_kind
from .json_skeleton import Skeleton
from .message import MAX_NDIM
from .steps import STEP_BYTES, count, find, steps

__all__ = ["list_shape", "path", "verified_shape"]

NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
FLAT_LIST = "a flat list of numbers"

SMALL_TEXT, MAX_SMALL_OUTLINES = 2**14, 64
"""Characters of a text whose outline is remembered, and for how many shapes."""


def list_shape(text: Text) -> tuple[int, ...] | None:
    """Return the shape of nested lists if their brackets and commas are those of lists of one shape, else None.

    What is between them is not looked at: whether there is one number, and on which side of a bracket.

    Parameters
    ----------
    text : memoryview
        A list, in JSON. An empty list is taken for one with one element.
    """
    sizes = _sizes(text)
    return sizes if sizes is not None and _has_outline(text, sizes) else None


def _outlines(text: Text) -> Iterator[bytes]:
    """Yield the brackets and commas of a text, and what should not be there."""
    return (bytes(text[start:end]).translate(None, NUMBER_CHARACTERS) for start, end in steps(0, len(text)))


def _sizes(text: Text) -> tuple[int, ...] | None:
    """Return what the shape of nested lists must be if they are regular: the first list on each level says it."""
    outlines = _outlines(text)
    part = next(outlines)
    levels = len(part) - len(part.lstrip(b"["))
    if not 0 < levels <= MAX_NDIM:
        return None
    sizes: list[int] = []
    length, before = 0, 0  # of the outline of the last list that was closed, and of what is before the part
    while len(sizes) < levels - 1:
        level = len(sizes) + 1
        found = part.find(b"]" * level)
        if found < 0:
            following = next(outlines, None)
            if following is None:
                return None
            kept = part[-levels:]
            before += len(part) - len(kept)
            part = kept + following
            continue
        opening = levels - level
        sizes.insert(0, (before + found + level - opening - 1) // (length + 1))
        length = before + found + level - opening
    commas, inner = count(text, b",", 0, len(text)), math.prod(sizes)
    return None if (commas + 1) % max(1, inner) or not inner else ((commas + 1) // inner, *sizes)


def _has_outline(text: Text, shape: tuple[int, ...]) -> bool:
    """Return whether the brackets and commas of a text are those of a list of a shape."""
    if len(text) <= SMALL_TEXT:
        return b"".join(_outlines(text)) == _small_outline(shape)
    expected, rest = _expected_outline(shape), b""
    for outline in _outlines(text):
        while len(rest) < len(outline):
            following = next(expected, None)
            if following is None:
                return False
            rest += following
        if not rest.startswith(outline):
            return False
        rest = rest[len(outline) :]
    return not rest and next(expected, None) is None


@functools.lru_cache(MAX_SMALL_OUTLINES)
def _small_outline(shape: tuple[int, ...]) -> bytes:
    return b"".join(_expected_outline(shape))


def _expected_outline(shape: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the outline of a list of a shape, in parts."""
    size, *inner = shape
    length = 0
    for each in reversed(inner):
        length = each * (length + 1) + 1
    yield b"["
    if length < STEP_BYTES:
        item = (b"".join(_expected_outline(tuple(inner))) if inner else b"") + b","
        together = max(1, STEP_BYTES // len(item))
        items = item * min(together, size)
        for start in range(0, size - 1, together):
            yield items[: len(item) * min(together, size - 1 - start)]
        yield item[:-1]
    else:
        for index in range(size):
            if index:
                yield b","
            yield from _expected_outline(tuple(inner))
    yield b"]"


def path(pointer: str, shape: Sequence[int], index: int) -> str:
    """Return the pointer of the element with an index in row-major order."""
    steps_down = []
    for size in reversed(shape):
        index, step = divmod(index, size)
        steps_down.append(step)
    return "/".join([pointer, *(str(step) for step in reversed(steps_down))])


# ----------------------------------------------------------------------------------------------------------- irregular


class _Level:
    """What is known of the elements of all lists on one level, as the pieces of a text come."""

    def __init__(self) -> None:
        self.count = 0
        self.has_lists = False
        self.not_a_list: tuple[int, str] | None = None
        self.not_a_number: tuple[int, str] | None = None
        self.length: int | None = None  # of the first list of this level that was closed
        self.other_length: tuple[int, str] | None = None
        self.open_length = 0  # of the list that is open

    @property
    def size(self) -> int:
        return self.open_length if self.length is None else self.length

    def add_lists(
        self, lengths: list[int], first: int, *, is_continued: bool, has_continued_item: bool, is_open: bool
    ) -> None:
        """Add lists of this level, the first of which has an index among all of them, and may have been added before.

        So may be the first element of it.
        """
        if is_continued:
            lengths[0] += self.open_length - has_continued_item
        self.open_length = lengths.pop() if is_open else 0
        if lengths and self.length is None:
            self.length = lengths[0]
        if self.other_length is None and lengths and set(lengths) != {self.length}:
            index = next(index for index, length in enumerate(lengths) if length != self.length)
            self.other_length = first + index, f"a list of {lengths[index]}"

    def add_items(self, items: list[Any], *, is_continued: bool) -> list[list[Any]]:
        """Add the elements of these lists, of which the first may have been added; return those that are lists."""
        first = self.count - is_continued
        self.count = first + len(items)
        kinds = set(map(type, items))
        lists = [item for item in items if type(item) is list] if list in kinds else []
        self.has_lists |= bool(lists)
        if self.not_a_list is None and kinds - {list}:
            self.not_a_list = _first(items, first, lambda kind: kind is not list)
        if self.not_a_number is None and kinds - {list, int, float}:
            self.not_a_number = _first(items, first, lambda kind: kind not in {list, int, float})
        return lists


def _first(items: list[Any], first: int, is_meant: Callable[[type], bool]) -> tuple[int, str]:
    index = next(index for index, item in enumerate(items) if is_meant(type(item)))
    return first + index, json_kind(items[index])


def verified_shape(text: Text, pointer: str, max_ndim: int) -> list[int]:
    """Return the shape of nested lists, or raise InvalidRequest with the pointer of the first element that is wrong.

    Parameters
    ----------
    text : memoryview
        A list. It is JSON: ``require_json`` has been called.
    pointer : str
        Where it is.
    max_ndim : int
        How deeply it may be nested.

    Raises
    ------
    Unreadable, InvalidRequest
    """
    levels = [_Level() for _ in range(max_ndim)]
    for value, depth_before, depth_after in _pieces(text):
        lists: list[list[Any]] = [value]
        for depth, level in enumerate(levels, 1):
            has_continued_item = depth_before > depth
            outer = levels[depth - 2].count if depth > 1 else 1
            level.add_lists(
                [len(each) for each in lists],
                outer - len(lists),
                is_continued=depth_before >= depth,
                has_continued_item=has_continued_item,
                is_open=depth_after >= depth,
            )
            items = list(itertools.chain.from_iterable(lists))
            lists = level.add_items(items, is_continued=has_continued_item)
            if not lists:
                break
    shape: list[int] = []
    for depth, level in enumerate(levels, 1):
        shape.append(level.size)
        if not level.has_lists:
            if level.not_a_number:
                index, kind = level.not_a_number
                raise invalid(path(pointer, shape, index), "is not a number", kind, "a number")
            break
        if depth == max_ndim:
            got, expected = f"more than {max_ndim} levels", "3 to 5 levels"
            if max_ndim == 1:
                got, expected = "lists in a list", FLAT_LIST
            raise invalid(pointer, "is nested too deeply", got, expected)
        if level.not_a_list:
            index, kind = level.not_a_list
            raise invalid(path(pointer, shape, index), "is among lists but is not a list itself", kind, "a list")
        inner = levels[depth]
        if inner.other_length is None and inner.length is not None and inner.open_length > inner.length:
            inner.other_length = level.count - 1, "a longer list"  # in which the text ends
        if inner.other_length:
            index, got = inner.other_length
            raise invalid(path(pointer, shape, index), "makes the tensor ragged", got, f"a list of {inner.length}")
    return shape


def _pieces(text: Text) -> Iterator[tuple[list[Any], int, int]]:
    """Yield a nested list in pieces: the lists in one, and how many are open before and after it.

    It ends with the first element that is a string or an object: nothing else can be wrong earlier, unless an element
    of an outer list is.
    """
    end = len(text)
    for mark in (b'"', b"{"):
        found = find(text, mark, 0, end)
        end = found if found >= 0 else end
    depth = 0
    for start, last in cut_at_commas(text, 0, end):
        before, depth = depth, depth + opened(text, start, last)
        piece = Skeleton(text)
        piece.leave_out(start, start, b"[" * before + (b"0," if before else b""))
        piece.keep(start, last)
        is_last = last == end
        if not is_last:
            element = b"0"
        elif end == len(text):
            element = b""
        else:
            element = b'""' if text[end] == ord('"') else b"{}"
        piece.leave_out(last, last, element + b"]" * depth)
        try:
            value = loads(piece.content)
        except orjson.JSONDecodeError:
            raise Unreadable from None
        if before:
            del _nth(value, before, 0)[0]
        if not is_last:
            _nth(value, depth, -1).pop()
        yield value, before, depth


def _nth(value: list[Any], depth: int, index: int) -> list[Any]:
    """Return the first or the last list on a level."""
    for _ in range(depth - 1):
        value = value[index]
    return value
