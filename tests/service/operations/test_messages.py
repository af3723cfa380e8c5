"""Errors name the name that is wrong, and say what was needed in its place."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import healthcheck
from service.codecs.json import load_object
from service.problems import UnreadablePayload
from tests.clients import ApplicationClient, free_port
from tests.service import payloads
from tests.strategies import quick_settings

IMAGE = [[[[1], [2]], [[3], [4]]]]
JSON = {"Content-Type": "application/json"}


def errors(client: ApplicationClient, path: str, **options: Any) -> dict[str, dict[str, str]]:
    answer = client.post(path, **options)
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("path", "slip", "meant"),
    [
        ("/pool/forward", "mod", "mode"),
        ("/pool/forward", "kernelsize", "kernel_size"),
        ("/conv/forward", "weights", "weight"),
        ("/conv/backward", "grad_outputs", "grad_output"),
        ("/conv/shape", "shape", "shapes"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(client: ApplicationClient, path: str, slip: str, meant: str) -> None:
    found = errors(client, path, json={slip: 1})
    assert f"did you mean {meant}?" in found[f"/{slip}"]["message"]


def test_a_member_that_stands_twice_is_refused(client: ApplicationClient) -> None:
    body = '{"mode": "max", "kernel_size": 1, "kernel_size" : 2, "input": [[[[1], [2]], [[3], [4]]]]}'
    assert list(errors(client, "/pool/forward", content=body, headers=JSON)) == ["/kernel_size"]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/pool/forward", '{"dtype":"float32","dtype":"int8","mode":"avg","kernel_size":1,"input":[[[1]]]}', "/dtype"),
        ("/pool/forward", r'{"m\u006fde":"avg","mode":"max","kernel_size":1,"input":[[[1]]]}', "/mode"),
        (
            "/pool/forward",
            '{"mode":"max","kernel_size":1,"input":{"dtype":"float64","shape":[1,1,1],"data":[1],"data":[2]}}',
            "",
        ),
        ("/pool/shape", '{"mode":"max","kernel_size":1,"shapes":{"input":[1,4,1],"input":[1,8,1]}}', ""),
        ("/pool/shape", '{"mode":"max","kernel_size":1,"shapes":{"input":[1,4,1]},"shapes":{}}', "/shapes"),
    ],
)
def test_a_member_that_stands_twice_is_refused_wherever_it_stands(
    client: ApplicationClient, path: str, body: str, pointer: str
) -> None:
    found = errors(client, path, content=body, headers=JSON)
    assert pointer in found
    assert "more than once" in found[pointer]["message"]


def test_a_file_of_a_form_under_a_wrong_name_is_named(client: ApplicationClient) -> None:
    array = payloads.npy_bytes(np.ones((1, 2, 1)))
    found = errors(client, "/conv/forward", files={"input": array, "wieght": array})
    assert "did you mean weight?" in found["/wieght"]["message"]
    assert "/weight" in found


def test_a_file_and_a_field_of_one_name_are_two_values(client: ApplicationClient) -> None:
    array = payloads.npy_bytes(np.ones((1, 2, 1)))
    form = {"files": {"input": array, "kernel_size": array}, "data": {"mode": "max", "kernel_size": "1"}}
    found = errors(client, "/pool/forward", **form)
    assert found["/kernel_size"]["got"] == "a list of 2 values"


def test_a_member_of_an_npz_that_is_no_operand_is_named(client: ApplicationClient) -> None:
    body = payloads.npz_bytes({"input": np.ones((1, 2, 1)), "stride": np.array(2)})
    found = errors(client, "/pool/forward", **payloads.typed(payloads.NPZ, body))
    assert "member stride" in found["/stride"]["message"]
    assert "query string" in found["/stride"]["message"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("input", "does not end in .npy"), ("a/input.npy", "in a directory"), ("./input.npy", "in a directory")],
)
def test_a_member_under_almost_the_right_name_says_what_is_wrong(
    client: ApplicationClient, name: str, said: str
) -> None:
    body = payloads.zip_bytes([(name, payloads.npy_bytes(np.ones((1, 2, 1))))])
    message = client.post("/pool/forward", **payloads.typed(payloads.NPZ, body)).json()["errors"][0]["message"]
    assert said in message
    assert "input.npy" in message


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_LZMA, "LZMA"), (zipfile.ZIP_BZIP2, "BZIP2")])
def test_another_compression_is_named(client: ApplicationClient, method: int, name: str) -> None:
    body = payloads.npz_bytes({"input": np.ones((1, 2, 1))}, method)
    document = payloads.refused(client, "/pool/forward", 400, **payloads.typed(payloads.NPZ, body))
    assert name in document["detail"]
    assert "encrypt" not in document["detail"]


def test_an_unknown_version_of_npy_is_named_with_those_that_are_read(client: ApplicationClient) -> None:
    content = payloads.npy_bytes(np.ones((1, 2, 1)))
    body = content[:6] + b"\x04\x00" + content[8:]
    document = payloads.refused(client, "/pool/forward", 400, **payloads.typed(payloads.NPY, body))
    assert document["errors"][0]["got"] == "version 4.0"
    assert "1.0, 2.0 or 3.0" in document["detail"]
    assert "--data-binary" not in document["detail"]


@pytest.mark.parametrize(
    ("descr", "said"),
    [
        ("|b1", "booleans"),
        ("?", "booleans"),
        ("<c8", "complex"),
        ("f16", "another size"),
        ("U3", "text"),
        ("<M8[s]", "dates"),
        ([("ä", "<f4")], "structured"),
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (3, 0)])
def test_a_dtype_that_no_tensor_has_is_named(
    client: ApplicationClient, descr: Any, said: str, version: tuple[int, int]
) -> None:
    header = payloads.npy_header(descr).encode("utf-8" if version == (3, 0) else "latin-1")
    found = errors(
        client, "/pool/forward", **payloads.typed(payloads.NPY, payloads.npy_with_header(header, bytes(32), version))
    )
    assert said in found["/input"]["message"]


@pytest.mark.parametrize("removed", [b"\r\n\0", b"\r\n"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 3000, 1), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_file_that_curl_sent_as_text_is_to_be_sent_as_it_is(
    client: ApplicationClient, version: tuple[int, int], dtype: str, shape: tuple[int, ...], removed: bytes
) -> None:
    """curl -d @file removes line ends and, in newer versions, null bytes."""
    content = payloads.npy_bytes(np.random.default_rng(1).integers(0, 256, shape).astype(dtype), version)
    npy, npz = content.translate(None, removed), payloads.zip_bytes([("input.npy", content)]).translate(None, removed)
    form = payloads.multipart_parts([payloads.file_part("input", npy)])
    for content_type, body in (
        (payloads.NPY, npy),
        (payloads.NPZ, npz),
        (f"{payloads.MULTIPART}; boundary=limit", form),
    ):
        document = payloads.refused(client, "/pool/forward", 400, **payloads.typed(content_type, body))
        assert "--data-binary" in document["detail"], content_type


def test_a_form_for_a_shape_call_is_told_what_is_read(client: ApplicationClient) -> None:
    answer = client.post("/conv/shape", files={"input": b""})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]
    assert "one tensor" not in answer.json()["detail"]


def test_wrong_paths_and_methods_say_where_to_look(client: ApplicationClient) -> None:
    assert "/ops" in client.post("/convolution/forward").json()["detail"]
    assert "POST" in client.get("/conv/forward").json()["detail"]


def test_a_name_that_stands_in_the_query_and_in_the_body_is_not_repeated(client: ApplicationClient) -> None:
    name = "<b>not a name</b>"
    answer = client.post("/pool/forward", params={name: 1}, json={name: 1})
    payloads.problem(answer, 422, marker=b"<b>")


def test_more_values_than_any_request_has(client: ApplicationClient) -> None:
    payloads.problem(client.post("/pool/forward?" + "a&" * 20_000, json={}), 422)


def test_a_long_name_takes_no_memory_to_speak_of(client: ApplicationClient) -> None:
    with payloads.little_memory():
        for name in (b"c" * 1_000_000, rb"\n" * 500_000, rb"\u0063" * 170_000):
            for body in (b'{"' + name + b'":1}', b'{"mode":"' + name + b'"}'):
                payloads.problem(client.post("/pool/forward", content=body, headers=JSON), 422)


def test_names_within_values_do_not_count_as_standing_twice(client: ApplicationClient) -> None:
    tensor = {"dtype": "float64", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4]}
    weight = {**tensor, "shape": [2, 2, 1, 1]}
    gradient = {**tensor, "shape": [1, 1, 1, 1], "data": [1]}
    request = {
        "grad_output": gradient,
        "input": tensor,
        "weight": weight,
        "wrt": ["input", "weight"],
        "dtype": "float64",
    }
    assert client.post("/conv/backward", json=request).status_code == 200


def test_an_operand_in_the_query_string_is_sent_into_the_body(client: ApplicationClient) -> None:
    found = errors(client, "/pool/forward?input=1", json={"mode": "max", "kernel_size": 1})
    assert "body" in found["/input"]["message"]


def test_a_null_is_no_dtype(client: ApplicationClient) -> None:
    found = errors(client, "/pool/forward", json={"mode": "max", "kernel_size": 1, "input": IMAGE, "dtype": None})
    assert found["/dtype"]["got"] == "null"


def test_a_shape_call_says_what_a_shape_is(client: ApplicationClient) -> None:
    found = errors(
        client, "/conv/shape", json={"shapes": {"input": [1, 5, "2"], "bias": 4, "other": [1]}, "dtype": "f4"}
    )
    assert set(found) == {"/shapes/input", "/shapes/weight", "/shapes/bias", "/shapes/other", "/dtype"}
    assert found["/shapes/weight"]["got"] == "nothing"
    assert found["/shapes/bias"]["got"] == "4"
    assert found["/shapes/bias"]["expected"].startswith("a list of integers")


@pytest.mark.parametrize("filling", ["{}", '"a"'])
def test_floods_of_objects_and_strings_are_refused_unparsed(client: ApplicationClient, filling: str) -> None:
    body = '{"input": [' + ",".join([filling] * 100_000) + "]}"
    answer = client.post("/pool/forward", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "more objects or strings" in answer.json()["detail"]


def test_the_health_check_tells_a_running_server_from_none(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVPOOL_PORT", server_url.rsplit(":", 1)[1])
    assert healthcheck.main() == 0
    monkeypatch.setenv("CONVPOOL_PORT", str(free_port()))
    assert healthcheck.main() == 1


# --------------------------------------------------------------------------------------------------------- JSON syntax

NOT_FINITE = "no NaN and no Infinity"
NUMBER = "a number is not as JSON writes it"
DOUBLE_QUOTES = "in double quotes"
BREAKS_OFF = "breaks off"


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ('{"mode": "max", "input": [1, 2', 1, 31, BREAKS_OFF),
        ('{"mode": "ma', 1, 13, BREAKS_OFF),
        ('{\n"mode": tru', 2, 12, BREAKS_OFF),
        ('{"input": [1, 2,]}', 1, 16, "trailing comma"),
        ('{"input": [1, 2],\n}', 1, 17, "trailing comma"),
        ('{"input": [1 2]}', 1, 14, "expected ',' or ']'"),
        ('{"mode": "max" "kernel_size": 1}', 1, 16, "expected ',' or '}'"),
        ('{"mode" "max"}', 1, 9, "expected ':'"),
        ("{'mode': 'max'}", 1, 2, DOUBLE_QUOTES),
        ("{\u201cmode\u201d: 1}", 1, 2, DOUBLE_QUOTES),
        ('{"mode": "max",\n kernel_size: 1}', 2, 2, DOUBLE_QUOTES),
        ('{"return_indices": True}', 1, 20, "JSON writes true"),
        ('{"return_indices": FALSE}', 1, 20, "JSON writes true"),
        ('{"bias": None}', 1, 10, "null"),
        ('{"bias": undefined}', 1, 10, "null"),
        ('{"padding": (1, 2)}', 1, 13, "square brackets"),
        ('{"mode": "max"} // the mode', 1, 17, "no comments"),
        ('{"mode": "max"} {}', 1, 17, "after document"),
        ('{"mode": "max"}}', 1, 16, "after document"),
        ('{"input": [[1], [2]]]}', 1, 21, "expected ',' or '}'"),
        ('{"input": [1}', 1, 13, "expected ',' or ']'"),
        ('{"input": }', 1, 11, "expected a JSON value"),
        ('{"mode": "a\tb"}', 1, 12, "control character"),
        ('{"mode": "a\nb"}', 1, 12, "control character"),
        ('{"mode": "\\x41"}', 1, 11, "only the escapes"),
        ('{"mode": "\\ud800"}', 1, 11, "surrogate"),
        ('{"mode": "\\ud83d\\u0041"}', 1, 11, "surrogate"),
        ('{"input": NaN}', 1, 11, NOT_FINITE),
        ('{"input": [\n1,\n  Infinity]}', 3, 3, NOT_FINITE),
        ('{"input": -Infinity}', 1, 12, NOT_FINITE),
        ('{"input": [nan, inf]}', 1, 12, NOT_FINITE),
        ('{"input": 1e999}', 1, 11, "beyond the range of float64"),
        ('{"input": [0, -1e400]}', 1, 15, "beyond the range of float64"),
        ('{"input": 1' + 309 * "0" + "}", 1, 11, "beyond the range of float64"),
        *((f'{{"input": {text}}}', 1, column, NUMBER) for text, column in ((".5", 11), ("+1", 11), ("01", 11))),
        *((f'{{"input": {text}}}', 1, column, NUMBER) for text, column in (("1.", 13), ("1e", 13), ("0x1F", 12))),
        *((f'{{"input": {text}}}', 1, column, NUMBER) for text, column in (("1_000", 12), ("1f", 12), ("-01", 12))),
        ('{"\u00e9\U0001f986": 1,\n"\u00e9": @}', 2, 6, "expected a JSON value"),
        ('\ufeff{"input": @}', 1, 11, "expected a JSON value"),
    ],
)
def test_a_fault_in_json_is_placed_and_explained(
    client: ApplicationClient, text: str, line: int, column: int, said: str
) -> None:
    document = payloads.refused(client, "/pool/forward", 400, content=text.encode(), headers=JSON)
    (error,) = document["errors"]
    assert f"line {line}, column {column}: " in error["message"]
    assert said in error["message"]
    for other in {NOT_FINITE, NUMBER, DOUBLE_QUOTES, BREAKS_OFF, "float64", "surrogate"} - {said}:
        assert other not in error["message"] or other in said


@given(st.data())
@quick_settings
def test_a_fault_is_found_where_it_stands(data: st.DataObject) -> None:
    """In any text: at a place between two tokens, a character stands that no JSON has there."""
    names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=5)
    values = st.recursive(
        st.integers(-9, 9) | st.booleans() | st.none() | names,
        lambda item: st.lists(item) | st.dictionaries(names, item),
    )
    content = data.draw(st.dictionaries(names, values, max_size=3))
    ascii_only, indent = data.draw(st.booleans()), data.draw(st.sampled_from([None, 0, 3]))
    tokens = re.findall(
        r'"(?:[^"\\]|\\.)*"|[][{},:]|[^][{},:"\s]+|\s+', json.dumps(content, ensure_ascii=ascii_only, indent=indent)
    )
    before = "".join(tokens[: data.draw(st.integers(0, len(tokens)))])
    after = "@" + "".join(tokens)[len(before) :]
    lines = before.split("\n")
    with pytest.raises(UnreadablePayload, match=f": line {len(lines)}, column {len(lines[-1]) + 1}: "):
        load_object(bytearray((before + after).encode()))


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_a_byte_that_is_not_utf_8_is_placed(client: ApplicationClient, broken: bytes) -> None:
    body = '{"é": 1,\n "é'.encode() + broken + b'": 2}'
    document = payloads.refused(client, "/pool/forward", 400, content=body, headers=JSON)
    assert "line 2, column 4: a byte that is not UTF-8" in document["detail"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(client: ApplicationClient, encoding: str) -> None:
    body = '{"mode": "max"}'.encode(encoding)
    assert "UTF-16" in payloads.refused(client, "/pool/forward", 400, content=body, headers=JSON)["detail"]


@pytest.mark.parametrize("body", [b"", b" ", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_body_is_said_to_be_empty(client: ApplicationClient, body: bytes) -> None:
    assert "it is empty" in payloads.refused(client, "/pool/forward", 400, content=body, headers=JSON)["detail"]


@pytest.mark.parametrize("removed", [b"", b"\r\n\0"])
@pytest.mark.parametrize("encode", [payloads.npy_request, payloads.npz_request])
def test_a_file_under_the_content_type_of_json_is_told_its_own(
    client: ApplicationClient, encode: Callable[..., Any], removed: bytes
) -> None:
    request = encode({"input": np.ones((1, 2, 1))}, {})
    body = request["content"].translate(None, removed)
    detail = payloads.refused(client, "/pool/forward", 400, content=body, headers=JSON)["detail"]
    assert f"Content-Type: {request['headers']['Content-Type']}" in detail
    assert "--data-binary" in detail


def test_what_curl_sends_unless_told_otherwise_is_explained(client: ApplicationClient) -> None:
    for content_type in ("application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"):
        options = payloads.typed(content_type, b'{"mode":"max","kernel_size":1,"input":[[[1]]]}')
        detail = payloads.refused(client, "/pool/forward", 415, **options)["detail"]
        assert "curl -d" in detail
        assert "'Content-Type: application/json'" in detail
        assert "--data-binary" in detail
    detail = payloads.refused(client, "/pool/forward", 415, **payloads.typed("text/plain", b"{}"))["detail"]
    assert "curl" not in detail
