"""What a request costs is predicted from shapes and parameters, and refused before anything is allocated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import attacked, json_body, limited

BACKWARD = {"grad_output": np.ones((1, 9, 2)), "input": np.ones((1, 10, 1)), "weight": np.ones((2, 1, 2))}
POOL = {"mode": "avg", "kernel_size": 2, "stride": 1}
COSTS: list[tuple[str, dict[str, Any], dict[str, Any], int, int]] = [  # bytes of the results; work, 0: not told
    ("/conv/forward", {"input": np.ones((1, 10, 1)), "weight": np.ones((2, 1, 2))}, {}, 9 * 2 * 8, 9 * 2 * 2),
    (
        "/conv/forward",
        {"input": np.ones((3, 10, 4), "f4"), "weight": np.ones((2, 2, 6), "f4")},
        {"groups": 2},
        648,
        648,
    ),
    ("/conv/backward", BACKWARD, {}, (10 + 4 + 2) * 8, 0),
    ("/conv/backward", BACKWARD, {"wrt": ["weight", "bias"]}, (4 + 2) * 8, 0),
    ("/pool/forward", {"input": np.ones((1, 10, 3))}, POOL, 27 * 8, 54),
    ("/pool/backward", {"input": np.ones((1, 10, 3)), "grad_output": np.ones((1, 9, 3))}, POOL, 30 * 8, 0),
]
each_cost = pytest.mark.parametrize(("path", "operands", "parameters", "size", "work"), COSTS)


@each_cost
def test_the_size_of_the_results_is_limited(
    path: str, operands: dict[str, Any], parameters: dict[str, Any], size: int, work: int
) -> None:
    del work
    options = payloads.npz_request(operands, parameters)
    with limited(max_result_bytes=size) as client:
        assert client.post(path, **options).status_code == 200
    with limited(max_result_bytes=size - 1) as client:
        document = payloads.refused(client, path, 413, **options)
        assert str(size) in document["detail"]


@each_cost
def test_the_work_is_limited(
    path: str, operands: dict[str, Any], parameters: dict[str, Any], size: int, work: int
) -> None:
    del size
    options = payloads.npz_request(operands, parameters)
    if work:
        with limited(max_multiply_accumulates=work) as client:
            assert client.post(path, **options).status_code == 200
    with limited(max_multiply_accumulates=work - 1 if work else 10) as client:
        payloads.refused(client, path, 413, **options)


@pytest.mark.parametrize(("path", "operands"), [("/conv/forward", COSTS[0][1]), ("/conv/backward", BACKWARD)])
def test_the_memory_of_a_computation_is_limited(path: str, operands: dict[str, Any]) -> None:
    with limited(max_workspace_bytes=1) as client:
        payloads.refused(client, path, 413, **payloads.npz_request(operands, {}))


HUGE: list[dict[str, Any]] = [
    {"padding": 10**9},
    {"padding": "after"},
    {"padding": 2**31 - 1},
    {"padding": 30_000},
    {"padding": 10**9, "stride": 10**9},
    {"dilation": 10**8},
    {"dilation": 10**8, "padding": 10**8},
    {"dilation": 10**9, "padding": "same"},
    {"stride": 10**9},
    {"stride": 2**31 - 1, "padding": 2**31 - 1},
]
HUGE_WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 10**9},
    {"kernel_size": 10**9, "padding": 10**9},
    {"kernel_size": 10**9, "padding": "same"},
    {"kernel_size": 10**9, "ceil_mode": True},
    {"kernel_size": 2**31 - 1, "padding": 2**31 - 1, "stride": 1},
    {"kernel_size": 10**6, "padding": 10**6, "stride": 1},
    {"kernel_size": 10**5, "dilation": 10**5, "padding": 10**9},
]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        *[("conv", parameters) for parameters in HUGE],
        *[(layer, parameters) for layer in ("max", "avg", "avg_include") for parameters in [*HUGE, *HUGE_WINDOWS]],
    ],
    ids=str,
)
def test_a_tiny_request_of_a_huge_cost(
    client: ApplicationClient, layer: str, parameters: dict[str, Any], rank: int
) -> None:
    body: dict[str, Any] = {"input": np.ones([1, *[4] * rank, 1]).tolist(), **parameters}
    if parameters.get("padding") == "after":
        body["padding"] = [[0, 10**9]] * rank
    if layer == "conv":
        body["weight"] = np.ones([2] * rank + [1, 1]).tolist()
    else:
        body = {"kernel_size": 2, "mode": layer[:3], **body}
    if layer == "avg_include":
        body["count_include_pad"] = True
    operation = "/conv" if layer == "conv" else "/pool"
    forward = json_body(body)
    backward = json_body({**body, "grad_output": np.ones([1] * (rank + 2)).tolist()})
    with payloads.little_memory():
        for path, options in ((f"{operation}/forward", forward), (f"{operation}/backward", backward)):
            status = client.post(path, **options).status_code
            if status != 200:
                attacked(client, path, 413, 422, **options)
