"""Requests and responses of the Open Inference Protocol, written and read byte by byte, by no codec of the service."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx
import ml_dtypes
import numpy as np

from tests.clients import ApplicationClient
from tests.service.payloads import AnyArray, Call, Operands, Options, little_endian

LENGTH = "Inference-Header-Content-Length"
DATATYPES = {
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": ml_dtypes.bfloat16,
}
NAMES = {np.dtype(dtype): name for name, dtype in DATATYPES.items()}


def model_of(call: Call) -> str:
    """The model that a call of an operation is: /conv/forward is conv_forward."""
    return call.path.strip("/").replace("/", "_")


def path_of(call: Call, version: str = "") -> str:
    return f"/v2/models/{model_of(call)}{version}/infer"


def tensor(name: str, array: AnyArray, *, binary: bool = False, nested: bool = False) -> dict[str, Any]:
    """An input; the bytes of a binary one are to follow the JSON."""
    described: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": NAMES[array.dtype]}
    if binary:
        return {**described, "parameters": {"binary_data_size": array.nbytes}}
    return {**described, "data": array.tolist() if nested else array.reshape(-1).tolist()}


def request(
    operands: Operands,
    parameters: Mapping[str, Any] | None = None,
    *,
    binary: Collection[str] | bool = False,
    nested: bool = False,
    padding: int = 0,
    **members: Any,
) -> Options:
    """Options of a request.

    ``binary`` are the names of the operands that are sent as bytes, ``padding`` the spaces after the JSON, and
    ``members`` further members of the request.
    """
    names = (operands if binary else ()) if isinstance(binary, bool) else binary
    inputs = [tensor(name, array, binary=name in names, nested=nested) for name, array in operands.items()]
    content = {"inputs": inputs, **({"parameters": dict(parameters)} if parameters is not None else {}), **members}
    text = json.dumps(content).encode() + b" " * padding
    data = b"".join(raw_bytes(array) for name, array in operands.items() if name in names)
    headers = {LENGTH: str(len(text))} if names else {}
    return {"content": text + data, "headers": headers}


def raw_bytes(array: AnyArray) -> bytes:
    """The bytes of an array, little-endian and in C order."""
    return array.tobytes() if array.dtype.kind == "V" else little_endian(array).tobytes()


def envelope(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """The JSON of a response, and the bytes after it."""
    assert response.status_code == 200, response.text
    if LENGTH in response.headers:
        assert response.headers["content-type"] == "application/octet-stream"
        length = int(response.headers[LENGTH])
        return json.loads(response.content[:length]), response.content[length:]
    assert response.headers["content-type"] == "application/json"
    return response.json(), b""


def results(response: httpx.Response) -> dict[str, AnyArray]:
    """The results of a response, which has nothing else in it."""
    content, data = envelope(response)
    assert set(content) <= {"model_name", "model_version", "id", "parameters", "outputs"}
    arrays: dict[str, AnyArray] = {}
    for output in content["outputs"]:
        dtype, shape = np.dtype(DATATYPES[output["datatype"]]), output["shape"]
        if "data" in output:
            assert set(output) == {"name", "shape", "datatype", "data"}
            array = np.array(output["data"], dtype)
        else:
            assert set(output) == {"name", "shape", "datatype", "parameters"}
            size = output["parameters"]["binary_data_size"]
            array, data = np.frombuffer(data[:size], dtype), data[size:]
        assert array.shape == (math.prod(shape),)
        arrays[output["name"]] = array.reshape(shape)
    assert data == b""
    return arrays


def asked(*names: str, **binary: bool) -> list[dict[str, Any]]:
    """The outputs of a request; keywords say of one whether it is to be binary."""
    return [
        *({"name": name} for name in names),
        *({"name": name, "parameters": {"binary_data": flag}} for name, flag in binary.items()),
    ]


def error(response: httpx.Response, *statuses: int) -> str:
    """Check that a response is an error of the protocol, and return what it says."""
    assert response.status_code in statuses, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert list(content) == ["error"]
    text = content["error"]
    assert isinstance(text, str)
    assert text
    assert len(text) < 8192
    return text


def refused(client: ApplicationClient, path: str, *statuses: int, **options: Any) -> str:
    """Send a request that must be refused; return the error's text."""
    return error(client.post(path, **options), *statuses)


def models(client: ApplicationClient) -> Sequence[str]:
    return [entry["name"] for entry in client.post("/v2/repository/index").json()]
