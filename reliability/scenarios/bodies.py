"""Bodies that arrive slowly, in crumbs, or not at all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter

from ..attack import Attack, Control
from ..outcome import Context, Outcome, scenario
from ..server import MEBIBYTE
from ..wire import Broken, Connection, head

JSON, NPY = "application/json", "application/x-npy"
POOL = "/pool/forward?mode=max&kernel_size=1"


# ------------------------------------------------------------------------------------------------------- the attacks


def send_tiny_chunks(
    port: int, control: Control, connections: int = 3, rate: int = 10_000, burst: int = 10_000
) -> dict[str, float]:
    """Upload chunked bodies in chunks of one byte; a connection that is refused is opened again.

    As many chunks as ``burst`` says are sent at once: they reach the server together, as after a pause of the network.
    """
    crumbs = b"1\r\n \r\n" * burst
    opening = head("/conv/forward", {"Content-Type": JSON, "Transfer-Encoding": "chunked"})
    open_: list[Connection | None] = [None] * connections
    sent, opened, start = 0, 0, time.perf_counter()
    control.ready()
    while control.goes_on(burst / rate):
        due = int((time.perf_counter() - start) * rate * connections) - sent
        for index in range(connections):
            connection = open_[index]
            try:
                if connection is None:
                    connection = open_[index] = Connection(port, 5)
                    connection.send(opening)
                    opened += 1
                for _ in range(max(1, due // connections // burst)):
                    connection.send(crumbs)
                    sent += burst
                if connection.has_news():
                    raise Broken("answered")
            except OSError:
                if connection is not None:
                    connection.close()
                open_[index] = None
    seconds = time.perf_counter() - start
    return {"chunks_per_second": sent / seconds, "connections_opened": opened}


def declare_bodies(port: int, control: Control, connections: int = 16, length: int = 64 * MEBIBYTE) -> dict[str, float]:
    """Say that large bodies follow, and send nothing; whoever is answered comes again."""
    opening = head(POOL, {"Content-Type": NPY, "Content-Length": length})
    return _hold(port, control, [opening] * connections, b"")


def drip_bodies(port: int, control: Control, connections: int = 64, length: int = 1000) -> dict[str, float]:
    """Send bodies at one byte a second."""
    opening = head(POOL, {"Content-Type": NPY, "Content-Length": length})
    return _hold(port, control, [opening + b"\x93"] * connections, b"N")


def expect_and_send_nothing(port: int, control: Control, connections: int = 100) -> dict[str, float]:
    """Ask whether a body is welcome, and never send it."""
    opening = head(POOL, {"Content-Type": NPY, "Content-Length": 60 * MEBIBYTE, "Expect": "100-continue"})
    return _hold(port, control, [opening] * connections, b"")


def _hold(port: int, control: Control, openings: list[bytes], drop: bytes) -> dict[str, float]:
    """Keep connections open, send each a byte a second, and open those again that the server closes."""
    held: list[Connection | None] = [None] * len(openings)
    statuses: Counter[str] = Counter()
    while control.goes_on(0.0 if None in held else 1.0):
        for index, opening in enumerate(openings):
            connection = held[index]
            try:
                if connection is None:
                    connection = held[index] = Connection(port, 5)
                    connection.send(opening)
                    statuses["opened"] += 1
                    continue
                while connection.has_news():
                    status = connection.receive_interim()
                    statuses[f"got_{status}"] += 1
                    if status >= 200:
                        raise Broken("answered")
                connection.send(drop)
            except (OSError, ValueError):
                if connection is not None:
                    connection.close()
                held[index] = None
        control.ready()
        if None in held:
            time.sleep(0.2)
    for connection in held:
        if connection is not None:
            connection.close()
    return dict(statuses)


def hold_places(port: int, control: Control, connections: int = 8, rate: int = 2**17) -> dict[str, float]:
    """Upload large bodies slowly, but faster than any server may mind, so that it is full."""
    opening = head(POOL, {"Content-Type": NPY, "Content-Length": 60 * MEBIBYTE})
    piece, held = bytes(rate // 10), []
    for _ in range(connections):
        connection = Connection(port, 5)
        connection.send(opening)
        held.append(connection)
    control.ready()
    refused = 0
    while control.goes_on(0.1):
        for connection in list(held):
            try:
                if connection.has_news():
                    raise Broken("answered")
                connection.send(piece)
            except OSError:
                refused += 1
                held.remove(connection)
                connection.close()
    return {"holders_refused": refused}


def upload(port: int, size: int, rate: int, seen: Counter[str]) -> None:
    """Upload a body as plain clients do: all of it is sent before the response is looked at."""
    opening = head(POOL, {"Content-Type": NPY, "Content-Length": size})
    piece = bytes(rate // 50)
    try:
        with Connection(port, 60) as connection:
            connection.send(opening)
            start, sent = time.perf_counter(), 0
            try:
                while sent < size:
                    connection.send(piece[: size - sent])
                    sent += len(piece)
                    time.sleep(max(0.0, start + sent / rate - time.perf_counter()))
            except OSError:
                seen["cut_off"] += 1
            response = connection.receive()
            seen[str(response.status)] += 1
            if response.status in (429, 503) and "retry-after" not in response.headers:
                seen["no_retry_after"] += 1
    except OSError:
        seen["broken"] += 1


# ----------------------------------------------------------------------------------------------------- the scenarios


@scenario
def tiny_chunks(context: Context, outcome: Outcome) -> None:
    """3 connections send chunked bodies in chunks of one byte, 10,000 a second each, all of a second at once."""
    with context.server() as server:
        before = server.cpu_seconds()
        context.beside(outcome, server, send_tiny_chunks)
        outcome.note(cpu_seconds=round(server.cpu_seconds() - before, 1))


@scenario
def tiny_chunks_one_by_one(context: Context, outcome: Outcome) -> None:
    """3 connections send chunked bodies in chunks of one byte, 10,000 a second each, in packets of ten."""
    with context.server() as server:
        context.beside(outcome, server, send_tiny_chunks, burst=10)


@scenario
def declared_bodies(context: Context, outcome: Outcome) -> None:
    """16 requests declare a body of 64 MiB and send nothing."""
    with context.server() as server:
        context.beside(outcome, server, declare_bodies)
        _require_memory(outcome, 128)


@scenario
def dripped_small_bodies(context: Context, outcome: Outcome) -> None:
    """64 requests declare a body of 1,000 bytes and send a byte a second."""
    with context.server() as server:
        context.beside(outcome, server, drip_bodies)


@scenario
def dripped_by_many(context: Context, outcome: Outcome) -> None:
    """300 requests, several times as many as there are places, declare 1,000 bytes and send a byte a second."""
    with context.server() as server:
        context.beside(outcome, server, drip_bodies, connections=300)


@scenario
def dripped_large_bodies(context: Context, outcome: Outcome) -> None:
    """64 requests declare a body of 60 MiB and send a byte a second."""
    with context.server() as server:
        context.beside(outcome, server, drip_bodies, length=60 * MEBIBYTE)
        _require_memory(outcome, 128)


@scenario
def expected_bodies(context: Context, outcome: Outcome) -> None:
    """100 requests send Expect: 100-continue and then nothing."""
    with context.server() as server:
        context.beside(outcome, server, expect_and_send_nothing)
        _require_memory(outcome, 128)


@scenario
def refused_uploads(context: Context, outcome: Outcome) -> None:
    """16 clients upload 32 MiB at 4 MiB/s to a server that is full."""
    seen: Counter[str] = Counter()
    with context.server(max_requests=4, max_memory_bytes=256 * MEBIBYTE) as server:
        with Attack(hold_places, server.port):
            threads = [
                threading.Thread(target=upload, args=(server.port, 32 * MEBIBYTE, 4 * MEBIBYTE, seen))
                for _ in range(16)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        with contextlib.suppress(OSError), context.load(server) as load:
            after = load.run(1)
    outcome.note(**dict(sorted(seen.items())))
    outcome.note_load("after", after)
    outcome.require("some were refused", holds=bool(seen["503"] + seen["429"] + seen["broken"]))
    # on Linux, what came before a reset can still be read, but not every client tries
    outcome.require("every client could send all and saw its response", holds=not seen["broken"] + seen["cut_off"])
    outcome.require("Retry-After", holds=not seen["no_retry_after"])
    outcome.require("only 200, 400, 429 or 503", holds=set(seen) <= {"200", "400", "429", "503", "cut_off", "broken"})
    outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures)


def _require_memory(outcome: Outcome, mebibytes: int) -> None:
    grown = float(outcome.figures["mib_peak"]) - float(outcome.figures["mib_before"])
    outcome.require(f"memory grows by at most {mebibytes} MiB", holds=grown <= mebibytes)
