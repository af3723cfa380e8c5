"""The log: a line for each request, with the problem that it was answered with, and never a tensor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from service.http.access_log import MAX_TARGET
from service.http.observing import ObservingMiddleware
from tests.clients import ApplicationClient
from tests.logs import logged


@pytest.fixture
def lines() -> Iterator[Any]:
    with logged("convpool.access") as records:
        yield lambda: [(record.levelname, record.getMessage()) for record in records]


@pytest.mark.parametrize(
    ("method", "target", "body", "level", "outcome"),
    [
        ("GET", "/health/live", None, "INFO", "200"),
        ("GET", "/nothing?here=1", None, "WARNING", "404 Not Found"),
        ("POST", "/pool/forward", {"mode": "max"}, "WARNING", "422 Invalid request"),
        (
            "POST",
            "/pool/forward?mode=max",
            {"kernel_size": 1, "input": [[[7.25]]]},
            "INFO",
            "200",
        ),
        ("GET", "/pool/forward", None, "WARNING", "405 Method Not Allowed"),
    ],
)
def test_a_request_is_one_line(
    client: ApplicationClient, lines: Any, method: str, target: str, body: Any, level: str, outcome: str
) -> None:
    content = None if body is None else json.dumps(body).encode()
    headers = {"X-Request-ID": "this-one"} | ({} if body is None else {"Content-Type": "application/json"})
    if method == "GET":
        client.get(target, headers=headers)
    else:
        client.post(target, content=content, headers=headers)
    ((found_level, line),) = lines()
    assert found_level == level
    path, mark, _ = target.partition("?")
    shown = re.escape(path + ("?..." if mark else ""))
    status, _, problem = outcome.partition(" ")
    end = f" {problem}" if problem else ""
    assert re.fullmatch(rf'\S+:\d+ "{method} {shown}" {status} \d+\.\d ms \d+ bytes this-one{end}', line), line
    assert "7.25" not in line


def test_the_values_of_a_query_are_not_logged(client: ApplicationClient, lines: Any) -> None:
    client.post("/pool/forward?mode=max&input=[[[987654321]]]", content=b"{}")
    ((_, line),) = lines()
    assert '"POST /pool/forward?..."' in line
    assert "987654321" not in line


def test_head_sends_no_bytes(lines: Any) -> None:
    async def responds(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"left out by the server"})

    async def send(_: Any) -> None:
        pass

    scope: dict[str, Any] = {
        "type": "http",
        "method": "HEAD",
        "path": "/docs",
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    anyio.run(ObservingMiddleware(responds, {}), scope, None, send)  # type: ignore[arg-type]
    ((_, line),) = lines()
    assert " 0 bytes " in line


def test_a_long_target_is_cut_and_control_characters_are_written_out(client: ApplicationClient, lines: Any) -> None:
    client.get("/" + "x" * 10_000)
    client.get("/%0a%1b[31m")
    (_, long), (_, escaped) = lines()
    assert len(long) < MAX_TARGET + 100
    assert escaped.isprintable()


def test_an_unexpected_error_is_logged_as_the_500_that_is_sent(lines: Any) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/\n",
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    with pytest.raises(RuntimeError):
        anyio.run(ObservingMiddleware(fails, {}), scope, None, None)  # type: ignore[arg-type]
    ((level, line),) = lines()
    assert level == "ERROR"
    assert line.startswith('-:0 "GET /\\n" 500 ')
    assert line.endswith("Internal error")
