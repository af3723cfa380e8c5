"""What can be wrong with a request: an exception for each kind, and the findings that each carries.

Which HTTP status a kind becomes is decided in ``service.http.error_responses`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = [
    "AddressLimit",
    "BodyTimeout",
    "Busy",
    "ClientGone",
    "ComputeTimeout",
    "Finding",
    "InvalidRequest",
    "NoMemory",
    "NoPlace",
    "NotAcceptable",
    "QueueTimeout",
    "RequestProblem",
    "ShuttingDown",
    "TooLarge",
    "Unauthorized",
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
        What is wrong, what came and what was expected.
    got, expected : str
        Both in a few words. Never a copy of what the client sent beyond a number or a shape.
    """

    pointer: str
    message: str
    got: str
    expected: str

    @classmethod
    def of(cls, pointer: str, fault: str, *, got: str, expected: str, hint: str = "") -> Self:
        """Make a finding whose message says what is wrong, what came, what was expected and, if known, what to do."""
        message = f"{fault}; got {got}, expected {expected}"
        return cls(pointer, f"{message}; {hint}" if hint else message, got, expected)


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
    def of(cls, pointer: str, fault: str, *, got: str, expected: str, hint: str = "") -> Self:
        """Make a problem with a single finding, whose message is composed as ``Finding.of`` does."""
        return cls(Finding.of(pointer, fault, got=got, expected=expected, hint=hint))


class UnreadablePayload(RequestProblem):
    """The body is not what its Content-Type says."""


class InvalidRequest(RequestProblem):
    """The request can be read, but breaks a rule."""


class TooLarge(RequestProblem):
    """The body, what it inflates to, or the predicted work exceeds a limit of this server."""


class UnsupportedMediaType(RequestProblem):
    """The operation does not read this Content-Type or Content-Encoding."""


class NotAcceptable(RequestProblem):
    """The client accepts no response format that the operation writes."""


class BodyTimeout(RequestProblem):
    """The body did not arrive in time."""


class Unauthorized(RequestProblem):
    """The request has no valid API key, and this server requires one."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(*findings, headers={"WWW-Authenticate": "Bearer"})


class Busy(RequestProblem):
    """The server cannot take the request now; each reason is a subclass, whose name the metrics use."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(*findings, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})

    @classmethod
    def busy(cls, got: str, expected: str) -> Self:
        """Make a problem that says what the server has, and what it would need."""
        return cls.of("", "the server is busy", got=got, expected=expected, hint="try again later")


class NoPlace(Busy):
    """As many requests as the server takes are in progress, and none ended in time."""


class NoMemory(Busy):
    """The requests in progress use the memory that this one needs, and none ended in time.

    Attributes
    ----------
    needed : int
        Bytes that it needs in addition to what it has.
    """

    needed = 0


class QueueTimeout(Busy):
    """Others were computed all the time that the request could wait."""


class ComputeTimeout(Busy):
    """The computation took longer than the server allows."""


class ClientGone(Busy):
    """The client closed the connection, so the computation was stopped."""


class ShuttingDown(Busy):
    """The server shuts down, and the time for requests in progress is over."""


class AddressLimit(Busy):
    """One address uses as much as a single one may."""
