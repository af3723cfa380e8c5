"""/conv/shape and /pool/shape predict what the call itself then does, without a tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients import ApplicationClient
from tests.oracle.windows import Geometry, geometry
from tests.service import payloads
from tests.service.payloads import AnyArray, json_body
from tests.strategies import ConvCase, PoolCase, avg_pool_cases, conv_cases, max_pool_cases, quick_settings

SIZES = {"float16": 2, "float32": 4, "float64": 8}
dtypes = st.sampled_from([None, "float16", "float32", "float64"])


def shape_of(client: ApplicationClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, **json_body(body))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = json.loads(response.content)
    return answer


def windows(case: ConvCase | PoolCase, kernel: Sequence[int], stride: Any) -> Geometry:
    """The geometry by the oracle, which shares no code with the service."""
    first = case.parameters.get("data_format") == "channels_first"
    shape = case.input.shape
    return geometry(
        list(shape[2:] if first else shape[1:-1]),
        list(kernel),
        case.parameters.get("stride", stride),
        case.parameters.get("padding", 0),
        case.parameters.get("dilation", 1),
        ceil_mode=case.parameters.get("ceil_mode", False),
    )


def with_dtype(dtype: str | None) -> dict[str, str]:
    return {} if dtype is None else {"dtype": dtype}


# ----------------------------------------------------------------------------------------------------- predicted = done


@given(conv_cases(), dtypes)
@quick_settings
def test_the_shape_of_a_convolution(client: ApplicationClient, case: ConvCase, dtype: str | None) -> None:
    operands = {"input": case.input, "weight": case.weight}
    if case.bias is not None:
        operands["bias"] = case.bias
    shapes = {name: list(array.shape) for name, array in operands.items()}
    predicted = shape_of(client, "/conv/shape", {"shapes": shapes, **case.parameters, **with_dtype(dtype)})

    typed: dict[str, AnyArray] = {name: array.astype(dtype or "float64") for name, array in operands.items()}
    done = payloads.results(client.post("/conv/forward", **payloads.npz_request(typed, case.parameters)), ["output"])
    assert predicted["output_shape"] == list(done["output"].shape)
    assert predicted["dtype"] == done["output"].dtype.name
    assert predicted["bytes_in"] == sum(array.nbytes for array in typed.values())
    assert predicted["bytes_out"] == done["output"].nbytes

    first = case.parameters.get("data_format") == "channels_first"
    kernel = case.weight.shape[2:] if first else case.weight.shape[:-2]
    assert predicted["padding"] == [list(pair) for pair in windows(case, kernel, 1).padding]
    filters = case.weight.shape[0] if first else case.weight.shape[-1]
    # every element of the output is the sum of one product for each weight of its filter
    assert predicted["multiply_accumulates"] == done["output"].size * (case.weight.size // filters)


@given(st.sampled_from(["max", "avg"]), st.data(), dtypes)
@quick_settings
def test_the_shape_of_a_pooling(client: ApplicationClient, mode: str, data: st.DataObject, dtype: str | None) -> None:
    case = data.draw(max_pool_cases() if mode == "max" else avg_pool_cases())
    parameters = {"mode": mode, **case.parameters}
    body = {"shapes": {"input": list(case.input.shape)}, **parameters, **with_dtype(dtype)}
    predicted = shape_of(client, "/pool/shape", body)

    array = case.input.astype(dtype or "float64")
    options = payloads.npy_request({"input": array}, parameters)
    output = payloads.results(client.post("/pool/forward", **options), ["output"])["output"]
    assert predicted["output_shape"] == list(output.shape)
    assert predicted["dtype"] == output.dtype.name
    assert predicted["bytes_in"] == array.nbytes
    assert predicted["bytes_out"] == output.nbytes

    size = case.parameters["kernel_size"]
    kernel = [size] * (case.input.ndim - 2) if isinstance(size, int) else size
    assert predicted["padding"] == [list(pair) for pair in windows(case, kernel, kernel).padding]
    assert predicted["multiply_accumulates"] == output.size * math.prod(kernel)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (0, [[0, 0], [0, 0]]),
        (2, [[2, 2], [2, 2]]),
        ([1, 2], [[1, 1], [2, 2]]),
        ([[0, 1], [2, 3]], [[0, 1], [2, 3]]),
        ("valid", [[0, 0], [0, 0]]),
        ("same", [[0, 1], [1, 2]]),
        ("same_lower", [[1, 0], [2, 1]]),
    ],
    ids=str,
)
def test_the_padding_of_each_side(client: ApplicationClient, padding: Any, expected: list[list[int]]) -> None:
    body = {"shapes": {"input": [1, 8, 8, 1], "weight": [3, 4, 1, 1]}, "stride": [2, 1], "padding": padding}
    assert shape_of(client, "/conv/shape", body)["padding"] == expected


def test_integers_become_float64(client: ApplicationClient) -> None:
    body = {"shapes": {"input": [1, 4, 1], "weight": [2, 1, 1]}, "dtype": "int8"}
    answer = shape_of(client, "/conv/shape", body)
    assert answer["bytes_in"] == 6
    assert answer["bytes_out"] == 24


# ---------------------------------------------------------------------------------------------------------- huge layers


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_layer_too_large_to_compute_is_described_at_once(client: ApplicationClient, rank: int) -> None:
    size, filters = 10**9, 10**6
    shapes = {"input": [2, *[size] * rank, 3], "weight": [*[3] * rank, 3, filters]}
    with payloads.little_memory():
        answer = shape_of(client, "/conv/shape", {"shapes": shapes})
    outputs = 2 * (size - 2) ** rank * filters
    assert answer["output_shape"] == [2, *[size - 2] * rank, filters]
    assert answer["bytes_out"] == outputs * 8
    assert answer["multiply_accumulates"] == outputs * 3**rank * 3
    assert answer["bytes_in"] == (2 * size**rank * 3 + 3**rank * 3 * filters) * 8


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "parameters",
    [
        {"kernel_size": 10**8, "stride": 1},
        {"kernel_size": 2, "padding": 10**9},
        {"kernel_size": 10**4, "dilation": 10**4, "padding": "same"},
        {"kernel_size": 3, "stride": 10**9, "ceil_mode": True},
        {"kernel_size": 10**9, "padding": 10**8},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["max", "avg", "avg_include"])
def test_a_pooling_too_large_to_compute_is_described_at_once(
    client: ApplicationClient, mode: str, parameters: dict[str, Any], rank: int
) -> None:
    body = {"shapes": {"input": [1, *[10**9] * rank, 3]}, "mode": mode[:3], **parameters}
    if mode == "avg_include":
        body["count_include_pad"] = True
    with payloads.little_memory():
        response = client.post("/pool/shape", **json_body(body))
    if parameters.get("padding") == 10**9 and mode != "avg_include":
        payloads.problem(response, 422)  # windows that lie wholly in the padding
    else:
        assert response.status_code == 200, response.text
        assert all(size >= 1 for size in response.json()["output_shape"])


# --------------------------------------------------------------------------------------------------------------- strict

CONV = {"input": [1, 5, 2], "weight": [3, 2, 4]}
POOL = {"mode": "max", "kernel_size": 2, "shapes": {"input": [1, 5, 2]}}


@pytest.mark.parametrize(
    ("shapes", "pointer"),
    [
        ({"input": [1, 5, 2]}, "/shapes/weight"),
        ({"weight": [3, 2, 4]}, "/shapes/input"),
        ({}, "/shapes/"),
        ([], "/shapes"),
        (None, "/shapes"),
        ("input", "/shapes"),
        ({**CONV, "grad_output": [1, 3, 4]}, "/shapes/grad_output"),
        ({**CONV, "weigth": [3, 2, 4]}, "/shapes/weigth"),
        ({**CONV, "input": 5}, "/shapes/input"),
        ({**CONV, "input": "1,5,2"}, "/shapes/input"),
        ({**CONV, "input": [1, 5, 2.0]}, "/shapes/input"),
        ({**CONV, "input": [True, 5, 2]}, "/shapes/input"),
        ({**CONV, "input": ["1", 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [None, 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [[1], 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [-1, 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [1, 0, 2]}, "/shapes/input"),
        ({**CONV, "input": [1, 5, 0]}, "/shapes/input"),
        ({**CONV, "input": [1, 2]}, "/shapes/input"),
        ({**CONV, "input": []}, "/shapes/input"),
        ({**CONV, "input": [1, 5, 5, 5, 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [1] * 100_000}, ""),
        ({**CONV, "input": [10**30, 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [2**63, 5, 2]}, "/shapes/input"),
        ({**CONV, "input": [1, 2, 2]}, "/shapes"),  # the window is larger
        ({**CONV, "weight": [3, 2]}, "/shapes/weight"),
        ({**CONV, "weight": [3, 3, 2, 4]}, "/shapes"),
        ({**CONV, "weight": [3, 1, 4]}, "/shapes"),
        ({**CONV, "weight": [0, 2, 4]}, "/shapes/weight"),
        ({**CONV, "bias": [3]}, "/shapes/bias"),
        ({**CONV, "bias": [4, 1, 1]}, "/shapes/bias"),
        ({**CONV, "bias": []}, "/shapes/bias"),
        ({**CONV, "bias": [1, 4]}, "/shapes/bias"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_shapes_are_strict(client: ApplicationClient, shapes: Any, pointer: str) -> None:
    response = client.post("/conv/shape", **json_body({"shapes": shapes}))
    document = payloads.problem(response, 400 if "1000000" in str(shapes) else 422, 422)
    if document["status"] == 422:
        assert all(each.startswith(pointer) for each in payloads.pointers(document))


@pytest.mark.parametrize("bias", [[4], [1, 1, 4]])
def test_a_bias_may_have_two_shapes(client: ApplicationClient, bias: list[int]) -> None:
    answer = shape_of(client, "/conv/shape", {"shapes": {**CONV, "bias": bias}})
    assert answer["bytes_in"] == (10 + 24 + 4) * 8


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/conv/shape", {"shapes": CONV, "strides": 2}, "/strides"),
        ("/conv/shape", {"shapes": CONV, "stride": 0}, "/stride"),
        ("/conv/shape", {"shapes": CONV, "stride": [1, 1]}, "/stride"),
        ("/conv/shape", {"shapes": CONV, "groups": 3}, "/"),
        ("/conv/shape", {"shapes": CONV, "mode": "max"}, "/mode"),
        ("/conv/shape", {"shapes": CONV, "dtype": "float128"}, "/dtype"),
        ("/conv/shape", {"shapes": CONV, "dtype": "complex64"}, "/dtype"),
        ("/conv/shape", {"shapes": CONV, "dtype": 8}, "/dtype"),
        ("/conv/shape", {"shapes": CONV, "input": [[[1.0]]]}, "/input"),
        ("/conv/shape", {"shape": CONV}, "/shape"),
        ("/pool/shape", {**POOL, "kernel_size": 6}, "/"),
        ("/pool/shape", {**POOL, "kernel_size": 2.5}, "/kernel_size"),
        ("/pool/shape", {**POOL, "mode": "l2"}, "/mode"),
        ("/pool/shape", {**POOL, "count_include_pad": True}, "/count_include_pad"),
        ("/pool/shape", {**POOL, "divisor_override": 2}, "/divisor_override"),
        ("/pool/shape", {**POOL, "mode": "avg", "divisor_override": 0}, "/divisor_override"),
        ("/pool/shape", {"shapes": {"input": [1, 5, 2]}, "kernel_size": 2}, "/mode"),
        ("/pool/shape", {"shapes": {"input": [1, 5, 2]}, "mode": "max"}, "/kernel_size"),
        ("/pool/shape", {**POOL, "shapes": CONV}, "/shapes/weight"),
    ],
    ids=str,
)
def test_parameters_are_as_strict_as_in_the_call(
    client: ApplicationClient, path: str, body: dict[str, Any], pointer: str
) -> None:
    document = payloads.refused(client, path, 422, **json_body(body))
    assert all(each.startswith(pointer) for each in payloads.pointers(document))


@pytest.mark.parametrize("path", ["/conv/shape", "/pool/shape"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b"{", b"null", b'"shapes"', b"\xff", b"[" * 100_000, b'{"shapes":NaN}']
)
def test_a_body_that_is_no_object(client: ApplicationClient, path: str, content: bytes) -> None:
    payloads.attacked(client, path, 400, 422, **payloads.typed(payloads.JSON, content))


def test_parameters_may_stand_in_the_query_string(client: ApplicationClient) -> None:
    body = {"shapes": {"input": [1, 9, 1]}}
    inside = shape_of(client, "/pool/shape", {**body, "mode": "avg", "kernel_size": 3})
    options = {**json_body(body), "params": {"mode": "avg", "kernel_size": "3"}}
    assert client.post("/pool/shape", **options).json() == inside
    np.testing.assert_array_equal(inside["output_shape"], [1, 3, 1])
