"""Small packets are gathered, pieces of any size make the body, and no single read costs much."""

from __future__ import annotations

import socket
import sys
import threading
import time

import pytest

from service.http.flow import FREE_READS, LONGEST_PAUSE, SMALL_READ
from service.http.protocol import MAX_PIPELINED, Protocol
from service.http.refusals import MAX_HEAD_BYTES
from tests.service.http.in_process import Running, head, received, response, serving

CHUNKED = head("/a", "Transfer-Encoding: chunked")
CHUNK = b"1\r\nx\r\n"


def dripped(server: Running, connection: socket.socket, pieces: list[bytes], pause: float = 0.0005) -> tuple[int, int]:
    """Send piece by piece; return how many pieces there were, and how many reads they took."""
    before = len(server.reads)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(pause)  # or the sender's system would gather them
    return len(pieces), len(server.reads) - before


def statuses(content: bytes) -> list[int]:
    return [int(part[:3]) for part in content.split(b"HTTP/1.1 ")[1:]]


def test_chunks_of_one_byte_are_read_together() -> None:
    with serving() as server, server.connect() as connection:
        connection.sendall(CHUNKED)
        sent, reads = dripped(server, connection, [CHUNK] * 1500)
        assert reads < FREE_READS + 50 < sent / 10
        connection.sendall(b"0\r\n\r\n")
        assert statuses(response(connection)) == [200]
        assert "body 1500" in server.app.seen


def test_a_head_in_bytes_is_read_together() -> None:
    with serving() as server, server.connect() as connection:
        fields = ["X: " + "y" * 1000] * 2
        request = head("/a", *fields)
        sent, reads = dripped(server, connection, [bytes([byte]) for byte in request])
        assert reads < FREE_READS + 50 < sent / 10
        assert statuses(response(connection)) == [200]


def test_line_breaks_between_requests_are_read_together() -> None:
    with serving() as server, server.connect() as connection:
        sent, reads = dripped(server, connection, [b"\r\n"] * 1500)
        assert reads < FREE_READS + 50 < sent / 10
        connection.sendall(head("/a"))
        assert statuses(response(connection)) == [200]


def test_what_follows_a_refusal_is_read_together() -> None:
    with serving() as server, server.connect() as connection:
        connection.sendall(head("/refuse", "Transfer-Encoding: chunked"))
        assert statuses(response(connection)) == [413]
        sent, reads = dripped(server, connection, [CHUNK] * 1500)
        assert reads < FREE_READS + 50 < sent / 10


def test_ordinary_requests_are_never_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a head and a body in two packets each, nor a body in full ones."""
    monkeypatch.setattr("service.http.flow.SHORTEST_PAUSE", 3600)
    monkeypatch.setattr("service.http.flow.LONGEST_PAUSE", 3600)
    with serving() as server, server.connect() as connection:
        for _ in range(2 * FREE_READS):
            for piece in (head("/a", "Content-Length: 2"), b"h", b"i"):
                connection.sendall(piece)
                time.sleep(0.001)
            assert statuses(response(connection)) == [200]
        size = SMALL_READ + 1
        connection.sendall(head("/a", f"Content-Length: {100 * size}"))
        _, reads = dripped(server, connection, [bytes(size)] * 100, 0.001)
        assert statuses(response(connection)) == [200]
        assert reads > FREE_READS, "this test must read more often than is free"
        assert f"body {100 * size}" in server.app.seen


def test_the_pauses_do_not_let_a_client_go_unnoticed() -> None:
    with serving() as server:
        with server.connect() as connection:
            connection.sendall(CHUNKED)
            dripped(server, connection, [CHUNK] * 200)
        server.wait_until(lambda: "disconnect" in server.app.seen)
        server.wait_until(lambda: len(server.connections) == 0)
    assert LONGEST_PAUSE <= 0.3


def test_a_chunk_costs_no_call_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read has room for 40,000 chunks: what is done for each of them holds the event loop."""
    calls = 0

    def traced(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    data_received = Protocol.data_received

    def measured(self: Protocol, data: bytes) -> None:
        sys.setprofile(traced)
        try:
            data_received(self, data)
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(Protocol, "data_received", measured)
    with serving() as server, server.connect() as connection:
        connection.sendall(CHUNKED + CHUNK * 100_000 + b"0\r\n\r\n")
        assert statuses(response(connection)) == [200]
        assert "body 100000" in server.app.seen
        assert calls < 100 * len(server.reads) + 1000 < 100_000 / 4


def test_the_fields_of_a_head_are_counted_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over the limit is not looked at: 16,000 fields are a hundred KiB, and as many calls."""
    calls = 0
    on_header = Protocol.on_header

    def counted(self: Protocol, name: bytes, value: bytes) -> None:
        nonlocal calls
        calls += 1
        on_header(self, name, value)

    monkeypatch.setattr(Protocol, "on_header", counted)
    with serving() as server, server.connect() as connection:
        connection.sendall(head("/a", *["X:y" + "z" * 60] * 3000))
        assert statuses(received(connection)) == [431]
    assert 0 < calls <= MAX_HEAD_BYTES / 60


# ---------------------------------------------------------------------------------------------------------- pipelining


@pytest.mark.parametrize("requests", [1, 2, MAX_PIPELINED])
def test_requests_in_one_packet_are_all_answered(requests: int) -> None:
    with serving() as server, server.connect() as connection:
        for _ in range(2):
            connection.sendall(head("/a") * requests)
            content = b""
            while len(statuses(content)) < requests:
                content += connection.recv(2**16)
            assert statuses(content) == [200] * requests


def test_no_more_requests_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0
    on_message_begin = Protocol.on_message_begin

    def counted(self: Protocol) -> None:
        nonlocal begun
        begun += 1
        on_message_begin(self)

    monkeypatch.setattr(Protocol, "on_message_begin", counted)
    with serving() as server, server.connect() as connection:
        sending = threading.Thread(target=connection.sendall, args=(head("/a") * 20_000,))
        sending.start()
        content = received(connection)
        sending.join()
    # the connection ends in good order: the last response says so, and the client sees it
    answered = content.count(b"HTTP/1.1 200 ")
    assert MAX_PIPELINED <= answered == len(statuses(content)) < begun <= 2 * MAX_PIPELINED
    assert content.count(b"connection: close") == 1
    assert b"connection: close" in content.rpartition(b"HTTP/1.1 200 ")[2]
