"""The text around payloads: what stands between a form's parts, and how a JSON response ends."""

from __future__ import annotations

import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import INPUT
from tests.service.payloads import JSON

POOL = {"mode": "max", "kernel_size": "2"}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("blanks", [b"", b" ", b"\t", b" \t  "])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"preamble, \x93NUMPY\r\n", b"--lim\r\n-- limit\r\n\r\n"])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"\r\nepilogue", b"\r\n--limit\r\nnot a part"])
def test_a_form_may_have_blanks_after_its_boundaries_and_text_around_its_parts(
    client: ApplicationClient, before: bytes, after: bytes, last: bool, blanks: bytes
) -> None:
    """RFC 2046, section 5.1.1: transport padding, preamble and epilogue."""
    no_boundary_lines = b"\r\n--limi \r\n-- limit \r\n --limit \t\r\n\n--limit \r--limit \n--limit  "
    array = np.frombuffer(no_boundary_lines, np.uint8).reshape(1, -1, 1)
    parts = [
        payloads.file_part("input", payloads.npy_bytes(array)),
        payloads.field_part("mode", "max"),
        payloads.field_part("kernel_size", "1"),
    ]
    form = payloads.multipart_parts(parts).removesuffix(b"--limit--\r\n")
    form = form.replace(b"--limit\r\nContent", b"--limit" + blanks + b"\r\nContent")
    body = before + form + b"--limit--" + (blanks if last else b"") + after
    response = client.post("/pool/forward", **payloads.typed("multipart/form-data; boundary=limit", body))
    assert payloads.results(response, ["output"])["output"].tobytes() == array.astype(float).tobytes()


def test_json_ends_with_a_newline(client: ApplicationClient) -> None:
    """So that a shell's prompt does not stick to it."""
    json_encoders = (payloads.nested_request, payloads.flat_request, payloads.base64_request)
    for response in (
        *(client.post("/pool/forward", **encode({"input": INPUT}, POOL)) for encode in json_encoders),
        client.post("/pool/shape", json={"mode": "max", "kernel_size": 2, "shapes": {"input": [1, 4, 1]}}),
        client.post("/pool/forward", json={}),
        client.post("/pool/forward", content=b"{}"),
        client.get("/nothing"),
        client.get("/ops", headers={"Accept-Encoding": "identity"}),
        client.get("/health/live"),
        client.get("/examples/conv_forward/request.json"),
    ):
        assert payloads.media_type(response) in {JSON, payloads.PROBLEM}
        assert response.content.endswith(b"}\n")
        assert response.content.count(b"\n") == 1
        assert int(response.headers["content-length"]) == len(response.content)
