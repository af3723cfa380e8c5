"""How fast bytes come and go on one connection: reads that are too small wait for more, and slow readers are left."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import struct
import termios

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
        self.small_reads = 0
        """Of the request that comes; to be set to 0 when it is complete."""
        self._holding: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._sending: Progress | None = None
        self.time_left = send_timeout
        """Seconds that the client had when it had taken everything; to be set to the limit for each response."""
        self._unsent = 0

    # ------------------------------------------------------------------------------------------------------- reading

    def took(self, size: int) -> None:
        """Note that bytes came which do not complete a request; stop reading for a moment if they often are few."""
        if size > SMALL_READ:
            self.small_reads = max(0, self.small_reads - 1)  # the last packet of what a client writes may be small
            return
        self.small_reads += 1
        excess = self.small_reads - FREE_READS
        if excess > 0:
            self.pause(min(SHORTEST_PAUSE * excess, LONGEST_PAUSE))

    def pause(self, seconds: float) -> None:
        """Stop reading for a time, unless it is stopped."""
        if self._holding is None:
            self._transport.pause_reading()
            self._holding = self._loop.call_later(seconds, self._release)

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

    def pause_writing(self) -> None:
        """Note that the transport has bytes which the client does not take yet."""
        super().pause_writing()
        now = self._loop.time()
        self._sending = Progress(self._send_timeout, self._rate, now)
        self._sending.deadline = now + self.time_left
        self._unsent = _untaken(self._transport)
        self._watch()

    def resume_writing(self) -> None:
        """Note that the client took all bytes."""
        super().resume_writing()
        if self._sending is not None:
            now = self._loop.time()
            self._sending.add(max(0, self._unsent - _untaken(self._transport)), now)
            self.time_left = self._sending.deadline - now
            self._sending = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _watch(self) -> None:
        self._watching = self._loop.call_later(self._send_timeout / CHECKS, self._check)

    def _check(self) -> None:
        if self._sending is None:
            return
        now, unsent = self._loop.time(), _untaken(self._transport)
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


def _untaken(transport: asyncio.Transport) -> int:
    """Return how many bytes lie in the transport's and the system's buffers.

    The system takes more only when a third of its own buffer is free again, up to megabytes later.
    """
    connection: socket.socket | None = transport.get_extra_info("socket")
    in_system = array.array("i", [0])
    if connection is not None:
        with contextlib.suppress(OSError, ValueError):  # it may be closed
            fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, in_system)
    return transport.get_write_buffer_size() + in_system[0]


def break_off(transport: asyncio.Transport) -> None:
    """End a connection at once: what the client has not taken is thrown away, also by the system."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
