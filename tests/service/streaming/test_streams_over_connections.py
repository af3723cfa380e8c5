"""Streams on real connections: clients that read while they send, and clients that do not what they should."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients import running_server
from tests.service.streaming.connections import (
    LIMITS,
    MANY,
    MIB,
    SECONDS,
    Client,
    gauge,
    little_memory,
    pooled,
    wait_until_idle,
)

SETTINGS: dict[str, Any] = {**LIMITS, "CONVPOOL_SEND_TIMEOUT": "1"}
CLIENTS: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _connections_are_closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def connected(base_url: str, images: int, query: str = "&duplex=true") -> Client:
    client = Client(base_url, images, query)
    CLIENTS.append(client.socket)
    return client


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running_server(**SETTINGS) as running:
        yield running


def test_a_batch_passes_through_in_little_memory(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = server
    client = connected(url, 4)
    sending = client.sending(4)
    assert client.response()[1] == pooled(4)
    sending.join(SECONDS)
    with little_memory(process.pid):  # of 192 MiB that come in and go out, and 4 that a body may have
        for _ in range(2):  # on one connection, which the first stream leaves open
            client = connected(url, MANY)
            sending = client.sending(MANY)
            head, body = client.response()
            sending.join(SECONDS)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" not in head
            assert body == pooled(MANY)
    wait_until_idle(url)


def test_a_connection_goes_on_after_a_stream(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    client = connected(server[0], 8)
    sending = client.sending(8)
    assert client.response()[1] == pooled(8)
    sending.join(SECONDS)
    client.socket.sendall(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.response()[0].startswith(b"HTTP/1.1 200 ")


def test_a_client_that_never_reads(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    client = connected(server[0], MANY)
    client.send(MANY)  # returns once the server has broken off the connection
    assert client.error in ("ConnectionResetError", "BrokenPipeError")
    assert client.sent < MANY * MIB / 2
    wait_until_idle(server[0])


@pytest.mark.parametrize(("images", "is_served"), [(15, True), (16, True), (17, False)])
def test_a_client_that_sends_everything_before_it_reads(
    server: tuple[str, subprocess.Popen[bytes]], images: int, is_served: bool
) -> None:
    client = connected(server[0], images, query="")
    client.send(images)
    head, body = client.response()
    if is_served:
        assert not client.error
        assert body == pooled(images)
    else:
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"duplex=true" in body
    client.socket.close()
    wait_until_idle(server[0])


@pytest.mark.parametrize("query", ["", "&duplex=true"])
@pytest.mark.parametrize("half", [False, True])
def test_a_client_that_leaves(server: tuple[str, subprocess.Popen[bytes]], query: str, half: bool) -> None:
    client = connected(server[0], 16, query=query)
    sending = client.sending(10)
    if query:
        client.socket.recv(MIB)  # the response has begun
    sending.join(SECONDS)
    if half:
        client.socket.shutdown(socket.SHUT_WR)
        head, body = client.response()
        assert len(body) < len(pooled(16))
        assert query or head.startswith(b"HTTP/1.1 400 ")
    else:
        client.socket.close()
    wait_until_idle(server[0])


def test_two_streams_where_memory_is_for_one() -> None:
    """The second one waits, and is served once the first one has ended."""
    memory: dict[str, Any] = {"CONVPOOL_MAX_MEMORY_BYTES": str(56 * MIB), "CONVPOOL_QUEUE_TIMEOUT": "60"}
    with running_server(**SETTINGS, **memory) as (url, _):
        first, second = connected(url, 16), connected(url, 16)
        sending = first.sending(15)
        first.socket.recv(1, socket.MSG_PEEK)  # it has its memory
        charged = gauge(url, "memory_charged_bytes")
        assert 25 * MIB < charged < 49 * MIB
        other = second.sending(16)
        assert not select.select([second.socket], [], [], 0.5)[0]
        assert gauge(url, "memory_charged_bytes") == charged
        sending_last = threading.Thread(target=first.send_after, args=(sending, 1))
        sending_last.start()
        assert first.response()[1] == pooled(16)
        sending_last.join(SECONDS)
        assert second.response()[1] == pooled(16)
        other.join(SECONDS)
        wait_until_idle(url)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_shutdown_in_the_middle(goes_on: bool) -> None:
    """A stream that ends in time is served; another one is broken off, and the server ends."""
    with running_server(**SETTINGS, CONVPOOL_GRACEFUL_SHUTDOWN="60" if goes_on else "1") as (url, process):
        client = connected(url, 16)
        sending = client.sending(10)
        client.socket.recv(1, socket.MSG_PEEK)
        process.send_signal(signal.SIGTERM)
        if goes_on:
            last = threading.Thread(target=client.send_after, args=(sending, 6))
            last.start()
            assert client.response()[1] == pooled(16)
            last.join(SECONDS)
        else:
            assert len(client.response()[1]) < len(pooled(16))
        sending.join(SECONDS)
        client.socket.close()
        assert process.wait(SECONDS) is not None
