"""What a call raises if it does not succeed: an exception for each kind of problem that the service names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

__all__ = [
    "KINDS",
    "BadGateway",
    "BodyTimeout",
    "Busy",
    "CallError",
    "Finding",
    "InvalidRequest",
    "NotAcceptable",
    "Problem",
    "ServerGone",
    "TimedOut",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "UnreadablePayload",
    "UnsupportedMediaType",
    "problem_of",
]


class Finding(NamedTuple):
    """One thing that is wrong with a request.

    Parameters
    ----------
    pointer : str
        JSON pointer to the operand or parameter, such as ``/stride``; empty for the whole request.
    message : str
        What is wrong, what came and what was expected, in a sentence.
    got, expected : str
        Both in a few words.
    """

    pointer: str
    message: str
    got: str
    expected: str


class CallError(Exception):
    """Base of everything that a call raises because of the server or the way to it."""


class ServerGone(CallError):
    """There was no response: the server cannot be reached, or the connection ended before its response was complete."""


class TimedOut(CallError):
    """The server did not respond within the client's ``timeout``."""


class Problem(CallError):
    """The server responded with an error; each kind that it names is a subclass.

    Attributes
    ----------
    status : int
        Of HTTP.
    title : str
        The kind of problem.
    detail : str
        What is wrong, in one text.
    findings : sequence of Finding
        What is wrong, one by one.
    request_id : str
        By which the server's log knows the request; empty if the server has not said.
    retry_after : float or None
        Seconds after which the server asks to be called again, if it has said.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        findings: Sequence[Finding] = (),
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, title, detail, findings, request_id, retry_after)
        self.status = status
        self.title = title
        self.detail = detail
        self.findings = tuple(findings)
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        said = [f"{finding.pointer}: {finding.message}".removeprefix(": ") for finding in self.findings]
        lines = [f"{self.title} ({self.status})", *(said or [self.detail])]
        return "\n  ".join(filter(None, [*lines, self.request_id and f"request id: {self.request_id}"]))


class UnreadablePayload(Problem):
    """The body is not what its Content-Type says."""


class Unauthorized(Problem):
    """The server requires an API key, and this one or none is not valid there."""


class NotAcceptable(Problem):
    """The server writes no format that this call accepts."""


class BodyTimeout(Problem):
    """The operands did not reach the server in time."""


class TooLarge(Problem):
    """The operands, or the predicted work or results, exceed a limit of the server."""


class UnsupportedMediaType(Problem):
    """The server does not read this format."""


class InvalidRequest(Problem):
    """An operand or a parameter breaks a rule; ``findings`` name each."""


class TooManyRequests(Problem):
    """As much of the server is used from this address as one may have."""


class BadGateway(Problem):
    """A proxy got no response from the server behind it, such as one that is being replaced."""


class Busy(Problem):
    """The server cannot take the call now."""


KINDS: dict[int, type[Problem]] = {
    400: UnreadablePayload,
    401: Unauthorized,
    406: NotAcceptable,
    408: BodyTimeout,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: InvalidRequest,
    429: TooManyRequests,
    502: BadGateway,
    503: Busy,
}
"""The kinds by status; any other status is a plain ``Problem``."""


def problem_of(response: httpx.Response) -> Problem:
    """Return the exception that a response with an error is; it has been read.

    What comes from a proxy is no problem document, and is described by its status alone.
    """
    document = _document(response)
    return KINDS.get(response.status_code, Problem)(
        response.status_code,
        str(document.get("title") or response.reason_phrase or "Error"),
        str(document.get("detail") or ""),
        [
            Finding(*(str(found.get(name, "")) for name in Finding._fields))
            for found in document.get("errors", [])
            if isinstance(found, dict)
        ],
        str(document.get("request_id") or response.headers.get("X-Request-ID", "")),
        _retry_after(response.headers.get("Retry-After", "")),
    )


def _document(response: httpx.Response) -> dict[str, Any]:
    if response.headers.get("Content-Type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or as a date."""
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
