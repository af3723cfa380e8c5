"""KServe's REST client, unchanged, calls every model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, InferResponse
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype

from tests.service.calls import CALLS, EXAMPLES, as_type, assert_identical, computed
from tests.service.payloads import AnyArray, Call, Operands

WINDOW_OF_ONE = {"mode": "max", "kernel_size": 1}


Run = Callable[[Callable[[InferenceRESTClient], Awaitable[Any]]], Any]
"""Runs a call of the client."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """The client belongs to one event loop, and takes longer to make than most calls."""
    with asyncio.Runner() as runner:

        async def connected() -> InferenceRESTClient:
            return InferenceRESTClient(RESTConfig(protocol="v2"))

        client = runner.run(connected())

        async def called(call: Callable[[InferenceRESTClient], Awaitable[Any]]) -> Any:
            return await call(client)

        yield lambda call: runner.run(called(call))
        runner.run(client.close())


def model_of(call: Call) -> str:
    return call.path.strip("/").replace("/", "_")


def request(
    model: str, operands: Operands, parameters: dict[str, Any], *, binary: bool, outputs: Any = None
) -> InferRequest:
    inputs = []
    for name, array in operands.items():
        tensor = InferInput(name, list(array.shape), from_np_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model, inputs, request_id="42", parameters=parameters, request_outputs=outputs)


def infer(run: Run, address: str, model: str, *arguments: Any, **options: Any) -> InferResponse:
    data = request(model, *arguments, **options)
    return run(lambda client: client.infer(f"http://{address}", data, model_name=model))


def arrays(response: InferResponse) -> dict[str, AnyArray]:
    return {output.name: output.as_numpy() for output in response.outputs}


def test_the_server(run: Run, address: str) -> None:
    assert run(lambda client: client.is_server_live(f"http://{address}")) is True
    assert run(lambda client: client.is_server_ready(f"http://{address}")) is True


@pytest.mark.parametrize("call", EXAMPLES, ids=str)
def test_a_model_is_ready(run: Run, address: str, call: Call) -> None:
    assert run(lambda client: client.is_model_ready(f"http://{address}", model_of(call))) is True


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_model(run: Run, address: str, call: Call, dtype: str, *, binary_output: bool, binary: bool) -> None:
    operands = as_type(call.operands, dtype)
    parameters = {
        name: str(value) if isinstance(value, (list, tuple)) else value for name, value in call.parameters.items()
    }
    parameters["binary_data_output"] = binary_output
    response = infer(run, address, model_of(call), operands, parameters, binary=binary)
    assert_identical(arrays(response), computed(call, operands))
    assert (response.id, response.model_name) == ("42", model_of(call))


@pytest.mark.parametrize("binary", [True, False])
def test_an_output_that_is_asked_for(run: Run, address: str, *, binary: bool) -> None:
    (call,) = (call for call in EXAMPLES if model_of(call) == "conv_backward")
    outputs = [RequestedOutput("grad_weight", {"binary_data": binary})]
    response = infer(run, address, "conv_backward", call.operands, dict(call.parameters), binary=True, outputs=outputs)
    assert_identical(arrays(response), {"grad_weight": computed(call, call.operands)["grad_weight"]})


@pytest.mark.parametrize("binary", [True, False])
def test_an_empty_tensor(run: Run, address: str, *, binary: bool) -> None:
    array = np.zeros((0, 4, 1), np.float32)
    response = infer(run, address, "pool_forward", {"input": array}, WINDOW_OF_ONE, binary=binary)
    assert response.outputs[0].shape == [0, 4, 1]


def test_a_request_as_a_dictionary(run: Run, address: str) -> None:
    tensor = {"name": "input", "shape": [1, 2, 1], "datatype": "FP32", "data": [1, 2]}
    data = {"inputs": [tensor], "parameters": WINDOW_OF_ONE}
    response = run(lambda client: client.infer(f"http://{address}", data, model_name="pool_forward"))
    assert response.outputs[0].as_numpy().reshape(-1).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("model", "parameters", "status", "words"),
    [
        ("pool_forwrd", WINDOW_OF_ONE, 404, "pool_forward"),
        ("pool_forward", {**WINDOW_OF_ONE, "strides": 2}, 400, "did you mean stride"),
        ("pool_forward", {}, 400, "mode is required"),
    ],
)
def test_errors_can_be_read(
    run: Run, address: str, model: str, parameters: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        infer(run, address, model, {"input": np.ones((1, 4, 1))}, parameters, binary=True)
    assert caught.value.response.status_code == status
    assert words in str(caught.value).partition(f"'{status} ")[0]


def test_a_model_that_does_not_exist_is_not_ready(run: Run, address: str) -> None:
    assert run(lambda client: client.is_model_ready(f"http://{address}", "resnet50")) is False
