"""Convolution: zeros and the other padding modes."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from cnn_core import Conv
from tests.comparisons import normal
from tests.declarations.declaration import LAYOUTS_OF_LAX, Case, Declaration
from tests.oracle import loops, padding_modes
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import MemoryCase, choice, grouped, spaced, weighted
from tests.strategies import ConvCase, conv_cases
from tests.strategies_conv import padding_mode_cases

FIRST = {"data_format": "channels_first"}
SMALL_AXES = [[0, 0], [39, 0], [0, 5000]]
OPERANDS = {"input": normal(2, 6, 5, 4, seed=1), "weight": normal(3, 2, 2, 6, seed=2), "bias": normal(6, seed=3)}
OF_ALGORITHMS = {
    "": ("winograd", weighted((2, 40, 40, 32), (3, 3, 32, 48), 48)),
    "of many channels": ("winograd", weighted((1, 14, 14, 256), (3, 3, 256, 256))),
    "of few channels": ("winograd", weighted((4, 60, 60, 3), (3, 3, 3, 5), 5)),
    "volume": ("winograd", weighted((1, 6, 20, 20, 16), (3, 3, 3, 16, 16))),
    "of a long window": ("fft", weighted((4, 6000, 2), (400, 2, 3), 3)),
    "of a large window": ("fft", weighted((2, 90, 80, 1), (20, 21, 1, 4))),
}
"""Layers that an algorithm applies to; all of them are worth it to algorithm=fastest, but those of few channels."""


def forward(input: AnyArray, weight: AnyArray, bias: AnyArray | None = None, **parameters: Any) -> AnyArray:
    oracle = padding_modes if "padding_mode" in parameters else loops
    output: AnyArray = oracle.conv_forward(input, weight, bias, **parameters)
    return output


def backward(
    grad_output: AnyArray, input: AnyArray, weight: AnyArray, bias: AnyArray | None = None, **parameters: Any
) -> Any:
    oracle = padding_modes if "padding_mode" in parameters else loops
    return oracle.conv_backward(grad_output, input, weight, bias, **parameters)


def case_of(conv: ConvCase) -> Case:
    operands = {"input": conv.input, "weight": conv.weight}
    if conv.bias is not None:
        operands["bias"] = conv.bias
    return Case(conv.parameters, operands, conv.grad_output)


def filters_of(case: Case) -> int:
    weight = case.operands["weight"]
    filters: int = weight.shape[0] if case.parameters.get("data_format") == "channels_first" else weight.shape[-1]
    return filters


def multiply_accumulates(case: Case, output: AnyArray) -> int:
    """Each element of the output gathers one product for each weight of its filter."""
    return output.size * (case.operands["weight"].size // filters_of(case))


def defaults(framework: str) -> dict[str, Any]:
    return {"data_format": LAYOUTS_OF_LAX[framework]}


@st.composite
def geometries(draw: st.DrawFn) -> MemoryCase:
    axes = draw(spaced())
    parameters, weight, features = draw(grouped(axes))
    mode = choice(draw, "zeros", "reflect", "replicate", "circular")
    most_padding = {"reflect": -1, "circular": 0}
    if mode in most_padding:
        limits = [size + most_padding[mode] for size in axes.sizes]
        parameters["padding"] = tuple(
            (choice(draw, 0, limit), min(limit, taps - 1)) for limit, taps in zip(limits, axes.kernel, strict=True)
        )
    elif mode == "replicate":
        parameters["padding"] = tuple((choice(draw, 0, taps - 1, 5000), choice(draw, 0, 5000)) for taps in axes.kernel)
    operands = weighted(axes.shape, weight, *choice(draw, (), (features,)))
    return MemoryCase({**parameters, "padding_mode": mode}, operands)


DECLARATION = Declaration(
    op=Conv,
    layer="conv",
    cases=st.one_of(conv_cases(), padding_mode_cases()).map(case_of),
    forward=forward,
    backward=backward,
    examples={
        "": Case({"stride": [2, 1], "padding": [[0, 1], [1, 0]], "groups": 2}, OPERANDS),
        "padding_mode": Case({"padding": "same_lower", "padding_mode": "reflect", "groups": 2}, OPERANDS),
    },
    same_in_both_layouts=Case({}, {"input": normal(3, 3, 3, seed=1), "weight": normal(3, 3, 3, seed=1)}),
    multiply_accumulates=multiply_accumulates,
    defaults=defaults,
    memory={
        **{
            f"{name}, {algorithm}": MemoryCase({"algorithm": algorithm}, operands)
            for name, (own, operands) in OF_ALGORITHMS.items()
            for algorithm in (own, "fastest")
        },
        "reflect": MemoryCase({"padding": 1, "padding_mode": "reflect"}, weighted((4, 56, 56, 16), (3, 3, 16, 16))),
        "circular": MemoryCase({"padding": 30, "padding_mode": "circular"}, weighted((2, 30, 30, 16), (3, 3, 16, 4))),
        "replicate": MemoryCase({"padding": 40_000, "padding_mode": "replicate"}, weighted((2, 4, 3), (3, 3, 2))),
        "replicate first": MemoryCase(
            {"padding": 300, "padding_mode": "replicate", **FIRST}, weighted((3, 2, 4, 4), (2,) * 4)
        ),
        "replicate on some axes": MemoryCase(
            {"padding": SMALL_AXES, "stride": (1, 1, 1000), "groups": 2, "padding_mode": "replicate"},
            weighted((1, 1, 40, 3, 6), (1, 40, 3, 3, 30)),
        ),
    },
    geometries=geometries().filter(lambda case: math.prod(case.operands["weight"][0]) < 2**20),
)
