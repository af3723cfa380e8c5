"""The log: a line for each request, with the problem that it was answered with, and never a tensor."""

from __future__ import annotations

import json
import logging
import logging.config
import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from service.http.access_log import MAX_TARGET, AccessLogMiddleware, log_config
from tests.clients import ApplicationClient
from tests.logs import logged


@pytest.fixture
def lines() -> Iterator[Any]:
    with logged("convpool.access") as records:
        yield lambda: [(record.levelname, record.getMessage()) for record in records]


@pytest.mark.parametrize(
    ("method", "target", "body", "level", "rest"),
    [
        ("GET", "/health/live", None, "INFO", r"200 \d+\.\d ms \d+ bytes"),
        ("GET", "/nothing?here=1", None, "WARNING", r"404 \d+\.\d ms \d+ bytes Not Found"),
        ("POST", "/pool/forward", {"mode": "max"}, "WARNING", r"422 \d+\.\d ms \d+ bytes Invalid request"),
        (
            "POST",
            "/pool/forward?mode=max",
            {"kernel_size": 1, "input": [[[7.25]]]},
            "INFO",
            r"200 \d+\.\d ms \d+ bytes",
        ),
        ("GET", "/pool/forward", None, "WARNING", r"405 \d+\.\d ms \d+ bytes Method Not Allowed"),
    ],
)
def test_a_request_is_one_line(
    client: ApplicationClient, lines: Any, method: str, target: str, body: Any, level: str, rest: str
) -> None:
    content = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    if method == "GET":
        client.get(target)
    else:
        client.post(target, content=content, headers=headers)
    ((found_level, line),) = lines()
    assert found_level == level
    path, mark, _ = target.partition("?")
    shown = re.escape(path + ("?..." if mark else ""))
    assert re.fullmatch(rf'\S+:\d+ "{method} {shown}" {rest}', line), line
    assert "7.25" not in line


def test_the_values_of_a_query_are_not_logged(client: ApplicationClient, lines: Any) -> None:
    client.post("/pool/forward?mode=max&input=[[[987654321]]]", content=b"{}")
    ((_, line),) = lines()
    assert '"POST /pool/forward?..."' in line
    assert "987654321" not in line


def test_head_sends_no_bytes(lines: Any) -> None:
    async def responds(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"left out by the server"})

    async def send(_: Any) -> None:
        pass

    scope = {"type": "http", "method": "HEAD", "path": "/docs", "query_string": b"", "client": None}
    anyio.run(AccessLogMiddleware(responds), scope, None, send)  # type: ignore[arg-type]
    ((_, line),) = lines()
    assert line.endswith(" 0 bytes")


def test_a_long_target_is_cut_and_control_characters_are_written_out(client: ApplicationClient, lines: Any) -> None:
    client.get("/" + "x" * 10_000)
    client.get("/%0a%1b[31m")
    (_, long), (_, escaped) = lines()
    assert len(long) < MAX_TARGET + 100
    assert escaped.isprintable()


def test_an_unexpected_error_is_logged_as_the_500_that_is_sent(lines: Any) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError

    scope = {"type": "http", "method": "GET", "path": "/\n", "query_string": b"", "client": None}
    with pytest.raises(RuntimeError):
        anyio.run(AccessLogMiddleware(fails), scope, None, None)  # type: ignore[arg-type]
    ((level, line),) = lines()
    assert level == "ERROR"
    assert line.startswith('-:0 "GET /\\n" 500 ')
    assert line.endswith("Internal error")


def test_every_line_has_time_and_level(capfd: pytest.CaptureFixture[str]) -> None:
    before = {name: list(logging.getLogger(name).handlers) for name in ("convpool", "uvicorn")}
    try:
        logging.config.dictConfig(log_config("warning"))
        logging.getLogger("convpool.access").warning("of a request")
        logging.getLogger("uvicorn.error").error("of the server")
        logging.getLogger("convpool").info("too little")
    finally:
        for name, handlers in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate, logger.level = handlers, True, logging.NOTSET
    first, second = capfd.readouterr().err.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    assert re.fullmatch(stamp + " WARNING of a request", first)
    assert re.fullmatch(stamp + " ERROR of the server", second)
