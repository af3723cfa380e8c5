"""Processes that time engines, and how they take turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["DIRECTIONS", "ROOT", "Times", "Worker", "WorkerError", "time_in_turn", "workers_at_once"]

ROOT = Path(__file__).resolve().parents[1]
DIRECTIONS = ("forward", "backward")

PAUSE = 0.05
"""Seconds before each turn: threads of the engine before go on spinning for a while, and would take a processor."""

PATIENCE = 10
"""Seconds that a process gets to end by itself."""

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What BLAS reads when it is loaded."""

# The package benchmarks comes from this checkout, whatever checkout cnn_core comes from.
START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import benchmarks
del sys.path[0]
from benchmarks.worker import main
main(sys.argv[1], int(sys.argv[2]))
"""

Times = dict[str, dict[str, dict[str, list[float]]]]


class WorkerError(Exception):
    """A process ended before it answered."""


class Worker:
    """A process that answers questions with one engine: see ``benchmarks.worker``.

    A context manager: leaving ends the process.

    Parameters
    ----------
    engine : str
        A module of ``benchmarks.engines``.
    threads : int
    checkout : Path
        Where cnn_core comes from.
    """

    def __init__(self, engine: str, threads: int, checkout: Path = ROOT) -> None:
        self._engine = engine
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(ROOT), engine, str(threads)],
            env={**os.environ, "PYTHONPATH": str(checkout), **dict.fromkeys(THREAD_SETTINGS, str(threads))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:  # its answer is not waited for
            self._process.terminate()
        try:
            self._process.communicate(timeout=PATIENCE)  # which ends its input, and so itself
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def send(self, **question: Any) -> None:
        """Ask, without waiting for the answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # receive says so
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def receive(self) -> Any:
        """Return the next answer.

        Raises
        ------
        WorkerError
            If the process ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise WorkerError(f"the process of {self._engine} ended before it answered")
        return json.loads(line)

    def ask(self, **question: Any) -> Any:
        """Return the answer to a question."""
        self.send(**question)
        return self.receive()


@contextlib.contextmanager
def workers_at_once(engines: Mapping[str, tuple[str, Path]], threads: int) -> Iterator[dict[str, Worker]]:
    """Start a process for each label's engine and checkout; they import side by side, and all have done so."""
    with contextlib.ExitStack() as stack:
        workers = {
            label: stack.enter_context(Worker(engine, threads, checkout))
            for label, (engine, checkout) in engines.items()
        }
        for worker in workers.values():
            worker.send(version=True)
        for worker in workers.values():
            worker.receive()
        yield workers


def time_in_turn(
    workers: Mapping[str, Worker], rounds: int, seconds: float, measures: Sequence[str] = DIRECTIONS
) -> Times:
    """Time what the workers have built.

    Parameters
    ----------
    workers : mapping of str to Worker
    rounds : int
        Turns of each worker.
    seconds : float
        Length of a turn, for each of its computations and measures.
    measures : sequence of str
        What is timed: see ``benchmarks.worker``.

    Returns
    -------
    dict
        The seconds of all calls, by measure, label and computation.
    """
    times: Times = {measure: {label: {} for label in workers} for measure in measures}
    for number in range(rounds):
        for measure in measures:
            for label, worker in workers.items():
                if number > 0 and not times[measure][label]:  # an engine without it
                    continue
                time.sleep(PAUSE)
                for name, taken in worker.ask(time=measure, seconds=seconds).items():
                    times[measure][label].setdefault(name, []).extend(taken)
    return times
