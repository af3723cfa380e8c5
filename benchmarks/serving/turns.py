"""Who is timed with what: cells, the turns that they take, and their figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import ROOT
from benchmarks.serving.calls import Call
from benchmarks.serving.servers import Server

__all__ = ["IN_PROCESS", "RAW", "Cell", "Contender", "Pace", "ask_client", "contend"]

RAW = "raw socket"
IN_PROCESS = "in process"

MOST_BYTES = 2**30
"""Of requests and responses that are under way at once; servers take several times as much."""

FEWEST_FOR_P99 = 100


@dataclass(frozen=True)
class Pace:
    """How long and how often a cell is timed.

    Parameters
    ----------
    rounds : int
    warm_up, seconds : float
        Of each turn.
    patience : float
        Seconds after which a turn has failed.
    """

    rounds: int
    warm_up: float
    seconds: float
    patience: float = 120.0

    @property
    def budget(self) -> float:
        """Seconds that the turns of a cell may take; then it gets no more of them."""
        return 2 * self.rounds * (self.warm_up + self.seconds)


@dataclass
class Cell:
    """One server and one wire, and what was measured with so many clients."""

    server: str
    wire: str
    clients: int
    latencies: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    processor_seconds: list[float] = field(default_factory=list)
    error: str = ""

    def add(self, answer: dict[str, Any]) -> None:
        """Take the client's answer of a turn."""
        self.error = answer.get("error", "")
        if not self.error:
            self.latencies.append(answer["latencies"])
            self.seconds += answer.get("seconds", sum(answer["latencies"]))
            self.processor_seconds.append(answer.get("processor_seconds", 0.0))

    def figures(self) -> dict[str, Any]:
        """Return the figures: latencies of all turns together, in seconds."""
        found: dict[str, Any] = {"server": self.server, "wire": self.wire, "clients": self.clients}
        if self.error or not self.latencies:
            return found | {"error": self.error or "no turn"}
        together = np.concatenate(self.latencies)
        p50, p99 = np.quantile(together, (0.5, 0.99)).tolist()
        return found | {
            "p50": p50,
            "p99": p99 if len(together) >= FEWEST_FOR_P99 else None,
            "throughput": len(together) / self.seconds,
            "responses": len(together),
            "p50_of_turns": [float(np.median(turn)) for turn in self.latencies],
            "client_processor_seconds": float(np.median(self.processor_seconds)),
        }


@dataclass
class Contender:
    """A server that answers a call in a wire."""

    server: str
    wire: str
    running: Server | None = None
    request: Path = Path()
    bytes_under_way: int = 0

    def take_turn(self, cell: Cell, call: Call, pace: Pace, spare: Path) -> None:
        """Time it once more, and add what was found to the cell."""
        if self.running is None:
            cell.add(_asked("benchmarks.serving.in_process", pace, "--call", call.name))
            return
        cell.add(ask_client(self.running, self.request, spare, cell.clients, pace))


def ask_client(server: Server, request: Path, response: Path, clients: int, pace: Pace) -> dict[str, Any]:
    """Return the client's answer about a turn of a server, see ``benchmarks.serving.client``."""
    server.resume()
    try:
        return _asked(
            "benchmarks.serving.client",
            pace,
            *("--port", str(server.port), "--request", str(request), "--response", str(response)),
            *("--clients", str(clients), "--warm-up", str(pace.warm_up), "--patience", str(pace.patience)),
        )
    finally:
        server.suspend()


def _asked(module: str, pace: Pace, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *arguments, "--seconds", str(pace.seconds)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=pace.patience + 30, check=True)
    except subprocess.CalledProcessError as error:
        return {"error": error.stderr.strip().split("\n")[-1]}
    except subprocess.TimeoutExpired:
        return {"error": f"{module} did not end"}
    return dict(json.loads(done.stdout))


def contend(call: Call, contenders: list[Contender], clients: int, pace: Pace, spare: Path) -> list[Cell]:
    """Time contenders in turn, in each round in the other order, so that what drifts meets all of them."""
    cells = [
        (each, Cell(each.server, each.wire, clients))
        for each in contenders
        if clients == 1 or (each.running is not None and clients <= call.most_clients)
    ]
    for contender, cell in cells:
        if clients * contender.bytes_under_way > MOST_BYTES:
            cell.error = f"left out: more than {MOST_BYTES >> 20} MiB at once"
    for number in range(pace.rounds):
        for contender, cell in cells if number % 2 == 0 else reversed(cells):
            if not cell.error and cell.seconds < pace.budget:
                contender.take_turn(cell, call, pace, spare)
                if cell.error:
                    print(f"  {cell.server}, {cell.wire}, {clients} clients: {cell.error}", flush=True)
    return [cell for _, cell in cells]
