"""OpenAPI documentation of the Open Inference Protocol's routes: one for all models."""

from __future__ import annotations

from typing import Any

from ..codecs.described import BINARY
from ..codecs.media_types import JSON, OCTET_STREAM
from ..codecs.v2 import HEADER_LENGTH
from ..codecs.v2_tensors import DATATYPES
from ..operations.catalogue import OPERATIONS
from .schemas import OBSERVED_HEADERS

__all__ = [
    "TAG",
    "config_route",
    "index_route",
    "infer_route",
    "live_route",
    "model_ready_route",
    "model_route",
    "ready_route",
    "server_route",
]

TAG = {
    "name": "v2",
    "description": "The Open Inference Protocol (V2), for clients of Triton and KServe: each operation is a model.",
}

STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}
INTEGER = {"type": "integer", "format": "int64"}
STRINGS = {"type": "array", "items": STRING}
SHAPE = {"type": "array", "items": INTEGER}
DATATYPE = {"title": "Datatype", "type": "string", "enum": list(DATATYPES)}


def _object(title: str, description: str, properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    schema = {"title": title, "description": description, "type": "object", "properties": properties}
    return {**schema, "required": required} if required else schema


def _list_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


ERROR = _object("InferenceError", "What is wrong with a request.", {"error": STRING})
TENSOR = _object(
    "InferenceTensor",
    "An input or an output: its numbers are in data, flat or nested, or are bytes after the JSON.",
    {
        "name": STRING,
        "shape": SHAPE,
        "datatype": DATATYPE,
        "parameters": _object("TensorParameters", "How large a binary tensor is.", {"binary_data_size": INTEGER}),
        "data": {"type": "array", "items": {"type": "number", "format": "double"}},
    },
    "parameters",
    "data",
)
REQUESTED_OUTPUT = _object(
    "RequestedOutput",
    "An output that is asked for.",
    {
        "name": STRING,
        "parameters": _object("OutputParameters", "Whether the output is to be binary.", {"binary_data": BOOLEAN}),
    },
    "parameters",
)
REQUEST = _object(
    "InferenceRequest",
    "Operands as inputs, and the parameters: those of the operation, each a number, a boolean, a list or a string such "
    "as [2,1]; and binary_data_output, whether outputs are binary. The outputs select what is computed; by default it "
    "is what the parameters ask for.",
    {
        "id": STRING,
        "parameters": {"title": "InferenceParameters", "type": "object", "additionalProperties": True},
        "inputs": _list_of(TENSOR),
        "outputs": _list_of(REQUESTED_OUTPUT),
    },
    "id",
    "parameters",
    "outputs",
)
RESPONSE = _object(
    "InferenceResponse",
    "Results as outputs, and the parameters as they were resolved.",
    {
        "model_name": STRING,
        "model_version": STRING,
        "id": STRING,
        "parameters": {"title": "ParameterTexts", "type": "object", "additionalProperties": STRING},
        "outputs": _list_of(TENSOR),
    },
    "id",
)
SERVER = _object("InferenceServer", "The server.", {"name": STRING, "version": STRING, "extensions": STRINGS})
TENSOR_METADATA = _object(
    "TensorMetadata",
    "An input or an output of a model; a size of -1 is any size.",
    {"name": STRING, "datatype": DATATYPE, "shape": SHAPE},
)
MODEL = _object(
    "InferenceModel",
    "A model.",
    {
        "name": STRING,
        "versions": STRINGS,
        "platform": STRING,
        "inputs": _list_of(TENSOR_METADATA),
        "outputs": _list_of(TENSOR_METADATA),
    },
)
CONFIGURED = {"name": STRING, "data_type": STRING, "dims": SHAPE}
CONFIGURATION = _object(
    "ModelConfiguration",
    "A model's configuration, as Triton's ModelConfig has it.",
    {
        "name": STRING,
        "platform": STRING,
        "backend": STRING,
        "max_batch_size": INTEGER,
        "input": _list_of(_object("ConfiguredInput", "An input.", {**CONFIGURED, "optional": BOOLEAN})),
        "output": _list_of(_object("ConfiguredOutput", "An output.", CONFIGURED)),
    },
)
LIVE = _object("ServerLive", "Whether the server runs.", {"live": BOOLEAN})
READY = _object("ServerReady", "Whether the server takes requests.", {"ready": BOOLEAN, "live": BOOLEAN})
MODEL_READY = _object("ModelReady", "Whether a model takes requests.", {"name": STRING, "ready": BOOLEAN})
INDEX = {
    "title": "ModelIndex",
    "description": "All models, and their states.",
    **_list_of(_object("IndexEntry", "A model.", dict.fromkeys(("name", "version", "state", "reason"), STRING))),
}

EXAMPLE_MODEL = "pool_forward"


def _route(
    name: str, summary: str, schema: dict[str, Any], description: str, *, of_model: bool = False
) -> dict[str, Any]:
    """Return the arguments of a route: everything is said in ``openapi_extra``, nothing inferred."""
    content = {JSON: {"schema": schema}}
    responses: dict[str, Any] = {"200": {"description": schema["description"], "content": content}}
    extra: dict[str, Any] = {"responses": responses}
    if of_model:
        responses["404"] = _error("There is no such model.")
        names = {"title": "ModelName", "type": "string", "enum": [operation.name for operation in OPERATIONS]}
        model = {"name": "model", "in": "path", "required": True, "schema": names}
        extra["parameters"] = [{**model, "description": "Name of an operation in /ops.", "example": EXAMPLE_MODEL}]
    return {
        "name": f"v2_{name}",
        "operation_id": f"v2_{name}",
        "summary": summary,
        "description": description,
        "tags": [TAG["name"]],
        "response_model": None,
        "openapi_extra": extra,
    }


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": ERROR}}}


def infer_route() -> dict[str, Any]:
    """Return the documentation of the inference call."""
    description = (
        "The body is JSON; or JSON and after it the bytes of the binary inputs, in their order, little-endian and in C "
        f"order. `{HEADER_LENGTH}` then is the size of the JSON. A response with binary outputs has the same form. "
        "Every path of a model is also there with `/versions/1` after the model's name."
    )
    arguments = _route("infer", "Run a model", RESPONSE, description, of_model=True)
    extra = arguments["openapi_extra"]
    header = {"description": "Size of the JSON, if there are binary tensors after it.", "schema": INTEGER}
    extra["parameters"].append({"name": HEADER_LENGTH, "in": "header", "required": False, **header})
    example = {
        "inputs": [{"name": "input", "shape": [1, 4, 1], "datatype": "FP32", "data": [1, 3, 2, 4]}],
        "parameters": {"mode": "max", "kernel_size": 2},
    }
    extra["requestBody"] = {
        "required": True,
        "content": {
            JSON: {"schema": REQUEST, "example": example},
            OCTET_STREAM: {"schema": BINARY},
        },
    }
    extra["responses"]["200"]["content"][OCTET_STREAM] = {"schema": BINARY}
    extra["responses"]["200"]["headers"] = {HEADER_LENGTH: header, **OBSERVED_HEADERS}
    for status, text in (
        (400, "The request cannot be read, or breaks a rule."),
        (408, "The body did not arrive in time."),
        (413, "The body, or what it would take to compute, exceeds a limit of this server."),
        (415, "The Content-Encoding is not one that is read."),
        (503, "The server is busy."),
    ):
        extra["responses"][str(status)] = _error(text)
    return arguments


METADATA_TEXT = (
    "Its inputs and outputs. The protocol has one datatype and one number of axes for each: FP32 stands for all types "
    "that an operation computes in, and four axes for three to five."
)


def model_route() -> dict[str, Any]:
    """Return the documentation of a model's metadata."""
    return _route("model", "Describe a model", MODEL, METADATA_TEXT, of_model=True)


def config_route() -> dict[str, Any]:
    """Return the documentation of a model's configuration."""
    description = "What Triton's clients read of a model: its inputs, which of them are optional, and its outputs."
    return _route("model_config", "Return a model's configuration", CONFIGURATION, description, of_model=True)


def model_ready_route() -> dict[str, Any]:
    """Return the documentation of a model's readiness."""
    description = "All models are ready once the service has started, until it is about to end."
    route = _route("model_ready", "Return whether a model is ready", MODEL_READY, description, of_model=True)
    return _with_not_ready(route, MODEL_READY)


def _with_not_ready(route: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    content = {JSON: {"schema": schema}}
    route["openapi_extra"]["responses"]["503"] = {"description": "The server is about to end.", "content": content}
    return route


def server_route() -> dict[str, Any]:
    """Return the documentation of the server's metadata."""
    description = "The server's name, its version, and the extensions of the protocol that it serves."
    return _route("server", "Describe the server", SERVER, description)


def live_route() -> dict[str, Any]:
    """Return the documentation of /v2/health/live."""
    return _route("health_live", "Return whether the server runs", LIVE, "The same as /health/live.")


def ready_route() -> dict[str, Any]:
    """Return the documentation of /v2/health/ready."""
    route = _route("health_ready", "Return whether the server takes requests", READY, "As /health/ready.")
    return _with_not_ready(route, READY)


def index_route() -> dict[str, Any]:
    """Return the documentation of the index of models."""
    description = "Every operation is a model, which is always loaded and ready."
    return _route("repository_index", "List the models", INDEX, description)
