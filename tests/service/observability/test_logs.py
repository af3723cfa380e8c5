"""The format of the log: text and JSON, of requests and of everything else that is logged."""

from __future__ import annotations

import json
import logging
import logging.config
import re
from collections.abc import Callable, Iterator

import pytest

from service.observability.logs import LogFormat, log_config, request_extra

NAMES = ("convpool", "uvicorn", "uvicorn.error", "root")

Configure = Callable[[str, LogFormat], None]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Configures logging as the command line does, until the test ends."""
    loggers = [logging.getLogger(None if name == "root" else name) for name in NAMES]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield lambda level, log_format: logging.config.dictConfig(log_config(level, log_format))
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_every_line_of_text_has_time_and_level(configure: Configure, capfd: pytest.CaptureFixture[str]) -> None:
    configure("warning", "text")
    logging.getLogger("convpool.access").warning("of a request")
    logging.getLogger("uvicorn.error").error("of the server")
    logging.getLogger("asyncio").error("of a library")
    logging.getLogger("convpool").info("too little")
    lines = capfd.readouterr().err.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    expected = ["WARNING of a request", "ERROR of the server", "ERROR of a library"]
    assert len(lines) == len(expected)
    for line, end in zip(lines, expected, strict=True):
        assert re.fullmatch(f"{stamp} {end}", line)


def test_every_line_of_json_is_an_object(configure: Configure, capfd: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    members = {"request_id": "r-1", "status": 200, "target": '/a"b'}
    logging.getLogger("convpool.access").info("a line of text", extra=request_extra(members))
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("convpool").warning("two\nlines, \udce4 and ü")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("asyncio").exception("of a library")
    request, server, odd, failed = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    for line in (request, server, odd, failed):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert request == {"level": "info", "logger": "convpool.access", **members}
    assert server == {"level": "info", "logger": "uvicorn.error", "message": "Started server process [7]"}
    assert odd["message"] == "two\nlines, \\udce4 and ü"
    assert failed.pop("exception").endswith("ValueError: why")
    assert failed == {"level": "error", "logger": "asyncio", "message": "of a library"}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_trace_is_a_level(configure: Configure, log_format: LogFormat) -> None:
    configure("trace", log_format)
    assert logging.getLogger("uvicorn").level == 5
