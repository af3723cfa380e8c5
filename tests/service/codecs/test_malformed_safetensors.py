"""Malformed safetensors files: refused in words, as the library refuses them, and never a fault of the server."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.message import Limits, RequestContext
from service.codecs.safetensors import SafetensorsCodec
from service.problems import InvalidRequest, UnreadablePayload
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import (
    JSON,
    SAFETENSORS,
    SAFETENSORS_DTYPES,
    AnyArray,
    safetensors_file,
    safetensors_tensors,
)
from tests.service.payloads import safetensors_entry as entry
from tests.strategies import quick_settings, thorough_settings

CODEC = SafetensorsCodec()
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
POOL = {"mode": "max", "kernel_size": "2"}


def decoded(body: bytes) -> dict[str, AnyArray]:
    context = RequestContext(("input", "weight", "bias"))
    return CODEC.decode(bytearray(body), context, Limits(0, lambda _: None)).tensors


# -------------------------------------------------------------------------------------------------------------- refused

DATA = np.array([1, 2], "<f4").tobytes()
VALID = entry()


def test_the_valid_file_of_these_tests_is_read() -> None:
    assert decoded(safetensors_file({"input": VALID}, DATA))["input"].tolist() == [[[1.0], [2.0]]]


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "header beyond the end": safetensors_file({"input": VALID}, DATA, length=1000),
    "header of 2^63 bytes": safetensors_file({"input": VALID}, DATA, length=2**63),
    "header of 2^64 - 1 bytes": safetensors_file({"input": VALID}, DATA, length=2**64 - 1),
    "not JSON": safetensors_file("{input}"),
    "JSON and more": safetensors_file("{}{}"),
    "a list": safetensors_file("[]"),
    "null": safetensors_file("null"),
    "blanks before the header": safetensors_file(b" " + json.dumps({"input": VALID}).encode(), DATA),
    "not UTF-8": safetensors_file(b'{"\xff": 1}'),
    "NUL after the header": safetensors_file(json.dumps({"input": VALID}).encode() + b"\0", DATA),
    "nested deeply": safetensors_file('{"input":' + "[" * 900 + "]" * 900 + "}"),
    "nested more deeply": safetensors_file('{"input":' + "[" * 20_000 + "]" * 20_000 + "}"),
    "nested deeply and then replaced": safetensors_file(
        '{"input":' + "[" * 900 + "]" * 900 + ',"input":' + json.dumps(VALID) + "}", DATA
    ),
    "an integer of 5,000 digits, then replaced": safetensors_file(
        '{"input":' + "9" * 5000 + ',"input":' + json.dumps(VALID) + "}", DATA
    ),
    "header too long": safetensors_file(json.dumps({"input": VALID}).encode() + b" " * 2**16, DATA),
    "too many tensors": safetensors_file({f"t{index}": entry(shape=[0], data_offsets=[0, 0]) for index in range(100)}),
    "a name twice": safetensors_file('{"input":' + json.dumps(VALID) + ',"input":' + json.dumps(VALID) + "}", DATA),
    "a name twice in a tensor": safetensors_file(
        '{"input":{"dtype":"F64","dtype":"F32","shape":[1,2,1],"data_offsets":[0,8]}}', DATA
    ),
    "a name twice in the metadata": safetensors_file(
        '{"__metadata__":{"stride":"1","stride":"2"},"input":' + json.dumps(VALID) + "}", DATA
    ),
    "metadata twice": safetensors_file('{"__metadata__":{},"__metadata__":{},"input":' + json.dumps(VALID) + "}", DATA),
    "metadata of numbers": safetensors_file({"__metadata__": {"stride": 2}, "input": VALID}, DATA),
    "metadata of null": safetensors_file({"__metadata__": {"stride": None}, "input": VALID}, DATA),
    "metadata of objects": safetensors_file({"__metadata__": {"stride": {}}, "input": VALID}, DATA),
    "metadata is a list": safetensors_file({"__metadata__": [], "input": VALID}, DATA),
    "metadata is a string": safetensors_file({"__metadata__": "", "input": VALID}, DATA),
    "data too short": safetensors_file({"input": VALID}, DATA[:-1]),
    "data too long": safetensors_file({"input": VALID}, DATA + b"\0"),
    "data of no tensor": safetensors_file({}, DATA),
    "end before begin": safetensors_file({"input": entry(data_offsets=[8, 0])}, DATA),
    "gap at the start": safetensors_file({"input": entry(data_offsets=[4, 12])}, bytes(12)),
    "gap between": safetensors_file({"input": VALID, "weight": entry(data_offsets=[12, 20])}, bytes(20)),
    "overlap": safetensors_file({"input": VALID, "weight": entry(data_offsets=[4, 12])}, bytes(12)),
    "the same data twice": safetensors_file({"input": VALID, "weight": VALID}, DATA),
    "negative offsets": safetensors_file({"input": entry(data_offsets=[-8, 0])}, DATA),
    "three offsets": safetensors_file({"input": entry(data_offsets=[0, 8, 8])}, DATA),
    "offsets as floats": safetensors_file({"input": entry(data_offsets=[0.0, 8.0])}, DATA),
    "offsets as strings": safetensors_file({"input": entry(data_offsets=["0", "8"])}, DATA),
    "offsets as booleans": safetensors_file({"input": entry("I8", [1], [False, True])}, b"\0"),
    "offsets as an object": safetensors_file({"input": entry(data_offsets={})}, DATA),
    "offsets beyond 64 bits": safetensors_file({"input": entry(data_offsets=[2**70, 2**70 + 8])}, DATA),
    "shape smaller than the data": safetensors_file({"input": entry(shape=[1, 1, 1])}, DATA),
    "shape larger than the data": safetensors_file({"input": entry(shape=[1, 3, 1])}, DATA),
    "shape as floats": safetensors_file({"input": entry(shape=[1.0, 2.0, 1.0])}, DATA),
    "shape as booleans": safetensors_file({"input": entry(shape=[True, 2, 1])}, DATA),
    "negative shape": safetensors_file({"input": entry(shape=[-1, -2, 1])}, DATA),
    "shape is null": safetensors_file({"input": entry(shape=None)}, DATA),
    "shape is a number": safetensors_file({"input": entry(shape=2)}, DATA),
    "dtype is null": safetensors_file({"input": entry(None)}, DATA),
    "dtype is a list": safetensors_file({"input": entry(["F32"])}, DATA),
    "dtype missing": safetensors_file({"input": {"shape": [1, 2, 1], "data_offsets": [0, 8]}}, DATA),
    "a tensor is null": safetensors_file({"input": None}, DATA),
    "a tensor is a list": safetensors_file({"input": []}, DATA),
    "a tensor is empty": safetensors_file({"input": {}}, DATA),
}  # fmt: skip


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in MALFORMED.items()])
def test_a_malformed_file_is_unreadable(client: ApplicationClient, body: bytes) -> None:
    document = payloads.refused(client, "/conv/forward", 400, **payloads.typed(SAFETENSORS, body))
    assert "safetensors" in document["detail"] or "data_offsets" in document["detail"] or "begin" in document["detail"]


def test_a_shape_that_no_tensor_has_is_invalid(client: ApplicationClient) -> None:
    for shape in ([2**62, 0], [2**64 - 1, 0], [1] * 9, [2**31, 2**31, 2**31], [10**30, 0]):
        options = payloads.typed(SAFETENSORS, safetensors_file({"input": entry(shape=shape)}, DATA))
        payloads.refused(client, "/conv/forward", 400, 422, **options)


@pytest.mark.parametrize(
    "code", ["BOOL", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"]
)
def test_a_type_that_no_operand_has_is_refused_by_name(client: ApplicationClient, code: str) -> None:
    options = payloads.typed(SAFETENSORS, safetensors_file({"input": entry(code, [8])}, DATA))
    document = payloads.refused(client, "/pool/forward", 422, **options, params=POOL)
    assert payloads.pointers(document) == ["/input"]
    assert f"got {code}, expected F16, F32" in document["detail"]


def test_another_dtype_is_not_repeated(client: ApplicationClient) -> None:
    options = payloads.typed(SAFETENSORS, safetensors_file({"input": entry(payloads.MARKER.decode())}, DATA))
    payloads.attacked(client, "/pool/forward", 422, **options, params=POOL)


def test_another_name_is_refused_and_not_repeated(client: ApplicationClient) -> None:
    options = payloads.typed(SAFETENSORS, safetensors_file({payloads.MARKER.decode(): VALID}, DATA))
    payloads.attacked(client, "/pool/forward", 422, **options, params=POOL)
    options = payloads.typed(SAFETENSORS, safetensors_file({"conv1.weight": VALID}, DATA))
    document = payloads.refused(client, "/pool/forward", 422, **options, params=POOL)
    assert "conv1.weight" in document["detail"]
    assert "input" in document["detail"]


def test_json_under_the_wrong_content_type_is_recognised(client: ApplicationClient) -> None:
    body = b'{"input": [[[1], [2]]], "mode": "max", "kernel_size": 2}'
    document = payloads.refused(client, "/pool/forward", 400, **payloads.typed(SAFETENSORS, body))
    assert JSON in document["detail"]


# ------------------------------------------------------------------------------------------------------------ mutations

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**30, 0.0, 8.0, 1e300]),
    st.sampled_from([*SAFETENSORS_DTYPES, "BOOL", "F8_E4M3", "", "f32", "input", "2", "max", "[1,2]"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x", "input"]), inner, max_size=3),
    ),
    max_leaves=6,
)
FILES = [
    safetensors.numpy.save({"input": np.ones((1, 4, 1), "f4"), "weight": np.ones((2, 1, 1), "f4")}, {"stride": "1"}),
    safetensors.numpy.save({"input": np.ones((1, 4, 1), "i1"), "weight": np.ones((2, 1, 1), "f8")}),
    safetensors.numpy.save({"input": np.ones((1, 4, 1), BFLOAT16), "weight": np.ones((2, 1, 1), BFLOAT16)}),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file of which the bytes, or the values of the header, were changed."""
    body = bytearray(draw(st.sampled_from(FILES)))
    start = 8 + int.from_bytes(body[:8], "little")
    if draw(st.booleans()):
        for _ in range(draw(st.integers(1, 4))):
            where = draw(st.one_of(st.integers(0, 7), st.integers(8, start - 1), st.integers(start, len(body) - 1)))
            body[where] = draw(st.one_of(st.integers(0, 255), st.sampled_from(b'{}[]",:0189 ')))
        cut = draw(st.one_of(st.just(len(body)), st.integers(0, len(body))))
        return bytes(body[:cut])
    header = json.loads(body[8:start])
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from([*header, "bias", "__metadata__"]))
        member = header.get(name)
        if isinstance(member, dict) and draw(st.integers(0, 3)):
            inner = draw(st.sampled_from([*member, "dtype", "shape", "data_offsets"]))
            value = member.get(inner)
            if isinstance(value, list) and value and draw(st.booleans()):
                value[draw(st.integers(0, len(value) - 1))] = draw(SCALARS)
            else:
                member[inner] = draw(VALUES)
        else:
            header[name] = draw(VALUES)
    return safetensors_file(header, bytes(body[start:]))


def library_reads(body: bytes) -> bool:
    try:
        safetensors_tensors(body)
    except safetensors.SafetensorError:
        return False
    return True


@thorough_settings
@given(mutated())
def test_what_the_library_refuses_is_refused(body: bytes) -> None:
    try:
        read = decoded(body)
    except (UnreadablePayload, InvalidRequest):
        return
    assert library_reads(body)
    expected = safetensors_tensors(body)
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        assert (read[name].dtype, read[name].shape, read[name].tobytes()) == (array.dtype, array.shape, array.tobytes())


@quick_settings
@given(mutated())
def test_a_mutated_request_is_never_a_fault_of_the_server(client: ApplicationClient, body: bytes) -> None:
    response = client.post("/conv/forward", **payloads.typed(SAFETENSORS, body))
    if response.status_code != 200:
        payloads.problem(response, 400, 422)
