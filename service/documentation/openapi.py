"""OpenAPI documentation of the routes, and what /ops returns: derived from the catalogue and the codecs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from ..codecs import CODECS, JSON_CODEC
from ..codecs.described import BINARY, with_description
from ..codecs.message import OPERAND_DTYPES
from ..diagnosis import CLAIMED, CheckTask
from ..http.error_responses import KINDS, PROBLEM_MEDIA_TYPE, Kind, problem_document
from ..http.metrics import FORMATS as METRICS_FORMATS
from ..http.negotiation import checkable_codecs, readable_codecs, response_codec, writable_codecs
from ..http.responses import PARAMETERS_HEADER
from ..operations.catalogue import CATALOGUE, OPERATIONS
from ..operations.operation import CatalogueEntry, Operation
from ..operations.shapes import DTYPE_SCHEMA, ShapeResponse, predict_shapes, shapes_model
from ..operations.streams import stream_task
from ..problems import Busy, Finding, InvalidRequest, RequestProblem, Unauthorized
from . import v2
from .components import with_components
from .described import described_check, described_operation, example_media_types, example_report, operand_text
from .examples import SERVER, shape_example
from .parameters import (
    framework_defaults,
    parameter_properties,
    query_parameters,
    request_properties,
    required_parameters,
    type_name,
    without_null,
)
from .schemas import HEALTH_SCHEMA, OBSERVED_HEADERS, OPERATIONS_SCHEMA, PROBLEM_SCHEMA, REPORT_SCHEMA, model_schema

__all__ = [
    "PAGE",
    "PROBLEMS",
    "SERVERS",
    "TAGS",
    "check_route",
    "description",
    "document",
    "documented",
    "examples_route",
    "live_route",
    "metrics_route",
    "operation_list",
    "operation_route",
    "ops_route",
    "ready_route",
    "result_headers",
    "shape_route",
]


def description() -> str:
    """Return what /docs and /openapi.json say of the whole service."""
    codecs = CODECS.values()
    read, in_kind = (
        _alternatives([codec.title for codec in some])
        for some in (codecs, [codec for codec in codecs if codec.responds_in_kind])
    )
    one, several = (response_codec(None, None, results).title for results in (1, 2))
    places = _alternatives(["in the query string", *(codec.parameters_in for codec in codecs if codec.parameters_in)])
    return f"""
Convolution and pooling layers, forward and backward, exact enough to check your own kernel, port or homework against.

* A body's **Content-Type** decides how it is read: {read}. **Accept** decides how the response is written; by default
  it has the format of the request if that is {in_kind}, else {one} for one result and {several} for several.
* **Parameters** go {places}; each of them in one place only. In a query or a form a value is JSON,
  or a bare word where it is a string: `stride=[2,1]`, `padding=same`. An unknown parameter is an error, never ignored.
* **See a layer compute** in the [playground]({SERVER}/), forward and backward, with numbers that you change; the
  rules that frameworks differ in are in [Where frameworks disagree]({SERVER}/docs/where-frameworks-disagree.md).
* The curl commands below call {SERVER} and are for bash. With brackets in a URL curl needs `-g`.
* **Errors** are `{PROBLEM_MEDIA_TYPE}` (RFC 9457) with a list of what is wrong: pointer, message, got, expected.
* Every response has an **X-Request-ID**, by which the server's log and traces know the request: the one that came with
  the request (up to 128 letters, digits and characters of `._~:/+=@-`), else a new one.
""".strip()


def _alternatives(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


EXAMPLE_FINDING = Finding(
    "/stride",
    "stride must be an integer from 1 to 2147483647, or a list of one for each spatial axis; got 0",
    "0",
    "an integer from 1 to 2147483647, or a list of one for each spatial axis",
)


def _problem(kind: Kind, description: str, *findings: Finding) -> dict[str, Any]:
    example = problem_document(kind, findings, description)
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: {"schema": PROBLEM_SCHEMA, "example": example}}}


REQUEST_PROBLEMS = {
    problem: kind
    for problem, kind in KINDS.items()
    if issubclass(problem, RequestProblem) and problem is not Unauthorized  # which only some servers require
}
RESPONSES = {
    problem.__name__: _problem(
        kind, (problem.__doc__ or "").splitlines()[0], *([EXAMPLE_FINDING] if problem is InvalidRequest else [])
    )
    for problem, kind in REQUEST_PROBLEMS.items()
}
"""The responses that operations share, by the name that they are referred to."""
RESPONSES[Busy.__name__]["headers"] = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "format": "int32"},
    }
}
PROBLEMS = {
    str(kind.status): {"$ref": f"#/components/responses/{problem.__name__}"}
    for problem, kind in REQUEST_PROBLEMS.items()
}


def _json_content(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {JSON_CODEC.media_type: {"schema": schema, "example": example}}


def documented(name: str, summary: str, description: str, response: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return the arguments of a route: everything is said in ``openapi_extra``, nothing inferred."""
    return {
        "name": name,
        "operation_id": name,
        "summary": summary,
        "description": description,
        "tags": [tag],
        "response_model": None,
        "openapi_extra": {"responses": {"200": {"description": "The results.", "content": response}}},
    }


def result_headers() -> dict[str, Any]:
    """Return the documentation of the headers of a result."""
    description = "Every parameter as it was resolved, as a JSON object: the defaults, strides for each axis, padding "
    description += "for each side."
    return {PARAMETERS_HEADER: {"description": description, "schema": {"type": "string"}}, **OBSERVED_HEADERS}


def operation_route(operation: Operation) -> dict[str, Any]:
    """Return the documentation of an operation's route."""
    entry = operation.entry
    described = described_operation(operation)
    written = {codec.media_type: codec.response_content(described) for codec in writable_codecs()}
    read = {codec.media_type: codec.request_content(described) for codec in readable_codecs(operation)}
    arguments = documented(
        operation.name, f"{entry.title}, {operation.direction}", _description(operation), written, entry.name
    )
    arguments["openapi_extra"] |= {
        "parameters": query_parameters(operation),
        "requestBody": {"required": True, "content": read},
    }
    arguments["openapi_extra"]["responses"]["200"]["headers"] = result_headers()
    arguments["openapi_extra"]["responses"] |= PROBLEMS
    return arguments


def _description(operation: Operation) -> str:
    lines = []
    for op in operation.entry.ops.values():
        lines += [op.description, ""]
    if operation.direction == "backward":
        names = ", ".join(f"`{name.removeprefix('grad_')}`" for name in operation.results)
        lines += [f"This call computes the gradients of `sum(grad_output * output)` with respect to {names}.", ""]
    lines += [
        f"* `{operand.name}`{' (optional)' if operand.optional else ''}: {operand_text(operand)}"
        for operand in operation.operands
    ]
    lines += ["", f"Results: {', '.join(f'`{name}`' for name in operation.results)}.", "", "The example with curl:"]
    described = described_operation(operation)
    for codec in readable_codecs(operation):
        files = codec.example_files(described)
        links = ", ".join(f"[{name}](examples/{operation.name}/{name})" for name in files)
        lines += ["", f"**{codec.media_type}**: {links}", "", "```bash", codec.curl_command(described), "```"]
    return "\n".join(lines)


def shape_route(entry: CatalogueEntry) -> dict[str, Any]:
    """Return the documentation of a layer's shape call."""
    operation = entry.forward
    title = type_name(f"{entry.name}_shape")
    shapes = {**model_schema(shapes_model(entry)), "title": f"{title}s", "description": "Shapes of forward's operands."}
    for name, schema in shapes["properties"].items():  # without defaults, as all requests
        shapes["properties"][name] = without_null({key: value for key, value in schema.items() if key != "default"})
    dtype = with_description(DTYPE_SCHEMA, "Type of the operands, for the bytes. Default: float64.")
    schema = {
        "title": f"{title}Request",
        "type": "object",
        "properties": {"shapes": shapes, "dtype": dtype, **request_properties(operation)},
        "required": ["shapes", *required_parameters(operation)],
        "additionalProperties": False,
    }
    description = "The output's shape, the padding resolved per side, multiply-accumulates and bytes, without a tensor."
    example = shape_example(entry)
    response = _json_content(model_schema(ShapeResponse), predict_shapes(entry, example))
    arguments = documented(f"{entry.name}_shape", f"{entry.title}, shapes", description, response, entry.name)
    arguments["openapi_extra"]["requestBody"] = {"required": True, "content": _json_content(schema, example)}
    arguments["openapi_extra"]["responses"] |= PROBLEMS
    return arguments


def check_route(task: CheckTask) -> dict[str, Any]:
    """Return the documentation of the check of a layer."""
    entry = task.entry
    described = described_check(entry)
    codecs = checkable_codecs(entry)
    written = _json_content(REPORT_SCHEMA, example_report(entry))
    arguments = documented(task.name, f"{entry.title}, check", _check_description(task), written, entry.name)
    arguments["openapi_extra"] |= {
        "parameters": query_parameters(entry.forward),
        "requestBody": {
            "required": True,
            "content": {codec.media_type: codec.request_content(described) for codec in codecs},
        },
    }
    arguments["openapi_extra"]["responses"]["200"]["headers"] = result_headers()
    arguments["openapi_extra"]["responses"] |= PROBLEMS
    return arguments


def _check_description(task: CheckTask) -> str:
    entry = task.entry
    described = described_check(entry)
    claims = ", ".join(f"`{CLAIMED}{name}`" for name in task.claimable)
    lines = [
        f"Send the operands and parameters of your layer, and what you have computed: at least one of {claims}.",
        "",
        "The response says for each tensor whether it is right, where it first differs and which window that is, where",
        "the errors are, and which mistake leads to just these numbers.",
        "",
        "The example with curl:",
    ]
    for codec in checkable_codecs(entry):
        lines += ["", f"**{codec.media_type}**", "", "```bash", codec.curl_command(described), "```"]
    return "\n".join(lines)


def operation_list() -> dict[str, Any]:
    """Return what /ops is."""
    return {
        "layers": [_listed_layer(entry) for entry in CATALOGUE],
        "operations": [_listed(operation) for operation in OPERATIONS],
    }


def _listed_layer(entry: CatalogueEntry) -> dict[str, Any]:
    check, stream = CheckTask(entry, 0), stream_task(entry.forward)
    return {
        "name": entry.name,
        "title": entry.title,
        "operations": [operation.path for operation in entry.operations],
        "shape": f"/{entry.name}/shape",
        "cases": f"/{entry.name}/cases",
        "check": check.path,
        **({"stream": stream.path} if stream else {}),
        "claims": [f"{CLAIMED}{name}" for name in check.claimable],
    }


def _listed(operation: Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "path": operation.path,
        "operands": [
            {
                "name": operand.name,
                "required": not operand.optional,
                "description": operand.description,
                "axes": asdict(operand.layout),
                "dtypes": list(operand.dtypes or OPERAND_DTYPES),
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
        "content_types": [codec.media_type for codec in readable_codecs(operation)],
    }


def ops_route() -> dict[str, Any]:
    """Return the documentation of /ops."""
    return documented(
        "list_operations",
        "List the operations",
        "Every layer with its golden cases, its check and its streams, and every operation with its operands, its "
        "parameters as JSON schema, and its results.",
        {JSON_CODEC.media_type: {"schema": OPERATIONS_SCHEMA}},
        "service",
    )


def examples_route() -> dict[str, Any]:
    """Return the documentation of /examples."""
    arguments = documented(
        "example_file",
        "Fetch an example's file",
        "Bodies and operands of the examples: {operand}.npy, request.npz and request.json for every operation in /ops.",
        {media_type: {"schema": BINARY} for media_type in example_media_types()},
        "service",
    )
    arguments["openapi_extra"]["parameters"] = [
        {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}
        for name, description in (
            ("operation", "Name of an operation in /ops, for example conv_forward."),
            ("file", "Name of a file, for example request.npz or input.npy."),
        )
    ]
    not_found = _problem(Kind(404, "Not Found"), "There is no such example.")
    arguments["openapi_extra"]["responses"]["404"] = not_found
    return arguments


def live_route() -> dict[str, Any]:
    """Return the documentation of /health/live."""
    return documented(
        "health_live",
        "Return whether the process runs",
        "For restarting: it responds as long as the event loop runs.",
        _json_content(HEALTH_SCHEMA, {"status": "live"}),
        "service",
    )


def ready_route() -> dict[str, Any]:
    """Return the documentation of /health/ready."""
    route = documented(
        "health_ready",
        "Return whether requests are taken",
        "For routing: it responds once the service has started, and says 503 once the service is about to end.",
        _json_content(HEALTH_SCHEMA, {"status": "ready"}),
        "service",
    )
    route["openapi_extra"]["responses"]["503"] = PROBLEMS["503"]
    return route


def metrics_route() -> dict[str, Any]:
    """Return the documentation of /metrics."""
    return documented(
        "metrics",
        "Return the metrics",
        "For Prometheus: requests, times, bytes, rejections and what is in use, of all worker processes together.",
        {media_type: {"schema": {"type": "string"}} for media_type in METRICS_FORMATS},
        "service",
    )


def document(app: FastAPI) -> dict[str, Any]:
    """Return what /openapi.json is: what the routes that an application has by now say of themselves."""
    return with_components({**app.openapi(), "components": {"responses": RESPONSES}})


TAGS = [
    *(
        {"name": entry.name, "description": f"{entry.title}: {', '.join(entry.ops)}".rstrip(": ")}
        for entry in CATALOGUE
    ),
    v2.TAG,
    {"name": "service", "description": "What there is, examples to start from, and health."},
]

SERVERS: list[dict[str, Any]] = [{"url": ".", "description": "where this document comes from"}]
"""Relative to the document's address, the only one that is known to be right behind a proxy."""

PAGE = (Path(__file__).parent / "docs.html").read_text(encoding="utf-8").replace("{{SERVER}}", SERVER)
"""The page /docs: Swagger UI."""
