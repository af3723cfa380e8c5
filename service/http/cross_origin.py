"""Which web pages of other origins may call the service (CORS)."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..codecs.v2 import HEADER_LENGTH
from .error_responses import Kind, problem_response
from .responses import PARAMETERS_HEADER, SEND_WHOLE

__all__ = ["CrossOriginMiddleware"]

METHODS = ("GET", "HEAD", "POST", "OPTIONS")
EXPOSED = (PARAMETERS_HEADER, HEADER_LENGTH, "ETag", "Retry-After", "Server-Timing", "X-Request-ID")
"""Headers of responses that a page of another origin can read, beside the few that every page can."""


class CrossOriginMiddleware(CORSMiddleware):
    """Answers the questions of browsers whether a page may call the service, and lets it read the responses.

    Every header may be sent: what they mean is checked where they are read. A browser sends no cookies along, and asks
    without an API key.

    Parameters
    ----------
    app : ASGI application
    origins : collection of str
        Such as ``https://example.org``; ``*`` for all.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
            allow_private_network=True,  # whoever allows an origin means its pages, wherever they were loaded from
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a browser that asks before a page's request."""
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        detail = "This server allows cross-origin requests from other origins, or with other methods, than this one."
        kind = Kind(HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST.phrase)
        return problem_response(kind, [], f"{detail} CONVPOOL_CORS_ORIGINS lists the origins.", kept)

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        """Serve a request, and add the headers to its response."""
        scope.get("state", {}).pop(SEND_WHOLE, None)  # which would send the response past this middleware
        await super().simple_response(scope, receive, send, request_headers)
