"""Documents that never change: compressed once, and sent as each client reads them, unless it has them already."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from .compression import CODINGS, VARY, compressed, response_coding
from .headers import RequestHeaders

__all__ = ["Document"]


class Document:
    """A body that is the same for every request.

    Parameters
    ----------
    content : bytes
    media_type : str
    headers : mapping of str to str, optional
        More headers of each response.
    """

    def __init__(self, content: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._media_type = media_type
        self._headers = headers or {}
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self._contents: dict[str | None, bytes] = {None: content}
        for coding in CODINGS:
            self._contents[coding] = b"".join(compressed([content], coding, lambda _: None))

    async def endpoint(self, request: Request) -> Response:
        """Respond to a request, as the endpoint of a route."""
        return self.response(request)

    def response(self, request: Request) -> Response:
        """Return the document in the content coding that the request prefers, or 304 if the request has its tag."""
        # weak: the same in every coding; no-cache: a client asks each time whether it has changed
        headers = {"ETag": f"W/{self._tag}", "Cache-Control": "no-cache", **VARY, **self._headers}
        known = request.headers.get("if-none-match", "")
        if self._tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        accepted = RequestHeaders(request.scope["headers"]).get("accept-encoding")
        coding = response_coding(accepted, len(self._contents[None]))
        headers |= {"Content-Encoding": coding} if coding else {}
        return Response(self._contents[coding], headers=headers, media_type=self._media_type)
