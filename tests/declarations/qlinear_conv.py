"""QLinearConv: an integer convolution, scaled and rounded to 8 bits."""

from __future__ import annotations

import numpy as np

from cnn_core import QLinearConv
from tests.declarations.conv import multiply_accumulates
from tests.declarations.conv_integer import EIGHT_BITS, MIXED, PARAMETERS, any_integers
from tests.declarations.declaration import EXACT, Case, Declaration
from tests.oracle import quantized
from tests.shapes_in_memory import QUANTIZED, QUANTIZED_FIRST, QUANTIZED_LONG, MemoryCase, quantized_geometries
from tests.strategies_conv import IntegerCase, integer_cases


def case_of(case: IntegerCase) -> Case:
    operands = zip((operand.name for operand in QLinearConv.operands), case.quantized_operands(), strict=True)
    return Case(case.parameters, {name: array for name, array in operands if array is not None})


DECLARATION = Declaration(
    op=QLinearConv,
    layer="qlinear_conv",
    cases=integer_cases().map(case_of),
    forward=quantized.qlinear_conv,
    examples={
        "": Case(
            PARAMETERS,
            {
                "input": MIXED["input"],
                "input_scale": np.array(0.02, np.float32),
                "input_zero_point": MIXED["input_zero_point"],
                "weight": MIXED["weight"],
                "weight_scale": np.linspace(0.01, 0.03, 6, dtype=np.float32),
                "weight_zero_point": MIXED["weight_zero_point"],
                "output_scale": np.array([3.0]),
                "output_zero_point": np.array(-7, np.int8),
                "bias": any_integers("int32", 6, seed=13) // 2**20,
            },
        ),
    },
    same_in_both_layouts=Case(
        {},
        {
            "input": EIGHT_BITS,
            "weight": EIGHT_BITS,
            **{f"{name}_scale": np.array(0.5) for name in ("input", "weight", "output")},
            **{f"{name}_zero_point": np.array(1, np.uint8) for name in ("input", "weight", "output")},
        },
    ),
    multiply_accumulates=multiply_accumulates,
    frameworks=("torch", "tensorflow", "onnx"),
    memory={
        "plain": MemoryCase({"padding": 1}, QUANTIZED),
        "first": MemoryCase({"groups": 32, "data_format": "channels_first"}, QUANTIZED_FIRST),
        "of a long kernel": MemoryCase({"stride": 7}, QUANTIZED_LONG),
    },
    geometries=quantized_geometries(),
    forward_tolerance=EXACT,
)
