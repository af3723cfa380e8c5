"""What /ops says for a page that draws layers: the axes of operands, and which parameters go with which mode."""

from __future__ import annotations

from typing import Any

import pytest

from service.operations.operation import Operation
from tests.clients import ApplicationClient
from tests.service.document import DOCUMENT, each_operation, listed_operations, whole_example

LAST, FIRST = ["N", "*spatial", "C"], ["N", "C", "*spatial"]
OUTPUT = ["N", "*spatial", "C_out"], ["N", "C_out", "*spatial"]
WEIGHT = ["*kernel", "C/groups", "C_out"], ["C_out", "C/groups", "*kernel"]
PATCHES = ["N", "windows", "kernel * C"], ["N", "C * kernel", "windows"]
VECTOR = ["C_out"], ["C_out"]
ONE: tuple[list[str], list[str]] = ([], [])
AXES: dict[str, dict[str, Any]] = {
    "conv_backward": {"grad_output": OUTPUT, "input": (LAST, FIRST), "weight": WEIGHT, "bias": VECTOR},
    "conv_transpose_backward": {
        "grad_output": (LAST, FIRST),
        "input": OUTPUT,
        "weight": WEIGHT,
        "bias": (["C"], ["C"]),
    },
    "pool_backward": {"grad_output": (LAST, FIRST), "input": (LAST, FIRST)},
    "unpool_backward": {"grad_output": (LAST, FIRST), "input": (LAST, FIRST), "indices": (LAST, FIRST)},
    "unfold_backward": {"grad_output": PATCHES, "input": (LAST, FIRST)},
    "fold_backward": {"grad_output": (LAST, FIRST), "input": PATCHES},
    "conv_integer_forward": {
        "input": (LAST, FIRST),
        "weight": WEIGHT,
        "input_zero_point": ONE,
        "weight_zero_point": VECTOR,
    },
}


@pytest.mark.parametrize("name", AXES)
def test_the_axes_of_operands_are_listed(client: ApplicationClient, name: str) -> None:
    listed = {operand["name"]: operand["axes"] for operand in listed_operations(client)[name]["operands"]}
    assert listed == {
        operand: {"channels_last": last, "channels_first": first} for operand, (last, first) in AXES[name].items()
    }


@each_operation
def test_forward_and_backward_say_the_same_of_their_operands(client: ApplicationClient, operation: Operation) -> None:
    listed = listed_operations(client)
    axes = {operand["name"]: operand["axes"] for operand in listed[operation.name]["operands"]}
    for operand in listed[operation.entry.forward.name]["operands"]:
        assert axes[operand["name"]] == operand["axes"]


@each_operation
def test_a_parameter_says_with_which_mode_alone_it_is_accepted(client: ApplicationClient, operation: Operation) -> None:
    properties = listed_operations(client)[operation.name]["parameters"]["properties"]
    example = whole_example(client, operation)
    said = {name: schema["x-only-with"] for name, schema in properties.items() if "x-only-with" in schema}
    if "mode" not in properties:
        assert said == {}
        return
    modes = properties.pop("mode")["enum"]
    found = {}
    for name in properties:
        answers = {mode: client.post(operation.path, json={**example, "mode": mode, name: 1}) for mode in modes}
        accepting = [mode for mode, response in answers.items() if "is a parameter only with" not in response.text]
        if accepting != modes:
            found[name] = {"mode": accepting}
    assert found == said
    assert found["ties"] == {"mode": ["max"]}


def test_what_only_the_list_says_is_not_in_the_schemas_of_requests() -> None:
    """There, it would be a type of its own in some generated clients."""

    def keys(value: Any) -> set[str]:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return (set(value) if isinstance(value, dict) else set()).union(*(keys(child) for child in children))

    assert "x-only-with" not in keys(DOCUMENT)
