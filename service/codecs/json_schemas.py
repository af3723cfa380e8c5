"""JSON schemas of tensors in JSON."""

from __future__ import annotations

from typing import Any

from .message import DTYPES

__all__ = ["DTYPE_SCHEMA", "SHAPE_SCHEMA", "TENSOR_SCHEMA"]

DTYPE_SCHEMA: dict[str, Any] = {"title": "Dtype", "type": "string", "enum": list(DTYPES)}
SHAPE_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "integer", "format": "int64", "minimum": 0}}
NUMBER_SCHEMA: dict[str, Any] = {"type": "number", "format": "double"}


def _tensor_object(title: str, member: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "description": description,
        "properties": {"dtype": DTYPE_SCHEMA, "shape": SHAPE_SCHEMA, member: schema},
        "required": ["dtype", "shape", member],
        "additionalProperties": False,
    }


TENSOR_SCHEMA: dict[str, Any] = {
    "title": "Tensor",
    "description": "A tensor in one of its forms. A response's tensors have the form of the request's first operand.",
    # not oneOf, for which a client would have to try them all; objects first, which are told apart most easily
    "anyOf": [
        _tensor_object(
            "FlatTensor",
            "data",
            {"type": "array", "items": NUMBER_SCHEMA},
            "A tensor as a flat list of its numbers in C order.",
        ),
        _tensor_object(
            "Base64Tensor",
            "base64",
            {"type": "string", "format": "byte"},
            "A tensor as base64 of its little-endian bytes in C order.",
        ),
        {
            "title": "NestedTensor",
            "type": "array",
            "items": {},
            "description": "A tensor as nested lists of numbers: float64 unless dtype is given next to the operands.",
        },
        {**NUMBER_SCHEMA, "description": "A tensor without axes, such as a scale."},
    ],
}
