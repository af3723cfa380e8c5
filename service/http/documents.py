"""Documents that never change: compressed once, and sent as each client reads them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from .compression import CODINGS, VARY, compressed, response_coding

__all__ = ["Document"]


class Document:
    """A body that is the same for every request.

    Parameters
    ----------
    content : bytes
    media_type : str
    """

    def __init__(self, content: bytes, media_type: str) -> None:
        self._media_type = media_type
        self._contents: dict[str | None, bytes] = {None: content}
        for coding in CODINGS:
            self._contents[coding] = b"".join(compressed([content], coding, lambda _: None))

    def response(self, request: Request) -> Response:
        """Return the document in the content coding that the request prefers."""
        accepted = ", ".join(request.headers.getlist("accept-encoding"))
        coding = response_coding(accepted, len(self._contents[None]))
        headers = {**VARY, **({"Content-Encoding": coding} if coding else {})}
        return Response(self._contents[coding], headers=headers, media_type=self._media_type)
