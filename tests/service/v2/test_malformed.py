"""Whatever comes, the answer is a result or an error in words: never a 500, and never the client's bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import ApplicationClient
from tests.service.calls import CALLS_BY_NAME
from tests.service.payloads import Options, little_memory
from tests.service.v2.messages import LENGTH, error, refused, request

CONV = CALLS_BY_NAME["conv_forward"]
PATH = "/v2/models/conv_forward/infer"
INPUT = np.arange(12, dtype="float32").reshape(1, 4, 3, 1)
WEIGHT = np.ones((2, 2, 1, 2), "float32")
OPERANDS = {"input": INPUT, "weight": WEIGHT}
MARKER = "marker of the client, too long to be echoed as a value"
fuzz_settings = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def changed(**members: Any) -> Options:
    """A valid request in JSON with other members."""
    content = json.loads(request(OPERANDS, {}, id="1")["content"])
    return {"json": {**content, **members}}


def with_input(**members: Any) -> Options:
    """A valid request in JSON with other members of its first input; None leaves one out."""
    content = json.loads(request(OPERANDS, {})["content"])
    tensor = {**content["inputs"][0], **members}
    content["inputs"][0] = {name: value for name, value in tensor.items() if value is not None}
    return {"json": content}


BINARY = {"binary_data_size": INPUT.nbytes}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (changed(inputs={}), "/inputs has the wrong type; got an object, expected a list"),
        (changed(inputs=[3]), "/inputs/0 has the wrong type; got an integer, expected an object"),
        (changed(inputs=[{}]), "/inputs/0 has no name"),
        (changed(outputs=[{"name": "output"}] * 65), "/outputs is too long"),
        (changed(inputs=[]), "the operand input is missing"),
        (changed(id=5), "/id has the wrong type; got an integer, expected a string or null"),
        (changed(parameters=[]), "/parameters has the wrong type; got a list, expected an object or null"),
        (with_input(parameters=[]), "/input/parameters has the wrong type; got a list, expected an object or null"),
        (changed(parameters={"stride": 0}), "/stride: stride must be"),
        (changed(parameters={"stride": {"a": 1}}), "/stride: stride must be"),
        (changed(parameters={"stride": "[" * 5000}), "too long"),
        (changed(parameters={"strides": 2}), "did you mean stride?"),
        (changed(parameters={"input": 2}), "input is an operand"),
        (changed(parameters={"binary_data_output": 1}), "binary_data_output is not a boolean"),
        (changed(outputs={}), "/outputs has the wrong type"),
        (changed(outputs=[{"name": "output", "data": []}]), "expected name, parameters"),
        (changed(outputs=[{"name": "output", "parameters": {"binary_data": "yes"}}]), "binary_data is not a boolean"),
        (changed(outputs=[{"name": "output", "parameters": {"classification": 3}}]), "got classification"),
        (changed(outputs=[{"name": "output", "parameters": {"shared_memory_region": "a"}}]), "shared memory"),
        (changed(stride=2), "parameters of the operation go in the request's parameters"),
        ({"json": []}, "the request has the wrong type; got a list, expected an object"),
        ({"json": {}}, "the request has no inputs"),
        ({"content": b""}, "it is empty"),
        ({"content": b"\xff\xfe{"}, "UTF-16"),
        ({"content": b'{"inputs": [}'}, "line 1, column 13"),
        ({"content": b'{"model_name": ' + b"[" * 100_000}, "nested too deeply"),
        ({"content": b'{"inputs": [{"data": ' + b"[" * 100_000}, "nested too deeply"),
        ({"content": b'{"inputs": [], "parameters": {"a": ' + b"[" * 100_000}, "nested too deeply"),
        ({"content": b'{"inputs": [], "parameters": {"stride": ' + b"9" * 5000 + b"}}"}, "beyond the range of float64"),
        ({"content": b'{"inputs": [], "id": "\\ud800"}'}, "surrogate"),
        ({"content": b'{"inputs": [' + b'{"name":"a"},' * 10_000 + b"{}]}"}, "too many objects or strings"),
        ({"content": b'{"inputs": [], "parameters": {"a": [' + b"[]," * 2_000_001 + b"[]]}}"}, "too long"),
        (with_input(name="inputs"), "expected input, weight and bias"),
        (with_input(name="weight"), "weight is given more than once"),
        (with_input(shape=None), "/inputs/0 has no shape"),
        (with_input(shape=[1, 4, 3]), "the batch axis of input is missing"),
        (with_input(shape=[1, 4, 3, -1]), "/inputs/0/shape/3 is negative"),
        (with_input(shape=[1, 4, 3, 1.0]), "/inputs/0/shape/3 has the wrong type; got a number with a point"),
        (with_input(shape=[1, 4, 3, True]), "got true or false, expected an integer"),
        (with_input(shape=[1] * 9), "/inputs/0/shape is too long"),
        (with_input(shape=[1, 4, 3, 10**30]), "a shape that no tensor can have"),
        (with_input(shape=[2**31 - 1] * 4), "a shape that no tensor can have"),
        (with_input(shape=[1, 4, 3, 2]), "expected 24 numbers"),
        (with_input(datatype="FP8"), "expected one of INT8"),
        (with_input(datatype="fp32"), "expected one of INT8"),
        (with_input(datatype="BOOL"), "got BOOL"),
        (with_input(datatype="BYTES"), "got BYTES"),
        (with_input(datatype="BF16"), "no form in JSON"),
        (with_input(datatype="INT8"), "/input"),
        (with_input(data=None), "got neither"),
        (with_input(data={"a": 1}), "got an object, expected a list of numbers"),
        (with_input(data="abc"), "/input: "),
        (with_input(data=[1] * 11), "got 11 numbers, expected 12 numbers"),
        (with_input(data=[[1] * 11]), "got 11 numbers, expected 12 numbers"),
        (with_input(data=5), "got a number, expected a list of numbers"),
        (with_input(data=[*([1] * 11), "1"]), "/input/11: "),
        (with_input(data=[*([1] * 11), None]), "/input/11: "),
        (with_input(data=[*([1] * 11), 1e300]), "/input/11: "),
        (with_input(data=[*([1] * 11), [1]]), "/input"),
        (with_input(parameters=BINARY), "got both"),
        (with_input(parameters=BINARY, data=None), "binary_data_size of the inputs add up to"),
        (with_input(parameters={"shared_memory_region": "a"}), "shared memory"),
        (with_input(parameters={"stride": 2}), "go in the request's parameters"),
        (with_input(parameters={"binary_data_size": "48"}, data=None), "binary_data_size is not a size"),
        (with_input(parameters={"binary_data_size": True}, data=None), "binary_data_size is not a size"),
        (with_input(parameters={"binary_data_size": -1}, data=None), "binary_data_size is not a size"),
    ],
)
def test_malformed_json(client: ApplicationClient, options: Options, words: str) -> None:
    assert words in refused(client, PATH, 400, 413, **options)


def test_every_fault_of_the_tensors_is_named_at_once(client: ApplicationClient) -> None:
    content = json.loads(request(OPERANDS, {})["content"])
    content["inputs"][0]["datatype"] = "BOOL"
    content["inputs"][1]["data"] = ["a"]
    text = refused(client, PATH, 400, json=content)
    assert "/input: " in text
    assert "/weight/0: " in text


def binary(padding: int = 0) -> tuple[bytes, int]:
    """A valid binary request, and the length of its JSON."""
    options = request(OPERANDS, {}, binary=True, padding=padding)
    return options["content"], int(options["headers"][LENGTH])


def sent(content: bytes, length: object) -> Options:
    return {"content": content, "headers": {LENGTH: str(length)}}


def sizes(first: object, second: object) -> bytes:
    """A binary request whose inputs say that they have other sizes."""
    content, length = binary()
    described = json.loads(content[:length])
    for tensor, size in zip(described["inputs"], (first, second), strict=True):
        tensor["parameters"]["binary_data_size"] = size
    return json.dumps(described).encode()


DATA = INPUT.tobytes() + WEIGHT.tobytes()


@pytest.mark.parametrize("length", ["0", " 0"])
def test_raw_mode_is_refused_in_words(client: ApplicationClient, length: str) -> None:
    assert "raw binary data without JSON" in refused(client, PATH, 400, **sent(INPUT.tobytes(), length))


@pytest.mark.parametrize("length", ["", "-1", "1.5", "abc", "1e3", "99999", "9" * 30, "\xb2", "12, 12"])
def test_a_header_that_is_no_length(client: ApplicationClient, length: str) -> None:
    content, _ = binary()
    text = refused(client, PATH, 400, content=content, headers=[(LENGTH.encode(), length.encode("latin-1"))])
    assert LENGTH in text


@pytest.mark.parametrize("off_by", [-1, 1, -60, 8])
def test_a_header_of_another_length(client: ApplicationClient, off_by: int) -> None:
    content, length = binary()
    refused(client, PATH, 400, **sent(content, length + off_by))


@pytest.mark.parametrize("without_header", [True, False])
def test_bytes_without_a_header(client: ApplicationClient, *, without_header: bool) -> None:
    content, length = binary()
    options = {"content": content if without_header else content[:length]}
    assert refused(client, PATH, 400, **options)


@pytest.mark.parametrize("cut", [1, 4, len(DATA)])
def test_a_body_that_is_too_short(client: ApplicationClient, cut: int) -> None:
    content, length = binary()
    text = refused(client, PATH, 400, **sent(content[:-cut], length))
    assert f"got {len(DATA) - cut} bytes, expected {len(DATA)} bytes" in text


def test_a_body_that_is_too_long(client: ApplicationClient) -> None:
    content, length = binary()
    text = refused(client, PATH, 400, **sent(content + b"\0", length))
    assert f"got {len(DATA) + 1} bytes, expected {len(DATA)} bytes" in text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (WEIGHT.nbytes, INPUT.nbytes),  # the sum is right
        (0, len(DATA)),
        (len(DATA), 0),
        (INPUT.nbytes - 1, WEIGHT.nbytes + 1),
        (2**62, WEIGHT.nbytes),
        (10**40, 1),
        (INPUT.nbytes, WEIGHT.nbytes + 4),
    ],
)
def test_sizes_that_lie(client: ApplicationClient, first: int, second: int) -> None:
    text = sizes(first, second)
    assert "binary_data_size" in refused(client, PATH, 400, **sent(text + DATA, len(text)))


def test_a_small_body_takes_little_memory(client: ApplicationClient) -> None:
    with little_memory():
        refused(client, PATH, 400, **with_input(shape=[2**20, 2**20, 1, 1], data=None, parameters=BINARY))
        refused(client, PATH, 400, **with_input(shape=[2**30, 4, 1, 1]))
        refused(client, PATH, 400, **with_input(shape=[2**31 - 1, 2**31 - 1, 0, 1], data=[]))


@pytest.mark.parametrize(
    "options",
    [
        changed(**{MARKER: 1}),
        changed(parameters={MARKER: 1}),
        changed(parameters={"data_format": MARKER}),
        changed(outputs=[{"name": MARKER}]),
        changed(outputs=[{"name": "output", "parameters": {MARKER: 1}}]),
        with_input(name=MARKER),
        with_input(datatype=MARKER),
        with_input(data=[MARKER]),
        with_input(parameters={MARKER: 1}),
        with_input(**{MARKER: 1}),
        sent(MARKER.encode(), MARKER),
        {"content": MARKER.encode()},
        {"json": {"inputs": [], "parameters": {}}, "params": {MARKER: "1"}},
    ],
)
def test_no_error_repeats_what_came(client: ApplicationClient, options: Options) -> None:
    assert MARKER not in refused(client, PATH, 400, **options)


# ------------------------------------------------------------------------------------------------------------- property

numbers = st.integers(-(2**70), 2**70) | st.integers(-3, 5) | st.floats() | st.sampled_from([2**31 - 1, 2**31, 10**9])
words = st.sampled_from(["input", "weight", "bias", "output", "FP32", "FP64", "BF16", "BYTES", "same", "[2,1]", ""])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=12) | words
names = st.sampled_from(
    [
        *["inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data", "stride", "padding", "wrt"],
        *["binary_data", "binary_data_size", "binary_data_output", "shared_memory_region", "headers", "model_name"],
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def with_one_value_changed(draw: st.DrawFn, document: Any) -> Any:
    """The JSON document with a random value, or a random member, somewhere in it."""
    if isinstance(document, dict) and document and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(document)) | names)
        return {**document, name: draw(with_one_value_changed(document.get(name)))}
    if isinstance(document, list) and document and draw(st.integers(0, 3)):
        position = draw(st.integers(0, len(document) - 1))
        return [*document[:position], draw(with_one_value_changed(document[position])), *document[position + 1 :]]
    return draw(values)


def assert_sound(client: ApplicationClient, **options: Any) -> None:
    response = client.post(PATH, **options)
    if response.status_code != 200:
        error(response, 400, 413)


def described(*, binary: bool) -> dict[str, Any]:
    """The JSON of a request with outputs and parameters."""
    options = request(
        OPERANDS,
        {"stride": "[1,2]", "binary_data_output": True},
        binary=binary,
        id="a",
        outputs=[{"name": "output", "parameters": {"binary_data": False}}],
    )
    length = int(options["headers"].get(LENGTH, len(options["content"])))
    content: dict[str, Any] = json.loads(options["content"][:length])
    return content


@fuzz_settings
@given(with_one_value_changed(described(binary=False)) | values)
def test_any_json(client: ApplicationClient, document: Any) -> None:
    assert_sound(client, content=json.dumps(document).encode())


@fuzz_settings
@given(with_one_value_changed(described(binary=True)), st.integers(-3, 3) | st.just(0))
def test_any_json_before_binary_data(client: ApplicationClient, document: Any, off_by: int) -> None:
    text = json.dumps(document).encode()
    assert_sound(client, **sent(text + DATA, len(text) + off_by))


@fuzz_settings
@given(st.data())
def test_mutated_bytes(client: ApplicationClient, data: st.DataObject) -> None:
    content, length = binary()
    body = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 20)))
        body[start:end] = data.draw(st.binary(max_size=8) | st.just(bytes(body[start:end]) * 2))
    assert_sound(client, **sent(bytes(body), length))
