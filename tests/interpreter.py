"""Counting what the interpreter goes through, where a clock would measure the machine."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["TooManyLines", "at_most_lines"]


class TooManyLines(BaseException):
    """More lines of Python were executed than are allowed; no handler of the code under test catches it."""


@contextlib.contextmanager
def at_most_lines(limit: int) -> Iterator[list[int]]:
    """Fail if this thread, or one that it starts, executes more lines of Python; yield a list that counts them."""
    count = [0]

    def trace(_: FrameType, event: str, __: Any) -> Any:
        count[0] += event == "line"
        if count[0] > limit:
            sys.settrace(None)
            raise TooManyLines(f"more than {limit} lines of Python")
        return trace

    before = sys.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)
        threading.settrace(before)
