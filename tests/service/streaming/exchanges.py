"""A streamed exchange as an ASGI server sees it: the body in any pieces, and the response as it is sent."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI

AnyArray = npt.NDArray[Any]
BOUNDARY = "the-boundary"
NPY, FORM = "application/x-npy", f"multipart/form-data; boundary={BOUNDARY}"
END = b"--" + BOUNDARY.encode() + b"--\r\n"


def npy(array: AnyArray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def form(parts: Iterable[tuple[str, bytes | str]]) -> bytes:
    """A form of files (bytes) and fields (text)."""
    content = b""
    for name, value in parts:
        is_file = isinstance(value, bytes)
        disposition = f'form-data; name="{name}"' + (f'; filename="{name}.npy"' if is_file else "")
        content += f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        content += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return content + END


def split(body: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut a body into pieces of some sizes, over and over."""
    every, start = list(sizes), 0
    pieces: list[bytes] = []
    while start < len(body):
        size = every[len(pieces) % len(every)]
        pieces.append(body[start : start + size])
        start += size
    return pieces


@dataclass
class Sent:
    """What the application has sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    received_at_start: int = -1
    """Pieces that had been taken when the response began."""

    @property
    def array(self) -> AnyArray:
        assert self.status == 200, bytes(self.body)
        assert len(self.body) == int(self.headers["content-length"])
        loaded: AnyArray = np.load(io.BytesIO(self.body))
        return loaded


def exchange(
    path: str,
    query: str,
    content_type: str,
    pieces: list[bytes],
    headers: Mapping[str, str] | None = None,
    *,
    has_length: bool = False,
    ends_early: bool = False,
) -> Callable[[FastAPI], Awaitable[Sent]]:
    """Return what sends a request, in these pieces, to an application.

    Parameters
    ----------
    path, query, content_type : str
    pieces : list of bytes
    headers : mapping of str to str, optional
    has_length : bool
        Whether there is a Content-Length.
    ends_early : bool
        Whether the client leaves after the pieces instead of ending the body.
    """

    async def called(app: FastAPI) -> Sent:
        sent, taken = Sent(), 0

        async def receive() -> dict[str, Any]:
            nonlocal taken
            if taken < len(pieces):
                taken += 1
                return {
                    "type": "http.request",
                    "body": pieces[taken - 1],
                    "more_body": taken < len(pieces) or ends_early,
                }
            if not pieces and not taken:
                taken = 1
                return {"type": "http.request", "body": b"", "more_body": ends_early}
            if not ends_early:
                await asyncio.Event().wait()  # the client waits for the response
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent.status = message["status"]
                sent.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
                sent.received_at_start = taken
            else:
                sent.body += message.get("body", b"")

        fields = {"content-type": content_type, **(headers or {})}
        if has_length:
            fields["content-length"] = str(sum(map(len, pieces)))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await app(scope, receive, send)
        return sent

    return called
