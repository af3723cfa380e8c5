"""A second reading of the numbers of a JSON text, where the parsed values are not enough.

The parser makes an integer of -0, which has no sign, and a float64 of 1.00000017881393432617187500001, which is then
the middle between two numbers of float32 and would be rounded a second time. Both are rare, and the parsed
values tell where they may be. Only then the body is parsed again: with a point in each -0 or, to see the text of
each number, by the standard library.
"""

from __future__ import annotations

import decimal
import functools
import json
import math
from collections.abc import Callable
from typing import Any

import orjson

from ..problems import InvalidRequest

__all__ = ["MAX_EXACT_INTEGER", "ExactNumbers", "without_mark"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MINUS_ZEROS = [b"-0" + end for end in (b",", b"]", b"}", b" ", b"\t", b"\r", b"\n")]
"""All that a -0 without a point can be in an object, with what follows it. Searched and replaced as bytes, which takes
far less time than a regular expression."""

MAX_EXACT_INTEGER = 2**53


def without_mark(body: bytearray) -> memoryview:
    """Return a text without a byte order mark, which some editors and shells put before UTF-8.

    A parser may ignore it (RFC 8259, section 8.1).
    """
    return memoryview(body)[len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0 :]


class ExactNumbers:
    """The members of a JSON object, with numbers that can be rounded to a floating type once.

    Their strings, which may also hold a -0, are not exact.

    Parameters
    ----------
    body : bytearray
        A JSON object, which has been parsed before.
    charge : callable
        Called before the body is parsed again, with the memory of that.
    """

    def __init__(self, body: bytearray, charge: Callable[[], None]) -> None:
        self._body = body
        self._charge = charge

    @functools.cached_property
    def may_have_minus_zero(self) -> bool:
        """Whether -0 is written without a point, if only in a string."""
        return any(minus_zero in self._body for minus_zero in MINUS_ZEROS)

    @functools.cached_property
    def signed(self) -> dict[str, Any]:
        """The members in float64; -0 has its sign."""
        self._charge()
        return orjson.loads(self._text())  # type: ignore[no-any-return]

    @functools.cached_property
    def rounded_to_odd(self) -> dict[str, Any]:
        """The members with numbers to be rounded to a type narrower than float64; -0 has its sign.

        Raises
        ------
        InvalidRequest
            If the body is nested more deeply than the standard library reads.
        """
        self._charge()
        try:
            return json.loads(self._text(), parse_int=_integer, parse_float=round_to_odd)  # type: ignore[no-any-return]
        except RecursionError:
            expected = "lists of as many levels as the operands have axes"
            raise InvalidRequest.of("", "the body is nested too deeply", got="more levels", expected=expected) from None

    def _text(self) -> bytes:
        text = bytes(without_mark(self._body))
        for minus_zero in MINUS_ZEROS:
            text = text.replace(minus_zero, b"-0.0" + minus_zero[2:])
        return text.replace(b"e-0.0", b"e-0").replace(b"E-0.0", b"E-0")  # exponents


def _integer(text: str) -> int | float:
    number = int(text)
    return number if abs(number) <= MAX_EXACT_INTEGER else round_to_odd(text)


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
