"""Errors name the name that is wrong, and say what was needed in its place."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import pytest

from service import healthcheck
from tests.clients import ApplicationClient, free_port
from tests.service import payloads

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
