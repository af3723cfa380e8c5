"""ConvInteger: sums of 8-bit products in 32 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn_core import ConvInteger
from tests.declarations.conv import multiply_accumulates
from tests.declarations.declaration import EXACT, Case, Declaration
from tests.oracle import quantized
from tests.oracle.windows import AnyArray
from tests.shapes_in_memory import (
    QUANTIZED,
    QUANTIZED_FIRST,
    QUANTIZED_LONG,
    MemoryCase,
    of_integers,
    quantized_geometries,
)
from tests.strategies_conv import IntegerCase, integer_cases

PARAMETERS: dict[str, Any] = {"stride": [1, 2], "padding": [[0, 1], [1, 0]], "groups": 2}


def any_integers(dtype: str, *shape: int, seed: int) -> AnyArray:
    """Any values of an integer type, its extremes included."""
    limits = np.iinfo(dtype)
    random = np.random.default_rng(seed)
    return random.integers(int(limits.min), int(limits.max), size=shape, dtype=dtype, endpoint=True)


MIXED = {
    "input": any_integers("uint8", 2, 6, 5, 4, seed=10),
    "weight": any_integers("int8", 3, 2, 2, 6, seed=11),
    "input_zero_point": np.array(100, np.uint8),
    "weight_zero_point": any_integers("int8", 6, seed=12),
}
EIGHT_BITS = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)


def case_of(case: IntegerCase) -> Case:
    names = ("input", "weight", "input_zero_point", "weight_zero_point")
    return Case(case.parameters, dict(zip(names, case.integer_operands(), strict=True)))


DECLARATION = Declaration(
    op=ConvInteger,
    layer="conv_integer",
    cases=integer_cases().map(case_of),
    forward=quantized.conv_integer,
    examples={
        "": Case(PARAMETERS, MIXED),
        "unsigned": Case(PARAMETERS, {name: array.astype(np.uint8) for name, array in MIXED.items()}),
    },
    same_in_both_layouts=Case({}, {"input": EIGHT_BITS, "weight": EIGHT_BITS}),
    multiply_accumulates=multiply_accumulates,
    frameworks=("torch", "tensorflow", "onnx"),
    memory={
        "plain": MemoryCase({"padding": 1}, of_integers(QUANTIZED)),
        "first": MemoryCase({"groups": 32, "data_format": "channels_first"}, of_integers(QUANTIZED_FIRST)),
        "of a long kernel": MemoryCase({"padding": 2500}, of_integers(QUANTIZED_LONG)),
    },
    geometries=quantized_geometries().map(lambda case: MemoryCase(case.parameters, of_integers(case.operands))),
    forward_tolerance=EXACT,
)
