"""How many connections there may be, which one makes room, and how they end when the server does."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from service.http.connections import MARGIN, RESERVED, descriptors
from tests.clients import free_port, wait_until_ready
from tests.service.http.in_process import SECONDS, Running, head, received, serving

HEALTHY = head("/a", "Content-Length: 2") + b"hi"


def is_open(connection: socket.socket) -> bool:
    return not select.select([connection], [], [], 0)[0]


@contextlib.contextmanager
def many(server: Running, number: int, content: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(number):
            expected = min(len(server.connections) + 1, server.connections.limit)
            made.append(stack.enter_context(server.connect()))
            made[-1].sendall(content)
            server.wait_until(functools.partial(server.has_connections, expected))
        yield made


def answer(connection: socket.socket) -> bytes:
    connection.sendall(HEALTHY)
    content = b""
    while not content.endswith(b"\r\n\r\nxx"):
        piece = connection.recv(2**16)
        assert piece, content
        content += piece
    return content


@pytest.mark.parametrize("content", [b"", b"GET / HT", HEALTHY])
def test_the_connection_that_has_waited_longest_makes_room(content: bytes) -> None:
    with serving(limit=5) as server, many(server, 5, content) as old:
        server.wait_until(lambda: server.connections.busy == 0)
        if content == HEALTHY:
            for connection in old:
                while not connection.recv(2**16).endswith(b"xx"):
                    pass
            answer(old[0])  # now the second has waited longest
        with many(server, 3) as new:
            for connection in new:
                assert answer(connection).startswith(b"HTTP/1.1 200 ")
            ended = [bool(select.select([connection], [], [], 0)[0]) for connection in old]
        assert ended == ([False, True, True, True, False] if content == HEALTHY else [True, True, True, False, False])


def test_a_request_under_way_is_never_cut_for_another() -> None:
    with serving(limit=3) as server, many(server, 2, head("/wait")) as busy, many(server, 1):
        server.wait_until(lambda: server.connections.busy == 2)
        for _ in range(20):
            with many(server, 1) as new:
                answer(new[0])
        assert all(map(is_open, busy))
        server.call(server.app.respond.set)
        for connection in busy:
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")


def test_with_all_busy_a_newcomer_is_told_to_come_again() -> None:
    with serving(limit=3) as server, many(server, 3, head("/wait")) as busy:
        server.wait_until(lambda: server.connections.busy == 3)
        for _ in range(MARGIN + 5):
            with server.connect() as connection:
                connection.sendall(HEALTHY)
                response, _, content = received(connection).partition(b"\r\n\r\n")
                assert response.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nretry-after: 1" in response
                assert b"\r\nconnection: close" in response
                assert orjson.loads(content)["title"] == "Busy"
        assert all(map(is_open, busy))
        server.call(server.app.respond.set)
        assert busy[0].recv(2**16).startswith(b"HTTP/1.1 200 ")
        with server.connect() as connection:
            answer(connection)


def test_those_who_are_told_so_do_not_add_up() -> None:
    with serving(limit=3) as server, many(server, 3, head("/wait")), contextlib.ExitStack() as stack:
        server.wait_until(lambda: server.connections.busy == 3)
        for _ in range(3 * MARGIN):  # they never close
            stack.enter_context(server.connect())
        server.wait_until(lambda: len(server.connections) >= 3 + MARGIN)
        with server.connect() as connection:
            connection.sendall(HEALTHY)
            assert received(connection).startswith(b"HTTP/1.1 503 ")
        assert len(server.connections) <= 3 + MARGIN
        assert server.connections.busy == 3


# --------------------------------------------------------------------------------------------------------- descriptors


def test_the_limit_is_what_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, Any] = {}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(set=new))
    reserve = RESERVED + MARGIN
    for now, new, possible in [
        ((20_000, 20_000), None, 1024),
        ((256, 20_000), (1024 + reserve, 20_000), 1024),
        ((256, 500), (500, 500), 500 - reserve),
        ((128, 128), (128, 128), 128 - reserve),
        ((10, 10), (10, 10), 1),
        ((256, resource.RLIM_INFINITY), (1024 + reserve, resource.RLIM_INFINITY), 1024),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, 1024),
    ]:
        limits = {"now": now}
        assert descriptors(1024) == possible
        assert limits.get("set") == new


def test_a_limit_that_cannot_be_raised_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 500))
    monkeypatch.setattr(resource, "setrlimit", refused)
    assert descriptors(1024) == 256 - RESERVED - MARGIN


def test_idle_connections_never_lock_newcomers_out() -> None:
    """With 128 descriptors, and more connections than that."""
    port = free_port()
    program = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
    program += f"sys.argv[1:] = ['serve', '--port', '{port}']; runpy.run_module('service', run_name='__main__')"
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "CONVPOOL_LOG_LEVEL": "warning"})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        with contextlib.ExitStack() as stack:
            held = []
            for number in range(160):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                if number % 2:
                    with contextlib.suppress(ConnectionError):
                        connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost")
                held.append(connection)
            for _ in range(50):
                with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as newcomer:
                    newcomer.sendall(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    assert received(newcomer).startswith(b"HTTP/1.1 200 ")
    finally:
        process.terminate()
        assert process.wait(60) == 0


# ------------------------------------------------------------------------------------------------------------ shutdown


def test_from_the_beginning_of_the_shutdown_every_response_closes_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.http.connections.IDLE_SECONDS", 0.3)
    with (
        serving() as server,
        server.connect() as busy,
        server.connect() as idle,
        server.connect() as used,
        server.connect() as partial,
        server.connect() as sending,
    ):
        busy.sendall(head("/wait"))
        partial.sendall(HEALTHY[:10])
        sending.sendall(HEALTHY[:-1])
        assert b"connection: close" not in answer(idle)
        assert b"connection: close" not in answer(used)
        server.wait_until(lambda: server.connections.busy == 2)
        server.call(server.connections.begin_shutdown)
        server.call(server.connections.begin_shutdown)  # a second time changes nothing
        assert b"connection: close" in answer(used)
        with server.connect() as new:
            assert b"connection: close" in answer(new)
        assert is_open(idle)
        assert received(idle) == b""  # soon
        assert is_open(partial)
        for connection, rest in ((partial, HEALTHY[10:]), (sending, HEALTHY[-1:])):
            connection.sendall(rest)
            response = received(connection)
            assert response.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in response
        server.call(server.app.respond.set)
        assert b"connection: close" in received(busy)


def test_shutdown_closes_what_has_no_request_at_once() -> None:
    with serving() as server, server.connect() as idle, server.connect() as busy:
        busy.sendall(head("/wait"))
        server.wait_until(lambda: server.connections.busy == 1)
        started = time.monotonic()
        server.call(lambda: [connection.shutdown() for connection in list(server.state.connections)])
        assert received(idle) == b""
        assert time.monotonic() - started < 5
        server.call(server.app.respond.set)
        assert b"connection: close" in received(busy)
