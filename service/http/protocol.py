"""HTTP/1.1 as the service speaks it: uvicorn's httptools protocol with limits, and problems for what is not HTTP.

It relies on what uvicorn's ``HttpToolsProtocol`` keeps in ``parser``, ``url``, ``headers``, ``cycle`` and ``pipeline``;
``tests/service/http/test_protocol.py`` fails where that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .access_log import note_problem
from .body import APPEND_TO_BODY, BODY_IS_HERE
from .flow import break_off
from .lifetime import Lifetime
from .refusals import (
    CUT_SHORT,
    LONG_HEAD,
    LONG_LINES,
    MAX_HEAD_BYTES,
    NO_HOST,
    NO_PROXY,
    OLD_CODING,
    OTHER_CODING,
    OTHER_VERSION,
    Refusal,
    in_origin_form,
    is_host,
    late_head,
    malformed,
)
from .responses import BREAK_OFF, READ_ON, SEND_WHOLE

__all__ = ["MAX_PIPELINED", "Protocol"]

UPGRADE_FIELDS = (b"upgrade", b"http2-settings")

MAX_PIPELINED = 64
"""Requests that may wait on a connection for the response to the one before them. With the response to the last one
the connection ends, as a server may end it at any time (RFC 9112, 9.3.2)."""

CHUNK_LINES = 32
"""Bytes that the lines around a chunk may take: its size, and the line breaks."""

SMALL_REST = 2**16
"""Bytes of a refused body that are read so that the connection can be used again."""


class TooManyPipelined(Exception):
    """More requests on one connection than may wait."""


class Protocol(Lifetime):
    """Reads requests with httptools, and responds to what is not HTTP/1.1 with a problem document."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._pieces: list[bytes] = []
        """Of a body, from one read. A call for each chunk would take longer than parsing it."""
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        """Bytes of a head that is not complete."""
        self._field_bytes = 0
        self._line_bytes = 0
        """Bytes of a chunked body that are neither content nor the lines that each chunk needs."""
        self._body_bytes = 0
        self._hosts = 0
        self._has_begun = self._is_complete = False
        """Whether a request began, and whether one ended, in this read."""
        self._is_coded = self._is_offer = False
        self._reads_on: RequestResponseCycle | None = None
        """The request whose body is still read while the response is sent."""
        self._refusal: Refusal | None = None
        """To be sent once the responses before it are."""

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._discarded is not None:
            self.discard(len(data))
            return
        self._has_begun = self._is_complete = False
        try:
            self._parse(data)
            if self._in_head or self._in_body or not self._is_complete:
                self._take_part(len(data))
        except Refusal as refusal:
            self._refuse(refusal)
        except TooManyPipelined:
            self.pipeline[0][0].keep_alive = False
            self._discarded = 0

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            raise malformed(str(error)) from None

    def _take_part(self, size: int) -> None:
        """Bound what a request that is not complete has taken so far."""
        if self._in_body:
            pieces = len(self._pieces)
            taken = self._take_pieces()
            if not self._has_begun:
                self._line_bytes += max(0, size - taken - CHUNK_LINES * pieces)
                if self._line_bytes > MAX_HEAD_BYTES:
                    raise LONG_LINES()
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._is_kept() and self._rest_is_small()
        else:
            # or between requests, where the parser skips empty lines
            if not self._is_complete:  # else some of the bytes belong to the request before
                self._head_bytes += size
                if self._head_bytes > MAX_HEAD_BYTES:
                    raise LONG_HEAD()
            if self._in_head:
                self.expect_head()
        self.flow.took(size)

    def _is_kept(self) -> bool:
        return not self.closes and self.scope["http_version"] == "1.1" and self.parser.should_keep_alive()

    def _rest_is_small(self) -> bool:
        length = next((value for name, value in self.headers if name == b"content-length"), None)
        return length is not None and int(length) - self._body_bytes <= SMALL_REST and not self.expect_100_continue

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
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyPipelined
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._head_bytes = self._field_bytes = self._line_bytes = self._body_bytes = self._hosts = 0
        self._in_head = self._has_begun = True
        self._is_coded = False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        super().on_url(url)
        self._field_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; those after a chunked body mean nothing here."""
        if not self._in_head:
            if self._has_begun:  # else they are counted with all bytes of the read
                self._line_bytes += len(name) + len(value)
                if self._line_bytes > MAX_HEAD_BYTES:
                    raise LONG_LINES()
            return
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > MAX_HEAD_BYTES:
            raise LONG_HEAD()
        name = name.lower()
        if name == b"host":
            self._hosts += 1
            if not is_host(value):
                raise NO_HOST()
        elif name == b"transfer-encoding":
            self._is_coded = True
            if value.lower() != b"chunked":
                raise OTHER_CODING()

    def on_headers_complete(self) -> None:
        """Check the rules that the parser does not, and start the request."""
        version = self.parser.get_http_version()
        if not version.startswith("1."):
            raise OTHER_VERSION()
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            got = "several Host fields" if self._hosts else "no Host field"
            words = ("an HTTP/1.1 request names its host once", got, "one Host field")
            raise Refusal(HTTPStatus.BAD_REQUEST, words)
        if self._is_coded and version != "1.1":
            raise OLD_CODING()
        if self.parser.get_method() == b"CONNECT":
            raise NO_PROXY()
        self._is_offer = self.parser.should_upgrade()
        if self._is_offer:
            return
        self.url, host = in_origin_form(self.url)
        if host is not None:
            self.headers[:] = [(b"host", host), *(field for field in self.headers if field[0] != b"host")]
        self._in_head, self._in_body = False, True
        if self._head_timer is not None:
            self.head_is_here()
        super().on_headers_complete()
        cycle = self.cycle
        cycle.transport = self.outlet  # type: ignore[assignment]
        if self.closes:
            cycle.keep_alive = False
        state = cycle.scope["state"]
        state[SEND_WHOLE], state[READ_ON], state[BREAK_OFF] = self._send_whole, self._read_on, self._break_off

    @property
    def on_body(self) -> Callable[[bytes], None]:
        """What takes a piece of a request's body."""
        return self._pieces.append

    def _take_pieces(self) -> int:
        """Hand over what came of a body, straight into the application's buffer once there is one; return its size."""
        if not self._pieces:
            return 0
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._body_bytes += len(body)
        append = self.scope["state"].get(APPEND_TO_BODY)
        if append is None:
            HttpToolsProtocol.on_body(self, body)
        else:
            append(body)
            self.cycle.message_event.set()
        return len(body)

    def on_message_complete(self) -> None:
        """End a request's body."""
        if self._is_offer:
            return
        if self._pieces:
            self._take_pieces()
        self._in_body, self._is_complete = False, True
        if not self._has_begun and not self.cycle.response_started:
            self.cycle.keep_alive = self._is_kept()
        self.flow.small_reads = 0
        self.scope["state"][BODY_IS_HERE] = True
        super().on_message_complete()

    def _send_whole(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a response in one piece, as ``SEND_WHOLE`` says."""
        cycle = self.running
        if cycle is None or cycle.disconnected or cycle.response_started:
            return False
        if not cycle.keep_alive or self.flow.write_paused:
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

    def _read_on(self) -> None:
        """Note that the application reads the body while it responds, as ``READ_ON`` says."""
        self._reads_on = self.running
        if self.running is not None and self.running is self.cycle and self._in_body:
            self.running.keep_alive = self._is_kept()

    def _break_off(self) -> None:
        """End the connection in the middle of a response, as ``BREAK_OFF`` says."""
        if self.running is not None:
            self.running.disconnected = True  # so that it is no error that the response is not complete
            self.running.message_event.set()
        if not self.transport.is_closing():
            break_off(self.transport)

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, or refuse it."""
        self.server_state.total_requests += 1
        self.running = self._reads_on = None
        if self._lingering is not None or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self.send_refusal(self._refusal)
        else:
            self.wait_for_request()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Respond to what came before the client stopped sending, and close."""
        if self.is_lingering or self.scheme == "https":
            self.transport.close()
        elif not self.at_eof:
            self.at_eof = True
            if (self._in_head or self._in_body) and self._discarded is None:
                self._refuse(CUT_SHORT())
            elif self.running is None:
                self.transport.close()
            self.watch_for_end()
        return not self.transport.is_closing()

    def on_late_head(self) -> None:
        """Refuse a head that did not come in time; a connection on which nothing came is closed without a word."""
        if self._in_head:
            self._refuse(late_head(self.shared.header_timeout))
        else:
            super().on_late_head()

    def _refuse(self, refusal: Refusal) -> None:
        """Send a problem after the responses to earlier requests, and close once the client has seen it."""
        self._discarded = 0
        self._pieces.clear()
        cycle = self.cycle
        is_under_way = cycle is not None and not cycle.response_complete
        if self._in_body and self.pipeline:
            self.pipeline.popleft()  # the request whose body is malformed
            self._refusal = refusal
        elif is_under_way and not self._in_body:
            self._refusal = refusal
        elif not self._in_body:
            self.send_refusal(refusal)
        elif not is_under_way:  # the response did not wait for the body
            self.transport.close()
        elif cycle.response_started:
            cycle.keep_alive = False
            if self._reads_on is cycle:
                self._break_off()
        else:
            # to the application, which waits for the rest of the body, the client is gone
            note_problem(self.scope, refusal.kind.title, refusal.kind.status)
            self.send_refusal(refusal)
            cycle.disconnected = True
            cycle.message_event.set()
