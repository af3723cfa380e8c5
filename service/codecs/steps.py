"""Work on large bodies in steps: a step is short, so that other threads get the GIL in between.

Between two steps, decoding and encoding end with an exception if nobody waits for them any longer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnn_core.runtime.cancellation import check_cancelled

from .message import Buffer

__all__ = ["ARRAY_BYTES", "STEP_BYTES", "count", "find", "find_all", "is_blank", "positions", "rfind", "steps"]

STEP_BYTES = 2**16
"""What one call looks at, in bytes: it holds the GIL for less than a millisecond."""

ARRAY_BYTES = 2**18
"""What one call of NumPy looks at, which takes some microseconds, without the GIL."""

WHITESPACE = b" \t\r\n"


def steps(start: int, end: int, size: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield where each step of a range starts and ends; raise Cancelled between two if the computation must stop."""
    size = size or STEP_BYTES
    for position in range(start, end, size):
        check_cancelled()
        yield position, min(end, position + size)


def find(content: Buffer, wanted: bytes, start: int, end: int) -> int:
    """Return where some bytes first begin between two places, or -1."""
    view = memoryview(content)
    for first, last in steps(start, end):
        index = bytes(view[first : min(end, last + len(wanted) - 1)]).find(wanted)
        if index >= 0:
            return first + index
    return -1


def find_all(content: Buffer, wanted: bytes) -> Iterator[int]:
    """Yield where some bytes begin, wherever they do not overlap."""
    start = 0
    while (start := find(content, wanted, start, len(content))) >= 0:
        yield start
        start += len(wanted)


def rfind(content: Buffer, wanted: bytes, start: int, end: int) -> int:
    """Return where a byte is last between two places, or -1."""
    view = memoryview(content)
    for last in range(end, start, -STEP_BYTES):
        first = max(start, last - STEP_BYTES)
        index = bytes(view[first:last]).rfind(wanted)
        if index >= 0:
            return first + index
    return -1


def count(content: Buffer, wanted: bytes, start: int, end: int) -> int:
    """Return how often a byte occurs between two places."""
    codes, code = np.frombuffer(content, np.uint8), wanted[0]
    return sum(int(np.count_nonzero(codes[first:last] == code)) for first, last in steps(start, end, ARRAY_BYTES))


def positions(content: Buffer, wanted: bytes, start: int, end: int, most: int) -> list[int] | None:
    """Return where any of some bytes is between two places; None if that is in more than so many places."""
    codes, found = np.frombuffer(content, np.uint8), list[int]()
    for first, last in steps(start, end, ARRAY_BYTES):
        part = codes[first:last]
        is_wanted = part == wanted[0]
        for code in wanted[1:]:
            is_wanted |= part == code
        number = np.count_nonzero(is_wanted)
        if len(found) + number > most:
            return None
        if number:
            found += (np.flatnonzero(is_wanted) + first).tolist()
    return found


def is_blank(content: Buffer, start: int, end: int) -> bool:
    """Return whether there is nothing but JSON's whitespace between two places."""
    view = memoryview(content)
    return all(not bytes(view[first:last]).strip(WHITESPACE) for first, last in steps(start, end))
