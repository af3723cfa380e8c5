"""Transposed convolution."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cnn_core import ConvTranspose
from tests.comparisons import normal
from tests.declarations.conv import case_of, filters_of
from tests.declarations.declaration import LAYOUTS, Case, Declaration
from tests.oracle import conv_transpose
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, choice, grouped, spaced, weighted
from tests.strategies_conv import conv_transpose_cases


def multiply_accumulates(case: Case, output: AnyArray) -> int:  # noqa: ARG001
    """Each element of the input scatters one product for each weight of its channel."""
    return case.operands["input"].size * (case.operands["weight"].size // filters_of(case))


def defaults(framework: str) -> dict[str, Any]:
    """The defaults for a stride of 5 and windows of 3 taps: in Keras and JAX, the output size is then n * stride."""
    return {"data_format": LAYOUTS[framework], "output_padding": 2 if framework in {"tensorflow", "jax"} else 0}


@st.composite
def geometries(draw: st.DrawFn) -> MemoryCase:
    axes = draw(spaced())
    parameters, weight, features = draw(grouped(axes))
    most_added = tuple(max(pair) - 1 for pair in zip(axes.stride, axes.dilation, strict=True))
    parameters |= choice(draw, {}, {"padding": "same"}, {"output_padding": most_added})
    return MemoryCase(parameters, weighted(axes.shape_of(features), weight, axes.channels))


DECLARATION = Declaration(
    op=ConvTranspose,
    layer="conv_transpose",
    cases=conv_transpose_cases().map(case_of),
    forward=conv_transpose.conv_transpose_forward,
    backward=conv_transpose.conv_transpose_backward,
    examples={
        "": Case(
            {"stride": [2, 3], "padding": [[0, 1], [1, 0]], "output_padding": [1, 2], "groups": 2},
            {
                "input": normal(2, 3, 2, 6, seed=5),
                "weight": normal(3, 2, 2, 6, seed=2),
                "bias": normal(4, seed=6),
            },
        ),
    },
    same_in_both_layouts=Case({"stride": 5}, {"input": normal(3, 3, 3, seed=1), "weight": normal(3, 3, 3, seed=1)}),
    multiply_accumulates=multiply_accumulates,
    defaults=defaults,
    memory={
        "winograd": MemoryCase({"algorithm": "winograd"}, weighted((2, 40, 40, 48), (3, 3, 32, 48), 32)),
        "fastest": MemoryCase({"algorithm": "fastest"}, weighted((2, 40, 40, 48), (3, 3, 32, 48), 32)),
        "fft": MemoryCase({"algorithm": "fft"}, weighted((2, 5000, 3), (400, 2, 3))),
        "fastest of a long window": MemoryCase({"algorithm": "fastest"}, weighted((2, 5000, 3), (400, 2, 3))),
        "plain": MemoryCase({"stride": 2, "padding": 1}, weighted((4, 28, 28, 16), (4, 4, 8, 16), 8)),
        "first": MemoryCase(
            {"stride": 2, "data_format": "channels_first"}, weighted((4, 16, 28, 28), (16, 8, 3, 3), 8)
        ),
        "depthwise": MemoryCase({"stride": 2, "groups": 64}, weighted((2, 28, 28, 64), (3, 3, 1, 64))),
        "far apart": MemoryCase({"stride": 1000}, weighted((2, 500, 2), (3, 1, 2))),
        "of a long kernel": MemoryCase({}, weighted((2, 50, 2), (20_000, 3, 2))),
        "of many channels": MemoryCase({"stride": 2}, weighted((1, 4, 4, 1000), (2, 2, 1000, 1000))),
        "few elements, much output": MemoryCase(
            {"stride": 50, "dilation": (100, 3, 100), "output_padding": (99, 49, 99)},
            weighted((1, 1, 1, 1, 1), (2, 1, 1, 1, 1)),
        ),
        "much cut off": MemoryCase({"stride": 9, "padding": 5000}, weighted((50, 1200, 1), (7, 1, 1))),
        "volume": MemoryCase({"stride": (1, 1, 90)}, weighted((1, 9, 7, 3, 6), (40, 3, 30, 6, 6))),
    },
    geometries=geometries(),
)
