"""JSON schemas of tensors in JSON."""

from __future__ import annotations

from typing import Any

from .message import DTYPES

__all__ = ["DTYPE_SCHEMA", "TENSOR_SCHEMA", "tensor_reference"]

DTYPE_SCHEMA: dict[str, Any] = {"type": "string", "enum": list(DTYPES)}


def tensor_reference(description: str = "") -> dict[str, Any]:
    """Return the schema of a tensor, with a description if one is given."""
    return {"$ref": "#/components/schemas/Tensor", **({"description": description} if description else {})}


def _tensor_object(member: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    shape = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    return {
        "type": "object",
        "description": description,
        "properties": {"dtype": DTYPE_SCHEMA, "shape": shape, member: schema},
        "required": ["dtype", "shape", member],
        "additionalProperties": False,
    }


TENSOR_SCHEMA: dict[str, Any] = {
    "description": "A tensor in one of its forms. A response's tensors have the form of the request's first operand.",
    "oneOf": [
        {
            "type": "array",
            "items": {},
            "description": "Nested lists of numbers; operands are float64 unless dtype is given next to them.",
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
}
