"""Waiting for what comes about in other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["SECONDS", "wait_until"]

SECONDS = 120.0
"""How long anything may take: a start, a deployment, the end of a node."""


def wait_until(
    condition: Callable[[], bool],
    seconds: float = SECONDS,
    state: Callable[[], object] = lambda: "it does not come to hold",
) -> None:
    """Wait until something holds; if it does not in time, fail with what ``state`` returns."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, state()
        time.sleep(0.01)
