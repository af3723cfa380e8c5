"""Traces: what each span says, and when there are any."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.app import create_app
from service.http.handler import TIMINGS
from service.http.observing import ObservingMiddleware
from service.observability.tracing import RequestTracer, request_tracer
from service.settings import Settings
from tests.clients import ApplicationClient, application_client
from tests.logs import logged

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> RequestTracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return RequestTracer(provider)


@pytest.fixture
def traced(tracer: RequestTracer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApplicationClient]:
    monkeypatch.setattr("service.app.request_tracer", lambda: tracer)
    with application_client(create_app(Settings())) as client:
        yield client


def server_spans(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]


def test_a_span_continues_the_trace_of_its_client(traced: ApplicationClient, exporter: InMemorySpanExporter) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "one", "User-Agent": "tester/1"}
    with logged("convpool.access") as lines:
        response = traced.post(
            "/pool/forward?mode=max&kernel_size=987", json={"kernel_size": 1, "input": [[[7.25]]]}, headers=headers
        )
    (span,) = server_spans(exporter)
    assert format(span.context.trace_id, "032x") == TRACE
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == PARENT
    assert span.name == "POST /pool/forward"
    assert span.attributes is not None
    expected = {
        "http.request.method": "POST",
        "http.route": "/pool/forward",
        "http.response.status_code": response.status_code,
        "http.response.body.size": len(response.content),
        "url.path": "/pool/forward",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "user_agent.original": "tester/1",
        "convpool.operation": "pool_forward",
        "convpool.request_id": "one",
    }
    assert {name: span.attributes[name] for name in expected} == expected
    assert not any("987" in str(value) or "7.25" in str(value) for value in span.attributes.values())
    assert lines[0].convpool_members["trace_id"] == TRACE  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "target", "name", "route"),
    [
        (
            "GET",
            "/examples/conv_forward/request.json",
            "GET /examples/{operation}/{file}",
            "/examples/{operation}/{file}",
        ),
        ("GET", "/v2/models/conv_forward/ready", "GET /v2/models/{model}/ready", "/v2/models/{model}/ready"),
        ("GET", "/made/up/7251", "GET", None),
        ("MADEUP", "/health/live", "HTTP", None),
    ],
)
def test_names_of_spans_are_few(
    traced: ApplicationClient, exporter: InMemorySpanExporter, method: str, target: str, name: str, route: str | None
) -> None:
    traced.request(method, target)
    (span,) = server_spans(exporter)
    assert span.attributes is not None
    assert (span.name, span.attributes.get("http.route")) == (name, route) or method == "MADEUP"
    assert span.name.startswith(name)
    assert span.attributes["http.request.method"] == (method if method == "GET" else "_OTHER")


def test_a_malformed_traceparent_starts_another_trace(
    traced: ApplicationClient, exporter: InMemorySpanExporter
) -> None:
    for value in ("00-zz-1-01", "x" * 5000, f"00-{TRACE}-{'0' * 16}-01"):
        assert traced.get("/health/live", headers={"traceparent": value}).status_code == 200
    spans = server_spans(exporter)
    assert len(spans) == 3
    assert all(span.parent is None for span in spans)


def request(status: int, timings: dict[str, float], tracer: RequestTracer) -> None:
    async def app(scope: Any, _: Any, send: Any) -> None:
        scope["state"][TIMINGS] = timings
        if status:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"abc"})

    async def send(_: Any) -> None:
        pass

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "query_string": b"",
        "headers": [],
        "client": None,
    }

    async def run() -> None:
        await ObservingMiddleware(app, {"/x": "named"}, tracer)(scope, None, send)  # type: ignore[arg-type]

    anyio.run(run)


def test_stages_are_spans_one_after_the_other(tracer: RequestTracer, exporter: InMemorySpanExporter) -> None:
    before = time.time_ns()
    request(200, {"receive": 0.25, "queue": 0.5, "compute": 0.125}, tracer)
    (server,) = server_spans(exporter)
    stages = {span.name: span for span in exporter.get_finished_spans() if span is not server}
    assert list(stages) == ["receive", "queue", "compute", "send"]
    assert server.start_time is not None
    assert server.start_time >= before - 10**9
    start = server.start_time
    for name, nanoseconds in (("receive", 250_000_000), ("queue", 500_000_000), ("compute", 125_000_000)):
        assert stages[name].start_time == start
        assert stages[name].end_time == start + nanoseconds
        start += nanoseconds
    assert stages["send"].end_time == server.end_time
    for span in stages.values():
        assert span.parent is not None
        assert span.parent.span_id == server.context.span_id


@pytest.mark.parametrize(
    ("status", "is_error", "error_type"),
    [(200, False, None), (422, False, None), (503, True, "503"), (0, True, "no_response")],
)
def test_what_the_server_did_not_do_is_an_error(
    tracer: RequestTracer, exporter: InMemorySpanExporter, status: int, is_error: bool, error_type: str | None
) -> None:
    request(status, {}, tracer)
    (span,) = server_spans(exporter)
    assert span.attributes is not None
    assert (span.status.status_code is StatusCode.ERROR) == is_error
    assert span.attributes.get("error.type") == error_type


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
    ],
)
def test_there_are_no_traces_unless_they_are_asked_for(environment: dict[str, str]) -> None:
    with logged("convpool") as records:
        assert request_tracer(environment) is None
    assert not records


def test_the_environment_asks_for_traces() -> None:
    found = request_tracer({"OTEL_TRACES_EXPORTER": "console"})
    assert found is not None
    assert found._provider.resource.attributes["service.name"] == "convpool"
    found.close()


def test_an_exporter_that_is_not_installed_is_said_to_be() -> None:
    with logged("convpool") as records:
        assert request_tracer({"OTEL_TRACES_EXPORTER": "made_up"}) is None
    assert "convpool[telemetry]" in records[0].getMessage()
