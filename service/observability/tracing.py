"""Traces for OpenTelemetry, if the environment asks for them and the extra ``telemetry`` is installed.

A span is made once the response is written, with the times that were measured anyway: a request is not slower for it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from cnn_core import __version__

from .request_ids import REQUEST_ID

__all__ = ["RequestTracer", "TracedRequest", "request_tracer"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"
MAX_TEXT = 200
"""Maximum length of what a client sent, in characters."""

STAGES_BEFORE_RESPONSE = ("receive", "queue", "compute")

logger = logging.getLogger("convpool")


class TracedRequest(NamedTuple):
    """What a span says of one request.

    Parameters
    ----------
    scope : ASGI scope
    route : str
        Path with placeholders; empty if the path leads nowhere.
    operation : str
    status : int
        0 if no response was sent.
    duration : float
        Seconds; the request ended now.
    stages : mapping of str to float
        Seconds of each stage.
    received, sent : int
        Bytes of the bodies.
    """

    scope: Mapping[str, Any]
    route: str
    operation: str
    status: int
    duration: float
    stages: Mapping[str, float]
    received: int
    sent: int


class RequestTracer:
    """Makes a span of each request, and a span below it of each of its stages.

    Parameters
    ----------
    provider : opentelemetry.sdk.trace.TracerProvider
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace  # noqa: PLC0415  (only where there are traces)
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._trace, self._propagator = trace, TraceContextTextMapPropagator()
        self._provider, self._tracer = provider, provider.get_tracer("convpool", __version__)

    def record(self, request: TracedRequest) -> str:
        """Make the spans of a request that ends now, and return the id of its trace."""
        trace, end = self._trace, time.time_ns()
        start = end - int(1e9 * request.duration)
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        span = self._tracer.start_span(
            " ".join(filter(None, (_method(request.scope), request.route))),
            self._propagator.extract(fields),
            trace.SpanKind.SERVER,
            _attributes(request, fields),
            start_time=start,
        )
        below, position = trace.set_span_in_context(span), start
        for stage in STAGES_BEFORE_RESPONSE:
            if stage in request.stages:
                stage_end = position + int(1e9 * request.stages[stage])
                self._tracer.start_span(stage, below, start_time=position).end(stage_end)
                position = stage_end
        if "send" in request.stages:
            send_start = end - int(1e9 * request.stages["send"])
            self._tracer.start_span("send", below, start_time=send_start).end(end)
        if request.status >= 500 or not request.status:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)
        return str(trace.format_trace_id(span.get_span_context().trace_id))

    def close(self) -> None:
        """Send what has not been sent yet; this may take some seconds."""
        self._provider.shutdown()


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"})


def _method(scope: Mapping[str, Any]) -> str:
    return str(scope["method"]) if scope["method"] in METHODS else "HTTP"


def _attributes(request: TracedRequest, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes that the semantic conventions name; no query, which may hold a tensor by mistake."""
    scope = request.scope
    address, port = scope.get("client") or ("", 0)
    method = _method(scope)
    attributes = {
        "http.request.method": method if method != "HTTP" else "_OTHER",
        "http.route": request.route,
        "http.response.status_code": request.status,
        "http.request.body.size": request.received,
        "http.response.body.size": request.sent,
        "url.path": scope["path"][:MAX_TEXT],
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", ""),
        "client.address": address,
        "client.port": port,
        "user_agent.original": fields.get("user-agent", "")[:MAX_TEXT],
        "error.type": str(request.status) if request.status >= 500 else "" if request.status else "no_response",
        "convpool.operation": request.operation,
        "convpool.request_id": scope["state"][REQUEST_ID].decode(),
    }
    return {name: value for name, value in attributes.items() if value}


def request_tracer(environment: Mapping[str, str] = os.environ) -> RequestTracer | None:
    """Return what makes spans, or None if the environment does not ask for traces or what is needed is not installed.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Traces are asked for by ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_TRACES_EXPORTER``.
    """
    names = [name.strip() for name in environment.get(EXPORTER, "").split(",") if name.strip()]
    if not names and any(environment.get(name) for name in ENDPOINTS):
        names = ["otlp"]
    if not names or names == ["none"] or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        exporters = [_exporter(name) for name in names]
    except (ImportError, LookupError) as error:
        logger.warning("There are no traces: %s; pip install 'convpool[telemetry]' has what they need", error)
        return None
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "convpool"}))
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return RequestTracer(provider)


def _exporter(name: str) -> Any:
    """Return a new exporter by the name that OTEL_TRACES_EXPORTER has for it."""
    names = {"otlp": "otlp_proto_http"}
    found = importlib.metadata.entry_points(group="opentelemetry_traces_exporter", name=names.get(name, name))
    if not found:
        raise LookupError(f"no exporter called {name!r} is installed")
    return next(iter(found)).load()()
