"""Measure how long a computation keeps another thread from the interpreter: how long it holds the GIL at a time.

    python benchmarks/gil_holding.py [--only TEXT] [--every 1] [--drawn 100] [--seed 0] [--seconds 2] [--worst 30]

An event loop beside a computation waits that long at most. Layers of every operation, as large as the service admits
them, are computed on one thread, while a second one sleeps for a millisecond over and over and notes by how much it
oversleeps. What counts of that is the time in which the computation used the processor, so that other programs on the
machine change little; a long wait is measured several times, and the shortest counts. The interpreter hands the GIL
over after 5 ms by itself (sys.getswitchinterval), so only what is longer is a call that does not release it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.layer_report import Measured, report
from benchmarks.longest_block import measured

SLEEP_SECONDS = 0.001
MEASURED_AGAIN_SECONDS = 0.008
REPETITIONS = 4


class Watcher:
    """A thread that wants the GIL every millisecond; records its longest wait, and where the main thread was then."""

    def __init__(self) -> None:
        self.longest, self.place = 0.0, ""
        self._main = threading.main_thread().ident or 0
        self._clock = time.pthread_getcpuclockid(self._main)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # at once when it may run, if that is permitted
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        while not self._done.is_set():
            begin, computed = time.monotonic(), time.clock_gettime(self._clock)
            time.sleep(SLEEP_SECONDS)
            waited = time.monotonic() - begin - SLEEP_SECONDS
            waited = min(waited, time.clock_gettime(self._clock) - computed)
            if waited > self.longest:
                self.longest, self.place = waited, self._where()

    def _where(self) -> str:
        frame = sys._current_frames().get(self._main)
        lines = []
        while frame is not None and len(lines) < 4:
            lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            frame = frame.f_back
        return " < ".join(lines)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def longest_wait(call: Callable[[], Any], limit: float) -> tuple[float, str]:
    """Return the longest wait of the other thread in seconds, and where the main thread was then."""
    with Watcher() as watcher:
        measured(call, limit)
    return watcher.longest, watcher.place


def shortest_of_several(call: Callable[[], Any], limit: float) -> Measured:
    """Measure a computation, a long wait several times."""
    wait = longest_wait(call, limit)
    for _ in range(REPETITIONS):
        if wait[0] > MEASURED_AGAIN_SECONDS:
            wait = min(wait, longest_wait(call, limit))
    seconds, place = wait
    return Measured(seconds, f"{1000 * seconds:6.1f} ms", place)


if __name__ == "__main__":
    sys.exit(report(__doc__, shortest_of_several, drawn=100, seconds=2.0, above=0.015))
