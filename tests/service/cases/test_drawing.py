"""Layers are drawn from what a request leaves open, each a function of the seed and its number."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core.ops.base import Op
from service.cases.call import MAX_TRIES, Layer, draw_layer
from service.cases.computing import compute_case
from service.cases.task import CasesTask
from service.operations.operation import CatalogueEntry
from service.problems import InvalidRequest
from tests.service.cases.oracles import ENTRIES, FLOATING, call_of, cases_of


def layers_of(layer: str, **content: Any) -> list[Layer]:
    call = call_of(layer, **content)
    return [draw_layer(call, number) for number in range(call.count)]


@pytest.mark.parametrize("layer", ENTRIES)
def test_a_case_does_not_depend_on_the_number_of_cases(layer: str) -> None:
    few, many = (call_of(layer, count=count, seed=9) for count in (1, 30))
    for number in (0, 29):
        one, other = (compute_case(call, draw_layer(call, number), number) for call in (few, many))
        for name, array in (*one.operands.items(), *one.results.items()):
            np.testing.assert_array_equal(array, {**other.operands, **other.results}[name], strict=True)


@pytest.mark.parametrize("layer", ENTRIES)
def test_operands_do_not_depend_on_the_directions(layer: str) -> None:
    both = cases_of(call_of(layer, count=3))
    forward = cases_of(call_of(layer, count=3, directions=["forward"]))
    for one, other in zip(forward, both, strict=True):
        assert set(one.operands) == set(other.operands) - {"grad_output"}
        assert not [name for name in one.results if name.startswith("grad_")]
        for name, array in one.operands.items():
            np.testing.assert_array_equal(array, other.operands[name])


@pytest.mark.parametrize("layer", [entry.name for entry in FLOATING])
def test_layers_are_mixed(layer: str) -> None:
    drawn = layers_of(layer, count=200)
    assert {len(each.resolved.windows.axes) for each in drawn} == {1, 2, 3}
    kinds = Counter(type(each.op).__name__ for each in drawn)
    assert len(kinds) == len(ENTRIES[layer].ops)
    assert min(kinds.values()) > 30
    assert {each.op.data_format for each in drawn} == {"channels_last"}
    for name in ("stride", "padding", "dilation", "groups", "kernel_size", "ceil_mode", "ties", "padding_mode"):
        values = {getattr(each.op, name) for each in drawn if hasattr(each.op, name)}
        assert len(values) != 1, name
    elements = [sum(math.prod(shape) for shape in each.shapes.values()) for each in drawn]
    assert max(elements) < 20_000
    assert sorted(elements)[100] > 20


def test_all_forms_of_padding_are_drawn() -> None:
    paddings = [each.op.padding for each in layers_of("conv", count=200, parameters={"padding": "any"})]  # type: ignore[attr-defined]
    assert {"valid", "same", "same_lower"} <= set(paddings)
    assert any(isinstance(padding, int) for padding in paddings)
    assert any(isinstance(padding, tuple) and padding and isinstance(padding[0], int) for padding in paddings)
    uneven = [padding for padding in paddings if isinstance(padding, tuple) and isinstance(padding[0], tuple)]
    assert any(before != after for padding in uneven for before, after in padding)


@given(st.integers(0, 2**53 - 1), st.sampled_from(sorted(ENTRIES)))
def test_any_seed_gives_valid_layers(seed: int, layer: str) -> None:
    for each in layers_of(layer, seed=seed, count=3, parameters="any"):
        assert each.resolved == ENTRIES[layer].resolve(each.op, each.shapes)


def test_what_is_given_is_kept() -> None:
    parameters = {"stride": [[2, 1], 1], "padding": "same", "dilation": 2, "groups": [2]}
    shapes = {"input": [2, [5, 9], None, 4], "weight": [3, None, None, [4, 6]], "bias": None}
    drawn = layers_of("conv", count=60, parameters=parameters, shapes=shapes)
    ops: list[Any] = [each.op for each in drawn]
    assert {op.stride for op in ops} == {(2, 1), 1}
    assert {(op.padding, op.dilation, op.groups) for op in ops} == {("same", 2, 2)}
    for each in drawn:
        batch, height, _, channels = each.shapes["input"]
        assert (batch, channels) == (2, 4)
        assert 5 <= height <= 9
        assert each.shapes["weight"][0] == 3
        assert each.shapes["weight"][2] == 2  # C/groups follows
        assert each.shapes["weight"][3] in (4, 6)
        assert "bias" not in each.shapes


def test_parameters_that_are_left_out_have_their_defaults() -> None:
    for each in layers_of("conv", count=20, parameters={"stride": [1, 2]}):
        op: Any = each.op
        assert dataclasses.replace(op, stride=1) == type(op)(algorithm="direct")


def test_shapes_follow_the_layout() -> None:
    parameters = {"data_format": "channels_first"}
    for each in layers_of("conv_transpose", count=20, parameters=parameters, shapes={"input": [1, 6, 3, 4]}):
        assert each.shapes["input"] == (1, 6, 3, 4)
        assert each.shapes["weight"][0] == 6
    for each in layers_of("fold", count=20, parameters={"output_size": [[4, 4]], "kernel_size": 2}):
        assert each.shapes["input"][1:] in ((9, 4), (9, 8), (9, 12))


def test_a_framework_brings_its_defaults() -> None:
    for each in layers_of("pool", count=10, parameters={"mode": "avg", "kernel_size": 2, "framework": "torch"}):
        op: Any = each.op
        assert (op.data_format, op.count_include_pad) == ("channels_first", True)


@pytest.mark.parametrize("layer", ["conv", "pool"])
def test_rank_follows_lists_and_shapes(layer: str) -> None:
    mode = {"mode": "max", "kernel_size": 2} if layer == "pool" else {}
    ranks = {
        len(each.resolved.windows.axes) for each in layers_of(layer, count=30, parameters={**mode, "stride": [[1, 2]]})
    }
    assert ranks == {2}
    ranks = {
        len(each.resolved.windows.axes)
        for each in layers_of(layer, count=30, parameters={**mode, "spatial_axes": [1, 3]})
    }
    assert ranks == {1, 3}


IMPOSSIBLE = [
    ("conv", {"parameters": {}, "shapes": {"input": [1, 2, 1], "weight": [3, 1, 1]}}, "/shapes/input", "at least 3"),
    ("conv", {"parameters": {"groups": 2}, "shapes": {"input": [1, 9, 3]}}, "/shapes", "a multiple of 2"),
    ("conv", {"parameters": {}, "shapes": {"weight": [3, 4, 5], "bias": [6]}}, "/shapes/bias", "C_out"),
    ("conv", {"parameters": {"stride": [[1, 2]]}, "shapes": {"input": [1, 9, 3]}}, "", "number of spatial axes"),
    ("conv", {"parameters": {"stride": [[1, 2]], "dilation": [[1, 1, 1]]}}, "", "number of spatial axes"),
    ("pool", {"parameters": {"mode": "max"}}, "/parameters/kernel_size", "given unless output_size is"),
    (
        "pool",
        {"parameters": {"mode": "max", "kernel_size": [2, 3], "padding": 7}},
        "/shapes/input",
        f"none of {MAX_TRIES} layers",
    ),
    (
        "pool",
        {"parameters": {"mode": "lp", "kernel_size": 2, "norm_type": 2}, "kind": "integers"},
        "/parameters/norm_type",
        "norm_type must be 1",
    ),
    (
        "conv",
        {"parameters": {}, "shapes": {"weight": [5, 500, 1]}, "kind": "integers", "dtype": "float16"},
        "/dtype",
        "float16 must hold every sum exactly",
    ),
]


@pytest.mark.parametrize(("layer", "content", "pointer", "message"), IMPOSSIBLE)
def test_what_is_impossible_is_said(layer: str, content: dict[str, Any], pointer: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        layers_of(layer, **content)
    (finding,) = refused.value.findings
    assert message in finding.message
    assert finding.pointer == pointer


def test_a_single_layer_that_is_impossible_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    resolve = CatalogueEntry.resolve

    def counting(entry: CatalogueEntry, op: Op, shapes: dict[str, tuple[int, ...]]) -> Any:
        tries.append(entry.name)
        return resolve(entry, op, shapes)

    monkeypatch.setattr(CatalogueEntry, "resolve", counting)
    shapes = {"input": [1, 2, 1], "weight": [3, 1, 1], "bias": None}
    with pytest.raises(InvalidRequest):
        layers_of("conv", parameters={}, shapes=shapes)
    assert tries == ["conv"]


def test_layers_that_are_rarely_valid_end_early() -> None:
    """One of about thirty is valid: cases that are few are drawn, for many it would take too long."""
    rare = {"parameters": {"groups": [1, *range(200, 230)]}, "shapes": {"input": [1, None, 1]}}
    task = CasesTask(ENTRIES["conv"])
    assert task.plan({**rare, "count": 2}, {})
    with pytest.raises(InvalidRequest, match="too few of the layers that were drawn are valid"):
        task.plan({**rare, "count": 10_000}, {})


def test_sizes_in_a_range_are_large_enough_for_the_windows() -> None:
    shapes = {"input": [1, [1, 20], 1], "weight": [[1, 20], 1, 1]}
    assert max(each.tries for each in layers_of("conv", count=50, parameters={}, shapes=shapes)) == 1
