"""What each response tells of its request, and what is recorded once it is written."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import orjson
import pytest
from prometheus_client import generate_latest
from starlette.requests import Request

from service.app import create_app
from service.http import observing
from service.http.access_log import log_request
from service.http.body import BODY_IS_HERE, RECEIVED
from service.http.error_responses import error_response
from service.http.handler import TIMINGS
from service.http.observing import ObservingMiddleware
from service.http.responses import SEND_WHOLE, BufferResponse
from service.observability import metrics
from service.observability.metrics import RequestRecord
from service.observability.request_ids import REQUEST_ID
from service.operations.catalogue import OPERATIONS
from service.problems import AddressLimit, BodyTimeout, ClientGone, InvalidRequest, NoMemory
from service.settings import Settings
from tests.clients import ApplicationClient, application_client
from tests.logs import logged
from tests.service.calls import EXAMPLES
from tests.service.metrics import Scrape, samples
from tests.service.payloads import nested_request

MINE = {"X-Request-ID": "trace/me:1"}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RequestRecord]:
    """What is recorded, in order."""
    records: list[RequestRecord] = []
    monkeypatch.setattr(observing, "record", records.append)
    return records


def scope_of(path: str = "/x", method: str = "POST", **more: Any) -> dict[str, Any]:
    defaults = {"query_string": b"", "headers": [], "client": ("192.0.2.1", 5), "state": {}}
    return {"type": "http", "method": method, "path": path, **defaults, **more}


class Answer:
    """An application that answers with some bytes, after stages that took so long."""

    def __init__(self, body: bytes, timings: Mapping[str, float] | None = None) -> None:
        self.body, self.timings = body, timings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.timings is not None:
            scope["state"][TIMINGS] = dict(self.timings)
        await BufferResponse([self.body], "text/plain")(scope, receive, send)


async def sent_by(middleware: ObservingMiddleware, scope: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError

    await middleware(scope, receive, send)
    return messages


# ------------------------------------------------------------------------------------------------------------------ ids


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/nothing", 404),
        ("GET", "/pool/forward", 405),
        ("POST", "/pool/forward", 415),
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/metrics", 200),
        ("GET", "/v2/models/none", 404),
        ("POST", "/v2/models/pool_forward/infer", 400),
    ],
)
def test_every_response_has_the_id_that_its_request_has(
    client: ApplicationClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path, headers=MINE)
    assert response.status_code == status
    assert response.headers.get_list("x-request-id") == ["trace/me:1"]
    if response.headers.get("content-type") == "application/problem+json":
        assert response.json()["request_id"] == "trace/me:1"
    elif path.startswith("/v2"):
        assert set(response.json()) == {"error"}


@pytest.mark.parametrize("sent", ["two words", "x" * 129, "", 'quo"te', "<b>"])
def test_an_id_that_is_not_plain_is_replaced(client: ApplicationClient, sent: str) -> None:
    response = client.get("/nothing", headers={"X-Request-ID": sent})
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", response.headers["x-request-id"])
    assert response.json()["request_id"] == response.headers["x-request-id"]
    if sent:
        assert sent not in response.text


def test_an_unexpected_error_has_its_id_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("service.routes.predict_shapes", fails)
    with logged("convpool"), application_client(create_app(Settings())) as client:
        response = client.post("/conv/shape", json={"shapes": {}}, headers={**MINE, "Content-Type": "application/json"})
    assert (response.status_code, response.json()["request_id"]) == (500, "trace/me:1")
    assert response.headers["x-request-id"] == "trace/me:1"


# ---------------------------------------------------------------------------------------------------------------- times

TIMES = {"receive": 0.0125, "queue": 0.0, "compute": 1.5}
IN_MILLISECONDS = b"receive;dur=12.500, queue;dur=0.000, compute;dur=1500.000"


def test_a_result_says_where_its_time_went() -> None:
    async def fields(timings: Mapping[str, float] | None) -> dict[bytes, bytes]:
        start, *_ = await sent_by(ObservingMiddleware(Answer(b"abc", timings), {}), scope_of())
        return dict(start["headers"])

    assert anyio.run(fields, TIMES)[b"server-timing"] == IN_MILLISECONDS
    assert anyio.run(fields, {"compute": 0.001})[b"server-timing"] == b"compute;dur=1.000"
    assert b"server-timing" not in anyio.run(fields, None)
    assert b"server-timing" not in anyio.run(fields, {})


def test_a_response_that_is_sent_whole_says_so_too(recorded: list[RequestRecord]) -> None:
    whole: list[Any] = []

    def send_whole(status: int, headers: Any, body: bytes) -> bool:
        whole.append((status, dict(headers), body))
        return True

    async def run() -> list[Any]:
        state = {SEND_WHOLE: send_whole, BODY_IS_HERE: True, RECEIVED: 17}
        headers = [(b"x-request-id", b"one"), (b"content-length", b"99")]
        return await sent_by(ObservingMiddleware(Answer(b"abc", TIMES), {}), scope_of(state=state, headers=headers))

    assert anyio.run(run) == []
    ((status, fields, body),) = whole
    assert (status, body) == (200, b"abc")
    assert (fields[b"x-request-id"], fields[b"server-timing"]) == (b"one", IN_MILLISECONDS)
    (record,) = recorded
    assert (record.status, record.sent, record.received) == (200, 3, 17)
    assert set(record.stages) == {"receive", "queue", "compute", "send"}


def test_it_is_recorded_after_the_response_is_written(recorded: list[RequestRecord]) -> None:
    async def run() -> None:
        with logged("convpool.access") as lines:
            await sent_by(ObservingMiddleware(Answer(b"abc", TIMES), {"/x": "named"}), scope_of())
            assert (recorded, lines) == ([], [])
            await asyncio.sleep(0)
            assert (len(recorded), len(lines)) == (1, 1)

    anyio.run(run)
    (record,) = recorded
    assert (record.operation, record.status, record.sent) == ("named", 200, 3)
    assert {stage: record.stages[stage] for stage in TIMES} == TIMES
    assert 0 <= record.stages["send"] <= record.duration


# --------------------------------------------------------------------------------------------------------------- counts


def test_bytes_that_arrived_are_counted_not_those_that_were_announced(
    client: ApplicationClient, recorded: list[RequestRecord]
) -> None:
    async def pieces(*some: bytes) -> AsyncIterator[bytes]:
        for piece in some:
            yield piece

    body = orjson.dumps({"mode": "max", "kernel_size": 1, "input": [[[1.0]]]})
    for content, more in (
        (body, {}),
        (pieces(body[:9], body[9:]), {}),  # without Content-Length
        (body, {"Content-Length": "5000"}),
        (b"", {"Content-Length": "67108865"}),
    ):
        client.post("/pool/forward", content=content, headers={"Content-Type": "application/json", **more})
    assert [(record.status, record.received) for record in recorded] == [
        (200, len(body)),
        (200, len(body)),
        (400, len(body)),
        (413, 0),
    ]


def test_a_client_that_leaves_has_no_status(recorded: list[RequestRecord]) -> None:
    async def says_nothing(*_: Any) -> None:
        pass

    anyio.run(sent_by, ObservingMiddleware(says_nothing, {}), scope_of())
    (record,) = recorded
    assert record.status == 0
    assert "send" not in record.stages


def test_every_path_of_the_service_has_a_name_and_no_other_has(
    client: ApplicationClient, recorded: list[RequestRecord]
) -> None:
    paths = orjson.loads(client.get("/openapi.json").content)["paths"]
    for path, methods in paths.items():
        target = path.format(model="conv_forward", version="1", operation="conv_forward", file="request.json")
        for method in methods:
            recorded.clear()
            client.request(method, target)
            assert recorded[0].operation != "other", path
    recorded.clear()
    for number, start in itertools.product(range(3), ("/made-up", "/conv/", "/pool/forward/", "/metrics/", "/healthy")):
        client.get(f"{start}{number}")
    assert {record.operation for record in recorded} == {"other"}


@pytest.mark.parametrize("call", EXAMPLES, ids=lambda call: call.name)
def test_an_operation_is_called_by_its_name(
    client: ApplicationClient, recorded: list[RequestRecord], call: Any
) -> None:
    client.post(call.path, **nested_request(call.operands, call.parameters))
    client.post(f"/v2/models/{recorded[0].operation}/infer", content=b"{}")
    client.post(f"/v2/models/{recorded[0].operation}/versions/1/infer", content=b"{}")
    name = recorded[0].operation
    assert name in {operation.name for operation in OPERATIONS}
    assert name.split("_")[-1] == call.path.split("/")[-1]
    assert [record.operation for record in recorded] == [name, f"v2:{name}", f"v2:{name}"]
    assert [record.status for record in recorded] == [200, 400, 400]


def test_a_path_prefix_is_no_part_of_the_name(recorded: list[RequestRecord]) -> None:
    scope = scope_of("/below/conv/forward", root_path="/below")
    anyio.run(sent_by, ObservingMiddleware(Answer(b""), {"/conv/forward": "conv_forward"}), scope)
    assert [record.operation for record in recorded] == ["conv_forward"]


def scraped() -> Scrape:
    metrics.refresh_gauges()
    return samples(generate_latest(metrics.REGISTRY).decode())


def test_requests_in_progress_are_those_that_have_not_ended() -> None:
    async def run() -> list[float]:
        ends = asyncio.Event()

        async def waits(*_: Any) -> None:
            await ends.wait()

        middleware = ObservingMiddleware(waits, {})
        others = scraped().sum("convpool_requests_in_progress")
        ObservingMiddleware(waits, {})  # of another application in the same process
        found = []
        requests = [asyncio.ensure_future(sent_by(middleware, scope_of())) for _ in range(3)]
        await asyncio.sleep(0)
        found.append(scraped().sum("convpool_requests_in_progress") - others)
        requests[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await requests[0]
        found.append(scraped().sum("convpool_requests_in_progress") - others)
        ends.set()
        await asyncio.gather(*requests[1:])
        return [*found, scraped().sum("convpool_requests_in_progress") - others]

    assert anyio.run(run) == [3, 2, 0]


# ------------------------------------------------------------------------------------------------------------- refusals


def test_what_a_limit_ends_is_counted_by_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    monkeypatch.setattr("service.http.error_responses.count_rejection", reasons.append)
    with application_client(create_app(Settings(max_json_bytes=50, max_result_bytes=100))) as client:
        headers = {"Content-Type": "application/json"}
        assert client.post("/pool/forward", content=b" " * 51, headers=headers).status_code == 413
        assert client.post("/pool/forward", content=b"{}", headers=headers).status_code == 422
        assert client.get("/nothing").status_code == 404
    assert reasons == ["too_large"]


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (BodyTimeout.of("", "late", got="", expected=""), ["body_timeout"]),
        (NoMemory.busy("", ""), ["no_memory"]),
        (AddressLimit.busy("", ""), ["address_limit"]),
        (ClientGone.busy("", ""), []),
        (InvalidRequest.of("", "wrong", got="", expected=""), []),
    ],
)
def test_a_reason_is_the_name_of_the_problem(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reasons: list[str]
) -> None:
    counted: list[str] = []
    monkeypatch.setattr("service.http.error_responses.count_rejection", counted.append)
    error_response(Request(scope_of()), error)
    assert counted == []  # no client sent it: it is a call of the warm-up
    error_response(Request(scope_of(state={REQUEST_ID: b"one"})), error)
    assert counted == reasons


@pytest.mark.parametrize(("status", "reasons"), [(400, []), (408, ["header_timeout"]), (503, ["too_many_connections"])])
def test_what_is_refused_before_it_is_a_request_is_counted_too(
    monkeypatch: pytest.MonkeyPatch, status: int, reasons: list[str]
) -> None:
    counted: list[str] = []
    records: list[RequestRecord] = []
    monkeypatch.setattr("service.http.access_log.count_rejection", counted.append)
    monkeypatch.setattr("service.http.access_log.record", records.append)
    with logged("convpool.access") as lines:
        log_request(("192.0.2.1", 5), "-", status, 0.0, 12, "A title")
    assert lines[0].getMessage() == f'192.0.2.1:5 "-" {status} 0.0 ms 12 bytes A title'
    assert counted == reasons
    assert [(record.operation, record.status, record.sent) for record in records] == [("malformed", status, 12)]


# ------------------------------------------------------------------------------------------------------------- /metrics


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus 2.42 sends."""


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, */*;q=0.1", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=%0d%0a,text/plain;q=0.5;version=x", None),
        ("image/png", None),
        ("," * 5000, None),
    ],
)
def test_metrics_are_in_the_format_that_accept_prefers(
    client: ApplicationClient, accept: str | None, media_type: str | None
) -> None:
    response = client.get("/metrics", headers={"Accept": accept or ""})
    if media_type is None:
        assert response.status_code in (200, 406)
        assert "%0d" not in response.headers["content-type"]
        return
    assert response.headers["content-type"] == media_type
    assert samples(response.text, media_type).sum("convpool_build_info") >= 1
