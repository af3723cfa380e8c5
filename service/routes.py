"""The routes: each operation of the catalogue, the shape calls, /ops and the health checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from .cases import CasesTask
from .codecs import JSON_CODEC
from .codecs.json import load_object
from .diagnosis import CheckTask
from .documentation import openapi as documentation
from .documentation.cases import cases_route
from .documentation.described import example_file
from .documentation.streams import stream_route
from .http.body import read_body
from .http.cases import CasesHandler
from .http.compression import decompressed, request_coding
from .http.documents import Document
from .http.handler import CheckHandler, OperationHandler, TaskHandler, new_ticket
from .http.headers import RequestHeaders
from .http.metrics import MetricsEndpoint
from .http.negotiation import body_limit, refuse_unwritable, request_format
from .http.readiness import Readiness
from .http.request_parameters import merged, query_parameters
from .http.responses import BufferResponse
from .http.streaming import StreamHandler
from .operations.catalogue import CATALOGUE, OPERATIONS
from .operations.operation import CatalogueEntry
from .operations.shapes import predict_shapes
from .operations.streams import stream_task
from .settings import Settings

__all__ = ["build_health_router", "build_management_router", "build_router", "task_handlers"]

SHAPE_BODY_BYTES = 2**19
"""Maximum size of a shape call's body, which holds a few numbers. It is handled on the event loop, not in the queue."""


def task_handlers(settings: Settings) -> dict[str, TaskHandler]:
    """Return the handler of each task by its path."""
    handlers: list[TaskHandler] = [OperationHandler(operation, settings) for operation in OPERATIONS]
    handlers += [StreamHandler(task, settings) for task in map(stream_task, OPERATIONS) if task is not None]
    handlers += [CheckHandler(entry, settings) for entry in CATALOGUE]
    handlers += [CasesHandler(entry, settings) for entry in CATALOGUE]
    return {handler.task.path: handler for handler in handlers}


def build_router(handlers: Mapping[str, TaskHandler], settings: Settings) -> APIRouter:
    """Return the routes of the service."""
    router = APIRouter()
    for operation in OPERATIONS:
        endpoint = _task_endpoint(handlers[operation.path])
        router.add_api_route(operation.path, endpoint, methods=["POST"], **documentation.operation_route(operation))
        stream = stream_task(operation)
        if stream is not None:
            endpoint = _task_endpoint(handlers[stream.path])
            router.add_api_route(stream.path, endpoint, methods=["POST"], **stream_route(stream))
    for entry in CATALOGUE:
        check = CheckTask(entry, settings.max_work)
        endpoint = _task_endpoint(handlers[check.path])
        router.add_api_route(check.path, endpoint, methods=["POST"], **documentation.check_route(check))
        cases = CasesTask(entry)
        endpoint = _task_endpoint(handlers[cases.path])
        router.add_api_route(cases.path, endpoint, methods=["POST"], **cases_route(cases))
        router.add_api_route(
            f"/{entry.name}/shape",
            _shape_endpoint(entry, settings),
            methods=["POST"],
            **documentation.shape_route(entry),
        )
    operations = f"{_compact(documentation.operation_list())}\n".encode()
    listed = Document(operations, JSON_CODEC.media_type)
    router.add_api_route("/ops", listed.endpoint, methods=["GET"], **documentation.ops_route())
    router.add_api_route("/examples/{operation}/{file}", _example, methods=["GET"], **documentation.examples_route())
    return router


def build_health_router(readiness: Readiness) -> APIRouter:
    """Return the health checks, which the main port and the management port have."""

    async def ready() -> Response:
        readiness.require()
        return _json({"status": "ready"})

    router = APIRouter()
    router.add_api_route("/health/live", _alive, methods=["GET"], **documentation.live_route())
    router.add_api_route("/health/ready", ready, methods=["GET"], **documentation.ready_route())
    return router


def build_management_router() -> APIRouter:
    """Return the routes that are for operators alone: on the management port, if there is one, else on the main one."""
    router = APIRouter()
    router.add_api_route("/metrics", MetricsEndpoint().respond, methods=["GET"], **documentation.metrics_route())
    return router


def _task_endpoint(handler: TaskHandler) -> Any:
    async def endpoint(request: Request) -> Response:
        return await handler.respond(request)

    return endpoint


def _shape_endpoint(entry: CatalogueEntry, settings: Settings) -> Any:
    limit = min(SHAPE_BODY_BYTES, body_limit(JSON_CODEC, settings))
    formats = (JSON_CODEC,)

    async def endpoint(request: Request) -> Response:
        ticket = new_ticket(request)
        try:
            headers = RequestHeaders(request.scope["headers"])
            request_format(headers.get("content-type"), formats)
            refuse_unwritable(headers.get("accept") or None, formats)
            query = query_parameters(request)
            coding = request_coding(headers.get("content-encoding"))
            body = await read_body(request, headers, limit, ticket, settings)
            if coding:
                body = await asyncio.to_thread(decompressed, body, coding, limit, ticket.charge)
            return _json(predict_shapes(entry, merged(query, load_object(body))))
        finally:
            ticket.give_back()

    return endpoint


async def _example(request: Request) -> Response:
    buffers, media_type = example_file(**request.path_params)
    return BufferResponse(buffers, media_type)


async def _alive() -> Response:
    return _json({"status": "live"})


def _json(content: Any) -> Response:
    return Response(f"{_compact(content)}\n", media_type=JSON_CODEC.media_type)


def _compact(content: Any) -> str:
    # the standard library's encoder writes integers of any size, as the shape of a huge layer needs
    return json.dumps(content, separators=(",", ":"))
