"""JSON schemas that derive from neither an op nor a codec: problems, and what the service says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel

from ..operations.shapes import DTYPE_SCHEMA
from ..problems import Finding

__all__ = ["HEALTH_SCHEMA", "OBSERVED_HEADERS", "OPERATIONS_SCHEMA", "PROBLEM_SCHEMA", "REPORT_SCHEMA", "model_schema"]


def model_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model, without the titles that pydantic makes of the names of properties."""
    schema = model.model_json_schema()
    for described in schema["properties"].values():
        described.pop("title", None)
    return schema


def _object(title: str, properties: Mapping[str, Any], description: str, *optional: str) -> dict[str, Any]:
    """Return the schema of an object that always has all its members but the optional ones."""
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }


STRING = {"type": "string"}
STRINGS = {"type": "array", "items": STRING}

PROBLEM_SCHEMA = _object(
    "Problem",
    {
        "type": STRING,
        "title": STRING,
        "status": {"type": "integer", "format": "int32"},
        "detail": STRING,
        "errors": {
            "type": "array",
            "items": _object(
                "Finding",
                {field.name: STRING for field in fields(Finding)},
                "One thing that is wrong: a JSON pointer to it, a sentence, what came and what was expected.",
            ),
        },
        "request_id": {
            "type": "string",
            "description": "The response's X-Request-ID, by which the server's log and traces know the request.",
        },
    },
    "What is wrong with a request (RFC 9457).",
    "request_id",
)

OPERATIONS_SCHEMA = _object(
    "OperationList",  # not Operations: openapi-python-client confuses a type with its only property of the same name
    {
        "layers": {
            "type": "array",
            "items": _object(
                "ListedLayer",
                {
                    "name": STRING,
                    "title": STRING,
                    "operations": STRINGS,
                    "shape": {"type": "string", "description": "Path of the call that predicts shapes."},
                    "cases": {"type": "string", "description": "Path of the call for golden cases to test against."},
                    "check": {"type": "string", "description": "Path of the call that says what is wrong with yours."},
                    "stream": {"type": "string", "description": "Path of the call for batches larger than a request."},
                    "claims": {"type": "array", "items": STRING, "description": "What may be checked."},
                },
                "A layer, and where it is called.",
                "stream",
            ),
        },
        "operations": {
            "type": "array",
            "items": _object(
                "Operation",
                {
                    "name": STRING,
                    "path": STRING,
                    "operands": {
                        "type": "array",
                        "items": _object(
                            "Operand",
                            {
                                "name": STRING,
                                "required": {"type": "boolean"},
                                "description": STRING,
                                "axes": _object(
                                    "OperandAxes",
                                    {"channels_last": STRINGS, "channels_first": STRINGS},
                                    "Its axes in their order with each data_format; *spatial and *kernel stand for as "
                                    "many axes as there are spatial ones. One value has no axes.",
                                ),
                                "dtypes": {"type": "array", "items": DTYPE_SCHEMA},
                            },
                            "A tensor that a request holds.",
                        ),
                    },
                    "parameters": {
                        "title": "ParametersSchema",
                        "type": "object",
                        "description": "JSON schema of the parameters. x-only-with of one of them has, by the name of "
                        "another parameter, the values with which alone it is accepted.",
                        "additionalProperties": True,
                    },
                    "framework_defaults": {
                        "title": "FrameworkDefaults",
                        "type": "object",
                        "description": "For each framework the defaults that are not those of the schema.",
                        "additionalProperties": {
                            "title": "Defaults",
                            "type": "object",
                            "description": "Values of parameters by name.",
                            "additionalProperties": True,
                        },
                    },
                    "results": STRINGS,
                    "content_types": STRINGS,
                },
                "One direction of a layer.",
            ),
        },
    },
    "All layers and operations.",
)
HEALTH_SCHEMA = _object("Health", {"status": STRING}, "State of the service.")

BOOLEAN = {"type": "boolean"}
COUNT = {"type": "integer", "format": "int64"}
SHAPE = {"type": "array", "items": COUNT}
NUMBER = {"description": "A number, or the word NaN, Infinity or -Infinity."}
OBJECT = {"type": "object", "additionalProperties": True}

_COMPARED = _object(
    "ComparedTensor",
    {
        "agrees": BOOLEAN,
        "shape": _object(
            "ComparedShapes",
            {"got": SHAPE, "expected": SHAPE},
            "The claimed shape, and the right one.",
            "expected",
        ),
        "dtype": STRING,
        "max_absolute_error": NUMBER,
        "max_relative_error": NUMBER,
        "max_ulps": NUMBER,
        "elements_off": COUNT,
        "fraction_off": {"type": "number", "format": "double"},
        "tolerance": _object(
            "ErrorTolerance",
            {
                "largest": {"type": "number", "format": "double"},
                "terms": COUNT,
                "unit_roundoff": {"type": "number", "format": "double"},
                "reason": STRING,
            },
            "What each element may be off by at most, and why.",
        ),
        "first_difference": _object(
            "FirstDifference",
            {"index": SHAPE, "got": NUMBER, "expected": NUMBER, "window": {"title": "DifferenceWindow", **OBJECT}},
            "The first element that is off, in the claimed tensor's own order of axes, and the window that it comes "
            "from: for each spatial axis the taps and the places in the input.",
            "window",
        ),
        "where": _object("WhereErrorsAre", {"pattern": STRING, "sentence": STRING}, "Where the errors are."),
    },
    "A claimed tensor beside the right one.",
    "max_absolute_error",
    "max_relative_error",
    "max_ulps",
    "first_difference",
    "where",
)
REPORT_SCHEMA = _object(
    "CheckReport",
    {
        "agrees": BOOLEAN,
        "tensors": {
            "title": "ComparedTensors",
            "type": "object",
            "description": "The comparison of each claimed tensor, by name.",
            "additionalProperties": _COMPARED,
        },
        "explanations": {
            "type": "array",
            "items": _object(
                "Explanation",
                {
                    "id": STRING,
                    "sentence": STRING,
                    "agrees": {"type": "boolean", "description": "Whether it reproduces the claim but for rounding."},
                    "tensors": STRINGS,
                    "residual": NUMBER,
                    "parameters": {
                        "title": "MendingParameters",
                        **OBJECT,
                        "description": "What makes the service agree, if sent with the request; empty if nothing does.",
                    },
                    "rule": {
                        "type": "string",
                        "description": "Where the rule is described: the path of a page of this server.",
                    },
                },
                "A mistake that leads to what was claimed.",
            ),
        },
        "hint": {"type": "string", "description": "What would tell more."},
        "parameters": {
            "title": "ResolvedParameters",
            **OBJECT,
        },
        "tried": _object(
            "TriedHypotheses",
            {"hypotheses": COUNT, "complete": BOOLEAN},
            "What was tried within the limits of a request.",
        ),
    },
    "Whether a claim is right; where it is not, and why.",
    "hint",
)

OBSERVED_HEADERS = {
    "X-Request-ID": {
        "description": "The request's own X-Request-ID, if it is short and plain, else a new one.",
        "schema": STRING,
    },
    "Server-Timing": {
        "description": "Milliseconds of each stage before the response: receive, queue and compute.",
        "schema": STRING,
    },
}
"""Header fields of each result that tell of the request; for OpenAPI."""
