"""JSON schemas that do not derive from an op: tensors, problems, and what the service says of itself."""

from __future__ import annotations

from typing import Any

from service.codecs.message import DTYPES

__all__ = [
    "BINARY",
    "COMPONENTS",
    "DTYPE_SCHEMA",
    "HEALTH_SCHEMA",
    "OPERATIONS_SCHEMA",
    "REFERENCE_TO_TENSOR",
]

BINARY = {"type": "string", "format": "binary"}
REFERENCE_TO_TENSOR = {"$ref": "#/components/schemas/Tensor"}

DTYPE_SCHEMA = {"type": "string", "enum": list(DTYPES)}


def _tensor_object(member: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    shape = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    return {
        "type": "object",
        "description": description,
        "properties": {"dtype": DTYPE_SCHEMA, "shape": shape, member: schema},
        "required": ["dtype", "shape", member],
        "additionalProperties": False,
    }


COMPONENTS: dict[str, Any] = {
    "Tensor": {
        "description": "A tensor in one of its forms. An answer's tensors have the form of the request's "
        "first operand.",
        "oneOf": [
            {
                "type": "array",
                "items": {},
                "description": "Nested lists of numbers; operands compute in float64 unless dtype stands beside them.",
            },
            {"type": "number", "description": "A tensor without axes, such as a scale."},
            _tensor_object(
                "data", {"type": "array", "items": {"type": "number"}}, "A flat list of the numbers in C order."
            ),
            _tensor_object(
                "base64",
                {"type": "string", "format": "byte"},
                "Base64 of the little-endian bytes in C order.",
            ),
        ],
    },
    "Problem": {
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
    },
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
