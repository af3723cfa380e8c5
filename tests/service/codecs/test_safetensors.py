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
from service.problems import InvalidRequest, UnreadablePayload
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import CALLS, CONV, INPUT, WEIGHT, assert_identical, computed
from tests.service.payloads import JSON, SAFETENSORS, SAFETENSORS_DTYPES, AnyArray, safetensors_tensors
from tests.strategies import quick_settings, thorough_settings

CODEC = SafetensorsCodec()
OPERANDS = ("input", "weight", "bias")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
POOL = {"mode": "max", "kernel_size": "2"}


def decoded(body: bytes, charges: list[int] | None = None) -> Decoded:
    charged: list[int] = [] if charges is None else charges
    return CODEC.decode(bytearray(body), RequestContext(OPERANDS), Limits(0, charged.append))


def file_of(header: str | bytes | Mapping[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A file with any header, of any announced length, and any data."""
    text = header.encode() if isinstance(header, str) else header
    if not isinstance(text, bytes):
        text = json.dumps(text).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(
    dtype: object = "F32", shape: object = (1, 2, 1), data_offsets: object = (0, 8), **more: object
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **more}


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
    body = file_of(written[8:start].rstrip() + b" " * padding, written[start:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "COPIED_BYTES", copied_bytes)
        read = decoded(body, charges)
    assert_same_bits(read.tensors, arrays)
    assert all(tensor.flags.aligned for tensor in read.tensors.values())
    assert charges == []


def test_a_tensor_behind_a_smaller_type_is_copied_and_charged() -> None:
    floats = np.arange(4, dtype="<f8")
    header = {
        "input": entry("I8", [3], [0, 3]),
        "weight": entry("F64", [4], [3, 35]),
        "bias": entry("U8", [1], [35, 36]),
    }
    charges: list[int] = []
    read = decoded(file_of(header, b"\1\2\3" + floats.tobytes() + b"\xff"), charges).tensors
    assert read["input"].tolist() == [1, 2, 3]
    assert read["weight"].tolist() == floats.tolist()
    assert read["bias"].tolist() == [255]
    assert read["weight"].flags.aligned
    assert charges == [32]


def test_the_order_of_the_header_need_not_be_that_of_the_data() -> None:
    header = {"weight": entry(shape=[1], data_offsets=[4, 8]), "input": entry(shape=[1], data_offsets=[0, 4])}
    read = decoded(file_of(header, np.array([1, 2], "<f4").tobytes())).tensors
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


# -------------------------------------------------------------------------------------------------------------- refused

DATA = np.array([1, 2], "<f4").tobytes()
VALID = entry()


def test_the_valid_file_of_these_tests_is_read() -> None:
    assert decoded(file_of({"input": VALID}, DATA)).tensors["input"].tolist() == [[[1.0], [2.0]]]


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "header beyond the end": file_of({"input": VALID}, DATA, length=1000),
    "header of 2^63 bytes": file_of({"input": VALID}, DATA, length=2**63),
    "header of 2^64 - 1 bytes": file_of({"input": VALID}, DATA, length=2**64 - 1),
    "not JSON": file_of("{input}"),
    "JSON and more": file_of("{}{}"),
    "a list": file_of("[]"),
    "null": file_of("null"),
    "blanks before the header": file_of(b" " + json.dumps({"input": VALID}).encode(), DATA),
    "not UTF-8": file_of(b'{"\xff": 1}'),
    "NUL after the header": file_of(json.dumps({"input": VALID}).encode() + b"\0", DATA),
    "nested deeply": file_of('{"input":' + "[" * 900 + "]" * 900 + "}"),
    "nested more deeply": file_of('{"input":' + "[" * 20_000 + "]" * 20_000 + "}"),
    "nested deeply and then replaced": file_of(
        '{"input":' + "[" * 900 + "]" * 900 + ',"input":' + json.dumps(VALID) + "}", DATA
    ),
    "an integer of 5,000 digits, then replaced": file_of(
        '{"input":' + "9" * 5000 + ',"input":' + json.dumps(VALID) + "}", DATA
    ),
    "header too long": file_of(json.dumps({"input": VALID}).encode() + b" " * 2**16, DATA),
    "too many tensors": file_of({f"t{index}": entry(shape=[0], data_offsets=[0, 0]) for index in range(100)}),
    "a name twice": file_of('{"input":' + json.dumps(VALID) + ',"input":' + json.dumps(VALID) + "}", DATA),
    "a name twice in a tensor": file_of(
        '{"input":{"dtype":"F64","dtype":"F32","shape":[1,2,1],"data_offsets":[0,8]}}', DATA
    ),
    "a name twice in the metadata": file_of(
        '{"__metadata__":{"stride":"1","stride":"2"},"input":' + json.dumps(VALID) + "}", DATA
    ),
    "metadata twice": file_of('{"__metadata__":{},"__metadata__":{},"input":' + json.dumps(VALID) + "}", DATA),
    "metadata of numbers": file_of({"__metadata__": {"stride": 2}, "input": VALID}, DATA),
    "metadata of null": file_of({"__metadata__": {"stride": None}, "input": VALID}, DATA),
    "metadata of objects": file_of({"__metadata__": {"stride": {}}, "input": VALID}, DATA),
    "metadata is a list": file_of({"__metadata__": [], "input": VALID}, DATA),
    "metadata is a string": file_of({"__metadata__": "", "input": VALID}, DATA),
    "data too short": file_of({"input": VALID}, DATA[:-1]),
    "data too long": file_of({"input": VALID}, DATA + b"\0"),
    "data of no tensor": file_of({}, DATA),
    "end before begin": file_of({"input": entry(data_offsets=[8, 0])}, DATA),
    "gap at the start": file_of({"input": entry(data_offsets=[4, 12])}, bytes(12)),
    "gap between": file_of({"input": VALID, "weight": entry(data_offsets=[12, 20])}, bytes(20)),
    "overlap": file_of({"input": VALID, "weight": entry(data_offsets=[4, 12])}, bytes(12)),
    "the same data twice": file_of({"input": VALID, "weight": VALID}, DATA),
    "negative offsets": file_of({"input": entry(data_offsets=[-8, 0])}, DATA),
    "three offsets": file_of({"input": entry(data_offsets=[0, 8, 8])}, DATA),
    "offsets as floats": file_of({"input": entry(data_offsets=[0.0, 8.0])}, DATA),
    "offsets as strings": file_of({"input": entry(data_offsets=["0", "8"])}, DATA),
    "offsets as booleans": file_of({"input": entry("I8", [1], [False, True])}, b"\0"),
    "offsets as an object": file_of({"input": entry(data_offsets={})}, DATA),
    "offsets beyond 64 bits": file_of({"input": entry(data_offsets=[2**70, 2**70 + 8])}, DATA),
    "shape smaller than the data": file_of({"input": entry(shape=[1, 1, 1])}, DATA),
    "shape larger than the data": file_of({"input": entry(shape=[1, 3, 1])}, DATA),
    "shape as floats": file_of({"input": entry(shape=[1.0, 2.0, 1.0])}, DATA),
    "shape as booleans": file_of({"input": entry(shape=[True, 2, 1])}, DATA),
    "negative shape": file_of({"input": entry(shape=[-1, -2, 1])}, DATA),
    "shape is null": file_of({"input": entry(shape=None)}, DATA),
    "shape is a number": file_of({"input": entry(shape=2)}, DATA),
    "dtype is null": file_of({"input": entry(None)}, DATA),
    "dtype is a list": file_of({"input": entry(["F32"])}, DATA),
    "dtype missing": file_of({"input": {"shape": [1, 2, 1], "data_offsets": [0, 8]}}, DATA),
    "a tensor is null": file_of({"input": None}, DATA),
    "a tensor is a list": file_of({"input": []}, DATA),
    "a tensor is empty": file_of({"input": {}}, DATA),
}  # fmt: skip


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in MALFORMED.items()])
def test_a_malformed_file_is_unreadable(client: ApplicationClient, body: bytes) -> None:
    document = payloads.refused(client, "/conv/forward", 400, **payloads.typed(SAFETENSORS, body))
    assert "safetensors" in document["detail"] or "data_offsets" in document["detail"] or "begin" in document["detail"]


def test_a_shape_that_no_tensor_has_is_invalid(client: ApplicationClient) -> None:
    for shape in ([2**62, 0], [2**64 - 1, 0], [1] * 9, [2**31, 2**31, 2**31], [10**30, 0]):
        options = payloads.typed(SAFETENSORS, file_of({"input": entry(shape=shape)}, DATA))
        payloads.refused(client, "/conv/forward", 400, 422, **options)


@pytest.mark.parametrize(
    "code", ["BOOL", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"]
)
def test_a_type_that_no_operand_has_is_refused_by_name(client: ApplicationClient, code: str) -> None:
    options = payloads.typed(SAFETENSORS, file_of({"input": entry(code, [8])}, DATA))
    document = payloads.refused(client, "/pool/forward", 422, **options, params=POOL)
    assert payloads.pointers(document) == ["/input"]
    assert f"got {code}, expected F16, F32" in document["detail"]


def test_another_dtype_is_not_repeated(client: ApplicationClient) -> None:
    options = payloads.typed(SAFETENSORS, file_of({"input": entry(payloads.MARKER.decode())}, DATA))
    payloads.attacked(client, "/pool/forward", 422, **options, params=POOL)


def test_another_name_is_refused_and_not_repeated(client: ApplicationClient) -> None:
    options = payloads.typed(SAFETENSORS, file_of({payloads.MARKER.decode(): VALID}, DATA))
    payloads.attacked(client, "/pool/forward", 422, **options, params=POOL)
    options = payloads.typed(SAFETENSORS, file_of({"conv1.weight": VALID}, DATA))
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
    return file_of(header, bytes(body[start:]))


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
        read = decoded(body).tensors
    except (UnreadablePayload, InvalidRequest):
        return
    assert library_reads(body)
    assert_same_bits(read, safetensors_tensors(body))


@quick_settings
@given(mutated())
def test_a_mutated_request_is_never_a_fault_of_the_server(client: ApplicationClient, body: bytes) -> None:
    response = client.post("/conv/forward", **payloads.typed(SAFETENSORS, body))
    if response.status_code != 200:
        payloads.problem(response, 400, 422)
