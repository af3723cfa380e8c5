"""What a request costs is predicted from shapes and parameters, and refused before anything is allocated."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import pytest

from service.codecs.json_tensors import longest_text, write_tensor
from service.codecs.message import TensorType
from service.operations.catalogue import OPERATIONS
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import CALLS_BY_NAME, EXAMPLES, case_of, computed, declared
from tests.service.payloads import Call, attacked, json_body, limited

each_call = pytest.mark.parametrize("call", EXAMPLES, ids=str)


def result_bytes(call: Call) -> int:
    return sum(array.nbytes for array in computed(call, call.operands).values())


def least_work(call: Call) -> int:
    """The multiply-accumulates of the output, once for each gradient that multiplies."""
    declaration, case = declared(call), case_of(call)
    once = declaration.multiply_accumulates(case, np.empty(declaration.output_shape(case)))
    return once * len(set(call.results) - {"grad_bias", "indices"})


@pytest.mark.parametrize(
    ("call", "work"),
    [
        ("conv_forward", 2 * 3 * 5 * 6 * 3 * 2 * 2),  # images, windows, filters; taps, channels of a group
        ("max_forward", 2 * 4 * 3 * 4 * 3 * 2),
        ("avg_global_forward", 2 * 4 * 6 * 5),
        ("conv_transpose_forward", 2 * 3 * 2 * 6 * 3 * 2 * 2),
        ("unpool_forward", 2 * 3 * 2 * 4),
    ],
)
def test_the_counts_of_the_declarations(call: str, work: int) -> None:
    assert least_work(CALLS_BY_NAME[call]) == work


def test_the_examples_are_those_of_every_operation() -> None:
    assert {call.path for call in EXAMPLES} == {operation.path for operation in OPERATIONS}


@each_call
def test_the_size_of_the_results_is_limited(call: Call) -> None:
    options, size = payloads.npz_request(call.operands, call.parameters), result_bytes(call)
    with limited(max_result_bytes=size) as client:
        assert client.post(call.path, **options).status_code == 200
    with limited(max_result_bytes=size - 1) as client:
        document = payloads.refused(client, call.path, 413, **options)
        assert str(size) in document["detail"]


@each_call
def test_the_work_is_limited(call: Call) -> None:
    options = payloads.npz_request(call.operands, call.parameters)
    with limited(max_work=10**9) as client:
        assert client.post(call.path, **options).status_code == 200
    with limited(max_work=least_work(call) - 1) as client:
        payloads.refused(client, call.path, 413, **options)


@each_call
def test_the_memory_of_a_computation_is_limited(call: Call) -> None:
    with limited(max_workspace_bytes=1) as client:
        response = client.post(call.path, **payloads.npz_request(call.operands, call.parameters))
    if response.status_code == 200:  # what is copied straight from where it is to where it goes
        assert not declared(call).needs_workspace
    else:
        payloads.problem(response, 413)


HUGE: list[dict[str, Any]] = [
    {"padding": 10**9},
    {"padding": "after"},
    {"padding": 2**31 - 1},
    {"padding": 30_000},
    {"padding": 10**9, "stride": 10**9},
    {"dilation": 10**8},
    {"dilation": 10**8, "padding": 10**8},
    {"dilation": 10**9, "padding": "same"},
    {"stride": 10**9},
    {"stride": 2**31 - 1, "padding": 2**31 - 1},
]
HUGE_WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 10**9},
    {"kernel_size": 10**9, "padding": 10**9},
    {"kernel_size": 10**9, "padding": "same"},
    {"kernel_size": 10**9, "ceil_mode": True},
    {"kernel_size": 2**31 - 1, "padding": 2**31 - 1, "stride": 1},
    {"kernel_size": 10**6, "padding": 10**6, "stride": 1},
    {"kernel_size": 10**5, "dilation": 10**5, "padding": 10**9},
]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        *[("conv", parameters) for parameters in HUGE],
        *[(layer, parameters) for layer in ("max", "avg", "avg_include") for parameters in [*HUGE, *HUGE_WINDOWS]],
    ],
    ids=str,
)
def test_a_tiny_request_of_a_huge_cost(
    client: ApplicationClient, layer: str, parameters: dict[str, Any], rank: int
) -> None:
    body: dict[str, Any] = {"input": np.ones([1, *[4] * rank, 1]).tolist(), **parameters}
    if parameters.get("padding") == "after":
        body["padding"] = [[0, 10**9]] * rank
    if layer == "conv":
        body["weight"] = np.ones([2] * rank + [1, 1]).tolist()
    else:
        body = {"kernel_size": 2, "mode": layer[:3], **body}
    if layer == "avg_include":
        body["count_include_pad"] = True
    operation = "/conv" if layer == "conv" else "/pool"
    forward = json_body(body)
    backward = json_body({**body, "grad_output": np.ones([1] * (rank + 2)).tolist()})
    with payloads.little_memory():
        for path, options in ((f"{operation}/forward", forward), (f"{operation}/backward", backward)):
            status = client.post(path, **options).status_code
            if status != 200:
                attacked(client, path, 413, 422, **options)


TEXT_LIMIT = {"mode": "max", "kernel_size": 1}


@pytest.mark.parametrize(
    ("shape", "form"),
    [((3, 5, 1), "nested"), ((3, 5, 4), "nested"), ((0, 5, 4), "nested"), ((3, 5, 1), "flat"), ((3, 5, 1), "base64")],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_text_of_an_answer_is_predicted(shape: tuple[int, ...], form: str, dtype: str) -> None:
    numbers = np.array([-1.7976931348623157e308, -2.2250738585072014e-308, 1 / 3, 0.0, 5e-324])
    if dtype != "float64":
        numbers = np.array([-np.finfo(dtype).max, -np.finfo(dtype).tiny, 1 / 3, 0, np.finfo(dtype).smallest_subnormal])
    array = np.resize(numbers, shape).astype(dtype)
    written = b"".join(bytes(piece) for piece in write_tensor(array, form))
    assert len(written) <= longest_text(TensorType(shape, array.dtype), form)


def test_json_of_many_small_lists_is_limited(client: ApplicationClient) -> None:
    """A few kilobytes ask for an answer of hundreds of megabytes."""
    body = payloads.npz_bytes({"input": np.zeros((8_000_000, 1, 1), "f4")}, zipfile.ZIP_DEFLATED)
    options = payloads.typed(payloads.NPZ, body, params=TEXT_LIMIT)
    options["headers"]["Accept"] = payloads.JSON
    document = payloads.refused(client, "/pool/forward", 413, **options)
    assert "npy" in document["detail"]


def test_a_large_json_answer_is_what_the_parts_say(client: ApplicationClient) -> None:
    array = np.random.default_rng(0).normal(size=(3, 7_000, 3, 1))  # of more numbers than are written at one time
    options = payloads.typed(payloads.NPY, payloads.npy_bytes(array), params=TEXT_LIMIT)
    options["headers"]["Accept"] = payloads.JSON
    (output,) = payloads.results(client.post("/pool/forward", **options), ["output"]).values()
    np.testing.assert_array_equal(output, array)
    for form in (payloads.json_flat, payloads.json_base64):
        answer = client.post("/pool/forward", **json_body({**TEXT_LIMIT, "input": form(array)}))
        (output,) = payloads.results(answer, ["output"]).values()
        np.testing.assert_array_equal(output, array)


FAR_APART = {"padding": "[[1000000,0]]", "stride": "2147483647"}


def test_steps_in_python_count(client: ApplicationClient) -> None:
    """A thousand taps for each image, each a step in Python, for two multiply-accumulates."""
    operands = {"input": np.zeros((100_000, 1, 2), "f4"), "weight": np.ones((1000, 1, 2), "f4")}
    body = payloads.npz_bytes(operands, zipfile.ZIP_DEFLATED)
    parameters = {**FAR_APART, "dilation": "1000", "groups": "2"}
    payloads.refused(client, "/conv/forward", 413, **payloads.typed(payloads.NPZ, body, params=parameters))


def test_padding_that_no_window_reaches_costs_nothing(client: ApplicationClient) -> None:
    operands = {"input": np.ones((100_000, 1, 1), "f4"), "weight": np.ones((1, 1, 1), "f4")}
    body = payloads.npz_bytes(operands, zipfile.ZIP_DEFLATED)
    answer = client.post("/conv/forward", **payloads.typed(payloads.NPZ, body, params=FAR_APART))
    (output,) = payloads.results(answer, ["output"]).values()
    assert output.shape == (100_000, 1, 1)
    assert not output.any()


def test_an_empty_batch_is_judged_by_its_own_shapes(client: ApplicationClient) -> None:
    request = {"input": {"dtype": "float32", "shape": [1, 0, 4, 1], "data": []}, "mode": "max", "kernel_size": 2}
    document = payloads.refused(client, "/pool/forward", 422, **json_body(request))
    assert "size 0" in document["detail"]
