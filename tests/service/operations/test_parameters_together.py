"""Parameters that are right each for itself and wrong together: the error names the one to change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.calls import CALLS_BY_NAME
from tests.service.payloads import Call, json_body

POOL = CALLS_BY_NAME["avg_forward"]._replace(parameters={"mode": "avg"})
TRANSPOSED = CALLS_BY_NAME["conv_transpose_forward"]._replace(parameters={"groups": 2})
UNPOOL = CALLS_BY_NAME["unpool_forward"]._replace(parameters={})
UNFOLD = CALLS_BY_NAME["unfold_forward"]._replace(parameters={"kernel_size": 2})
FOLD = CALLS_BY_NAME["fold_forward"]
CONV = CALLS_BY_NAME["conv_forward"]._replace(parameters={"groups": 2})
ONNX = {"framework": "onnx", "data_format": "channels_last"}

OF_PARAMETERS: list[tuple[Call, dict[str, Any], str]] = [
    (POOL, {}, "kernel_size"),
    (POOL, {"kernel_size": None}, "kernel_size"),
    (POOL, {"stride": 2}, "kernel_size"),
    (POOL, {"kernel_size": 2, "output_size": 2}, "kernel_size"),
    (POOL, {"kernel_size": [2, 2], "output_size": [1, 1]}, "kernel_size"),
    (POOL, {"output_size": 2, "stride": 1}, "stride"),
    (POOL, {"output_size": 2, "stride": [2, 2], "framework": "onnx"}, "stride"),
    (POOL, {"output_size": 2, "padding": 1}, "padding"),
    (POOL, {"output_size": 2, "padding": [[0, 0], [0, 1]]}, "padding"),
    (POOL, {"output_size": 2, "padding": "same"}, "padding"),
    (POOL, {"output_size": 2, "dilation": 2}, "dilation"),
    (POOL, {"output_size": 2, "dilation": [1, 3]}, "dilation"),
    (POOL, {"output_size": 2, "ceil_mode": True}, "ceil_mode"),
    (TRANSPOSED, {"output_size": [7, 6], "output_padding": 1}, "output_padding"),
    (TRANSPOSED, {"output_size": [7, 6], "output_padding": [0, 1], "stride": 2}, "output_padding"),
    (UNPOOL, {}, "kernel_size"),
    (UNPOOL, {"stride": 2, "padding": 1}, "kernel_size"),
]
"""What is wrong whatever the operands are."""

OF_SHAPES: list[tuple[Call, dict[str, Any], str]] = [
    (POOL, {"output_size": [2, 2, 2]}, "output_size"),
    (POOL, {"output_size": [2, 2, 2]}, "output_size"),
    (TRANSPOSED, {"output_padding": 1}, "output_padding"),  # no stride and no dilation that it is less than
    (TRANSPOSED, {"output_padding": [0, 3], "stride": [4, 3]}, "output_padding"),
    (TRANSPOSED, {"output_padding": [0, 3], "dilation": [1, 3]}, "output_padding"),
    (TRANSPOSED, {"output_padding": 1, "stride": 2, "padding": "same"}, "output_padding"),
    (TRANSPOSED, {"output_padding": [1]}, "output_padding"),
    (TRANSPOSED, {"output_padding": 2, "stride": 2, **ONNX, "output_size": 9}, "output_padding"),
    (TRANSPOSED, {"output_size": 100}, "output_size"),
    (TRANSPOSED, {"output_size": [5, 4]}, "output_size"),
    (TRANSPOSED, {"output_size": [1, 1]}, "output_size"),
    (TRANSPOSED, {"output_size": [4, 4], "stride": 2, "padding": "same"}, "output_size"),
    (TRANSPOSED, {"output_size": [5, 3, 1]}, "output_size"),
    (TRANSPOSED, {"groups": 4}, "groups"),
    (TRANSPOSED, {"stride": [2, 2, 2]}, "stride"),
    (TRANSPOSED, {"padding": [1, 1, 1]}, "padding"),
    (UNPOOL, {"kernel_size": [2, 2, 2]}, "kernel_size"),
    (UNPOOL, {"output_size": [2, 2, 2]}, "output_size"),
    (UNPOOL, {"kernel_size": 3, "output_size": 4, **ONNX}, "output_size"),
    (UNFOLD, {"kernel_size": [2, 2, 2]}, "kernel_size"),
    (UNFOLD, {"dilation": [1, 1, 1]}, "dilation"),
    (FOLD, {"kernel_size": 9}, "output_size"),
    (FOLD, {"output_size": [1, 1, 1, 1]}, "output_size"),
    (FOLD, {"kernel_size": [2, 2, 2]}, "kernel_size"),
]
"""What is wrong for operands of these shapes."""

OF_OPERANDS: list[tuple[Call, dict[str, Any], str]] = [
    (CONV, {"padding": 6, "padding_mode": "reflect"}, "input"),  # of 6 elements
    (CONV, {"padding": [[0, 0], [0, 5]], "padding_mode": "reflect"}, "input"),
    (CONV, {"padding": 7, "padding_mode": "circular"}, "input"),
    (CONV, {"padding": "same", "padding_mode": "reflect", "dilation": 6}, "input"),
    (TRANSPOSED, {"padding": 3}, "input"),
    (FOLD, {"output_size": [9, 9]}, "input"),
    (FOLD, {"kernel_size": [3, 3]}, "input"),
    (UNFOLD, {"kernel_size": 7}, "input"),
]
"""What is wrong with operands, given the parameters."""

ENCODERS = ("flat", "multipart")


def identified(cases: list[tuple[Call, dict[str, Any], str]]) -> list[Any]:
    return [pytest.param(*case, id=f"{case[0].path}-{case[1]}") for case in cases]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("call", "more", "name"), identified([*OF_PARAMETERS, *OF_SHAPES, *OF_OPERANDS]))
def test_the_name_to_change_is_named(
    client: ApplicationClient, call: Call, more: dict[str, Any], name: str, encoder: str
) -> None:
    options = payloads.ENCODERS[encoder](call.operands, {**call.parameters, **more})
    document = payloads.refused(client, call.path, 422, **options)
    assert payloads.pointers(document) == [f"/{name}"]
    (error,) = document["errors"]
    assert error["got"]
    assert error["expected"]
    assert name in error["message"] or "padding" in error["message"]


@pytest.mark.parametrize(("call", "more", "name"), identified([*OF_PARAMETERS, *OF_SHAPES, *OF_OPERANDS]))
def test_a_shape_call_names_the_same(client: ApplicationClient, call: Call, more: dict[str, Any], name: str) -> None:
    shapes = {operand: list(array.shape) for operand, array in call.operands.items()}
    body = {**call.parameters, **more, "shapes": shapes}
    document = payloads.refused(client, call.path.replace("forward", "shape"), 422, **json_body(body))
    assert payloads.pointers(document) == [f"/shapes/{name}" if name in shapes else f"/{name}"]


@pytest.mark.parametrize(("call", "more", "name"), identified(OF_PARAMETERS))
def test_a_missing_operand_is_told_with_it(
    client: ApplicationClient, call: Call, more: dict[str, Any], name: str
) -> None:
    document = payloads.refused(client, call.path, 422, **json_body({**call.parameters, **more}))
    required = [operand for operand in call.operands if operand != "bias"]
    assert payloads.pointers(document) == [*[f"/{operand}" for operand in required], f"/{name}"]


@pytest.mark.parametrize(("call", "more", "name"), identified(OF_PARAMETERS))
def test_wrong_shapes_and_a_wrong_dtype_are_told_with_it(
    client: ApplicationClient, call: Call, more: dict[str, Any], name: str
) -> None:
    body = {**call.parameters, **more, "shapes": {"input": 5, "inputs": []}, "dtype": "float8"}
    document = payloads.refused(client, call.path.replace("forward", "shape"), 422, **json_body(body))
    assert {f"/{name}", "/shapes/input", "/shapes/inputs", "/dtype"} <= set(payloads.pointers(document))


def test_the_gradient_s_call_says_the_same(client: ApplicationClient) -> None:
    for call, more, name in OF_PARAMETERS:
        body = {**call.parameters, **more, "input": [[[1.0]]]}
        document = payloads.refused(client, call.path.replace("forward", "backward"), 422, **json_body(body))
        assert f"/{name}" in payloads.pointers(document)
        assert "/grad_output" in payloads.pointers(document)


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        (POOL, {"output_size": 2, "padding": 0, "dilation": 1, "ceil_mode": False}),
        (POOL, {"output_size": 2, "padding": "valid", "dilation": [1, 1], "stride": None, "kernel_size": None}),
        (TRANSPOSED, {"output_size": [5, 3], "output_padding": 0}),
        (UNPOOL, {"kernel_size": 2, "output_size": [6, 5]}),
    ],
    ids=str,
)
def test_a_default_that_is_written_out_is_no_conflict(
    client: ApplicationClient, call: Call, parameters: dict[str, Any]
) -> None:
    response = client.post(call.path, **payloads.flat_request(call.operands, {**call.parameters, **parameters}))
    assert response.status_code == 200, response.text
