"""What a client that is generated from /openapi.json sends is what its user said, and nothing of the schema's own."""

from __future__ import annotations

import json

import pytest

from service.operations.catalogue import CATALOGUE, OPERATIONS
from service.operations.operation import Operation
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.document import DOCUMENT, Object, resolved

PATHS = [operation.path for operation in OPERATIONS] + [f"/{layer.name}/shape" for layer in CATALOGUE]


def request_schema(path: str) -> Object:
    return resolved(DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


def generated(path: str, said: Object) -> Object:
    """The body of a client that fills in every default of the schema."""
    properties = request_schema(path)["properties"]
    return {name: schema["default"] for name, schema in properties.items() if "default" in schema} | said


@pytest.mark.parametrize("path", PATHS)
def test_no_request_has_defaults_of_its_own(path: str) -> None:
    assert '"default":' not in json.dumps(request_schema(path)["properties"])


@pytest.mark.parametrize("mode", ["max", "avg", "lp"])
def test_every_mode_can_be_called_with_a_framework(client: ApplicationClient, mode: str) -> None:
    said = {"mode": mode, "kernel_size": 2, "framework": "torch", "input": [[[[1, 2, 3], [4, 5, 6]]]]}
    body = generated("/pool/forward", said)
    response = client.post("/pool/forward", **payloads.json_body(body))
    assert payloads.results(response, ["output"])["output"].shape == (1, 1, 1, 1)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_result_that_is_required_always_comes(operation: Operation) -> None:
    documented = DOCUMENT["paths"][operation.path]["post"]
    schema = resolved(documented["responses"]["200"]["content"]["application/json"]["schema"])
    if operation.direction == "forward":
        assert schema["required"] == ["output"]
    assert set(schema.get("required", [])) <= set(schema["properties"]) == set(operation.results)
