"""The same call for each value of a parameter, side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from service.operations.catalogue import CATALOGUE
from tests.browser.playground.bare import Bare, array_of, tensor

FRAMEWORKS = ["torch", "tensorflow", "onnx", "jax"]
PAGE = Path(__file__).parents[3] / "docs" / "where-frameworks-disagree.md"

Arrays = dict[str, np.ndarray[Any, Any]]


def integers(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).integers(-3, 4, shape).astype(np.float64)


def opened(bare: Bare, op: str, parameters: dict[str, Any], operands: Arrays, by: str = "") -> None:
    tensors = {name: tensor(array) for name, array in operands.items()}
    bare.open(
        "compare", "Compare", {"op": op, "parameters": parameters, "tensors": tensors, "by": by, "view": "compare"}
    )
    bare.settled()


def computed(op: str, parameters: dict[str, Any], operands: Arrays, result: str = "output") -> np.ndarray[Any, Any]:
    layer = next(layer for layer in CATALOGUE if layer.name == op)
    parameters = {"data_format": "channels_last", **parameters}
    instance = layer.ops[parameters.pop(layer.selector) if layer.selector else ""](**parameters)
    if result.startswith("grad_"):
        gradients = instance.backward(**operands)
        return np.asarray(getattr(gradients, result, gradients))
    forward = instance.forward(**{name: array for name, array in operands.items() if name != "grad_output"})
    return np.asarray(getattr(forward, result, forward))


def outlined(bare: Bare, value: Any) -> list[int]:
    cells = bare.page.locator(f'.compare-column[data-value="{value}"] .different')
    return sorted(int(index) for index in cells.evaluate_all("cells => cells.map(cell => cell.dataset.index)"))


def shown(bare: Bare, value: Any) -> dict[int, float]:
    cells = bare.page.locator(f'.compare-column[data-value="{value}"] [data-index]')
    pairs = cells.evaluate_all("cells => cells.map(cell => [Number(cell.dataset.index), Number(cell.dataset.value)])")
    return dict(pairs)


def words(bare: Bare, value: Any) -> str:
    return bare.page.locator(f'.compare-column[data-value="{value}"]').inner_text()


def check(bare: Bare, expected: dict[Any, np.ndarray[Any, Any]], first: Any) -> None:
    """Every number, and which cells are outlined."""
    for value, array in expected.items():
        assert shown(bare, value) == dict(enumerate(array.ravel().tolist()))
        different = array.shape == expected[first].shape and array != expected[first]
        assert outlined(bare, value) == np.flatnonzero(different).tolist()


@pytest.mark.parametrize(
    ("op", "parameters", "operands"),
    [
        ("pool", {"mode": "avg", "kernel_size": 3, "stride": 2, "padding": 1}, {"input": integers(1, 5, 5, 2)}),
        ("pool", {"mode": "max", "kernel_size": 2, "stride": 2}, {"input": integers(2, 4, 4, 1)}),
        ("conv", {"padding": 1}, {"input": integers(1, 4, 4, 1), "weight": integers(3, 3, 1, 1)}),
        ("conv_transpose", {"stride": 3}, {"input": integers(1, 3, 1), "weight": integers(2, 1, 1)}),
        ("pool", {"mode": "avg", "kernel_size": 2}, {"input": integers(1, 4, 4, 1)}),
    ],
)
def test_frameworks_are_compared_with_the_first(
    bare: Bare, op: str, parameters: dict[str, Any], operands: Arrays
) -> None:
    opened(bare, op, parameters, operands)
    expected = {name: computed(op, parameters | {"framework": name}, operands) for name in FRAMEWORKS}
    check(bare, expected, "torch")
    for name in FRAMEWORKS[1:]:
        first, other = expected["torch"], expected[name]
        if first.shape != other.shape:
            sizes = [" \u00d7 ".join(map(str, array.shape)) for array in (other, first)]
            assert f"{sizes[0]} instead of {sizes[1]}" in words(bare, name)
        elif count := int(np.sum(first != other)):
            assert f"{name} differs in {count} of {first.size} cells" in words(bare, name)
        else:
            assert f"The same {first.size} numbers" in words(bare, name)


def test_the_default_that_differs_is_named_with_the_section_that_rules_it(bare: Bare) -> None:
    opened(bare, "pool", {"mode": "avg", "kernel_size": 3, "padding": 1, "stride": 1}, {"input": integers(1, 3, 3, 1)})
    assert "count_include_pad is false instead of true" in words(bare, "tensorflow")
    rows = bare.page.locator(".compare-defaults tbody tr")
    assert [cell.split() for cell in rows.locator("th, td:not(:last-child)").all_inner_texts()] == [
        ["count_include_pad"], ["true"], ["false"], ["false"], ["true"],
    ]  # fmt: skip
    assert rows.locator("a").get_attribute("href") == "docs/where-frameworks-disagree.md#average-pooling"
    expect(bare.page.locator(".compare-summary")).to_have_text("tensorflow and onnx differ from torch.")
    bare.look("compare")


def test_every_section_is_one_of_the_page(bare: Bare) -> None:
    sections = bare.evaluate("async () => (await import('/playground/compare.js')).SECTIONS")
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(sections.values()) <= anchors
    known = bare.evaluate("context => fetch('/ops').then((answer) => answer.json())")["operations"]
    compared = {name for operation in known for name in operation["parameters"]["properties"]} - {"wrt"}
    assert set(sections) == compared


def test_rules_of_ties_stand_side_by_side(bare: Bare) -> None:
    """The gradient of a maximum that two cells share, with a gradient of the user's own."""
    operands = {
        "input": np.array([1.0, 3, 3, 1, 3, 3, 0, 0, 0]).reshape(1, 3, 3, 1),
        "grad_output": np.array([2.0, 5, 7, 11]).reshape(1, 2, 2, 1),
    }
    parameters = {"mode": "max", "kernel_size": 2, "stride": 1}
    opened(bare, "pool", parameters, operands, "ties:grad_input")
    rules = ["first", "all", "split", "tensorflow"]
    expected = {rule: computed("pool", parameters | {"ties": rule}, operands, "grad_input") for rule in rules}
    assert (expected["first"] != expected["split"]).any()
    check(bare, expected, "first")
    assert bare.page.locator(".compare-column").count() == len(rules)  # each rule once, under one name
    different = bare.page.locator('.compare-column[data-value="split"] .different').first
    assert different.inner_text().endswith(", different")
    bare.look("compare-ties")


def test_the_users_own_value_is_what_others_are_compared_with(bare: Bare) -> None:
    operands = {"input": integers(1, 4, 4, 1), "weight": integers(3, 3, 1, 1)}
    parameters = {"padding": 1, "padding_mode": "reflect"}
    opened(bare, "conv", parameters, operands, "padding_mode")
    modes = ["zeros", "reflect", "replicate", "circular"]
    check(bare, {mode: computed("conv", parameters | {"padding_mode": mode}, operands) for mode in modes}, "reflect")
    assert outlined(bare, "zeros")
    assert "The others are compared with this one." in words(bare, "reflect")


def test_a_value_that_is_refused_is_said_in_its_place(bare: Bare) -> None:
    operands = {"input": integers(1, 1, 1, 1), "weight": integers(3, 3, 1, 1)}
    opened(bare, "conv", {"padding": 1}, operands, "padding_mode")
    check(bare, {"zeros": computed("conv", {"padding": 1}, operands)}, "zeros")
    assert "reflect" in words(bare, "reflect")
    assert bare.page.locator('.compare-column[data-value="reflect"] .trouble').inner_text()
    expect(bare.page.locator(".compare-summary")).to_contain_text("The service refuses reflect")


def test_what_is_compared_is_chosen_by_hand(bare: Bare) -> None:
    parameters = {"mode": "max", "kernel_size": 2, "stride": 1, "padding": 1}
    operands = {"input": integers(1, 3, 3, 1)}
    opened(bare, "pool", parameters, operands)
    bare.page.select_option("[name=by]", "ceil_mode")
    bare.wait("panel.question.by === 'ceil_mode'")
    bare.page.select_option("[name=of]", "grad_input")
    bare.wait("panel.question.result === 'grad_input'")
    assert bare.evaluate("context.state.by") == "ceil_mode:grad_input"
    ones = np.ones((1, 4, 4, 1))
    expected = computed("pool", parameters, operands | {"grad_output": ones}, "grad_input")
    check(bare, {"false": expected, "true": expected}, "false")
    assert "Its grad_output is all ones" in words(bare, "true")
    bare.page.select_option("[name=of]", "indices")
    bare.wait("panel.question.result === 'indices'")
    bare.page.select_option("[name=by]", "framework")
    bare.wait("panel.question.by === 'framework'")
    more = {"return_indices": True}
    indices = {
        name: computed("pool", parameters | more | {"framework": name}, operands, "indices") for name in FRAMEWORKS
    }
    check(bare, indices, "torch")


def test_a_change_of_the_layer_asks_again_and_the_newest_wins(bare: Bare) -> None:
    operands = {"input": integers(1, 4, 4, 1), "weight": integers(3, 3, 1, 1)}
    opened(bare, "conv", {}, operands, "padding_mode")
    bare.evaluate("void context.change({ parameters: { padding: 2 } })")
    bare.evaluate("context.change({ parameters: { padding: 1 } })")
    bare.settled()
    modes = ["zeros", "reflect", "replicate", "circular"]
    check(bare, {mode: computed("conv", {"padding": 1, "padding_mode": mode}, operands) for mode in modes}, "zeros")
    before = bare.evaluate("context.drawings")
    bare.evaluate("context.change({ cell: 'output:1' })")
    assert bare.evaluate("context.drawings") == before + 1  # nothing that it depends on
    assert not bare.evaluate("panel.busy")


def test_numbers_that_are_no_numbers_are_compared_as_such(bare: Bare) -> None:
    one, other = tensor([1.0, np.nan, -0.0, np.inf, 2]), tensor([1.0, np.nan, 0.0, -np.inf, 3])
    script = """async ([one, other]) => {
      const { differences } = await import("/playground/compare.js");
      return [...differences(one, other)];
    }"""
    assert bare.evaluate(script, [one, other]) == [3, 4]
    assert array_of(one).shape == (5,)
