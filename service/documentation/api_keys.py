"""What /openapi.json says of API keys where they are required, so that Swagger UI and generated clients send one."""

from __future__ import annotations

from typing import Any

from ..codecs.media_types import JSON
from ..http.api_keys import is_open
from ..http.error_responses import INFERENCE_ROOT, PROBLEM_MEDIA_TYPE

__all__ = ["with_api_keys"]

SCHEME = "ApiKey"
TEXT = """

This server requires an **API key**: enter one under *Authorize*, and add `-H 'Authorization: Bearer KEY'` to the
commands.
"""


def with_api_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document that says which of its operations need a key, and how to send it.

    Parameters
    ----------
    document : dict
        With the schemas of errors among its components.
    """
    components = document["components"]
    scheme = {"type": "http", "scheme": "bearer", "description": "An API key of this server."}
    responses = {
        "Unauthorized": _refusal(PROBLEM_MEDIA_TYPE, "Problem"),
        "InferenceUnauthorized": _refusal(JSON, "InferenceError"),
    }
    return {
        **document,
        "info": {**document["info"], "description": document["info"]["description"] + TEXT},
        "components": {
            **components,
            "responses": {**components["responses"], **responses},
            "securitySchemes": {SCHEME: scheme},
        },
        "security": [{SCHEME: []}],
        "paths": {
            path: {method: _with_key(path, method, operation) for method, operation in operations.items()}
            for path, operations in document["paths"].items()
        },
    }


def _refusal(media_type: str, schema: str) -> dict[str, Any]:
    return {
        "description": "The request has no valid API key.",
        "headers": {"WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}}},
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _with_key(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    if is_open(method.upper(), path):
        return {**operation, "security": []}
    name = "InferenceUnauthorized" if path.startswith(INFERENCE_ROOT) else "Unauthorized"
    refusal = {"401": {"$ref": f"#/components/responses/{name}"}}
    return {**operation, "responses": {**operation["responses"], **refusal}}
