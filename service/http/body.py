"""Reading of request bodies: once, into one buffer that grows with what arrives, never beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np
from starlette.requests import Request

from ..codecs import Body
from ..operations.admission import SMALL_BODY, Ticket
from ..problems import BodyTimeout, TooLarge, UnreadablePayload
from ..settings import Settings
from .progress import Progress

__all__ = [
    "APPEND_TO_BODY",
    "BODY_IS_HERE",
    "RECEIVED",
    "content_length",
    "disconnected",
    "read_body",
    "too_slow",
    "wrong_length",
]

POLLING_SECONDS = 0.1

APPEND_TO_BODY = "convpool.body"
"""Where in a scope's state the application has a function while it reads a body: our HTTP protocol calls it with what
arrives, which saves the copies that messages take. The messages of such a protocol are empty, and tell when to look."""

RECEIVED = "convpool.received"
"""Where in a scope's state the bytes of the body are that have arrived, once it was read or given up."""

BODY_IS_HERE = "convpool.body_is_here"
"""Set in a scope's state by our HTTP protocol once the whole body has arrived: nothing needs to be waited for, with a
timeout that takes longer than a small body, or to be discarded."""


MIN_ROOM = 2**20
"""Bytes that are reserved at a time, at least, for a large body of unknown length."""

MIN_RESERVED = 2**20
"""Bytes from which memory is reserved for a body whose length is known. Pages of it take memory once something arrives
in them. NumPy asks for large pages, which spares most of the page faults: half the time of receiving a large body."""


class _Arriving:
    """A body that arrives, and what it is charged for so far."""

    def __init__(self, request: Request, ticket: Ticket, length: int | None, limit: int, *, as_view: bool) -> None:
        self.state = request.scope.setdefault("state", {})
        self.size = 0
        self._receive, self._ticket, self._length, self._limit = request.receive, ticket, length, limit
        self._room = max(length or 0, SMALL_BODY)
        """Bytes that may arrive before more memory must be reserved."""
        self._charged = 0
        self._grown = bytearray()
        is_reserved = as_view and length is not None and length >= MIN_RESERVED
        self._reserved = np.empty(length or 0, np.uint8).data if is_reserved else None

    def append(self, chunk: bytes) -> None:
        """Add what has arrived; more than was reserved is only counted."""
        start, self.size = self.size, self.size + len(chunk)
        if self._reserved is None:
            self._grown += chunk
        elif self.size <= len(self._reserved):
            self._reserved[start : self.size] = chunk

    @property
    def content(self) -> Body:
        """The body, once it is complete."""
        return self._grown if self._reserved is None else self._reserved

    @property
    def has_room(self) -> bool:
        """Whether no more memory must be reserved for what has arrived."""
        return self.size <= self._room

    async def receive(self) -> bool:
        """Take a message, and return whether more follow."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise wrong_length("the connection's end", "the whole body")
        self.append(message.get("body", b""))
        if self._length is None:
            _require_room(self.size, self._limit)
        elif self.size > self._length:
            raise wrong_length("more", f"{self._length} bytes, as Content-Length says")
        if self.has_room:
            self._charge()
        return bool(message.get("more_body", False))

    async def make_room(self) -> None:
        """Reserve memory for a body that is larger than what is reserved, and whose length is unknown."""
        self.state.pop(APPEND_TO_BODY, None)  # meanwhile the protocol keeps a little, and then stops reading
        while not self.has_room:
            more = max(1, min(max(self._room, MIN_ROOM), self._limit - self._room))
            await self._ticket.admit_body(more)
            self._room += more
        self._charge()

    def _charge(self) -> None:
        self._ticket.charge(self.size - self._charged)
        self._charged = self.size


async def read_body(
    request: Request,
    headers: Mapping[str, str],
    limit: int,
    ticket: Ticket,
    settings: Settings,
    *,
    as_view: bool = False,
    decode_memory: Callable[[int], int] = lambda _: 0,
) -> Body:
    """Return a request's body as it was sent; the request has a place among those in progress then.

    A large body is read once there is room for it, which its client waits for; a small one is read in any case.

    Parameters
    ----------
    request : Request
    headers : mapping of str to str
    limit : int
        Maximum size of the body, in bytes.
    ticket : Ticket
        What the body's memory is charged to.
    settings : Settings
        The timeout of a body, and the rate that extends it.
    as_view : bool
        Whether a large body may be a view of memory that is reserved for it; else it is a bytearray.
    decode_memory : callable
        Returns, from the size of a body, the bytes that decoding it takes in addition, which are reserved with it.

    Raises
    ------
    TooLarge
        If Content-Length, checked before anything is read, or a chunked body exceeds the limit.
    Busy
        If there is no place or no memory for it in time.
    UnreadablePayload
        If there are fewer or more bytes than Content-Length says.
    BodyTimeout
        If it does not arrive in time.
    """
    length = content_length(headers)
    _require_room(length or 0, limit)
    arriving = _Arriving(request, ticket, length, limit, as_view=as_view)
    try:
        if length is not None and length > SMALL_BODY:
            await ticket.admit_body(length + decode_memory(length))
        if BODY_IS_HERE not in arriving.state or await arriving.receive():
            await _rest(arriving, settings)
        if length is None and arriving.size > SMALL_BODY:
            await arriving.make_room()
            await ticket.admit_body(decode_memory(arriving.size))
        elif length is not None and arriving.size < length:
            # Also what happens where the server layer mistakes an "Upgrade: h2c" request for an empty one.
            raise wrong_length(f"{arriving.size} bytes", f"{length} bytes, as Content-Length says")
    finally:
        arriving.state[RECEIVED] = arriving.size
    await ticket.take_place()
    return arriving.content


async def _rest(arriving: _Arriving, settings: Settings) -> None:
    """Read a body to its end, as long as it arrives fast enough."""
    time, before = asyncio.get_running_loop().time, arriving.size
    progress = Progress(settings.body_timeout, settings.min_transfer_rate, time())
    try:
        async with asyncio.timeout_at(progress.deadline) as timeout:
            while await arriving.receive():
                progress.add(arriving.size - before, time())
                before = arriving.size
                if not arriving.has_room:
                    timeout.reschedule(None)  # now the client is the one that waits
                    since = time()
                    await arriving.make_room()
                    progress.deadline += time() - since
                # only now: what came before the application asked is in the first message
                arriving.state[APPEND_TO_BODY] = arriving.append
                timeout.reschedule(progress.deadline)
    except TimeoutError:
        raise too_slow(settings) from None
    finally:
        arriving.state.pop(APPEND_TO_BODY, None)  # the rest of a refused body is not kept


def too_slow(settings: Settings) -> BodyTimeout:
    """Return the problem of a body that does not arrive in time."""
    expected = f"{settings.min_transfer_rate} bytes per second, with pauses of at most {settings.body_timeout:g} s"
    return BodyTimeout.of("", "the body arrives too slowly", got="less", expected=expected)


async def disconnected(request: Request) -> None:
    """Return when the client is gone; to be called once its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(POLLING_SECONDS)  # a server may return at once without a message


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return what Content-Length says, or None if there is none; raise UnreadablePayload if it is no number."""
    text = headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        fault, expected = "Content-Length is not a number", "the number of bytes in the body"
        raise UnreadablePayload.of("", fault, got="something else", expected=expected)
    return int(text)


def _require_room(size: int, limit: int) -> None:
    if size > limit:
        got, expected = f"{size} bytes or more", f"at most {limit} bytes"
        raise TooLarge.of("", "the body is larger than this server allows", got=got, expected=expected)


def wrong_length(got: str, expected: str) -> UnreadablePayload:
    """Return the problem of a body that ends too early or too late."""
    return UnreadablePayload.of("", "the body is incomplete or too long", got=got, expected=expected)
