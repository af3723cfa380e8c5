"""Responses whose body is sent as views of the results' memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..codecs import Buffer
from .body import BODY_IS_HERE

__all__ = ["BREAK_OFF", "PARAMETERS_HEADER", "READ_ON", "SEND_WHOLE", "BufferResponse"]

PARAMETERS_HEADER = "Convpool-Parameters"
"""Header of every result: the parameters as they were resolved, as a JSON object."""

CHUNK_BYTES = 2**20
SEND_WHOLE = "convpool.send_whole"
"""Where in a scope's state our HTTP protocol has a function that sends a whole response, as a status, headers and a
body, and returns whether it did. For a small response the two messages of ASGI take longer than everything else."""

BREAK_OFF = "convpool.break_off"
"""Where in a scope's state our HTTP protocol has a function that ends the connection at once, in the middle of a
response whose rest cannot be sent."""

READ_ON = "convpool.read_on"
"""Where in a scope's state our HTTP protocol has a function by which an application says, before its response begins,
that it will read the body to its end: the connection can then be kept alive, and if the rest cannot come, it is broken
off. Python's clients stop sending once a response says that it closes the connection."""

SMALL_BYTES = 2**16
"""Up to this size, joining the buffers takes less time than sending them one by one."""


class BufferResponse(Response):
    """A response whose body is a list of buffers, sent in chunks without joining or copying them.

    Parameters
    ----------
    buffers : sequence of bytes-like
    media_type : str
    headers : mapping of str to str
    """

    def __init__(
        self,
        buffers: Sequence[Buffer],
        media_type: str,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        views = [memoryview(buffer) for buffer in buffers]
        self.size = length = sum(view.nbytes for view in views)
        """Bytes of the body."""
        if length <= SMALL_BYTES:
            self._chunks: Sequence[Buffer] = [b"".join(views)]
        else:
            self._chunks = [
                view[start : start + CHUNK_BYTES] for view in views for start in range(0, view.nbytes, CHUNK_BYTES)
            ]
        self.release: Callable[[], None] = lambda: None
        """Called once the response is sent or aborted; the request keeps its memory until then."""
        self.status_code, self.background = 200, None
        fields = {"Content-Length": str(length), "Content-Type": media_type, **headers}
        self.raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            if len(self._chunks) == 1 and self._is_sent_whole(scope, self._chunks[0]):
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            # which waits until the client has taken the others; our protocol ends its connection if it does not
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.release()

    def _is_sent_whole(self, scope: Scope, body: Buffer) -> bool:
        state = scope.get("state", {})
        if BODY_IS_HERE not in state or SEND_WHOLE not in state:
            return False
        if not state[SEND_WHOLE](self.status_code, self.raw_headers, body):
            return False
        state.update(status=self.status_code, sent=len(body))  # for the log
        return True
