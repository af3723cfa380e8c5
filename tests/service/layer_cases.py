"""Hypothesis strategies for calls of every layer of the service, from those of the ops."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.service.payloads import AnyArray, Call
from tests.strategies import avg_pool_cases, conv_cases, max_pool_cases
from tests.strategies_conv import conv_transpose_cases, integer_cases, matrix_cases, padding_mode_cases
from tests.strategies_pool import adaptive_cases, adaptive_max_pool_cases, lp_pool_cases, orders, schemes, unpool_cases

LAYER_KINDS = ("conv", "conv_transpose", "max", "avg", "lp", "unpool", "unfold", "fold", "conv_integer", "qlinear_conv")


def _call(kind: str, operands: dict[str, AnyArray | None], parameters: dict[str, Any]) -> Call:
    layer = "pool" if kind in {"max", "avg", "lp"} else kind
    if layer == "pool":
        parameters = {"mode": kind, **parameters}
    results = ("output", "indices") if parameters.get("return_indices") else ("output",)
    given = {name: array for name, array in operands.items() if array is not None}
    return Call(f"{kind}_forward", f"/{layer}/forward", given, parameters, results)


@st.composite
def forward_calls(draw: st.DrawFn, kind: str) -> Call:
    """A valid forward call of a layer, with every parameter that it may have."""
    match kind:
        case "conv" | "conv_transpose":
            strategies = [conv_cases(), padding_mode_cases()] if kind == "conv" else [conv_transpose_cases()]
            conv = draw(st.one_of(strategies))
            return _call(kind, {"input": conv.input, "weight": conv.weight, "bias": conv.bias}, conv.parameters)
        case "max":
            case = draw(st.one_of(max_pool_cases(), adaptive_max_pool_cases()))
            indexed = {"return_indices": True, "index_scheme": draw(schemes), "storage_order": draw(orders)}
            return _call(kind, {"input": case.input}, {**case.parameters, **(indexed if draw(st.booleans()) else {})})
        case "avg" | "lp":
            of_any_type = lp_pool_cases(kinds=("normal", "few"))  # in float16 too
            case = draw(of_any_type if kind == "lp" else st.one_of(avg_pool_cases(), adaptive_cases()))
            return _call(kind, {"input": case.input}, case.parameters)
        case "unpool":
            unpool = draw(unpool_cases())
            return _call(kind, {"input": unpool.input, "indices": unpool.indices}, unpool.parameters)
        case "unfold" | "fold":
            patches = draw(matrix_cases())
            if kind == "unfold":
                return _call(kind, {"input": patches.input}, patches.parameters)
            return _call(kind, {"input": patches.matrix}, {"output_size": patches.sizes, **patches.parameters})
        case _:
            integers = draw(integer_cases())
            names = ["input", "weight", "input_zero_point", "weight_zero_point"]
            arrays: list[AnyArray | None] = [*integers.integer_operands()]
            if kind == "qlinear_conv":
                names = ["input", "input_scale", "input_zero_point", "weight", "weight_scale", "weight_zero_point"]
                names += ["output_scale", "output_zero_point", "bias"]
                arrays = integers.quantized_operands()
            return _call(kind, dict(zip(names, arrays, strict=True)), integers.parameters)
