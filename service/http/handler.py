"""The path of one request of an operation, from its headers to its response.

It flows one way: formats negotiated, body read, then on a compute thread: decoded, parameters validated, cost predicted
and checked, computed, encoded. What is known to be small is computed on the event loop at once: handing it to a thread
would take longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..codecs import Body, Buffer, Codec, Decoded, Limits, RequestContext, ResponseContext
from ..codecs.names import pointer_to
from ..codecs.text import NOT_GIVEN, parse_text_parameters
from ..operations.budget import check_budget
from ..operations.execution import ComputePool, Ticket
from ..operations.operation import Operation, Plan
from ..problems import Finding, InvalidRequest, TooLarge
from ..settings import Settings
from .body import disconnected, read_body
from .compression import MIN_COMPRESSED_BYTES, VARY, compressed, decompressed, request_coding, response_coding
from .error_responses import error_response
from .headers import RequestHeaders
from .negotiation import (
    RequestFormat,
    readable_codecs,
    refuse_unwritable,
    request_format,
    response_codec,
    writable_codecs,
)
from .responses import PARAMETERS_HEADER, BufferResponse

__all__ = ["Exchange", "OperationHandler", "body_limit", "merged", "query_parameters"]

SMALL_BINARY, SMALL_TEXT = 2**16, 2**14
"""Bytes of a body that is decoded on the event loop: some tenths of a millisecond; for text made to be slow, a few."""

SMALL_WORK, SMALL_RESULTS, SMALL_WORKSPACE = 2**20, 2**16, 2**20
"""Predicted work and memory of what is computed on the event loop: about as long as handing it to a thread takes."""


@dataclass(frozen=True)
class Exchange:
    """How one request is read and its response written.

    Parameters
    ----------
    read_as : RequestFormat
    response_codec : callable
        Returns the codec of the response from the number of results.
    parameters : callable
        Returns all parameters of the request from its decoded body.
    """

    read_as: RequestFormat
    response_codec: Callable[[int], Codec]
    parameters: Callable[[Decoded], Mapping[str, Any]]


class OperationHandler:
    """Handles the requests of one operation, as an ASGI application and as a function of a request.

    Parameters
    ----------
    operation : Operation
    settings : Settings
    """

    def __init__(self, operation: Operation, settings: Settings) -> None:
        self.operation = operation
        self._settings = settings
        self._readable, self._writable = readable_codecs(operation), writable_codecs()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            response = await self.respond(request)
        except Exception as error:  # noqa: BLE001  (each gets the response that its kind has)
            response = error_response(request, error)
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        """Return the response to a request in one of the formats that Content-Type and Accept name."""
        headers = RequestHeaders(request.scope["headers"])
        accept = headers.get("accept") or None

        def exchange() -> Exchange:
            read_as = request_format(headers.get("content-type"), self._readable)
            refuse_unwritable(accept, self._writable)
            query = query_parameters(request)
            return Exchange(
                read_as,
                lambda results: response_codec(accept, read_as.codec, results),
                lambda decoded: merged(query, decoded.parameters),
            )

        return await self.answer(request, headers, exchange)

    async def answer(
        self, request: Request, headers: RequestHeaders, exchange: Callable[[], Exchange]
    ) -> BufferResponse:
        """Return the response to a request whose formats are chosen in any other way.

        Parameters
        ----------
        request : Request
        headers : RequestHeaders
        exchange : callable
            Returns the exchange; called once the request is counted, before its body is read.
        """
        pool: ComputePool = request.app.state.pool
        ticket = Ticket(pool)
        ticket.take()
        try:
            chosen = exchange()
            coding = request_coding(headers.get("content-encoding"))
            codec, settings = chosen.read_as.codec, self._settings
            body = await read_body(
                request,
                headers,
                body_limit(codec, settings),
                settings.body_timeout,
                ticket.charge,
                as_view=codec.reads_views and coding is None,
            )
            call = _Call(self.operation, chosen, headers, body, coding, ticket, settings)
            content = call.decoded_at_once()
            response = None if content is None else call.respond_at_once(content)
            if response is None:
                response = await pool.run(lambda: call.respond(content), disconnected(request))
        except BaseException:
            ticket.give_back()
            raise
        response.release = ticket.give_back  # the memory is in use until the response is sent
        return response


class _Content(NamedTuple):
    """What a body holds, and all parameters of the request."""

    decoded: Decoded
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request whose body was read."""

    operation: Operation
    exchange: Exchange
    headers: Mapping[str, str]
    body: Body
    coding: str | None
    ticket: Ticket
    settings: Settings

    def decoded_at_once(self) -> _Content | None:
        """Return what a small body holds, or None if decoding it may take long."""
        codec = self.exchange.read_as.codec
        if self.coding or len(self.body) > (SMALL_TEXT if codec.charset else SMALL_BINARY):
            return None
        try:
            return self._decoded(min(SMALL_BINARY, self.settings.max_decompressed_bytes))
        except TooLarge:  # an archive
            return None

    def respond_at_once(self, content: _Content) -> BufferResponse | None:
        """Return the response to a call that is known to be small, or None."""
        plan = self.operation.known_plan(content.parameters, content.decoded.tensors)
        if plan is None or not _is_small(plan):
            return None
        codec = self.exchange.response_codec(len(plan.prediction.results))
        if codec.compressible and self._response_coding(MIN_COMPRESSED_BYTES):
            return None
        return self._response(plan, content.decoded)

    def respond(self, content: _Content | None) -> BufferResponse:
        """Return the response, of a body that may have been decoded already; to be called on a compute thread."""
        if content is None:
            content = self._decoded(self.settings.max_decompressed_bytes)
        return self._response(self.operation.plan(content.parameters, content.decoded.tensors), content.decoded)

    def _decoded(self, decompressed_bytes: int) -> _Content:
        read_as = self.exchange.read_as
        context = RequestContext(self.operation.operand_names, read_as.options, self.headers)
        body: Body = self.body
        if self.coding:
            limit = body_limit(read_as.codec, self.settings)
            body = decompressed(body, self.coding, limit, self.ticket.charge)
        decoded = read_as.codec.decode(body, context, Limits(decompressed_bytes, self.ticket.charge))
        return _Content(decoded, self.exchange.parameters(decoded))

    def _response(self, plan: Plan, decoded: Decoded) -> BufferResponse:
        prediction, options = plan.prediction, decoded.response_options
        codec = self.exchange.response_codec(len(prediction.results))
        response_memory = codec.response_memory(prediction.results, options)
        check_budget(prediction, response_memory, self.settings)
        self.ticket.charge(prediction.result_bytes + prediction.workspace_bytes + response_memory)
        results = self.operation.compute(plan.call, self.operation.with_types(decoded.tensors))
        encoded = codec.encode(results, ResponseContext(options, self.operation.name, prediction.parameters))
        headers = {PARAMETERS_HEADER: prediction.parameters_text, **encoded.headers}
        buffers: Sequence[Buffer] = encoded.buffers
        if codec.compressible:
            headers |= VARY
            coding = self._response_coding(sum(memoryview(buffer).nbytes for buffer in buffers))
            if coding is not None:
                headers["Content-Encoding"] = coding
                buffers = compressed(buffers, coding, self.ticket.charge)
        return BufferResponse(buffers, codec.media_type, headers)

    def _response_coding(self, size: int) -> str | None:
        """Return the content coding that the client asks for; a list, which most libraries send, is no request."""
        return response_coding(self.headers.get("accept-encoding"), size, only_if_named_alone=True)


def _is_small(plan: Plan) -> bool:
    predicted = plan.prediction
    return (
        predicted.work <= SMALL_WORK
        and predicted.result_bytes <= SMALL_RESULTS
        and predicted.workspace_bytes <= SMALL_WORKSPACE
    )


def body_limit(codec: Codec, settings: Settings) -> int:
    """Return the maximum size of a body in a format."""
    if codec.charset:  # text
        return min(settings.max_json_bytes, settings.max_body_bytes)
    return settings.max_body_bytes


def query_parameters(request: Request) -> dict[str, Any]:
    """Return the parameters in a request's query string."""
    return parse_text_parameters(request.query_params.multi_items()) if request.scope["query_string"] else {}


def merged(query: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the query string and of the body together.

    Raises
    ------
    InvalidRequest
        If one is given in both places.
    """
    payload = {name: value for name, value in payload.items() if value is not NOT_GIVEN or name not in query}
    twice = [name for name in query if name in payload]
    if twice:
        fault = "a parameter is given both in the query string and in the body"
        raise InvalidRequest(
            *(Finding.of(pointer_to(name), fault, got="two values", expected="one value") for name in twice)
        )
    return {**query, **payload}
