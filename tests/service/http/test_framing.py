"""Where a request ends: each rule of RFC 9112 that another server, in front of this one, may read in another way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import orjson
import pytest

from service.http.refusals import MAX_HEAD_BYTES, is_host
from tests.service.http.in_process import Running, serving

LINE = b"POST /a HTTP/1.1\r\n"
HOST = b"Host: h\r\n"
START = LINE + HOST
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

REFUSED: dict[str, tuple[int, bytes]] = {
    "a bare line feed after the request line": (400, b"POST /a HTTP/1.1\nHost: h\r\n\r\n"),
    "a bare line feed after a field": (400, START + b"X: y\nY: z\r\n\r\n"),
    "a bare line feed at the end": (400, START + b"X: y\n\n"),
    "a bare carriage return in a value": (400, START + b"X: a\rb\r\n\r\n"),
    "a bare carriage return after a field": (400, LINE + b"Host: h\rX: y\r\n\r\n"),
    "a null in a value": (400, START + b"X: a\0b\r\n\r\n"),
    "a null in a name": (400, START + b"X\0: a\r\n\r\n"),
    "a control character in a value": (400, START + b"X: a\x01b\r\n\r\n"),
    "a field on two lines": (400, START + b"X: a\r\n b\r\n\r\n"),
    "a host on two lines": (400, LINE + b"Host:\r\n h\r\n\r\n"),
    "a space before the colon": (400, START + b"Content-Length : 2\r\n\r\nhi"),
    "a field without a name": (400, START + b": 2\r\n\r\nhi"),
    "a space before the request line": (400, b" " + START + b"\r\n"),
    "a space after the request line": (400, b"POST /a HTTP/1.1 \r\nHost: h\r\n\r\n"),
    "a version of two digits": (400, b"POST /a HTTP/1.10\r\nHost: h\r\n\r\n"),
    "two hosts": (400, START + HOST + b"\r\n"),
    "no host": (400, LINE + b"\r\n"),
    "a user in the host": (400, LINE + b"Host: a@b\r\n\r\n"),
    "a list of hosts": (400, LINE + b"Host: a, b\r\n\r\n"),
    "a coding before chunked": (501, START + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END),
    "a coding after chunked": (501, START + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END),
    "a coding of another name": (501, START + b"Transfer-Encoding: xchunked\r\n\r\n" + END),
    "chunked twice": (501, START + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END),
    "a control character before chunked": (400, START + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END),
    "chunked in HTTP/1.0": (400, CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + END),
    "a length and a coding": (400, START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    "a coding and a length": (400, START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END),
    "two lengths": (400, START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"),
    "the same length twice": (400, START + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
    "a list of the same length": (400, START + b"Content-Length: 2, 2\r\n\r\nhi"),
    "a length in hexadecimal": (400, START + b"Content-Length: 0x2\r\n\r\nhi"),
    "a length with a sign": (400, START + b"Content-Length: +2\r\n\r\nhi"),
    "a length with a space in it": (400, START + b"Content-Length: 1 2\r\n\r\nhi"),
    "a length that is empty": (400, START + b"Content-Length: \r\n\r\n"),
    "a length of 20 digits": (400, START + b"Content-Length: 18446744073709551616\r\n\r\n"),
    "a chunk's size of 20 digits": (400, CHUNKED + b"1" * 20 + b"\r\nhi"),
    "a chunk's size with a sign": (400, CHUNKED + b"-2\r\nhi\r\n" + END),
    "a chunk's size with a prefix": (400, CHUNKED + b"0x2\r\nhi\r\n" + END),
    "a chunk's size with a space": (400, CHUNKED + b"2 \r\nhi\r\n" + END),
    "a bare line feed after a chunk's size": (400, CHUNKED + b"2\nhi\r\n" + END),
    "a bare line feed after an extension": (400, CHUNKED + b"2;a=b\nhi\r\n" + END),
    "a bare carriage return in an extension": (400, CHUNKED + b"2;a\rb\r\nhi\r\n" + END),
    "a null in an extension": (400, CHUNKED + b"2;a\0\r\nhi\r\n" + END),
    "a chunk without its line break": (400, CHUNKED + b"2\r\nhi" + END),
    "a bare line feed after a chunk": (400, CHUNKED + b"2\r\nhi\n" + END),
    "a longer chunk than its size": (400, CHUNKED + b"2\r\nhiX\r\n" + END),
    "a length after the chunks": (400, CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"),
    "a coding after the chunks": (501, CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a trailing field on two lines": (400, CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n"),
    "many trailing fields": (400, CHUNKED + b"0\r\n" + b"X: %b\r\n" % (b"y" * 100) * 200 + b"\r\n"),
}
ACCEPTED: dict[str, tuple[int, bytes]] = {
    "no body": (0, START + b"\r\n"),
    "a length": (2, START + b"Content-Length: 2\r\n\r\nhi"),
    "a length between spaces": (2, START + b"Content-Length: \t2 \t\r\n\r\nhi"),
    "a length with zeros": (2, START + b"Content-Length: 0002\r\n\r\nhi"),
    "chunks": (7, CHUNKED + b"2\r\nhi\r\n5\r\nthere\r\n" + END),
    "a coding in other letters": (2, START + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n" + END),
    "a size in both cases": (26, CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n006\r\n012345\r\n" + END),
    "extensions": (2, CHUNKED + b'2;a;b=c;d="e f"\r\nhi\r\n0;z\r\n\r\n'),
    "trailing fields": (2, CHUNKED + b"2\r\nhi\r\n0\r\nX: y\r\nExpires: 0\r\n\r\n"),
    "empty lines before": (0, b"\r\n\r\n" + START + b"\r\n"),
    "a tab in a value": (0, START + b"X: a\tb\r\n\r\n"),
    "other bytes than ASCII in a value": (0, START + b"X: \xe9\r\n\r\n"),
    "an empty host": (0, LINE + b"Host:\r\n\r\n"),
    "an address of IPv6": (0, LINE + b"Host: [::1]:8000\r\n\r\n"),
    "HTTP/1.0 without a host": (2, b"POST /a HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


def response_to(server: Running, pieces: list[bytes]) -> tuple[int, bytes]:
    """Status and body of the response, and that the connection ends."""
    with server.connect() as connection:
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                connection.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.0002)
        content = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(2**16):
                content += piece
                if b"\r\n\r\nxx" in content:
                    break
        header, _, body = content.partition(b"\r\n\r\n")
        return int(header[9:12]), body


@pytest.mark.parametrize("size", [0, 1], ids=["at once", "in bytes"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(server: Running, name: str, size: int) -> None:
    status, request = REFUSED[name]
    if size and len(request) > 300:
        pytest.skip("takes long")
    server.app.seen.clear()
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    pieces = [bytes([byte]) for byte in request] if size else [request + smuggled]
    got, body = response_to(server, pieces)
    assert got == status
    assert orjson.loads(body)["status"] == status
    assert "/smuggled" not in server.app.seen
    assert not [seen for seen in server.app.seen if seen.startswith("body")]


@pytest.mark.parametrize("size", [0, 1], ids=["at once", "in bytes"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_rules_allow_is_read(server: Running, name: str, size: int) -> None:
    length, request = ACCEPTED[name]
    server.app.seen.clear()
    pieces = [bytes([byte]) for byte in request] if size else [request]
    assert response_to(server, pieces) == (200, b"xx")
    assert server.app.seen == ["/a", f"body {length}"]


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"2;", b"a" * 1000),
        (b"", b"0" * 1000),
        (b"0\r\nX: ", b"y" * 1000),
        (b"0\r\n", b"X: y\r\n" * 200),
        (b"", b"1;%b\r\nx\r\n" % (b"e" * 200)),
    ],
    ids=["an extension", "the zeros of a size", "a trailing field", "trailing fields", "extensions"],
)
def test_what_is_around_the_chunks_does_not_go_on_for_ever(server: Running, start: bytes, endless: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(CHUNKED)
        server.wait_until(lambda: server.app.seen[-1:] == ["/a"])
        sent = 0
        connection.settimeout(0.001)
        connection.sendall(start)
        content = b""
        while not content and sent < 100 * MAX_HEAD_BYTES:
            connection.sendall(endless)
            sent += len(endless)
            with contextlib.suppress(TimeoutError):
                content = connection.recv(2**16)
        assert content.startswith(b"HTTP/1.1 400 ")
        assert b"limited size" in content
        assert MAX_HEAD_BYTES < sent < 100 * MAX_HEAD_BYTES
        server.app.seen.clear()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_chunks_of_any_size_are_within_the_limit(server: Running, size: int) -> None:
    with server.connect() as connection:
        connection.sendall(CHUNKED)
        chunk = b"%x\r\n%b\r\n" % (size, bytes(size))
        for _ in range(100):
            connection.sendall(chunk * 100)
        connection.sendall(END)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")
    assert server.app.seen[-1] == f"body {10_000 * size}"
    server.app.seen.clear()


@pytest.mark.parametrize("host", ["h", "", "a.example:80", "my_host", "[::1]:1", "xn--e1aybc", "a%2Fb", "127.0.0.1"])
def test_hosts(host: str) -> None:
    assert is_host(host.encode())


@pytest.mark.parametrize("host", ["a b", "a@b", "a/b", "a\\b", "<x>", 'a"', "a?b", "a#b", "é", "a\tb"])
def test_what_is_no_host(host: str) -> None:
    assert not is_host(host.encode())
