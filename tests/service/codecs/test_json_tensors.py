"""A number in JSON is a tensor without axes: a scale needs no list and no type."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import ApplicationClient
from tests.service import payloads


def typed(dtype: str, shape: list[int], *data: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data": list(data)}


def request(**scales: Any) -> dict[str, Any]:
    zero = typed("uint8", [], 0)
    return {
        "input": typed("uint8", [1, 3, 1], 1, 2, 3),
        "input_zero_point": zero,
        "weight": typed("uint8", [1, 1, 1], 4),
        "weight_zero_point": zero,
        "output_zero_point": zero,
        "input_scale": 1,
        "weight_scale": 0.5,
        "output_scale": 1,
        **scales,
    }


def test_a_scale_may_be_a_number(client: ApplicationClient) -> None:
    response = client.post("/qlinear_conv/forward", **payloads.json_body(request()))
    assert payloads.results(response, ["output"])["output"].ravel().tolist() == [2, 4, 6]
    same = request(input_scale={"dtype": "float64", "shape": [], "data": [1.0]}, weight_scale=[0.5])
    assert client.post("/qlinear_conv/forward", **payloads.json_body(same)).content == response.content


@pytest.mark.parametrize("value", [True, "1", 2**53 + 1, 0, -1])
def test_what_is_no_scale_is_refused_where_it_stands(client: ApplicationClient, value: Any) -> None:
    options = payloads.json_body(request(input_scale=value))
    document = payloads.refused(client, "/qlinear_conv/forward", 422, **options)
    assert payloads.pointers(document) == ["/input_scale"]


def test_a_number_is_no_input_of_a_layer(client: ApplicationClient) -> None:
    options = payloads.json_body({"mode": "max", "kernel_size": 2, "input": 5})
    document = payloads.refused(client, "/pool/forward", 422, **options)
    assert payloads.pointers(document) == ["/input"]


def test_the_dtype_beside_the_operands_is_that_of_nested_lists_only(client: ApplicationClient) -> None:
    body = {
        "dtype": "uint8",
        "input": [[[1], [2], [3]]],
        "input_zero_point": 0,
        "weight": [[[4]]],
        "weight_zero_point": 0,
        "input_scale": typed("float32", [], 1),
        "weight_scale": typed("float64", [], 1),
        "output_scale": typed("float16", [], 2),
        "output_zero_point": typed("int8", [], -1),
    }
    response = client.post("/qlinear_conv/forward", **payloads.json_body(body))
    assert payloads.results(response, ["output"])["output"].ravel().tolist() == [1, 3, 5]
