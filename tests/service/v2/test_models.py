"""What the server and its models say of themselves, and that it is true."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from cnn_core import ShapeError, __version__
from service.http.error_responses import KINDS, install_error_handlers
from service.operations.catalogue import OPERATIONS
from service.operations.operation import Operation
from service.problems import Finding, RequestProblem
from tests.clients import ApplicationClient, application_client
from tests.service.calls import CALLS_BY_NAME, EXAMPLES, computed
from tests.service.payloads import Call, limited
from tests.service.v2.messages import DATATYPES, error, model_of, models, path_of, request, results

each_operation = pytest.mark.parametrize("operation", [pytest.param(each, id=each.name) for each in OPERATIONS])
each_version = pytest.mark.parametrize("version", ["", "/versions/1"])


def get(client: ApplicationClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_the_server(client: ApplicationClient) -> None:
    extensions = ["binary_tensor_data", "model_configuration", "parameters"]
    assert get(client, "/v2") == {"name": "convpool", "version": __version__, "extensions": extensions}
    assert get(client, "/v2/health/live") == {"live": True}
    assert get(client, "/v2/health/ready") == {"ready": True, "live": True}


def test_health_has_headers_alone_for_head(client: ApplicationClient) -> None:
    assert client.request("HEAD", "/v2/health/ready").status_code == 200


@pytest.mark.parametrize("body", [b"", b'{"ready": true}'])
def test_the_index_has_every_operation(client: ApplicationClient, body: bytes) -> None:
    entries = client.post("/v2/repository/index", content=body).json()
    assert [entry["name"] for entry in entries] == [operation.name for operation in OPERATIONS]
    assert all(entry == {**entry, "version": "1", "state": "READY", "reason": ""} for entry in entries)


@each_version
@each_operation
def test_a_model(client: ApplicationClient, operation: Operation, version: str) -> None:
    path = f"/v2/models/{operation.name}{version}"
    metadata, config = get(client, path), get(client, f"{path}/config")
    assert get(client, f"{path}/ready") == {"name": operation.name, "ready": True}
    assert set(metadata) == {"name", "versions", "platform", "inputs", "outputs"}
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == (operation.name, ["1"], "convpool")
    assert [tensor["name"] for tensor in metadata["inputs"]] == [operand.name for operand in operation.operands]
    assert [tensor["name"] for tensor in metadata["outputs"]] == list(operation.results)
    for tensor in metadata["inputs"] + metadata["outputs"]:
        assert set(tensor) == {"name", "datatype", "shape"}
        assert tensor["datatype"] in DATATYPES
        assert set(tensor["shape"]) <= {-1}
    assert set(config) == {"name", "platform", "backend", "max_batch_size", "input", "output"}
    assert (config["name"], config["platform"], config["max_batch_size"]) == (operation.name, "convpool", 0)
    for tensors, configured in ((metadata["inputs"], config["input"]), (metadata["outputs"], config["output"])):
        assert [(each["name"], f"TYPE_{each['datatype']}", each["shape"]) for each in tensors] == [
            (each["name"], each["data_type"], each["dims"]) for each in configured
        ]
    optional = [operand.name for operand in operation.operands if operand.optional]
    assert [each["name"] for each in config["input"] if each["optional"]] == optional
    assert all(set(each) == {"name", "data_type", "dims"} for each in config["output"])


@pytest.mark.parametrize("call", EXAMPLES, ids=str)
def test_a_model_computes_what_its_metadata_say(client: ApplicationClient, call: Call) -> None:
    """Inputs of the datatypes in the metadata give outputs of those datatypes, and as many axes as a 2-D layer has."""
    metadata = get(client, f"/v2/models/{model_of(call)}")
    declared = {tensor["name"]: tensor for tensor in metadata["inputs"]}
    operands = {
        name: array if array.dtype.kind in "iu" else array.astype(DATATYPES[declared[name]["datatype"]])
        for name, array in call.operands.items()
    }
    given = results(client.post(path_of(call), **request(operands, call.parameters, binary=True)))
    outputs = {tensor["name"]: tensor for tensor in metadata["outputs"]}
    for name, array in given.items():
        if array.dtype.kind == "f":
            assert np.dtype(DATATYPES[outputs[name]["datatype"]]) == array.dtype
    expected = computed(call, operands)
    assert {name: array.dtype for name, array in given.items()} == {
        name: array.dtype for name, array in expected.items()
    }


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("suffix", ["", "/config", "/ready", "/versions/1", "/versions/1/ready", "/infer"])
def test_an_unknown_model(client: ApplicationClient, suffix: str) -> None:
    method = "POST" if suffix == "/infer" else "GET"
    text = error(client.request(method, f"/v2/models/conv_forwrd{suffix}"), 404)
    assert "conv_forward" in text
    assert "forwrd" not in text


def test_a_model_of_quite_another_name(client: ApplicationClient) -> None:
    text = error(client.get("/v2/models/resnet50"), 404)
    assert all(model in text for model in models(client))
    assert "resnet" not in text
    error(client.get(f"/v2/models/{'x' * 5000}"), 404)


@pytest.mark.parametrize("version", ["2", "0", "latest", "1.0"])
@pytest.mark.parametrize("suffix", ["", "/config", "/ready", "/infer"])
def test_an_unknown_version(client: ApplicationClient, version: str, suffix: str) -> None:
    method = "POST" if suffix == "/infer" else "GET"
    text = error(client.request(method, f"/v2/models/conv_forward/versions/{version}{suffix}"), 404)
    assert "the only one is 1" in text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/nothing"),
        ("GET", "/v2/models"),
        ("GET", "/v2/models/conv_forward/stats"),
        ("POST", "/v2/repository/models/conv_forward/load"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/models/conv_forward/generate"),
    ],
)
def test_an_unknown_path(client: ApplicationClient, method: str, path: str) -> None:
    assert "GET /v2 describes the server" in error(client.request(method, path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", "/v2/models/conv_forward/infer", "POST"),
        ("DELETE", "/v2/models/conv_forward", "GET"),
    ],
)
def test_another_method(client: ApplicationClient, method: str, path: str, allowed: str) -> None:
    response = client.request(method, path)
    assert allowed in error(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("prefix", ["", "/v2x", "/v1"])
def test_only_paths_below_v2_have_the_protocol_s_errors(client: ApplicationClient, prefix: str) -> None:
    response = client.get(f"{prefix}/nothing")
    assert response.headers["content-type"] == "application/problem+json"


CALL = CALLS_BY_NAME["conv_forward"]


@pytest.mark.parametrize("setting", ["max_body_bytes", "max_json_bytes", "max_work", "max_result_bytes"])
def test_what_is_too_large(setting: str) -> None:
    with limited(**{setting: 16}) as client:
        text = error(client.post(path_of(CALL), **request(CALL.operands, CALL.parameters)), 413)
        assert "at most 16" in text


KIND_OF = {problem: kind for problem, kind in KINDS.items() if issubclass(problem, RequestProblem)}


@contextlib.contextmanager
def raising(problem: Exception) -> Iterator[ApplicationClient]:
    """A client of an application below /prefix that raises an exception at every path."""
    app, outer = FastAPI(), FastAPI()

    @app.get("/{path:path}")
    async def endpoint() -> None:
        raise problem

    install_error_handlers(app)
    outer.mount("/prefix", app)
    with application_client(outer) as client:
        yield client


@pytest.mark.parametrize("kind", KIND_OF, ids=lambda kind: kind.__name__)
def test_every_kind_of_problem_is_an_error_of_the_protocol(kind: type[RequestProblem]) -> None:
    findings = [Finding.of("/stride", "one", got="a", expected="b"), Finding.of("", "two", got="c", expected="d")]
    status = KIND_OF[kind].status
    with raising(kind(*findings)) as client:
        response = client.get("/prefix/v2/models/x/infer")
        text = error(response, 400 if status == 422 else status)
        assert text == "/stride: one; got a, expected b; two; got c, expected d"
        assert ("retry-after" in response.headers) == (status in {429, 503})
        assert client.get("/prefix/other").json()["status"] == status


@pytest.mark.parametrize(
    ("problem", "status"),
    [(MemoryError(), 503), (ShapeError("input", "must have", "axes", got="none"), 400), (RuntimeError("secret"), 500)],
)
def test_other_exceptions_are_errors_of_the_protocol(problem: Exception, status: int) -> None:
    with raising(problem) as client:
        assert "secret" not in error(client.get("/prefix/v2"), status)
