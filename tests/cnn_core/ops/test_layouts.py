"""The axes that an op declares of its operands and its output are those that it computes with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cnn_core.operands import Layout
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import FIRST, LAST, Case, Declaration
from tests.oracle.windows import AnyArray

each_op = pytest.mark.parametrize("declared", DECLARATIONS, ids=str)
FACTOR = " * "


def axes_of(layout: Layout, data_format: str, rank: int) -> list[str]:
    """The names of all axes, of which a layout writes several as one."""
    axes = layout.channels_first if data_format == FIRST else layout.channels_last
    return [
        name
        for axis in axes
        for name in ([f"{axis} {number}" for number in range(rank)] if axis.startswith("*") else [axis])
    ]


def channels_first(array: AnyArray, layout: Layout, rank: int, channels: int) -> AnyArray:
    """An array that has the layout of channels_last in the other; an axis may be the product of two."""
    last, first = ([axis.split(FACTOR) for axis in axes_of(layout, each, rank)] for each in (LAST, FIRST))
    sizes = [
        {"C": channels, "kernel": size // channels}[factor] if len(factors) > 1 else size
        for size, factors in zip(array.shape, last, strict=True)
        for factor in factors
    ]
    names = [factor for factors in last for factor in factors]
    order = [names.index(factor) for factors in first for factor in factors]
    moved: AnyArray = array.reshape(sizes).transpose(order)
    counts = iter(moved.shape)
    return moved.reshape([math.prod(next(counts) for _ in factors) for factors in first])


def is_one_value(array: AnyArray, layout: Layout) -> bool:
    """Whether there is nothing to lay out."""
    return array.ndim == 0 or (array.size == 1 and not layout.channels_last)


def rank_of(op: Any, case: Case) -> int:
    return len(resolved(op, case).windows.axes)


def resolved(op: Any, case: Case) -> Any:
    return op.resolve(*(getattr(case.operands.get(operand.name), "shape", None) for operand in op.operands))


@each_op
def test_operands_moved_to_the_other_layout_give_the_output_moved_to_it(declared: Declaration) -> None:
    case = declared.example.given(data_format=LAST)
    rank = rank_of(declared.create_op(**case.parameters), case)
    expected = declared.computed(case)["output"]
    channels = (expected if declared.name == "fold" else case.operands["input"]).shape[-1]
    operands = {
        operand.name: array
        if is_one_value(array := case.operands[operand.name], operand.layout)
        else channels_first(array, operand.layout, rank, channels)
        for operand in declared.op.operands
    }
    assert operands["input"].shape != case.operands["input"].shape
    computed = declared.computed(Case({**case.parameters, "data_format": FIRST}, operands))["output"]
    moved = channels_first(expected, declared.op.output_layout, rank, channels)
    np.testing.assert_allclose(computed, moved, rtol=1e-12, atol=1e-12)


@each_op
@pytest.mark.parametrize("data_format", [FIRST, LAST])
def test_axes_of_one_name_have_one_size(declared: Declaration, data_format: str) -> None:
    case = declared.example.given(data_format=LAST)
    op = declared.create_op(**case.parameters)
    rank, output = rank_of(op, case), declared.computed(case)["output"]
    channels = (output if declared.name == "fold" else case.operands["input"]).shape[-1]
    tensors = {"output": (output, declared.op.output_layout)}
    tensors |= {operand.name: (case.operands[operand.name], operand.layout) for operand in op.operands}
    found: dict[str, set[int]] = {}
    for array, layout in tensors.values():
        if is_one_value(array, layout):
            continue
        moved = channels_first(array, layout, rank, channels) if data_format == FIRST else array
        for axis, size in zip(axes_of(layout, data_format, rank), moved.shape, strict=True):
            if not axis.startswith("*spatial"):  # input and output have their own
                found.setdefault(axis, set()).add(size)
    assert {axis: len(sizes) for axis, sizes in found.items()} == dict.fromkeys(found, 1)
    one = {axis: size for axis, (size,) in found.items()}
    windows = resolved(op, case).windows
    if "C/groups" in one:
        assert one["C/groups"] * op.groups == one["C"]
        assert [one[f"*kernel {number}"] for number in range(rank)] == list(windows.kernel_sizes)
    if "windows" in one:
        assert one["windows"] == math.prod(windows.output_sizes)
        assert one.get("kernel * C", one.get("C * kernel")) == one["C"] * math.prod(windows.kernel_sizes)


@each_op
def test_a_description_has_the_layout(declared: Declaration) -> None:
    layouts = {operand.name: operand.layout for operand in declared.op.operands}
    for operand in declared.op.operands:
        if "of input's shape" in operand.description:
            assert operand.layout == layouts["input"]
        elif "or one for each output channel" in operand.description:
            assert operand.layout == Layout(("C_out",), ("C_out",))
        elif "one value" in operand.description:
            assert operand.layout == Layout((), ())
        else:
            assert f": {operand.layout}" in operand.description
