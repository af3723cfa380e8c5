"""The log of requests: one line for each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from ..observability.logs import request_extra
from ..observability.metrics import RequestRecord, count_rejection, record

__all__ = ["AccessLine", "is_logged", "log_request", "note_problem", "printable_target"]

MAX_TARGET = 200
"""Maximum length of a path in the log, in characters."""

MALFORMED = "malformed"
"""In the metrics, the operation of what is refused before it is a request."""

REASONS = {HTTPStatus.REQUEST_TIMEOUT: "header_timeout", HTTPStatus.SERVICE_UNAVAILABLE: "too_many_connections"}
"""Which limits end what the application never sees, by the status."""

logger = logging.getLogger("convpool.access")


class AccessLine(NamedTuple):
    """What the log says of one request.

    Parameters
    ----------
    client : tuple of str and int, optional
        Address and port.
    method, target : str
        Printable; the target as ``printable_target`` returns it.
    status : int
        Status of the response; 0 if none was sent.
    duration : float
        Seconds.
    sent, received : int
        Bytes of the bodies.
    problem : str
        Title of the problem, or empty.
    request_id, operation : str
    stages : mapping of str to float
        Seconds of each stage.
    trace_id : str
        Of the request's trace, if it has one.
    """

    client: tuple[str, int] | None
    method: str
    target: str
    status: int
    duration: float
    sent: int
    received: int
    problem: str
    request_id: str
    operation: str
    stages: Mapping[str, float]
    trace_id: str

    def log(self) -> None:
        """Write the line."""
        host, port = self.client or ("-", 0)
        level = _level(self.status)
        request = f"{self.method} {self.target}".rstrip()
        identified = f" {self.request_id}" if self.request_id else ""
        end = f" {self.problem}" if self.problem else ""
        values = (host, port, request, self.status or "-", 1000 * self.duration, self.sent, identified, end)
        logger.log(level, '%s:%s "%s" %s %.1f ms %d bytes%s%s', *values, extra=request_extra(self._members()))

    def _members(self) -> dict[str, Any]:
        host, port = self.client or ("", 0)
        members = {
            "request_id": self.request_id,
            "client": f"{host}:{port}" if host else "",
            "method": self.method,
            "target": self.target,
            "operation": self.operation,
            "status": self.status or None,
            "duration_ms": round(1000 * self.duration, 3),
            **{f"{stage}_ms": round(1000 * seconds, 3) for stage, seconds in self.stages.items()},
            "received_bytes": self.received,
            "sent_bytes": self.sent,
            "problem": self.problem,
            "trace_id": self.trace_id,
        }
        return {name: value for name, value in members.items() if value != ""}


def is_logged(status: int) -> bool:
    """Return whether a request with a response of this status is logged at all."""
    return logger.isEnabledFor(_level(status))


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


def log_request(
    client: tuple[str, int] | None, request: str, status: int, milliseconds: float, sent: int, problem: str
) -> None:
    """Log and count what is refused before it is a request, so that the application never sees it.

    Parameters
    ----------
    client : tuple of str and int, optional
        Address and port.
    request : str
        "-": there is neither a method nor a target.
    status : int
        Status of the response.
    milliseconds : float
    sent : int
        Bytes of the response's body.
    problem : str
        Title of the problem.
    """
    if status in REASONS:
        count_rejection(REASONS[HTTPStatus(status)])
    record(RequestRecord(MALFORMED, status, 0, sent, milliseconds / 1000, {}))
    if is_logged(status):
        AccessLine(client, request, "", status, milliseconds / 1000, sent, 0, problem, "", MALFORMED, {}, "").log()


def printable_target(path: bytes, has_query: bool) -> str:
    """Return a path as it was sent, percent-encoded, and cut; "?..." stands for a query.

    A query is never logged: one may hold a tensor by mistake.
    """
    text = path[:MAX_TARGET].decode("ascii", "backslashreplace")
    text = text if text.isprintable() else ascii(text)[1:-1]
    return f"{text}?..." if has_query else text


def _level(status: int) -> int:
    if status in range(1, HTTPStatus.BAD_REQUEST):
        return logging.INFO
    return logging.ERROR if status == HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING
