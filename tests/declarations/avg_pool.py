"""Average pooling: kernel and adaptive windows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cnn_core import AvgPool
from tests.comparisons import normal
from tests.declarations.declaration import LAYOUTS, Case, Declaration
from tests.declarations.max_pool import INPUT, case_of, taps_of_windows
from tests.oracle import adaptive, loops
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, images, pool_geometries
from tests.strategies import avg_pool_cases
from tests.strategies_pool import adaptive_cases


def forward(input: AnyArray, **parameters: Any) -> AnyArray:
    oracle: Any = adaptive if "output_size" in parameters else loops
    output: AnyArray = oracle.avg_pool_forward(input, **parameters)
    return output


def backward(grad_output: AnyArray, input: AnyArray, **parameters: Any) -> AnyArray:
    oracle: Any = adaptive if "output_size" in parameters else loops
    gradient: AnyArray = oracle.avg_pool_backward(grad_output, input, **parameters)
    return gradient


def defaults(framework: str) -> dict[str, Any]:
    return {
        "data_format": LAYOUTS[framework],
        "stride": 1 if framework in {"onnx", "jax"} else 2,
        "count_include_pad": framework in {"torch", "jax"},
    }


DECLARATION = Declaration(
    op=AvgPool,
    layer="pool",
    mode="avg",
    cases=st.one_of(avg_pool_cases(), adaptive_cases()).map(case_of),
    forward=forward,
    backward=backward,
    examples={
        "": Case(
            {"kernel_size": 2, "stride": [1, 2], "padding": "same_lower", "count_include_pad": True}, {"input": INPUT}
        ),
        "global": Case({"output_size": 1}, {"input": INPUT}),
    },
    same_in_both_layouts=Case({"kernel_size": 2, "padding": 1}, {"input": normal(2, 4, 4, 4, seed=2)}),
    multiply_accumulates=taps_of_windows,
    defaults=defaults,
    memory={
        "adaptive": MemoryCase({"output_size": (7, 9), "data_format": "channels_first"}, images(4, 64, 30, 30)),
        "adaptive to far more": MemoryCase({"output_size": (500, 700)}, images(1, 9, 11, 2)),
        "adaptive of channels": MemoryCase({"output_size": (2, 3, 1)}, images(1, 9, 10, 7, 1000)),
    },
    geometries=pool_geometries(st.just({})),
)
