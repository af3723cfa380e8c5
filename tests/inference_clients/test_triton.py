"""Triton's HTTP client, unchanged, calls every model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from cnn_core import MaxPool, __version__
from tests.service.calls import CALLS, EXAMPLES, as_type, assert_identical, computed
from tests.service.payloads import AnyArray, Call, Operands

WINDOW_OF_ONE = {"mode": "max", "kernel_size": 1}


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def model_of(call: Call) -> str:
    return call.path.strip("/").replace("/", "_")


def inputs(operands: Operands, *, binary: bool = True) -> list[triton.InferInput]:
    given = []
    for name, array in operands.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        given.append(tensor.set_data_from_numpy(array, binary_data=binary))
    return given


def arrays(result: triton.InferResult) -> dict[str, AnyArray]:
    return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}


def test_the_server(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert (metadata["name"], metadata["version"]) == ("convpool", __version__)
    assert "binary_tensor_data" in metadata["extensions"]


def test_the_index_has_the_models(client: triton.InferenceServerClient) -> None:
    entries = client.get_model_repository_index()
    assert {entry["name"] for entry in entries} == {model_of(call) for call in CALLS}
    assert all(entry["state"] == "READY" for entry in entries)


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("call", EXAMPLES, ids=str)
def test_what_a_model_says_of_itself(client: triton.InferenceServerClient, call: Call, version: str) -> None:
    model = model_of(call)
    assert client.is_model_ready(model, version)
    metadata, config = client.get_model_metadata(model, version), client.get_model_config(model, version)
    assert metadata["name"] == config["name"] == model
    assert metadata["versions"] == ["1"]
    assert {tensor["name"] for tensor in metadata["inputs"]} >= set(call.operands)
    assert {tensor["name"] for tensor in metadata["outputs"]} >= set(call.results)
    assert config["max_batch_size"] == 0
    optional = {tensor["name"] for tensor in config["input"] if tensor["optional"]}
    assert {tensor["name"] for tensor in config["input"]} - optional <= set(call.operands)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_model(client: triton.InferenceServerClient, call: Call, dtype: str, *, binary: bool) -> None:
    operands = as_type(call.operands, dtype)
    given = inputs(operands, binary=binary)
    result = client.infer(model_of(call), given, parameters=call.parameters, request_id="42")
    assert_identical(arrays(result), computed(call, operands))
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("42", model_of(call), "1")


@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression(
    client: triton.InferenceServerClient,
    request_compression: str | None,
    response_compression: str | None,
    *,
    binary: bool,
) -> None:
    for call in EXAMPLES:
        result = client.infer(
            model_of(call),
            inputs(call.operands, binary=binary),
            outputs=[triton.InferRequestedOutput(name, binary_data=binary) for name in call.results],
            parameters=call.parameters,
            request_compression_algorithm=request_compression,
            response_compression_algorithm=response_compression,
        )
        assert_identical(arrays(result), computed(call, call.operands))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("call", EXAMPLES, ids=str)
def test_outputs_that_are_asked_for(client: triton.InferenceServerClient, call: Call, *, binary: bool) -> None:
    name = call.results[-1]
    result = client.infer(
        model_of(call),
        inputs(call.operands),
        model_version="1",
        outputs=[triton.InferRequestedOutput(name, binary_data=binary)],
        parameters={name: json.dumps(value) for name, value in call.parameters.items() if not isinstance(value, str)}
        | {name: value for name, value in call.parameters.items() if isinstance(value, str)},
    )
    assert_identical(arrays(result), {name: computed(call, call.operands)[name]})
    assert ("data" in result.get_output(name)) != binary


def test_what_the_client_reserves(client: triton.InferenceServerClient) -> None:
    array = np.arange(4.0).reshape(1, 4, 1)
    sequence: dict[str, Any] = {"sequence_id": 7, "sequence_start": True, "sequence_end": True}
    result = client.infer(
        "pool_forward", inputs({"input": array}), parameters=WINDOW_OF_ONE, priority=3, timeout=10**6, **sequence
    )
    assert_identical(arrays(result), {"output": array})


def test_requests_without_waiting(client: triton.InferenceServerClient) -> None:
    array = np.arange(4.0).reshape(1, 4, 1)
    pending = [
        client.async_infer("pool_forward", inputs({"input": array + each}), parameters=WINDOW_OF_ONE)
        for each in range(4)
    ]
    for each, request in enumerate(pending):
        assert_identical(arrays(request.get_result()), {"output": array + each})


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16"])
@pytest.mark.parametrize("binary", [True, False])
def test_other_types(client: triton.InferenceServerClient, dtype: str, *, binary: bool) -> None:
    array = np.arange(6).astype(dtype).reshape(1, 6, 1)
    result = client.infer(
        "pool_forward", inputs({"input": array}, binary=binary), parameters={"mode": "max", "kernel_size": 2}
    )
    assert_identical(arrays(result), {"output": MaxPool(kernel_size=2).forward(array)})


def test_bfloat16(client: triton.InferenceServerClient) -> None:
    array = np.array([1, 2, 3, 256]).astype(ml_dtypes.bfloat16).reshape(1, 4, 1)
    result = client.infer("pool_forward", inputs({"input": array}), parameters={"mode": "avg", "kernel_size": 2})
    output = result.as_numpy("output")
    assert output.dtype == ml_dtypes.bfloat16
    assert output.reshape(-1).astype(float).tolist() == [1.5, 130.0]  # 129.5 to the nearest bfloat16


@pytest.mark.parametrize("shape", [(0, 4, 1), (2, 0, 1)])
def test_an_empty_tensor(client: triton.InferenceServerClient, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.float32)
    if shape[0]:
        with pytest.raises(InferenceServerException, match="/input"):
            client.infer("pool_forward", inputs({"input": array}), parameters=WINDOW_OF_ONE)
    else:
        result = client.infer("pool_forward", inputs({"input": array}), parameters=WINDOW_OF_ONE)
        assert_identical(arrays(result), {"output": array})


def test_shared_memory_is_refused_in_words(client: triton.InferenceServerClient) -> None:
    tensor = triton.InferInput("input", [1, 4, 1], "FP32")
    tensor.set_shared_memory("region", 16)
    with pytest.raises(InferenceServerException, match="shared memory"):
        client.infer("pool_forward", [tensor], parameters=WINDOW_OF_ONE)


@pytest.mark.parametrize(
    ("model", "version", "parameters", "status", "words"),
    [
        ("pool_forwrd", "", WINDOW_OF_ONE, "404", "pool_forward"),
        ("pool_forward", "3", WINDOW_OF_ONE, "404", "the only one is 1"),
        ("pool_forward", "", {**WINDOW_OF_ONE, "strides": 2}, "400", "did you mean stride"),
        ("pool_forward", "", {"mode": "max", "kernel_size": 5}, "400", "a window spans 5"),
        ("pool_forward", "", {}, "400", "mode is required"),
    ],
)
def test_errors_can_be_read(
    client: triton.InferenceServerClient, model: str, version: str, parameters: dict[str, Any], status: str, words: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs({"input": np.ones((1, 4, 1))}), model_version=version, parameters=parameters)
    assert caught.value.status() == status
    assert words in caught.value.message()


@pytest.mark.parametrize("version", ["", "2"])
def test_a_model_that_does_not_exist_is_not_ready(client: triton.InferenceServerClient, version: str) -> None:
    assert not client.is_model_ready("resnet50" if not version else "pool_forward", version)
    with pytest.raises(InferenceServerException, match="There is no"):
        client.get_model_metadata("resnet50" if not version else "pool_forward", version)


def test_what_is_not_served_is_an_error_in_words(client: triton.InferenceServerClient) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.get_inference_statistics("pool_forward"),
        client.get_system_shared_memory_status,
        client.get_log_settings,
        lambda: client.load_model("pool_forward"),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match="nothing at this path"):
            call()


def test_the_example_in_readme_works_as_printed(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = (
        block for block in re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL) if "triton" in block
    )
    exec(block.replace("127.0.0.1:8000", address), {})
    assert capsys.readouterr().out == "(3, 3, 3, 16)\n"
