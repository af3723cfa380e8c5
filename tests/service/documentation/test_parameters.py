"""What /openapi.json says of each parameter is what a request may hold."""

from __future__ import annotations

import re

from service.operations.operation import Operation
from tests.clients import ApplicationClient
from tests.service.document import (
    DOCUMENT,
    Documented,
    as_text,
    checked_by,
    each_call,
    each_operation,
    json_request,
    listed_operations,
    resolved,
)


@each_operation
def test_a_default_is_said_in_words(client: ApplicationClient, operation: Operation) -> None:
    listed = listed_operations(client)[operation.name]
    content = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"]
    in_json = resolved(content["application/json"]["schema"])
    for name, described in listed["parameters"]["properties"].items():
        text = in_json["properties"][name]["description"]
        assert "null" not in text.lower()
        if "default" not in described:
            assert "Default" not in text
            continue
        said = re.search(r" Default: (.*?)(?: \((.*)\))?\.$", text)
        assert said is not None, text
        default = described["default"]
        assert said[1] == ("not given" if default is None else as_text({name: default})[name])
        groups = re.findall(r"([^\s;]+) with framework=([\w ,]+)", said[2] or "")
        assert len({value for value, _ in groups}) == len(groups)  # frameworks of equal defaults are said together
        assert {framework: value for value, frameworks in groups for framework in re.split(", | or ", frameworks)} == {
            framework: as_text({name: defaults[name]})[name]
            for framework, defaults in listed["framework_defaults"].items()
            if defaults.get(name, default) != default
        }


def test_defaults_in_words_by_hand() -> None:
    of_conv = {each["name"]: each for each in DOCUMENT["paths"]["/conv/forward"]["post"]["parameters"]}
    assert of_conv["data_format"]["description"].endswith(
        "Default: channels_last (channels_first with framework=torch, onnx or jax)."
    )
    described = {each["name"]: each for each in DOCUMENT["paths"]["/pool/forward"]["post"]["parameters"]}
    assert described["stride"]["description"].endswith("Default: not given (1 with framework=onnx or jax).")
    assert described["index_scheme"]["description"].endswith(
        "Default: plane (image with framework=tensorflow; tensor with framework=onnx)."
    )


WORDS = {
    "mode": ["max", "avg", "lp"],
    "data_format": ["channels_last", "channels_first", "NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW"],
    "framework": ["torch", "tensorflow", "onnx", "jax", "pytorch", "tf", "keras"],
    "algorithm": ["auto", "direct", "fastest", "winograd", "fft"],
    "padding_mode": ["zeros", "reflect", "replicate", "circular"],
    "index_scheme": ["plane", "image", "tensor"],
    "storage_order": ["row_major", "column_major"],
    "ties": ["first", "all", "split", "tensorflow", "tf", "keras"],
}
FLAGS = {"ceil_mode", "return_indices", "count_include_pad"}
NUMBERS = {"groups": "integer", "spatial_axes": "integer", "divisor_override": "integer", "norm_type": "number"}
TEXTS = {
    "kernel_size": {"2": True, "[2,1]": True, "2,1": True, "two": False},
    "output_size": {"2": True, "[2,1]": True, "two": False},
    "stride": {"2": True, "[2,1]": True, "two": False},
    "dilation": {"2": True, "[2,1]": True, "two": False},
    "padding": {"2": True, "[[1,0],[0,1]]": True, "same": True, "full": False, "asame": False},
    "output_padding": {"1": True, "[1,0]": True, "to_stride": True, "same": False},
    "wrt": {'["input"]': True, "input": False},
}


@each_operation
def test_a_query_parameter_has_the_schema_of_its_values(operation: Operation) -> None:
    for parameter in DOCUMENT["paths"][operation.path]["post"]["parameters"]:
        name, schema = parameter["name"], resolved(parameter["schema"])
        if name in WORDS:
            assert schema["enum"] == WORDS[name]
            assert schema["type"] == "string"
        elif name in FLAGS:
            assert schema == {"type": "boolean"}
        elif name in NUMBERS:
            assert schema["type"] == NUMBERS[name]
        else:
            texts = TEXTS[name]
            if operation.entry.name == "fold" and name == "output_size":
                texts = {**texts, "2": False}  # the size of an image is a list
            for text, accepted in texts.items():
                assert checked_by(schema).is_valid(text) == accepted, (name, text)
        if "example" in parameter:
            checked_by(schema).validate(parameter["example"])


@each_call
def test_no_value_of_a_request_stands_for_nothing(call: Documented) -> None:
    """A parameter that is not given is left out; OpenAPI 3.0 has no type of null."""
    assert "null" not in str(call.described["requestBody"]) + str(call.described.get("parameters"))


@each_operation
def test_the_example_says_each_parameter_once(operation: Operation) -> None:
    """On the page the fields of the query and the body are sent together."""
    described = DOCUMENT["paths"][operation.path]["post"]
    assert not {each["name"] for each in described["parameters"]} & set(json_request(described))
