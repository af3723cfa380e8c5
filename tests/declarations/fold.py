"""Fold: windows added up where they were copied from."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from cnn_core import Fold
from tests.comparisons import normal
from tests.declarations.declaration import EXACT, Case, Declaration
from tests.declarations.unfold import UNFOLDED, defaults
from tests.oracle import unfold
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, images, spaced
from tests.strategies_conv import MatrixCase, matrix_cases


def backward(grad_output: AnyArray, input: AnyArray, *, output_size: Any, **parameters: Any) -> AnyArray:
    del input, output_size
    return unfold.unfold(grad_output, **parameters)


def case_of(case: MatrixCase) -> Case:
    return Case({"output_size": case.sizes, **case.parameters}, {"input": case.matrix}, case.input)


def multiply_accumulates(case: Case, output: AnyArray) -> int:  # noqa: ARG001
    """Nothing is multiplied: elements are moved."""
    return case.operands["input"].size


@st.composite
def geometries(draw: st.DrawFn) -> MemoryCase:
    axes = draw(spaced())
    spans = zip(axes.sizes, axes.padding, axes.reach, axes.stride, strict=True)
    count = math.prod((size + sum(pads) - most - 1) // step + 1 for size, pads, most, step in spans)
    columns = axes.channels * math.prod(axes.kernel)
    matrix = (count, columns) if axes.data_format == "channels_last" else (columns, count)
    return MemoryCase({**axes.windows(), "output_size": axes.sizes}, images(axes.batch, *matrix))


DECLARATION = Declaration(
    op=Fold,
    layer="fold",
    cases=matrix_cases().map(case_of),
    forward=unfold.fold,
    backward=backward,
    examples={"": Case({"output_size": [6, 5], **UNFOLDED}, {"input": normal(2, 6, 18, seed=9)})},
    same_in_both_layouts=Case({"kernel_size": [2, 2], "output_size": [3, 3]}, {"input": normal(2, 4, 4, seed=3)}),
    multiply_accumulates=multiply_accumulates,
    defaults=defaults,
    memory={
        "plain": MemoryCase({"kernel_size": 3, "padding": 1, "output_size": [28, 28]}, images(4, 784, 144)),
        "first": MemoryCase(
            {"kernel_size": 3, "output_size": [28, 28], "data_format": "channels_first"}, images(4, 144, 676)
        ),
        "of one element": MemoryCase({"kernel_size": 1, "stride": 9, "output_size": [90_000]}, images(4, 10_000, 2)),
    },
    geometries=geometries(),
    needs_workspace=False,
    backward_tolerance=EXACT,
)
