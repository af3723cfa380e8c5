"""Parameters are strict, and the same in JSON, in a query string and in a form field."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from service.operations.catalogue import CATALOGUE, OPERATIONS
from tests.clients import ApplicationClient
from tests.comparisons import normal
from tests.service import payloads
from tests.service.calls import CALLS
from tests.service.payloads import JSON, NPZ, Operands, Options

IMAGE = normal(2, 7, 6, 4)
DENSE = normal(3, 2, 4, 6)
GROUPED = normal(3, 2, 2, 6)
POOL: Operands = {"input": IMAGE}
SMALLEST: dict[str, dict[str, Any]] = {"conv": {}, "max": {"mode": "max", "kernel_size": 2}}
SMALLEST |= {mode: {**SMALLEST["max"], "mode": mode} for mode in ("avg", "lp")}
SMALLEST["adaptive"] = {"mode": "avg", "output_size": 2}
MARKER = "marker-of-the-client, which is longer than what is echoed"
HUGE = 10**30

COMPLETE: dict[str, dict[str, Any]] = {
    "/conv/forward": {"input": [[[1.0]]], "weight": [[[1.0]]]},
    "/conv/backward": {"grad_output": [[[1.0]]], "input": [[[1.0]]], "weight": [[[1.0]]]},
    "/pool/forward": {"mode": "max", "kernel_size": 1, "input": [[[1.0]]]},
    "/pool/backward": {"mode": "max", "kernel_size": 1, "input": [[[1.0]]], "grad_output": [[[1.0]]]},
    "/conv/shape": {"shapes": {"input": [1, 1, 1], "weight": [1, 1, 1]}},
    "/pool/shape": {"mode": "max", "kernel_size": 1, "shapes": {"input": [1, 1, 1]}},
}
for example in CALLS:  # of the other layers; those above show how little is needed
    flat = {name: payloads.json_flat(array) for name, array in example.operands.items()}
    sizes = {name: list(array.shape) for name, array in example.operands.items() if name != "grad_output"}
    COMPLETE.setdefault(example.path, {**flat, **example.parameters})
    COMPLETE.setdefault(f"/{example.path.split('/')[1]}/shape", {"shapes": sizes, **example.parameters})
ways = ("json", "query", "form", "json_and_query")
each_way = pytest.mark.parametrize("way", ways)


def options_of(way: str, layer: str, given: dict[str, Any]) -> Options:
    """A forward request of a layer with the parameters written in one of the ways."""
    operands = POOL
    if layer == "conv":
        operands = {"input": IMAGE, "weight": GROUPED if given.get("groups") == 2 else DENSE}
    if way == "json":
        return payloads.nested_request(operands, given)
    if way == "form":
        return payloads.multipart_request(operands, given)
    if way == "query":
        return payloads.npz_request(operands, given)
    return {**payloads.nested_request(operands, {}), "params": payloads.as_texts(given)}


def path_of(layer: str) -> str:
    return "/conv/forward" if layer == "conv" else "/pool/forward"


def refused(client: ApplicationClient, layer: str, way: str, more: dict[str, Any], *statuses: int) -> dict[str, Any]:
    """Send a request with parameters of which one must be refused; return the problem."""
    given = {**SMALLEST[layer], **more}
    response = client.post(path_of(layer), **options_of(way, layer, given))
    return payloads.problem(response, *(statuses or (422,)), marker=MARKER.encode())


# ------------------------------------------------------------------------------------------------------- the good ones


@pytest.mark.parametrize(
    ("layer", "more"),
    [
        ("conv", {"stride": 2}),
        ("conv", {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 2]}),
        ("conv", {"padding": [[0, 1], [2, 3]], "groups": 2}),
        ("conv", {"padding": "same", "data_format": "channels_last"}),
        ("conv", {"padding": "same_lower"}),
        ("conv", {"padding": "valid"}),
        ("max", {"ceil_mode": True, "stride": 3, "ties": "all"}),
        ("max", {"kernel_size": [3, 1], "padding": [1, 0], "ceil_mode": False}),
        ("max", {"data_format": "channels_first"}),
        ("avg", {"count_include_pad": True, "padding": [1, 1]}),
        ("avg", {"divisor_override": -3, "padding": [[0, 1], [1, 0]]}),
        ("avg", {"dilation": 2}),
        ("lp", {"norm_type": 1.5, "padding": 1}),
        ("lp", {"norm_type": 3, "framework": "onnx"}),
        ("conv", {"padding": [1, 2], "padding_mode": "reflect"}),
    ],
    ids=str,
)
def test_every_way_gives_the_same(client: ApplicationClient, layer: str, more: dict[str, Any]) -> None:
    given = {**SMALLEST[layer], **more}
    answers = []
    for way in ways:
        response = client.post(path_of(layer), **options_of(way, layer, given))
        answers.append(payloads.results(response, ["output"])["output"])
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0], strict=True)


@pytest.mark.parametrize("text", ["2", " 2 ", "[2,2]", "[2, 2]", "%5B2%2C2%5D"])
def test_json_values_in_a_query_string(client: ApplicationClient, text: str) -> None:
    options = payloads.npz_request(POOL, {})
    del options["params"]
    response = client.post(f"/pool/forward?mode=max&kernel_size={text}", **options)
    np.testing.assert_array_equal(
        payloads.results(response, ["output"])["output"],
        IMAGE[:, :6].reshape(2, 3, 2, 3, 2, 4).max((2, 4)),
    )


@pytest.mark.parametrize("text", ["max", '"max"', "%22max%22"])
def test_a_word_may_stand_bare_or_as_a_json_string(client: ApplicationClient, text: str) -> None:
    options = payloads.npz_request(POOL, {})
    del options["params"]
    assert client.post(f"/pool/forward?mode={text}&kernel_size=2", **options).status_code == 200


def test_a_list_of_words_in_a_query_string(client: ApplicationClient) -> None:
    operands = {"grad_output": np.ones((1, 2, 1)), "input": np.ones((1, 3, 1)), "weight": np.ones((2, 1, 1))}
    response = client.post("/conv/backward", **payloads.npz_request(operands, {"wrt": ["bias", "weight"]}))
    assert list(payloads.results(response, ["grad_weight", "grad_bias"])) == ["grad_weight", "grad_bias"]


# ------------------------------------------------------------------------------------------------------- unknown names


@pytest.mark.parametrize(
    ("layer", "typo", "meant"),
    [
        ("conv", "strides", "stride"),
        ("conv", "Stride", "stride"),
        ("conv", "paddings", "padding"),
        ("conv", "group", "groups"),
        ("conv", "dataformat", "data_format"),
        ("conv", "dilatation", "dilation"),
        ("conv", "paddingmode", "padding_mode"),
        ("conv", "framwork", "framework"),
        ("max", "ceilmode", "ceil_mode"),
        ("max", "kernel", "kernel_size"),
        ("max", "tie", "ties"),
        ("avg", "include_pad", "count_include_pad"),
        ("avg", "divisor", "divisor_override"),
        ("lp", "norm", "norm_type"),
        ("max", "return_index", "return_indices"),
        ("max", "outputsize", "output_size"),
    ],
)
@each_way
def test_a_typo_is_an_error_with_a_suggestion(
    client: ApplicationClient, way: str, layer: str, typo: str, meant: str
) -> None:
    document = refused(client, layer, way, {typo: 1})
    assert f"/{typo}" in payloads.pointers(document)
    assert f"did you mean {meant}?" in document["detail"]


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        ("conv", "kernel_size", 2),
        ("conv", "mode", "max"),
        ("conv", "ceil_mode", False),
        ("conv", "wrt", ["input"]),  # a parameter of backward
        ("conv", "output_padding", 0),
        ("max", "groups", 1),
        ("max", "count_include_pad", False),
        ("max", "divisor_override", 2),
        ("max", "norm_type", 2),
        ("avg", "return_indices", True),
        ("lp", "count_include_pad", True),
        ("lp", "index_scheme", "plane"),
        ("conv", "output_size", 2),
        ("max", "padding_mode", "zeros"),
        ("avg", "ties", "first"),
        ("avg", "wrt", ["input"]),
        ("max", "", 1),
        ("max", "0", 1),
    ],
)
@each_way
def test_a_parameter_of_another_operation_or_mode_is_an_error(
    client: ApplicationClient, way: str, layer: str, name: str, value: Any
) -> None:
    document = refused(client, layer, way, {name: value})
    assert document["errors"]


@each_way
def test_all_errors_are_told_at_once(client: ApplicationClient, way: str) -> None:
    document = refused(client, "max", way, {"kernel": 2, "stride": 0, "ceil_mode": 1})
    assert sorted(payloads.pointers(document)) == ["/ceil_mode", "/kernel", "/stride"]


def test_the_paths_are_those_of_all_operations_and_layers() -> None:
    shapes = [f"/{layer.name}/shape" for layer in CATALOGUE]
    assert sorted(COMPLETE) == sorted([*shapes, *(operation.path for operation in OPERATIONS)])


@pytest.mark.parametrize("in_query", [False, True])
@pytest.mark.parametrize("path", list(COMPLETE))
def test_an_unknown_name_is_an_error_on_every_path(client: ApplicationClient, path: str, in_query: bool) -> None:
    assert client.post(path, **payloads.json_body(COMPLETE[path])).status_code == 200
    if in_query:
        options = {**payloads.json_body(COMPLETE[path]), "params": {"framwork": "torch"}}
    else:
        options = payloads.json_body({**COMPLETE[path], "framwork": "torch"})
    assert payloads.pointers(payloads.refused(client, path, 422, **options)) == ["/framwork"]


@each_way
@pytest.mark.parametrize("missing", ["mode", "kernel_size"])
def test_a_missing_parameter_is_named(client: ApplicationClient, way: str, missing: str) -> None:
    given = {name: value for name, value in SMALLEST["max"].items() if name != missing}
    document = payloads.problem(client.post("/pool/forward", **options_of(way, "max", given)), 422)
    assert f"/{missing}" in payloads.pointers(document)


# ------------------------------------------------------------------------------------------------------- wrong values

INTEGER_FAULTS = [0, -1, True, False, 2.5, "2", "two", {}, {"stride": 2}, [True, 1], [2.5, 1], ["2", 1], [None, 1]]
INTEGER_FAULTS += [[], [1, 1, 1], [[1, 1], [1, 1]], [0, 1], 2**31, 2**63, HUGE, -HUGE, [HUGE, 1], [[]], 1e300]
PADDING_FAULTS = [-1, True, 1.5, "SAMES", "full", "1.5", "", [-1, 0], [[1, 1]], [[1, 1, 1], [1, 1, 1]], [[1, 1], 1]]
PADDING_FAULTS += [[[1, -1], [0, 0]], [[1.5, 1], [0, 0]], [[True, 1], [0, 0]], [[[1, 1]], [[1, 1]]], HUGE, [], [[], []]]
FLAG_FAULTS = [0, 1, "yes", "True", "on", [], [True], 1.0, {}, -0.0]
WORD_FAULTS = [1, True, [], ["max", "avg"], {}, "MAX.", "maximum", "", 0.5]
FAULTS: list[tuple[str, str, Any]] = [
    *[("conv", "stride", value) for value in INTEGER_FAULTS],
    *[("max", "kernel_size", value) for value in INTEGER_FAULTS],
    *[("avg", "dilation", value) for value in INTEGER_FAULTS],
    *[("conv", "groups", value) for value in [0, -1, True, 1.5, "1.5", [1], [1, 1], HUGE, {}]],
    *[("conv", "padding", value) for value in PADDING_FAULTS],
    *[("max", "padding", value) for value in PADDING_FAULTS],
    *[("max", "ceil_mode", value) for value in FLAG_FAULTS],
    *[("avg", "count_include_pad", value) for value in FLAG_FAULTS],
    *[("avg", "divisor_override", value) for value in [0, True, False, 2.5, "two", [2], {}]],
    *[("max", "mode", value) for value in [*WORD_FAULTS, "l2", "average"]],
    *[("max", "ties", value) for value in [*WORD_FAULTS, "last", "first "]],
    *[("max", "return_indices", value) for value in FLAG_FAULTS],
    *[("max", "index_scheme", value) for value in [*WORD_FAULTS, "image ", "planes"]],
    *[("max", "storage_order", value) for value in [*WORD_FAULTS, "C", 0]],
    *[("adaptive", "output_size", value) for value in INTEGER_FAULTS],
    *[("lp", "norm_type", value) for value in [0, 0.5, -2, True, "2", [2], {}, "inf"]],
    *[("conv", "padding_mode", value) for value in [*WORD_FAULTS, "constant", "edge", "wrap"]],
    *[("conv", "framework", value) for value in [*WORD_FAULTS, "torchvision"]],
    *[("conv", "data_format", value) for value in [*WORD_FAULTS, "HWCN", "channels-last"]],
]
OTHERWISE_AS_TEXT = {"2", "1", "", "True"}  # strings in JSON; in a query string or a field values, and one not given


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [pytest.param(*fault, id=f"{fault[1]}-{str(fault[2])[:24]}") for fault in FAULTS],
)
@pytest.mark.parametrize("way", ["json", "query"])
def test_a_wrong_value_is_an_error(client: ApplicationClient, way: str, layer: str, name: str, value: Any) -> None:
    if way != "json" and isinstance(value, str) and value in OTHERWISE_AS_TEXT:
        value = json.dumps(value)
    document = refused(client, layer, way, {name: value}, 400, 422)
    if document["status"] == 422:
        assert any(pointer.startswith(f"/{name}") for pointer in payloads.pointers(document))
    else:
        assert "e+" in json.dumps(value) or abs(np.max(value)) >= 2**64  # what the JSON parser itself refuses


@pytest.mark.parametrize("name", ["data_format", "padding", "ceil_mode", "dilation", "mode", "kernel_size"])
@each_way
def test_null_is_no_value(client: ApplicationClient, way: str, name: str) -> None:
    assert f"/{name}" in payloads.pointers(refused(client, "max", way, {name: None}))


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "nan", "2x", "[2", "{", '"2', "0x2", "02", "+2"]
)
@pytest.mark.parametrize("name", ["stride", "kernel_size"])
@pytest.mark.parametrize("way", ["query", "form"])
def test_what_is_no_json_is_a_word_and_refused(client: ApplicationClient, way: str, name: str, text: str) -> None:
    document = refused(client, "max", way, {name: text})
    assert f"/{name}" in payloads.pointers(document)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "02", "+2", ".5", "0x2"])
def test_json_has_no_such_numbers(client: ApplicationClient, text: str) -> None:
    body = f'{{"input": [[[1.0], [2.0]]], "mode": "max", "kernel_size": {text}}}'.encode()
    payloads.refused(client, "/pool/forward", 400, **payloads.typed(JSON, body))


@pytest.mark.parametrize(
    "wrt", ["inputs", [], ["Input"], ["input", "input"], ["grad_input"], [["input"]], [0], True, {}]
)
@pytest.mark.parametrize("encoder", ["nested", "npz", "multipart"])
def test_wrt_is_a_list_of_operands(client: ApplicationClient, encoder: str, wrt: Any) -> None:
    operands = {"grad_output": np.ones((1, 2, 1)), "input": np.ones((1, 3, 1)), "weight": np.ones((2, 1, 1))}
    document = payloads.refused(client, "/conv/backward", 422, **payloads.ENCODERS[encoder](operands, {"wrt": wrt}))
    assert payloads.pointers(document)[0].startswith("/wrt")


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "value",
    [MARKER, [MARKER], {MARKER: MARKER}, [[MARKER, 1], [1, 1]], MARKER * 1000, [1] * 20_000, [[1] * 5] * 5000],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("name", ["stride", "padding", "mode", "ceil_mode", "data_format", "kernel_size", "ties"])
@pytest.mark.parametrize("way", ["json", "form"])
def test_a_value_is_never_repeated(client: ApplicationClient, way: str, name: str, value: Any) -> None:
    refused(client, "max", way, {name: value})


# ---------------------------------------------------------------------------------------------------------- given twice


@pytest.mark.parametrize("text", ["stride=2&stride=2", "stride=1&stride=2", "stride=2&str%69de=2"])
@pytest.mark.parametrize("encoder", ["nested", "npz", "multipart_with_query"])
def test_twice_in_the_query_string(client: ApplicationClient, encoder: str, text: str) -> None:
    options = payloads.ENCODERS[encoder](POOL, {} if encoder != "nested" else SMALLEST["max"])
    options.pop("params", None)
    rest = "" if encoder == "nested" else "mode=max&kernel_size=2&"
    document = payloads.refused(client, f"/pool/forward?{rest}{text}&stride=3", 422, **options)
    assert "/stride" in payloads.pointers(document)  # three values are a list of three, for two axes


def test_twice_among_the_fields(client: ApplicationClient) -> None:
    parts = [payloads.file_part("input", payloads.npy_bytes(IMAGE)), payloads.field_part("mode", "max")]
    parts += [payloads.field_part("kernel_size", "2")] * 3
    options = payloads.typed("multipart/form-data; boundary=limit", payloads.multipart_parts(parts))
    assert "/kernel_size" in payloads.pointers(payloads.refused(client, "/pool/forward", 422, **options))


@pytest.mark.parametrize("encoder", ["nested", "multipart"])
def test_in_the_query_string_and_in_the_body(client: ApplicationClient, encoder: str) -> None:
    options = {**payloads.ENCODERS[encoder](POOL, SMALLEST["max"]), "params": {"kernel_size": "2"}}
    assert "/kernel_size" in payloads.pointers(payloads.refused(client, "/pool/forward", 422, **options))


@pytest.mark.parametrize("encoder", ["npz", "multipart", "nested"])
def test_an_operand_is_no_parameter_of_the_query_string(client: ApplicationClient, encoder: str) -> None:
    options = payloads.ENCODERS[encoder](POOL, {})
    options["params"] = {"mode": "max", "kernel_size": "2", "input": "[[[1]]]"}
    assert "/input" in payloads.pointers(payloads.refused(client, "/pool/forward", 422, **options))


# ------------------------------------------------------------------------------------------------------------- operands


@pytest.mark.parametrize("encoder", ["nested", "flat", "base64", "npz", "multipart"])
@pytest.mark.parametrize("missing", ["input", "weight", "grad_output"])
def test_a_missing_operand_is_named(client: ApplicationClient, encoder: str, missing: str) -> None:
    operands = {"grad_output": np.ones((1, 2, 1)), "input": np.ones((1, 3, 1)), "weight": np.ones((2, 1, 1))}
    del operands[missing]
    document = payloads.refused(client, "/conv/backward", 422, **payloads.ENCODERS[encoder](operands, {}))
    assert f"/{missing}" in payloads.pointers(document)


@pytest.mark.parametrize("encoder", ["nested", "flat", "base64", "npz", "multipart"])
def test_an_operand_of_another_operation_is_an_error(client: ApplicationClient, encoder: str) -> None:
    operands = {**POOL, "weight": np.ones((2, 1, 1))}
    document = payloads.refused(client, "/pool/forward", 422, **payloads.ENCODERS[encoder](operands, SMALLEST["max"]))
    assert "/weight" in payloads.pointers(document)


@pytest.mark.parametrize("dtype", ["float128", "complex64", "object", "bool", "<f4", "Float32", "", MARKER, 1, []])
@pytest.mark.parametrize("form", ["nested", "flat"])
def test_a_dtype_in_json_is_one_of_the_list(client: ApplicationClient, form: str, dtype: Any) -> None:
    body: dict[str, Any] = {"input": [[[1.0], [2.0]]], "mode": "max", "kernel_size": 1, "dtype": dtype}
    if form == "flat":
        body = {**SMALLEST["max"], "input": {"dtype": dtype, "shape": [1, 2, 1], "data": [1.0, 2.0]}}
    response = client.post("/pool/forward", **payloads.json_body(body))
    document = payloads.problem(response, 422, marker=MARKER.encode())
    assert payloads.pointers(document) == ["/dtype" if form == "nested" else "/input/dtype"]


def test_an_npz_has_no_parameters_beside_its_operands(client: ApplicationClient) -> None:
    body = payloads.npz_bytes({**POOL, "stride": np.array(2)})
    options = payloads.typed(NPZ, body, params=payloads.as_texts(SMALLEST["max"]))
    assert "/stride" in payloads.pointers(payloads.refused(client, "/pool/forward", 422, **options))
