"""Responses whose body is sent as views of the results' memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..codecs import Buffer

__all__ = ["PARAMETERS_HEADER", "BufferResponse"]

PARAMETERS_HEADER = "Convpool-Parameters"
"""Header of every result: the parameters as they were resolved, as a JSON object."""

CHUNK_BYTES = 2**20
SMALL_BYTES = 2**16
"""Up to this size, joining the buffers takes less time than sending them one by one."""


class BufferResponse(Response):
    """A response whose body is a list of buffers, sent in chunks without joining or copying them.

    Parameters
    ----------
    buffers : sequence of bytes-like
    media_type : str
    seconds : float
        Write timeout of each chunk: the connection is closed if the client stops reading.
    headers : mapping of str to str
    """

    def __init__(
        self,
        buffers: Sequence[Buffer],
        media_type: str,
        seconds: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        views = [memoryview(buffer) for buffer in buffers]
        length = sum(view.nbytes for view in views)
        if length <= SMALL_BYTES:
            self._chunks: Sequence[Buffer] = [b"".join(views)]
        else:
            self._chunks = [
                view[start : start + CHUNK_BYTES] for view in views for start in range(0, view.nbytes, CHUNK_BYTES)
            ]
        self._seconds = seconds
        self.resources: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        """Exited once the response is sent or aborted; the request keeps its memory and its place until then."""
        self.status_code, self.background = 200, None
        fields = {"Content-Length": str(length), "Content-Type": media_type, **headers}
        self.raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with self.resources:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for number, chunk in enumerate(self._chunks, 1):
                message = {"type": "http.response.body", "body": chunk, "more_body": number < len(self._chunks)}
                try:
                    async with asyncio.timeout(self._seconds):
                        await send(message)
                except TimeoutError:
                    return  # the server closes a connection whose response is not complete
