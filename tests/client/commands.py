"""What the tests of the commands share: operands, and a server that stands in for the service."""

from __future__ import annotations

import io
import json
from urllib.parse import parse_qs

import httpx
import numpy as np
import pytest

from cnn_core import Conv
from convpool.__main__ import main
from tests.client.golden import REPORT, archive

Output = pytest.CaptureFixture[str]
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.standard_normal((1, 3, 9, 8)).astype(np.float32)
WEIGHT = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
CONV = Conv(data_format="channels_first", stride=(2, 1), padding="same")
FLAGS = ["--input", "x.npy", "--weight", "w.npy", "--data-format", "NCHW", "--stride", "2", "1", "--padding=same"]


def fails(capsys: Output, *command: str) -> str:
    """What a command says that ends with status 2; nothing of it on standard output."""
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"convpool {command[0]}: error: ")
    return said.err


class StandIn:
    """A server that answers ``cases``, and ``check`` with the recorded report if the core computes something else."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path.endswith("/cases"):
            return httpx.Response(200, content=archive())
        tensors = dict(np.load(io.BytesIO(request.content)))
        query = parse_qs(request.url.query.decode())
        given = {name: json.loads(value) for name, (value,) in query.items() if name != "accumulation"}
        right = Conv(**given).forward(tensors["input"], tensors["weight"])
        if np.shape(right) == tensors["claimed_output"].shape and np.allclose(right, tensors["claimed_output"]):
            agreeing = {**REPORT, "agrees": True, "tensors": {}, "explanations": []}
            del agreeing["hint"]
            return httpx.Response(200, json=agreeing)
        return httpx.Response(200, json=REPORT)
