"""Every operation through every codec gives the numbers of cnn_core, in the form of the request."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_core import Conv, MaxPool
from service.operations.catalogue import OPERATIONS
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import (
    CALLS,
    CALLS_BY_NAME,
    CONV,
    INPUT,
    WEIGHT,
    as_type,
    assert_identical,
    computed,
    dtypes_of,
)
from tests.service.payloads import JSON, NPY, NPZ, SAFETENSORS, Call, Operands

CONV_BACKWARD = CALLS_BY_NAME["conv_backward"]
GRADIENTS = CONV_BACKWARD.results
POOL = {"mode": "max", "kernel_size": "2"}
each_call = pytest.mark.parametrize("call", CALLS, ids=str)


def encoders(call: Call) -> list[str]:
    """The codecs that can carry the operands of a call."""
    return [name for name in payloads.ENCODERS if name != "npy" or len(call.operands) == 1]


def binary_form(encoder: str, results: int) -> str:
    """The media type of an answer to a request that is not JSON and has no Accept."""
    if encoder.startswith("safetensors"):
        return SAFETENSORS
    return NPY if results == 1 else NPZ


each_call_and_encoder = pytest.mark.parametrize(
    ("call", "encoder"),
    [pytest.param(call, encoder, id=f"{call.name}-{encoder}") for call in CALLS for encoder in encoders(call)],
)


def test_the_calls_are_those_of_every_operation() -> None:
    assert {call.path for call in CALLS} == {operation.path for operation in OPERATIONS}


# ---------------------------------------------------------------------------------------- every operation x every codec


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@each_call_and_encoder
def test_every_codec_gives_the_numbers_of_the_core(
    client: ApplicationClient, call: Call, encoder: str, dtype: str
) -> None:
    operands = as_type(call.operands, dtype)
    response = client.post(call.path, **payloads.ENCODERS[encoder](operands, call.parameters))
    expected = computed(call, operands)
    assert_identical(payloads.results(response, call.results, dtypes_of(expected)), expected)


@pytest.mark.one_in(2)
@each_call_and_encoder
def test_an_answer_has_the_form_of_the_request(client: ApplicationClient, call: Call, encoder: str) -> None:
    options, expected = payloads.ENCODERS[encoder](call.operands, call.parameters), computed(call, call.operands)
    response = client.post(call.path, **options)
    assert response.status_code == 200
    assert int(response.headers["content-length"]) == len(response.content)
    if encoder in {"nested", "flat", "base64"}:
        assert payloads.media_type(response) == JSON
        forms: dict[str, Callable[[Any], bool]] = {
            "nested": lambda tensor: isinstance(tensor, list),
            "flat": lambda tensor: tensor.keys() == {"dtype", "shape", "data"},
            "base64": lambda tensor: tensor.keys() == {"dtype", "shape", "base64"},
        }
        first = next(iter(json.loads(options["content"]).values()))
        form = "flat" if "data" in first else encoder  # operands of a type of their own are flat among nested ones
        assert list(response.json()) == list(call.results)
        for name, tensor in response.json().items():
            assert forms[form](tensor)
            numbers = np.array(tensor, dtype=object) if form == "nested" else np.array(tensor.get("data", []), object)
            written_as = float if expected[name].dtype.kind == "f" else int
            assert all(type(number) is written_as for number in numbers.reshape(-1))
    else:
        assert payloads.media_type(response) == binary_form(encoder, len(call.results))


@pytest.mark.one_in(5)
@pytest.mark.parametrize("accept", [JSON, NPY, NPZ, SAFETENSORS])
@each_call_and_encoder
def test_accept_changes_the_form_and_no_number(
    client: ApplicationClient, call: Call, encoder: str, accept: str
) -> None:
    options = payloads.ENCODERS[encoder](call.operands, call.parameters)
    options["headers"] = {**options.get("headers", {}), "Accept": accept}
    if accept == NPY and len(call.results) > 1:
        payloads.refused(client, call.path, 406, **options)
        return
    response = client.post(call.path, **options)
    assert payloads.media_type(response) == accept
    expected = computed(call, call.operands)
    assert_identical(payloads.results(response, call.results, dtypes_of(expected)), expected)


# --------------------------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("encoder", ["flat", "base64", "npz", "safetensors", "multipart"])
def test_integers_compute_as_float64(client: ApplicationClient, encoder: str, dtype: str) -> None:
    operands = {"input": np.arange(12, dtype=dtype).reshape(1, 6, 2), "weight": np.ones((2, 2, 1), dtype)}
    response = client.post("/conv/forward", **payloads.ENCODERS[encoder](operands, {}))
    assert_identical(payloads.results(response, ["output"]), {"output": Conv().forward(**operands)})


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_an_integer_that_float64_would_round_is_refused_in_json(client: ApplicationClient, dtype: str) -> None:
    for number, status in ((2**53, 200), (2**53 + 1, 422)):
        flat = {"dtype": dtype, "shape": [1, 1, 1], "data": [number]}
        for body in ({"input": flat}, {"input": [[[number]]], "dtype": dtype}):
            answer = client.post("/pool/forward", json={"mode": "max", "kernel_size": 1, **body})
            assert answer.status_code == status, answer.text


def test_null_is_an_operand_that_is_not_given(client: ApplicationClient) -> None:
    request = {"input": [[[1.0], [2.0]]], "weight": [[[3.0]]]}
    with_null = client.post("/conv/forward", json={**request, "bias": None})
    assert with_null.json() == client.post("/conv/forward", json=request).json()
    document = payloads.refused(client, "/conv/forward", 422, json={**request, "input": None})
    assert "/input" in payloads.pointers(document)


def test_a_byte_order_mark_is_read_over(client: ApplicationClient) -> None:
    body = b"\xef\xbb\xbf" + b'{"mode":"max","kernel_size":1,"input":[[[1]]]}'
    assert client.post("/pool/forward", **payloads.typed(payloads.JSON, body)).json() == {"output": [[[1.0]]]}


def test_a_file_s_own_name_may_be_in_any_encoding(client: ApplicationClient) -> None:
    header = 'Content-Disposition: form-data; name="input"; filename="M\xfcll.npy"'
    body = payloads.multipart_parts([(header, payloads.npy_bytes(np.ones((1, 1, 1))))])
    options = payloads.typed("multipart/form-data; boundary=limit", body, params={"mode": "max", "kernel_size": "1"})
    assert client.post("/pool/forward", **options).status_code == 200


def test_integers_beside_float32_still_compute_as_float64(client: ApplicationClient) -> None:
    operands = {"input": np.arange(6, dtype="float32").reshape(1, 6, 1) / 3, "weight": np.ones((2, 1, 1), "int8")}
    response = client.post("/conv/forward", **payloads.npz_request(operands, {}))
    assert_identical(payloads.results(response, ["output"]), {"output": Conv().forward(**operands)})
    assert payloads.npy_array(response.content).dtype == np.float64


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740992", 2.0**53),
        ("9007199254740994", 2.0**53 + 2),
        ("-9223372036854775808", -(2.0**63)),
        ("9223372036854775808", 2.0**63),
        ("18446744073709551616", 2.0**64),
        ("9223372036854776000", 2.0**63),  # JSON.stringify(2 ** 63): JavaScript writes the shortest digits, then zeros
        ("100000000000000000000", 1e20),
    ],
)
@pytest.mark.parametrize("form", ["[[[{}]]]", '{{"dtype": "float64", "shape": [1, 1, 1], "data": [{}]}}'])
def test_floats_that_are_written_as_integers(client: ApplicationClient, form: str, text: str, value: float) -> None:
    body = f'{{"input": {form.format(text)}, "mode": "max", "kernel_size": 1}}'.encode()
    response = client.post("/pool/forward", **payloads.typed(JSON, body))
    assert payloads.results(response, ["output"])["output"].reshape(-1).tolist() == [value]


@pytest.mark.parametrize("accept", [NPY, NPZ, SAFETENSORS])
@pytest.mark.parametrize("values", [[np.nan, -np.inf], [np.inf, -0.0], [5e-324, 1.7976931348623157e308]])
def test_the_binary_forms_carry_every_float(client: ApplicationClient, accept: str, values: list[float]) -> None:
    array = np.array(values).reshape(1, 2, 1)
    options = payloads.npy_request({"input": array}, {"mode": "max", "kernel_size": 1})
    options["headers"]["Accept"] = accept
    assert_identical(payloads.results(client.post("/pool/forward", **options), ["output"]), {"output": array})


def test_base64_carries_every_float(client: ApplicationClient) -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0]).reshape(1, 4, 1)
    response = client.post(
        "/pool/forward", **payloads.base64_request({"input": array}, {"mode": "max", "kernel_size": 1})
    )
    assert_identical(payloads.results(response, ["output"]), {"output": array})


@pytest.mark.parametrize(("dtype", "value"), [("float64", np.nan), ("float32", np.inf), ("float16", -np.inf)])
def test_a_result_that_is_not_finite_is_refused_in_json(client: ApplicationClient, dtype: str, value: float) -> None:
    array = np.full((1, 2, 1), value, dtype)
    options = payloads.npy_request({"input": array}, {"mode": "max", "kernel_size": 1})
    options["headers"]["Accept"] = JSON
    document = payloads.refused(client, "/pool/forward", 422, **options)
    assert "npy" in document["detail"]
    assert "base64" in document["detail"]


def test_an_overflow_in_the_computation_is_refused_in_json(client: ApplicationClient) -> None:
    operands = {"input": np.full((1, 2, 1), 1e308), "weight": np.full((2, 1, 1), 1e308)}
    document = payloads.refused(client, "/conv/forward", 422, **payloads.nested_request(operands, {}))
    assert "npy" in document["detail"]


@pytest.mark.parametrize(
    "text", ["0.1", "5e-324", "1.7976931348623157e308", "-0.0", "3.141592653589793238462643", "1E5"]
)
def test_a_number_in_json_is_read_and_written_exactly(client: ApplicationClient, text: str) -> None:
    body = f'{{"input": [[[{text}]]], "mode": "max", "kernel_size": 1}}'.encode()
    response = client.post("/pool/forward", **payloads.typed(JSON, body))
    (value,) = payloads.results(response, ["output"])["output"].reshape(-1).tolist()
    assert repr(value) == repr(float(text))


def test_the_answer_has_the_form_of_the_first_operand(client: ApplicationClient) -> None:
    call = CONV_BACKWARD
    forms = [payloads.json_flat, payloads.json_base64, payloads.json_nested, payloads.json_flat]
    body = {name: form(array) for (name, array), form in zip(call.operands.items(), forms, strict=True)}
    response = client.post(call.path, **payloads.json_body({**body, **call.parameters}))
    assert all("data" in tensor for tensor in response.json().values())
    assert_identical(payloads.results(response, call.results), computed(call, call.operands))


# -------------------------------------------------------------------------------------------------- npy, npz, multipart


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("descr", [">f2", ">f4", ">f8", "<f4", ">i4", ">u8", "|u1", "|i1"])
def test_npy_in_every_byte_order_and_layout(
    client: ApplicationClient, descr: str, order: str, version: tuple[int, int]
) -> None:
    array = np.arange(24).reshape(2, 4, 3, 1).astype(descr)
    stored = np.asfortranarray(array) if order == "F" else array
    options = payloads.typed(NPY, payloads.npy_bytes(stored, version), params={**POOL, "stride": "1"})
    response = client.post("/pool/forward", **options)
    assert response.status_code == 200, response.text
    native = array.astype(array.dtype.newbyteorder("="))
    assert_identical(
        {"output": payloads.npy_array(response.content)},
        {"output": MaxPool(kernel_size=2, stride=1).forward(native)},
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("descr", [">f4", "<f8", ">f8", ">i2"])
def test_answers_are_little_endian_and_in_c_order(client: ApplicationClient, descr: str, order: str) -> None:
    array = np.arange(24).reshape(2, 4, 3, 1).astype(descr, order="F" if order == "F" else "C")
    operands: Operands = {"grad_output": np.ones((2, 2, 1, 1), descr), "input": array}
    parameters = {"mode": "avg", "kernel_size": 2}
    forward = client.post("/pool/forward", **payloads.npy_request({"input": array}, parameters))
    options = payloads.npz_request(operands, parameters)
    options["headers"]["Accept"] = NPZ
    backward = client.post("/pool/backward", **options)
    for content in (forward.content, *payloads.npz_members(backward.content).values()):
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)
        _, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        assert not fortran_order
        assert dtype.str == ("<f4" if descr == ">f4" else "<f8")
        assert file.tell() % 64 == 0  # the data is aligned, as NumPy writes it


def test_base64_answers_are_little_endian_whatever_came(client: ApplicationClient) -> None:
    array = np.array([[[1.5], [2.5]]], ">f8")
    options = payloads.base64_request({"input": array.astype("<f8")}, {"mode": "max", "kernel_size": 1})
    tensor = client.post("/pool/forward", **options).json()["output"]
    assert tensor == payloads.json_base64(array)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_as_numpy_writes_it(client: ApplicationClient, compression: int) -> None:
    operands: dict[str, Any] = {"input": INPUT, "weight": WEIGHT}
    file = io.BytesIO()
    save = np.savez_compressed if compression == zipfile.ZIP_DEFLATED else np.savez
    save(file, **operands)
    options = payloads.typed(NPZ, file.getvalue(), params=payloads.as_texts(CONV.parameters))
    response = client.post("/conv/forward", **options)
    assert_identical(payloads.results(response, ["output"]), {"output": Conv(**CONV.parameters).forward(**operands)})


def test_an_npz_answer_opens_with_numpy(client: ApplicationClient) -> None:
    call = CONV_BACKWARD
    response = client.post(call.path, **payloads.npz_request(call.operands, call.parameters))
    with np.load(io.BytesIO(response.content)) as opened:
        assert_identical(dict(opened), computed(call, call.operands))


def test_a_zip_written_as_a_stream_is_read(client: ApplicationClient) -> None:
    """Writers that cannot seek put sizes and CRC behind the data (bit 3 of the flags)."""

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            self.content += data
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("input.npy", payloads.npy_bytes(INPUT))
    options = payloads.typed(NPZ, bytes(stream.content), params=POOL)
    response = client.post("/pool/forward", **options)
    assert_identical(payloads.results(response, ["output"]), {"output": MaxPool(kernel_size=2).forward(INPUT)})


def test_multipart_ignores_file_names_and_part_types(client: ApplicationClient) -> None:
    files = {
        "weight": ("../../etc/passwd", payloads.npy_bytes(WEIGHT), "image/png"),
        "input": ("x", payloads.npy_bytes(INPUT), "application/x-npy"),
    }
    response = client.post("/conv/forward", files=files, data=payloads.as_texts(CONV.parameters))
    assert_identical(payloads.results(response, ["output"]), {"output": Conv(**CONV.parameters).forward(INPUT, WEIGHT)})


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("wrt", [["input"], ["weight"], ["bias"], ["bias", "input"], ["input", "weight", "bias"]])
@pytest.mark.parametrize("encoder", encoders(CONV_BACKWARD))
def test_wrt_limits_the_gradients(client: ApplicationClient, encoder: str, wrt: list[str]) -> None:
    call = CONV_BACKWARD
    response = client.post(call.path, **payloads.ENCODERS[encoder](call.operands, {**call.parameters, "wrt": wrt}))
    wanted = [name for name in GRADIENTS if name.removeprefix("grad_") in wrt]
    everything = computed(call, call.operands)
    assert_identical(payloads.results(response, wanted), {name: everything[name] for name in wanted})
    if encoder not in {"nested", "flat", "base64"}:
        assert payloads.media_type(response) == binary_form(encoder, len(wrt))


@pytest.mark.parametrize("bias_shape", [None, (6,), (1, 1, 1, 6)])
@pytest.mark.parametrize("encoder", ["nested", "flat", "base64", "npz", "safetensors", "multipart"])
def test_grad_bias_has_the_shape_of_the_bias(
    client: ApplicationClient, encoder: str, bias_shape: tuple[int, ...] | None
) -> None:
    operands = dict(CONV_BACKWARD.operands)
    bias = operands.pop("bias")
    if bias_shape is not None:
        operands["bias"] = bias.reshape(bias_shape)
    response = client.post("/conv/backward", **payloads.ENCODERS[encoder](operands, CONV.parameters))
    answered = payloads.results(response, GRADIENTS)
    assert answered["grad_bias"].shape == (bias_shape or (6,))
    np.testing.assert_allclose(answered["grad_bias"].reshape(-1), operands["grad_output"].sum((0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("encoder", ["flat", "base64", "npz", "safetensors", "multipart"])
def test_an_empty_batch(client: ApplicationClient, encoder: str) -> None:
    operands = {"grad_output": np.zeros((0, 2, 3)), "input": np.zeros((0, 3, 2)), "weight": np.ones((2, 2, 3))}
    answered = payloads.results(client.post("/conv/backward", **payloads.ENCODERS[encoder](operands, {})), GRADIENTS)
    assert {name: array.shape for name, array in answered.items()} == {
        "grad_input": (0, 3, 2),
        "grad_weight": (2, 2, 3),
        "grad_bias": (3,),
    }
    assert not answered["grad_weight"].any()
