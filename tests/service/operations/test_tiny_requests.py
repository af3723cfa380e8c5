"""A few bytes ask for a layer of any size: what is beyond the limits is refused from the shapes alone."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import MARKER, NPZ, json_body, limited

MILLION, HUGEST = 10**6, 2**31 - 1
Request = tuple[str, dict[str, Any]]


def image(rank: int, size: int = 4) -> Any:
    return np.ones([1, *[size] * rank, 1]).tolist()


def flat(array: Any) -> dict[str, Any]:
    tensor: dict[str, Any] = payloads.json_flat(np.asarray(array))
    return tensor


def pool(mode: str, parameters: dict[str, Any], rank: int) -> list[Request]:
    body = {"mode": mode, **parameters, "input": image(rank)}
    return [("/pool/forward", body), ("/pool/backward", {**body, "grad_output": image(rank)})]


def conv(layer: str, parameters: dict[str, Any], rank: int) -> list[Request]:
    body = {**parameters, "input": image(rank), "weight": np.ones([2] * rank + [1, 1]).tolist()}
    return [(f"/{layer}/forward", body), (f"/{layer}/backward", {**body, "grad_output": image(rank)})]


def unpool(parameters: dict[str, Any], rank: int) -> list[Request]:
    body = {**parameters, "input": image(rank), "indices": np.zeros([1, *[4] * rank, 1]).tolist()}
    return [("/unpool/forward", body), ("/unpool/backward", {**body, "grad_output": image(rank)})]


def unfold(parameters: dict[str, Any], rank: int) -> list[Request]:
    body = {**parameters, "input": image(rank)}
    return [("/unfold/forward", body), ("/unfold/backward", {**body, "grad_output": [[[1.0]]]})]


def fold(parameters: dict[str, Any], size: int, rank: int) -> list[Request]:
    """Patches that make an output of any size, as long as their windows are far apart."""
    body = {**parameters, "output_size": [size] * rank, "input": np.ones((1, 1, 1)).tolist()}
    return [("/fold/forward", body), ("/fold/backward", {**body, "grad_output": image(rank)})]


def quantized(parameters: dict[str, Any], rank: int) -> list[Request]:
    eight_bits = {"input": flat(np.ones([1, *[4] * rank, 1], "u1")), "weight": flat(np.ones([2] * rank + [1, 1], "i1"))}
    points = {f"{name}_zero_point": flat(np.array(1, "u1")) for name in ("input", "output")}
    scales = {f"{name}_scale": flat(np.array(1.0)) for name in ("input", "weight", "output")}
    linear = {**eight_bits, **points, **scales, "weight_zero_point": flat(np.array(1, "i1"))}
    return [
        ("/conv_integer/forward", {**parameters, **eight_bits}),
        ("/qlinear_conv/forward", {**parameters, **linear}),
    ]


def after(amount: int, rank: int) -> dict[str, Any]:
    return {"padding": [[0, amount]] * rank}


def requests(rank: int) -> list[Request]:
    """All of them tiny, and all beyond a limit or against a rule."""
    onnx = {"framework": "onnx", "data_format": "channels_last"}
    sizes = (HUGEST,) if rank == 1 else (MILLION, HUGEST)  # a line of a million elements is no more than many a layer
    found: list[Request] = []
    for size in sizes:
        for mode in ("max", "avg", "lp"):
            found += pool(mode, {"output_size": size}, rank)
        found += pool("max", {"output_size": size, "return_indices": True}, rank)
        for more in ({}, onnx, {"padding": "same"}, {"stride": size}, {"stride": size, **onnx}):
            found += conv("conv_transpose", {"output_size": size, **more}, rank)
        found += conv("conv_transpose", {"stride": size, "padding": "same"}, rank)
        for more in ({}, {"kernel_size": 2, **onnx}, {"index_scheme": "tensor"}, {"storage_order": "column_major"}):
            found += unpool({"output_size": size, **more}, rank)
        found += unpool({"kernel_size": size}, rank)
        found += unpool({"kernel_size": 2, "stride": size}, rank)
        for more in ({"kernel_size": 1, "stride": size}, {"kernel_size": 1}, {"kernel_size": size}):
            found += fold(more, size, rank)
        for more in ({}, {"padding": size}, {"padding": "same"}, {"padding": "same", "stride": 3}, {"dilation": size}):
            found += unfold({"kernel_size": size, **more}, rank)
        for taps in (2, 3):
            found += unfold({"kernel_size": taps, "padding": size}, rank)
            found += unfold({"kernel_size": taps, "dilation": size}, rank)
        for more in ({"padding": size}, {"dilation": size}, after(size, rank)):
            found += quantized(more, rank)
    for amount in (10**9, HUGEST):
        for mode in ("replicate", "reflect", "circular"):
            for more in ({"padding": amount}, after(amount, rank), {"padding": "same", "dilation": amount}):
                found += conv("conv", {"padding_mode": mode, **more}, rank)
        found += conv("conv", {"padding_mode": "replicate", "padding": amount, "stride": amount}, rank)
        found += pool("lp", {"kernel_size": 2, "padding": amount}, rank)
        found += pool("lp", {"kernel_size": amount, "padding": amount, "stride": 1}, rank)
    for name in ("dilation", "stride"):
        found += conv("conv_transpose", {name: 2**30, "output_padding": 2**30 - 1}, rank)
        found += conv("conv_transpose", {name: 2**30, "output_padding": 2**30}, rank)
    return found


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_tiny_requests_of_a_huge_cost_are_refused_at_once(client: ApplicationClient, rank: int) -> None:
    for path, body in requests(rank):
        parameters = {name: value for name, value in body.items() if not isinstance(value, (list, dict))}
        with payloads.little_memory():
            response = client.post(path, **json_body(body))
        document = payloads.problem(response, 413, 422)
        assert document["errors"], (path, parameters)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "parameters",
    [
        {"output_size": 10**7},
        {"output_size": HUGEST},
        {"output_size": HUGEST, "mode": "max", "return_indices": True},
        {"output_size": HUGEST, "mode": "lp"},
    ],
    ids=str,
)
def test_an_empty_batch_costs_no_less_than_an_image(
    client: ApplicationClient, parameters: dict[str, Any], rank: int
) -> None:
    empty = flat(np.ones([0, *[4] * rank, 1]))
    body = {"mode": "avg", **parameters, "input": empty}
    with payloads.little_memory():
        payloads.refused(client, "/pool/forward", 413, **json_body(body))
        unpooled = {"output_size": HUGEST, "input": empty, "indices": flat(np.ones([0, *[4] * rank, 1], "i8"))}
        payloads.refused(client, "/unpool/forward", 413, **json_body(unpooled))
        unfolded = {"kernel_size": 10**5, "padding": 10**5, "input": empty}
        payloads.refused(client, "/unfold/forward", 413, **json_body(unfolded))
        weight = flat(np.ones([2] * rank + [1, 1]))
        transposed = {"stride": HUGEST, "input": empty, "weight": weight}
        payloads.refused(client, "/conv_transpose/forward", 413, **json_body(transposed))


# -------------------------------------------------------------------------------------------------------------- indices


def test_indices_count_among_the_results(client: ApplicationClient) -> None:
    """Small in the body and in float16, the maxima of large images have indices of 64 bits each."""
    with limited(max_result_bytes=8 * 2**20, max_decompressed_bytes=2**26) as small:
        body = payloads.npz_bytes({"input": np.zeros((1, 2000, 2000, 1), "f2")}, zipfile.ZIP_DEFLATED)
        given = {"mode": "max", "kernel_size": "1"}
        options = payloads.typed(NPZ, body, params=given)
        assert small.post("/pool/forward", **options).status_code == 200  # 8 000 000 bytes
        options = payloads.typed(NPZ, body, params={**given, "return_indices": "true"})
        document = payloads.refused(small, "/pool/forward", 413, **options)
        assert "40000000 bytes of results" in document["detail"]
    options = payloads.typed(NPZ, body, params={**given, "return_indices": "true"})
    options["headers"]["Accept"] = payloads.JSON
    response = client.post("/pool/forward", **options)
    payloads.problem(response, 413)  # the text of so many numbers
    assert len(body) < 50_000


# ------------------------------------------------------------------------------------------------------------ norm_type


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1" + "0" * 400, "NaN", "Infinity", "-Infinity"])
def test_a_norm_beyond_float64(client: ApplicationClient, text: str) -> None:
    body = f'{{"mode": "lp", "kernel_size": 2, "norm_type": {text}, "input": [[[3.0], [4.0]]]}}'.encode()
    payloads.attacked(client, "/pool/forward", 400, 422, **payloads.typed(payloads.JSON, body))
    options = payloads.npz_request({"input": np.ones((1, 2, 1))}, {"mode": "lp", "kernel_size": 2})
    for way in ("query", "form"):
        if way == "form":
            options = payloads.multipart_request({"input": np.ones((1, 2, 1))}, {"mode": "lp", "kernel_size": 2})
            options["data"]["norm_type"] = text
        else:
            options["params"]["norm_type"] = text
        document = payloads.refused(client, "/pool/forward", 422, **options)
        assert payloads.pointers(document) == ["/norm_type"]
        assert MARKER.decode() not in str(document)
        assert len(text) < 100 or text not in str(document)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("norm_type", [1e16, 1e38, 1e39, 1e300, 1e308, 1.7976931348623157e308])
def test_the_largest_norms_are_the_maximum(client: ApplicationClient, norm_type: float, dtype: str) -> None:
    """Their powers vanish, and their roots are 1."""
    operands = {"input": np.array([3.0, -4.0, 0.0, 0.5, 0.0, 0.0], dtype).reshape(1, 6, 1)}
    given = {"mode": "lp", "kernel_size": 2, "norm_type": norm_type}
    response = client.post("/pool/forward", **payloads.npz_request(operands, given))
    assert payloads.results(response, ["output"])["output"].reshape(-1).tolist() == [4.0, 0.5, 0.0]
    operands = {"grad_output": np.ones((1, 3, 1), dtype), **operands}
    response = client.post("/pool/backward", **payloads.npz_request(operands, given))
    gradient = payloads.results(response, ["grad_input"])["grad_input"]
    assert gradient.reshape(-1).tolist() == [0.0, -1.0, 0.0, 1.0, 0.0, 0.0]
