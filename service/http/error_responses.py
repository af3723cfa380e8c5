"""Errors: the one table of statuses, and the handlers.

They are application/problem+json (RFC 9457), but below /v2 the Open Inference Protocol's ``{"error": "..."}``.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cnn_core import ConvpoolError
from cnn_core.errors import MissingAxisError

from ..codecs.media_types import JSON
from ..codecs.names import pointer_to
from ..observability.metrics import count_rejection
from ..observability.request_ids import REQUEST_ID
from ..operations.catalogue import CATALOGUE
from ..problems import (
    AddressLimit,
    BodyTimeout,
    Busy,
    ClientGone,
    Finding,
    InvalidRequest,
    NotAcceptable,
    RequestProblem,
    TooLarge,
    Unauthorized,
    UnreadablePayload,
    UnsupportedMediaType,
)
from .access_log import note_problem
from .paths import route_path

__all__ = [
    "KINDS",
    "PROBLEM_MEDIA_TYPE",
    "Kind",
    "error_response",
    "inference_error_response",
    "install_error_handlers",
    "problem_content",
    "problem_document",
    "problem_response",
]

PROBLEM_MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem: the status, and the title, whose words also make the type's URN."""

    status: int
    title: str

    @property
    def type(self) -> str:
        """URN that identifies the kind."""
        return f"urn:convpool:problem:{self.title.lower().replace(' ', '-')}"


KINDS: dict[type[Exception], Kind] = {
    UnreadablePayload: Kind(400, "Unreadable payload"),
    Unauthorized: Kind(401, "Unauthorized"),
    NotAcceptable: Kind(406, "Not acceptable"),
    BodyTimeout: Kind(408, "Body timeout"),
    TooLarge: Kind(413, "Too large"),
    UnsupportedMediaType: Kind(415, "Unsupported media type"),
    InvalidRequest: Kind(422, "Invalid request"),
    ConvpoolError: Kind(422, "Invalid request"),
    AddressLimit: Kind(429, "Too many requests"),
    Busy: Kind(503, "Busy"),
}
MAX_PATH = 100
"""Maximum number of characters of an unknown path that are compared with the known paths."""

OF_A_LIMIT = (408, 413, 429, 503)
"""Statuses of requests that a limit of this server ended; the metrics count them by the name of the exception."""

INTERNAL = Kind(500, "Internal error")

INFERENCE_ROOT = "/v2"
INFERENCE_PATHS = (
    "There is nothing at this path. GET /v2 describes the server, GET /v2/models/{name} a model, and POST "
    "/v2/models/{name}/infer runs it; POST /v2/repository/index lists all models."
)

logger = logging.getLogger("convpool")


def problem_document(kind: Kind, findings: Sequence[Finding], detail: str = "", request_id: str = "") -> dict[str, Any]:
    """Return a problem document; its detail joins the findings' messages if nothing else is said."""
    document = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail or "; ".join(finding.message for finding in findings),
        "errors": [asdict(finding) for finding in findings],
    }
    return {**document, "request_id": request_id} if request_id else document


def problem_content(kind: Kind, findings: Sequence[Finding], detail: str = "", request_id: str = "") -> bytes:
    """Return the text of a problem document, which ends with a newline."""
    return orjson.dumps(problem_document(kind, findings, detail, request_id), option=orjson.OPT_APPEND_NEWLINE)


def problem_response(
    kind: Kind,
    findings: Sequence[Finding],
    detail: str = "",
    headers: Mapping[str, str] | None = None,
    request_id: str = "",
) -> Response:
    """Return a response that holds a problem document."""
    return Response(problem_content(kind, findings, detail, request_id), kind.status, headers, PROBLEM_MEDIA_TYPE)


def inference_error_response(
    kind: Kind, findings: Sequence[Finding], detail: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response that holds an error of the Open Inference Protocol, which has no 422."""
    status = HTTPStatus.BAD_REQUEST if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY else kind.status
    messages = (": ".join(filter(None, (finding.pointer, finding.message))) for finding in findings)
    # KServe's client compares the Content-Type for equality: nothing may follow it
    return Response(orjson.dumps({"error": detail or "; ".join(messages)}), status, headers, JSON)


def error_response(request: Request, error: Exception) -> Response:
    """Return the response to a request that an error ended, and let the log name the problem.

    It is a problem document, but below /v2 an error of the Open Inference Protocol.
    """

    def respond(
        kind: Kind, findings: Sequence[Finding], detail: str = "", headers: Mapping[str, str] | None = None
    ) -> Response:
        note_problem(request.scope, kind.title)
        request_id = request.scope.get("state", {}).get(REQUEST_ID, b"").decode()  # none for what no client sent
        if request_id and kind.status in OF_A_LIMIT and not isinstance(error, ClientGone):
            count_rejection(_reason(error))
        if _is_inference(request):
            return inference_error_response(kind, findings, detail, headers)
        return problem_response(kind, findings, detail, headers, request_id)

    if isinstance(error, MemoryError):
        fault = "not enough free memory for this request right now"
        got, expected = "a request that needs more memory than is free", "smaller tensors, or another try later"
        error = Busy.of("", fault, got=got, expected=expected)
    if isinstance(error, RequestProblem):
        return respond(_kind(error), error.findings, headers=error.headers)
    if isinstance(error, ConvpoolError):
        if isinstance(error, MissingAxisError):
            error.add_hint("a tensor sent as dtype, shape and flat data keeps its axes of size 1")
        finding = Finding(pointer_to(error.subject), error.message, error.got, error.expected)
        return respond(_kind(error), [finding])
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return respond(Kind(status, status.phrase), [], _http_detail(request, error, status), error.headers)
    logger.error("unexpected error", exc_info=error)
    return respond(INTERNAL, [], "The server failed; its log says why.")


def _http_detail(request: Request, error: HTTPException, status: HTTPStatus) -> str:
    if error.detail != status.phrase:
        return error.detail
    if status == HTTPStatus.NOT_FOUND and _is_inference(request):
        return INFERENCE_PATHS
    if status == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at this path.{_paths_meant(request.url.path)} GET /ops lists the operations, and "
        return detail + "/docs describes every call."
    if error.headers and "Allow" in error.headers:
        return f"This path is called with {error.headers['Allow']}."
    return status.description


def install_error_handlers(app: FastAPI) -> None:
    """Make an application respond to every error with a problem document."""

    async def on_error(request: Request, error: Exception) -> Response:
        return error_response(request, error)

    for kind in (RequestProblem, ConvpoolError, HTTPException, MemoryError, Exception):
        app.add_exception_handler(kind, on_error)


def _reason(error: Exception) -> str:
    """Return the name of an exception's class as metrics spell it: BodyTimeout is body_timeout."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def _is_inference(request: Request) -> bool:
    """Return whether a request is one of the Open Inference Protocol."""
    path = route_path(request.scope)
    return path == INFERENCE_ROOT or path.startswith(f"{INFERENCE_ROOT}/")


def _paths_meant(path: str) -> str:
    """Return a sentence with the paths that a nonexistent one most likely means; empty if none is close."""
    paths = {
        entry.name: [*(operation.path for operation in entry.operations), f"/{entry.name}/shape"] for entry in CATALOGUE
    }
    of_layer = paths.get(path[:MAX_PATH].strip("/").partition("/")[0], [])
    close = difflib.get_close_matches(path[:MAX_PATH], [each for some in paths.values() for each in some], n=1)
    meant = of_layer or close
    return f" {'Paths of this layer' if of_layer else 'The closest path is'}: {', '.join(meant)}." if meant else ""


def _kind(error: Exception) -> Kind:
    return next(kind for problem, kind in KINDS.items() if isinstance(error, problem))
