"""What an error says about the mistake behind it: the slips that new users were seen to make."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from service.operations.catalogue import CATALOGUE, OPERATIONS
from service.operations.operation import Operation
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import typed

IMAGE = [[[[1.0], [2.0]], [[3.0], [4.0]]]]
WEIGHT = [[[[1.0]]]]
POOL = {"mode": "max", "kernel_size": 1, "input": IMAGE}
CONV = {"input": IMAGE, "weight": WEIGHT}

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def message(client: ApplicationClient, path: str, status: int = 422, **options: Any) -> str:
    """The message of the only error in a response."""
    (error,) = payloads.refused(client, path, status, **options)["errors"]
    return str(error["message"])


# ---------------------------------------------------------------------------------------------------------------- names


def test_another_frameworks_layout_means_data_format(client: ApplicationClient) -> None:
    for path, body in (("/conv/forward", CONV), ("/pool/forward", POOL)):
        assert "did you mean data_format?" in message(client, path, json={**body, "layout": "NHWC"})


@each_operation
def test_a_kernel_is_a_weight_where_there_is_one(client: ApplicationClient, operation: Operation) -> None:
    errors = client.post(operation.path, json={"mode": "max", "kernel": 3}).json()["errors"]
    (said,) = [error["message"] for error in errors if error["pointer"] == "/kernel"]
    meant = "weight" if "weight" in operation.operand_names else "kernel_size"
    assert f"did you mean {meant}?" in said


@each_operation
def test_a_kernel_size_is_taken_from_a_weight(client: ApplicationClient, operation: Operation) -> None:
    if "weight" in operation.operand_names:
        errors = client.post(operation.path, json={"kernel_size": 3}).json()["errors"]
        (said,) = [error["message"] for error in errors if error["pointer"] == "/kernel_size"]
        assert "taken from the shape of weight" in said


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
@pytest.mark.parametrize("name", ["grad_output", "wrt"])
def test_what_belongs_to_backward_is_told_so(client: ApplicationClient, entry: Any, name: str) -> None:
    errors = client.post(entry.forward.path, json={"mode": "max", name: [1]}).json()["errors"]
    (said,) = [error["message"] for error in errors if error["pointer"] == f"/{name}"]
    # a layer without gradients has no such call
    assert (f"belongs to /{entry.name}/backward" in said) == (len(entry.operations) > 1)


@pytest.mark.parametrize("name", ["activation", "name", "use_bias", "trainable"])
def test_what_has_no_counterpart_gets_no_suggestion(client: ApplicationClient, name: str) -> None:
    for path, body in (("/conv/forward", CONV), ("/pool/forward", POOL)):
        assert "did you mean" not in message(client, path, json={**body, name: "relu"})


# --------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("rank", "padding", "pairs"),
    [
        (1, [1, 2], "[[1, 2]]"),
        (2, [1, 2, 3, 4], "[[1, 3], [2, 4]]"),
        (3, [0, 1, 2, 3, 4, 5], "[[0, 3], [1, 4], [2, 5]]"),
    ],
)
def test_onnx_pads_are_told_how_padding_is_written(
    client: ApplicationClient, rank: int, padding: list[int], pairs: str
) -> None:
    image, weight = np.ones((1, *(3,) * rank, 1)), np.ones((1,) * (rank + 2))
    body = {"input": image.tolist(), "weight": weight.tolist(), "padding": padding}
    assert pairs in message(client, "/conv/forward", json=body)
    shapes = {"input": image.shape, "weight": weight.shape}
    assert pairs in message(client, "/conv/shape", json={"shapes": shapes, "padding": padding})
    said = message(client, "/conv/forward", json={**body, "padding": [*padding, 1]})
    assert "[before, after]" not in said


@pytest.mark.parametrize("value", ["1", "[1, 1]", "0.5"])
@pytest.mark.parametrize("name", ["padding", "stride", "dilation"])
def test_a_number_in_quotes_is_told_to_lose_them(client: ApplicationClient, name: str, value: str) -> None:
    assert "without quotes" in message(client, "/conv/forward", json={**CONV, name: value})
    assert "without quotes" not in message(client, "/conv/forward", json={**CONV, name: "wide"})


def test_a_typed_array_that_was_made_json_is_recognized(client: ApplicationClient) -> None:
    as_stringified = {str(index): float(index) for index in range(4)}
    assert "data: Array.from(x)" in message(client, "/pool/forward", json={**POOL, "input": as_stringified})
    assert "Array.from" not in message(client, "/pool/forward", json={**POOL, "input": {"values": [1]}})


# -------------------------------------------------------------------------------------------------------------- formats


def form_of(name: str, value: bytes, disposition: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{disposition}\r\n\r\n'.encode()
    return head + value + b"\r\n--b--\r\n"


def test_a_form_under_the_content_type_of_json_is_told_to_drop_it(client: ApplicationClient) -> None:
    body = form_of("input", payloads.npy_bytes(np.array(IMAGE)), '; filename="input.npy"')
    said = message(client, "/pool/forward", 400, **typed(payloads.JSON, body))
    assert "drop your own Content-Type header" in said
    assert "drop" not in message(client, "/pool/forward", 400, **typed(payloads.JSON, b"--1"))


@pytest.mark.parametrize("content_type", [payloads.NPY, payloads.NPZ])
@pytest.mark.parametrize("body", [b'{"input": [[[1]]]}', b" \n[1]", b"\xef\xbb\xbf{}"])
def test_json_under_the_content_type_of_a_file_is_recognized(
    client: ApplicationClient, content_type: str, body: bytes
) -> None:
    said = message(client, "/pool/forward?mode=max&kernel_size=1", 400, **typed(content_type, body))
    assert "looks like JSON" in said
    assert "Content-Type: application/json" in said


def test_a_form_field_that_names_a_file_is_told_of_the_at_sign(client: ApplicationClient) -> None:
    options = typed("multipart/form-data; boundary=b", form_of("input", b"x.npy"))
    assert "-F input=@" in message(client, "/pool/forward", 400, **options)
    # a file that is not an npy file is another mistake
    options = typed("multipart/form-data; boundary=b", form_of("input", b"x.npy", '; filename="x"'))
    assert "@" not in message(client, "/pool/forward", 400, **options)
    # and the name of a file need not be sent
    options = typed("multipart/form-data; boundary=b", form_of("input", payloads.npy_bytes(np.array(IMAGE))))
    assert client.post("/pool/forward?mode=max&kernel_size=1", **options).status_code == 200


def test_an_unknown_member_of_an_npz_is_told_the_operands(client: ApplicationClient) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image.npy", payloads.npy_bytes(np.array(IMAGE)))
    said = message(client, "/conv/forward", **typed(payloads.NPZ, file.getvalue()))
    assert "input, weight and bias" in said
    assert "input.npy" not in said


# ---------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
@pytest.mark.parametrize("rest", ["", "/", "/forwards", "/apply/2", "/" + "x" * 5000])
def test_an_unknown_path_of_a_layer_is_told_its_paths(client: ApplicationClient, entry: Any, rest: str) -> None:
    detail = client.post(f"/{entry.name}{rest}", json={}).json()["detail"]
    for operation in entry.operations:
        assert operation.path in detail
    assert f"/{entry.name}/shape" in detail
    assert "/ops" in detail


def test_a_path_that_is_nearly_right_is_corrected(client: ApplicationClient) -> None:
    assert "/conv/forward" in client.post("/conv2/forward", json={}).json()["detail"]
    assert "/pool/shape" in client.post("/pools/shape", json={}).json()["detail"]
    assert "conv" not in client.get("/favicon.ico").json()["detail"]
