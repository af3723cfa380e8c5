"""Requests that break the rules of HTTP/1.1, or use them against the server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..outcome import Context, Outcome, scenario
from ..wire import Connection, Response, head

BODY = b'{"input":[[[1.0]]],"mode":"max","kernel_size":1}'
JSON = {"Content-Type": "application/json"}
CHUNKED = {**JSON, "Transfer-Encoding": "chunked"}
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HEALTH = head("/health/live", method="GET")
TLS_HELLO = bytes.fromhex("16030100c2010000be0303") + bytes(range(186))
PATIENCE = 5.0
CLOSED, WAITS = 0, -1
"""In place of a status: closed without an answer, and neither within some seconds."""
MOST_UNREFUSED = 2**22
"""Bytes of an endless line after which the server must have refused it."""


@dataclass(frozen=True)
class Attempt:
    """A request, and what may come of it.

    Parameters
    ----------
    name : str
    data : bytes
    statuses : tuple of int
        Of the response, or CLOSED or WAITS.
    half_closed : bool
        Whether the client then says that it sends nothing more.
    reused : bool
        Whether the connection may serve another request.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...] = (400,)
    half_closed: bool = False
    reused: bool = False


def post(fields: dict[str, str], body: bytes = BODY, **more: str) -> bytes:
    """Return a request whose fields may be anything."""
    return head("/pool/forward", {**fields, **more}) + body


LENGTH = {**JSON, "Content-Length": str(len(BODY))}
MANY = {f"X-{index}": "1" for index in range(16_000)}
ATTEMPTS = (
    Attempt("sound", post(LENGTH), (200,), reused=True),
    Attempt("both lengths", post({**LENGTH, **CHUNKED}, CHUNKS)),
    Attempt("both lengths, the other way round", post({**CHUNKED, **LENGTH}, CHUNKS)),
    Attempt("both lengths, the shorter one", post({**CHUNKED, "Content-Length": "4"}, CHUNKS)),
    Attempt("half-closed after the body", post(LENGTH), (200,), half_closed=True),
    Attempt("half-closed after a chunked body", post(CHUNKED, CHUNKS), (200,), half_closed=True),
    Attempt("half-closed GET", HEALTH, (200,), half_closed=True),
    Attempt("half-closed within the body", post(LENGTH, BODY[:9]), (CLOSED, 400), half_closed=True),
    Attempt("half-closed within the head", post(LENGTH)[:40], (CLOSED, 400), half_closed=True),
    Attempt("20-digit chunk size", post(CHUNKED, b"10000000000000000000\r\n"), (400, 413)),
    Attempt("chunk of 1 TiB", post(CHUNKED, b"10000000000\r\n[[["), (WAITS, 400, 413)),
    Attempt("negative chunk size", post(CHUNKED, b"-1\r\n")),
    Attempt("chunk size with 0x", post(CHUNKED, b"0x1\r\n[\r\n")),
    Attempt("chunk longer than it says", post(CHUNKED, b"1\r\n[[\r\n")),
    Attempt("chunks ended by LF alone", post(CHUNKED, CHUNKS.replace(b"\r\n", b"\n")), (400,)),
    Attempt("16,000 header fields", post({**LENGTH, **MANY}), (400, 431)),
    Attempt("a header field of 100 KB", post({**LENGTH, "X": "a" * 100_000}), (400, 431)),
    Attempt("a name of 100 KB", post({**LENGTH, "a" * 100_000: "1"}), (400, 431)),
    Attempt("a target of 100 KB", head("/" + "a" * 100_000, method="GET"), (400, 414, 431)),
    Attempt("two lengths", head("/pool/forward", LENGTH)[:-2] + b"Content-Length: 3\r\n\r\n" + BODY),
    Attempt("a list of lengths", post({**JSON, "Content-Length": "48, 48"})),
    Attempt("a negative length", post({**JSON, "Content-Length": "-1"})),
    Attempt("a signed length", post({**JSON, "Content-Length": "+48"})),
    Attempt("a length of 30 digits", post({**JSON, "Content-Length": "9" * 30}), (400, 413)),
    Attempt("a hexadecimal length", post({**JSON, "Content-Length": "0x30"})),
    Attempt("space before the colon", post({**JSON, "Content-Length ": str(len(BODY))})),
    Attempt("an empty name", post({**LENGTH, "": "1"})),
    Attempt("a folded field", post(LENGTH).replace(b"\r\nContent-Length", b"\r\n  folded\r\nContent-Length")),
    Attempt("NUL in a value", post({**LENGTH, "X": "a\0b"})),
    Attempt("CR in a value", post({**LENGTH, "X": "a\rb"})),
    Attempt("another transfer coding", post({**JSON, "Transfer-Encoding": "gzip, chunked"}, CHUNKS), (400, 501)),
    Attempt("chunked twice", post({**JSON, "Transfer-Encoding": "chunked, chunked"}, CHUNKS), (400, 501)),
    Attempt("chunked and identity", post({**JSON, "Transfer-Encoding": "chunked, identity"}, CHUNKS), (400, 501)),
    Attempt("a coding with a tab", post({**JSON, "Transfer-Encoding": "\x0bchunked"}, CHUNKS), (400, 501)),
    Attempt("chunked in HTTP/1.0", post(CHUNKED, CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0"), (200, 400)),
    Attempt("no host", post(LENGTH).replace(b"Host", b"Hos")),
    Attempt("two hosts", post(LENGTH).replace(b"\r\n", b"\r\nHost: a\r\n", 1)),
    Attempt("HTTP/0.9", b"GET /health/live\r\n\r\n", (CLOSED, 400, 505)),
    Attempt("HTTP/2.0 as a version", HEALTH.replace(b"1.1", b"2.0"), (400, 505)),
    Attempt("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (CLOSED, 400, 505)),
    Attempt("the hello of TLS", TLS_HELLO, (CLOSED, 400)),
    Attempt("zeros", bytes(1000), (CLOSED, 400)),
    Attempt("CONNECT", head("example.org:80", method="CONNECT"), (400, 405, 501)),
    Attempt("TRACE", head("/health/live", method="TRACE"), (400, 405, 501), reused=True),
    Attempt("a method of its own", head("/health/live", method="BREAK"), (400, 405, 501)),
    Attempt("a small letter in the method", head("/health/live", method="get"), (400, 405, 501)),
    Attempt("an expectation of its own", post({**LENGTH, "Expect": "a miracle"}), (200, 417), reused=True),
    Attempt(
        "lengths of a GET",
        head("/health/live", {"Content-Length": "5"}, method="GET") + b"12345",
        (200, 400),
        reused=True,
    ),
)


def endless(opening: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield a request that never ends."""
    yield opening
    while True:
        yield piece


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "an endless chunk extension": lambda: endless(head("/pool/forward", CHUNKED) + b"1;a=", b"a" * 4096),
    "endless chunk extensions": lambda: endless(head("/pool/forward", CHUNKED), b"1;" + b"a" * 2000 + b"\r\n \r\n"),
    "an endless trailer": lambda: endless(head("/pool/forward", CHUNKED) + b"0\r\n", b"X: 1\r\n" * 500),
    "an endless trailer field": lambda: endless(head("/pool/forward", CHUNKED) + b"0\r\nX: ", b"a" * 4096),
    "an endless chunk size": lambda: endless(head("/pool/forward", CHUNKED), b"0" * 4096),
    "an endless head": lambda: endless(head("/pool/forward", JSON)[:-2], b"X: 1\r\n" * 500),
    "an endless target": lambda: endless(b"GET /", b"a" * 4096),
    "an endless method": lambda: endless(b"", b"A" * 4096),
    "endless empty lines": lambda: endless(b"", b"\r\n" * 2048),
}


def received(connection: Connection) -> tuple[int, Response | None]:
    """Return the status of the response, CLOSED or WAITS."""
    try:
        response = connection.receive()
    except TimeoutError:
        return WAITS, None
    except (OSError, ValueError, IndexError):
        return CLOSED, None
    return response.status, response


def fault_of(port: int, attempt: Attempt) -> str:
    """Return what went wrong with an attempt; nothing if it came out as it may."""
    with Connection(port, PATIENCE) as connection:
        try:
            connection.send(attempt.data)
            if attempt.half_closed:
                connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all of it was sent
        status, response = received(connection)
        if status not in attempt.statuses:
            return {WAITS: "no answer", CLOSED: "closed without an answer"}.get(status, f"status {status}")
        if attempt.reused or status <= 0:
            return ""
        if response is not None and not response.closes and not attempt.half_closed and status != 200:
            return f"status {status} without Connection: close"
        try:
            connection.send(HEALTH)
        except OSError:
            return ""
        return "the connection was used again" if received(connection)[0] > 0 and not attempt.half_closed else ""


def bytes_until_refused(port: int, pieces: Iterator[bytes], limit: int = MOST_UNREFUSED) -> tuple[int, int]:
    """Send an endless request; return the bytes that were sent, and the status of the answer, CLOSED or WAITS."""
    sent = 0
    with Connection(port, PATIENCE) as connection:
        try:
            for piece in pieces:
                connection.send(piece)
                sent += len(piece)
                time.sleep(0.0005)
                if sent >= limit or connection.has_news():
                    break
        except OSError:
            return sent, CLOSED
        if not connection.has_news(1.0):
            return sent, WAITS
        return sent, max(CLOSED, received(connection)[0])


@scenario
def framing(context: Context, outcome: Outcome) -> None:
    """Send requests that break the rules of HTTP/1.1, or never end."""
    with context.server() as server:
        for attempt in ATTEMPTS:
            fault = fault_of(server.port, attempt)
            if fault:
                outcome.note(**{attempt.name: fault})
            outcome.require(attempt.name, holds=not fault)
        for name, pieces in ENDLESS.items():
            sent, status = bytes_until_refused(server.port, pieces())
            outcome.note(**{name: f"{status} after {sent // 1024} KiB"})
            outcome.require(name, holds=sent < MOST_UNREFUSED and status in (CLOSED, 400, 413, 431))
        with context.load(server) as load:
            after = load.run(1)
        outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures)
