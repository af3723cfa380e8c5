"""Values as other programs write them: accepted, or refused with a hint; and errors that name the cause."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from service.codecs.text import NOT_GIVEN, parse_text_parameters
from tests.clients import ApplicationClient
from tests.service import payloads

IMAGE = np.arange(32.0).reshape(1, 4, 4, 2)


def pooled(client: ApplicationClient, query: str) -> Any:
    options = payloads.typed("application/x-npy", payloads.npy_bytes(IMAGE))
    options["headers"] = {**options.get("headers", {}), "Accept": "application/json"}
    return client.post(f"/pool/forward?{query}", **options)


def resolved(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text[:300]
    parameters: dict[str, Any] = json.loads(response.headers["Convpool-Parameters"])
    return parameters


def sent(client: ApplicationClient, path: str, **body: Any) -> Any:
    return client.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def only_error(response: Any) -> dict[str, str]:
    (error,) = payloads.problem(response, 422)["errors"]
    found: dict[str, str] = error
    return found


# ---------------------------------------------------------------------------------------- a query string, a form


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, [2, 3]) for text in ("[2,3]", "2,3", "2, 3", "(2,3)", "(2, 3)", "[2, 3]", "2,3,")],
        *[(text, [2]) for text in ("[2]", "(2,)", "2,")],
        ("input,weight", ["input", "weight"]),
        ("True", True),
        ("False", False),
        ("true", True),
        ("same", "same"),
        ("", NOT_GIVEN),
        ("None", NOT_GIVEN),
        ("2.0", 2.0),
        ("[[0,1],[0,1]]", [[0, 1], [0, 1]]),
        ("(2", "(2"),
        ("2;3", "2;3"),
    ],
)
def test_the_value_of_a_text(text: str, value: Any) -> None:
    assert parse_text_parameters([("name", text)]) == {"name": value}


@pytest.mark.parametrize("name", ["stride", "stride[]"])
def test_a_name_that_comes_several_times_is_a_list(name: str) -> None:
    assert parse_text_parameters([(name, "2"), ("other", "x"), (name, "3")]) == {"stride": [2, 3], "other": "x"}
    assert parse_text_parameters([("wrt[]", "input")]) == {"wrt": ["input"]}


@pytest.mark.parametrize(
    "query", ["kernel_size=2&kernel_size=3", "kernel_size=2,3", "kernel_size=(2, 3)", "kernel_size[]=2&kernel_size[]=3"]
)
def test_a_list_in_a_query_string_or_a_form(client: ApplicationClient, query: str) -> None:
    found = resolved(pooled(client, f"mode=max&stride=1&{quote(query, safe='=&')}"))
    assert found["kernel_size"] == [2, 3]
    parts = [payloads.file_part("input", payloads.npy_bytes(IMAGE)), payloads.field_part("mode", "max")]
    parts += [payloads.field_part(*field.split("=")) for field in query.split("&")]
    options = payloads.typed("multipart/form-data; boundary=limit", payloads.multipart_parts(parts))
    assert resolved(client.post("/pool/forward", **options))["kernel_size"] == [2, 3]


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("kernel_size=2&ceil_mode=True", "ceil_mode", True),
        ("kernel_size=2&ceil_mode=False", "ceil_mode", False),
        ("kernel_size=2&stride=", "stride", [2, 2]),
        ("kernel_size=2&stride=None", "stride", [2, 2]),
        ("kernel_size=2.0", "kernel_size", [2, 2]),
        ("kernel_size=[2]", "kernel_size", [2, 2]),
        ("kernel_size=2&data_format=NCHW", "data_format", "channels_first"),
        ("kernel_size=2&data_format=nhwc", "data_format", "channels_last"),
        ("kernel_size=2&framework=pytorch", "framework", "torch"),
        ("kernel_size=2&padding=VALID", "padding", [[0, 0], [0, 0]]),
        ("kernel_size=3&stride=1&padding=SAME_UPPER", "padding", [[1, 1], [1, 1]]),
        ("kernel_size=2&stride=1&padding=SAME_LOWER", "padding", [[1, 0], [1, 0]]),
    ],
)
def test_spellings_of_a_query_string(client: ApplicationClient, query: str, name: str, value: Any) -> None:
    assert resolved(pooled(client, f"mode=MAX&{query}"))[name] == value


def test_single_values_in_lists_as_r_writes_them(client: ApplicationClient) -> None:
    response = sent(client, "/pool/forward", mode=["max"], kernel_size=[2], input=IMAGE.tolist())
    assert resolved(response)["kernel_size"] == [2, 2]


# -------------------------------------------------------------------------------------- what came, and what to do


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("mode", "mean", '"mean"'),
        ("mode", ["max", "avg"], '["max", "avg"]'),
        ("data_format", "HWCN", '"HWCN"'),
        ("stride", "two", '"two"'),
        ("ceil_mode", "yes", '"yes"'),
        ("ties", "é\u200b", "a string of 2 characters"),  # the second one is not printable
        ("ties", "x" * 41, "a string of 41 characters"),
        ("ties", "x" * 40, f'"{"x" * 40}"'),
        ("kernel_size", [1] * 50, "a list of 50 values"),
    ],
)
def test_a_short_value_is_echoed(client: ApplicationClient, name: str, value: Any, got: str) -> None:
    body = {"mode": "max", "kernel_size": 2, "input": IMAGE.tolist(), name: value}
    error = only_error(sent(client, "/pool/forward", **body))
    assert (error["pointer"], error["got"]) == (f"/{name}", got if name != "kernel_size" else "50 entries")


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [("mode", "mean", "avg"), ("mode", "maxx", "max"), ("ties", "frist", "first"), ("padding", "sames", "same")],
)
def test_a_misspelt_word_is_told_the_right_one(client: ApplicationClient, name: str, value: str, meant: str) -> None:
    body = {"mode": "max", "kernel_size": 2, "input": IMAGE.tolist(), name: value}
    assert only_error(sent(client, "/pool/forward", **body))["message"].endswith(f"did you mean {meant}?")


NOTEBOOK = {"A_prev": "input", "W": "weight", "b": "bias", "pad": "padding", "grad_Y": "grad_output"}


@pytest.mark.parametrize(("name", "meant"), NOTEBOOK.items())
def test_the_notebooks_names_are_told_ours(client: ApplicationClient, name: str, meant: str) -> None:
    response = sent(client, "/conv/backward", **{name: 1})
    messages = {error["pointer"]: error["message"] for error in payloads.problem(response, 422)["errors"]}
    assert f"did you mean {meant}?" in messages[f"/{name}"]


def test_the_names_are_listed_once(client: ApplicationClient) -> None:
    body = {"mode": "max", "filter_size": 2, "prev_A": [[[1.0]]], "foo": 1, "bar": 2, "baz": 3}
    document = payloads.problem(sent(client, "/pool/forward", **body), 422)
    assert document["detail"].count("Known here") == 1
    assert (
        json.dumps(document["errors"]).count("count_include_pad") + json.dumps(document["errors"]).count("ceil_mode")
        <= 3
    )
    assert "did you mean kernel_size?" in document["detail"]


# ----------------------------------------------------------------------------------------- axes, layouts, scalars


@pytest.mark.parametrize(("axes", "shape"), [(2, (4, 4, 3)), (1, (4, 3)), (3, (4, 4, 4, 3))])
@pytest.mark.parametrize("path", ["/pool/forward", "/unfold/forward"])
def test_an_image_without_its_batch_axis_is_noticed(
    client: ApplicationClient, path: str, axes: int, shape: tuple[int, ...]
) -> None:
    body = {"kernel_size": 2, "input": np.ones(shape).tolist(), **({"mode": "max"} if "pool" in path else {})}
    error = only_error(sent(client, path, spatial_axes=axes, **body))
    assert error["pointer"] == "/input"
    assert f"spatial_axes={axes}" in error["message"]
    assert "batch axis" in error["message"]


def test_the_number_of_spatial_axes_is_told(client: ApplicationClient) -> None:
    assert resolved(pooled(client, "mode=max&kernel_size=2"))["spatial_axes"] == 2
    body = {"mode": "max", "kernel_size": 2, "shapes": {"input": [4, 4, 3]}}
    assert sent(client, "/pool/shape", **body).json()["parameters"]["spatial_axes"] == 1
    error = only_error(sent(client, "/pool/shape", spatial_axes=2, **body))
    assert error["pointer"] == "/shapes/input"


def test_a_kernel_size_for_each_axis_of_an_image_without_batch(client: ApplicationClient) -> None:
    body = {"mode": "max", "kernel_size": [2, 2], "input": np.ones((4, 4, 3)).tolist()}
    assert "batch axis is missing" in only_error(sent(client, "/pool/forward", **body))["message"]


def test_a_weight_with_an_axis_more_than_input(client: ApplicationClient) -> None:
    body = {"data_format": "channels_first", "input": [[[1, 2], [3, 4]]], "weight": [[[[1]]]]}
    message = only_error(sent(client, "/conv/forward", **body))["message"]
    assert "weight must have 3 axes" in message
    assert "as many as input; got 4 axes" in message
    assert "batch axis of input is missing, or weight has an axis too many" in message


@pytest.mark.parametrize(
    ("path", "input", "weight"),
    [
        ("/conv/forward", (1, 3, 8, 8), (5, 3, 2, 2)),
        ("/conv_transpose/forward", (1, 5, 8, 8), (5, 3, 2, 2)),
        ("/conv/forward", (2, 3, 9), (4, 3, 3)),
    ],
)
@pytest.mark.parametrize("given", ["channels_last", "channels_first"])
def test_the_layout_that_would_fit_is_named(
    client: ApplicationClient, path: str, input: tuple[int, ...], weight: tuple[int, ...], given: str
) -> None:
    other = "channels_first" if given == "channels_last" else "channels_last"
    operands = {"input": np.ones(input), "weight": np.ones(weight)}
    if given == "channels_first":  # lay them out the other way
        operands = {
            "input": np.moveaxis(operands["input"], 1, -1),
            "weight": np.moveaxis(operands["weight"], (0, 1), (-1, -2)),
        }
    body = {name: tensor.tolist() for name, tensor in operands.items()}
    error = only_error(sent(client, path, data_format=given, **body))
    assert error["message"].endswith(f"the shapes fit data_format={other}")
    assert sent(client, path, data_format=other, **body).status_code == 200


def test_shapes_that_fit_no_layout_get_no_such_hint(client: ApplicationClient) -> None:
    body = {"input": np.ones((1, 4, 4, 3)).tolist(), "weight": np.ones((2, 2, 2, 5)).tolist()}
    assert "fit data_format" not in only_error(sent(client, "/conv/forward", **body))["message"]


@pytest.mark.parametrize("mode", ["max", "avg", "lp"])
def test_backward_of_a_pool_says_what_the_stride_is(client: ApplicationClient, mode: str) -> None:
    body = {"mode": mode, "kernel_size": 2, "input": IMAGE.tolist(), "grad_output": np.ones((1, 3, 3, 2)).tolist()}
    assert "stride is not given, so it is kernel_size" in only_error(sent(client, "/pool/backward", **body))["message"]
    assert "stride is not given" not in only_error(sent(client, "/pool/backward", stride=2, **body))["message"]


def test_a_scalar_bias_is_told_how_it_is_written(client: ApplicationClient) -> None:
    body = {"input": [[[1]]], "weight": [[[1]]], "bias": 0.5}
    error = only_error(sent(client, "/conv/forward", **body))
    assert error["pointer"] == "/bias"
    assert "[0.5]" in error["message"]


def flat(dtype: str, *values: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1, len(values), 1], "data": list(values)}


def test_bare_zero_points_have_the_type_of_their_operand(client: ApplicationClient) -> None:
    body = {"input": flat("uint8", 7, 9), "weight": flat("int8", 2)}
    response = sent(client, "/conv_integer/forward", input_zero_point=5, weight_zero_point=-1, **body)
    assert response.json()["output"]["data"] == [6, 12]
    for value in (-1, 256, 0.5):
        assert (
            only_error(sent(client, "/conv_integer/forward", input_zero_point=value, **body))["pointer"]
            == "/input_zero_point"
        )


def test_a_zero_point_whose_type_nothing_tells_is_told_how_it_is_written(client: ApplicationClient) -> None:
    body = {
        "input": flat("uint8", 6),
        "weight": flat("int8", 1),
        "input_scale": 1,
        "weight_scale": 1,
        "output_scale": 1,
    }
    body |= {"input_zero_point": 0, "weight_zero_point": 0}
    error = only_error(sent(client, "/qlinear_conv/forward", output_zero_point=0, **body))
    assert '"shape": [], "data": [0]' in error["message"]
    response = sent(
        client, "/qlinear_conv/forward", output_zero_point={"dtype": "uint8", "shape": [], "data": [0]}, **body
    )
    assert response.json()["output"]["data"] == [6]
