"""Measure how long a computation takes to stop: the longest time between two checks of its cancellation token.

    python benchmarks/longest_block.py [--only TEXT] [--drawn 200] [--seed 0] [--seconds 20] [--worst 30]

Layers of every operation, as large as the service admits them, are computed on one thread. The times are processor time
of that thread, which other programs on the machine hardly change. For the worst it prints where the two checks are; a
client that leaves frees its processor after that time at most.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.layer_report import Measured, report
from cnn_core import Cancellation, Cancelled

MEASURED_AGAIN_SECONDS = 0.05
"""A longer time is measured once more, and the shorter one counts: memory is often slower the first time."""


@dataclass
class Longest:
    """The longest time between two checks, and where these are."""

    seconds: float = 0.0
    start: str = ""
    end: str = ""
    checks: int = 0


class Recording(Cancellation):
    """Records the longest time between two checks; cancels itself after a number of seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.longest = Longest()
        self._limit = limit
        self._begin = self._last = time.thread_time()
        self._place = "the beginning"

    def check(self) -> None:
        """Record the time since the last check."""
        frame = sys._getframe(2)  # of who called ``check_cancelled``
        self.record(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        super().check()

    def record(self, place: str) -> None:
        """Record the time since the last check, given where this one is."""
        now = time.thread_time()
        checks = self.longest.checks + 1
        if now - self._last > self.longest.seconds:
            self.longest = Longest(now - self._last, self._place, place)
        self.longest.checks = checks
        if now - self._begin > self._limit:
            self.cancel()
        self._last, self._place = time.thread_time(), place


def measured(call: Any, limit: float) -> tuple[Longest, float]:
    token = Recording(limit)
    begin = time.thread_time()
    try:
        with token:
            call()
        token.record("the end")
    except Cancelled:
        pass
    return token.longest, time.thread_time() - begin


def shorter_of_two(call: Any, limit: float) -> Measured:
    """Measure a computation, a long time twice."""
    longest, whole = measured(call, limit)
    if longest.seconds > MEASURED_AGAIN_SECONDS:
        longest = min(longest, measured(call, limit)[0], key=lambda each: each.seconds)
    shown = f"{1000 * longest.seconds:6.0f} ms of {whole:5.2f} s, {longest.checks:5d} checks"
    return Measured(longest.seconds, shown, f"{longest.start} to {longest.end}")


if __name__ == "__main__":
    sys.exit(report(__doc__, shorter_of_two, drawn=200, seconds=20.0, above=0.1))
