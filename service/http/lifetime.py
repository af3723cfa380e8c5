"""How long a connection lives: the times that it has, the place that it takes, and how it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..observability.metrics import count_rejection
from .access_log import log_request
from .connections import CONNECTIONS, Connections
from .flow import Flow, break_off
from .progress import Progress
from .refusals import ALL_BUSY, Refusal

__all__ = ["Lifetime"]

LINGER_SECONDS = 5.0
"""How long a client that was sent the last response may pause before its connection is closed."""

DISCARD_PAUSE = 0.001
"""Seconds between two reads of a refused body, for each connection that has one: what they all send at full speed would
keep the event loop from everything else."""

MAX_DISCARDED = 2**28
"""Bytes of a refused body that are read, so that the client sees why it was refused."""

FIRST_INTERIM_SECONDS = 0.1
"""After this time, and then each time after twice as long, a client that has stopped sending gets an interim response.
Whether it has only finished its request, or is gone, looks the same until something is sent to it."""

GRACE_SECONDS = 0.3
"""How long a client of HTTP/1.0, which knows no interim response, is waited for in that case."""

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
"""A client that did not ask for it discards it (RFC 9110, 15.2.1); a 102 some take for the response."""


class Lifetime(HttpToolsProtocol):
    """uvicorn's protocol with limits of time, and with an end that the client sees.

    A response before the end of a request's body would be lost if the connection were closed: the system resets a
    connection that is closed with data unread. It is closed for writing instead, and what comes is discarded.
    """

    flow: Flow

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shared: Connections = self.app_state[CONNECTIONS]
        self.outlet = SimpleNamespace()
        """What a response is written to: the transport, but with an end that the client sees."""
        self.running: RequestResponseCycle | None = None
        self.closes = self.shared.is_ending
        """Whether the next response is the last one."""
        self.at_eof = False
        """Whether the client has stopped sending."""
        self._in_head = self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._discarded: int | None = None
        """Bytes that came after the last request that is served."""
        self._lingering: Progress | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        # so pausing means that there is something in the transport's buffer; under TLS, zero would mean: always, and
        # the layer below takes a megabyte without saying so
        transport.set_write_buffer_limits(1 if self.scheme == "https" else 0)
        self.flow = Flow(transport, self.loop, self.shared.send_timeout, self.shared.min_rate)
        self.outlet = SimpleNamespace(write=transport.write, is_closing=transport.is_closing, close=self.end)
        self.expect_head()
        self.shared.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave nothing behind."""
        self.shared.lingering -= self.is_lingering
        self.shared.remove(self)
        self.head_is_here()
        self._unset_keepalive_if_required()
        if self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None
        self.pipeline.clear()
        if self.running is not None:
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)
        self.flow.end()
        self.cycle = self.running = None  # type: ignore[assignment]  # they refer to the connection

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        self.flow.time_left = self.shared.send_timeout
        self.shared.waiting.pop(self, None)
        super()._start_asgi_task(cycle, app)

    # --------------------------------------------------------------------------------------------------- head and idle

    def expect_head(self) -> None:
        """Limit the time for a head from now on, if it is not limited yet."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.shared.header_timeout, self._head_is_late)

    def head_is_here(self) -> None:
        """Lift the limit."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.flow.read_paused:  # it could not come while earlier requests wait
            self.expect_head()
        elif not self.transport.is_closing() and self._discarded is None:
            self.on_late_head()

    def on_late_head(self) -> None:
        """Close a connection on which no head came in time."""
        self.transport.close()

    def wait_for_request(self) -> None:
        """Keep the connection alive for the next request, unless it cannot come any more."""
        if self.at_eof:
            self.transport.close()
            return
        self.shared.waiting[self] = None
        self.flow.resume_reading()
        if not self._in_head:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # ------------------------------------------------------------------------------------------------------------- end

    @property
    def is_lingering(self) -> bool:
        """Whether the last response is sent, and what the client still sends is discarded."""
        return self._lingering is not None

    def end(self) -> None:
        """Close the connection; if the client may still be sending, once it has had time to see the response."""
        if self.at_eof or not (self._in_head or self._in_body or self._discarded is not None):
            self.transport.close()
        elif not self.is_lingering and not self.transport.is_closing():
            self._linger()

    def _linger(self) -> None:
        self.head_is_here()
        self._unset_keepalive_if_required()
        self._discarded = 0
        self.shared.lingering += 1
        self._lingering = Progress(LINGER_SECONDS, self.shared.min_rate, self.loop.time())
        self._end_timer = self.loop.call_at(self._lingering.deadline, self._end_lingering)
        self.shared.waiting[self] = None
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def discard(self, size: int) -> None:
        """Take note of bytes that came after the last request that is served."""
        self._discarded = (self._discarded or 0) + size
        if self._discarded > MAX_DISCARDED:
            self.transport.close()
        elif self._lingering is not None:
            self._lingering.add(size, self.loop.time())
        self.flow.took(size)
        self.flow.pause(self.shared.lingering * DISCARD_PAUSE)

    def _end_lingering(self) -> None:
        self._end_timer = None
        if self._lingering is not None and self._lingering.deadline > self.loop.time():
            self._end_timer = self.loop.call_at(self._lingering.deadline, self._end_lingering)
        else:
            self.transport.close()

    def send_refusal(self, refusal: Refusal) -> None:
        """Send a problem in place of a response, and end."""
        headers, document = refusal.response(self.server_state.default_headers)
        content = [STATUS_LINE[refusal.kind.status], *(b"%b: %b\r\n" % field for field in headers), b"\r\n"]
        if self.parser.get_method() != b"HEAD":
            content.append(document)
        self.transport.write(b"".join(content))
        if not self._in_body:
            log_request(self.client, "-", refusal.kind.status, 0.0, len(document), refusal.kind.title)
        self._discarded = 0
        self.end()

    def watch_for_end(self) -> None:
        """See whether a client that has stopped sending still waits for its response."""
        if self.running is None or self.transport.is_closing():
            return
        seconds = FIRST_INTERIM_SECONDS if self._knows_interim_responses() else GRACE_SECONDS
        self._end_timer = self.loop.call_later(seconds, self._probe, seconds)

    def _knows_interim_responses(self) -> bool:
        return self.running is not None and self.running.scope["http_version"] == "1.1"

    def _probe(self, seconds: float) -> None:
        self._end_timer = None
        if self.running is None or self.transport.is_closing():
            return
        if not self.running.response_started:  # else what is sent of it tells
            if not self._knows_interim_responses():
                break_off(self.transport)
                return
            self.transport.write(INTERIM)
        self._end_timer = self.loop.call_later(2 * seconds, self._probe, 2 * seconds)

    # ---------------------------------------------------------------------------------- as one of several connections

    def evict(self) -> None:
        """Make room for another connection."""
        count_rejection("connection_evicted")
        self.transport.abort()

    def refuse_newcomer(self) -> None:
        """Tell the client that every connection has a request under way."""
        self.send_refusal(ALL_BUSY())

    def close_after_response(self) -> None:
        """Let the response that is under way be the last one, if it has not begun, else the next one."""
        self.closes = True
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End now if there is no request, else with the response to it; a client that is being told why is not cut."""
        self.close_after_response()
        if self.running is None and not self._in_head and not self.is_lingering:
            self.transport.close()
