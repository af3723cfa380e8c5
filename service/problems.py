"""What can be wrong with a request: an exception for each kind, and the findings that each carries.

Which HTTP status a kind becomes is decided in ``service.http.error_responses`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = [
    "BodyTimeout",
    "Busy",
    "Finding",
    "InvalidRequest",
    "NotAcceptable",
    "RequestProblem",
    "TooLarge",
    "UnreadablePayload",
    "UnsupportedMediaType",
    "counted",
]


RETRY_AFTER_SECONDS = 1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Parameters
    ----------
    pointer : str
        JSON pointer (RFC 6901) to the operand or parameter, such as ``/stride`` or ``/input/0/2``; empty for the whole
        request. The same in every payload format.
    message : str
        The rule, what came and what was needed.
    got, expected : str
        What came and what was needed, in a few words. Never a copy of what the client sent beyond a number or a shape.
    """

    pointer: str
    message: str
    got: str
    expected: str


def counted(number: int, things: str) -> str:
    """Write a number of things; one beyond 18 digits, which only a hostile request has, is not written out."""
    return f"{number} {things}" if number < 10**18 else f"more than 10^18 {things}"


class RequestProblem(Exception):
    """Base of all kinds of problems with a request."""

    def __init__(self, *findings: Finding, headers: dict[str, str] | None = None) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings: Sequence[Finding] = findings
        self.headers = headers or {}

    @classmethod
    def of(cls, pointer: str, message: str, *, got: str, expected: str) -> Self:
        """Make a problem with a single finding."""
        return cls(Finding(pointer, message, got, expected))


class UnreadablePayload(RequestProblem):
    """The body is not what its Content-Type says."""


class InvalidRequest(RequestProblem):
    """The request can be read, but breaks a rule."""


class TooLarge(RequestProblem):
    """The body, what it inflates to, or the predicted work exceeds a limit of this server."""


class UnsupportedMediaType(RequestProblem):
    """The operation does not read this Content-Type or Content-Encoding."""


class NotAcceptable(RequestProblem):
    """No answer format that the operation writes is acceptable to the client."""


class BodyTimeout(RequestProblem):
    """The body did not arrive in time."""


class Busy(RequestProblem):
    """As many requests as the server takes are under way."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(*findings, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
