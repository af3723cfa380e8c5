"""A request takes the memory of its body, of its results and of the core's workspace: no format copies a tensor."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cnn_core.runtime import workspace
from service.operations.catalogue import OPERATIONS
from tests.service.memory import Exchange, allocated, resident, stored_request
from tests.service.payloads import AnyArray

OVERHEAD = 2**21
"""Bytes of everything that does not grow with the tensors: chunks, iterators, caches."""

RESIDENT_OVERHEAD = 2**23
"""Of a process: also the stacks and the allocators' memory of its threads."""

POOL = {"mode": "max", "kernel_size": 1}
IMAGE = (24, 512, 512, 1)  # 24 MiB in float32

WIRES = ["npy", "npz", "safetensors", "multipart", "multipart_with_query"]
each_wire = pytest.mark.parametrize("encoder", WIRES)


def workspace_of(path: str, operands: dict[str, AnyArray], parameters: dict[str, Any]) -> int:
    """What the computation alone takes in addition to its operands and results; less than what is predicted."""
    operation = next(operation for operation in OPERATIONS if operation.path == path)
    call = operation.parse(parameters, operands)
    prediction = operation.predict(call, operands)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "MAX_KEPT_BYTES", 0)
        tracemalloc.start()
        try:
            operation.results_of(call, operands)
            taken = tracemalloc.get_traced_memory()[1] - prediction.result_bytes
        finally:
            tracemalloc.stop()
    assert taken <= prediction.workspace_bytes + OVERHEAD
    return taken


def require_little(exchange: Exchange, computation: int, overhead: int) -> None:
    assert exchange.peak <= 1.1 * (exchange.request + exchange.response) + computation + overhead


@each_wire
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_a_request_that_returns_what_it_sends(encoder: str, dtype: str, tmp_path: Path) -> None:
    if dtype == ">f4" and encoder == "safetensors":
        return  # it has one byte order
    operands = {"input": np.ones(IMAGE, dtype)}
    native = {"input": operands["input"].view("<f4")}
    exchange = allocated(stored_request(tmp_path, "/pool/forward", encoder, operands, POOL))
    assert exchange.response > native["input"].nbytes
    require_little(exchange, workspace_of("/pool/forward", native, POOL), OVERHEAD)


@pytest.mark.parametrize("encoder", ["npz", "safetensors", "multipart"])
def test_a_request_of_several_tensors(encoder: str, tmp_path: Path) -> None:
    operands: dict[str, AnyArray] = {"grad_output": np.ones(IMAGE, "<f4"), "input": np.ones(IMAGE, "<f4")}
    exchange = allocated(stored_request(tmp_path, "/pool/backward", encoder, operands, POOL))
    require_little(exchange, workspace_of("/pool/backward", operands, POOL), OVERHEAD)


def test_a_request_in_bfloat16(tmp_path: Path) -> None:
    operands = {"input": np.ones(IMAGE, ml_dtypes.bfloat16)}
    exchange = allocated(stored_request(tmp_path, "/pool/forward", "safetensors", operands, POOL))
    require_little(exchange, workspace_of("/pool/forward", operands, POOL), OVERHEAD)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures the peak of a part of a process's life")
def test_the_memory_of_the_process(tmp_path: Path) -> None:
    operands = {"input": np.ones(IMAGE, "<f4")}
    computation = workspace_of("/pool/forward", operands, POOL)
    requests = [stored_request(tmp_path, "/pool/forward", encoder, operands, POOL) for encoder in WIRES]
    for exchange in resident(requests):
        require_little(exchange, computation, RESIDENT_OVERHEAD)
        assert exchange.peak > 0.9 * (exchange.request + exchange.response)  # it was measured
