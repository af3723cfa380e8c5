"""Every layer's shape call predicts what the call then does: shapes, bytes, the work, and the parameters."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients import ApplicationClient
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Declaration
from tests.service import payloads
from tests.service.calls import CALLS, CALLS_BY_NAME, as_type, call_of
from tests.service.payloads import AnyArray, Call, json_body
from tests.strategies_conv import few_settings

dtypes = st.sampled_from([None, "float16", "float32", "float64"])
each_op = pytest.mark.parametrize("declaration", DECLARATIONS, ids=str)


def shape_call(client: ApplicationClient, call: Call, operands: dict[str, AnyArray], **more: Any) -> dict[str, Any]:
    shapes = {name: list(array.shape) for name, array in operands.items()}
    path = call.path.replace("/forward", "/shape")
    response = client.post(path, **json_body({"shapes": shapes, **call.parameters, **more}))
    assert response.status_code == 200, response.text
    predicted: dict[str, Any] = json.loads(response.content)
    return predicted


@each_op
@given(st.data(), dtypes)
@few_settings
def test_what_a_shape_call_predicts_is_done(
    client: ApplicationClient, declaration: Declaration, data: st.DataObject, dtype: str | None
) -> None:
    cases = declaration.cases if declaration.moderate_cases is None else declaration.moderate_cases
    case = data.draw(cases)
    call = call_of(declaration, case)
    operands = as_type(call.operands, dtype or "float64")
    predicted = shape_call(client, call, operands, **({} if dtype is None else {"dtype": dtype}))

    response = client.post(call.path, **payloads.npz_request(operands, call.parameters))
    done = payloads.results(response, call.results)
    assert list(done) == list(call.results)
    assert all(list(array.shape) == predicted["output_shape"] for array in done.values())
    shares = operands["input"].dtype.kind == "f"  # else it has a type of its own, and both of 8 bits count the same
    assert predicted["dtype"] in ({dtype or "float64"} if shares else {"int8", "uint8"})
    assert predicted["bytes_in"] == sum(array.nbytes for array in operands.values())
    assert predicted["bytes_out"] == sum(array.nbytes for array in done.values())
    assert predicted["multiply_accumulates"] == declaration.multiply_accumulates(case, done["output"])
    assert predicted["parameters"] == json.loads(response.headers["convpool-parameters"])
    pads = predicted["parameters"].get("padding")
    # a word stays where no list gives the same output; adaptive windows and unpooling may have pads that do nothing
    if isinstance(pads, list) and declaration.layer != "unpool" and "output_size" not in call.parameters:
        assert predicted["padding"] == pads


@pytest.mark.parametrize("call", [call for call in CALLS if call.path.endswith("backward")], ids=str)
def test_backward_resolves_its_parameters_as_forward_does(client: ApplicationClient, call: Call) -> None:
    operands = {name: array for name, array in call.operands.items() if name != "grad_output"}
    forward = call._replace(path=call.path.replace("backward", "forward"))
    response = client.post(call.path, **payloads.npz_request(call.operands, call.parameters))
    assert json.loads(response.headers["convpool-parameters"]) == shape_call(client, forward, operands)["parameters"]


# --------------------------------------------------------------------------------------------------- types of their own


@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64", "int8", "uint8", "int64"])
def test_operands_with_types_of_their_own_are_counted_in_them(client: ApplicationClient, dtype: str | None) -> None:
    """8 bits of activations and weights, 32 of bias and sums, whatever the type of the others is."""
    call = CALLS_BY_NAME["qlinear_conv_forward"]
    predicted = shape_call(client, call, call.operands, **({} if dtype is None else {"dtype": dtype}))
    eight_bits = ("input", "weight", "input_zero_point", "weight_zero_point", "output_zero_point")
    size = {"float16": 2, "float64": 8, None: 8}.get(dtype, 4)  # a scale is no integer: it is counted as float32
    scales = sum(call.operands[f"{name}_scale"].size for name in ("input", "weight", "output"))
    expected = sum(call.operands[name].size for name in eight_bits) + size * scales + 4 * call.operands["bias"].size
    assert predicted["bytes_in"] == expected
    assert predicted["bytes_out"] == math.prod(predicted["output_shape"])

    sums = CALLS_BY_NAME["conv_integer_forward"]
    predicted = shape_call(client, sums, sums.operands, **({} if dtype is None else {"dtype": dtype}))
    assert predicted["bytes_in"] == sum(array.size for array in sums.operands.values())
    assert predicted["bytes_out"] == 4 * math.prod(predicted["output_shape"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_indices_have_64_bits(client: ApplicationClient, dtype: str) -> None:
    size, itemsize = 2 * 3 * 4, np.dtype(dtype).itemsize
    pool = {"mode": "max", "kernel_size": 2, "shapes": {"input": [2, 6, 4]}, "dtype": dtype}
    without = client.post("/pool/shape", **json_body(pool)).json()
    assert without["bytes_out"] == size * itemsize
    answer = client.post("/pool/shape", **json_body({**pool, "return_indices": True})).json()
    assert answer["bytes_out"] == size * (itemsize + 8)
    unpool = {"kernel_size": 2, "shapes": {"input": [2, 3, 4], "indices": [2, 3, 4]}, "dtype": dtype}
    answer = client.post("/unpool/shape", **json_body(unpool)).json()
    assert answer["bytes_in"] == size * (itemsize + 8)
    assert answer["bytes_out"] == 2 * 6 * 4 * itemsize


# ---------------------------------------------------------------------------------------------------------- huge layers


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("path", "parameters", "operands", "spatial"),
    [
        ("/conv_transpose/shape", {"stride": 10**3, "padding": "same"}, ("input", "weight"), 10**9),
        (
            "/conv_transpose/shape",
            {"dilation": 2**30, "output_padding": 2**30 - 1},
            ("input", "weight"),
            2**31 + 999_999,
        ),
        ("/pool/shape", {"mode": "max", "output_size": 2**31 - 1, "return_indices": True}, ("input",), 2**31 - 1),
        ("/pool/shape", {"mode": "lp", "output_size": 10**6}, ("input",), 10**6),
        ("/unpool/shape", {"kernel_size": 2**31 - 1}, ("input", "indices"), 10**6 * (2**31 - 1)),
        ("/unpool/shape", {"output_size": 2**31 - 1}, ("input", "indices"), 2**31 - 1),
    ],
    ids=str,
)
def test_a_layer_too_large_to_compute_is_described_at_once(
    client: ApplicationClient, path: str, parameters: dict[str, Any], operands: tuple[str, ...], spatial: int, rank: int
) -> None:
    shapes = {name: [2] * rank + [3, 3] if name == "weight" else [2, *[10**6] * rank, 3] for name in operands}
    with payloads.little_memory():
        response = client.post(path, **json_body({**parameters, "shapes": shapes}))
    assert response.status_code == 200, response.text
    answer = json.loads(response.content)
    assert answer["output_shape"] == [2, *[spatial] * rank, 3]
    assert answer["bytes_out"] == 2 * spatial**rank * 3 * (16 if "return_indices" in parameters else 8)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_patches_too_many_to_compute_are_described_at_once(client: ApplicationClient, rank: int) -> None:
    windows, taps = 10**8 - 10**4 + 1, 10**4
    with payloads.little_memory():
        unfold = {"kernel_size": taps, "shapes": {"input": [2, *[10**8] * rank, 3]}}
        answer = json.loads(client.post("/unfold/shape", **json_body(unfold)).content)
    assert answer["output_shape"] == [2, windows**rank, 3 * taps**rank]
    assert answer["bytes_out"] == 2 * windows**rank * 3 * taps**rank * 8
    sizes = {"kernel_size": 10**4, "stride": 10**5, "output_size": [10**8] * rank}
    with payloads.little_memory():
        fold = {**sizes, "shapes": {"input": [2, 1000**rank, 3 * 10 ** (4 * rank)]}}
        response = client.post("/fold/shape", **json_body(fold))
    if rank == 3:  # no axis is that long
        payloads.problem(response, 422)
    else:
        assert json.loads(response.content)["output_shape"] == [2, *[10**8] * rank, 3]
