"""bfloat16: computed in float32 and rounded once; it shares in the common type as float32 does."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from cnn_core import Conv, MaxPool
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import CALLS, CALLS_BY_NAME, CONV, as_type, assert_identical, computed
from tests.service.payloads import JSON, NPY, NPZ, SAFETENSORS, AnyArray, Call, Operands, Options

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
POOL = {"mode": "max", "kernel_size": 1}
each_call = pytest.mark.parametrize(
    "call", [call for call in CALLS if any(array.dtype.kind == "f" for array in call.operands.values())], ids=str
)


def rounded(array: AnyArray) -> AnyArray:
    """The nearest bfloat16 of each float32, ties to even: bit arithmetic, so that no library rounds for the test."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    upper[np.isnan(array)] = 0x7FC0
    return upper.view(BFLOAT16)


def widened(array: AnyArray) -> AnyArray:
    """The same numbers as float32."""
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def in_bfloat16(operands: Operands) -> dict[str, AnyArray]:
    return {name: rounded(array) if array.dtype.kind == "f" else array for name, array in operands.items()}


def in_float32(operands: Operands) -> dict[str, AnyArray]:
    return {name: widened(array) if array.dtype == BFLOAT16 else array for name, array in operands.items()}


def with_accept(options: Options, accept: str) -> Options:
    return {**options, "headers": {**options["headers"], "Accept": accept}}


@each_call
def test_every_operation_computes_in_float32_and_rounds_once(client: ApplicationClient, call: Call) -> None:
    operands = in_bfloat16(call.operands)
    expected = computed(call, in_float32(operands))
    shared = [name for name, array in operands.items() if array.dtype == BFLOAT16 and not name.endswith("_scale")]
    if shared:
        expected = {name: rounded(array) if array.dtype == np.float32 else array for name, array in expected.items()}
        assert any(array.dtype == BFLOAT16 for array in expected.values())
    response = client.post(call.path, **payloads.safetensors_request(operands, call.parameters))
    assert_identical(payloads.results(response, call.results), expected)


@each_call
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_with_another_type_it_counts_as_float32(client: ApplicationClient, call: Call, dtype: str) -> None:
    """The first operand of a floating type has another one than the rest."""
    floats = [name for name, array in call.operands.items() if array.dtype.kind == "f"]
    operands = {**in_bfloat16(call.operands), **as_type({floats[0]: call.operands[floats[0]]}, dtype)}
    if len(floats) == 1:
        assert BFLOAT16 not in {array.dtype for array in operands.values()}
        return
    response = client.post(call.path, **payloads.safetensors_request(operands, call.parameters))
    assert_identical(payloads.results(response, call.results), computed(call, in_float32(operands)))


def test_with_integers_it_computes_in_float64(client: ApplicationClient) -> None:
    operands = {"input": rounded(np.full((1, 4, 1), 1 / 3)), "weight": np.full((2, 1, 1), 3, np.int32)}
    response = client.post("/conv/forward", **payloads.safetensors_request(operands, {}))
    expected = {"output": Conv().forward(**in_float32(operands))}
    assert expected["output"].dtype == np.float64
    assert_identical(payloads.results(response, ["output"]), expected)


def test_every_value_of_the_type_passes_through(client: ApplicationClient) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    every = bits.view(BFLOAT16).reshape(1, -1, 1)
    response = client.post("/pool/forward", **payloads.safetensors_request({"input": every}, POOL))
    returned = payloads.results(response, ["output"])["output"].view(np.uint16).reshape(-1)
    is_nan = np.isnan(widened(bits.view(BFLOAT16)))
    np.testing.assert_array_equal(returned[~is_nan], bits[~is_nan])
    assert np.isnan(widened(returned[is_nan].view(BFLOAT16))).all()


@pytest.mark.parametrize(
    ("terms", "total"),
    [
        ([256, 1, 1], 258),  # in bfloat16, 256 + 1 would be 256 each time
        ([256, 1], 256),  # a tie, to even
        ([256, 3], 260),  # a tie, to even
        ([3e38, 3e38], np.inf),
    ],
)
def test_sums_are_rounded_at_the_end(client: ApplicationClient, terms: list[float], total: float) -> None:
    operands = {"input": rounded(np.array(terms)).reshape(1, -1, 1), "weight": rounded(np.ones((len(terms), 1, 1)))}
    response = client.post("/conv/forward", **payloads.safetensors_request(operands, {"algorithm": "direct"}))
    (output,) = payloads.results(response, ["output"]).values()
    assert output.dtype == BFLOAT16
    assert output.astype(np.float64).item() == total


def test_indices_keep_their_type(client: ApplicationClient) -> None:
    array = rounded(np.arange(8.0)).reshape(1, 8, 1)
    parameters = {"mode": "max", "kernel_size": 2, "return_indices": True}
    response = client.post("/pool/forward", **payloads.safetensors_request({"input": array}, parameters))
    results = payloads.results(response, ["output", "indices"])
    assert results["output"].dtype == BFLOAT16
    assert results["indices"].dtype == np.int64
    assert results["indices"].reshape(-1).tolist() == [1, 3, 5, 7]


def test_an_operand_that_must_be_an_integer_may_not_be_bfloat16(client: ApplicationClient) -> None:
    call = CALLS_BY_NAME["conv_integer_forward"]
    operands = {**call.operands, "input": rounded(call.operands["input"])}
    document = payloads.refused(client, call.path, 422, **payloads.safetensors_request(operands, call.parameters))
    assert payloads.pointers(document) == ["/input"]
    assert "bfloat16" in document["detail"]


# ---------------------------------------------------------------------------------------- formats that cannot name it


@pytest.mark.parametrize("accept", [NPY, NPZ])
def test_npy_and_npz_hold_it_as_float32(client: ApplicationClient, accept: str) -> None:
    operands = in_bfloat16({"input": CONV.operands["input"], "weight": CONV.operands["weight"]})
    options = with_accept(payloads.safetensors_request(operands, CONV.parameters), accept)
    expected = rounded(Conv(**CONV.parameters).forward(**in_float32(operands)))
    response = client.post("/conv/forward", **options)
    assert_identical(payloads.results(response, ["output"]), {"output": widened(expected)})


def test_json_has_its_exact_numbers(client: ApplicationClient) -> None:
    values = rounded(np.array([0.1, -1 / 3, 3e38, 1e-40, -0.0])).reshape(1, -1, 1)
    options = with_accept(payloads.safetensors_request({"input": values}, POOL), JSON)
    response = client.post("/pool/forward", **options)
    assert_identical(payloads.results(response, ["output"], "float32"), {"output": widened(values)})


def test_json_cannot_have_its_nan(client: ApplicationClient) -> None:
    options = payloads.safetensors_request({"input": rounded(np.full((1, 1, 1), np.nan))}, POOL)
    payloads.refused(client, "/pool/forward", 422, **with_accept(options, JSON))


def test_the_conversion_counts_as_memory_of_the_response() -> None:
    options = payloads.safetensors_request({"input": rounded(np.ones((1, 1000, 1)))}, POOL)
    with payloads.limited(max_result_bytes=2000) as limited:
        assert limited.post("/pool/forward", **options).status_code == 200
        payloads.refused(limited, "/pool/forward", 413, **with_accept(options, NPZ))
    with payloads.limited(max_result_bytes=4000) as limited:
        assert limited.post("/pool/forward", **with_accept(options, NPZ)).status_code == 200


@pytest.mark.parametrize("media_type", [NPY, NPZ])
def test_npy_s_way_of_writing_it_is_refused_with_a_hint(client: ApplicationClient, media_type: str) -> None:
    operands = {"input": np.ones((1, 4, 1), BFLOAT16)}
    request = payloads.npy_request if media_type == NPY else payloads.npz_request
    document = payloads.refused(client, "/pool/forward", 422, **request(operands, POOL))
    assert "bfloat16" in document["detail"]
    assert SAFETENSORS in document["detail"]


# ----------------------------------------------------------------------------------------------------------- shape call


def test_the_shape_call_counts_its_bytes(client: ApplicationClient) -> None:
    shapes = {"input": [1, 8, 1]}
    parameters: dict[str, Any] = {"mode": "max", "kernel_size": 2, "return_indices": True}
    answer = client.post("/pool/shape", json={**parameters, "shapes": shapes, "dtype": "bfloat16"}).json()
    assert answer["dtype"] == "bfloat16"
    assert answer["bytes_in"] == 8 * 2
    assert answer["bytes_out"] == 4 * 2 + 4 * 8


def test_a_layer_of_torch_s_tensors(client: ApplicationClient) -> None:
    """As ``safetensors.torch.save`` writes it: the same file."""
    image = rounded(np.random.default_rng(0).standard_normal((2, 3, 8, 8)))
    metadata = {"format": "pt", "data_format": "NCHW", "mode": "max", "kernel_size": "2"}
    body = safetensors.numpy.save({"input": image}, metadata)
    response = client.post("/pool/forward", **payloads.typed(SAFETENSORS, body))
    expected = MaxPool(data_format="channels_first", kernel_size=2).forward(widened(image))
    assert_identical(payloads.results(response, ["output"]), {"output": rounded(expected)})
