"""The onnx package's node tests of convolution and pooling, through HTTP in every encoding that a client may choose."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service.onnx_nodes import EXPRESSED, NOT_EXPRESSED, Array, Call, calls, node_tests, operators

NPY, NPZ = "application/x-npy", "application/x-npz"
NAMES = [name for names in EXPRESSED.values() for name in names]


def query(call: Call) -> dict[str, str]:
    """The parameters as JSON values, or as bare words where they are strings."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in call.parameters.items()
    }


def read_npy(response: httpx.Response) -> Array:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == NPY
    output: Array = np.load(io.BytesIO(response.content), allow_pickle=False)
    return output


def read_json(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["output"]
    return answer["output"]


def send_npy(client: ApplicationClient, call: Call) -> Array:
    body = io.BytesIO()
    np.save(body, call.operands["input"])
    headers = {"content-type": NPY}
    return read_npy(client.post(call.path, params=query(call), content=body.getvalue(), headers=headers))


def send_npz(client: ApplicationClient, call: Call) -> Array:
    body = io.BytesIO()
    np.savez(body, allow_pickle=False, **call.operands)
    headers = {"content-type": NPZ}
    return read_npy(client.post(call.path, params=query(call), content=body.getvalue(), headers=headers))


def send_nested_lists(client: ApplicationClient, call: Call) -> Array:
    operands = {name: operand.tolist() for name, operand in call.operands.items()}
    return np.array(read_json(client.post(call.path, json={**call.parameters, **operands})))


def send_flat_lists(client: ApplicationClient, call: Call) -> Array:
    operands = {
        name: {"dtype": operand.dtype.name, "shape": operand.shape, "data": operand.reshape(-1).tolist()}
        for name, operand in call.operands.items()
    }
    output = read_json(client.post(call.path, json={**call.parameters, **operands}))
    assert set(output) == {"dtype", "shape", "data"}
    return np.array(output["data"], dtype=output["dtype"]).reshape(output["shape"])


SENDERS = {"npy": send_npy, "npz": send_npz, "nested lists": send_nested_lists, "flat lists": send_flat_lists}


def test_every_node_test_is_expressed_or_listed() -> None:
    """A new version of onnx adds no test unnoticed, and loses none."""
    assert sorted(node_tests()) == sorted([*NAMES, *NOT_EXPRESSED])


def test_every_test_of_a_single_node_is_expressed() -> None:
    for operator, names in EXPRESSED.items():
        assert all(operators(node_tests()[name]) == [operator] for name in names)
    assert all(len(operators(node_tests()[name])) > 1 for name in NOT_EXPRESSED)


@pytest.mark.parametrize(
    ("name", "encoding"),
    # npy holds one operand, and Conv has two.
    [
        (name, encoding)
        for operator, names in EXPRESSED.items()
        for name in names
        for encoding in SENDERS
        if (operator, encoding) != ("Conv", "npy")
    ],
)
def test_node(client: ApplicationClient, name: str, encoding: str) -> None:
    found = calls(name)
    assert found
    for call in found:
        output = SENDERS[encoding](client, call)
        assert output.shape == call.expected.shape
        # Integers and nested lists without a dtype compute as float64.
        keeps = call.operands["input"].dtype == np.float32 and encoding != "nested lists"
        assert output.dtype == (np.float32 if keeps else np.float64)
        np.testing.assert_allclose(output, call.expected, rtol=call.rtol, atol=call.atol)
