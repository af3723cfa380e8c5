"""Operands with types of their own: integers of 8 bits, scales, zero points that are scalars, and indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core import ConvInteger, MaxPool, MaxUnpool, QLinearConv
from tests.clients import ApplicationClient
from tests.comparisons import normal
from tests.service import payloads
from tests.service.calls import CALLS_BY_NAME, assert_identical
from tests.service.payloads import JSON, NPY, NPZ, AnyArray

SUMS = CALLS_BY_NAME["conv_integer_forward"]
QUANTIZED = CALLS_BY_NAME["qlinear_conv_forward"]
TYPED = ("flat", "base64", "npz", "deflated_npz", "safetensors", "multipart", "multipart_with_query")
each_encoder = pytest.mark.parametrize("encoder", TYPED)
Arrays = dict[str, AnyArray]


def line(values: list[float], dtype: str) -> AnyArray:
    return np.array(values, dtype).reshape(1, -1, 1)


# ---------------------------------------------------------------------------------------------------- known numbers


@each_encoder
def test_sums_of_bytes(client: ApplicationClient, encoder: str) -> None:
    """The padding stands for the zero point, and no product of bytes overflows."""
    operands: Arrays = {
        "input": line([0, 255, 255], "uint8"),
        "weight": np.array([-128, 127], "int8").reshape(2, 1, 1),
        "input_zero_point": np.array(1, "uint8"),
        "weight_zero_point": np.array([-128], "int8"),
    }
    response = client.post("/conv_integer/forward", **payloads.ENCODERS[encoder](operands, {"padding": 1}))
    expected = line([-1 * 255, 254 * 255, 254 * 255, 0], "int32")
    assert_identical(payloads.results(response, ["output"]), {"output": expected})


@each_encoder
@pytest.mark.parametrize(("dtype", "zero", "low", "high"), [("uint8", 10, 0, 255), ("int8", -3, -128, 127)])
def test_quantized_results_round_to_even_and_saturate(
    client: ApplicationClient, encoder: str, dtype: str, zero: int, low: int, high: int
) -> None:
    operands: Arrays = {
        "input": line([1, 2, 3, 5, 255], "uint8"),
        "input_scale": np.array(0.5, "float32"),
        "input_zero_point": np.array(0, "uint8"),
        "weight": np.array([1, -127], "int8").reshape(1, 1, 2),
        "weight_scale": np.array([1.0, 100.0], "float32"),
        "weight_zero_point": np.array(0, "int8"),
        "output_scale": np.array(1.0, "float64"),
        "output_zero_point": np.array(zero, dtype),
    }
    response = client.post("/qlinear_conv/forward", **payloads.ENCODERS[encoder](operands, {}))
    first = np.clip([zero + 0, zero + 1, zero + 2, zero + 2, zero + 128], low, high)  # 0.5, 1, 1.5, 2.5, 127.5
    expected = np.stack([first, np.full(5, low)], axis=-1)[None].astype(dtype)
    assert_identical(payloads.results(response, ["output"]), {"output": expected})


# ---------------------------------------------------------------------------------------------------- types and scalars


@each_encoder
@pytest.mark.parametrize("input_dtype", ["uint8", "int8"])
@pytest.mark.parametrize("weight_dtype", ["uint8", "int8"])
def test_every_combination_of_eight_bit_types(
    client: ApplicationClient, encoder: str, input_dtype: str, weight_dtype: str
) -> None:
    types = {"input": input_dtype, "weight": weight_dtype}
    operands = {name: array.astype(types[name.split("_")[0]]) for name, array in SUMS.operands.items()}
    response = client.post(SUMS.path, **payloads.ENCODERS[encoder](operands, SUMS.parameters))
    expected = ConvInteger(**SUMS.parameters).forward(**operands)
    assert expected.dtype == np.int32
    assert_identical(payloads.results(response, ["output"]), {"output": expected})

    types["output"] = weight_dtype
    operands = {
        name: array.astype(types[name.split("_")[0]]) if array.dtype.itemsize == 1 else array
        for name, array in QUANTIZED.operands.items()
    }
    response = client.post(QUANTIZED.path, **payloads.ENCODERS[encoder](operands, QUANTIZED.parameters))
    expected = QLinearConv(**QUANTIZED.parameters).forward(**operands)
    assert expected.dtype == weight_dtype
    assert_identical(payloads.results(response, ["output"]), {"output": expected})


@each_encoder
@pytest.mark.parametrize("accept", [JSON, NPY, NPZ])
def test_a_scalar_has_no_axes_or_one(client: ApplicationClient, encoder: str, accept: str) -> None:
    for call in (SUMS, QUANTIZED):
        answers = []
        for shape in ((), (1,)):
            operands = {
                name: array.reshape(-1)[:1].reshape(shape) if name.endswith(("_point", "_scale")) else array
                for name, array in call.operands.items()
            }
            options = payloads.ENCODERS[encoder](operands, call.parameters)
            options["headers"] = {**options.get("headers", {}), "Accept": accept}
            response = client.post(call.path, **options)
            assert payloads.media_type(response) == accept
            answers.append(payloads.results(response, call.results))
        assert_identical(answers[0], answers[1])


def test_nested_lists_of_one_type_have_it_beside_them(client: ApplicationClient) -> None:
    body = {"dtype": "uint8", "input": [[[2], [3], [4]]], "weight": [[[1]], [[1]]], "input_zero_point": [1]}
    response = client.post("/conv_integer/forward", **payloads.json_body(body))
    assert response.json() == {"output": [[[3], [5]]]}
    assert b"." not in response.content  # they are integers, and written as such


@pytest.mark.parametrize("optional", ["input_zero_point", "weight_zero_point"])
def test_a_zero_point_is_zero_if_it_is_not_given(client: ApplicationClient, optional: str) -> None:
    operands = dict(SUMS.operands)
    zeros = {**operands, optional: np.zeros_like(operands[optional])}
    del operands[optional]
    response = client.post(SUMS.path, **payloads.npz_request(operands, SUMS.parameters))
    expected = ConvInteger(**SUMS.parameters).forward(**zeros)
    assert_identical(payloads.results(response, ["output"]), {"output": expected})


# -------------------------------------------------------------------------------------------------------- wrong types

WRONG_TYPES: list[tuple[Any, str, Any]] = [
    *[(SUMS, name, dtype) for name in ("input", "weight") for dtype in ("int16", "int32", "uint64", "float32")],
    *[(QUANTIZED, name, dtype) for name in ("input", "weight") for dtype in ("int32", "float64")],
    (SUMS, "input_zero_point", "int8"),  # not the type of its operand
    (SUMS, "weight_zero_point", "uint8"),
    (SUMS, "weight_zero_point", "float64"),
    (QUANTIZED, "input_zero_point", "int8"),
    (QUANTIZED, "weight_zero_point", "int32"),
    *[(QUANTIZED, "output_zero_point", dtype) for dtype in ("int16", "int32", "float32", "float64", "uint64")],
    *[(QUANTIZED, f"{name}_scale", dtype) for name in ("input", "weight", "output") for dtype in ("int8", "int64")],
    *[(QUANTIZED, "bias", dtype) for dtype in ("int8", "int64", "float32")],
]


@pytest.mark.parametrize("encoder", ["flat", "npz"])
@pytest.mark.parametrize(
    ("call", "name", "dtype"), [pytest.param(*case, id=f"{case[0].name}-{case[1]}-{case[2]}") for case in WRONG_TYPES]
)
def test_another_type_is_refused_by_name(
    client: ApplicationClient, call: payloads.Call, name: str, dtype: str, encoder: str
) -> None:
    operands = {**call.operands, name: np.ones_like(call.operands[name]).astype(dtype)}
    document = payloads.refused(client, call.path, 422, **payloads.ENCODERS[encoder](operands, call.parameters))
    assert payloads.pointers(document) == [f"/{name}"]
    assert document["errors"][0]["got"] == dtype


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["input_scale", "weight_scale", "output_scale"])
@pytest.mark.parametrize("encoder", ["base64", "npz"])
def test_a_scale_is_a_positive_number(client: ApplicationClient, encoder: str, name: str, value: float) -> None:
    scale = np.array(QUANTIZED.operands[name])
    scale.reshape(-1)[-1] = value
    operands = {**QUANTIZED.operands, name: scale}
    document = payloads.refused(client, QUANTIZED.path, 422, **payloads.ENCODERS[encoder](operands, {"groups": 2}))
    assert payloads.pointers(document) == [f"/{name}"]


SINGLE = [f"{operand}_{what}" for operand in ("input", "output") for what in ("scale", "zero_point")]
WRONG_SHAPES: list[tuple[str, tuple[int, ...]]] = [
    *[(name, shape) for name in SINGLE for shape in ((6,), (1, 1), (0,))],
    *[(name, shape) for name in ("weight_scale", "weight_zero_point") for shape in ((5,), (1, 6), (0,))],
    *[("bias", shape) for shape in ((), (1,), (5,), (1, 1, 1, 6))],
]


@pytest.mark.parametrize(("name", "shape"), WRONG_SHAPES, ids=str)
def test_a_scale_or_zero_point_of_another_shape(client: ApplicationClient, name: str, shape: tuple[int, ...]) -> None:
    operands = {**QUANTIZED.operands, name: np.ones(shape, QUANTIZED.operands[name].dtype)}
    document = payloads.refused(client, QUANTIZED.path, 422, **payloads.npz_request(operands, {"groups": 2}))
    assert payloads.pointers(document) == [f"/{name}"]


@pytest.mark.parametrize("missing", [name for name in QUANTIZED.operands if name != "bias"])
def test_a_missing_scale_or_zero_point_is_named(client: ApplicationClient, missing: str) -> None:
    operands = {name: array for name, array in QUANTIZED.operands.items() if name != missing}
    document = payloads.refused(client, QUANTIZED.path, 422, **payloads.npz_request(operands, {"groups": 2}))
    assert payloads.pointers(document) == [f"/{missing}"]


# ------------------------------------------------------------------------------------------------------------- indices


@pytest.mark.parametrize("encoder", ["nested", "flat", "base64", "npz", "deflated_npz", "multipart"])
@pytest.mark.parametrize("scheme", ["plane", "image", "tensor"])
@pytest.mark.parametrize("order", ["row_major", "column_major"])
def test_what_a_pooling_answers_is_what_an_unpooling_takes(
    client: ApplicationClient, encoder: str, scheme: str, order: str
) -> None:
    images = normal(2, 6, 4, 3)
    counted: dict[str, Any] = {"index_scheme": scheme, "storage_order": order}
    pool = {"mode": "max", "kernel_size": 2, "return_indices": True, **counted}
    response = client.post("/pool/forward", **payloads.ENCODERS[encoder]({"input": images}, pool))
    pooled = payloads.results(response, ["output", "indices"], {"output": "float64", "indices": "int64"})
    expected: Any = MaxPool(kernel_size=2, return_indices=True, **counted).forward(images)
    assert_identical(pooled, expected._asdict())

    unpool = {"kernel_size": 2, **counted}
    if payloads.media_type(response) == JSON:  # as it came, word for word
        answer = response.json()
        options = payloads.json_body({**unpool, "input": answer["output"], "indices": answer["indices"]})
    else:
        renamed = {"input": pooled["output"], "indices": pooled["indices"]}
        options = payloads.ENCODERS[encoder](renamed, unpool)
    (restored,) = payloads.results(client.post("/unpool/forward", **options), ["output"]).values()
    largest = images.reshape(2, 3, 2, 2, 2, 3).max((2, 4)).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(restored, np.where(images == largest, images, 0))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16"])
@pytest.mark.parametrize("encoder", ["flat", "base64", "npz"])
def test_indices_of_every_type(client: ApplicationClient, encoder: str, dtype: str) -> None:
    """Their type is none that is computed in: the result has that of the input."""
    operands = {"input": line([5, 6, 7], "float32"), "indices": line([4, 0, 2], dtype)}
    response = client.post("/unpool/forward", **payloads.ENCODERS[encoder](operands, {"output_size": 5}))
    assert_identical(payloads.results(response, ["output"]), {"output": line([6, 0, 7, 0, 5], "float32")})
    operands = {"grad_output": line([1, 2, 3, 4, 5], "float32"), **operands}
    response = client.post("/unpool/backward", **payloads.ENCODERS[encoder](operands, {"output_size": 5}))
    assert_identical(payloads.results(response, ["grad_input"]), {"grad_input": line([5, 1, 3], "float32")})


WRONG_INDICES: list[tuple[str, list[float]]] = [
    ("int64", [-1]),
    ("int64", [5]),
    ("int64", [2**62]),
    ("int64", [-(2**63)]),
    ("uint64", [2**64 - 1]),
    ("uint64", [2**63]),
    ("int8", [-128]),
    ("uint8", [255]),
    *[("float64", [value]) for value in (0.5, -1.0, 5.0, 1e300, 2.0**53, np.nan, np.inf, -np.inf)],
    ("float32", [2.0**24]),
    ("float16", [2048.0]),
]


@pytest.mark.parametrize(("dtype", "wrong"), WRONG_INDICES, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("encoder", ["base64", "npz"])
def test_an_index_out_of_range(
    client: ApplicationClient, encoder: str, direction: str, dtype: str, wrong: list[float]
) -> None:
    operands: Arrays = {"input": line([1, 2], "float64"), "indices": np.array([[[0], wrong]], dtype)}
    if direction == "backward":
        operands = {"grad_output": line([1, 2, 3, 4, 5], "float64"), **operands}
    options = payloads.ENCODERS[encoder](operands, {"output_size": 5})
    document = payloads.refused(client, f"/unpool/{direction}", 422, **options)
    assert payloads.pointers(document) == ["/indices"]


@pytest.mark.parametrize("framework", [None, "onnx"])
@pytest.mark.parametrize(("scheme", "count"), [("plane", 4), ("image", 12), ("tensor", 24)])
def test_the_limit_of_an_index_is_what_it_counts(
    client: ApplicationClient, scheme: str, count: int, framework: str | None
) -> None:
    """With framework=onnx, what kernel_size gives, though output_size is larger."""
    given: dict[str, Any] = {"kernel_size": 2, "stride": 2, "index_scheme": scheme}
    if framework:
        given |= {"framework": framework, "data_format": "channels_last", "output_size": 9}
    for index, status in ((count - 1, 200), (count, 422)):
        operands: Arrays = {"input": np.ones((2, 2, 3)), "indices": np.full((2, 2, 3), index)}
        response = client.post("/unpool/forward", **payloads.npz_request(operands, given))
        assert response.status_code == status, response.text
        if status == 422:
            assert payloads.pointers(payloads.problem(response, 422)) == ["/indices"]
            assert response.json()["errors"][0]["expected"] == f"0 to {count - 1}"


def test_an_empty_batch_has_no_indices(client: ApplicationClient) -> None:
    given = {"mode": "max", "kernel_size": 2, "return_indices": True}
    response = client.post("/pool/forward", **payloads.npz_request({"input": np.ones((0, 4, 1), "float32")}, given))
    expected = {"output": np.ones((0, 2, 1), "float32"), "indices": np.ones((0, 2, 1), "int64")}
    assert_identical(payloads.results(response, ["output", "indices"]), expected)
    operands = {"input": expected["output"], "indices": expected["indices"]}
    response = client.post("/unpool/forward", **payloads.npz_request(operands, {"kernel_size": 2}))
    expected = {"output": MaxUnpool(kernel_size=2).forward(**operands)}
    assert_identical(payloads.results(response, ["output"]), expected)
    assert expected["output"].shape == (0, 4, 1)
