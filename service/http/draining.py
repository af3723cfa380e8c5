"""Lets a client finish sending before it is told that its request was refused.

A server that responds and closes while the body is still on its way makes the kernel reset the connection, and many
clients then report a broken connection instead of the response that says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body import BODY_IS_HERE

__all__ = ["DrainingMiddleware"]

MAX_WAIT_SECONDS = 5.0
MAX_BYTES = 2**28


class DrainingMiddleware:
    """Reads and discards what is left of a request's body before its response starts, up to a size and a time.

    A client that sent ``Expect: 100-continue`` waits for the response before it sends anything:
    nothing is read from it.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or BODY_IS_HERE in scope.get("state", ()):
            await self._app(scope, receive, send)
            return
        waits = any(name == b"expect" for name, _ in scope["headers"])
        complete = False

        async def watched_receive() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def drain() -> None:
            discarded = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_WAIT_SECONDS):
                    while not complete and discarded < MAX_BYTES:
                        discarded += len((await watched_receive()).get("body", b""))

        async def draining_send(message: Message) -> None:
            if message["type"] == "http.response.start" and not complete:
                # the client already timed out; do not wait again
                if not waits and message["status"] != HTTPStatus.REQUEST_TIMEOUT:
                    await drain()
                if not complete:
                    # the rest of the body could not be distinguished from the next request
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self._app(scope, watched_receive, draining_send)
