"""A client whose body is refused sees why, also when it is still sending; and nobody sends for ever."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.http.connections import Connection, Connections
from tests.service.http.in_process import Running, head, received, response, serving

MEBIBYTE = 2**20
LENGTH = f"Content-Length: {32 * MEBIBYTE}"


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def url(server: Running) -> str:
    return f"http://127.0.0.1:{server.address[1]}/refuse"


# ------------------------------------------------------------------------------------------------------------ sockets


def test_the_refusal_is_sent_at_once_and_says_that_the_connection_ends(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("/refuse", LENGTH))
        content = received(connection)  # until the server's end, though it still reads
        assert content.startswith(b"HTTP/1.1 413 ")
        assert content.endswith(b"no")
        assert b"\r\nconnection: close\r\n" in content
        assert len(server.connections) == 1
        connection.sendall(bytes(MEBIBYTE))
        assert len(server.connections) == 1
    server.wait_until(lambda: len(server.connections) == 0)


def test_a_client_that_reads_only_when_it_has_sent_everything_sees_it(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes, as long as it keeps up."""
    monkeypatch.setattr("service.http.lifetime.LINGER_SECONDS", 0.2)
    with server.connect() as connection:
        connection.sendall(head("/refuse", f"Content-Length: {50 * 2**16}"))
        for _ in range(50):
            connection.sendall(bytes(2**16))
            time.sleep(0.02)
        assert received(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_a_client_that_falls_behind_is_left(server: Running, monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr("service.http.lifetime.LINGER_SECONDS", 0.2)
    with server.connect() as connection:
        connection.sendall(head("/refuse", LENGTH))
        server.wait_until(lambda: "/refuse" in server.app.seen)
        with contextlib.suppress(ConnectionError):
            while len(server.connections):
                connection.sendall(piece)
                time.sleep(0.01)
    server.wait_until(lambda: len(server.connections) == 0)


def test_a_client_that_never_ends_is_left(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.lifetime.MAX_DISCARDED", MEBIBYTE)
    with server.connect() as connection:
        connection.sendall(head("/refuse", "Transfer-Encoding: chunked"))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * MEBIBYTE:
                connection.sendall(bytes(2**16))
                sent += 2**16
        assert MEBIBYTE < sent < 32 * MEBIBYTE


def test_what_is_discarded_is_not_parsed(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("/refuse", "Transfer-Encoding: chunked"))
        assert response(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"0\r\n\r\n" + head("/smuggled"))
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == b""
    server.wait_until(lambda: len(server.connections) == 0)
    assert server.app.seen == ["/refuse"]


def test_a_client_that_waits_for_a_word_is_told_at_once(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(head("/refuse", "Content-Length: 2", "Expect: 100-continue"))
        content = received(connection)
        assert content.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nconnection: close\r\n" in content


@pytest.mark.parametrize("size", [1, 2**16])
def test_after_a_small_rest_the_connection_goes_on(server: Running, size: int) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(head("/refuse", f"Content-Length: {size + 10}") + bytes(10))
            content = response(connection)
            assert content.startswith(b"HTTP/1.1 413 ")
            assert b"connection" not in content
            connection.sendall(bytes(size))
        connection.sendall(head("/a", "Content-Length: 2") + b"hi")
        assert response(connection).startswith(b"HTTP/1.1 200 ")
        assert server.app.seen[-1] == "body 2"


def test_a_small_rest_that_does_not_come_is_no_request(server: Running) -> None:
    """So the connection makes room for others, and is not kept for longer than an idle one."""
    with server.connect() as connection:
        connection.sendall(head("/refuse", "Content-Length: 20") + bytes(10))
        assert response(connection).startswith(b"HTTP/1.1 413 ")
        assert server.connections.busy == 0


def test_a_refused_upload_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    evicted: list[Connection] = []
    remove = Connections.remove

    def removed(self: Connections, connection: Connection) -> None:
        evicted.append(connection)
        remove(self, connection)

    monkeypatch.setattr(Connections, "remove", removed)
    with serving(limit=2) as server, server.connect() as first, server.connect() as second:
        for connection in (first, second):
            connection.sendall(head("/refuse", LENGTH))
            assert connection.recv(12) == b"HTTP/1.1 413"
        assert evicted == []
        with server.connect() as third:
            third.sendall(head("/a"))
            assert third.recv(2**16).startswith(b"HTTP/1.1 200 ")
        assert evicted


# ------------------------------------------------------------------------------------------------------------ clients


def test_the_standard_library_sees_it(server: Running) -> None:
    for body in (bytes(32 * MEBIBYTE), (bytes(2**16) for _ in range(512))):
        connection = http.client.HTTPConnection("127.0.0.1", server.address[1], timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/refuse", body, encode_chunked=not isinstance(body, bytes))
            got = connection.getresponse()
            assert (got.status, got.read()) == (413, b"no")


def test_httpx_sees_it(server: Running) -> None:
    with httpx.Client() as client:
        for _ in range(2):
            got = client.post(url(server), content=bytes(32 * MEBIBYTE))
            assert (got.status_code, got.content) == (413, b"no")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
@pytest.mark.parametrize("rate", [None, "16M"])
def test_curl_sees_it(server: Running, tmp_path: Path, expect: str, rate: str | None) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(32 * MEBIBYTE))
    options = ["--limit-rate", rate] if rate else []
    command = ["curl", "-sS", "-m", "60", "-H", expect, *options, "--data-binary", f"@{body}", "-w", "%{http_code}"]
    done = subprocess.run([*command, url(server)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no413", "")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_sees_it(server: Running) -> None:
    program = """
      const response = await fetch(process.argv[1], {method: "POST", body: new Uint8Array(33554432)});
      console.log(response.status, await response.text());
    """
    command = ["node", "--input-type=module", "-e", program, url(server)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["413", "no"], done.stderr
