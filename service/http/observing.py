"""Observes each request: its id, its times, and what is recorded of it once its response is written.

Only what the response itself needs is done before it is written: the fields ``X-Request-ID`` and ``Server-Timing``. The
log, the metrics and the trace follow in a later turn of the event loop, as uvloop writes at the end of each turn.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..observability.metrics import RequestRecord, record, register_gauge
from ..observability.request_ids import REQUEST_ID, request_id
from ..observability.tracing import RequestTracer, TracedRequest
from ..operations.catalogue import CATALOGUE
from .access_log import AccessLine, is_logged, note_problem, printable_target
from .body import RECEIVED
from .handler import TIMINGS
from .paths import route_path
from .responses import SEND_WHOLE

__all__ = ["ObservingMiddleware", "operation_labels"]

SERVICE_PATHS = {
    "/": "docs",
    "/docs": "docs",
    "/openapi.json": "docs",
    "/ops": "docs",
    "/metrics": "metrics",
}
PREFIXES = {
    "/health/": "health",
    "/v2/health/": "health",
    "/v2": "v2:metadata",
    "/playground/": "docs",
    "/docs/": "docs",
    "/examples/": "docs",
    "/static-offline-docs/": "docs",
}
OTHER = "other"
"""A path that leads nowhere: what clients make up is no label, as each would be kept for ever."""

MAX_TEMPLATES = 16
"""Different sets of stages that requests go through."""

Field = tuple[bytes, bytes]


def operation_labels(operations: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return by path what requests are called in metrics, logs and traces.

    Parameters
    ----------
    operations : iterable of pairs of str
        Each path at which an operation is called, and its name.
    """
    shapes = {f"/{entry.name}/shape": "shape" for entry in CATALOGUE}
    named = {path: f"v2:{name}" if path.startswith("/v2/") else name for path, name in operations}
    return {**SERVICE_PATHS, **shapes, **named}


class _Observed(NamedTuple):
    """What is known of a request once its response is written."""

    scope: Scope
    status: int
    sent: int
    started: float
    head_written: float
    ended: float


class ObservingMiddleware:
    """Gives each request an id, adds the fields of the response that tell of it, and records it afterwards.

    Parameters
    ----------
    app : ASGI application
    labels : mapping of str to str
        What ``operation_labels`` returns.
    tracer : RequestTracer, optional
        If there are to be traces.
    """

    in_progress: ClassVar[int] = 0
    """Requests of all applications in this process that have not ended."""

    def __init__(self, app: ASGIApp, labels: Mapping[str, str], tracer: RequestTracer | None = None) -> None:
        self._app, self._labels, self._tracer = app, labels, tracer
        register_gauge(
            "convpool_requests_in_progress",
            "Requests that are being received, computed or sent.",
            lambda: ObservingMiddleware.in_progress,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, head_written = time.perf_counter(), 0.0
        status = sent = 0
        state = scope.setdefault("state", {})
        state[REQUEST_ID] = own_id = request_id(scope["headers"])
        sends_body = scope["method"] != "HEAD"  # the server leaves it out

        def fields() -> list[Field]:
            nonlocal head_written
            head_written = time.perf_counter()
            found = [(b"x-request-id", own_id)]
            timings = state.get(TIMINGS)
            if timings:
                found.append((b"server-timing", server_timing(timings)))
            return found

        async def observed_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *fields()]}
            elif sends_body:
                sent += len(message.get("body", b""))
            await send(message)

        send_whole = state.get(SEND_WHOLE)
        if send_whole is not None:
            state[SEND_WHOLE] = lambda status, headers, body: send_whole(status, [*headers, *fields()], body)
        ObservingMiddleware.in_progress += 1
        try:
            await self._app(scope, receive, observed_send)
        except Exception:
            if not status:  # the server around the middlewares responds
                note_problem(scope, "Internal error", 500)
            raise
        finally:
            ObservingMiddleware.in_progress -= 1
            observed = _Observed(scope, status, sent, started, head_written, time.perf_counter())
            asyncio.get_running_loop().call_soon(self._finish, observed)

    def _finish(self, observed: _Observed) -> None:
        scope, state = observed.scope, observed.scope["state"]
        status, sent = observed.status or state.get("status", 0), observed.sent or state.get("sent", 0)
        duration, stages = observed.ended - observed.started, dict(state.get(TIMINGS, {}))
        if observed.head_written:
            stages["send"] = observed.ended - observed.head_written
        path = route_path(scope)
        operation = self._operation(path)
        received = state.get(RECEIVED, 0)  # of what did not read it, it is not known
        record(RequestRecord(operation, status, received, sent, duration, stages))
        trace_id = ""
        if self._tracer is not None:
            route = path if path in self._labels else getattr(scope.get("route"), "path", "")
            traced = TracedRequest(scope, route, operation, status, duration, stages, received, sent)
            trace_id = self._tracer.record(traced)
        if is_logged(status):
            AccessLine(
                scope.get("client"),
                scope["method"],
                printable_target(
                    scope.get("raw_path") or scope["path"].encode("ascii", "backslashreplace"),
                    bool(scope["query_string"]),
                ),
                status,
                duration,
                sent,
                received,
                state.get("problem", "" if status else "No response"),
                state[REQUEST_ID].decode(),
                operation,
                stages,
                trace_id,
            ).log()

    def _operation(self, path: str) -> str:
        label = self._labels.get(path)
        return label or next((label for prefix, label in PREFIXES.items() if path.startswith(prefix)), OTHER)


@functools.lru_cache(MAX_TEMPLATES)
def _template(stages: tuple[str, ...]) -> bytes:
    return b", ".join(b"%b;dur=%%.3f" % stage.encode() for stage in stages)


def server_timing(timings: Mapping[str, float]) -> bytes:
    """Return the value of the field ``Server-Timing``: the stages with their times in milliseconds."""
    return _template(tuple(timings)) % tuple([1000 * seconds for seconds in timings.values()])
