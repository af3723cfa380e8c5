"""Answer questions about one engine, line by line: what runs in a process of ``benchmarks.processes``.

Every line that comes in is a JSON object, and is answered by one line; its first key says what is asked:

- ``{"version": true}``: the version of the engine, once it is imported;
- ``{"build": name of a layer}``: makes the layer's computations, and returns the seconds of each one's first call;
  ``options`` are handed to the engine, and ``changes`` replace fields of the layer;
- ``{"time": a measure, "seconds": about how long}``: the seconds of each call of what was built, by its name; a measure
  is "forward", "backward" or "backward_alone" of a ``Computation``, and those without it are left out;
- ``{"workspace": name of a layer}``: the bytes that a forward and a backward take beside their results, with
  ``options`` for the engine; asked first of a new process, as memory that an earlier call left to be used again is not
  counted;
- ``{"errors": name of a layer}``: see ``benchmarks.accuracy``;
- ``{"peaks": true}``: see ``benchmarks.machine``.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.engines.computation import Computation
from benchmarks.machine import measured_peaks
from benchmarks.suite import SUITE

__all__ = ["main"]

LAYERS = {layer.name: layer for layer in SUITE}
MOST = 2000
WARM_UP = 0.05


class Answers:
    """What a process answers, and what it has built."""

    def __init__(self, name: str, threads: int) -> None:
        keep_to_processors(threads)
        self._engine = importlib.import_module(f"benchmarks.engines.{name}")
        if hasattr(self._engine, "set_threads"):
            self._engine.set_threads(threads)
        self._threads = threads
        self._computations: list[Computation] = []

    def version(self, _: bool) -> str:
        return self._engine.version()

    def build(
        self, name: str, *, options: dict[str, Any] | None = None, changes: dict[str, Any] | None = None
    ) -> dict[str, float]:
        layer = dataclasses.replace(LAYERS[name], **changes or {})
        self._computations = self._engine.build(layer, layer.operands(), **options or {})
        first = {}
        for each in self._computations:  # the first calls compile, choose and allocate
            start = time.perf_counter()
            each.forward()
            first[each.name] = time.perf_counter() - start
            for function in (each.forward, each.backward, each.backward_alone):
                if function is not None:
                    timed(function, WARM_UP)
        return first

    def time(self, measure: str, *, seconds: float) -> dict[str, list[float]]:
        functions = {each.name: getattr(each, measure) for each in self._computations}
        return {name: timed(function, seconds) for name, function in functions.items() if function is not None}

    def workspace(self, name: str, *, options: dict[str, Any]) -> dict[str, int]:
        layer = LAYERS[name]
        (computation,) = self._engine.build(layer, layer.operands(), **options)
        return workspaces({"forward": computation.forward, "backward": computation.backward})

    def errors(self, name: str) -> dict[str, Any]:
        # it imports PyTorch, which not every process needs
        accuracy = importlib.import_module("benchmarks.accuracy")
        return accuracy.errors(LAYERS[name], self._threads)

    def peaks(self, _: bool) -> dict[str, float]:
        return measured_peaks(self._threads)


def timed(function: Callable[[], Any], seconds: float) -> list[float]:
    """Return the seconds of each call within a time: of one at least."""
    taken = []
    end = time.perf_counter() + seconds
    while not taken or (time.perf_counter() < end and len(taken) < MOST):
        start = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - start)
        del result
    return taken


def workspaces(functions: dict[str, Callable[[], Any]]) -> dict[str, int]:
    """Return the most bytes that each function takes while it runs, less those of the arrays that it returns."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()  # what the first call keeps for the second one counts in both
    taken = {}
    for name, function in functions.items():
        tracemalloc.reset_peak()
        result = function()
        _, most = tracemalloc.get_traced_memory()
        arrays = result if isinstance(result, tuple) else (result,)
        taken[name] = most - before - sum(array.nbytes for array in arrays)
        del result, arrays
    tracemalloc.stop()
    return taken


def keep_to_processors(count: int) -> None:
    """Let this process use no more processors than that: an engine without a setting takes as many threads."""
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        if count < len(usable):
            os.sched_setaffinity(0, usable[:count])


def main(name: str, threads: int) -> None:
    """Answer for an engine until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that asks ends this one
    answers = Answers(name, threads)
    for line in sys.stdin:
        (asked, argument), *rest = json.loads(line).items()
        sys.stdout.write(json.dumps(getattr(answers, asked)(argument, **dict(rest))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
