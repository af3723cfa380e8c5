"""The endpoint of the metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..observability.exposition import OPENMETRICS, TEXT, Exposition
from .headers import RequestHeaders
from .negotiation import best_media_type

__all__ = ["MetricsEndpoint"]

FORMATS = {media_type.partition(";")[0]: media_type for media_type in (OPENMETRICS, TEXT)}
"""The formats with and without their versions; the last one is for a client that does not say what it wants."""


class MetricsEndpoint:
    """Responds with the metrics of all workers, in the format that Accept prefers.

    Parameters
    ----------
    exposition : Exposition, optional
    """

    def __init__(self, exposition: Exposition | None = None) -> None:
        self._exposition = exposition or Exposition()

    async def respond(self, request: Request) -> Response:
        """Respond to a request, as the endpoint of a route."""
        accepted = RequestHeaders(request.scope["headers"]).get("accept")
        media_type = FORMATS[best_media_type(list(FORMATS), accepted)]
        return Response(
            await self._exposition.text(media_type), headers={"Content-Type": media_type, "Cache-Control": "no-store"}
        )
