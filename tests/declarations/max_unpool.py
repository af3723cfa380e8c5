"""Max unpooling."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import MaxUnpool
from tests.comparisons import normal
from tests.declarations.declaration import EXACT, LAYOUTS, Case, Declaration
from tests.oracle.indices import unpool
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, choice, indexed, spaced
from tests.strategies_pool import UnpoolCase, unpool_cases

INDICES = np.random.default_rng(8).permutation(5 * 6)[: 3 * 2 * 4].reshape(1, 3, 2, 4)
COLUMNS = {"index_scheme": "tensor", "storage_order": "column_major"}


def forward(input: AnyArray, indices: AnyArray, **parameters: Any) -> AnyArray:
    return unpool(input, indices, **parameters)


def backward(grad_output: AnyArray, input: AnyArray, indices: AnyArray, **parameters: Any) -> AnyArray:
    return unpool(input, indices, grad_output, **parameters)


def case_of(case: UnpoolCase) -> Case:
    return Case(case.parameters, {"input": case.input, "indices": case.indices}, case.grad_output)


def multiply_accumulates(case: Case, output: AnyArray) -> int:  # noqa: ARG001
    """Nothing is multiplied: elements are moved."""
    return case.operands["input"].size


def defaults(framework: str) -> dict[str, Any]:
    return {
        "data_format": LAYOUTS[framework],
        "stride": 1 if framework == "onnx" else 2,
        "index_scheme": {"tensorflow": "image", "onnx": "tensor"}.get(framework, "plane"),
    }


@st.composite
def geometries(draw: st.DrawFn) -> MemoryCase:
    axes = draw(spaced())
    output_size = tuple(choice(draw, 1, size, 2 * size, 100) for size in axes.sizes)
    by_size = {**axes.layout(), "output_size": output_size}
    parameters = choice(draw, {**axes.spacing(), "kernel_size": axes.kernel}, by_size)
    orders = {
        "index_scheme": choice(draw, "plane", "image", "tensor"),
        "storage_order": choice(draw, "row_major", "column_major"),
    }
    dtype = choice(draw, "int64", "int32", "uint8", "float32", "float64")
    return MemoryCase({**parameters, **orders}, indexed(axes.shape, dtype))


DECLARATION = Declaration(
    op=MaxUnpool,
    layer="unpool",
    cases=unpool_cases().map(case_of),
    forward=forward,
    backward=backward,
    examples={
        "": Case(
            {"kernel_size": [2, 3], "padding": [[1, 0], [0, 0]], "storage_order": "column_major"},
            {
                "input": normal(2, 3, 2, 4, seed=7),
                "indices": np.random.default_rng(8)
                .permutation(5 * 6)[: 3 * 2 * 4]
                .reshape(1, 3, 2, 4)
                .repeat(2, axis=0),
            },
        ),
    },
    same_in_both_layouts=Case(
        {"kernel_size": 2}, {"input": normal(3, 3, 3, seed=1), "indices": np.arange(27).reshape(3, 3, 3) % 3}
    ),
    multiply_accumulates=multiply_accumulates,
    defaults=defaults,
    memory={
        "plain": MemoryCase({"kernel_size": 2}, indexed((8, 32, 32, 16))),
        "first": MemoryCase(
            {"kernel_size": 3, "stride": 1, **COLUMNS, "data_format": "channels_first"},
            indexed((2, 64, 40, 40), "int32"),
        ),
        "to far more": MemoryCase({"output_size": 400_000}, indexed((2, 10, 3), "float64")),
        "to one": MemoryCase({"output_size": 1}, indexed((2, 40, 40, 40, 3), "uint8")),
        "of a whole tensor": MemoryCase({"kernel_size": 2, "framework": "onnx"}, indexed((64, 1000, 2, 2), "uint64")),
    },
    geometries=geometries(),
    batched=("input", "indices"),
    forward_tolerance=EXACT,
    backward_tolerance=EXACT,
)
