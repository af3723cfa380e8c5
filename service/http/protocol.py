"""HTTP/1.1 as the service speaks it: uvicorn's h11 protocol, and problem documents for what h11 refuses.

It relies on three things that uvicorn's ``H11Protocol`` does, and ``tests/service/http/test_protocol.py`` fails where
one of them changes: it keeps the h11 connection in ``conn``, asks it for events in ``handle_events`` alone, and keeps
the request in progress in ``cycle``.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..problems import Finding
from .access_log import log_request, note_problem
from .draining import MAX_BYTES, MAX_WAIT_SECONDS
from .error_responses import PROBLEM_MEDIA_TYPE, Kind, problem_content

__all__ = ["Protocol"]

MAX_HEAD_BYTES = 2**14

ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#]*)(?P<origin_form>.*)", re.IGNORECASE)

RULES: dict[str, tuple[str, str, str]] = {
    "illegal request line": (
        "a request begins with a line of method, target and version",
        "another line",
        "a line such as POST /conv/forward HTTP/1.1",
    ),
    "no request line received": (
        "a request begins with a line of method, target and version",
        "an empty line",
        "a line such as POST /conv/forward HTTP/1.1",
    ),
    "illegal header line": (
        "each header field is a line of a name, a colon and a value",
        "another line",
        "a line such as Content-Length: 12, without a space before the colon",
    ),
    "continuation line at start of headers": (
        "each header field is a line of a name, a colon and a value",
        "a line that begins with a space",
        "a line such as Content-Length: 12",
    ),
    "Missing mandatory Host": ("an HTTP/1.1 request names its host", "no Host field", "one Host field"),
    "Found multiple Host": ("a request names its host once", "several Host fields", "one Host field"),
    "bad Content-Length": (
        "Content-Length is the number of bytes in the body",
        "something else",
        "up to 20 digits, without a sign",
    ),
    "conflicting Content-Length": (
        "Content-Length is the number of bytes in the body",
        "several numbers",
        "one number",
    ),
    "multiple Transfer-Encoding": (
        "this server knows one transfer coding, chunked",
        "several Transfer-Encoding fields",
        "Transfer-Encoding: chunked, or a Content-Length",
    ),
    "Only Transfer-Encoding": (
        "this server knows one transfer coding, chunked",
        "another one",
        "Transfer-Encoding: chunked, or a Content-Length",
    ),
    "illegal chunk header": (
        "each chunk of a body begins with a line of its size",
        "another line",
        "the number of its bytes in up to 20 hexadecimal digits",
    ),
    "malformed chunk footer": (
        "each chunk of a body has as many bytes as its size says, and a line break after them",
        "other bytes",
        "a line break",
    ),
    "Receive buffer too long": (
        "the request line and the header fields have a limited size",
        "more bytes",
        f"at most {MAX_HEAD_BYTES} bytes together",
    ),
}
"""What h11's words for an error begin with: the rule, what came and what was expected. The rest of h11's words may hold
the client's bytes, which are not repeated."""

BREAKS_A_RULE = ("a request keeps to the rules of HTTP/1.1", "one that does not", "a request as RFC 9112 has it")


class Malformed(Exception):
    """A request that is not HTTP/1.1: unlike h11's own error, uvicorn does not catch it and respond in plain text."""

    def __init__(self, status: HTTPStatus, rule: str, got: str, expected: str) -> None:
        super().__init__(rule)
        self.kind = Kind(status, status.phrase)
        self.finding = Finding.of("", rule, got=got, expected=expected)


class Connection(h11.Connection):
    """Reads requests as h11 does, and those in absolute form as if they were in origin form."""

    is_head = False
    """Whether the request that was read last asks for headers alone."""

    def next_event(self) -> Any:
        """Return the next event, or raise Malformed."""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            text = str(error)
            words = next((words for start, words in RULES.items() if text.startswith(start)), BREAKS_A_RULE)
            raise Malformed(HTTPStatus(error.error_status_hint), *words) from error
        if not isinstance(event, h11.Request):
            return event
        self.is_head = event.method == b"HEAD"
        if not event.http_version.startswith(b"1."):
            raise Malformed(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
                "this server speaks HTTP/1.1",
                "another version of HTTP",
                "HTTP/1.1 or HTTP/1.0",
            )
        return in_origin_form(event)


def in_origin_form(request: h11.Request) -> h11.Request:
    """Return the request with only the path and the query as its target, and the URL's host as its Host field.

    A client that takes the server for its proxy sends the whole URL, and a server must read that; the host in it comes
    before the Host field (RFC 9112, 3.2.2).
    """
    absolute = ABSOLUTE_FORM.fullmatch(request.target)
    if absolute is None:
        return request
    authority, target = absolute["authority"], absolute["origin_form"]
    # either must be refused (RFC 9110, 4.2.1 and 4.2.4)
    if not authority or b"@" in authority:
        raise Malformed(
            HTTPStatus.BAD_REQUEST,
            "a URL names a host, and no user",
            "no host" if not authority else "a user before the host",
            "a URL such as http://127.0.0.1:8000/health/ready",
        )
    headers = [(b"Host", authority), *((name, value) for name, value in request.headers if name != b"host")]
    return h11.Request(
        method=request.method,
        target=target if target.startswith(b"/") else b"/" + target,
        headers=headers,
        http_version=request.http_version,
    )


class Protocol(H11Protocol):
    """Responds to what is not HTTP/1.1 with a problem document, and closes the connection."""

    conn: Connection

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = Connection(h11.SERVER, MAX_HEAD_BYTES)
        self._discarded: int | None = None

    def handle_events(self) -> None:
        """Handle what was received."""
        try:
            super().handle_events()
        except Malformed as error:
            self._refuse(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._discarded is None:
            super().data_received(data)
            return
        # a server that closes with data unread resets the connection, and the client would not see why
        self._discarded += len(data)
        if self._discarded > MAX_BYTES:
            self.transport.close()

    def _refuse(self, error: Malformed) -> None:
        """Send a problem, unless a response has begun, and close the connection once the client has seen it."""
        self._discarded = 0
        is_under_way = self.cycle is not None and not self.cycle.response_complete
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            if is_under_way:
                self.cycle.keep_alive = False
            else:
                self.transport.close()
            return
        document = problem_content(error.kind, [error.finding])
        self._send(error.kind.status, document)
        if is_under_way:
            # to the application, which waits for the rest of the body, the client is gone
            note_problem(self.scope, error.kind.title, error.kind.status)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            log_request(self.client, "-", error.kind.status, 0.0, len(document), error.kind.title)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(MAX_WAIT_SECONDS, self.transport.close)

    def _send(self, status: int, document: bytes) -> None:
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
            (b"content-length", str(len(document)).encode()),
            (b"connection", b"close"),
        ]
        is_head = self.conn.our_state is h11.SEND_RESPONSE and self.conn.is_head
        events: list[h11.Event] = [
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase),
            *([] if is_head else [h11.Data(data=document)]),
            h11.EndOfMessage(),
        ]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
