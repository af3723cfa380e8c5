"""Operands that fit after a change: of sizes, layout, groups, spatial axes, or the layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import BrowserContext, Page

from cnn_core import ConvpoolError
from cnn_core.ops.base import Op
from service.operations.catalogue import CATALOGUE, CatalogueEntry
from tests.browser.playground.modules import blank_page

Json = Any

LAYERS = {entry.name: entry for entry in CATALOGUE}
QUICK = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
CHANGED = """async ([state, all]) => {
  const states = [];
  for (const changes of all) {
    const { op = state.op } = changes;
    const { parameters, absent, ...others } = changes;
    if (parameters) others.parameters = { ...state.parameters, ...parameters };
    if (absent) others.tensors = { ...state.tensors, [absent]: null };
    state = await changed({ ...DEFAULTS, ...state }, layerOf(op), others, fetchExample);
    states.push(state);
  }
  return states;
}"""


@pytest.fixture(scope="module")
def page(context: BrowserContext, server_url: str) -> Iterator[Page]:
    with context.new_page() as page:
        yield blank_page(page, server_url, "service", "state", "fitting")


def changes(page: Page, *steps: Json, state: Json | None = None) -> list[Json]:
    """The states after each of the changes; with ``parameters`` those change and the others stay."""
    states: list[Json] = page.evaluate(CHANGED, [state or {}, [*steps]])
    return states


def shapes_of(state: Json) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor["shape"]) for name, tensor in state["tensors"].items()}


def array_of(tensor: Json) -> np.ndarray[Any, Any]:
    return np.array(tensor["data"]).astype(tensor["dtype"]).reshape(tensor["shape"])


def op_of(state: Json) -> tuple[CatalogueEntry, Op]:
    entry = LAYERS[state["op"]]
    op = entry.choose(state["parameters"])
    return entry, op(**{name: value for name, value in state["parameters"].items() if name != entry.selector})


def output_of(state: Json) -> np.ndarray[Any, Any]:
    """The output that cnn_core computes for a state."""
    entry, op = op_of(state)
    operands = [state["tensors"].get(operand.name) for operand in entry.operands]
    result = op.forward(*(None if one is None else array_of(one) for one in operands))  # type: ignore[attr-defined]
    return np.asarray(getattr(result, "output", result))


@pytest.mark.parametrize("name", LAYERS)
def test_another_op_is_that_of_its_example(page: Page, name: str) -> None:
    tensor = {"dtype": "float64", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4]}
    before = {"op": "other", "tensors": {"input": tensor, "grad_output": tensor}, "cell": "output:1", "item": 3}
    [state] = changes(page, {"op": name}, state=before)
    example = LAYERS[name].example
    assert {one: array_of(tensor).tolist() for one, tensor in state["tensors"].items()} | state["parameters"] == {
        **example, "spatial_axes": 2,
    }  # fmt: skip
    assert (state["op"], state["cell"], state["item"]) == (name, "", 0)
    output_of(state)


def test_what_is_given_with_an_op_is_taken(page: Page) -> None:
    tensors = {"input": {"dtype": "int8", "shape": [1, 2, 1], "data": [5, 6]}}
    step = {"op": "pool", "parameters": {"mode": "avg", "kernel_size": 2}, "tensors": tensors}
    [state] = page.evaluate(
        "(step) => changed(DEFAULTS, layerOf('pool'), step, fetchExample).then((state) => [state])", step
    )
    assert (state["parameters"], state["tensors"]) == (step["parameters"], tensors)
    [state] = changes(page, {"op": "pool", "parameters": {"mode": "avg", "data_format": "channels_first"}})
    assert state["parameters"] == {
        "mode": "avg", "kernel_size": 2, "stride": 1, "spatial_axes": 2, "data_format": "channels_first",
    }  # fmt: skip
    assert shapes_of(state) == {"input": (1, 1, 3, 3)}


# Layouts


def channels_first(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An operand, or an output, as it is laid out with channels_first."""
    if name == "weight":  # (*kernel, C/groups, C_out) to (C_out, C/groups, *kernel)
        return np.moveaxis(array, (-1, -2), (0, 1))
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def patches_first(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N, windows, kernel * C) to (N, C * kernel, windows), the kernel being 2 x 2."""
    items, windows, size = array.shape
    return array.reshape(items, windows, 4, size // 4).transpose(0, 3, 2, 1).reshape(items, size, windows)


@pytest.mark.parametrize("name", LAYERS)
def test_another_layout_is_the_same_layer(page: Page, name: str) -> None:
    sizes = [2, 2, 12] if name == "fold" else [2, 4, 3, 3]
    last, first, back = changes(
        page,
        {"op": name},
        {"sizes": {"input": sizes}},
        {"parameters": {"data_format": "channels_first"}},
        {"parameters": {"data_format": "NHWC"}},
    )[1:]
    assert back["tensors"] == last["tensors"]
    for operand, tensor in last["tensors"].items():
        moved = patches_first if name == "fold" else lambda array, operand=operand: channels_first(operand, array)
        assert np.array_equal(array_of(first["tensors"][operand]), moved(array_of(tensor)))
    output = output_of(last)
    expected = patches_first(output) if name == "unfold" else channels_first("output", output)
    assert np.array_equal(output_of(first), expected)


def test_a_frameworks_layout_is_taken_unless_one_is_given(page: Page) -> None:
    tensor = {"dtype": "float64", "shape": [1, 2, 3, 1], "data": [1, 2, 3, 4, 5, 6]}
    [opened] = changes(page, {"op": "conv"})
    opened["tensors"]["grad_output"] = tensor
    torch, tensorflow, given, ignored = changes(
        page,
        {"parameters": {"framework": "torch"}},
        {"parameters": {"framework": "tensorflow"}},
        {"parameters": {"framework": "onnx", "data_format": "channels_last"}},
        {"parameters": {"framework": "__proto__", "data_format": "toString"}},
        state=opened,
    )
    assert shapes_of(torch) == {
        "input": (1, 1, 3, 3),
        "weight": (1, 1, 2, 2),
        "bias": (1,),
        "grad_output": (1, 1, 2, 3),
    }
    for state in (tensorflow, given, ignored):
        assert state["tensors"] == opened["tensors"]


# Sizes


def steps(draw: st.DrawFn, state: Json) -> Json:
    """A change of a layer that is still possible after it."""
    entry, op = op_of(state)
    shapes = shapes_of(state)
    shape = list(shapes["input"])
    channel = 1 if op.data_format == "channels_first" else len(shape) - 1
    groups = state["parameters"].get("groups", 1)
    kinds = ["layout", "framework"] + ["axis", "rank", "count"] * (state["op"] != "fold")
    kinds += ["groups", "kernel", "features", "depth"] * ("weight" in shapes)
    kinds += ["bias", "bias size"] * (entry.operands[-1].name == "bias" and entry.operands[-1].optional)
    kind = draw(st.sampled_from(kinds))
    if kind == "layout":
        return {"parameters": {"data_format": draw(st.sampled_from(["channels_last", "channels_first"]))}}
    if kind == "framework":
        return {"parameters": {"framework": draw(st.sampled_from([None, "torch", "tensorflow", "onnx", "jax"]))}}
    if kind == "axis":
        axis = draw(st.integers(0, len(shape) - 1))
        sizes = st.integers(1, 3) if axis == 0 else st.integers(4, 6)
        shape[axis] = draw(st.integers(1, 3)) * groups if axis == channel else draw(sizes)
        return {"sizes": {"input": shape}}
    if kind == "rank":
        spatial = draw(st.lists(st.integers(4, 5), min_size=1, max_size=3))
        both = [shape[channel], *spatial] if channel == 1 else [*spatial, shape[channel]]
        return {"sizes": {"input": shape[:1] + both}}
    if kind == "count":
        return {"parameters": {"spatial_axes": draw(st.integers(1, 3))}}
    if kind == "bias":
        return {"absent": "bias"}
    if kind == "bias size":
        return {"sizes": {"bias": [draw(st.integers(1, 3)) * groups]}} if "bias" in shapes else {}
    if kind == "groups":
        allowed = [value for value in range(1, 5) if shape[channel] % value == 0]
        return {"parameters": {"groups": draw(st.sampled_from(allowed))}}
    weight = list(shapes["weight"])
    first = op.data_format == "channels_first"
    spatial_axes = range(2, len(weight)) if first else range(len(weight) - 2)
    features, depth = (0, 1) if first else (-1, -2)
    if kind == "kernel":
        weight[draw(st.sampled_from(spatial_axes))] = draw(st.integers(1, 3))
    elif kind == "features":
        weight[features] = draw(st.integers(1, 3)) * groups
    else:
        weight[depth] = draw(st.integers(1, 3))
    return {"sizes": {"weight": weight}}


@pytest.mark.parametrize("name", LAYERS)
@QUICK
@given(data=st.data())
def test_operands_fit_after_each_change(page: Page, name: str, data: st.DataObject) -> None:
    [state] = changes(page, {"op": name})
    for _ in range(6):
        step = data.draw(st.composite(lambda draw, state=state: steps(draw, state))())
        before = state
        [state] = changes(page, step, state=before)
        entry, op = op_of(state)
        shapes = shapes_of(state)
        try:
            op.resolve(*(shapes.get(operand.name) for operand in entry.operands))
        except ConvpoolError as error:
            pytest.fail(f"{step} of {shapes_of(before)} {before['parameters']}: {error}")
        for operand, shape in step.get("sizes", {}).items():
            assert shapes[operand] == tuple(shape)
        if state["parameters"].get("spatial_axes") and name != "fold":
            assert len(shapes["input"]) - 2 == state["parameters"]["spatial_axes"]
        for tensor in state["tensors"].values():
            assert len(tensor["data"]) == math.prod(tensor["shape"])


def opened(page: Page, name: str, **more: Json) -> Json:
    [state] = changes(page, {"op": name} | more)
    return state


def test_operands_that_do_not_hang_together_stay(page: Page) -> None:
    before = opened(page, "conv")
    longer, taller, wider = changes(
        page,
        {"sizes": {"input": [3, 3, 3, 1]}},
        {"sizes": {"input": [3, 8, 3, 1]}},
        {"sizes": {"weight": [2, 2, 1, 2]}},
        state=before,
    )
    for state in (longer, taller):
        assert (state["tensors"]["weight"], state["tensors"]["bias"]) == (
            before["tensors"]["weight"], before["tensors"]["bias"],
        )  # fmt: skip
    assert wider["tensors"]["input"] == taller["tensors"]["input"]
    assert shapes_of(wider)["bias"] == (2,)
    assert (
        array_of(wider["tensors"]["weight"])[..., 0].tolist() == array_of(before["tensors"]["weight"])[..., 0].tolist()
    )


def test_groups_that_do_not_divide_are_left_to_the_service(page: Page) -> None:
    before = changes(page, {"op": "conv"}, {"sizes": {"input": [1, 3, 3, 4]}})[-1]
    for groups in (3, 0, -1, 1.5, "x", 12):
        [state] = changes(page, {"parameters": {"groups": groups}}, state=before)
        assert state["tensors"] == before["tensors"]
    depthwise = changes(page, {"parameters": {"groups": 3}}, {"parameters": {"groups": 4}}, state=before)[-1]
    assert shapes_of(depthwise) == {"input": (1, 3, 3, 4), "weight": (2, 2, 1, 4), "bias": (4,)}


def test_lists_with_an_entry_for_each_spatial_axis_follow(page: Page) -> None:
    parameters = {"stride": [2, 1], "padding": [[0, 1], [2, 3]], "dilation": 1}
    before = opened(page, "conv", parameters=parameters)
    more, fewer = changes(page, {"parameters": {"spatial_axes": 3}}, {"sizes": {"input": [1, 9, 1]}}, state=before)
    assert more["parameters"] == parameters | {
        "spatial_axes": 3, "stride": [2, 2, 1], "padding": [[0, 1], [0, 1], [2, 3]],
    }  # fmt: skip
    assert fewer["parameters"] == parameters | {"spatial_axes": 1, "stride": [1], "padding": [[2, 3]]}
    folded = opened(page, "fold")
    [state] = changes(page, {"parameters": {"spatial_axes": 1}}, state=folded)
    assert state["parameters"]["output_size"] == [3]


def test_a_gradient_goes_with_the_shapes_that_it_was_for(page: Page) -> None:
    before = opened(page, "conv")
    before["tensors"]["grad_output"] = {"dtype": "float64", "shape": [1, 3, 3, 1], "data": [1] * 9}
    before |= {"cell": "output:8", "item": 0}
    [edited] = page.evaluate(CHANGED, [before, [{"tensors": before["tensors"]}]])
    assert (edited["tensors"], edited["cell"]) == (before["tensors"], "output:8")
    [same] = changes(page, {"sizes": {"input": [1, 3, 3, 1]}}, state=before)
    assert (same["tensors"], same["cell"]) == (before["tensors"], "output:8")
    [resized] = changes(page, {"sizes": {"input": [1, 3, 4, 1]}}, state=before)
    assert "grad_output" not in resized["tensors"]
    assert resized["cell"] == ""
    replaced = before["tensors"] | {"input": {"dtype": "float64", "shape": [2, 4, 4, 3], "data": [1] * 96}}
    [state] = changes(page, {"tensors": replaced}, state=before)
    assert shapes_of(state) == {"input": (2, 4, 4, 3), "weight": (2, 2, 3, 1), "bias": (1,)}


def test_an_item_that_is_gone_is_not_shown(page: Page) -> None:
    before = changes(page, {"op": "pool"}, {"sizes": {"input": [4, 3, 3, 1]}}, {"item": 3})[-1]
    assert before["item"] == 3
    [state] = changes(page, {"sizes": {"input": [2, 3, 3, 1]}}, state=before)
    assert state["item"] == 0


def test_parameters_of_another_mode_are_left_out(page: Page) -> None:
    before = opened(page, "pool", parameters={"ties": "all", "padding": 1})
    [state] = changes(page, {"parameters": {"mode": "avg"}}, state=before)
    assert state["parameters"] == {"mode": "avg", "kernel_size": 2, "stride": 1, "padding": 1, "spatial_axes": 2}


def test_another_dtype(page: Page) -> None:
    before = opened(page, "unpool")
    before["tensors"]["input"]["data"] = [0.1, 0.5]
    [state] = changes(page, {"dtype": "float32"}, state=before)
    assert state["tensors"]["input"] == {
        "dtype": "float32", "shape": [1, 1, 2, 1], "data": [float(np.float32(0.1)), 0.5],
    }  # fmt: skip
    assert state["tensors"]["indices"] == before["tensors"]["indices"]


def test_no_change_makes_a_tensor_that_is_too_large(page: Page) -> None:
    shapes = page.evaluate(
        """async (all) => {
          const layer = layerOf("conv");
          const opened = await changed(DEFAULTS, layer, { op: "conv" }, fetchExample);
          const shapes = [];
          for (const steps of all) {
            let state = opened;
            for (const step of steps) state = await changed(state, layer, step, fetchExample);
            shapes.push([state.tensors.input.shape, state.tensors.weight.shape]);
          }
          return shapes;
        }""",
        [
            [{"sizes": {"input": [1, 1024, 1024, 1]}}, {"parameters": {"spatial_axes": 3}}],
            [{"sizes": {"input": [1, 2**15, 2**15, 1]}}],
            [{"sizes": {"input": [1, 1, 1, 2**19]}}],
        ],
    )
    assert shapes == [
        [[1, 1, 1024, 1024, 1], [2, 2, 2, 1, 1]],
        [[1, 3, 3, 1], [2, 2, 1, 1]],
        [[1, 1, 1, 2**19], [2, 2, 1, 1]],
    ]


def test_a_layer_that_nobody_knows_yet(page: Page) -> None:
    """Operands, axes and the divisor have other names than those of any layer of today."""
    states = page.evaluate(
        """async () => {
          const both = (last, first = last) => ({ channels_last: last, channels_first: first });
          const forward = {
            operands: [
              { name: "left", dtypes: ["float64"], axes: both(["M", "*place", "T"], ["M", "T", "*place"]) },
              { name: "right", dtypes: ["float64"], axes: both(["*place", "T/parts"], ["T/parts", "*place"]) },
              { name: "gain", dtypes: ["float32", "float64"], axes: both(["T"]) },
              { name: "left_offset", dtypes: ["int8"], axes: both([]) },
            ],
            parameters: { properties: { data_format: { default: "channels_last" }, parts: { default: 1 } } },
            results: ["sum"],
          };
          const tensor = (...shape) => filled(shape, 1);
          const tensors = { left: tensor(1, 2, 2, 4), right: tensor(2, 2, 4) };
          let state = { ...DEFAULTS, op: "blend", tensors };
          const states = [];
          for (const make of [
            () => ({ sizes: { left: [2, 2, 3, 4] } }),
            () => ({ parameters: { parts: 2 } }),
            ({ tensors }) => ({ tensors: { ...tensors, gain: null, left_offset: null } }),
            ({ parameters }) => ({ parameters: { ...parameters, data_format: "channels_first" } }),
            () => ({ sizes: { right: [3, 5] } }),
          ]) states.push((state = await changed(state, { forward }, make(state), () => null)));
          return states;
        }"""
    )
    first, divided, all_there, moved, other = states
    assert shapes_of(first) == {"left": (2, 2, 3, 4), "right": (2, 3, 4)}
    assert shapes_of(divided) == {"left": (2, 2, 3, 4), "right": (2, 3, 2)}
    assert shapes_of(all_there) == shapes_of(divided) | {"gain": (4,), "left_offset": ()}
    assert all_there["tensors"]["gain"]["dtype"] == "float64"
    assert all_there["tensors"]["left_offset"]["dtype"] == "int8"
    assert shapes_of(moved) == {"left": (2, 4, 2, 3), "right": (2, 2, 3), "gain": (4,), "left_offset": ()}
    assert shapes_of(other) == {"left": (2, 6, 5), "right": (3, 5), "gain": (6,), "left_offset": ()}


def test_changes_are_pure(page: Page) -> None:
    frozen = page.evaluate(
        """async () => {
          const deepFrozen = (value) => {
            if (typeof value === "object" && value) Object.values(Object.freeze(value)).forEach(deepFrozen);
            return value;
          };
          const state = deepFrozen(await changed(DEFAULTS, layerOf("conv"), { op: "conv" }, fetchExample));
          const next = await changed(state, layerOf("conv"), { sizes: { input: [1, 4, 4, 2] } }, fetchExample);
          await changed(state, layerOf("conv"), { parameters: { data_format: "NCHW", spatial_axes: 3 } }, fetchExample);
          return [state.tensors.input.shape, next.tensors.input.shape, state.tensors.weight === next.tensors.weight];
        }"""
    )
    assert frozen == [[1, 3, 3, 1], [1, 4, 4, 2], False]
