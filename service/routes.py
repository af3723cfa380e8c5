"""The routes: each operation of the catalogue, the shape calls, /ops and the health checks.

A request flows one way: formats negotiated, body read, then on a compute thread: decoded, parameters validated, cost
predicted and checked, computed, encoded.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .codecs import JSON_CODEC, Codec, Limits, RequestContext, ResponseContext
from .codecs.json import load_object
from .codecs.names import pointer_to
from .codecs.text import NOT_GIVEN, parse_text_parameters
from .documentation import openapi as documentation
from .documentation.described import example_file
from .http.body import disconnected, read_body
from .http.negotiation import (
    RequestFormat,
    readable_codecs,
    refuse_unwritable,
    request_format,
    response_codec,
    writable_codecs,
)
from .http.responses import PARAMETERS_HEADER, BufferResponse
from .operations.budget import check_budget
from .operations.catalogue import CATALOGUE, OPERATIONS
from .operations.execution import ComputePool, Ticket
from .operations.operation import CatalogueEntry, Operation
from .operations.shapes import predict_shapes
from .problems import Finding, InvalidRequest
from .settings import Settings

__all__ = ["build_router"]

SHAPE_BODY_BYTES = 2**19
"""Maximum size of a shape call's body, which holds a few numbers. It is handled on the event loop, not in the queue."""


def build_router(settings: Settings) -> APIRouter:
    """Return the routes of the service."""
    router = APIRouter()
    for operation in OPERATIONS:
        router.add_api_route(
            operation.path,
            _operation_endpoint(operation, settings),
            methods=["POST"],
            **documentation.operation_route(operation),
        )
    for entry in CATALOGUE:
        router.add_api_route(
            f"/{entry.name}/shape",
            _shape_endpoint(entry, settings),
            methods=["POST"],
            **documentation.shape_route(entry),
        )
    router.add_api_route("/ops", _list_endpoint(), methods=["GET"], **documentation.ops_route())
    router.add_api_route("/examples/{operation}/{file}", _example, methods=["GET"], **documentation.examples_route())
    for path, endpoint, documented in (
        ("/health/live", _alive, documentation.live_route()),
        ("/health/ready", _ready, documentation.ready_route()),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], **documented)
    return router


def _body_limit(read_as: RequestFormat, settings: Settings) -> int:
    if read_as.codec.charset:  # text
        return min(settings.max_json_bytes, settings.max_body_bytes)
    return settings.max_body_bytes


@dataclass(frozen=True)
class Received:
    """A request whose formats were negotiated and whose body was read."""

    read_as: RequestFormat
    accept: str | None
    query: Mapping[str, Any]
    body: bytearray


async def _receive(
    request: Request,
    readable: Sequence[Codec],
    writable: Sequence[Codec],
    ticket: Ticket,
    settings: Settings,
    limit: int,
) -> Received:
    accept = _header(request, "accept")
    read_as = request_format(request.headers.get("content-type"), readable)
    refuse_unwritable(accept, writable)
    query = parse_text_parameters(request.query_params.multi_items())
    limit = min(limit, _body_limit(read_as, settings))
    body = await read_body(request, limit, settings.body_timeout, ticket.charge)
    return Received(read_as, accept, query, body)


def _operation_endpoint(operation: Operation, settings: Settings) -> Any:
    readable, writable = readable_codecs(operation), writable_codecs()

    def respond(received: Received, context: RequestContext, ticket: Ticket) -> BufferResponse:
        codec = received.read_as.codec
        decoded = codec.decode(received.body, context, Limits(settings.max_decompressed_bytes, ticket.charge))
        call = operation.parse(_merged(received.query, decoded.parameters), decoded.tensors)
        tensors = operation.with_types(decoded.tensors)
        prediction = operation.predict(call, tensors)
        write_as = response_codec(received.accept, codec, operation.number_of_results(call))
        response_memory = write_as.response_memory(prediction.results, decoded.response_options)
        check_budget(prediction, response_memory, settings)
        ticket.charge(prediction.result_bytes + prediction.workspace_bytes + response_memory)
        results = operation.compute(call, tensors)
        encoded = write_as.encode(
            results, ResponseContext(decoded.response_options, operation.name, prediction.parameters)
        )
        headers = {PARAMETERS_HEADER: _compact(prediction.parameters), **encoded.headers}
        return BufferResponse(encoded.buffers, write_as.media_type, settings.send_timeout, headers)

    async def endpoint(request: Request) -> Response:
        pool: ComputePool = request.app.state.pool
        with contextlib.ExitStack() as stack:
            ticket = stack.enter_context(Ticket(pool))
            received = await _receive(request, readable, writable, ticket, settings, settings.max_body_bytes)
            context = RequestContext(operation.operand_names, received.read_as.options, request.headers)
            response = await pool.run(lambda: respond(received, context, ticket), disconnected(request))
            response.resources = stack.pop_all()  # the memory is in use until the response is sent
            return response

    return endpoint


def _shape_endpoint(entry: CatalogueEntry, settings: Settings) -> Any:
    async def endpoint(request: Request) -> Response:
        with Ticket(request.app.state.pool) as ticket:
            received = await _receive(request, [JSON_CODEC], [JSON_CODEC], ticket, settings, SHAPE_BODY_BYTES)
            return _json(predict_shapes(entry, _merged(received.query, load_object(received.body))))

    return endpoint


def _merged(query: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    payload = {name: value for name, value in payload.items() if value is not NOT_GIVEN or name not in query}
    twice = [name for name in query if name in payload]
    if twice:
        fault = "a parameter is given both in the query string and in the body"
        raise InvalidRequest(
            *(Finding.of(pointer_to(name), fault, got="two values", expected="one value") for name in twice)
        )
    return {**query, **payload}


def _list_endpoint() -> Any:
    @functools.cache
    def listed() -> dict[str, Any]:
        return {"operations": [documentation.described(operation) for operation in OPERATIONS]}

    async def endpoint() -> Response:
        return _json(listed())

    return endpoint


async def _example(request: Request) -> Response:
    buffers, media_type = example_file(**request.path_params)
    return BufferResponse(buffers, media_type, request.app.state.pool.settings.send_timeout)


async def _alive() -> Response:
    return _json({"status": "live"})


async def _ready() -> Response:
    return _json({"status": "ready"})


def _header(request: Request, name: str) -> str | None:
    """Return a header that may be sent on several lines, which are one list (RFC 9110, section 5.3)."""
    return ", ".join(request.headers.getlist(name)) or None


def _json(content: Any) -> Response:
    return Response(f"{_compact(content)}\n", media_type=JSON_CODEC.media_type)


def _compact(content: Any) -> str:
    # the standard library's encoder writes integers of any size, as the shape of a huge layer needs
    return json.dumps(content, separators=(",", ":"))
