"""The parameters that an answer says it was computed with: sent again they give the same, to the last bit."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients import ApplicationClient
from tests.comparisons import normal
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Declaration
from tests.service import payloads
from tests.service.calls import CALLS, call_of, declared
from tests.service.payloads import AnyArray, Call
from tests.strategies_conv import few_settings


def resolved(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    parameters: dict[str, Any] = json.loads(response.headers["convpool-parameters"])
    return parameters


def assert_resolved_is_enough(client: ApplicationClient, call: Call) -> dict[str, Any]:
    """Send a call, and send it again with nothing but what the first answer says; return that."""
    first = client.post(call.path, **payloads.npz_request(call.operands, call.parameters))
    parameters = resolved(first)
    second = client.post(call.path, **payloads.npz_request(call.operands, parameters))
    assert resolved(second) == parameters
    assert second.content == first.content
    return parameters


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=str)
@given(st.data())
@few_settings
def test_resolved_parameters_give_the_same_output(
    client: ApplicationClient, declaration: Declaration, data: st.DataObject
) -> None:
    assert_resolved_is_enough(client, call_of(declaration, data.draw(declaration.cases)))


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_resolved_parameters_give_the_same_gradients(client: ApplicationClient, call: Call) -> None:
    assert_resolved_is_enough(client, call)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_parameter_is_said(client: ApplicationClient, call: Call) -> None:
    """All that were given, and all that have a default other than null."""
    parameters = resolved(client.post(call.path, **payloads.npz_request(call.operands, call.parameters)))
    listed = {operation["path"]: operation for operation in client.get("/ops").json()["operations"]}
    schema = listed[call.path]["parameters"]["properties"]
    # the schema of a pooling has the parameters of the other modes too
    own = {field.name for field in declared(call).op.parameters()}
    defaults = {name for name, described in schema.items() if described.get("default") is not None}
    assert parameters.keys() >= call.parameters.keys() | (defaults & own)
    assert parameters.keys() <= schema.keys()


@pytest.mark.parametrize("encoder", ["nested", "flat", "base64", "npz", "deflated_npz", "multipart"])
@pytest.mark.parametrize("call", CALLS[::4], ids=str)
def test_every_form_of_answer_has_the_header(client: ApplicationClient, call: Call, encoder: str) -> None:
    expected = resolved(client.post(call.path, **payloads.npz_request(call.operands, call.parameters)))
    response = client.post(call.path, **payloads.ENCODERS[encoder](call.operands, call.parameters))
    assert resolved(response) == expected
    assert not any(name in expected for name in (*call.operands, "wrt", "dtype"))


# ----------------------------------------------------------------------------------- what is not a plain number of pads

LINE: AnyArray = normal(1, 4, 1, seed=1)
PLACES = np.arange(4).reshape(1, 4, 1)
PLAIN = {"data_format": "channels_last"}


def transposed(taps: int, **parameters: Any) -> Call:
    operands = {"input": LINE, "weight": normal(taps, 1, 1, seed=taps)}
    return Call("", "/conv_transpose/forward", operands, parameters, ("output",))


def unpooled(**parameters: Any) -> Call:
    return Call("", "/unpool/forward", {"input": LINE, "indices": PLACES}, parameters, ("output",))


@pytest.mark.parametrize("framework", [None, "torch", "tensorflow", "jax"])
@pytest.mark.parametrize("padding", ["same", "same_lower"])
@pytest.mark.parametrize(("taps", "stride"), [(1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (4, 1)])
def test_same_padding_of_a_transposed_convolution(
    client: ApplicationClient, padding: str, taps: int, stride: int, framework: str | None
) -> None:
    """Windows shorter than the stride do not fill n * stride elements: that many are added, which is output_padding."""
    more = {} if framework is None else {"framework": framework, **PLAIN}
    parameters = assert_resolved_is_enough(client, transposed(taps, padding=padding, stride=stride, **more))
    pads = parameters["padding"][0]
    added = np.asarray(parameters["output_padding"]).reshape(-1)
    assert 3 * stride + taps - sum(pads) + added.item() == 4 * stride


@pytest.mark.parametrize("framework", [None, "torch", "tensorflow", "onnx", "jax"])
@pytest.mark.parametrize(("taps", "stride", "added"), [(1, 1, 0), (1, 3, 2), (2, 3, 1), (3, 2, 0)])
def test_an_output_padding_up_to_the_stride_is_resolved(
    client: ApplicationClient, taps: int, stride: int, added: int, framework: str | None
) -> None:
    more = {} if framework is None else {"framework": framework, **PLAIN}
    parameters = assert_resolved_is_enough(client, transposed(taps, stride=stride, output_padding="to_stride", **more))
    assert np.asarray(parameters["output_padding"]).reshape(-1).tolist() == [added]


@pytest.mark.parametrize("framework", ["tensorflow", "jax"])
@pytest.mark.parametrize(("taps", "stride", "added"), [(1, 1, 0), (1, 3, 2), (2, 3, 1), (3, 2, 0)])
def test_the_output_padding_that_a_framework_adds_is_said(
    client: ApplicationClient, taps: int, stride: int, added: int, framework: str
) -> None:
    call = transposed(taps, stride=stride, framework=framework, **PLAIN)
    parameters = assert_resolved_is_enough(client, call)
    assert np.asarray(parameters["output_padding"]).reshape(-1).tolist() == [added]


@pytest.mark.parametrize(
    ("taps", "parameters"),
    [
        (2, {"output_size": 5}),
        (2, {"output_size": 4}),  # an odd sum of pads: the odd one at the start
        (2, {"output_size": 4, "padding": "same"}),  # at the end
        (2, {"output_size": 4, "padding": "same_lower"}),
        (2, {"output_size": 6}),  # more than all windows: zeros at the end
        (3, {"output_size": 12, "stride": 3, "padding": "same"}),
        (1, {"output_size": 9, "stride": 2}),
        (1, {"stride": 2, "padding": "same"}),
        (2, {"output_size": 20, "padding": 1}),
    ],
    ids=str,
)
def test_the_padding_that_onnx_derives_from_the_size(
    client: ApplicationClient, taps: int, parameters: dict[str, Any]
) -> None:
    assert_resolved_is_enough(client, transposed(taps, framework="onnx", **PLAIN, **parameters))


@pytest.mark.parametrize("padding", ["same", "same_lower"])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 2), (2, 3), (2, 2), (3, 1)])
def test_same_padding_of_an_unpooling(client: ApplicationClient, padding: str, kernel_size: int, stride: int) -> None:
    assert_resolved_is_enough(client, unpooled(kernel_size=kernel_size, stride=stride, padding=padding))


@pytest.mark.parametrize(
    "parameters",
    [
        {"output_size": 7},
        {"output_size": [7], "framework": "onnx", **PLAIN},
        {"output_size": 9, "kernel_size": 2, "framework": "onnx", **PLAIN},
        {"output_size": 9, "kernel_size": 2, "stride": 2, "padding": 1},
    ],
    ids=str,
)
def test_the_size_of_an_unpooling(client: ApplicationClient, parameters: dict[str, Any]) -> None:
    assert_resolved_is_enough(client, unpooled(**parameters))


@pytest.mark.parametrize(("rank", "ties"), [(1, "first"), (2, "first"), (3, "all")])
@pytest.mark.parametrize("more", [{"framework": "tensorflow"}, {"ties": "tensorflow"}], ids=str)
def test_the_rule_of_ties_is_said(client: ApplicationClient, more: dict[str, Any], rank: int, ties: str) -> None:
    parameters = {"mode": "max", "kernel_size": 2, **more}
    operands = {"grad_output": np.ones([1, *[2] * rank, 1]), "input": np.ones([1, *[4] * rank, 1])}
    call = Call("", "/pool/backward", operands, parameters, ("grad_input",))
    assert assert_resolved_is_enough(client, call)["ties"] == ties


@pytest.mark.parametrize("mode", ["max", "avg", "lp"])
@pytest.mark.parametrize("framework", [None, "torch", "tensorflow", "onnx", "jax"])
@pytest.mark.parametrize("windows", [{"output_size": 2}, {"output_size": [2, 7], "padding": [[0, 0], [0, 0]]}], ids=str)
def test_adaptive_windows(client: ApplicationClient, windows: dict[str, Any], framework: str | None, mode: str) -> None:
    """They have no stride and no kernel_size: what is said of them must not be refused beside output_size."""
    more = {} if framework is None else {"framework": framework}
    call = Call("", "/pool/forward", {"input": normal(2, 3, 4, 5)}, {"mode": mode, **windows, **more}, ("output",))
    parameters = assert_resolved_is_enough(client, call)
    assert parameters["output_size"] == windows["output_size"]
    assert not parameters.keys() & {"stride", "kernel_size"}


@pytest.mark.parametrize("wrt", [["weight"], ["bias", "input"]])
def test_the_gradients_that_were_asked_for_are_said(client: ApplicationClient, wrt: list[str]) -> None:
    body: dict[str, Any] = {"input": [[[1.0], [2.0]]], "weight": [[[1.0]]], "grad_output": [[[1.0], [1.0]]]}
    response = client.post("/conv/backward", **payloads.json_body({**body, "wrt": wrt}))
    parameters = json.loads(response.headers["convpool-parameters"])
    assert parameters["wrt"] == wrt
    again = client.post("/conv/backward", **payloads.json_body({**body, **parameters}))
    assert again.content == response.content
    assert set(response.json()) == {f"grad_{name}" for name in wrt}
