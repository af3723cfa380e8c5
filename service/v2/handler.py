"""The inference requests of one model: the path of any request, with the protocol's codec."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..codecs.v2 import HEADER_LENGTH, V2BinaryCodec, V2Codec
from ..http.handler import Exchange, OperationHandler
from ..http.headers import RequestHeaders
from ..http.negotiation import RequestFormat
from ..http.request_parameters import merged, query_parameters
from ..operations.operation import Operation
from ..settings import Settings
from .models import implied_parameters

__all__ = ["InferenceHandler"]


class InferenceHandler(OperationHandler):
    """Handles the inference requests of the model that an operation is.

    Parameters
    ----------
    operation : Operation
    settings : Settings
    """

    def __init__(self, operation: Operation, settings: Settings) -> None:
        super().__init__(operation, settings)
        results = implied_parameters(operation)
        self._text = V2Codec(results, settings.max_json_bytes)
        self._binary = V2BinaryCodec(results, settings.max_json_bytes)

    async def respond(self, request: Request) -> Response:
        """Return the response to an inference request; Content-Type and Accept mean nothing in the protocol."""
        headers = RequestHeaders(request.scope["headers"])
        codec = self._binary if HEADER_LENGTH in headers else self._text

        def exchange() -> Exchange:
            query = query_parameters(request)
            return Exchange(
                RequestFormat(codec, {}), lambda _: codec, lambda decoded: merged(query, decoded.parameters)
            )

        return await self.answer(request, headers, exchange)
