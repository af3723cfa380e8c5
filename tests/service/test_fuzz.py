"""Whatever a client sends, the service never fails, and every error is a problem document."""

from __future__ import annotations

import json
import zipfile
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.operations.catalogue import CATALOGUE, OPERATIONS
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import CALLS
from tests.service.payloads import JSON, MULTIPART, NPY, NPZ, SAFETENSORS, AnyArray

fuzz_settings = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])

INPUT = np.arange(12.0).reshape(1, 4, 3, 1)
WEIGHT = np.ones((2, 2, 1, 2))
CONV = {"input": INPUT, "weight": WEIGHT}
POOL: dict[str, Any] = {"mode": "max", "kernel_size": 2}
PARTS = [payloads.file_part(name, payloads.npy_bytes(array)) for name, array in CONV.items()]
BODY: dict[str, Any] = {
    "input": payloads.json_flat(INPUT),
    "weight": WEIGHT.tolist(),
    "bias": payloads.json_base64(np.ones(2)),
    "stride": [1, 2],
    "padding": [[0, 1], [1, 0]],
    "data_format": "channels_last",
}
UNPOOL: dict[str, Any] = {
    "input": INPUT.tolist(),
    "indices": payloads.json_flat(np.arange(12).reshape(1, 4, 3, 1)),
    "kernel_size": [2, 1],
    "output_size": [8, 3],
    "framework": "onnx",
    "data_format": "channels_last",
}
QUANTIZED: dict[str, Any] = {
    "input": payloads.json_flat(INPUT.astype(np.uint8)),
    "weight": payloads.json_base64(WEIGHT.astype(np.int8)),
    **{f"{name}_scale": payloads.json_flat(np.array(0.5)) for name in ("input", "weight", "output")},
    **{f"{name}_zero_point": payloads.json_flat(np.array(1, np.uint8)) for name in ("input", "output")},
    "weight_zero_point": payloads.json_flat(np.array([1, 2], np.int8)),
    "padding": [[0, 1], [1, 0]],
}
TRANSPOSED: dict[str, Any] = {**BODY, "bias": [1.0], "weight": np.ones((2, 2, 1, 1)).tolist(), "output_padding": [0, 1]}
SHAPES: dict[str, Any] = {"shapes": {"input": [1, 9, 9, 3], "weight": [3, 3, 3, 4]}, "stride": 2, "dtype": "float32"}
DICTIONARY = [
    *[
        b"'descr': '|O'",
        b"(10**9,)",
        b"True",
        b"\x00" * 8,
        b"\xff" * 8,
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"\x93NUMPY\x01\x00",
    ],
    *[
        b"\r\n--limit\r\n",
        b"\r\n\r\n",
        b"filename=",
        b"[[[",
        b'{"dtype":"float64","shape":[',
        b"1e999",
        b"null",
        b"NaN",
    ],
    *[b"9" * 40, b"-", b",", b'"', b"\\ud800", b"\xed\xa0\x80", b"2147483648"],
]


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few bytes flipped, cut out, put in, repeated or moved."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(changed)))
        end = min(len(changed), start + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["flip", "cut", "insert", "replace", "repeat", "end"])):
            case "flip" if start < len(changed):
                changed[start] ^= draw(st.integers(1, 255))
            case "cut":
                del changed[start:end]
            case "insert":
                changed[start:start] = draw(st.sampled_from(DICTIONARY) | st.binary(max_size=8))
            case "replace":
                changed[start:end] = draw(st.sampled_from(DICTIONARY) | st.binary(max_size=8))
            case "repeat":
                changed[start:start] = changed[start:end]
            case _:
                del changed[start:]
    return bytes(changed)


numbers = st.integers(-(2**70), 2**70) | st.integers(-3, 5) | st.floats() | st.sampled_from([2**31 - 1, 2**31, 10**9])
scalars = (
    st.none() | st.booleans() | numbers | st.text(max_size=12) | st.sampled_from(["same", "valid", "max", "first"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        *["stride", "padding", "dilation", "groups", "data_format", "mode", "kernel_size", "ceil_mode", "ties", "wrt"],
        *["count_include_pad", "divisor_override", "dtype", "input", "weight", "bias", "grad_output", "shapes"],
        *["padding_mode", "output_padding", "output_size", "norm_type", "return_indices", "index_scheme", "framework"],
        *["storage_order", "indices", "input_scale", "input_zero_point", "output_zero_point"],
    ]
)
parameters = st.dictionaries(names | st.text(max_size=8), values, max_size=4)
DOCUMENTS = [
    ("/conv/forward", BODY),
    ("/conv/shape", SHAPES),
    ("/conv_transpose/forward", TRANSPOSED),
    ("/unpool/forward", UNPOOL),
    ("/qlinear_conv/forward", QUANTIZED),
]
each_document = pytest.mark.parametrize(("path", "document"), DOCUMENTS, ids=[path for path, _ in DOCUMENTS])
paths = st.sampled_from(
    [*[operation.path for operation in OPERATIONS], *[f"/{layer.name}/shape" for layer in CATALOGUE]]
)


def assert_sound(response: httpx.Response) -> None:
    """An answer, or a problem that is the client's."""
    if response.status_code != 200:
        payloads.problem(response, *range(400, 500))


@st.composite
def with_one_value_changed(draw: st.DrawFn, document: Any) -> Any:
    """The JSON document with a random value somewhere in it."""
    if isinstance(document, dict) and document and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(document)))
        return {**document, name: draw(with_one_value_changed(document[name]))}
    if isinstance(document, list) and document and draw(st.integers(0, 3)):
        position = draw(st.integers(0, len(document) - 1))
        return [*document[:position], draw(with_one_value_changed(document[position])), *document[position + 1 :]]
    return draw(values)


# ----------------------------------------------------------------------------------------------------- mutated bodies


@each_document
def test_the_documents_are_sound_before_they_are_mutated(client: ApplicationClient, path: str, document: Any) -> None:
    response = client.post(path, **payloads.json_body(document))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "content",
    [
        payloads.npy_bytes(INPUT),
        payloads.npy_bytes(np.asfortranarray(INPUT.astype(">f4")), (2, 0)),
        payloads.npy_bytes(INPUT.astype("i1"), (3, 0)),
    ],
    ids=["v1", "v2_fortran", "v3_bytes"],
)
@given(st.data())
@fuzz_settings
def test_mutated_npy(client: ApplicationClient, content: bytes, data: st.DataObject) -> None:
    body = data.draw(mutated(content))
    assert_sound(client.post("/pool/forward", **payloads.typed(NPY, body, params=payloads.as_texts(POOL))))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@given(st.data())
@fuzz_settings
def test_mutated_npz(client: ApplicationClient, compression: int, data: st.DataObject) -> None:
    body = data.draw(mutated(payloads.npz_bytes(CONV, compression)))
    assert_sound(client.post("/conv/forward", **payloads.typed(NPZ, body)))


@given(mutated(payloads.multipart_parts([*PARTS, payloads.field_part("stride", "[1, 2]")])))
@fuzz_settings
def test_mutated_multipart(client: ApplicationClient, body: bytes) -> None:
    assert_sound(client.post("/conv/forward", **payloads.typed(f"{MULTIPART}; boundary=limit", body)))


@each_document
@given(st.data())
@fuzz_settings
def test_mutated_json_text(client: ApplicationClient, path: str, document: Any, data: st.DataObject) -> None:
    body = data.draw(mutated(json.dumps(document).encode()))
    assert_sound(client.post(path, **payloads.typed(JSON, body)))


@each_document
@given(st.data())
@fuzz_settings
def test_json_with_one_other_value(client: ApplicationClient, path: str, document: Any, data: st.DataObject) -> None:
    assert_sound(client.post(path, **payloads.json_body(data.draw(with_one_value_changed(document)))))


@given(
    paths,
    st.sampled_from([JSON, NPY, NPZ, SAFETENSORS, f"{MULTIPART}; boundary=limit", "text/plain"]),
    st.binary(max_size=200),
)
@fuzz_settings
def test_random_bodies(client: ApplicationClient, path: str, content_type: str, body: bytes) -> None:
    assert_sound(client.post(path, **payloads.typed(content_type, body)))


# ------------------------------------------------------------------------------------------------- random parameters


def operands_of(path: str) -> dict[str, AnyArray]:
    """Operands of a call of this path that are in order, so that it is for its parameters to be wrong."""
    call = next((call for call in CALLS if call.path == path), None)
    return {} if call is None else call.operands


def json_operands(path: str) -> dict[str, Any]:
    shapes = next(call.operands for call in CALLS if call.path == path.replace("/shape", "/forward"))
    if path.endswith("/shape"):
        return {"shapes": {name: list(array.shape) for name, array in shapes.items()}}
    return {name: payloads.json_flat(array) for name, array in operands_of(path).items()}


@given(paths, parameters)
@fuzz_settings
def test_random_parameters_in_json(client: ApplicationClient, path: str, given_parameters: dict[str, Any]) -> None:
    operands = json_operands(path)
    assert_sound(client.post(path, **payloads.json_body({**POOL, **operands, **given_parameters})))
    assert_sound(client.post(path, **payloads.json_body({**operands, **given_parameters})))


@given(paths, parameters, st.booleans())
@fuzz_settings
def test_random_parameters_in_query_and_fields(
    client: ApplicationClient, path: str, given_parameters: dict[str, Any], in_fields: bool
) -> None:
    operands = operands_of(path)
    texts = {name: payloads.as_text(value) for name, value in given_parameters.items()}
    if in_fields:
        parts = [payloads.file_part(name, payloads.npy_bytes(array)) for name, array in operands.items()]
        for name, text in texts.items():
            header = f'Content-Disposition: form-data; name="{quote(name)}"'
            parts.append((header, text.encode("utf-8", "surrogatepass")))
        options = payloads.typed(f"{MULTIPART}; boundary=limit", payloads.multipart_parts(parts))
        assert_sound(client.post(path, **options))
    else:
        options = payloads.npz_request(operands, {})
        del options["params"]
        query = "&".join(
            f"{quote(name, errors='replace')}={quote(text, errors='replace')}" for name, text in texts.items()
        )
        assert_sound(client.post(f"{path}?{query}", **options))


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.text(st.characters(max_codepoint=255), max_size=60))
@fuzz_settings
def test_random_headers(client: ApplicationClient, content_type: str, accept: str) -> None:
    headers = {"Content-Type": content_type.encode("latin-1"), "Accept": accept.encode("latin-1")}
    assert_sound(client.post("/pool/forward", content=b"{}", headers=headers))


@given(st.binary(max_size=40))
@fuzz_settings
def test_random_query_strings(client: ApplicationClient, query: bytes) -> None:
    options = payloads.json_body({**POOL, "input": INPUT.tolist()})
    assert_sound(client.post(f"/pool/forward?{quote(query, safe='&=%+;[],:')}", **options))
