"""Lists of numbers in JSON, read from their text in chunks: without a list for each list, or a number for each number.

Where the brackets are those of a list of one shape (``json_lists``), they tell nothing more, and the rest is one flat
list. A chunk of it takes less than a millisecond, so that the threads that serve other requests get the GIL in between.

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
from .json_skeleton import MAX_NUMBER, Skeleton
from .message import Limits
from .steps import STEP_BYTES, find

__all__ = ["Position", "invalid", "read_numbers"]

Position = Callable[[int], str]
"""Returns the JSON pointer of an element from its index in the flattened tensor."""

CHUNK_CHARACTERS = STEP_BYTES
BRACKETS_TO_SPACES = bytes.maketrans(b"[]", b"  ")
WHITESPACE = b" \t\r\n"
MINUS_ZERO = re.compile(rb"-(?<![eE]-)0(?=[],\s])")
"""-0 without a point, and not in an exponent."""

MAX_EXACT_INTEGER = 2**53


def read_numbers(
    text: memoryview, count: int, dtype: np.dtype[Any], position: Position, limits: Limits
) -> NDArray[Any] | None:
    """Return the numbers of nested lists in an array of one axis.

    Parameters
    ----------
    text : memoryview
        A number, or a nested list whose brackets and commas are regular, as ``list_shape`` finds it.
    count : int
        How many numbers there should be.
    dtype : dtype
        An integer type, or a floating type up to float64.
    position : callable
        Names an element in an error.
    limits : Limits
        Charged for the numbers; the caller charges ``json_objects.reading_memory``.

    Returns
    -------
    ndarray or None
        None if there is anything that is not a number, no number, or one beyond the range of float64, in a list.

    Raises
    ------
    InvalidRequest
        If a number cannot be one of the type.
    """
    limits.charge(count * dtype.itemsize)
    numbers = np.empty(count, dtype)
    filled = 0
    try:
        for chunk in _chunks(text):
            values = orjson.loads(chunk) if chunk else []
            if not values:
                return None
            numbers[filled : filled + len(values)] = (
                _integers(values, dtype) if dtype.kind in "iu" else _floats(chunk, values, dtype)
            )
            filled += len(values)
    except orjson.JSONDecodeError:
        return None
    except _Fault as fault:
        raise invalid(position(filled + fault.index), *fault.args) from None
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
    """Yield nested lists as flat lists of some of their numbers each; nothing where a bracket is misplaced."""
    start = 0
    while start < len(text):
        comma = find(text, b",", start + CHUNK_CHARACTERS, len(text))
        end = comma if comma >= 0 else len(text)
        is_long = end - start > CHUNK_CHARACTERS + MAX_NUMBER
        elements = _shortened(text, start, end) if is_long else bytes(text[start:end])
        if b"[" in elements or b"]" in elements:
            if _has_misplaced_bracket(elements):
                yield b""
                return
            elements = elements.translate(BRACKETS_TO_SPACES)
        yield b"[%b]" % elements.lstrip()  # with blanks there, the parser may fail: see json_check.loads
        start = end + 1


def _shortened(text: memoryview, start: int, end: int) -> bytes:
    """Return a chunk without long whitespace; raise _Fault if the number at its end is too long."""
    chunk = Skeleton(text)
    chunk.keep(start, end)
    if chunk.is_cut:
        got, expected = "more characters", f"at most {MAX_NUMBER} characters"
        raise _Fault(chunk.content.count(b","), "is too long", got, expected)
    return chunk.content


def _has_misplaced_bracket(elements: bytes) -> bool:
    """Return whether a bracket opens after a number or closes before one, where there is one number between two commas.

    The last bracket that opens there must be followed by the number, the first that closes preceded by it.
    """
    if any(space in elements for space in (b" ", b"\n", b"\t", b"\r")):
        elements = elements.translate(None, WHITESPACE)
    return (
        b"[," in elements
        or b",]" in elements
        or b"[]" in elements
        or elements.endswith(b"[")
        or elements.startswith(b"]")
    )


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
        texts = chunk[1:-1].split(b",")
        is_negative = np.fromiter((text.lstrip().startswith(b"-") for text in texts), bool, len(texts))
        numbers[is_negative & (numbers == 0)] = -0.0
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
