"""The onnx package's node tests of convolution and pooling, through HTTP in every encoding that a client may choose."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.onnx_nodes import (
    COUNTERPARTS,
    EXPRESSED,
    NOT_EXPRESSED,
    QUANTIZED,
    SHAPES,
    Array,
    Call,
    calls,
    node_tests,
    operators,
)
from tests.service.payloads import JSON, NPY, NPZ

NAMES = [name for names in EXPRESSED.values() for name in names]
ENCODINGS = ("nested", "flat", "base64", "npy", "npz", "multipart")

pytestmark = pytest.mark.exhaustive  # making all of ONNX's cases takes long; each op is tested elsewhere too


def request(call: Call, encoding: str) -> payloads.Options:
    if encoding != "nested":
        return payloads.ENCODERS[encoding](call.operands, call.parameters)
    tensors = {
        # Nested lists have no type of their own, and no way to write a scalar.
        name: payloads.json_flat(operand) if needs_type(call.operator, operand) else payloads.json_nested(operand)
        for name, operand in call.operands.items()
    }
    return payloads.json_body({**tensors, **call.parameters})


def needs_type(operator: str, operand: Array) -> bool:
    return operand.ndim == 0 or (operator in QUANTIZED and operand.dtype.kind in "iu")


def answered(response: httpx.Response, encoding: str, names: list[str]) -> dict[str, Array]:
    """The results; those of nested lists in the type that Python's own parser gives them."""
    assert response.status_code == 200, response.text
    in_json = encoding in {"nested", "flat", "base64"}
    assert response.headers["content-type"] == (JSON if in_json else NPY if len(names) == 1 else NPZ)
    if not in_json:
        return payloads.results(response, names)
    return {
        name: np.array(tensor) if isinstance(tensor, list) else payloads.json_array(tensor)
        for name, tensor in response.json().items()
    }


def result_dtype(call: Call, name: str, encoding: str) -> np.dtype[np.generic]:
    expected = call.expected[name].dtype
    if name == "indices" or call.operator in QUANTIZED:
        return expected
    # Integers, and nested lists without a dtype beside them, compute as float64.
    return expected if expected.kind == "f" and encoding != "nested" else np.dtype(np.float64)


def test_every_node_test_is_expressed_or_listed() -> None:
    """A new version of onnx adds no test unnoticed, and loses none."""
    assert sorted(node_tests()) == sorted([*NAMES, *NOT_EXPRESSED])


def test_every_test_of_a_single_node_is_expressed() -> None:
    for operator, names in EXPRESSED.items():
        assert all(operators(node_tests()[name]) == [operator] for name in names)
    assert all(len(operators(node_tests()[name])) > 1 for name in NOT_EXPRESSED)


def holds(encoding: str, operator: str) -> bool:
    """Return whether an encoding can hold a call: npy is one operand; ConvInteger has none that may be nested lists."""
    if encoding == "npy":
        return sum(name not in SHAPES for name in COUNTERPARTS[operator].operands) == 1
    return encoding != "nested" or operator != "ConvInteger"


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        (name, encoding)
        for operator, names in EXPRESSED.items()
        for name in names
        for encoding in ENCODINGS
        if holds(encoding, operator)
    ],
)
def test_node(client: ApplicationClient, name: str, encoding: str) -> None:
    found = calls(name)
    assert found
    for call in found:
        response = client.post(call.path, **request(call, encoding))
        results = answered(response, encoding, list(call.expected))
        assert list(results) == list(call.expected)
        for result, expected in call.expected.items():
            output = results[result]
            assert output.shape == expected.shape
            assert output.dtype == result_dtype(call, result, encoding)
            # The tolerance is meant for rounding; an integer is right or wrong.
            rtol, atol = (call.rtol, call.atol) if expected.dtype.kind == "f" else (0, 0)
            np.testing.assert_allclose(output, expected, rtol=rtol, atol=atol)


def test_indices_count_in_the_whole_input(client: ApplicationClient) -> None:
    """Every node test with indices has one image of one channel, where it makes no difference what they count."""
    array = np.random.default_rng(0).permutation(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).astype(np.float64)
    parameters = {"framework": "onnx", "kernel_size": 2, "stride": 2}
    options = payloads.npz_request({"input": array}, {**parameters, "mode": "max", "return_indices": True})
    pooled = payloads.results(client.post("/pool/forward", **options), ["output", "indices"])
    np.testing.assert_array_equal(array.reshape(-1)[pooled["indices"]], pooled["output"])
    operands = {"input": pooled["output"], "indices": pooled["indices"]}
    response = client.post("/unpool/forward", **payloads.npz_request(operands, parameters))
    restored = payloads.results(response, ["output"])["output"]
    np.testing.assert_array_equal(restored, np.where(np.isin(array, pooled["output"]), array, 0))
