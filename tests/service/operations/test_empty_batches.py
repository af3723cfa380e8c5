"""An empty batch is computed, and is no way around the limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads

HUGE_POOLS: list[dict[str, Any]] = [
    {"mode": "avg", "kernel_size": 1, "stride": 1, "padding": 10**9, "divisor_override": 1, "rank": 3},
    {"mode": "avg", "kernel_size": 1, "stride": 1, "padding": 10**9, "count_include_pad": True, "rank": 2},
    {"mode": "avg", "kernel_size": 1, "stride": 1, "padding": 10**8, "count_include_pad": True, "rank": 1},
    {"mode": "max", "kernel_size": 3_000_000, "stride": 1, "sizes": [7_000_000]},
]


def empty(*shape: int) -> dict[str, Any]:
    return {"dtype": "float64", "shape": list(shape), "data": []}


@pytest.mark.parametrize("parameters", HUGE_POOLS, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_an_empty_batch_costs_no_less_than_an_image(
    client: ApplicationClient, parameters: dict[str, Any], direction: str
) -> None:
    own = {name: value for name, value in parameters.items() if name not in ("rank", "sizes")}
    sizes = parameters.get("sizes", [1] * parameters.get("rank", 1))
    operands = {"input": empty(0, *sizes, 1)}
    if direction == "backward":
        operands["grad_output"] = empty(0, *sizes, 1)
    with payloads.little_memory():
        payloads.refused(client, f"/pool/{direction}", 413, **payloads.json_body({**own, **operands}))


IMPOSSIBLE = [
    (0, 2**63, 1),
    (0, 2**62, 2**62, 1),
    (0, 2**31 - 1, 2**31 - 1, 2**31 - 1, 1),
    (0, 10**30, 1),
    (0, 2**31, 1),
]


@pytest.mark.parametrize("shape", IMPOSSIBLE, ids=str)
@pytest.mark.parametrize("form", ["data", "base64", "npy", "npz"])
def test_a_shape_that_no_array_has_is_refused_though_it_needs_no_data(
    client: ApplicationClient, shape: tuple[int, ...], form: str
) -> None:
    if form in ("data", "base64"):
        tensor = {"dtype": "float64", "shape": list(shape), form: [] if form == "data" else ""}
        options = payloads.json_body({"mode": "max", "kernel_size": 1, "input": tensor})
        payloads.refused(client, "/pool/forward", 400, 422, **options)
        return
    file = payloads.npy_with_header(payloads.npy_header(shape=shape))
    if form == "npy":
        options = payloads.typed(payloads.NPY, file)
    else:
        options = payloads.typed(payloads.NPZ, payloads.zip_bytes([("input.npy", file)]))
    payloads.refused(client, "/pool/forward?mode=max&kernel_size=1", 422, **options)


@pytest.mark.parametrize(("images", "status"), [(10, 200), (1000, 413)])
def test_far_apart_taps_over_much_padding_are_computed_within_the_limits(
    client: ApplicationClient, images: int, status: int
) -> None:
    """Each image takes 10 million zeros between its two taps: of a thousand, 80 GB are written."""
    image, weight = np.ones((images, 1, 1)).tolist(), np.ones((2, 1, 1)).tolist()
    body = {"padding": [[5_000_000, 5_000_000]], "dilation": 10_000_000, "input": image, "weight": weight}
    with payloads.little_memory(300 * 2**20):
        answer = client.post("/conv/forward", **payloads.json_body(body))
    assert answer.status_code == status
    assert status != 200 or answer.json()["output"] == [[[0.0]]] * images


def test_parameters_of_another_mode_are_named_as_such(client: ApplicationClient) -> None:
    body = {"mode": "max", "kernel_size": 1, "count_include_pad": True, "input": [[[1.0]]]}
    document = payloads.refused(client, "/pool/forward", 422, **payloads.json_body(body))
    assert "only with mode=avg" in document["errors"][0]["message"]


def test_an_empty_form_field_beside_a_query_parameter_is_none(client: ApplicationClient) -> None:
    parts = [
        payloads.file_part("input", payloads.npy_bytes(np.ones((1, 4, 1)))),
        payloads.field_part("kernel_size", ""),
    ]
    options = payloads.typed(f"{payloads.MULTIPART}; boundary=limit", payloads.multipart_parts(parts))
    assert client.post("/pool/forward?mode=max&kernel_size=2", **options).status_code == 200


def test_one_unreadable_member_of_accept_does_not_spoil_the_others(client: ApplicationClient) -> None:
    options = payloads.npy_request({"input": np.ones((1, 4, 1))}, {"mode": "max", "kernel_size": 2})
    options["headers"] = {**options["headers"], "Accept": "foo, application/json"}
    answer = client.post("/pool/forward", **options)
    assert answer.status_code == 200
    assert payloads.media_type(answer) == payloads.JSON


def test_a_shape_call_heeds_accept(client: ApplicationClient) -> None:
    answer = client.post("/conv/shape", json={}, headers={"Accept": "application/x-npy"})
    assert answer.status_code == 406
