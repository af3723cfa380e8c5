"""The parameters of a request: those of its query string and those of its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from ..codecs.names import pointer_to
from ..codecs.text import NOT_GIVEN, parse_text_parameters
from ..problems import Finding, InvalidRequest

__all__ = ["merged", "query_parameters"]


def query_parameters(request: Request) -> dict[str, Any]:
    """Return the parameters in a request's query string."""
    return parse_text_parameters(request.query_params.multi_items()) if request.scope["query_string"] else {}


def merged(query: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the query string and of the body together.

    Raises
    ------
    InvalidRequest
        If one is given in both places.
    """
    payload = {name: value for name, value in payload.items() if value is not NOT_GIVEN or name not in query}
    twice = [name for name in query if name in payload]
    if twice:
        fault = "a parameter is given both in the query string and in the body"
        raise InvalidRequest(
            *(Finding.of(pointer_to(name), fault, got="two values", expected="one value") for name in twice)
        )
    return {**query, **payload}
