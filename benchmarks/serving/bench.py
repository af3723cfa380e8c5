"""Time the service against other servers: ``make bench-service``.

Writes service-results.md, service-results.json and service-results.png. ``--help`` shows the options; what is measured
is said in the report, in ``benchmarks.serving.report``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import IDLE
from benchmarks.machine import cpu_model, others_seconds
from benchmarks.processes import ROOT
from benchmarks.serving.calls import CALLS, PEER_WIRES, WIRES, Call, wrong_numbers
from benchmarks.serving.picture import draw
from benchmarks.serving.report import aims, markdown
from benchmarks.serving.servers import ENVIRONMENTS, SERVERS, SETTINGS, TITLES, Server, ServerError, raw_socket
from benchmarks.serving.turns import IN_PROCESS, RAW, Contender, Pace, ask_client, contend
from cnn_core.runtime.threads import get_threads

ONCE = Pace(rounds=1, warm_up=0.0, seconds=0.0)
NOT_SERVED = {404, 405, 415}
"""Statuses of a server that does not know a path or a wire."""

PACKAGES = {
    "convpool": ("numpy", "fastapi", "uvicorn", "httptools", "uvloop"),
    "plain": ("torch", "numpy", "fastapi", "uvicorn", "httptools", "uvloop"),
    "litserve": ("litserve", "torch", "fastapi", "uvicorn", "httptools", "uvloop"),
    "bentoml": ("bentoml", "torch", "starlette", "uvicorn"),
}
VERSIONS = """
import sys, importlib.metadata
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in sys.argv[1:]))
"""

LOOK = 0.5
"""Seconds for which other programs are looked at before each call."""

Settings = argparse.Namespace


def parse_arguments() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [call.name for call in CALLS]
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="(default: all)")
    parser.add_argument("--calls", nargs="+", choices=names, default=names, help="(default: all)")
    parser.add_argument("--wires", nargs="+", choices=list(WIRES), default=list(WIRES), help="of convpool")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64], help="(default: 1 8 64)")
    parser.add_argument("--rounds", type=int, help="turns of each server and wire (default: 4, quick 2)")
    parser.add_argument("--seconds", type=float, help="length of a turn (default: 0.5, quick 0.15)")
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", metavar="DIR", help="of the results")
    settings = parser.parse_args()
    rounds, seconds = (2, 0.15) if settings.quick else (4, 0.5)
    settings.pace = Pace(settings.rounds or rounds, 0.08 if settings.quick else 0.15, settings.seconds or seconds)
    settings.calls = [call for call in CALLS if call.name in settings.calls]
    return settings


@contextlib.contextmanager
def running_servers(names: list[str], folder: Path) -> Iterator[dict[str, Server]]:
    """Start the servers; one that does not start is left out, and said to be."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name in names:
            python = ENVIRONMENTS.get(name, Path(sys.executable))
            try:
                running[name] = stack.enter_context(Server(SERVERS[name], folder / f"{name}.log", python))
            except ServerError as error:
                print(f"{TITLES[name]} is left out: {error}", flush=True)
        yield running


def answering(call: Call, running: dict[str, Server], settings: Settings, folder: Path) -> Iterator[Contender]:
    """Yield the servers and wires that answer a call with the right numbers, and a raw socket's floor of each wire."""
    for server, wire, request in requests(call, running, settings):
        contender = Contender(server, wire, running[server], folder / f"{call.name}-{server}-{wire}")
        contender.request.write_bytes(request)
        response = folder / "response"
        answer = ask_client(running[server], contender.request, response, 1, ONCE)
        fault = answer.get("error", "")
        if answer.get("status") in NOT_SERVED:
            fault = f"not served ({fault})"
        elif not fault:
            fault = wrong_numbers(response.read_bytes(), call.compute(), channels_first=server != "convpool")
        if fault:
            print(f"  {server}, {wire}: left out: {fault}", flush=True)
            continue
        contender.bytes_under_way = len(request) + response.stat().st_size
        yield contender


def requests(call: Call, running: dict[str, Server], settings: Settings) -> Iterator[tuple[str, str, bytes]]:
    """Yield each server, wire and request of a call."""
    if "convpool" in running:
        for wire in call.wires:
            if wire in settings.wires:
                yield "convpool", wire, WIRES[wire](call)
    if call.with_peers:
        for server in running:
            if server in PEER_WIRES:
                wire, write = PEER_WIRES[server]
                yield server, wire, write(call)


def floors(contenders: list[Contender], folder: Path, stack: contextlib.ExitStack) -> Iterator[Contender]:
    """Yield a raw socket for each wire, with requests and responses of the same sizes."""
    for wire, like in {each.wire: each for each in reversed(contenders)}.items():  # of the first one with that wire
        request_bytes = like.request.stat().st_size
        response_bytes = like.bytes_under_way - request_bytes
        server = stack.enter_context(raw_socket(request_bytes, response_bytes, folder / "raw-socket.log"))
        yield Contender(RAW, wire, server, like.request, like.bytes_under_way)


def busy_processors() -> float | None:
    """Return how many processors other programs take, while all servers are suspended; None if it is unknown."""
    before, start = others_seconds(), time.perf_counter()
    time.sleep(LOOK)
    after = others_seconds()
    if before is None or after is None:
        return None
    return max(0.0, (after - before) / (time.perf_counter() - start))


def measured_call(call: Call, running: dict[str, Server], settings: Settings, folder: Path) -> dict[str, Any]:
    """Return all figures of a call."""
    print(call.title, flush=True)
    others = busy_processors()
    if others is not None and others > IDLE:
        print(f"  NOT IDLE: other programs take {others:.2f} processors", flush=True)
    with contextlib.ExitStack() as stack:
        contenders = list(answering(call, running, settings, folder))
        contenders += [*floors(contenders, folder, stack), Contender(IN_PROCESS, "forward")]
        cells = []
        for clients in settings.clients:
            if clients <= call.most_clients:
                cells += contend(call, contenders, clients, settings.pace, folder / "spare")
                print(f"  {clients} clients: done", flush=True)
    return {
        "name": call.name,
        "title": call.title,
        "others_processors": others,
        "bytes_under_way": {each.wire: each.bytes_under_way for each in contenders if each.server == RAW},
        "request_bytes": {each.wire: each.request.stat().st_size for each in contenders if each.server == RAW},
        "cells": [cell.figures() for cell in cells],
    }


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of what each server consists of."""
    found = {}
    for name in names:
        command = [str(ENVIRONMENTS.get(name, sys.executable)), "-c", VERSIONS, *PACKAGES[name]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found[name] = done.stdout.strip() or "unknown"
    return found


def measured(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield all figures so far, after each call."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, running_servers(settings.servers, Path(name)) as running:
        results: dict[str, Any] = {
            "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
            "cpu": cpu_model(),
            "system": f"{platform.system()}, Python {platform.python_version()}",
            "threads": get_threads(),
            "rounds": settings.pace.rounds,
            "warm_up": settings.pace.warm_up,
            "seconds": settings.pace.seconds,
            "settings": {name: value for name, value in SETTINGS.items() if name.startswith("CONVPOOL_")},
            "versions": versions(list(running)),
            "calls": [],
        }
        for call in settings.calls:
            results["calls"].append(measured_call(call, running, settings, Path(name)))
            yield results | {"duration": time.perf_counter() - start, "aims": aims(results["calls"])}


def write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service-results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "service-results.md").write_text(markdown(results))
    draw(results["calls"], f"{results['date']}; {results['cpu']}", folder / "service-results.png")


def main() -> None:
    settings = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # in good order: the servers end, too
    try:
        for results in measured(settings):
            write(results, settings.output)
    except KeyboardInterrupt:
        sys.exit(130)
    for aim in results["aims"]:
        print(f"{aim['what']}: {aim['value']:.2f} ({aim['wanted']})")
    print(f"{results['duration']:.0f} s")


if __name__ == "__main__":
    main()
