"""The application: settings in, an ASGI application out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cnn_core import __version__

from .codecs import JSON_CODEC
from .documentation import openapi as documentation
from .documentation.api_keys import with_api_keys
from .documentation.pages import documentation_pages
from .documentation.playground import playground_documents
from .http.api_keys import OPEN_FOLDERS, OPEN_PATHS, ApiKeyMiddleware, ApiKeys
from .http.connections import (
    CONNECTIONS,
    MANAGEMENT_CONNECTIONS,
    MAX_MANAGEMENT_CONNECTIONS,
    Connections,
    descriptors,
)
from .http.cross_origin import CrossOriginMiddleware
from .http.documents import Document
from .http.error_responses import error_response, install_error_handlers
from .http.handler import TaskHandler
from .http.head import HeadMiddleware
from .http.management import MANAGEMENT
from .http.observing import ObservingMiddleware, operation_labels
from .http.paths import KeptPrefixMiddleware, route_path
from .http.readiness import READINESS, Readiness
from .http.security_headers import page_headers
from .observability.metrics import register_gauge
from .observability.serving import observed
from .observability.tracing import RequestTracer, request_tracer
from .operations.admission import Admission
from .operations.scheduling import ComputePool
from .problems import Busy
from .routes import build_health_router, build_management_router, build_router, task_handlers
from .settings import Settings
from .v2.routes import build_v2_router, inference_handlers
from .warm_up import warm_up

__all__ = ["create_app"]

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""With Python's default of some hundred, the garbage collector walks over the lists of a large JSON body again and
again while they are created, which takes longer than parsing them."""


SECONDS_BETWEEN_SWITCHES = 0.0005
"""A tenth of Python's default: how long the event loop waits, after each system call, for a thread that runs Python."""


class Application(FastAPI):
    """The service's routes, of which those of the operations are found by a dictionary.

    FastAPI compares a path with one route after the other, and resolves dependencies that no operation has: for a small
    request this takes longer than the layer.

    Parameters
    ----------
    handlers : mapping of str to TaskHandler
        By path, what handles the POST requests to it.
    tracer : RequestTracer, optional
        If there are to be traces.
    guarded : callable
        Returns an ASGI application that lets through to its argument the requests that may pass; by default all.
    **options
        FastAPI's.
    """

    def __init__(
        self,
        handlers: Mapping[str, TaskHandler],
        tracer: RequestTracer | None = None,
        guarded: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._handlers = handlers
        labels = operation_labels((path, handler.task.name) for path, handler in handlers.items())
        self._wrapped: ASGIApp = ObservingMiddleware(guarded(HeadMiddleware(self._dispatch)), labels, tracer)

    def below(self, prefix: str, paths: Iterable[str]) -> None:
        """Serve below a prefix that a proxy takes off paths or not, as ``KeptPrefixMiddleware`` has it."""
        self._wrapped = KeptPrefixMiddleware(self._wrapped, prefix, paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._wrapped(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except asyncio.CancelledError:  # by the server, whose grace period is over
            if scope["type"] != "http":
                raise
            ended = Busy.of("", "the server has ended", got="an unfinished request", expected="another try elsewhere")
            with contextlib.suppress(RuntimeError):  # the response has begun: it is broken off
                await error_response(Request(scope), ended)(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = self._handlers.get(route_path(scope))
            if handler is not None:
                scope["app"] = self
                await handler(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def _show(admission: Admission, connections: Connections) -> None:
    """Show what requests have in use among the metrics."""
    for name, description, value in (
        ("slots_in_use", "Requests that have one of the places.", lambda: admission.places),
        ("slots_limit", "Requests that may have a place at a time.", lambda: admission.max_places),
        ("memory_charged_bytes", "Memory that is reserved for requests in progress.", lambda: admission.memory),
        ("memory_limit_bytes", "Memory that requests in progress may use.", lambda: admission.max_memory),
        ("open_connections", "Connections that are open.", lambda: len(connections)),
        ("open_connections_limit", "Connections that may be open.", lambda: connections.limit),
    ):
        register_gauge(f"convpool_{name}", description, value)


def _guard(settings: Settings) -> Callable[[ASGIApp], ASGIApp]:
    """Return what puts the checks that are configured before an application; none is none."""
    keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None

    def guarded(app: ASGIApp) -> ASGIApp:
        app = ApiKeyMiddleware(app, keys) if keys else app
        # a browser asks without a key, and a page must be able to read that its key is not valid
        return CrossOriginMiddleware(app, settings.cors_origin_list) if settings.cors_origins else app

    return guarded


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment if not given.

    Raises
    ------
    ApiKeysError
        If there is a file of API keys, and it cannot be used.
    """
    settings = settings or Settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        app.state.admission, app.state.pool = Admission(settings), ComputePool(settings)
        await warm_up(app, handlers, settings)
        thresholds = gc.get_threshold()
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *thresholds[1:])
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SECONDS_BETWEEN_SWITCHES)
        gc.freeze()  # what exists now stays: a full collection that walked over it would delay a request by its length
        connections = Connections(settings, descriptors(settings.max_connections))
        _show(app.state.admission, connections)
        async with observed(settings.workers, tracer):
            yield {
                READINESS: readiness,
                MANAGEMENT: management,
                CONNECTIONS: connections,
                MANAGEMENT_CONNECTIONS: Connections(settings, MAX_MANAGEMENT_CONNECTIONS),
            }
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
        app.state.pool.close()

    readiness, tracer = Readiness(), request_tracer()
    handlers, inference = task_handlers(settings), inference_handlers(settings)
    app = Application(
        {**handlers, **inference},
        tracer,
        _guard(settings),
        openapi_url=None,  # it is serialised once, below
        docs_url=None,
        redoc_url=None,
        title="convpool",
        description=documentation.description(),
        version=__version__,
        lifespan=lifespan,
        openapi_tags=documentation.TAGS,
        servers=documentation.SERVERS,
    )
    # Swagger UI takes three times as long to open an operation of a document that is OpenAPI 3.1
    app.openapi_version = "3.0.3"
    install_error_handlers(app)
    app.include_router(build_router(handlers, settings))
    app.include_router(build_health_router(readiness))
    app.include_router(build_v2_router(inference, readiness))
    management = _management_application(readiness)
    if not settings.management_port:
        app.include_router(build_management_router())
    # Swagger UI's scripts and styles come from a package, not from a content delivery network
    app.mount("/static-offline-docs", StaticFiles(packages=[("fastapi_offline", "static")]))
    of_page = page_headers(documentation.PAGE)
    app.add_api_route("/docs", lambda: HTMLResponse(documentation.PAGE, headers=of_page), include_in_schema=False)
    app.add_api_route("/docs/", lambda: RedirectResponse("../docs"), include_in_schema=False)
    for path, page_or_file in {**playground_documents(), **documentation_pages()}.items():
        app.add_route(path, page_or_file.endpoint, include_in_schema=False)
    document = documentation.document(app)
    if settings.root_path:
        app.below(settings.root_path, (*document["paths"], *OPEN_PATHS, *OPEN_FOLDERS))
    if settings.api_keys_file:
        document = with_api_keys(document)
    app.openapi = lambda: document  # type: ignore[method-assign]
    app.add_route(
        "/openapi.json", Document(orjson.dumps(document), JSON_CODEC.media_type).endpoint, include_in_schema=False
    )
    return app


def _management_application(readiness: Readiness) -> Application:
    """Return what the management port serves."""
    app = Application({}, openapi_url=None, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    app.include_router(build_health_router(readiness))
    app.include_router(build_management_router())
    return app
