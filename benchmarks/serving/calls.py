"""The calls that are timed, and how each wire writes their requests and reads their responses."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from cnn_core import Conv, MaxPool

__all__ = ["CALLS", "PEER_WIRES", "WIRES", "Call", "peer_form", "peer_npz", "read_response", "wrong_numbers"]

Array = NDArray[np.float32]

BOUNDARY = "convpool-benchmark"
CRLF = "\r\n"
CLOSE_ENOUGH = 1e-5
"""Of the largest value: sums of float32 in another order, or of an algorithm with fewer products."""


@dataclass(frozen=True)
class Call:
    """A request's content, whatever wire it is written in; sizes channels-last, in float32.

    Parameters
    ----------
    name : str
    title : str
    layer : {"conv", "pool"}
    shapes : dict
        Of the operands.
    parameters : dict
    wires : tuple of str
        The wires that it is timed in.
    with_peers : bool
        Whether the other servers are timed with it too.
    most_clients : int
        The most clients that it is timed with.
    """

    name: str
    title: str
    layer: str
    shapes: dict[str, tuple[int, ...]]
    parameters: dict[str, Any]
    wires: tuple[str, ...]
    with_peers: bool = True
    most_clients: int = 64
    operands: dict[str, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        operands = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in self.shapes.items()}
        if "weight" in operands:  # so that outputs have a variance of 1
            operands["weight"] /= np.sqrt(math.prod(self.shapes["weight"][:-1]), dtype=np.float32)
        object.__setattr__(self, "operands", operands)

    @property
    def target(self) -> str:
        """Path and query."""
        query = f"?{urlencode(self.parameters)}" if self.parameters else ""
        return f"/{self.layer}/forward{query}"

    def compute(self) -> Array:
        """Compute in this process, with what the service computes with."""
        if self.layer == "pool":
            return MaxPool(kernel_size=self.parameters["kernel_size"]).forward(self.operands["input"])
        return Conv(padding=self.parameters.get("padding", 0)).forward(*self.operands.values())


TENSOR_WIRES = ("json", "npz", "multipart", "safetensors", "v2-json", "v2-binary")


def _conv(name: str, title: str, input: tuple[int, ...], weight: tuple[int, ...], **parameters: int) -> Call:
    return Call(name, title, "conv", {"input": input, "weight": weight}, parameters, TENSOR_WIRES)


CALLS = (
    _conv("small", "3x3 1x8x8x3 to 8", (1, 8, 8, 3), (3, 3, 3, 8)),
    _conv("lenet", "LeNet 5x5 64x28x28x1 to 6", (64, 28, 28, 1), (5, 5, 1, 6)),
    _conv("resnet", "ResNet 3x3 8x56x56x64 to 64", (8, 56, 56, 64), (3, 3, 64, 64), padding=1),
    Call(
        "copy",
        "64 MiB through a 1x1 window",
        "pool",
        {"input": (64, 64, 64, 64)},
        {"mode": "max", "kernel_size": 1},
        ("npy", "v2-binary"),
        with_peers=False,
        most_clients=1,
    ),
)

# ------------------------------------------------------------------------------------------------------------- requests


def _request(target: str, headers: dict[str, str], body: bytes) -> bytes:
    headers = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body))}
    lines = (f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", "")
    return CRLF.join(lines).encode() + body


def _shortest(array: Array) -> NDArray[np.float64]:
    """Return numbers that JSON writes with as few digits as float32 needs."""
    return array.astype("U").astype(np.float64)


def _json(call: Call) -> bytes:
    content = {name: _shortest(operand).tolist() for name, operand in call.operands.items()}
    body = json.dumps(call.parameters | {"dtype": "float32"} | content).encode()
    return _request(f"/{call.layer}/forward", {"Content-Type": "application/json"}, body)


def _npz(call: Call) -> bytes:
    return _request(call.target, {"Content-Type": "application/x-npz"}, _npz_of(call.operands))


def _npz_of(operands: dict[str, Array]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **operands)
    return file.getvalue()


def _npy_of(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npy(call: Call) -> bytes:
    (operand,) = call.operands.values()
    return _request(call.target, {"Content-Type": "application/x-npy"}, _npy_of(operand))


def _form(target: str, files: dict[str, bytes], fields: dict[str, Any]) -> bytes:
    parts = [
        f'--{BOUNDARY}{CRLF}Content-Disposition: form-data; name="{name}"; filename="{name}"{CRLF}'
        f"Content-Type: application/octet-stream{CRLF}{CRLF}".encode()
        + content
        + CRLF.encode()
        for name, content in files.items()
    ]
    parts += [
        f'--{BOUNDARY}{CRLF}Content-Disposition: form-data; name="{name}"{CRLF}{CRLF}{value}{CRLF}'.encode()
        for name, value in fields.items()
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--{CRLF}".encode()
    return _request(target, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body)


def _multipart(call: Call) -> bytes:
    files = {name: _npy_of(operand) for name, operand in call.operands.items()}
    return _form(f"/{call.layer}/forward", files, call.parameters)


def _safetensors(call: Call) -> bytes:
    body = safetensors.numpy.save(call.operands)
    return _request(call.target, {"Content-Type": "application/vnd.safetensors"}, body)


def _v2_inputs(call: Call) -> list[dict[str, Any]]:
    return [{"name": name, "shape": list(operand.shape), "datatype": "FP32"} for name, operand in call.operands.items()]


def _v2_json(call: Call) -> bytes:
    inputs = [
        tensor | {"data": _shortest(operand).ravel().tolist()}
        for tensor, operand in zip(_v2_inputs(call), call.operands.values(), strict=True)
    ]
    body = json.dumps({"parameters": call.parameters, "inputs": inputs}).encode()
    return _request(_v2_target(call), {"Content-Type": "application/json"}, body)


def _v2_binary(call: Call) -> bytes:
    inputs = [
        tensor | {"parameters": {"binary_data_size": operand.nbytes}}
        for tensor, operand in zip(_v2_inputs(call), call.operands.values(), strict=True)
    ]
    header = json.dumps({"parameters": call.parameters | {"binary_data_output": True}, "inputs": inputs}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    body = header + b"".join(operand.tobytes() for operand in call.operands.values())
    return _request(_v2_target(call), headers, body)


def _v2_target(call: Call) -> str:
    return f"/v2/models/{call.layer}_forward/infer"


WIRES: dict[str, Callable[[Call], bytes]] = {
    "json": _json,
    "npy": _npy,
    "npz": _npz,
    "multipart": _multipart,
    "safetensors": _safetensors,
    "v2-json": _v2_json,
    "v2-binary": _v2_binary,
}


def _channels_first(call: Call) -> dict[str, Array]:
    """Return the operands in the layout of PyTorch, so that peers need not change it."""
    axes = {"input": (0, 3, 1, 2), "weight": (3, 2, 0, 1)}
    return {name: np.ascontiguousarray(operand.transpose(axes[name])) for name, operand in call.operands.items()}


def peer_npz(call: Call) -> bytes:
    """Return the request of a peer that reads a body."""
    return _request(call.target, {"Content-Type": "application/x-npz"}, _npz_of(_channels_first(call)))


def peer_form(call: Call) -> bytes:
    """Return the request of a peer that reads a form."""
    return _form(f"/{call.layer}/forward", {"operands": _npz_of(_channels_first(call))}, call.parameters)


PEER_WIRES: dict[str, tuple[str, Callable[[Call], bytes]]] = {
    "plain": ("npz", peer_npz),
    "litserve": ("npz", peer_npz),
    "bentoml": ("npz in a form", peer_form),
}

# ------------------------------------------------------------------------------------------------------------ responses


def read_response(response: bytes) -> Array:
    """Return the output that a response holds.

    Raises
    ------
    ValueError
        If its type is none that is known.
    """
    head, _, body = response.partition(b"\r\n\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode("latin-1").split(CRLF)[1:])
    }
    match headers.get("content-type", "").partition(";")[0]:
        case "application/x-npy":
            return np.load(io.BytesIO(body))
        case "application/vnd.safetensors":
            return safetensors.numpy.load(body)["output"]
        case "application/json":
            content = json.loads(body)
            if "outputs" in content:
                (output,) = content["outputs"]
                return np.array(output["data"], np.float32).reshape(output["shape"])
            return np.array(content["output"], np.float32)
        case "application/octet-stream":
            length = int(headers["inference-header-content-length"])
            (output,) = json.loads(body[:length])["outputs"]
            return np.frombuffer(body[length:], "<f4").reshape(output["shape"])
        case other:
            raise ValueError(f"a response of type {other!r}")


def wrong_numbers(response: bytes, expected: Array, *, channels_first: bool) -> str:
    """Return what is wrong with the output of a response; an empty string if it is as expected."""
    try:
        output = read_response(response)
    except (ValueError, KeyError, TypeError) as error:
        return f"unreadable response: {error!r}"
    if channels_first:
        output = output.transpose(0, 2, 3, 1)
    if output.shape != expected.shape:
        return f"an output of shape {output.shape} where {expected.shape} was expected"
    off = float(np.abs(output - expected).max() / np.abs(expected).max())
    return "" if off <= CLOSE_ENOUGH else f"an output that is off by {off:.1e} of the largest value"
