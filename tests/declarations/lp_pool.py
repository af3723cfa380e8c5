"""Lp pooling: kernel and adaptive windows, norms of every type."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cnn_core import LpPool
from tests.comparisons import normal
from tests.declarations.declaration import LAYOUTS, Case, Declaration
from tests.declarations.max_pool import INPUT, case_of, taps_of_windows
from tests.oracle import lp_pool
from tests.shapes_in_memory import MemoryCase, images, pool_geometries
from tests.strategies_pool import lp_pool_cases


def defaults(framework: str) -> dict[str, Any]:
    return {"data_format": LAYOUTS[framework], "stride": 1 if framework in {"onnx", "jax"} else 2}


DECLARATION = Declaration(
    op=LpPool,
    layer="pool",
    mode="lp",
    cases=lp_pool_cases().map(case_of),
    moderate_cases=lp_pool_cases(kinds=("normal", "few")).map(case_of),
    forward=lp_pool.lp_pool_forward,
    backward=lp_pool.lp_pool_backward,
    examples={
        "": Case({"kernel_size": 3, "stride": [1, 2], "padding": [0, 1], "norm_type": 3.5}, {"input": INPUT}),
    },
    same_in_both_layouts=Case({"kernel_size": 2}, {"input": normal(2, 4, 4, 4, seed=2)}),
    multiply_accumulates=taps_of_windows,
    defaults=defaults,
    memory={
        "plain": MemoryCase({"kernel_size": 3, "stride": 2, "padding": 1}, images(8, 112, 112, 8)),
        "of one element": MemoryCase({"kernel_size": 1, "norm_type": 3}, images(8, 60, 60, 64)),
        "of overlapping windows": MemoryCase(
            {"kernel_size": 3, "stride": 1, "padding": 1, "norm_type": 2.5, "data_format": "channels_first"},
            images(2, 4, 16, 18, 20),
        ),
        "over everything": MemoryCase({"output_size": 1, "norm_type": 1}, images(4, 50, 50, 16)),
        "to more windows": MemoryCase({"output_size": 100}, images(4, 40, 1, 64)),
    },
    geometries=pool_geometries(st.fixed_dictionaries({"norm_type": st.sampled_from([1, 2, 2.5, 3])})),
    forward_tolerance=(1e-13, 0.0),
    backward_tolerance=(1e-12, 1e-12),
)
