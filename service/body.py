"""Reading of request bodies: once, into one buffer, never beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request

from service.problems import BodyTimeout, TooLarge, UnreadablePayload, UnsupportedMediaType

__all__ = ["read_body"]


async def read_body(request: Request, limit: int, seconds: float, charge: Callable[[int], None]) -> bytearray:
    """Return a request's body.

    Parameters
    ----------
    request : Request
    limit : int
        Bytes of the largest body.
    seconds : float
        Time within which it must arrive.
    charge : callable
        Called with the bytes of memory that are about to be taken.

    Raises
    ------
    TooLarge
        If Content-Length, checked before anything is read, or a chunked body exceeds the limit.
    UnreadablePayload
        If there are fewer or more bytes than Content-Length says.
    UnsupportedMediaType
        If the body is compressed.
    BodyTimeout
        If it does not arrive in time.
    """
    _refuse_encoding(request)
    length = _content_length(request)
    if length is not None and length > limit:
        raise _too_large(f"{length} bytes", limit)
    try:
        async with asyncio.timeout(seconds):
            if length is None:
                return await _read_chunked(request, limit, charge)
            charge(length)
            return await _read_exactly(request, length)
    except TimeoutError:
        expected = f"the whole body within {seconds} s"
        message = f"the body did not arrive in time; needed: {expected}"
        raise BodyTimeout.of("", message, got="less", expected=expected) from None
    except ClientDisconnect:
        raise _wrong_length("the connection's end", "the whole body") from None


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType.of(
            "", "compressed bodies are not read; needed: no Content-Encoding", got="a Content-Encoding", expected="none"
        )


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _wrong_length("a Content-Length that is no number", "the number of bytes in the body")
    return int(text)


async def _read_exactly(request: Request, length: int) -> bytearray:
    body = bytearray(length)
    filled = 0
    async for chunk in request.stream():
        if filled + len(chunk) > length:
            raise _wrong_length("more", f"{length} bytes, as Content-Length says")
        body[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    if filled < length:
        # Also what happens where the server layer mistakes an "Upgrade: h2c" request for an empty one.
        raise _wrong_length(f"{filled} bytes", f"{length} bytes, as Content-Length says")
    return body


async def _read_chunked(request: Request, limit: int, charge: Callable[[int], None]) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large("more bytes", limit)
        charge(len(chunk))
        body += chunk
    return body


def _too_large(got: str, limit: int) -> TooLarge:
    expected = f"at most {limit} bytes"
    return TooLarge.of("", f"the body has {got}; this server takes {expected}", got=got, expected=expected)


def _wrong_length(got: str, expected: str) -> UnreadablePayload:
    return UnreadablePayload.of(
        "", f"the body is incomplete or too long: got {got}, needed {expected}", got=got, expected=expected
    )
