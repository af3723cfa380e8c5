"""The log: one line for each request, and the server's own lines, all with time and level."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessLogMiddleware", "LineFormatter", "log_config", "log_request", "note_problem"]

MAX_TARGET = 200
"""Maximum length of a path in the log, in characters."""

logger = logging.getLogger("convpool.access")


class LineFormatter(logging.Formatter):
    """Formats a record with its time in ISO 8601, UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return the record's time."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def log_config(level: str) -> dict[str, Any]:
    """Return the configuration of all loggers, for ``logging.config.dictConfig``.

    Parameters
    ----------
    level : str
        Least severe level that is logged.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"{__name__}.LineFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level.upper() if level != "trace" else 5, "propagate": False}
            for name in ("convpool", "uvicorn")
        },
    }


def note_problem(scope: Any, title: str, status: int = 0) -> None:
    """Let a request's line in the log name the problem in its response.

    Parameters
    ----------
    scope : ASGI scope
    title : str
    status : int
        Where the response does not go through the application.
    """
    scope.setdefault("state", {}).update(problem=title, status=status)


class AccessLogMiddleware:
    """Logs each request once its response is sent: client, method, target, status, duration, bytes and problem.

    No tensor is ever logged: bodies are not, nor are the values of a query, which may hold one by mistake. A path is
    logged as it was sent, percent-encoded, and cut.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        started = time.perf_counter()
        status, sent = 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            if scope["method"] != "HEAD":  # the server leaves the body out
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            if not status:  # the server around the middlewares responds
                note_problem(scope, "Internal error", 500)
            raise
        finally:
            _log(scope, status, 1000 * (time.perf_counter() - started), sent)


def _log(scope: Scope, status: int, milliseconds: float, sent: int) -> None:
    target = scope.get("raw_path") or scope["path"].encode("ascii", "backslashreplace")
    text = target[:MAX_TARGET].decode("ascii", "backslashreplace")
    text = text if text.isprintable() else ascii(text)[1:-1]
    text += "?..." if scope["query_string"] else ""
    status, sent = status or scope["state"].get("status", 0), sent or scope["state"].get("sent", 0)
    problem = scope["state"].get("problem", "" if status else "No response")
    log_request(scope.get("client"), f"{scope['method']} {text}", status, milliseconds, sent, problem)


def log_request(
    client: tuple[str, int] | None, request: str, status: int, milliseconds: float, sent: int, problem: str
) -> None:
    """Log the line of one request.

    Parameters
    ----------
    client : tuple of str and int, optional
        Address and port.
    request : str
        Method and target, printable; "-" where there is none.
    status : int
        Status of the response; 0 if none was sent.
    milliseconds : float
    sent : int
        Bytes of the response's body.
    problem : str
        Title of the problem, or empty.
    """
    host, port = client or ("-", 0)
    end = f" {problem}" if problem else ""
    values = (host, port, request, status or "-", milliseconds, sent, end)
    logger.log(_level(status), '%s:%s "%s" %s %.1f ms %d bytes%s', *values)


def _level(status: int) -> int:
    if status in range(1, 400):
        return logging.INFO
    return logging.ERROR if status == 500 else logging.WARNING
