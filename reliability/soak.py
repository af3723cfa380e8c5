"""Load a server with many mixed clients for long, and check every answer: ``python -m reliability.soak --help``."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .calls import middle_calls, small_calls
from .load import Load
from .machine import machine
from .outcome import Outcome
from .server import MEBIBYTE, Server

MOST_GROWTH = 1.1
SAMPLES = 200
SHORT = 120.0
"""Seconds below which the memory says nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load; return 1 if an answer was wrong, a request was lost, or the server's memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the load (default: 600)")
    parser.add_argument("--clients", type=int, default=64, help="(default: 64)")
    parser.add_argument("--workers", type=int, default=1, help="of the server (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all figures")
    options = parser.parse_args(arguments)
    before = machine()
    outcome = soaked(options.seconds, options.clients, options.workers)
    return outcome.conclude("soak", before, options.json)


def soaked(seconds: float, clients: int, workers: int = 1) -> Outcome:
    """Load a server, and return what came of it.

    The memory after a fifth of the time, in which each client has sent each kind of request, is compared with that at
    the end: medians of some samples, as it goes up and down with what is in progress.
    """
    outcome = Outcome()
    calls = [*small_calls(), *middle_calls()]
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "server.log", workers=workers) as server:
        memory: list[int] = []
        start = time.monotonic()
        with Load(server.port, calls, clients, pause=0.02) as load:
            load.start()
            while (left := start + seconds - time.monotonic()) > 0:
                time.sleep(min(left, seconds / SAMPLES))
                memory.append(server.memory())
            figures = load.stop()
        cpu = server.cpu_seconds()
        outcome.note(seconds=seconds, clients=clients, workers=workers, cpu_seconds=round(cpu))
        outcome.note(peak_mib=server.peak_memory() // MEBIBYTE)
        outcome.require("still runs", holds=server.is_running())
    fifth = len(memory) // 5
    warm, last = (statistics.median(part) / MEBIBYTE for part in (memory[fifth : 2 * fifth], memory[-fifth:]))
    outcome.note(responses=sum(figures.statuses.values()), warm_mib=round(warm), last_mib=round(last))
    outcome.note_load("load", figures)
    kinds: dict[str, Any] = {}
    for (kind, status), count in sorted(figures.by_kind.items()):
        kinds.setdefault(kind, []).append(f"{count}x {status}")
    outcome.note(**{kind: ", ".join(counts) for kind, counts in kinds.items()})
    outcome.require_answered(figures, busy_is_allowed=True)
    if seconds >= SHORT:
        outcome.require("memory within 10 % of that after the warm-up", holds=last <= MOST_GROWTH * warm)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
