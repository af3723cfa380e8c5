"""safetensors files: what the library writes is read, what is written it reads, and what it refuses is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import Conv, MaxPool
from service.codecs import buffers
from service.codecs.message import Decoded, Limits, RequestContext, ResponseContext
from service.codecs.safetensors import SafetensorsCodec
from service.codecs.text import parse_text_parameters
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import CALLS, CONV, INPUT, WEIGHT, assert_identical, computed
from tests.service.payloads import (
    SAFETENSORS,
    SAFETENSORS_DTYPES,
    AnyArray,
    safetensors_entry,
    safetensors_file,
    safetensors_tensors,
)
from tests.strategies import quick_settings, thorough_settings

CODEC = SafetensorsCodec()
OPERANDS = ("input", "weight", "bias")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
POOL = {"mode": "max", "kernel_size": "2"}


def decoded(body: bytes, charges: list[int] | None = None) -> Decoded:
    charged: list[int] = [] if charges is None else charges
    return CODEC.decode(bytearray(body), RequestContext(OPERANDS), Limits(0, charged.append))


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, AnyArray]:
    """Tensors of any bits and every type."""
    names = draw(st.lists(st.sampled_from(OPERANDS), unique=True))
    arrays = {}
    for name in names:
        dtype = SAFETENSORS_DTYPES[draw(st.sampled_from(sorted(SAFETENSORS_DTYPES)))]
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=8)))
        bits = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(math.prod(shape) * dtype.itemsize)
        arrays[name] = np.frombuffer(bits, dtype).reshape(shape) if bits else np.zeros(shape, dtype)
    return arrays


def assert_same_bits(actual: Mapping[str, AnyArray], expected: Mapping[str, AnyArray]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        assert actual[name].tobytes() == array.tobytes()


# ------------------------------------------------------------------------------------------------- reading and writing


@thorough_settings
@given(tensors(), st.sampled_from([None, {"stride": "2", "padding": "[[1, 0]]", "mode": "max"}, {"format": "np"}]))
def test_what_the_library_writes_is_read_bit_for_bit(
    arrays: dict[str, AnyArray], metadata: dict[str, str] | None
) -> None:
    charges: list[int] = []
    body = bytearray(safetensors.numpy.save(arrays, metadata))
    read = CODEC.decode(body, RequestContext(OPERANDS), Limits(0, charges.append))
    assert_same_bits(read.tensors, arrays)
    assert read.parameters == (
        {"stride": 2, "padding": [[1, 0]], "mode": "max"} if metadata and "mode" in metadata else {}
    )
    is_tiny = sum(array.nbytes for array in arrays.values()) < buffers.ALIGNMENT
    for tensor in read.tensors.values():
        assert tensor.flags.aligned
        assert tensor.flags.c_contiguous
        assert is_tiny or not tensor.size or np.shares_memory(tensor, np.frombuffer(body, np.uint8))
    assert charges == []


@thorough_settings
@given(tensors(), st.sampled_from([{}, {"stride": (2, 1), "padding": ((1, 0), (0, 0)), "mode": "max", "groups": 1}]))
def test_what_is_written_the_library_reads_bit_for_bit(arrays: dict[str, AnyArray], parameters: dict[str, Any]) -> None:
    written = b"".join(CODEC.encode(arrays, ResponseContext(parameters=parameters)).buffers)
    assert_same_bits(safetensors_tensors(written), arrays)
    assert_same_bits(decoded(written).tensors, arrays)
    length = int.from_bytes(written[:8], "little")
    assert length % 8 == 0  # the data start at an address that every type can be read at
    header = json.loads(written[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    assert all(header[name]["data_offsets"][0] % array.itemsize == 0 for name, array in arrays.items())
    assert parse_text_parameters(list(metadata.items())) == json.loads(json.dumps(parameters))


@quick_settings
@given(tensors(), st.integers(0, 7), st.sampled_from([1, buffers.COPIED_BYTES]))
def test_a_header_of_any_length_is_read_without_a_copy(
    arrays: dict[str, AnyArray], padding: int, copied_bytes: int
) -> None:
    written = safetensors.numpy.save(arrays)
    start = 8 + int.from_bytes(written[:8], "little")
    charges: list[int] = []
    body = safetensors_file(written[8:start].rstrip() + b" " * padding, written[start:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "COPIED_BYTES", copied_bytes)
        read = decoded(body, charges)
    assert_same_bits(read.tensors, arrays)
    assert all(tensor.flags.aligned for tensor in read.tensors.values())
    assert charges == []


def test_a_tensor_behind_a_smaller_type_is_copied_and_charged() -> None:
    floats = np.arange(4, dtype="<f8")
    header = {
        "input": safetensors_entry("I8", [3], [0, 3]),
        "weight": safetensors_entry("F64", [4], [3, 35]),
        "bias": safetensors_entry("U8", [1], [35, 36]),
    }
    charges: list[int] = []
    read = decoded(safetensors_file(header, b"\1\2\3" + floats.tobytes() + b"\xff"), charges).tensors
    assert read["input"].tolist() == [1, 2, 3]
    assert read["weight"].tolist() == floats.tolist()
    assert read["bias"].tolist() == [255]
    assert read["weight"].flags.aligned
    assert charges == [32]


def test_the_order_of_the_header_need_not_be_that_of_the_data() -> None:
    header = {
        "weight": safetensors_entry(shape=[1], data_offsets=[4, 8]),
        "input": safetensors_entry(shape=[1], data_offsets=[0, 4]),
    }
    read = decoded(safetensors_file(header, np.array([1, 2], "<f4").tobytes())).tensors
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"input": [1.0], "weight": [2.0]}


# ------------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("content_type", [SAFETENSORS, "application/x-safetensors", "Application/safetensors"])
def test_parameters_are_in_the_metadata_or_in_the_query(client: ApplicationClient, content_type: str) -> None:
    expected = {"output": MaxPool(kernel_size=2, stride=1).forward(INPUT)}
    everywhere = {**POOL, "stride": "1"}
    for names in ((), ("mode",), ("mode", "stride"), ("mode", "stride", "kernel_size")):
        metadata = {name: everywhere[name] for name in names}
        query = {name: value for name, value in everywhere.items() if name not in names}
        body = safetensors.numpy.save({"input": INPUT}, metadata or None)
        response = client.post("/pool/forward", **payloads.typed(content_type, body, params=query))
        assert payloads.media_type(response) == SAFETENSORS
        assert_identical(payloads.results(response, ["output"]), expected)


def test_a_parameter_in_both_places_is_an_error(client: ApplicationClient) -> None:
    options = payloads.safetensors_request({"input": INPUT}, POOL)
    document = payloads.refused(client, "/pool/forward", 422, **options, params={"kernel_size": "2"})
    assert payloads.pointers(document) == ["/kernel_size"]


def test_an_unknown_parameter_is_an_error_but_the_mark_of_a_framework_is_not(client: ApplicationClient) -> None:
    options = payloads.safetensors_request({"input": INPUT}, {**POOL, "format": "pt"})
    assert client.post("/pool/forward", **options).status_code == 200
    options = payloads.safetensors_request({"input": INPUT}, {**POOL, "strde": "1"})
    document = payloads.refused(client, "/pool/forward", 422, **options)
    assert payloads.pointers(document) == ["/strde"]
    assert "stride" in document["detail"]


@pytest.mark.parametrize(
    "value", ["[" * 900 + "]" * 900, "[" * 4000, "9" * 4000, "x" * 5000, '{"a":' * 500 + "1" + "}" * 500]
)
def test_a_parameter_that_no_layer_has_is_invalid(client: ApplicationClient, value: str) -> None:
    options = payloads.safetensors_request({"input": INPUT}, {**POOL, "stride": value})
    payloads.refused(client, "/pool/forward", 422, **options)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_the_answer_s_metadata_reproduce_it(client: ApplicationClient, call: payloads.Call) -> None:
    response = client.post(call.path, **payloads.safetensors_request(call.operands, call.parameters))
    length = int.from_bytes(response.content[:8], "little")
    metadata = json.loads(response.content[8 : 8 + length])["__metadata__"]
    assert {name: parse_text_parameters([(name, text)])[name] for name, text in metadata.items()} == json.loads(
        response.headers["Convpool-Parameters"]
    )
    again = client.post(call.path, **payloads.typed(SAFETENSORS, safetensors.numpy.save(call.operands, metadata)))
    assert again.content == response.content
    assert_identical(payloads.results(again, call.results), computed(call, call.operands))


def test_accept_asks_for_safetensors_from_any_request(client: ApplicationClient) -> None:
    options = payloads.nested_request({"input": INPUT, "weight": WEIGHT}, CONV.parameters)
    options["headers"]["Accept"] = SAFETENSORS
    response = client.post("/conv/forward", **options)
    expected = {"output": Conv(**CONV.parameters).forward(INPUT, WEIGHT)}
    assert_identical(payloads.results(response, ["output"]), expected)
