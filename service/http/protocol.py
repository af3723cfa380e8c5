"""HTTP/1.1 as the service speaks it: uvicorn's httptools protocol, with problem documents for what is not HTTP.

It relies on what uvicorn's ``HttpToolsProtocol`` keeps in ``parser``, ``url``, ``headers``, ``cycle`` and ``pipeline``;
``tests/service/http/test_protocol.py`` fails where that changes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..problems import Finding
from .access_log import log_request, note_problem
from .body import APPEND_TO_BODY, BODY_IS_HERE
from .draining import MAX_BYTES, MAX_WAIT_SECONDS
from .error_responses import PROBLEM_MEDIA_TYPE, Kind, problem_content
from .responses import SEND_WHOLE

__all__ = ["Protocol"]

MAX_HEAD_BYTES = 2**14

ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#]*)(?P<origin_form>.*)", re.IGNORECASE)

UPGRADE_FIELDS = (b"upgrade", b"http2-settings")

Words = tuple[str, str, str]
"""A rule, what came, and what was expected."""

REQUEST_LINE = "a request begins with a line of method, target and version"
A_REQUEST_LINE = "a line such as POST /conv/forward HTTP/1.1"
LENGTH = "Content-Length is the number of bytes in the body"
CODINGS = "this server knows one transfer coding, chunked"
A_CODING = "Transfer-Encoding: chunked, or a Content-Length"
CHUNK = "each chunk of a body begins with a line of its size, and ends with a line break"
A_CHUNK = "the number of the chunk's bytes in hexadecimal digits, a line break, and so many bytes"
FIELD = "each header field is a line of a name, a colon and a value"

RULES: dict[str, Words] = {
    "Invalid method": (REQUEST_LINE, "another method", A_REQUEST_LINE),
    "Invalid char in url": (REQUEST_LINE, "a target with other characters than a URL has", A_REQUEST_LINE),
    "Unexpected char in url": (REQUEST_LINE, "a target of another form", A_REQUEST_LINE),
    "Invalid characters in url": (REQUEST_LINE, "a target with other characters than a URL has", A_REQUEST_LINE),
    "Expected HTTP/": (REQUEST_LINE, "another line", A_REQUEST_LINE),
    "Invalid m": (REQUEST_LINE, "another version", A_REQUEST_LINE),  # major or minor version
    "Invalid header": (FIELD, "another line", "a line such as Content-Length: 12, without a space before the colon"),
    "Unexpected space after start line": (
        FIELD,
        "a line that begins with a space",
        "a line such as Content-Length: 12",
    ),
    "Unexpected whitespace after header value": (FIELD, "a value on several lines", "each field on one line"),
    "Invalid character in Content-Length": (LENGTH, "something else", "a number, without a sign"),
    "Content-Length overflow": (LENGTH, "a larger number", "a number of at most 19 digits"),
    "Duplicate Content-Length": (LENGTH, "several Content-Length fields", "one number"),
    "Transfer-Encoding can't be present with Content-Length": (
        "a body has either a Content-Length or a Transfer-Encoding",
        "both",
        "one of them",
    ),
    "Content-Length can't be present with Transfer-Encoding": (
        "a body has either a Content-Length or a Transfer-Encoding",
        "both",
        "one of them",
    ),
    "Invalid character in chunk": (CHUNK, "another line", A_CHUNK),
    "Chunk size overflow": (CHUNK, "a larger number", A_CHUNK),
    "Expected LF after chunk": (CHUNK, "other bytes", A_CHUNK),
}
"""What the parser's words for an error begin with, and what is said in their place."""

BREAKS_A_RULE = ("a request keeps to the rules of HTTP/1.1", "one that does not", "a request as RFC 9112 has it")
OTHER_VERSION = ("this server speaks HTTP/1.1", "another version of HTTP", "HTTP/1.1 or HTTP/1.0")
OTHER_CODING = (CODINGS, "another one", A_CODING)
LONG_HEAD = (
    "the request line and the header fields have a limited size",
    "more bytes",
    f"at most {MAX_HEAD_BYTES} bytes together",
)


class Malformed(Exception):
    """A request that is not HTTP/1.1."""

    def __init__(self, status: HTTPStatus, words: Words) -> None:
        super().__init__(words[0])
        self.kind = Kind(status, status.phrase)
        self.finding = Finding.of("", words[0], got=words[1], expected=words[2])


def malformed(reason: str) -> Malformed:
    """Return the problem that the parser has a reason for."""
    if reason.startswith("Pause on PRI"):
        return Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, OTHER_VERSION)
    if "`Transfer-Encoding`" in reason:
        return Malformed(HTTPStatus.NOT_IMPLEMENTED, OTHER_CODING)
    words = next((words for start, words in RULES.items() if reason.startswith(start)), BREAKS_A_RULE)
    return Malformed(HTTPStatus.BAD_REQUEST, words)


def in_origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    """Return a request's target as a path and a query, and the host if the target names one.

    A client that takes the server for its proxy sends the whole URL, and a server must read that; the host in it comes
    before the Host field (RFC 9112, 3.2.2). A target of another form leads nowhere, and so does the path made of it.

    Raises
    ------
    Malformed
        If a URL names no host, or a user.
    """
    if target.startswith(b"/"):
        return target, None
    absolute = ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        return b"/" + target, None
    authority, origin_form = absolute["authority"], absolute["origin_form"]
    # either must be refused (RFC 9110, 4.2.1 and 4.2.4)
    if not authority or b"@" in authority:
        words = (
            "a URL names a host, and no user",
            "no host" if not authority else "a user before the host",
            "a URL such as http://127.0.0.1:8000/health/ready",
        )
        raise Malformed(HTTPStatus.BAD_REQUEST, words)
    return origin_form if origin_form.startswith(b"/") else b"/" + origin_form, authority


class Protocol(HttpToolsProtocol):
    """Reads requests with httptools, and responds to what is not HTTP/1.1 with a problem document."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        """Bytes of a head that is not complete."""
        self._field_bytes = 0
        self._hosts = 0
        self._in_head = True
        self._in_body = False
        self._is_offer = False
        self._refusal: Malformed | None = None
        """To be sent once the responses before it are."""
        self._discarded: int | None = None
        """Bytes that came after a refusal."""

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._discarded is not None:
            # a server that closes with data unread resets the connection, and the client would not see why
            self._discarded += len(data)
            if self._discarded > MAX_BYTES:
                self.transport.close()
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except Malformed as error:
            self._refuse(error)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            raise malformed(str(error)) from None
        if self._in_head:  # what is not complete yet
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, LONG_HEAD)

    def _decline(self, rest: bytes) -> None:
        """Read a request that offers another protocol as one that does not, as a server may (RFC 9110, 7.8).

        Java's HttpClient offers HTTP/2 by default. The parser then leaves the body unread; uvicorn would take it for
        empty.
        """
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token for token in value.split(b",") if token.strip().lower() not in UPGRADE_FIELDS]
                value = b",".join(tokens)  # noqa: PLW2901
            if name not in UPGRADE_FIELDS:
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_offer = False
        self._parse(b"".join([*head, b"\r\n"]))
        self._parse(rest)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_bytes = self._field_bytes = self._hosts = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        super().on_url(url)
        self._field_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; those after a chunked body mean nothing here."""
        if not self._in_head:
            return
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value)
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise Malformed(HTTPStatus.NOT_IMPLEMENTED, OTHER_CODING)

    def on_headers_complete(self) -> None:
        """Check the rules that the parser does not, and start the request."""
        self._in_head = False
        if not self.parser.get_http_version().startswith("1."):
            raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, OTHER_VERSION)
        if self._field_bytes > MAX_HEAD_BYTES:
            raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, LONG_HEAD)
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):
            got = "several Host fields" if self._hosts else "no Host field"
            raise Malformed(HTTPStatus.BAD_REQUEST, ("an HTTP/1.1 request names its host once", got, "one Host field"))
        if self.parser.get_method() == b"CONNECT":
            words = ("this server is no proxy", "the method CONNECT", A_REQUEST_LINE)
            raise Malformed(HTTPStatus.NOT_IMPLEMENTED, words)
        self._is_offer = self.parser.should_upgrade()
        if self._is_offer:
            return
        self.url, host = in_origin_form(self.url)
        if host is not None:
            self.headers[:] = [(b"host", host), *(field for field in self.headers if field[0] != b"host")]
        self._in_body = True
        super().on_headers_complete()
        self.scope["state"][SEND_WHOLE] = functools.partial(self._send_whole, self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a request's body, straight into the application's buffer once there is one."""
        append = self.scope["state"].get(APPEND_TO_BODY)
        if append is None:
            super().on_body(body)
        else:
            append(body)
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End a request's body."""
        if not self._is_offer:
            self._in_body = False
            self.scope["state"][BODY_IS_HERE] = True
            super().on_message_complete()

    def _send_whole(
        self, cycle: RequestResponseCycle, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> bool:
        """Send a response in one piece, as ``SEND_WHOLE`` says."""
        if cycle.disconnected or cycle.response_started or not cycle.keep_alive or self.flow.write_paused:
            return False
        if cycle.scope["method"] == "HEAD":
            return False
        content = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            content += (name, b": ", value, b"\r\n")
        content += (b"\r\n", body)
        self.transport.write(b"".join(content))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, or refuse it."""
        refusal = self._refusal if not self.pipeline else None
        super().on_response_complete()
        if refusal is not None and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._send_refusal(refusal)

    def _refuse(self, error: Malformed) -> None:
        """Send a problem after the responses to earlier requests, and close once the client has seen it."""
        self._discarded = 0
        cycle = self.cycle
        is_under_way = cycle is not None and not cycle.response_complete
        if self._in_body and self.pipeline:
            self.pipeline.popleft()  # the request whose body is malformed
            self._refusal = error
        elif is_under_way and not self._in_body:
            self._refusal = error
        elif not self._in_body:
            self._send_refusal(error)
        elif not is_under_way:  # the response did not wait for the body
            self.transport.close()
        elif cycle.response_started:
            cycle.keep_alive = False
        else:
            # to the application, which waits for the rest of the body, the client is gone
            note_problem(self.scope, error.kind.title, error.kind.status)
            self._send_refusal(error)
            cycle.disconnected = True
            cycle.message_event.set()

    def _send_refusal(self, error: Malformed) -> None:
        document = problem_content(error.kind, [error.finding])
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
            (b"content-length", str(len(document)).encode()),
            (b"connection", b"close"),
        ]
        content = [STATUS_LINE[error.kind.status], *(b"%b: %b\r\n" % field for field in headers), b"\r\n"]
        if self.parser.get_method() != b"HEAD":
            content.append(document)
        self.transport.write(b"".join(content))
        if not self._in_body:
            log_request(self.client, "-", error.kind.status, 0.0, len(document), error.kind.title)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(MAX_WAIT_SECONDS, self.transport.close)
