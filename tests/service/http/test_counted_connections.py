"""Connections that a limit ended are counted by the reason."""

from __future__ import annotations

import contextlib

import pytest

from tests.service.http.in_process import head, received, serving


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    counted: list[str] = []
    for module in ("flow", "lifetime", "access_log"):
        monkeypatch.setattr(f"service.http.{module}.count_rejection", counted.append)
    return counted


def test_a_head_that_is_late(reasons: list[str]) -> None:
    with serving(header_timeout=0.2) as server, server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHos")
        assert received(connection).startswith(b"HTTP/1.1 408 ")
    assert reasons == ["header_timeout"]


def test_a_response_that_is_not_taken(reasons: list[str]) -> None:
    with serving(send_timeout=0.3) as server, server.connect(receive_buffer=2**12) as connection:
        server.app.size = 2**25
        connection.sendall(head("/a"))
        server.wait_until(lambda: len(server.connections) == 1)
        server.wait_until(lambda: len(server.connections) == 0)
    assert reasons == ["send_timeout"]


def test_one_that_makes_room(reasons: list[str]) -> None:
    with serving(limit=1) as server, contextlib.ExitStack() as clients:
        for number in range(1, 3):
            connection = clients.enter_context(server.connect())
            connection.sendall(head("/a"))
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")
            assert reasons == ["connection_evicted"] * (number - 1)


def test_one_more_than_there_may_be(reasons: list[str]) -> None:
    with serving(limit=1) as server, server.connect() as busy:
        busy.sendall(head("/wait"))
        server.wait_until(lambda: server.connections.busy == 1)
        with server.connect() as newcomer:
            assert received(newcomer).startswith(b"HTTP/1.1 503 ")
        assert reasons == ["too_many_connections"]
        server.call(server.app.respond.set)


def test_what_is_malformed_is_no_limit(reasons: list[str]) -> None:
    with serving() as server, server.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400 ")
    assert reasons == []
