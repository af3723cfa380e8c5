"""Measure what one processor computes, and what a million requests cost.

    python -m benchmarks.scaling.throughput [--price 0.04]

A server with one compute thread is bound to one processor and gets calls of several layers and formats from two
clients, in turns. What counts is the processor time of the server for one request: it depends little on what else the
machine does, and is what a replica is paid for. The price is that of one processor for one hour, in whatever
currency. Another layer is one more in ``CALLS`` of benchmarks/serving/calls.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.machine import cpu_model
from benchmarks.serving.calls import CALLS, WIRES
from benchmarks.serving.client import drive
from reliability.server import Server

WIRE_NAMES = ("json", "npz", "safetensors", "v2-binary")
CLIENTS = 2
UTILISATION = 0.6
"""Of the processors that are paid for: the rest keeps waiting short (see benchmarks/scaling/capacity.py)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", type=float, default=0.04, help="of a processor for an hour")
    parser.add_argument("--utilisation", type=float, default=UTILISATION, help="share of the processors that is used")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cells = [(call, wire) for call in CALLS if call.name != "copy" for wire in WIRE_NAMES]
    found: dict[tuple[str, str], list[float]] = {(call.name, wire): [] for call, wire in cells}
    processors = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, processors[:1])  # the server takes it over
        with Server(Path(folder) / "log", compute_threads=1) as server:
            os.sched_setaffinity(0, processors[1:] or processors)
            for _ in range(options.rounds):
                for call, wire in cells:
                    before = server.cpu_seconds()
                    answer = drive(server.port, WIRES[wire](call), CLIENTS, 0, options.seconds, 60)
                    count = len(answer["latencies"]) + 1
                    found[call.name, wire].append((server.cpu_seconds() - before) / count)
    print(f"{cpu_model()}; one of them, one compute thread, {CLIENTS} clients; medians of {options.rounds} turns")
    print(f"a million at {options.price:g} for a processor and hour, {options.utilisation:.0%} of them used\n")
    print("| layer | format | processor ms a request | requests a processor second | cost of a million |")
    print("|---|---|---|---|---|")
    titles = {call.name: call.title for call, _ in cells}
    for (name, wire), turns in found.items():
        seconds = statistics.median(turns)
        cost = 1e6 * seconds / 3600 * options.price / options.utilisation
        print(f"| {titles[name]} | {wire} | {1e3 * seconds:.2f} | {1 / seconds:.0f} | {cost:.3f} |")


if __name__ == "__main__":
    main()
