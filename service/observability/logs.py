"""The format of the log: lines for people, or a JSON object a line for programs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

__all__ = ["JsonFormatter", "LineFormatter", "LogFormat", "log_config", "request_extra"]

LogFormat = Literal["text", "json"]

MEMBERS = "convpool_members"
"""Attribute of a record that holds what JSON says of a request, instead of a message."""


def request_extra(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument ``extra`` that hands a request's members to the log."""
    return {MEMBERS: members}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class LineFormatter(logging.Formatter):
    """Formats a record as a line with its time in ISO 8601, UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return the record's time."""
        return _time(record)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object's text."""
        line = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        members = getattr(record, MEMBERS, None)
        line |= {"message": record.getMessage()} if members is None else members
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps({name: _valid(value) for name, value in line.items()}, default=str).decode()


def _valid(value: Any) -> Any:
    """Return text that is valid Unicode, as a message with a path of the file system need not be."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


FORMATTERS: dict[LogFormat, type[logging.Formatter]] = {"text": LineFormatter, "json": JsonFormatter}


def log_config(level: str, log_format: LogFormat = "text") -> dict[str, Any]:
    """Return the configuration of all loggers, for ``logging.config.dictConfig``.

    Parameters
    ----------
    level : str
        Least severe level that is logged.
    log_format : str, optional
        ``text`` or ``json``.
    """
    ours = {"handlers": ["stderr"], "level": level.upper() if level != "trace" else 5, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"{__name__}.{FORMATTERS[log_format].__name__}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {name: dict(ours) for name in ("convpool", "uvicorn")},
        "root": {"handlers": ["stderr"], "level": "WARNING"},  # of libraries
    }
