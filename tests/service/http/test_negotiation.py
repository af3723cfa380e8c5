"""Content-Type decides how a body is read, Accept how the answer is written."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import numpy as np
import pytest

from service.http.compression import compressed
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import JSON, MARKER, MULTIPART, NPY, NPZ, Options

INPUT = np.arange(4.0).reshape(1, 4, 1)
POOL: dict[str, Any] = {"mode": "max", "kernel_size": 2}
BACKWARD = {"grad_output": np.ones((1, 3, 1)), "input": INPUT, "weight": np.ones((2, 1, 1))}
WRONG_TYPE = "urn:example:marker-of-the-client"


def with_accept(options: Options, *accept: str) -> Options:
    """The request with an Accept header, on as many lines as there are values."""
    own = [item for item in options.get("headers", {}).items() if item[0] != "Accept"]
    return {**options, "headers": own + [("Accept", value) for value in accept]}


def pool_forward(content_type: str) -> Options:
    encoders = {JSON: "nested", NPY: "npy", NPZ: "npz", MULTIPART: "multipart"}
    return payloads.ENCODERS[encoders[content_type]]({"input": INPUT}, POOL)


each_content_type = pytest.mark.parametrize("content_type", [JSON, NPY, NPZ, MULTIPART])
AS_THE_REQUEST = {JSON: JSON, NPY: NPY, NPZ: NPY, MULTIPART: NPY}


LONG = 'a/b;"' + ";" * 60_000
"""What a parser of media types takes seconds for."""


def test_a_header_that_is_longer_than_any_is_not_parsed(client: ApplicationClient) -> None:
    payloads.refused(client, "/pool/forward", 406, **with_accept(pool_forward(JSON), LONG))
    payloads.refused(client, "/pool/forward", 415, content=b"{}", headers={"Content-Type": LONG})


# -------------------------------------------------------------------------------------------------------------- Accept


def test_where_the_form_of_the_request_is_ruled_out_one_result_is_npy(client: ApplicationClient) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(JSON), "application/json;q=0, */*"))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == NPY


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "*/*;q=0.1",
        "text/html, */*;q=0.8",
        "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",  # what browsers send
        " */* ",
        "*/*; charset=utf-8",
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",  # what Java's HttpURLConnection sends
        "application/json, application/x-npy, application/x-npz",
        "application/x-npz;q=0.5, application/x-npy;q=0.5, application/json;q=0.5",
    ],
)
@each_content_type
def test_an_accept_without_a_preference_gets_the_form_of_the_request(
    client: ApplicationClient, content_type: str, accept: str
) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(content_type), accept))
    assert response.status_code == 200, response.text
    assert payloads.media_type(response) == AS_THE_REQUEST[content_type]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", JSON),
        ("application/x-npy", NPY),
        ("application/x-npz", NPZ),
        ("APPLICATION/X-NPZ", NPZ),
        ("application/json;q=0.5, application/x-npz", NPZ),
        ("application/json;q=0.5, application/x-npz;q=0.4", JSON),
        ("application/json;q=0.5,application/x-npz;q=0.51,application/x-npy;q=0.1", NPZ),
        ("application/x-npy;q=0.001, text/html", NPY),
        ("application/json, */*;q=0.1", JSON),
        ("application/x-npz, application/*;q=0.9, */*;q=0.1", NPZ),
        ("application/json;q=0, application/x-npy;q=0, */*", NPZ),
        ("application/json; charset=utf-8", JSON),
        ("application/x-npz ; q=1.000 , application/json ; q=0.999", NPZ),
    ],
)
@each_content_type
def test_accept_decides_the_form(client: ApplicationClient, content_type: str, accept: str, expected: str) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(content_type), accept))
    assert response.status_code == 200, response.text
    assert payloads.media_type(response) == expected
    assert payloads.results(response, ["output"])["output"].reshape(-1).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "text/*",
        "image/png, text/plain;q=0.5",
        "application/json;q=0",
        "*/*;q=0",
        "application/xml",
        "multipart/form-data",
        "application/problem+json",
        WRONG_TYPE,
        f"application/{MARKER.decode()}",
    ],
)
@each_content_type
def test_an_accept_that_allows_no_form_is_a_406(client: ApplicationClient, content_type: str, accept: str) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(content_type), accept))
    document = payloads.problem(response, 406, marker=MARKER)
    assert all(form in document["detail"] for form in (JSON, NPY, NPZ))


@pytest.mark.parametrize(
    "accept",
    ["gibberish", ";", ",", ",,,", "application/json;q=high", "application/json;q=", "/", "a/b/c;q=0;q=1", "q" * 5000],
)
def test_a_malformed_accept_is_no_fault_of_the_server(client: ApplicationClient, accept: str) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(JSON), accept))
    if response.status_code != 200:
        payloads.problem(response, 400, 406)


def test_an_empty_accept_is_none(client: ApplicationClient) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(JSON), ""))
    assert payloads.media_type(response) == JSON


def test_accept_on_several_lines_is_one_list(client: ApplicationClient) -> None:
    response = client.post("/pool/forward", **with_accept(pool_forward(JSON), "text/html", "application/x-npz"))
    assert payloads.media_type(response) == NPZ


@pytest.mark.parametrize("encoder", ["nested", "npz", "multipart"])
@pytest.mark.parametrize("accept", ["application/x-npy", "application/x-npy;q=0.5, text/html"])
def test_npy_for_several_results_is_a_406(client: ApplicationClient, encoder: str, accept: str) -> None:
    options = payloads.ENCODERS[encoder](BACKWARD, {})
    document = payloads.refused(client, "/conv/backward", 406, **with_accept(options, accept))
    assert NPZ in document["detail"]


@pytest.mark.parametrize("encoder", ["nested", "npz", "multipart"])
def test_npy_for_one_of_several_results(client: ApplicationClient, encoder: str) -> None:
    options = payloads.ENCODERS[encoder](BACKWARD, {"wrt": ["weight"]})
    response = client.post("/conv/backward", **with_accept(options, NPY))
    assert payloads.media_type(response) == NPY
    assert payloads.npy_array(response.content).reshape(-1).tolist() == [3.0, 6.0]


@pytest.mark.parametrize(("accept", "expected"), [(f"{NPY}, */*;q=0.1", NPZ), (f"{NPY}, {JSON};q=0.1", JSON)])
def test_the_next_choice_serves_where_npy_cannot(client: ApplicationClient, accept: str, expected: str) -> None:
    options = with_accept(payloads.npz_request(BACKWARD, {}), accept)
    assert payloads.media_type(client.post("/conv/backward", **options)) == expected


@pytest.mark.parametrize("accept", [NPZ, "text/html", "image/png;q=0.1"])
def test_an_error_is_a_problem_document_whatever_is_accepted(client: ApplicationClient, accept: str) -> None:
    options = with_accept(payloads.nested_request({"input": INPUT}, {}), accept)
    payloads.problem(client.post("/pool/forward", **options), 406, 422)


# -------------------------------------------------------------------------------------------------------- Content-Type


@pytest.mark.parametrize(
    ("content_type", "written"),
    [
        (JSON, "application/json; charset=utf-8"),
        (JSON, "application/json;charset=UTF-8"),
        (JSON, 'application/json ; charset="utf-8"'),
        (JSON, "Application/JSON"),
        (JSON, "APPLICATION/JSON; CHARSET=UTF-8"),
        (NPY, "Application/X-NPY"),
        (NPY, "application/x-npy; version=1"),
        (NPZ, " application/x-npz "),
    ],
)
def test_content_type_in_other_writings(client: ApplicationClient, content_type: str, written: str) -> None:
    options = pool_forward(content_type)
    response = client.post("/pool/forward", **{**options, "headers": {"Content-Type": written}})
    assert response.status_code == 200, response.text
    assert payloads.media_type(response) == AS_THE_REQUEST[content_type]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "text/plain",
        "text/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/vnd.api+json",
        "application/jsonx",
        "application",
        "json",
        "*/*",
        "application/*",
        "multipart/mixed; boundary=x",
        "application/json, application/json",
        ";charset=utf-8",
        "application/" + "x" * 5000,
        f"application/{MARKER.decode()}",
        WRONG_TYPE,
    ],
)
@pytest.mark.parametrize("path", ["/pool/forward", "/conv/backward", "/pool/shape"])
def test_an_unknown_content_type_is_a_415(client: ApplicationClient, path: str, written: str) -> None:
    options = {**pool_forward(JSON), "headers": {"Content-Type": written}}
    document = payloads.problem(client.post(path, **options), 415, marker=MARKER)
    assert JSON in document["detail"]


@pytest.mark.parametrize("path", ["/conv/forward", "/conv/backward", "/pool/forward", "/pool/backward", "/conv/shape"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x93NUMPY"])
def test_a_missing_content_type_is_a_415(client: ApplicationClient, path: str, content: bytes) -> None:
    document = payloads.refused(client, path, 415, content=content)
    assert JSON in document["detail"]


@pytest.mark.parametrize("path", ["/conv/forward", "/conv/backward", "/pool/backward"])
def test_npy_for_several_operands_is_a_415(client: ApplicationClient, path: str) -> None:
    options = payloads.npy_request({"input": INPUT}, {})
    document = payloads.refused(client, path, 415, **options)
    assert NPZ in document["detail"]


@pytest.mark.parametrize("path", ["/conv/shape", "/pool/shape"])
@pytest.mark.parametrize("content_type", [NPY, NPZ])
def test_shape_reads_json_only(client: ApplicationClient, path: str, content_type: str) -> None:
    payloads.refused(client, path, 415, **pool_forward(content_type))


# ---------------------------------------------------------------------------------------------------- Content-Encoding


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity, gzip", gzip.compress),
        ("zstd", lambda content: b"".join(compressed([content], "zstd", lambda _: None))),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, NPY, NPZ])
def test_a_compressed_body_is_read(client: ApplicationClient, content_type: str, encoding: str, compress: Any) -> None:
    options = pool_forward(content_type)
    expected = client.post("/pool/forward", **options)
    headers = {**options["headers"], "Content-Encoding": encoding}
    answer = client.post("/pool/forward", **{**options, "content": compress(options["content"]), "headers": headers})
    assert answer.status_code == expected.status_code == 200
    assert answer.content == expected.content


def test_a_compressed_body_of_a_shape_call_is_read(client: ApplicationClient) -> None:
    content = b'{"kernel_size": 2, "mode": "max", "shapes": {"input": [1, 4, 4, 1]}}'
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    answer = client.post("/pool/shape", content=gzip.compress(content), headers=headers)
    assert answer.status_code == 200
    assert answer.content == client.post("/pool/shape", content=content, headers={"Content-Type": JSON}).content


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip", MARKER.decode()])
@pytest.mark.parametrize("content_type", [JSON, NPY, NPZ])
def test_an_unknown_encoding_is_a_415(client: ApplicationClient, content_type: str, encoding: str) -> None:
    options = pool_forward(content_type)
    headers = {**options["headers"], "Content-Encoding": encoding}
    answer = client.post("/pool/forward", **{**options, "headers": headers})
    document = payloads.problem(answer, 415, marker=MARKER)
    assert "Content-Encoding" in document["detail"]
    assert answer.headers["accept-encoding"] == "zstd, gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "content"),
    [("gzip", MARKER), ("deflate", MARKER), ("zstd", MARKER), ("gzip", gzip.compress(MARKER, mtime=0)[:-1])],
)
def test_a_body_that_cannot_be_decompressed_is_a_400(client: ApplicationClient, encoding: str, content: bytes) -> None:
    headers = {"Content-Type": JSON, "Content-Encoding": encoding}
    payloads.problem(client.post("/pool/forward", content=content, headers=headers), 400, marker=MARKER)


def test_a_bomb_is_a_413(client: ApplicationClient) -> None:
    bomb = gzip.compress(b"[" * 50_000_000)
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    document = payloads.refused(client, "/pool/forward", 413, content=bomb, headers=headers)
    assert "decompresses to more" in document["detail"]


@pytest.mark.parametrize("encoding", ["identity", "Identity"])
def test_the_identity_encoding_is_none(client: ApplicationClient, encoding: str) -> None:
    options = pool_forward(JSON)
    options["headers"]["Content-Encoding"] = encoding
    assert client.post("/pool/forward", **options).status_code == 200


# ------------------------------------------------------------------------------------------------- paths and methods


@pytest.mark.parametrize("path", ["/conv/forward", "/pool/backward", "/conv/shape"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_is_a_405(client: ApplicationClient, method: str, path: str) -> None:
    response = client.request(method, path)
    payloads.problem(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path",
    ["/convolve", "/conv", "/conv/sideways", "/pool/forward/x", "/marker-of-the-client", "/%ff%fe", "/conv//forward"],
)
def test_an_unknown_path_is_a_404(client: ApplicationClient, path: str) -> None:
    payloads.problem(client.post(path, **pool_forward(JSON)), 404, marker=MARKER)


@pytest.mark.parametrize(
    ("header", "written", "shown"),
    [
        ("Content-Type", "text/plain", True),
        ("Content-Type", "text/plain; charset=latin-1", True),
        ("Accept", "text/html, image/*", True),
        ("Accept", f"text/{'x' * 100}", False),
        ("Accept", "text/<script>", False),
        ("Content-Type", "one two", False),
    ],
)
def test_a_short_plain_header_is_repeated_in_the_error(
    client: ApplicationClient, header: str, written: str, shown: bool
) -> None:
    options = pool_forward(JSON)
    response = client.post("/pool/forward", **{**options, "headers": {**options["headers"], header: written}})
    (error,) = response.json()["errors"]
    assert response.status_code in (406, 415)
    assert error["got"] == (f"{header}: {written}" if shown else f"another {header}")
    assert error["got"] in error["message"]
