"""Hostile JSON, and tiny requests of a huge cost: refused at once, by a small answer that points at the place."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import JSON, MARKER, attacked, json_body

NAME = MARKER.decode()
POOL: dict[str, Any] = {"mode": "max", "kernel_size": 1}
TENSOR = '{"mode": "max", "kernel_size": 1, "input": VALUE}'
PLACES = {
    "operand": TENSOR,
    "element": '{"mode": "max", "kernel_size": 1, "input": [[[1.0], [VALUE]]]}',
    "parameter": '{"mode": "max", "kernel_size": VALUE, "input": [[[1.0], [2.0]]]}',
    "listed": '{"mode": "max", "kernel_size": 1, "padding": [VALUE], "input": [[[1.0], [2.0]]]}',
    "unknown": '{"mode": "max", "kernel_size": 1, "more": VALUE, "input": [[[1.0], [2.0]]]}',
    "whole": "VALUE",
    "data": TENSOR.replace("VALUE", '{"dtype": "float64", "shape": [1, 1, 1], "data": VALUE}'),
    "flat_element": TENSOR.replace("VALUE", '{"dtype": "float64", "shape": [1, 1, 1], "data": [VALUE]}'),
    "shape": '{"mode": "max", "kernel_size": 1, "input": {"dtype": "float64", "shape": VALUE, "data": [1.0]}}',
    "size": '{"mode": "max", "kernel_size": 1, "input": {"dtype": "float64", "shape": [1, VALUE, 1], "data": [1.0]}}',
    "dtype": '{"mode": "max", "kernel_size": 1, "input": {"dtype": VALUE, "shape": [1, 1, 1], "data": [1.0]}}',
    "base64": '{"mode": "max", "kernel_size": 1, "input": {"dtype": "float64", "shape": [1, 1, 1], "base64": VALUE}}',
    "common_dtype": '{"mode": "max", "kernel_size": 1, "dtype": VALUE, "input": [[[1.0], [2.0]]]}',
}
each_place = pytest.mark.parametrize("place", list(PLACES))


def body(text: str | bytes) -> dict[str, Any]:
    return payloads.typed(JSON, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def placed(place: str, value: str) -> dict[str, Any]:
    return body(PLACES[place].replace("VALUE", value))


# ------------------------------------------------------------------------------------------------------------- the text


@pytest.mark.one_in(5)
@pytest.mark.parametrize("depth", [100, 1000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ("[", ""), ('{"a":', "")])
@each_place
def test_deep_nesting(client: ApplicationClient, place: str, opening: str, closing: str, depth: int) -> None:
    attacked(client, "/pool/forward", 400, 422, **placed(place, opening * depth + "1" + closing * depth))


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "number",
    [
        *["9" * 5000, "-" + "9" * 5000, "1e999", "-1e999", "1" + "0" * 400, "1e9999999999", "9" * 400 + ".0"],
        *[
            "NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "inf",
            "0x10",
            "01",
            "1.",
            ".5",
            "+1",
            "1_000",
            "- 1",
            "1e",
            "--1",
            "1f",
        ],
    ],
    ids=lambda number: number[:12],
)
@each_place
def test_numbers_that_json_or_float64_has_not(client: ApplicationClient, place: str, number: str) -> None:
    attacked(client, "/pool/forward", 400, 422, **placed(place, number))


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            " ",
            "\n",
            "{",
            "}",
            "[",
            '"',
            '{"',
            '{"input"',
            '{"input":',
            "{,}",
            "{}{}",
            "{} x",
            "nul",
            "null",
            "true",
            "1",
        ],
        *["[]", "[{}]", f'"{NAME}"', NAME, "{'mode': 'max'}", '{"mode": "max",}'],
        *[
            '{"mode": "max" "kernel_size": 1}',
            '{mode: "max"}',
            '{"mode": "max"} // comment',
            "/* comment */ {}",
            '{"mode": "\n"}',
            '{"mode": "\\x41"}',
            "{1: 2}",
        ],
        *['{"mode": "max", "kernel_size": 1, "input": [[[1.0]]]', '{"mode": undefined}', '{"mode": "max"}\x00'],
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_text_that_is_no_object(client: ApplicationClient, text: str) -> None:
    attacked(client, "/pool/forward", 400, 422, **body(text))


GOOD = json.dumps({**POOL, "input": [[[1.0], [2.0]]]})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_other_encodings_are_refused_or_understood(client: ApplicationClient, encoding: str) -> None:
    response = client.post("/pool/forward", **body(GOOD.encode(encoding)))
    if response.status_code != 200:
        payloads.problem(response, 400)


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe\xff"])
@pytest.mark.parametrize("where", ["key", "value", "operand", "outside"])
def test_invalid_utf_8(client: ApplicationClient, where: str, broken: bytes) -> None:
    text = {
        "key": GOOD.encode().replace(b'"mode"', b'"mo' + broken + b'"'),
        "value": GOOD.encode().replace(b'"max"', b'"ma' + broken + b'"'),
        "operand": GOOD.encode().replace(b"2.0", b'"' + broken + b'"'),
        "outside": GOOD.encode() + broken,
    }[where]
    attacked(client, "/pool/forward", 400, **body(text))


@pytest.mark.parametrize(
    "character", ["\\ud800", "\\udfff", "\\udc00\\ud800", "\\u0000", "\\u202e", "\\uffff", "🦆", "\\n"]
)
@pytest.mark.parametrize("place", ["parameter", "unknown", "element", "dtype", "base64", "common_dtype", "shape"])
def test_lone_surrogates_and_control_characters(client: ApplicationClient, place: str, character: str) -> None:
    attacked(client, "/pool/forward", 400, 422, **placed(place, f'"{character}"'))
    keyed = GOOD.replace('"mode"', f'"{character}": 1, "mode"')
    attacked(client, "/pool/forward", 400, 422, **body(keyed))


@pytest.mark.parametrize(
    "name", ["a/b", "a~b", "~1", "/", "", " ", "\x7f", "é", "x" * 200, "x" * 1_000_000, NAME, "\\"]
)
def test_odd_names_of_parameters(client: ApplicationClient, name: str) -> None:
    attacked(client, "/pool/forward", 422, **json_body({**POOL, "input": [[[1.0]]], name: 1}))


@pytest.mark.parametrize("template", ["{}", "kernel_size{}", "marker of the client {}", "{}" + "x" * 300])
def test_10_000_unknown_parameters(client: ApplicationClient, template: str) -> None:
    names = {template.format(number): number for number in range(10_000)}
    attacked(client, "/pool/forward", 400, 413, 422, **json_body({**names, **POOL, "input": [[[1.0]]]}))


def test_10_000_parameters_in_the_query_string(client: ApplicationClient) -> None:
    query = "&".join(f"p{number}=1" for number in range(8000))
    attacked(client, f"/pool/forward?{query}", 400, 413, 414, 422, **body(GOOD))


def test_100_000_keys_that_are_the_same(client: ApplicationClient) -> None:
    text = "{" + '"mode": "max", ' * 100_000 + '"kernel_size": 0}'
    attacked(client, "/pool/forward", 400, 422, **body(text))


# -------------------------------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize(
    ("tensor", "pointer"),
    [
        ([[[1.0], [None]]], "/input/0/1/0"),
        ([[[1.0], [True]]], "/input/0/1/0"),
        ([[[False], [1]]], "/input/0/0/0"),
        ([[[1.0], ["2"]]], "/input/0/1/0"),
        ([[[1.0], [NAME]]], "/input/0/1/0"),
        ([[[1.0], [{}]]], "/input/0/1/0"),
        ([[[1.0], [[2.0]]]], "/input/0"),  # either of the two could be the odd one
        ([[[[1.0]], [2.0]]], "/input/0/1/0"),
        ([[[1.0], 2.0]], "/input/0/1"),
        ([[[1.0], [2.0, 3.0]]], "/input/0/1"),
        ([[[1.0], []]], "/input/0/1"),
        ([[[1.0], [2.0]], [[3.0]]], "/input/1"),
        ([[[1.0], [2.0]], None], "/input/1"),
        ([[[1.0], [2.0]], {NAME: 1}], "/input/1"),
        ([[[1.0, 2.0]] * 500 + [[1.0]]], "/input/0/500"),
        ([[[1]], [[1.5]], [["x"]]], "/input/2/0/0"),
        (None, "/input"),
        (True, "/input"),
        (1.0, "/input"),
        (NAME, "/input"),
        ({}, "/input"),
        ({NAME: NAME}, "/input"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_tensor_is_pointed_at(client: ApplicationClient, tensor: Any, pointer: str) -> None:
    document = attacked(client, "/pool/forward", 422, **json_body({**POOL, "input": tensor}))
    assert any(each == pointer or each.startswith(f"{pointer}/") for each in payloads.pointers(document)), document


@pytest.mark.parametrize("tensor", [[], [[]], [[[]]], [[[], []]], [1.0], [[1.0]], [[[[[[1.0]]]]]], [[[[[[[[1.0]]]]]]]]])
@pytest.mark.parametrize("form", [payloads.json_nested, payloads.json_flat, payloads.json_base64])
def test_a_tensor_of_another_rank_or_without_elements(
    client: ApplicationClient, form: Callable[[payloads.AnyArray], Any], tensor: Any
) -> None:
    document = attacked(client, "/pool/forward", 422, **json_body({**POOL, "input": form(np.array(tensor, float))}))
    assert payloads.pointers(document)[0].startswith("/input")


def test_a_tensor_of_a_million_axes(client: ApplicationClient) -> None:
    for size in (65, 1_000_000):
        tensor = {"dtype": "float64", "shape": [1] * size, "data": [1.0]}
        attacked(client, "/pool/forward", 400, 413, 422, **json_body({**POOL, "input": tensor}))


FLAT: dict[str, Any] = {"dtype": "float64", "shape": [1, 2, 1], "data": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"shape": [1, 3, 1]}, ""),
        ({"shape": [1, 1, 1]}, ""),
        ({"shape": [10**12, 1, 1]}, ""),
        ({"shape": [2**31, 2**31, 2**31]}, ""),
        ({"shape": [2**63, 2, 1]}, ""),
        ({"shape": [0, 10**12, 1]}, ""),
        ({"shape": [-1, -2, 1]}, "/shape"),
        ({"shape": [-1, 2, 1]}, "/shape"),
        ({"shape": [1.0, 2, 1]}, "/shape"),
        ({"shape": [True, 2, 1]}, "/shape"),
        ({"shape": ["1", 2, 1]}, "/shape"),
        ({"shape": [None, 2, 1]}, "/shape"),
        ({"shape": [[1, 2, 1]]}, "/shape"),
        ({"shape": 2}, "/shape"),
        ({"shape": {}}, "/shape"),
        ({"shape": NAME}, "/shape"),
        ({"data": [[1.0, 2.0]]}, "/data"),
        ({"data": [[1.0], [2.0]]}, "/data"),
        ({"data": [1.0, "2"]}, "/data/1"),
        ({"data": [1.0, None]}, "/data/1"),
        ({"data": [True, 1.0]}, "/data/0"),
        ({"data": 1.0}, "/data"),
        ({"data": NAME}, "/data"),
        ({"data": {NAME: 1}}, "/data"),
        ({"base64": ""}, ""),
        ({"more": 1}, ""),
        ({NAME: 1}, ""),
        ({"dtype": NAME}, "/dtype"),
        ({"dtype": "complex128"}, "/dtype"),
        ({"dtype": "object"}, "/dtype"),
        ({"dtype": ">f8"}, "/dtype"),
        ({"dtype": None}, "/dtype"),
        ({"dtype": ["float64"]}, "/dtype"),
        ({"dtype": "uint8", "data": [1, 256]}, "/data/1"),
        ({"dtype": "uint8", "data": [-1, 2]}, "/data/0"),
        ({"dtype": "int8", "data": [1, 128]}, "/data/1"),
        ({"dtype": "int32", "data": [1.5, 2]}, "/data/0"),
        ({"dtype": "int64", "data": [1, 2**63]}, "/data/1"),
        ({"dtype": "float32", "data": [1.0, 1e39]}, "/data/1"),
        ({"dtype": "float16", "data": [65520.0, 1.0]}, "/data/0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_flat_tensors_that_contradict_themselves(client: ApplicationClient, change: Any, pointer: str) -> None:
    with payloads.little_memory():
        document = attacked(client, "/pool/forward", 422, **json_body({**POOL, "input": {**FLAT, **change}}))
    assert all(each.startswith(f"/input{pointer}") for each in payloads.pointers(document)), document


@pytest.mark.parametrize("missing", ["dtype", "shape", "data"])
def test_flat_tensors_that_miss_a_part(client: ApplicationClient, missing: str) -> None:
    tensor = {name: value for name, value in FLAT.items() if name != missing}
    document = attacked(client, "/pool/forward", 422, **json_body({**POOL, "input": tensor}))
    assert payloads.pointers(document)[0].startswith("/input")


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e39), ("float16", 65520.0), ("float16", -1e5)])
def test_a_nested_number_beyond_its_dtype(client: ApplicationClient, dtype: str, value: float) -> None:
    tensor = {**POOL, "dtype": dtype, "input": [[[1.0], [value]]]}
    assert payloads.pointers(attacked(client, "/pool/forward", 422, **json_body(tensor))) == ["/input/0/1/0"]


# --------------------------------------------------------------------------------------------------------------- base64

ENCODED = base64.b64encode(np.array([1.5, -2.5]).tobytes()).decode()  # 24 characters, of which the last two are ==


@pytest.mark.parametrize(
    "text",
    [
        *["", "=", "====", ENCODED[:-1], ENCODED[:-4], ENCODED[:-2], ENCODED + "=", ENCODED + "AAAA", ENCODED * 2],
        *[
            " " + ENCODED,
            ENCODED + "\n",
            ENCODED[:8] + "\r\n" + ENCODED[8:],
            ENCODED[:8] + " " + ENCODED[8:],
            ENCODED[::-1],
        ],
        *["-" + ENCODED[1:], "_" + ENCODED[1:], "*" + ENCODED[1:], "é" + ENCODED[1:], "\x00" + ENCODED[1:]],
        *["A=" + ENCODED[2:], "==" + ENCODED[2:], NAME, "data:;base64," + ENCODED, "A" * 23, "A" * 1_000_000],
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_base64_is_strict(client: ApplicationClient, text: str) -> None:
    tensor = {"dtype": "float64", "shape": [1, 2, 1], "base64": text}
    document = attacked(client, "/pool/forward", 400, 422, **json_body({**POOL, "input": tensor}))
    assert payloads.pointers(document)[0].startswith("/input")


@pytest.mark.parametrize("value", [None, 1, [], {}, [ENCODED], True])
def test_base64_is_a_string(client: ApplicationClient, value: Any) -> None:
    tensor = {"dtype": "float64", "shape": [1, 2, 1], "base64": value}
    assert attacked(client, "/pool/forward", 422, **json_body({**POOL, "input": tensor}))


@pytest.mark.parametrize("shape", [[1, 10**12, 1], [2**40, 2**40, 2**40], [1, 3, 1], [0, 1, 1], [-2, -1, 1]])
def test_base64_of_another_length_than_its_shape(client: ApplicationClient, shape: list[int]) -> None:
    tensor = {"dtype": "float64", "shape": shape, "base64": ENCODED}
    with payloads.little_memory():
        attacked(client, "/pool/forward", 400, 413, 422, **json_body({**POOL, "input": tensor}))
