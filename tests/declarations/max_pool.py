"""Max pooling: kernel and adaptive windows, with and without indices."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from cnn_core import MaxPool
from tests.comparisons import normal
from tests.declarations.declaration import EXACT, LAYOUTS, Case, Declaration
from tests.oracle import adaptive, indices, loops
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, images, pool_geometries
from tests.strategies import PoolCase, max_pool_cases
from tests.strategies_pool import adaptive_max_pool_cases, orders, schemes

OF_INDICES = ("return_indices", "index_scheme", "storage_order")
FIRST = {"data_format": "channels_first"}
INDICES = {"return_indices": True}
COLUMNS = {"index_scheme": "tensor", "storage_order": "column_major"}
INPUT = normal(2, 6, 5, 4, seed=1)


def forward(input: AnyArray, **parameters: Any) -> dict[str, AnyArray]:
    own = {name: value for name, value in parameters.items() if name not in OF_INDICES}
    oracle: Any = adaptive if "output_size" in own else loops
    results: dict[str, AnyArray] = {"output": oracle.max_pool_forward(input, **own)}
    if parameters.get("return_indices"):
        given = {name: value for name, value in parameters.items() if name != "return_indices"}
        results["indices"] = indices.max_pool_indices(input, **given)
    return results


def backward(grad_output: AnyArray, input: AnyArray, **parameters: Any) -> AnyArray:
    own = {name: value for name, value in parameters.items() if name not in OF_INDICES}
    oracle: Any = adaptive if "output_size" in own else loops
    gradient: AnyArray = oracle.max_pool_backward(grad_output, input, **own)
    return gradient


def case_of(pool: PoolCase) -> Case:
    return Case(pool.parameters, {"input": pool.input}, pool.grad_output)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    case = case_of(draw(st.one_of(max_pool_cases(), adaptive_max_pool_cases())))
    if draw(st.booleans()):
        return case
    return case.given(return_indices=True, index_scheme=draw(schemes), storage_order=draw(orders))


def taps_of_windows(case: Case, output: AnyArray) -> int:
    """The pairs of a window and a tap of it in all planes."""
    if "kernel_size" in case.parameters:
        size = case.parameters["kernel_size"]
        taps: int = size ** (output.ndim - 2) if isinstance(size, int) else math.prod(size)
        return output.size * taps
    first = case.parameters.get("data_format") == "channels_first"
    axes = range(2, output.ndim) if first else range(1, output.ndim - 1)
    pairs: int = output.shape[0] * output.shape[1 if first else -1]
    for axis in axes:
        size, count = case.operands["input"].shape[axis], output.shape[axis]
        pairs *= sum(math.ceil((i + 1) * size / count) - i * size // count for i in range(count))
    return pairs


def defaults(framework: str) -> dict[str, Any]:
    """But ties over three spatial axes, for which there is a test of their own."""
    return {
        "data_format": LAYOUTS[framework],
        "stride": 1 if framework in {"onnx", "jax"} else 2,
        "index_scheme": {"tensorflow": "image", "onnx": "tensor"}.get(framework, "plane"),
        "ties": "first",
    }


parameters_of_indices = st.fixed_dictionaries(
    {"return_indices": st.just(value=True), "index_scheme": schemes, "storage_order": orders}
)
more_parameters = st.builds(
    lambda ties, more: {"ties": ties, **more},
    st.sampled_from(["first", "all", "split"]),
    st.one_of(st.just({}), parameters_of_indices),
)

DECLARATION = Declaration(
    op=MaxPool,
    layer="pool",
    mode="max",
    cases=cases(),
    forward=forward,
    backward=backward,
    examples={
        "": Case(
            {"kernel_size": [3, 2], "stride": 2, "padding": 1, "ceil_mode": True, "ties": "split"}, {"input": INPUT}
        ),
        "adaptive": Case({"output_size": [4, 7]}, {"input": INPUT}),
        "indices": Case(
            {"kernel_size": [3, 2], "stride": 2, "return_indices": True, "index_scheme": "image"}, {"input": INPUT}
        ),
    },
    same_in_both_layouts=Case({"kernel_size": 2, "return_indices": True}, {"input": normal(2, 4, 4, 4, seed=2)}),
    multiply_accumulates=taps_of_windows,
    defaults=defaults,
    memory={
        "adaptive": MemoryCase({"output_size": 7}, images(4, 30, 30, 64)),
        "adaptive to far more": MemoryCase({"output_size": 20_000, **FIRST}, images(2, 16, 9)),
        "adaptive to far fewer": MemoryCase({"output_size": 3, "ties": "split"}, images(2, 20_000, 16)),
        "indices": MemoryCase({**INDICES, "kernel_size": 2}, images(8, 64, 64, 8)),
        "indices of one element": MemoryCase({**INDICES, "kernel_size": 1, **FIRST}, images(8, 64, 40, 40)),
        "indices by column": MemoryCase(
            {**INDICES, **COLUMNS, "kernel_size": 3, "stride": 1}, images(2, 20, 22, 24, 8)
        ),
        "indices in an image": MemoryCase(
            {**INDICES, "index_scheme": "image", "output_size": 50}, images(2, 60, 60, 16)
        ),
        "indices of long windows": MemoryCase({**INDICES, "kernel_size": 9000, "stride": 9000}, images(4, 20_000, 6)),
    },
    geometries=pool_geometries(more_parameters),
    forward_tolerance=EXACT,
)
