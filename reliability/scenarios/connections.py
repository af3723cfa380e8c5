"""Connections that say nothing, that nobody reads from, and that come and go."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
import time
from collections import Counter

import numpy as np

from ..attack import Attack, Control
from ..outcome import Context, Outcome, scenario
from ..server import Server
from ..wire import Connection, head

HEALTH = head("/health/live", method="GET")
DESCRIPTORS = 128


def large_answer(mebibytes: int) -> bytes:
    """Return a small request that has a large answer: zeros, compressed."""
    file = io.BytesIO()
    np.savez_compressed(
        file, input=np.zeros((1, 512, 512, 1), np.float32), weight=np.zeros((1, 1, 1, mebibytes), np.float32)
    )
    fields = {"Content-Type": "application/x-npz", "Content-Length": len(file.getvalue())}
    return head("/conv/forward", fields) + file.getvalue()


# ------------------------------------------------------------------------------------------------------- the attacks


def stay_silent(port: int, control: Control, connections: int = 160, *, again: bool = False) -> dict[str, float]:
    """Open connections, and send half a head or nothing; with ``again``, open those again that are closed."""
    half = head("/conv/forward")[:-4]
    held: list[socket.socket] = []
    opened = closed = 0
    while control.goes_on(0.02):
        for _ in range(min(20, connections - len(held)) if again or opened < connections else 0):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            held.append(one)
            opened += 1
        if opened >= connections:
            control.ready()
        for index, one in enumerate(list(held)):
            with contextlib.suppress(BlockingIOError, OSError):
                if index % 2 and one.getsockname()[1] % 2:
                    one.send(half[:1])  # not yet connected, or half a head, byte by byte
            try:
                if one.recv(1000) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                closed += 1
                held.remove(one)
                one.close()
    for one in held:
        one.close()
    return {"opened": opened, "closed_by_server": closed}


def leave_unread(
    port: int, control: Control, connections: int = 60, mebibytes: int = 8, rate: int = 0
) -> dict[str, float]:
    """Ask for large answers, and read nothing, or so many bytes a second."""
    request, held = large_answer(mebibytes), []
    for _ in range(connections):
        connection = Connection(port, 5, receive_buffer=4096)
        connection.send(request)
        held.append(connection.socket)
    control.ready()
    closed: set[socket.socket] = set()
    while control.goes_on(1.0):
        for one in held:
            if rate and one not in closed:
                try:
                    one.settimeout(0.001)
                    if not one.recv(rate):
                        closed.add(one)
                except TimeoutError:
                    continue
                except OSError:
                    closed.add(one)
    return {"closed_early": len(closed)}


def come_and_go(port: int, control: Control) -> dict[str, float]:
    """Open connections and close them at once: in order, by a reset, after half a request, or without its answer."""
    reset = struct.pack("ii", 1, 0)
    beginnings = (b"", b"POST /conv", head("/conv/forward", {"Content-Length": 10}) + b"[", HEALTH)
    opened = failed = 0
    control.ready()
    while control.goes_on():
        try:
            with Connection(port, 5) as connection:
                opened += 1
                connection.send(beginnings[opened % len(beginnings)])
                if opened % 2:
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        except OSError:
            failed += 1
        if opened % 10 == 0:
            time.sleep(0.005)
    return {"opened": opened, "not_accepted": failed}


def pipeline(port: int, control: Control, count: int = 2000) -> dict[str, float]:
    """Send requests by the thousand before the first answer is read; another connection never reads."""
    body = b'{"input":[[[1.0]]],"mode":"max","kernel_size":1}'
    post = head("/pool/forward", {"Content-Type": "application/json", "Content-Length": len(body)}) + body
    greedy = Connection(port, 60, receive_buffer=4096)
    greedy.socket.setblocking(False)
    seen: Counter[str] = Counter()
    control.ready()
    while control.goes_on():
        with contextlib.suppress(OSError):
            for _ in range(100):
                seen["unread_bytes"] += greedy.socket.send(post * 100)
        with Connection(port, 60) as connection:
            sender = threading.Thread(target=_send_all, args=(connection, (HEALTH + post) * (count // 2)))
            sender.start()
            try:
                for _ in range(count):
                    response = connection.receive()
                    seen[f"pipelined_{response.status}"] += 1
                    if response.closes:  # a client sends again what was not answered, elsewhere
                        break
            except OSError:
                seen["pipelined_broken"] += 1
            connection.close()  # ends the sending, too
            sender.join()
    greedy.close()
    return dict(seen)


def _send_all(connection: Connection, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.send(data)


# ----------------------------------------------------------------------------------------------------- the scenarios


def newcomers(server: Server, outcome: Outcome, count: int = 50, seconds: float = 20.0) -> None:
    """Let new clients come, one after the other, and require that each is answered."""
    answered: list[float] = []
    failures: Counter[str] = Counter()

    def come() -> None:
        start = time.perf_counter()
        try:
            with Connection(server.port, seconds) as connection:
                if connection.ask(HEALTH).status == 200:
                    answered.append(time.perf_counter() - start)
        except OSError as error:
            failures[type(error).__name__] += 1

    threads = [threading.Thread(target=come) for _ in range(count)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    outcome.note(newcomers=count, answered=len(answered), slowest_newcomer_s=round(max(answered, default=0), 2))
    outcome.note(**{f"newcomers_{kind}": number for kind, number in failures.items()})
    outcome.require("every newcomer is answered", holds=len(answered) == count)


def _silence(context: Context, outcome: Outcome, *, again: bool) -> None:
    with context.server(open_files=DESCRIPTORS) as server:
        with Attack(stay_silent, server.port, again=again) as attack:
            newcomers(server, outcome)
        outcome.note(**attack.figures)
        with context.load(server) as load:
            after = load.run(1)
        outcome.note_load("after", after)
        outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures)
    with context.server() as server:
        context.beside(outcome, server, stay_silent, again=again)


@scenario
def silent_connections(context: Context, outcome: Outcome) -> None:
    """160 connections send half a head or nothing to a server with 128 descriptors; 50 newcomers come."""
    _silence(context, outcome, again=False)


@scenario
def silent_connections_again(context: Context, outcome: Outcome) -> None:
    """As silent_connections, and each that the server closes is opened again."""
    _silence(context, outcome, again=True)


@scenario
def unread_answers(context: Context, outcome: Outcome) -> None:
    """60 clients ask for 8 MiB each and read nothing, with CONVPOOL_SEND_TIMEOUT=2."""
    with context.server(send_timeout=2) as server:
        context.beside(outcome, server, leave_unread, seconds=8)
    with context.server(send_timeout=2) as server:
        before = server.open_sockets()
        with Attack(leave_unread, server.port):
            time.sleep(8)
            left = server.open_sockets() - before
        outcome.note(open_after_8_s=left)
        outcome.require("connections are closed within 8 s", holds=left <= 0)


@scenario
def slow_readers(context: Context, outcome: Outcome) -> None:
    """64 clients ask for 8 MiB each and read one byte a second."""
    with context.server() as server:
        context.beside(outcome, server, leave_unread, connections=64, rate=1)


@scenario
def coming_and_going(context: Context, outcome: Outcome) -> None:
    """One process opens connections and closes them, some by a reset, as fast as it can."""
    with context.server() as server:
        before = server.open_sockets()
        context.beside(outcome, server, come_and_go)
        time.sleep(1)
        left = server.open_sockets() - before
        outcome.note(left_open=left)
        outcome.require("no connection stays open", holds=left <= 0)


@scenario
def pipelined(context: Context, outcome: Outcome) -> None:
    """2,000 requests are sent on one connection before an answer is read; another one never reads any.

    The server may answer some, say that it closes the connection, and do so.
    """
    with context.server() as server:
        figures = context.beside(outcome, server, pipeline)
        outcome.require("all pipelined are answered 200", holds=set(figures) <= {"unread_bytes", "pipelined_200"})
        grown = float(outcome.figures["mib_peak"]) - float(outcome.figures["mib_before"])
        outcome.require("memory grows by at most 64 MiB", holds=grown <= 64)
