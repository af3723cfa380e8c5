"""JSON schemas that derive from neither an op nor a codec: problems, and what the service says of itself."""

from __future__ import annotations

from typing import Any

__all__ = ["HEALTH_SCHEMA", "OPERATIONS_SCHEMA", "PROBLEM_SCHEMA"]

PROBLEM_SCHEMA: dict[str, Any] = {
    "description": "What is wrong with a request (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("pointer", "message", "got", "expected")},
                "required": ["pointer", "message", "got", "expected"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "errors"],
}

STRINGS = {"type": "array", "items": {"type": "string"}}
OPERATIONS_SCHEMA = {
    "type": "object",
    "properties": {
        "operations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "path": {"type": "string"},
                    "operands": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": {"type": "string"},
                                "required": {"type": "boolean"},
                                "description": {"type": "string"},
                                "dtypes": STRINGS,
                            },
                            "required": ["name", "required", "description", "dtypes"],
                        },
                    },
                    "parameters": {"type": "object", "description": "JSON schema of the parameters."},
                    "framework_defaults": {
                        "type": "object",
                        "description": "For each framework the defaults that are not those of the schema.",
                        "additionalProperties": {"type": "object"},
                    },
                    "results": STRINGS,
                    "content_types": STRINGS,
                },
                "required": [
                    "name",
                    "path",
                    "operands",
                    "parameters",
                    "framework_defaults",
                    "results",
                    "content_types",
                ],
            },
        }
    },
    "required": ["operations"],
}
HEALTH_SCHEMA = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
