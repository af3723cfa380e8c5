"""What runs before the first request is taken, so that it does not take longer than the next."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy as np
from starlette.types import ASGIApp

from .codecs.npz import NpzCodec
from .settings import Settings

__all__ = ["warm_up"]

IMAGE, WEIGHT, FILTERED, POOLED = (1, 64, 64, 8), (3, 3, 8, 16), (1, 62, 62, 16), (1, 32, 32, 8)
"""Large enough to be computed on a compute thread, by several blocks."""

CALLS: dict[str, tuple[bytes, dict[str, tuple[int, ...]]]] = {
    "/conv/forward": (b"", {"input": IMAGE, "weight": WEIGHT}),
    "/conv/backward": (b"", {"grad_output": FILTERED, "input": IMAGE, "weight": WEIGHT}),
    "/pool/forward": (b"mode=max&kernel_size=2", {"input": IMAGE}),
    "/pool/backward": (b"mode=max&kernel_size=2", {"grad_output": POOLED, "input": IMAGE}),
}
"""By path, the query and the shapes of the operands."""


async def warm_up(app: Any, handlers: Mapping[str, ASGIApp], settings: Settings) -> None:
    """Call some operations on all compute threads.

    This imports what is imported late, starts the threads, and lets BLAS take its memory. A call that the settings
    refuse does no harm.

    Parameters
    ----------
    app : application
        It has what the handlers need in its state.
    handlers : mapping of str to ASGI application
        By path. They are called directly: these are no requests, for the log.
    settings : Settings

    Raises
    ------
    RuntimeError
        If a call fails: so would those of clients.
    """
    for path, (query, shapes) in CALLS.items():
        body = io.BytesIO()
        operands: dict[str, Any] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        np.savez(body, **operands)
        request = (app, handlers[path], path, query, body.getvalue())
        statuses = await asyncio.gather(*(_status(*request) for _ in range(settings.compute_threads)))
        if HTTPStatus.INTERNAL_SERVER_ERROR in statuses:
            raise RuntimeError(f"{path} fails: the service cannot compute here")


async def _status(app: Any, handler: ASGIApp, path: str, query: bytes, body: bytes) -> int:
    """Call an operation, and return the status of its response."""
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()  # the client stays, and is silent

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": [(b"content-type", NpzCodec.media_type.encode()), (b"content-length", b"%d" % len(body))],
        "state": {},
        "app": app,
    }
    await handler(scope, receive, send)
    return status
