"""The parameter framework through HTTP: its defaults are taken, what is given wins, and the answer says which."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from service.operations.catalogue import CATALOGUE, OPERATIONS
from tests.clients import ApplicationClient
from tests.declarations import BY_NAME, DECLARATIONS
from tests.declarations.declaration import FRAMEWORKS
from tests.service import payloads
from tests.service.calls import CALLS, CALLS_BY_NAME, call_of
from tests.service.payloads import AnyArray, json_body

WAYS = ("json", "query", "form", "json_and_query")
each_way = pytest.mark.parametrize("way", WAYS)
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)

FIRST, LAST = "channels_first", "channels_last"
# Sizes that are the same in either layout, so that no layout is refused and every one is another computation.
LAYER = {declared.name: call_of(declared, declared.same_in_both_layouts)[1:4] for declared in DECLARATIONS}
IMAGES = LAYER["avg"][1]
LAYER["adaptive"] = ("/pool/forward", IMAGES, {"mode": "avg", "output_size": 3})


def defaults(layer: str, framework: str) -> dict[str, Any]:
    """What a framework computes with where nothing is said, written out from its own documentation."""
    if layer != "adaptive":
        return BY_NAME[layer].defaults(framework)
    return {name: value for name, value in BY_NAME["avg"].defaults(framework).items() if name != "stride"}


# A framework that does not have an op says nothing of what its layout would be there.
DEFAULTS = [
    *[(declared.name, framework) for declared in DECLARATIONS for framework in declared.frameworks],
    *[("adaptive", framework) for framework in FRAMEWORKS],
]
each_default = pytest.mark.parametrize(("layer", "framework"), DEFAULTS)


def send(client: ApplicationClient, way: str, path: str, operands: dict[str, AnyArray], given: Any) -> httpx.Response:
    """A call with its parameters written in one of the ways."""
    if way == "json":
        options = payloads.flat_request(operands, given)
    elif way == "form":
        options = payloads.multipart_request(operands, given)
    elif way == "query":
        options = payloads.npz_request(operands, given)
    else:
        options = {**payloads.base64_request(operands, {}), "params": payloads.as_texts(given)}
    options["headers"] = {**options.get("headers", {}), "Accept": payloads.NPZ}
    return client.post(path, **options)


def resolved(response: httpx.Response) -> dict[str, Any]:
    """What the answer says that it was computed with; lists of equal values are the one value."""
    assert response.status_code == 200, response.text
    parameters = json.loads(response.headers["convpool-parameters"])
    return {name: _one(value) for name, value in parameters.items()}


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value and all(one == value[0] for one in value) else value


@pytest.mark.one_in(3)
@each_default
@each_way
def test_the_defaults_of_a_framework(client: ApplicationClient, way: str, layer: str, framework: str) -> None:
    path, operands, given = LAYER[layer]
    response = send(client, way, path, operands, {**given, "framework": framework})
    said = resolved(response)
    expected = defaults(layer, framework)
    assert said["framework"] == framework
    assert {name: said.get(name) for name in expected} == expected
    written_out = send(client, way, path, operands, {**given, **expected})
    assert response.content == written_out.content
    shapes = {name: list(array.shape) for name, array in operands.items()}
    predicted = client.post(
        path.replace("forward", "shape"), **json_body({**given, "framework": framework, "shapes": shapes})
    )
    assert predicted.json()["parameters"] == json.loads(response.headers["convpool-parameters"])


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize("framework", [{}, {"framework": None}], ids=["absent", "null"])
def test_without_a_framework_the_defaults_are_the_service_s_own(
    client: ApplicationClient, layer: str, framework: dict[str, None]
) -> None:
    path, operands, given = LAYER[layer]
    said = resolved(send(client, "json", path, operands, {**given, **framework}))
    own = {"data_format": LAST, "stride": 2, "count_include_pad": False, "index_scheme": "plane", "output_padding": 0}
    expected = {name: value for name, value in own.items() if name in defaults(layer, "torch")}
    assert "framework" not in said
    assert {name: said[name] for name in expected} == expected


OTHERS: dict[str, Any] = {
    "data_format": (FIRST, LAST),
    "stride": (1, 2, 3),
    "count_include_pad": (True, False),
    "index_scheme": ("plane", "image", "tensor"),
    "ties": ("first", "all", "split"),
    "output_padding": (0, 2, 4),
}


@pytest.mark.one_in(5)
@each_default
@pytest.mark.parametrize("way", ["json", "query", "form"])
def test_what_is_given_wins(client: ApplicationClient, way: str, layer: str, framework: str) -> None:
    """Also where it is the value that holds without any framework."""
    path, operands, given = LAYER[layer]
    for name in defaults(layer, framework):
        for value in OTHERS[name]:
            response = send(client, way, path, operands, {**given, name: value, "framework": framework})
            assert resolved(response)[name] == value, name
            rest = {other: one for other, one in defaults(layer, framework).items() if other != name}
            written_out = send(client, way, path, operands, {**given, **rest, name: value})
            assert response.content == written_out.content, name


@each_framework
def test_ties_over_three_axes(client: ApplicationClient, framework: str) -> None:
    """Every tied maximum gets the whole gradient in TensorFlow's kernel for three axes, and there alone."""
    operands = {"grad_output": np.ones((1, 1, 1, 1, 1)), "input": np.ones((1, 2, 2, 2, 1))}
    given = {"mode": "max", "kernel_size": 2, "framework": framework, "data_format": LAST}
    response = send(client, "query", "/pool/backward", operands, given)
    (gradient,) = payloads.results(response, ["grad_input"]).values()
    assert gradient.sum() == (8 if framework == "tensorflow" else 1)
    assert resolved(response)["ties"] == ("all" if framework == "tensorflow" else "first")


def test_onnx_takes_the_padding_from_the_size(client: ApplicationClient) -> None:
    """Of an odd sum the larger half comes first, and zeros follow where the windows do not reach."""
    operands = {"input": np.array([1.0, 2.0]).reshape(1, 1, 2), "weight": np.array([1.0, 10.0]).reshape(1, 1, 2)}
    full = [1.0, 12.0, 20.0]
    for size, expected in ((3, full), (2, full[1:]), (1, full[1:2]), (5, [*full, 0.0, 0.0])):
        given = {"framework": "onnx", "output_size": [size]}
        response = send(client, "json", "/conv_transpose/forward", operands, given)
        assert payloads.results(response, ["output"])["output"].reshape(-1).tolist() == expected
    response = send(client, "json", "/conv_transpose/forward", operands, {"framework": "torch", "output_size": [2]})
    assert payloads.pointers(payloads.problem(response, 422)) == ["/output_size"]


@pytest.mark.parametrize("way", ["json", "query"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [1, 2, 13, 20, 130, 200]),
        ({"output_padding": 0}, [2, 13, 20, 130, 200]),
        ({"output_padding": [0]}, [2, 13, 20, 130, 200]),
        ({"output_padding": 1}, [1, 2, 13, 20, 130, 200]),
    ],
)
def test_a_given_output_padding_sets_the_size_of_same_in_keras(
    client: ApplicationClient, way: str, given: dict[str, Any], expected: list[float]
) -> None:
    operands = {"input": np.array([[[1.0], [10.0], [100.0]]]), "weight": np.array([[[1.0]], [[2.0]], [[3.0]]])}
    parameters = {"framework": "tensorflow", "padding": "same", "stride": 2, **given}
    response = send(client, way, "/conv_transpose/forward", operands, parameters)
    assert payloads.results(response, ["output"])["output"].reshape(-1).tolist() == expected
    again = send(client, way, "/conv_transpose/forward", operands, json.loads(response.headers["convpool-parameters"]))
    assert again.content == response.content


@pytest.mark.parametrize("layer", ["max", "avg", "lp"])
def test_null_is_not_given_however_many_parameters_are_written(client: ApplicationClient, layer: str) -> None:
    """Clients that write all of them too: a stride of null is that of the framework."""
    path, operands, given = LAYER[layer]
    said = json.loads(
        send(client, "json", path, operands, {**given, "framework": "onnx"}).headers["convpool-parameters"]
    )
    every = {**said, "kernel_size": 2, "stride": None, "output_size": None, "divisor_override": None}
    if layer != "avg":
        del every["divisor_override"]
    assert resolved(send(client, "json", path, operands, every))["stride"] == 1


# ----------------------------------------------------------------------------------------------------- wrong frameworks

WRONG: list[Any] = ["torchvision", "torch ", "", 1, True, ["torch", "jax"], {"torch": 1}, 0.5]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("layer", LAYER)
def test_a_framework_that_is_none_of_them(client: ApplicationClient, layer: str, value: Any) -> None:
    path, operands, given = LAYER[layer]
    for way in WAYS:
        if way != "json" and isinstance(value, str):
            value = value or "-"  # an empty value in a query string or a form says nothing
        response = send(client, way, path, operands, {**given, "framework": value})
        document = payloads.problem(response, 422)
        assert payloads.pointers(document) == ["/framework"]
        assert document["errors"][0]["expected"] == "one of torch, tensorflow, onnx, jax"


def test_every_path_knows_the_parameter(client: ApplicationClient) -> None:
    paths = []
    for call in CALLS:
        response = client.post(call.path, **payloads.npz_request(call.operands, {**call.parameters, "framework": "mx"}))
        assert payloads.pointers(payloads.problem(response, 422)) == ["/framework"]
        shape_path = f"/{call.path.split('/')[1]}/shape"
        response = client.post(shape_path, **json_body({**call.parameters, "framework": "mx", "shapes": {}}))
        assert "/framework" in payloads.pointers(payloads.problem(response, 422))
        paths += [call.path, shape_path]
    assert set(paths) == {operation.path for operation in OPERATIONS} | {f"/{layer.name}/shape" for layer in CATALOGUE}


def test_the_layout_of_a_framework_is_that_of_errors(client: ApplicationClient) -> None:
    """Whoever says framework=torch and sends channels-last images is told which layout was meant."""
    call = CALLS_BY_NAME["conv_forward"]
    response = client.post("/conv/forward", **payloads.npz_request(call.operands, {"framework": "torch", "groups": 2}))
    document = payloads.problem(response, 422)
    assert "groups=2" in document["detail"]
    response = client.post(
        "/pool/forward", **payloads.npz_request({"input": np.ones((2, 2))}, {**LAYER["max"][2], "framework": "torch"})
    )
    assert "(N, C, *spatial)" in payloads.problem(response, 422)["detail"]
