"""/openapi.json, and how tests read it."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from service.app import create_app
from service.operations.catalogue import OPERATIONS
from service.operations.operation import Operation
from service.settings import Settings
from tests.clients import ApplicationClient

Object = dict[str, Any]


class Documented(NamedTuple):
    """A method of a path, as /openapi.json describes it."""

    path: str
    method: str
    described: Object

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


DOCUMENT: Object = create_app(Settings()).openapi()


def resolved(value: Object) -> Object:
    """What a reference refers to; anything else is itself."""
    if "$ref" not in value:
        return value
    found: Any = DOCUMENT
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolved(found)


METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
DOCUMENTED = [
    Documented(path, method, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
    if method in METHODS
]
POSTED = [call for call in DOCUMENTED if call.method == "post" and not call.path.startswith("/v2")]
CALLS = [call for call in POSTED if not call.path.endswith("/stream")]  # which read no JSON
STREAMS = [call for call in POSTED if call not in CALLS]
each_documented = pytest.mark.parametrize("documented", DOCUMENTED, ids=str)
each_call = pytest.mark.parametrize("call", CALLS, ids=str)
each_operation = pytest.mark.parametrize("operation", [pytest.param(each, id=each.name) for each in OPERATIONS])


def json_examples(content: Object) -> list[Any]:
    """The examples of a JSON request or answer."""
    media = content.get("application/json", {})
    alone = [media["example"]] if "example" in media else []
    return alone + [example["value"] for example in media.get("examples", {}).values() if "value" in example]


def json_request(described: Object) -> Object:
    """The example of a call; the first one if there are several."""
    example: Object = json_examples(described["requestBody"]["content"])[0]
    return example


def checked_by(schema: Object) -> Draft202012Validator:
    """A validator whose references are resolved in the document."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def query_example(described: Object) -> dict[str, str]:
    """The example's parameters, as the query string that goes with its body has them."""
    return as_text({each["name"]: each["example"] for each in described.get("parameters", []) if "example" in each})


def listed_operations(client: ApplicationClient) -> dict[str, Object]:
    response = client.get("/ops")
    assert response.status_code == 200
    return {listed["name"]: listed for listed in response.json()["operations"]}


def whole_example(client: ApplicationClient, operation: Operation) -> Object:
    """The example as one JSON body: operands and parameters."""
    example: Object = client.get(f"/examples/{operation.name}/request.json").json()
    return example


def example_parameters(operation: Operation, example: Object) -> Object:
    return {name: value for name, value in example.items() if name not in operation.operand_names}


def as_text(parameters: Object) -> dict[str, str]:
    """Parameters as a query string has them: JSON, or a bare word."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in parameters.items()
    }


def answer(client: ApplicationClient, operation: Operation) -> Object:
    """The answer to an operation's JSON example."""
    described = DOCUMENT["paths"][operation.path]["post"]
    response = client.post(operation.path, params=query_example(described), json=json_request(described))
    assert response.status_code == 200, response.text
    answered: Object = response.json()
    return answered
