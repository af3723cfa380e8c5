"""Reading of request bodies: once, into one buffer that grows with what arrives, never beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np
from starlette.requests import Request

from ..codecs import Body
from ..problems import BodyTimeout, TooLarge, UnreadablePayload

__all__ = ["APPEND_TO_BODY", "BODY_IS_HERE", "disconnected", "read_body"]

MIN_RATE = 2**14
"""Bytes per second. A large body over a slow line may take as long as it needs; one that drips may not."""

POLLING_SECONDS = 0.1

APPEND_TO_BODY = "convpool.body"
"""Where in a scope's state the application has a function while it reads a body: our HTTP protocol calls it with what
arrives, which saves the copies that messages take. The messages of such a protocol are empty, and tell when to look."""

BODY_IS_HERE = "convpool.body_is_here"
"""Set in a scope's state by our HTTP protocol once the whole body has arrived: nothing needs to be waited for, with a
timeout that takes longer than a small body, or to be discarded."""


MIN_RESERVED = 2**20
"""Bytes from which memory is reserved for a body whose length is known. Pages of it take memory once something arrives
in them. NumPy asks for large pages, which spares most of the page faults: half the time of receiving a large body."""


class _Body:
    """What has arrived of a body."""

    def __init__(self, reserved: int) -> None:
        self._reserved = np.empty(reserved, np.uint8).data if reserved else None
        self._grown = bytearray()
        self.size = 0

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


async def read_body(
    request: Request,
    headers: Mapping[str, str],
    limit: int,
    seconds: float,
    charge: Callable[[int], None],
    *,
    as_view: bool = False,
) -> Body:
    """Return a request's body as it was sent.

    Parameters
    ----------
    request : Request
    headers : mapping of str to str
    limit : int
        Maximum size of the body, in bytes.
    seconds : float
        Time limit for receiving it, plus one second for each MIN_RATE bytes received.
    charge : callable
        Called with the bytes of memory that are about to be taken.
    as_view : bool
        Whether a large body may be a view of memory that is reserved for it; else it is a bytearray.

    Raises
    ------
    TooLarge
        If Content-Length, checked before anything is read, or a chunked body exceeds the limit.
    UnreadablePayload
        If there are fewer or more bytes than Content-Length says.
    BodyTimeout
        If it does not arrive in time.
    """
    length = _content_length(headers)
    _require_room(length or 0, limit)
    if length is not None:
        charge(length)
    body, charged = _Body(length if as_view and length is not None and length >= MIN_RESERVED else 0), length or 0
    state = request.scope.setdefault("state", {})

    async def receive() -> bool:
        """Take a message, and return whether more follow."""
        nonlocal charged
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise _wrong_length("the connection's end", "the whole body")
        body.append(message.get("body", b""))
        if length is None:
            _require_room(body.size, limit)
            charge(body.size - charged)
            charged = body.size
        elif body.size > length:
            raise _wrong_length("more", f"{length} bytes, as Content-Length says")
        return bool(message.get("more_body", False))

    if BODY_IS_HERE not in state or await receive():
        try:
            async with asyncio.timeout(seconds) as timeout:
                deadline = timeout.when() or 0.0
                while await receive():
                    # only now: what came before the application asked is in the first message
                    state[APPEND_TO_BODY] = body.append
                    timeout.reschedule(deadline + body.size / MIN_RATE)
        except TimeoutError:
            expected = f"the whole body within {seconds} s plus one second for every {MIN_RATE} bytes"
            raise BodyTimeout.of("", "the body did not arrive in time", got="less", expected=expected) from None
        finally:
            state.pop(APPEND_TO_BODY, None)  # the rest of a refused body is not kept
    if length is not None and body.size < length:
        # Also what happens where the server layer mistakes an "Upgrade: h2c" request for an empty one.
        raise _wrong_length(f"{body.size} bytes", f"{length} bytes, as Content-Length says")
    return body.content


async def disconnected(request: Request) -> None:
    """Return when the client is gone; to be called once its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(POLLING_SECONDS)  # a server may return at once without a message


def _content_length(headers: Mapping[str, str]) -> int | None:
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


def _wrong_length(got: str, expected: str) -> UnreadablePayload:
    return UnreadablePayload.of("", "the body is incomplete or too long", got=got, expected=expected)
