"""How fast bytes come and go on one connection: reads that are too small wait for more, and slow readers are left."""

from __future__ import annotations

import asyncio
import socket
import struct

from uvicorn.protocols.http.flow_control import FlowControl

from ..observability.metrics import count_rejection
from .progress import Progress

__all__ = ["SMALL_READ", "Flow", "break_off"]

SMALL_READ = 2**10
"""Bytes up to which a read counts as small: less than a full packet of most networks."""

FREE_READS = 32
"""Small reads that a request may take without delay."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
"""Seconds until more is read from a client that sends little at a time. The system gathers meanwhile what arrives;
else each byte would cost a pass through the event loop, the parser and the application."""

CHECKS = 4
"""How often it is looked, within the time that a client has, how much it has taken."""


class Flow(FlowControl):
    """uvicorn's flow control with limits.

    Parameters
    ----------
    transport : asyncio.Transport
        Must tell when its buffer is not empty, and when it is again.
    loop : asyncio.AbstractEventLoop
    send_timeout : float
        Seconds that the client may fall behind the rate when it takes a response.
    rate : int
        Bytes per second.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, send_timeout: float, rate: int
    ) -> None:
        super().__init__(transport)
        self._loop, self._send_timeout, self._rate = loop, send_timeout, rate
        self._small_reads = 0
        self._holding: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._sending: Progress | None = None
        self._left = send_timeout
        """Seconds that the client had when it had taken everything."""
        self._unsent = 0

    # ------------------------------------------------------------------------------------------------------- reading

    def begin_request(self) -> None:
        """Give the next request its free reads."""
        self._small_reads = 0

    def took(self, size: int) -> None:
        """Note that bytes came which do not complete a request; stop reading for a moment if they often are few."""
        if size > SMALL_READ:
            return
        self._small_reads += 1
        excess = self._small_reads - FREE_READS
        if excess > 0 and self._holding is None:
            self._transport.pause_reading()
            self._holding = self._loop.call_later(min(SHORTEST_PAUSE * excess, LONGEST_PAUSE), self._release)

    def _release(self) -> None:
        self._holding = None
        if not self.read_paused:
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless what comes is being gathered."""
        if self.read_paused:
            self.read_paused = False
            if self._holding is None:
                self._transport.resume_reading()

    # ------------------------------------------------------------------------------------------------------- writing

    def begin_response(self) -> None:
        """Give the next response its time."""
        self._left = self._send_timeout

    def pause_writing(self) -> None:
        """Note that the transport has bytes which the client does not take yet."""
        super().pause_writing()
        now = self._loop.time()
        self._sending = Progress(self._send_timeout, self._rate, now)
        self._sending.deadline = now + self._left
        self._unsent = self._transport.get_write_buffer_size()
        self._watch()

    def resume_writing(self) -> None:
        """Note that the client took all bytes."""
        super().resume_writing()
        if self._sending is not None:
            now = self._loop.time()
            self._sending.add(self._unsent, now)
            self._left = self._sending.deadline - now
            self._sending = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _watch(self) -> None:
        self._watching = self._loop.call_later(self._send_timeout / CHECKS, self._check)

    def _check(self) -> None:
        if self._sending is None:
            return
        now, unsent = self._loop.time(), self._transport.get_write_buffer_size()
        self._sending.add(max(0, self._unsent - unsent), now)
        self._unsent = unsent
        if now >= self._sending.deadline:
            self._watching = None
            count_rejection("send_timeout")
            break_off(self._transport)
        else:
            self._watch()

    def end(self) -> None:
        """Stop all timers."""
        self.resume_writing()
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None


def break_off(transport: asyncio.Transport) -> None:
    """End a connection at once: what the client has not taken is thrown away, also by the system."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
