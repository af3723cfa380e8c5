"""Every operation by the Open Inference Protocol gives the numbers of the core, in JSON and in binary."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import Conv, MaxPool
from service.operations.catalogue import OPERATIONS
from tests.clients import ApplicationClient
from tests.service.calls import CALLS, CALLS_BY_NAME, EXAMPLES, as_type, assert_identical, computed
from tests.service.payloads import Call, limited
from tests.service.v2.messages import (
    DATATYPES,
    LENGTH,
    asked,
    envelope,
    model_of,
    path_of,
    refused,
    request,
    results,
)

CONV_BACKWARD = CALLS_BY_NAME["conv_backward"]
POOL = "/v2/models/pool_forward/infer"
WINDOW_OF_ONE = {"mode": "max", "kernel_size": 1}
each_call = pytest.mark.parametrize("call", CALLS, ids=str)
each_example = pytest.mark.parametrize("call", EXAMPLES, ids=str)


def test_the_models_are_the_operations() -> None:
    assert {model_of(call) for call in CALLS} == {operation.name for operation in OPERATIONS}


# ----------------------------------------------------------------------------------------------------- every operation


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@each_call
def test_every_model_gives_the_numbers_of_the_core(
    client: ApplicationClient, call: Call, form: str, dtype: str
) -> None:
    operands = as_type(call.operands, dtype)
    options = request(operands, call.parameters, binary=form == "binary", nested=form == "nested")
    assert_identical(results(client.post(path_of(call), **options)), computed(call, operands))


@each_example
def test_binary_and_json_may_be_mixed(client: ApplicationClient, call: Call) -> None:
    binary = list(call.operands)[::2]
    outputs = asked(**{name: bool(index % 2) for index, name in enumerate(call.results)})
    options = request(call.operands, call.parameters, binary=binary, outputs=outputs)
    response = client.post(path_of(call), **options)
    assert_identical(results(response), computed(call, call.operands))
    content, _ = envelope(response)
    assert ["data" in output for output in content["outputs"]] == [not index % 2 for index in range(len(call.results))]


@pytest.mark.parametrize("padding", range(1, 9))
@pytest.mark.parametrize("types", [("float32",) * 4, ("float64",) * 4, ("int8", "float32", "float64", "float16")])
def test_tensors_may_begin_at_any_byte(client: ApplicationClient, types: tuple[str, ...], padding: int) -> None:
    operands: dict[str, Any] = {
        "weight": np.arange(1, 7).reshape(3, 1, 2).astype(types[0]),
        "input": np.arange(7).reshape(1, 7, 1).astype(types[1]),
        "grad_output": np.arange(10).reshape(1, 5, 2).astype(types[2]),
        "bias": np.array([1, 2]).astype(types[3]),
    }
    options = request(operands, {}, binary=True, padding=padding)
    expected = Conv().backward(**operands)
    assert_identical(results(client.post("/v2/models/conv_backward/infer", **options)), expected._asdict())


@pytest.mark.parametrize("call", EXAMPLES, ids=str)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_the_envelope(client: ApplicationClient, call: Call, version: str) -> None:
    response = client.post(path_of(call, version), **request(call.operands, call.parameters, id="a b"))
    content, _ = envelope(response)
    assert content["model_name"] == model_of(call)
    assert content["model_version"] == "1"
    assert content["id"] == "a b"
    assert all(isinstance(value, str) for value in content["parameters"].values())


@each_example
def test_the_parameters_of_a_response_may_be_sent_again(client: ApplicationClient, call: Call) -> None:
    first = client.post(path_of(call), **request(call.operands, call.parameters))
    resolved = envelope(first)[0]["parameters"]
    assert set(resolved) >= set(call.parameters)
    again = client.post(path_of(call), **request(call.operands, resolved))
    assert envelope(again)[0] == envelope(first)[0]


def test_without_an_id_there_is_none(client: ApplicationClient) -> None:
    options = request({"input": np.ones((1, 2, 1))}, WINDOW_OF_ONE)
    assert "id" not in envelope(client.post(POOL, **options))[0]


def test_content_type_and_accept_do_not_matter(client: ApplicationClient) -> None:
    """tritonclient sends neither; curl -d sends that of a form."""
    options = request({"input": np.ones((1, 2, 1))}, WINDOW_OF_ONE)
    expected = client.post(POOL, **options).content
    for content_type in ("application/json", "application/octet-stream", "application/x-www-form-urlencoded"):
        headers = {**options["headers"], "Content-Type": content_type, "Accept": "application/x-npy"}
        assert client.post(POOL, **{**options, "headers": headers}).content == expected


# ----------------------------------------------------------------------------------------------------------- datatypes


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BF16"])
def test_every_datatype(client: ApplicationClient, datatype: str, *, binary: bool) -> None:
    array = np.array([1, 0, 100, 3]).astype(DATATYPES[datatype]).reshape(1, 4, 1)
    response = client.post(POOL, **request({"input": array}, {"mode": "max", "kernel_size": 2}, binary=binary))
    assert_identical(results(response), {"output": MaxPool(kernel_size=2).forward(array)})


@pytest.mark.parametrize("values", [[np.nan, -np.inf], [np.inf, -0.0], [5e-324, 1.7976931348623157e308]])
def test_binary_data_hold_every_float(client: ApplicationClient, values: list[float]) -> None:
    array = np.array(values).reshape(1, 2, 1)
    options = request({"input": array}, {**WINDOW_OF_ONE, "binary_data_output": True}, binary=True)
    assert_identical(results(client.post(POOL, **options)), {"output": array})


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_result_that_is_not_finite_needs_binary_data(client: ApplicationClient, dtype: str, value: float) -> None:
    array = np.full((1, 2, 1), value, dtype)
    text = refused(client, POOL, 400, **request({"input": array}, WINDOW_OF_ONE, binary=True))
    assert "binary_data_output" in text
    assert "NaN or infinity" in text


def test_nan_in_json_is_refused_in_words(client: ApplicationClient) -> None:
    options = request({"input": np.full((1, 2, 1), np.nan)}, WINDOW_OF_ONE)
    assert "NaN" in refused(client, POOL, 400, **options)


@pytest.mark.parametrize(
    ("text", "dtype", "value"),
    [
        ("-0", "FP32", -0.0),
        ("1.00000017881393432617187500001", "FP32", float(np.float32(1.0000002384185791))),  # rounded once
        ("0.1", "FP64", 0.1),
        ("65504.0", "FP16", 65504.0),
        ("9007199254740992", "INT64", 2**53),
    ],
)
@pytest.mark.parametrize("form", ["[{}]", "[[[{}]]]", " [ [ [ {} ] ] ] "])
def test_numbers_in_json_are_read_exactly(
    client: ApplicationClient, text: str, dtype: str, value: float, form: str
) -> None:
    body = (
        f'{{"inputs": [{{"name": "input", "shape": [1, 1, 1], "datatype": "{dtype}", "data": {form.format(text)}}}], '
        '"parameters": {"mode": "max", "kernel_size": 1, "binary_data_output": true}}'
    )
    (output,) = results(client.post(POOL, content=body.encode())).values()
    assert repr(output.item()) == repr(float(value))


@settings(deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_float32_makes_the_round_trip_in_each_form(
    client: ApplicationClient, values: list[float], binary: bool, binary_output: bool
) -> None:
    array = np.array(values, np.float32).reshape(1, -1, 1)
    options = request({"input": array}, {**WINDOW_OF_ONE, "binary_data_output": binary_output}, binary=binary)
    assert_identical(results(client.post(POOL, **options)), {"output": array})


# ------------------------------------------------------------------------------------------------------ empty and large


@pytest.mark.parametrize("binary", [True, False])
def test_an_empty_batch(client: ApplicationClient, *, binary: bool) -> None:
    operands = {"grad_output": np.zeros((0, 2, 3)), "input": np.zeros((0, 3, 2)), "weight": np.ones((2, 2, 3))}
    response = client.post("/v2/models/conv_backward/infer", **request(operands, {}, binary=binary))
    assert {name: array.shape for name, array in results(response).items()} == {
        "grad_input": (0, 3, 2),
        "grad_weight": (2, 2, 3),
        "grad_bias": (3,),
    }


def test_an_empty_tensor_as_kserve_sends_it(client: ApplicationClient) -> None:
    """Its client leaves out the header where no tensor has bytes, and writes null for the data."""
    empty = {"name": "input", "shape": [0, 2, 1], "datatype": "FP32", "data": None}
    body = {"inputs": [{**empty, "parameters": {"binary_data_size": 0}}], "parameters": WINDOW_OF_ONE}
    assert results(client.post(POOL, json=body))["output"].shape == (0, 2, 1)


def test_bfloat16_is_binary_only(client: ApplicationClient) -> None:
    body = {"inputs": [{"name": "input", "shape": [1, 1, 1], "datatype": "BF16", "data": [1]}]}
    assert "binary" in refused(client, POOL, 400, json={**body, "parameters": WINDOW_OF_ONE})


def test_bfloat16_makes_the_round_trip(client: ApplicationClient) -> None:
    array = np.array([1, -2.5, 3e38, 1e-30]).astype(ml_dtypes.bfloat16).reshape(1, 4, 1)
    binary = request({"input": array}, {**WINDOW_OF_ONE, "binary_data_output": True}, binary=True)
    (output,) = results(client.post(POOL, **binary)).values()
    assert output.dtype == ml_dtypes.bfloat16
    assert output.tobytes() == array.tobytes()
    as_json = request({"input": array}, WINDOW_OF_ONE, binary=True)
    assert "binary_data_output" in refused(client, POOL, 400, **as_json)


def test_json_has_a_limit_of_its_own() -> None:
    array = np.zeros((1, 300, 1))
    with limited(max_json_bytes=600) as client:
        binary = request({"input": array}, {**WINDOW_OF_ONE, "binary_data_output": True}, binary=True)
        assert client.post(POOL, **binary).status_code == 200
        for options in (
            request({"input": array}, WINDOW_OF_ONE),
            request({"input": array}, WINDOW_OF_ONE, binary=True, padding=600),
        ):
            assert "600 bytes" in refused(client, POOL, 413, **options)


# --------------------------------------------------------------------------------------------------------- compression


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression_in_both_directions(client: ApplicationClient, coding: str, *, binary: bool) -> None:
    """The header counts the bytes of the JSON before it is compressed."""
    array = np.arange(2.0**12).reshape(1, -1, 1)
    options = request({"input": array}, {**WINDOW_OF_ONE, "binary_data_output": binary}, binary=binary)
    compress = gzip.compress if coding == "gzip" else zlib.compress
    headers = {**options["headers"], "Content-Encoding": coding, "Accept-Encoding": coding}
    response = client.post(POOL, content=compress(options["content"]), headers=headers)
    assert response.headers["content-encoding"] == coding
    assert int(response.headers["content-length"]) < array.nbytes
    assert_identical(results(response), {"output": array})  # httpx has decompressed it


def test_a_list_of_codings_does_not_ask_for_compression(client: ApplicationClient) -> None:
    array = np.arange(2.0**12).reshape(1, -1, 1)
    options = request({"input": array}, WINDOW_OF_ONE)
    response = client.post(POOL, content=options["content"], headers={"Accept-Encoding": "gzip, deflate"})
    assert "content-encoding" not in response.headers


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("stride", [[2, 1], "[2,1]", "2,1", "[2, 1]"])
def test_a_pair_is_a_list_or_text(client: ApplicationClient, stride: Any) -> None:
    array = np.arange(16.0).reshape(1, 4, 4, 1)
    options = request({"input": array}, {"mode": "max", "kernel_size": "2", "stride": stride, "ceil_mode": "false"})
    expected = MaxPool(kernel_size=2, stride=(2, 1)).forward(array)
    assert_identical(results(client.post(POOL, **options)), {"output": expected})


@pytest.mark.parametrize(
    "reserved",
    [
        {"sequence_id": 5, "sequence_start": True, "sequence_end": False},
        {"priority": 1, "timeout": 1000},
        {"headers": {"a": "b"}, "content_type": "np"},
        {"triton_enable_empty_final_response": True},
    ],
)
def test_what_belongs_to_the_protocol_is_no_parameter(client: ApplicationClient, reserved: dict[str, Any]) -> None:
    options = request({"input": np.ones((1, 2, 1))}, {**WINDOW_OF_ONE, **reserved}, model_name="pool_forward")
    content, _ = envelope(client.post(POOL, **options))
    assert not reserved.keys() & content["parameters"].keys()


def test_what_mlserver_says_of_a_tensor_is_read_over(client: ApplicationClient) -> None:
    own = {"content_type": "np", "headers": {}}
    tensor = {"name": "input", "shape": [1, 2, 1], "datatype": "FP32", "data": [1, 2], "parameters": own}
    body = {"inputs": [tensor], "outputs": [{"name": "output", "parameters": own}], "parameters": WINDOW_OF_ONE}
    assert results(client.post(POOL, json=body))["output"].reshape(-1).tolist() == [1, 2]


# ------------------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    "names", [["grad_weight"], ["grad_bias", "grad_input"], ["grad_bias", "grad_weight", "grad_input"]]
)
@pytest.mark.parametrize("binary", [True, False])
def test_outputs_select_the_gradients(client: ApplicationClient, names: list[str], *, binary: bool) -> None:
    options = request(CONV_BACKWARD.operands, CONV_BACKWARD.parameters, binary=binary, outputs=asked(*names))
    response = client.post("/v2/models/conv_backward/infer", **options)
    everything = computed(CONV_BACKWARD, CONV_BACKWARD.operands)
    assert_identical(results(response), {name: everything[name] for name in names})
    wrt = json.loads(envelope(response)[0]["parameters"]["wrt"])
    assert sorted(wrt) == sorted(name.removeprefix("grad_") for name in names)


@pytest.mark.parametrize(
    ("call", "name"), [pytest.param(call, name, id=f"{call}-{name}") for call in EXAMPLES for name in call.results]
)
def test_each_output_alone(client: ApplicationClient, call: Call, name: str) -> None:
    options = request(call.operands, call.parameters, outputs=asked(**{name: True}))
    expected = computed(call, call.operands)[name]
    assert_identical(results(client.post(path_of(call), **options)), {name: expected})


@pytest.mark.parametrize("names", [["indices"], ["indices", "output"], ["output", "indices"], ["output"]])
def test_outputs_select_the_indices(client: ApplicationClient, names: list[str]) -> None:
    array = np.arange(6.0).reshape(1, 6, 1)
    options = request({"input": array}, {"mode": "max", "kernel_size": 2}, outputs=asked(*names))
    returned: Any = MaxPool(kernel_size=2, return_indices=True).forward(array)
    expected = returned._asdict()
    assert_identical(results(client.post(POOL, **options)), {name: expected[name] for name in names})


def test_outputs_that_the_parameters_allow(client: ApplicationClient) -> None:
    array = np.arange(6.0).reshape(1, 6, 1)
    parameters = {"mode": "max", "kernel_size": 2, "return_indices": True}
    options = request({"input": array}, parameters, outputs=asked("output"))
    assert list(results(client.post(POOL, **options))) == ["output"]
    for wrt in (["weight", "input"], '["input","weight"]', "weight", "", None):
        options = request(
            CONV_BACKWARD.operands, {**CONV_BACKWARD.parameters, "wrt": wrt}, outputs=asked("grad_weight")
        )
        assert list(results(client.post("/v2/models/conv_backward/infer", **options))) == ["grad_weight"]


def test_no_outputs_are_those_of_the_parameters(client: ApplicationClient) -> None:
    array = np.arange(6.0).reshape(1, 6, 1)
    parameters = {"mode": "max", "kernel_size": 2, "return_indices": True}
    nothing: tuple[Any, ...] = ([], None)
    for outputs in nothing:
        response = client.post(POOL, **request({"input": array}, parameters, outputs=outputs))
        assert list(results(response)) == ["output", "indices"]


@pytest.mark.parametrize("default", [True, False, None])
@pytest.mark.parametrize("own", [True, False, None])
def test_an_output_s_own_flag_comes_first(client: ApplicationClient, default: bool | None, own: bool | None) -> None:
    parameters = WINDOW_OF_ONE if default is None else {**WINDOW_OF_ONE, "binary_data_output": default}
    outputs = asked("output") if own is None else asked(output=own)
    response = client.post(POOL, **request({"input": np.ones((1, 2, 1))}, parameters, outputs=outputs))
    assert (LENGTH in response.headers) == (bool(default) if own is None else own)


@pytest.mark.parametrize(
    ("model", "parameters", "outputs", "words"),
    [
        ("pool_forward", {**WINDOW_OF_ONE, "return_indices": False}, asked("indices"), "return_indices"),
        ("pool_forward", {"mode": "avg", "kernel_size": 1}, asked("indices"), "only with mode=max"),
        ("pool_forward", WINDOW_OF_ONE, asked("grad_input"), "expected output and indices"),
        ("pool_forward", WINDOW_OF_ONE, asked("output", "output"), "more than once"),
        ("conv_backward", {"wrt": ["input"]}, asked("grad_weight"), "wrt"),
        ("conv_backward", {"wrt": "input"}, asked("grad_weight"), "wrt"),
        ("conv_backward", {"wrt": '["input","bias"]'}, asked("grad_input", "grad_weight"), "wrt"),
        ("conv_backward", {"wrt": 5}, asked("grad_weight"), "wrt"),
    ],
)
def test_outputs_that_contradict_the_parameters(
    client: ApplicationClient, model: str, parameters: dict[str, Any], outputs: list[Any], words: str
) -> None:
    operands = CONV_BACKWARD.operands if model == "conv_backward" else {"input": np.ones((1, 2, 1))}
    text = refused(client, f"/v2/models/{model}/infer", 400, **request(operands, parameters, outputs=outputs))
    assert words in text
