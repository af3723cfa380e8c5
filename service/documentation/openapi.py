"""OpenAPI documentation of the routes, and what /ops answers: all of it derived from the catalogue."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from cnn_core.ops.base import Op, Operand
from service.codecs import CODECS, Buffer
from service.codecs.message import DTYPES
from service.documentation.examples import (
    SERVER,
    curl_command,
    example_files,
    file_names,
    json_answer,
    json_operands,
    shape_example,
)
from service.documentation.parameters import (
    framework_defaults,
    parameter_properties,
    query_parameters,
    request_properties,
    required_parameters,
    without_null,
)
from service.documentation.schemas import BINARY, DTYPE_SCHEMA, HEALTH_SCHEMA, OPERATIONS_SCHEMA, REFERENCE_TO_TENSOR
from service.http.error_responses import KINDS, PROBLEM_MEDIA_TYPE, Kind, problem_document
from service.http.negotiation import readable_media_types
from service.http.responses import PARAMETERS_HEADER
from service.operations.catalogue import CATALOGUE, OPERATIONS
from service.operations.operation import CatalogueEntry, Operation
from service.operations.shapes import DTYPE, ShapeAnswer, predict_shapes, shapes_model
from service.problems import Busy, Finding, InvalidRequest, RequestProblem

__all__ = [
    "DESCRIPTION",
    "OF_EXAMPLES",
    "OF_LIVE",
    "OF_OPS",
    "OF_READY",
    "PAGE",
    "RESPONSES",
    "SERVERS",
    "TAGS",
    "described",
    "example_file",
    "of_operation",
    "of_shape",
]

DESCRIPTION = f"""
Convolution and pooling layers, forward and backward, exact enough to check your own kernel, port or homework against.

* A body's **Content-Type** decides how it is read: JSON, npy, npz or a form of npy files. **Accept** decides how the
  answer is written; by default as the request: JSON for JSON, else npy for one result and npz for several.
* **Parameters** stand in the query string, or beside the operands in JSON or in form fields; each of them in one place
  only. In a query or a form a value is JSON, or a bare word where it is a string: `stride=[2,1]`, `padding=same`. An
  unknown parameter is an error, never ignored.
* The curl commands below call {SERVER} and are for bash. With brackets in a URL curl needs `-g`.
* **Errors** are `application/problem+json` (RFC 9457) with a list of what is wrong: pointer, message, got, expected.
""".strip()

EXAMPLE_FINDING = Finding(
    "/stride",
    "stride must be an integer from 1 to 2147483647, or a list of one for each spatial axis; got 0",
    "0",
    "an integer from 1 to 2147483647, or a list of one for each spatial axis",
)


def _problem(kind: Kind, description: str, *findings: Finding) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    example = problem_document(kind, findings, description)
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: {"schema": schema, "example": example}}}


REQUEST_PROBLEMS = {problem: kind for problem, kind in KINDS.items() if issubclass(problem, RequestProblem)}
RESPONSES = {
    problem.__name__: _problem(
        kind, (problem.__doc__ or "").splitlines()[0], *([EXAMPLE_FINDING] if problem is InvalidRequest else [])
    )
    for problem, kind in REQUEST_PROBLEMS.items()
}
"""The responses that operations share, by the name that they are referred to."""
RESPONSES[Busy.__name__]["headers"] = {
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}
}
PROBLEMS = {
    str(kind.status): {"$ref": f"#/components/responses/{problem.__name__}"}
    for problem, kind in REQUEST_PROBLEMS.items()
}


def _json_content(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _documented(name: str, summary: str, description: str, answer: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return the arguments of a route: everything is said in ``openapi_extra``, nothing inferred."""
    return {
        "name": name,
        "operation_id": name,
        "summary": summary,
        "description": description,
        "tags": [tag],
        "response_model": None,
        "openapi_extra": {"responses": {"200": {"description": "The answer.", "content": answer}}},
    }


def _parameters_header() -> dict[str, Any]:
    description = "Every parameter as it was resolved, as a JSON object: the defaults, strides for each axis, padding "
    description += "for each side."
    return {PARAMETERS_HEADER: {"description": description, "schema": {"type": "string"}}}


def of_operation(operation: Operation) -> dict[str, Any]:
    """Return the documentation of an operation's route."""
    entry = operation.entry
    written: dict[str, Any] = {media_type: {"schema": BINARY} for media_type, codec in CODECS.items() if codec.writes}
    written |= _json_content(_results_schema(operation), json_answer(operation))
    arguments = _documented(
        operation.name, f"{entry.title}, {operation.direction}", _description(operation), written, entry.name
    )
    arguments["openapi_extra"] |= {
        "parameters": query_parameters(operation),
        "requestBody": {"required": True, "content": _request_content(operation)},
    }
    arguments["openapi_extra"]["responses"]["200"]["headers"] = _parameters_header()
    arguments["openapi_extra"]["responses"] |= PROBLEMS
    return arguments


def _description(operation: Operation) -> str:
    lines = []
    for op in operation.entry.ops.values():
        lines += [*(paragraph.replace("``", "`") for paragraph in _first_paragraphs(op)), ""]
    if operation.direction == "backward":
        names = ", ".join(f"`{operand.name}`" for operand in operation.entry.operands)
        lines += [f"This call computes the gradients of `sum(grad_output * output)` with respect to {names}.", ""]
    lines += [
        f"* `{operand.name}`{' (optional)' if operand.optional else ''}: {_operand_text(operand)}"
        for operand in operation.operands
    ]
    lines += ["", f"Results: {', '.join(f'`{name}`' for name in operation.results)}.", "", "The example with curl:"]
    for media_type in readable_media_types(operation):
        files = ", ".join(f"[{name}](examples/{operation.name}/{name})" for name in file_names(operation, media_type))
        lines += ["", f"**{media_type}**: {files}", "", "```bash", curl_command(operation, media_type), "```"]
    return "\n".join(lines)


def _operand_text(operand: Operand) -> str:
    types = f" Of {', '.join(operand.dtypes)}." if operand.dtypes else ""
    return f"{operand.description}{types}"


def _first_paragraphs(op: type[Op]) -> list[str]:
    """Return what an op's docstring says before its sections: the sentence, and the formula."""
    before = (inspect.getdoc(op) or "").split("\n\nParameters\n")[0]
    return [line for paragraph in before.split("\n\n") for line in (paragraph.replace("\n", " "), "")]


def _results_schema(operation: Operation) -> dict[str, Any]:
    # of several gradients a request may ask for some only; of what forward returns, the output always comes
    always = operation.results[:1] if operation.direction == "forward" else operation.results
    required = list(always) if len(always) == 1 else []
    return {
        "type": "object",
        "properties": dict.fromkeys(operation.results, REFERENCE_TO_TENSOR),
        **({"required": required} if required else {}),
    }


def _request_content(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media_type in readable_media_types(operation):
        if media_type == "application/json":
            content |= _json_content(_json_schema(operation), json_operands(operation))
        elif media_type == "multipart/form-data":
            content[media_type] = {"schema": _form_schema(operation)}
        else:
            content[media_type] = {"schema": BINARY}
    return content


def _json_schema(operation: Operation) -> dict[str, Any]:
    operands = {
        operand.name: {**REFERENCE_TO_TENSOR, "description": _operand_text(operand)} for operand in operation.operands
    }
    dtype = {**DTYPE_SCHEMA, "description": "Type of nested lists and bare numbers; float64 if not given."}
    return {
        "type": "object",
        "properties": {**operands, "dtype": dtype, **request_properties(operation)},
        "required": list(operation.required_operands),
        "additionalProperties": False,
    }


def _form_schema(operation: Operation) -> dict[str, Any]:
    files = {
        operand.name: {**BINARY, "description": f"An npy file. {_operand_text(operand)}"}
        for operand in operation.operands
    }
    # the parameters may stand in fields too, but documented twice they would be asked for twice
    return {"type": "object", "properties": files, "required": list(operation.required_operands)}


def of_shape(entry: CatalogueEntry) -> dict[str, Any]:
    """Return the documentation of a layer's shape call."""
    operation = entry.forward
    shapes = {**shapes_model(entry).model_json_schema(), "description": "Shape of each operand of forward."}
    for name, schema in shapes["properties"].items():  # without defaults, as all requests
        shapes["properties"][name] = without_null({key: value for key, value in schema.items() if key != "default"})
    dtype = {**DTYPE.schema, "description": "Type of the operands, for the bytes. Default: float64."}
    schema = {
        "type": "object",
        "properties": {"shapes": shapes, "dtype": dtype, **request_properties(operation)},
        "required": ["shapes", *required_parameters(operation)],
        "additionalProperties": False,
    }
    description = "The output's shape, the padding resolved per side, multiply-accumulates and bytes, without a tensor."
    example = shape_example(entry)
    answer = _json_content(ShapeAnswer.model_json_schema(), predict_shapes(entry, example))
    arguments = _documented(f"{entry.name}_shape", f"{entry.title}, shapes", description, answer, entry.name)
    arguments["openapi_extra"]["requestBody"] = {"required": True, "content": _json_content(schema, example)}
    arguments["openapi_extra"]["responses"] |= PROBLEMS
    return arguments


def described(operation: Operation) -> dict[str, Any]:
    """Return an operation's entry in /ops."""
    return {
        "name": operation.name,
        "path": operation.path,
        "operands": [
            {
                "name": operand.name,
                "required": not operand.optional,
                "description": operand.description,
                "dtypes": list(operand.dtypes or DTYPES),
            }
            for operand in operation.operands
        ],
        "parameters": {
            "type": "object",
            "properties": parameter_properties(operation),
            "required": required_parameters(operation),
            "additionalProperties": False,
        },
        "framework_defaults": framework_defaults(operation),
        "results": list(operation.results),
        "content_types": list(readable_media_types(operation)),
    }


def example_file(operation: str, file: str) -> tuple[list[Buffer], str]:
    """Return a file of /examples and its media type; a 404 if there is none of that name."""
    for candidate in OPERATIONS:
        if candidate.name == operation and file in (files := example_files(candidate)):
            return files[file]
    raise HTTPException(404)


OF_OPS = _documented(
    "list_operations",
    "List the operations",
    "Every operation with its operands, its parameters as JSON schema, and its results.",
    {"application/json": {"schema": OPERATIONS_SCHEMA}},
    "service",
)
OF_EXAMPLES = _documented(
    "example_file",
    "Fetch an example's file",
    "Bodies and operands of the examples: {operand}.npy, request.npz and request.json for every operation in /ops.",
    {media_type: {"schema": BINARY} for media_type in ("application/x-npy", "application/x-npz", "application/json")},
    "service",
)
OF_EXAMPLES["openapi_extra"] |= {
    "parameters": [
        {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}
        for name, description in (
            ("operation", "Name of an operation in /ops, for example conv_forward."),
            ("file", "Name of a file, for example request.npz or input.npy."),
        )
    ]
}
OF_EXAMPLES["openapi_extra"]["responses"] |= {"404": _problem(Kind(404, "Not Found"), "There is no such example.")}
OF_LIVE = _documented(
    "health_live",
    "Return whether the process runs",
    "For restarting: answers as long as the event loop turns.",
    _json_content(HEALTH_SCHEMA, {"status": "live"}),
    "service",
)
OF_READY = _documented(
    "health_ready",
    "Return whether requests are taken",
    "For routing: answers once the service has started.",
    _json_content(HEALTH_SCHEMA, {"status": "ready"}),
    "service",
)

TAGS = [
    *(
        {"name": entry.name, "description": f"{entry.title}: {', '.join(entry.ops)}".rstrip(": ")}
        for entry in CATALOGUE
    ),
    {"name": "service", "description": "What there is, examples to start from, and health."},
]

SERVERS = [{"url": ".", "description": "where this document comes from"}]
"""Relative to the document's address, which alone is known to be right behind a proxy."""

PAGE = (Path(__file__).parent / "docs.html").read_text(encoding="utf-8").replace("{{SERVER}}", SERVER)
"""The page /docs: Swagger UI."""
