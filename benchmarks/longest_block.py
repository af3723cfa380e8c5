"""Measure how long a computation takes to stop: the longest time between two checks of its cancellation token.

    python benchmarks/longest_block.py [--only TEXT] [--drawn 200] [--seed 0] [--seconds 20] [--worst 30]

Layers of every operation, as large as the service admits them, are computed on one thread. The times are processor time
of that thread, which other programs on the machine hardly change. For the worst it prints where the two checks are; a
client that leaves frees its processor after that time at most.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.large_layers import drawn_layers, layers
from cnn_core import Cancellation, Cancelled, set_threads

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="measure the layers with this text in their names")
    parser.add_argument("--every", type=int, default=1, help="measure every so many layers")
    parser.add_argument("--drawn", type=int, default=200, help="number of random layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="stop each computation after this time")
    parser.add_argument("--worst", type=int, default=30, help="number of layers to print")
    parser.add_argument("--above", type=float, default=0.1, help="exit with status 1 if one is above so many seconds")
    options = parser.parse_args()
    set_threads(1)
    results: list[tuple[float, str]] = []
    chosen = itertools.chain(layers(), drawn_layers(options.drawn, options.seed))
    for layer in itertools.islice((each for each in chosen if options.only in str(each)), 0, None, options.every):
        for direction, call in layer.calls():
            longest, whole = measured(call, options.seconds)
            if longest.seconds > MEASURED_AGAIN_SECONDS:
                longest = min(longest, measured(call, options.seconds)[0], key=lambda each: each.seconds)
            line = (
                f"{1000 * longest.seconds:6.0f} ms of {whole:5.2f} s, {longest.checks:5d} checks, {direction:15s} "
                f"{layer}   {longest.start} to {longest.end}"
            )
            results.append((longest.seconds, line))
            if longest.seconds > options.above:
                print(line, flush=True)
    print(f"\nthe worst of {len(results)}")
    for _, line in sorted(results, reverse=True)[: options.worst]:
        print(line)
    return 1 if any(seconds > options.above for seconds, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
