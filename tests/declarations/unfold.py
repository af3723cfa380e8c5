"""Unfold: every window copied into a matrix."""

from __future__ import annotations

from typing import Any

from cnn_core import Unfold
from tests.comparisons import normal
from tests.declarations.declaration import EXACT, LAYOUTS_OF_LAX, Case, Declaration
from tests.oracle import unfold
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, images, spaced
from tests.strategies_conv import MatrixCase, matrix_cases

UNFOLDED: dict[str, Any] = {"kernel_size": [3, 2], "stride": 2, "padding": [[0, 1], [1, 0]], "dilation": [1, 2]}


def backward(grad_output: AnyArray, input: AnyArray, **parameters: Any) -> AnyArray:
    first = parameters.get("data_format") == "channels_first"
    sizes = input.shape[2:] if first else input.shape[1:-1]
    return unfold.fold(grad_output, output_size=sizes, **parameters)


def case_of(case: MatrixCase) -> Case:
    return Case(case.parameters, {"input": case.input}, case.matrix)


def multiply_accumulates(case: Case, output: AnyArray) -> int:  # noqa: ARG001
    """Nothing is multiplied: elements are moved."""
    return output.size


def defaults(framework: str) -> dict[str, Any]:
    return {"data_format": LAYOUTS_OF_LAX[framework]}


DECLARATION = Declaration(
    op=Unfold,
    layer="unfold",
    cases=matrix_cases().map(case_of),
    forward=unfold.unfold,
    backward=backward,
    examples={"": Case(UNFOLDED, {"input": normal(2, 6, 5, 3, seed=1)})},
    same_in_both_layouts=Case({"kernel_size": 2}, {"input": normal(2, 4, 4, 4, seed=2)}),
    multiply_accumulates=multiply_accumulates,
    defaults=defaults,
    memory={
        "plain": MemoryCase({"kernel_size": 3, "padding": 1}, images(4, 28, 28, 16)),
        "first": MemoryCase({"kernel_size": 3, "padding": 1, "data_format": "channels_first"}, images(4, 16, 28, 28)),
        "much padding": MemoryCase({"kernel_size": 9, "padding": 90_000, "stride": 3000}, images(4, 100, 1)),
        "in one window": MemoryCase({"kernel_size": (20, 30, 40)}, images(2, 20, 30, 40, 6)),
    },
    geometries=spaced().map(lambda axes: MemoryCase(axes.windows(), images(*axes.shape))),
    needs_workspace=False,
    forward_tolerance=EXACT,
)
