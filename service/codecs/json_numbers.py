"""Lists of numbers in JSON, read from their text in chunks: without a list for each list, or a number for each number.

A regular nested list is determined by its brackets and commas: without anything else, its text must be that of a list
of its shape. Then the brackets tell nothing more, and the rest is one flat list. A chunk of it takes less than a
millisecond, so that the threads that serve other requests get the GIL in between.

Each number is rounded once, to the type that it is read as, and keeps its sign. The parser makes an integer of -0,
which has no sign, and a float64 of 1.00000017881393432617187500001, which is then the middle between two numbers of
float32 and would be rounded a second time. Both are rare and found among the parsed numbers; then their texts decide.
"""

from __future__ import annotations

import array
import decimal
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..problems import InvalidRequest, RequestProblem
from .message import MAX_NDIM

__all__ = ["Position", "invalid", "list_shape", "read_numbers", "reading_memory"]

Position = Callable[[int], str]
"""Returns the JSON pointer of an element from its index in the flattened tensor."""

CHUNK_CHARACTERS = 2**16
NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
COMMA = re.compile(rb",")
MINUS_ZERO = re.compile(rb"-(?<![eE]-)0(?=[],\s])")
"""-0 without a point, and not in an exponent."""

MAX_EXACT_INTEGER = 2**53

MEMORY_OF_CHARACTER, MEMORY_OF_CHUNK_CHARACTER = 4, 64
"""Bytes allocated while numbers are read. The shortest number and its comma become an element of float64; in the chunk
that is being read, they are also an object and a slot in a list, and so is their text where each is a -0. The brackets
and commas are copied before that."""


def reading_memory(characters: int) -> int:
    """Return the bytes that reading tensors from a text of a length allocates, if there is no fault in them."""
    return MEMORY_OF_CHARACTER * characters + MEMORY_OF_CHUNK_CHARACTER * min(characters, CHUNK_CHARACTERS)


def list_shape(text: memoryview) -> tuple[int, ...] | None:
    """Return the shape of nested lists of numbers; None if they are ragged, not of numbers, or nested too deeply.

    Parameters
    ----------
    text : memoryview
        A list, in JSON. An empty list is taken for one with one element.
    """
    outline = b"".join(
        bytes(text[start : start + CHUNK_CHARACTERS]).translate(None, NUMBER_CHARACTERS)
        for start in range(0, len(text), CHUNK_CHARACTERS)
    )
    levels = len(outline) - len(outline.lstrip(b"["))
    if levels > MAX_NDIM:
        return None
    sizes: list[int] = []
    expected = b""  # of a number, then of a list of numbers, and so on
    for level in range(1, levels + 1):
        # the first list that is closed on this level says how long each of them is
        length = outline.find(b"]" * level) + level - (levels - level)
        sizes.insert(0, (length - 1) // (len(expected) + 1))
        expected = b"[%b%b]" % ((expected + b",") * (sizes[0] - 1), expected)
    return tuple(sizes) if outline == expected else None


def read_numbers(text: memoryview, count: int, dtype: np.dtype[Any], position: Position) -> NDArray[Any] | None:
    """Return the numbers of nested lists in an array of one axis.

    Parameters
    ----------
    text : memoryview
        A number, or a regular nested list as ``list_shape`` finds it.
    count : int
        How many numbers there should be.
    dtype : dtype
        An integer type, or a floating type up to float64.
    position : callable
        Names an element in an error.

    Returns
    -------
    ndarray or None
        None if there are empty lists, or if a number is beyond the range of float64.

    Raises
    ------
    InvalidRequest
        If a number cannot be one of the type.
    """
    numbers = np.empty(count, dtype)
    filled = 0
    for chunk in _chunks(text):
        try:
            values = orjson.loads(chunk)
        except orjson.JSONDecodeError:
            return None
        if not values:
            return None
        try:
            numbers[filled : filled + len(values)] = (
                _integers(values, dtype) if dtype.kind in "iu" else _floats(chunk, values, dtype)
            )
        except _Fault as fault:
            raise invalid(position(filled + fault.index), *fault.args) from None
        filled += len(values)
    return numbers if filled == count else None


def invalid(pointer: str, fault: str, got: str, expected: str, hint: str = "") -> RequestProblem:
    """Return the problem with a value in a tensor."""
    subject = pointer.split("/")[1]
    return InvalidRequest.of(pointer, f"a value in {subject} {fault}", got=got, expected=expected, hint=hint)


class _Fault(Exception):
    """What is wrong with the element of a chunk that has an index: the fault, what came, and what was expected."""

    def __init__(self, index: int, fault: str, got: str, expected: str) -> None:
        super().__init__(fault, got, expected)
        self.index = index


def _chunks(text: memoryview) -> Iterator[bytes]:
    """Yield nested lists as flat lists of some of their numbers each."""
    start = 0
    while start < len(text):
        comma = COMMA.search(text, start + CHUNK_CHARACTERS)
        end = comma.start() if comma else len(text)
        yield b"[%b]" % bytes(text[start:end]).translate(None, b"[]")
        start = end + 1


def _integers(values: Sequence[int | float], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        integers = np.frombuffer(array.array(dtype.char, values), dtype)
    except (TypeError, OverflowError):  # a number with a point, or one out of range
        limits = np.iinfo(dtype)
        index = next(
            i for i, value in enumerate(values) if type(value) is float or not limits.min <= value <= limits.max
        )
        expected = f"an integer from {limits.min} to {limits.max}"
        raise _Fault(index, f"is not of type {dtype.name}", "another number", expected) from None
    if dtype.itemsize == 8:
        _refuse_inexact(values, integers)
    return integers


def _floats(chunk: bytes, values: Sequence[int | float], dtype: np.dtype[Any]) -> NDArray[Any]:
    numbers = np.fromiter(values, np.float64, len(values))
    _refuse_inexact(values, numbers)
    if np.count_nonzero(numbers) < len(numbers) and MINUS_ZERO.search(chunk):
        numbers = np.array(orjson.loads(MINUS_ZERO.sub(b"-0.0", chunk)), np.float64)
    return numbers if dtype == np.float64 else _rounded(chunk, numbers, dtype)


def _refuse_inexact(values: Sequence[int | float], numbers: NDArray[Any]) -> None:
    """Refuse an integer that float64 would round, unless it is how some float64 is written."""
    if max(float(numbers.max()), -float(numbers.min())) < MAX_EXACT_INTEGER:
        return
    for index, value in enumerate(values):
        if type(value) is int and abs(value) > MAX_EXACT_INTEGER and not _is_written_float(value):
            expected = "an integer up to 2^53, or a number with a decimal point to be rounded"
            raise _Fault(index, "is an integer that float64 cannot hold", "a larger integer", expected)


def _is_written_float(integer: int) -> bool:
    """Return whether an integer is how some float64 is written, such as JavaScript's 9223372036854776000 for 2^63."""
    rounded = float(integer)
    return int(rounded) == integer or int(decimal.Decimal(repr(rounded))) == integer


def _rounded(chunk: bytes, numbers: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in a narrower type; the texts of those in the middle between two numbers of it decide."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(dtype)
        errors = numbers - rounded
        beyond = numbers + errors  # of a middle, the number on the other side
        middles = (beyond == beyond.astype(dtype)) & (errors != 0)
        if np.count_nonzero(middles):
            texts = chunk[1:-1].decode().split(",")
            odd = [round_to_odd(texts[index]) for index in np.flatnonzero(middles)]
            rounded[middles] = np.array(odd).astype(dtype)
    finite = np.isfinite(rounded)
    if np.count_nonzero(finite) < len(finite):
        index, largest = int(np.argmin(finite)), np.finfo(dtype).max
        raise _Fault(index, f"is beyond the range of {dtype.name}", "a larger number", f"at most {largest}")
    return rounded


def round_to_odd(text: str) -> float:
    """Return a number as float64: itself, or that of the two numbers around it whose last bit is 1.

    Rounding that to a type with at least two bits less gives what rounding the number itself gives: what is not the
    middle between two of its numbers does not become the middle.
    """
    nearest = float(text)
    try:
        exact, rounded = decimal.Decimal(text), decimal.Decimal(nearest)
    except decimal.InvalidOperation:
        return nearest  # 0, or an exponent so small that it is 0 in every type
    if exact == rounded or nearest / math.ulp(nearest) % 2:
        return nearest
    return math.nextafter(nearest, math.inf if exact > rounded else -math.inf)
