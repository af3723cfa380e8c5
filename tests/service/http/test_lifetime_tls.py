"""The limits of a connection under TLS, where it cannot be closed for writing alone."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from tests.service.http.in_process import SECONDS, Running, head, received, serving

HEALTHY = head("/a", "Content-Length: 2") + b"hi"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@contextlib.contextmanager
def secure(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], receive_buffer: int = 0, **settings: Any
) -> Iterator[tuple[Running, ssl.SSLSocket]]:
    with (
        serving(tls=contexts[0], **settings) as server,
        server.connect(receive_buffer=receive_buffer) as plain,
        contexts[1].wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.settimeout(SECONDS)
        yield server, connection


def test_requests_are_answered(contexts: Any) -> None:
    with secure(contexts) as (_, connection):
        for _ in range(3):
            connection.sendall(HEALTHY)
            content = b""
            while not content.endswith(b"xx"):
                content += connection.recv(2**16)
            assert content.startswith(b"HTTP/1.1 200 ")


def test_a_large_response_comes_whole(contexts: Any) -> None:
    with secure(contexts) as (server, connection):
        server.app.size = 2**24
        connection.sendall(head("/a", "Connection: close"))
        assert len(received(connection)) > 2**24


def test_a_refused_upload_sees_why(contexts: Any) -> None:
    with secure(contexts) as (_, connection):
        connection.sendall(head("/refuse", f"Content-Length: {2**24}"))
        connection.sendall(bytes(2**24))
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")


def test_half_a_head_is_refused_in_time(contexts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.lifetime.LINGER_SECONDS", 0.2)
    with secure(contexts, header_timeout=0.2) as (_, connection):
        connection.sendall(HEALTHY[:10])
        assert received(connection).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_takes_nothing_is_broken_off(contexts: Any) -> None:
    with secure(contexts, receive_buffer=2**12, send_timeout=0.3) as (server, connection):
        server.app.size = 2**24
        connection.sendall(head("/a"))
        server.wait_until(lambda: "/a" in server.app.seen)
        server.wait_until(lambda: len(server.connections) == 0)
        server.wait_until(lambda: server.app.release == ["/a"])


def test_a_client_that_is_gone_is_noticed(contexts: Any) -> None:
    with secure(contexts) as (server, connection):
        connection.sendall(head("/wait"))
        server.wait_until(lambda: "body 0" in server.app.seen)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        server.wait_until(lambda: "http.disconnect" in server.app.seen)
        server.wait_until(lambda: server.protocols() == [])
