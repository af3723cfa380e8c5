"""Send a server very many requests with something changed in them: ``python -m reliability.fuzz --help``."""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from .calls import CheckedCall, small_calls
from .load import fault_of
from .machine import machine
from .mutations import Mutated, documents, mutated
from .outcome import Outcome
from .server import MEBIBYTE, Server
from .wire import Connection, Response, head

MOST_GROWTH = 1.1
CLIENTS = 4
PATIENCE = 20.0
FEW = 20_000
"""Requests below which the memory says nothing."""
CHECKED_EVERY = 50
"""Requests after which a sound one is sent, whose answer is known."""
DELIBERATE = {True: (503,), False: (501, 503, 505)}
"""Statuses from 500 that are meant, by whether the request is sound HTTP."""
LONGEST_PROBLEM = 8192
DOCUMENTS = (
    "/ops",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/v2",
    "/v2/health/live",
    "/v2/models/conv_forward",
    "/docs",
    "/",
)
BODIES = {
    "/conv/shape": b'{"shapes":{"input":[1,9,9,3],"weight":[3,3,3,4]},"stride":2,"dtype":"float32"}',
    "/pool/shape": b'{"shapes":{"input":[1,9,9,3]},"mode":"max","kernel_size":2}',
    "/v2/repository/index": b'{"ready":true}',
}


@dataclass
class Findings:
    """What came back.

    Attributes
    ----------
    statuses : Counter of int
        0 stands for a connection that was closed without an answer.
    faults : list of str
        What must not be, with the number of the request.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the requests; return 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="of requests (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--print", type=int, metavar="NUMBER", help="print the request of a number, and end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all figures")
    options = parser.parse_args(arguments)
    calls = small_calls()
    if options.print is not None:
        print(mutated(seeds_of(calls), options.seed, options.print))
        return 0
    before = machine()
    outcome = fuzzed(calls, options.count, options.seed)
    return outcome.conclude("fuzz", before, options.json)


def seeds_of(calls: Sequence[CheckedCall]) -> list[bytes]:
    """Return sound requests to every route, in every format."""
    fields = {"Content-Type": "application/json"}
    posts = [head(path, {**fields, "Content-Length": len(body)}) + body for path, body in BODIES.items()]
    return [*[call.request for call in calls], *posts * 3, *documents(DOCUMENTS)]


def fuzzed(calls: Sequence[CheckedCall], requests: int, seed: int) -> Outcome:
    """Send requests to a server of their own, and return what came of it."""
    outcome, findings, seeds = Outcome(), Findings(), seeds_of(calls)
    numbers, lock = count(), threading.Lock()
    memory: list[tuple[int, int]] = []

    def work() -> None:
        client = _Client(server.port, findings)
        while True:
            with lock:
                number = next(numbers)
            if number >= requests:
                break
            if number % CHECKED_EVERY == 0:
                client.check(calls[number // CHECKED_EVERY % len(calls)])
                memory.append((number, server.memory()))
            client.send(mutated(seeds, seed, number), number)
        client.drop()

    with tempfile.TemporaryDirectory() as folder:
        log, start = Path(folder) / "server.log", time.monotonic()
        with Server(log) as server:
            threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            outcome.note(peak_mib=server.peak_memory() // MEBIBYTE)
            outcome.require("still runs", holds=server.is_running())
        tracebacks = log.read_text(errors="replace").count("Traceback (most recent call last)")
    sizes = [size / MEBIBYTE for _, size in sorted(memory)]
    fifth = max(1, len(sizes) // 5)
    warm, last = statistics.median(sizes[fifth : 2 * fifth] or sizes), statistics.median(sizes[-fifth:])
    outcome.note(requests=requests, seed=seed, seconds=round(time.monotonic() - start))
    outcome.note(warm_mib=round(warm), last_mib=round(last), tracebacks=tracebacks)
    outcome.note(**{f"status_{status}": number for status, number in sorted(findings.statuses.items())})
    outcome.note(**{f"fault {index}": fault for index, fault in enumerate(findings.faults[:20], 1)})
    outcome.require("nothing but what may come back", holds=not findings.faults)
    outcome.require("no traceback in the log", holds=not tracebacks)
    if requests >= FEW:
        outcome.require("memory within 10 % of that after the warm-up", holds=last <= MOST_GROWTH * warm)
    return outcome


class _Client:
    """One connection after the other; it is kept while both sides know where a request ends."""

    def __init__(self, port: int, findings: Findings) -> None:
        self._port, self._findings = port, findings
        self._connection: Connection | None = None

    def drop(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def check(self, call: CheckedCall) -> None:
        """Send a sound request, and check its answer."""
        self.drop()
        try:
            with Connection(self._port, PATIENCE) as connection:
                fault = fault_of(call, connection.ask(call.request))
        except (OSError, ValueError) as error:
            fault = f"{call.name}: {type(error).__name__}"
        if fault:
            self._findings.faults.append(f"a sound request: {fault}")

    def send(self, request: Mutated, number: int) -> None:
        """Send a request, and look at what comes back."""
        if not request.is_framed or (self._connection is not None and self._connection.has_news()):
            self.drop()
        fault = ""
        try:
            if self._connection is None:
                self._connection = Connection(self._port, PATIENCE)
            response = self._ask(self._connection, request)
        except TimeoutError:
            fault = "no answer"
            self.drop()
        except (OSError, ValueError, IndexError) as error:
            self._findings.statuses[0] += 1
            fault = f"{type(error).__name__}: {error}" if request.is_framed else ""
            self.drop()
        else:
            self._findings.statuses[response.status] += 1
            fault = fault_in(response, request)
            if response.closes or not request.is_framed:
                self.drop()
        if fault:
            self._findings.faults.append(f"{number}: {fault}")

    @staticmethod
    def _ask(connection: Connection, request: Mutated) -> Response:
        try:
            connection.send(request.content)
            if not request.is_framed:  # else the server would wait for more, as it should
                connection.socket.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        return connection.receive()


def fault_in(response: Response, request: Mutated) -> str:
    """Return what is wrong with the response to a request that may be anything; nothing if it may be so."""
    status, media_type = response.status, response.headers.get("content-type", "")
    if status >= 500 and status not in DELIBERATE[request.is_framed]:
        return f"status {status}"
    if status == 503 and "retry-after" not in response.headers:
        return "503 without Retry-After"
    if status < 400 or request.content.startswith(b"HEAD"):
        return ""
    if len(response.content) > LONGEST_PROBLEM:
        return f"status {status} with {len(response.content)} bytes"
    try:
        document = json.loads(response.content)
    except ValueError:
        return f"status {status} without JSON"
    if set(document) == {"error"} and request.is_v2:
        return "" if media_type == "application/json" else f"status {status} as {media_type}"
    if media_type != "application/problem+json" or document.get("status") != status or not document.get("detail"):
        return f"status {status} without a problem document"
    return ""


if __name__ == "__main__":
    sys.exit(main())
