"""The onnx package's node tests of convolution and pooling, written as calls of the service.

A call holds ``framework=onnx`` and what the node itself gives, nothing else: layout, strides, whether padding counts,
and what indices count come from the service's defaults for ONNX, so that these are under test too.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

EXPRESSED = {
    "Conv": (
        "test_basic_conv_with_padding",
        "test_basic_conv_without_padding",
        "test_conv_with_autopad_same",
        "test_conv_with_strides_and_asymmetric_padding",
        "test_conv_with_strides_no_padding",
        "test_conv_with_strides_padding",
    ),
    "ConvTranspose": (
        "test_convtranspose",
        "test_convtranspose_1d",
        "test_convtranspose_3d",
        "test_convtranspose_autopad_same",
        "test_convtranspose_dilations",
        "test_convtranspose_group_2",
        "test_convtranspose_group_2_image_3",
        "test_convtranspose_kernel_shape",
        "test_convtranspose_output_shape",
        "test_convtranspose_pad",
        "test_convtranspose_pads",
    ),
    "ConvInteger": (
        "test_convinteger_with_padding",
        "test_convinteger_without_padding",
    ),
    "QLinearConv": ("test_qlinearconv",),
    "MaxPool": (
        "test_maxpool_1d_default",
        "test_maxpool_2d_ceil",
        "test_maxpool_2d_ceil_output_size_reduce_by_one",
        "test_maxpool_2d_default",
        "test_maxpool_2d_dilations",
        "test_maxpool_2d_pads",
        "test_maxpool_2d_precomputed_pads",
        "test_maxpool_2d_precomputed_same_upper",
        "test_maxpool_2d_precomputed_strides",
        "test_maxpool_2d_same_lower",
        "test_maxpool_2d_same_upper",
        "test_maxpool_2d_strides",
        "test_maxpool_2d_uint8",
        "test_maxpool_3d_default",
        "test_maxpool_3d_dilations",
        "test_maxpool_3d_dilations_use_ref_impl",
        "test_maxpool_3d_dilations_use_ref_impl_large",
        "test_maxpool_with_argmax_2d_precomputed_pads",
        "test_maxpool_with_argmax_2d_precomputed_strides",
    ),
    "AveragePool": (
        "test_averagepool_1d_default",
        "test_averagepool_2d_ceil",
        "test_averagepool_2d_ceil_last_window_starts_on_pad",
        "test_averagepool_2d_default",
        "test_averagepool_2d_dilations",
        "test_averagepool_2d_pads",
        "test_averagepool_2d_pads_count_include_pad",
        "test_averagepool_2d_precomputed_pads",
        "test_averagepool_2d_precomputed_pads_count_include_pad",
        "test_averagepool_2d_precomputed_same_upper",
        "test_averagepool_2d_precomputed_strides",
        "test_averagepool_2d_same_lower",
        "test_averagepool_2d_same_upper",
        "test_averagepool_2d_strides",
        "test_averagepool_3d_default",
        "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False",
        "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True",
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False",
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        "test_averagepool_3d_dilations_small",
    ),
    "LpPool": (
        "test_lppool_1d_default",
        "test_lppool_2d_default",
        "test_lppool_2d_dilations",
        "test_lppool_2d_pads",
        "test_lppool_2d_same_lower",
        "test_lppool_2d_same_upper",
        "test_lppool_2d_strides",
        "test_lppool_3d_default",
    ),
    "GlobalAveragePool": (
        "test_globalaveragepool",
        "test_globalaveragepool_precomputed",
    ),
    "GlobalMaxPool": (
        "test_globalmaxpool",
        "test_globalmaxpool_precomputed",
    ),
    # onnx has none; one that is added would be noticed.
    "GlobalLpPool": (),
    "MaxUnpool": (
        "test_maxunpool_export_with_output_shape",
        "test_maxunpool_export_without_output_shape",
    ),
    "Col2Im": (
        "test_col2im",
        "test_col2im_5d",
        "test_col2im_dilations",
        "test_col2im_pads",
        "test_col2im_strides",
    ),
}

NOT_EXPRESSED = dict.fromkeys(
    (
        "test_causal_conv_with_state_b1_c1_degenerate_expanded",
        "test_causal_conv_with_state_basic_expanded",
        "test_causal_conv_with_state_decode_step_expanded",
        "test_causal_conv_with_state_fp16_expanded",
        "test_causal_conv_with_state_kernel_size_one_expanded",
        "test_causal_conv_with_state_short_input_no_past_state_expanded",
        "test_causal_conv_with_state_silu_expanded",
        "test_causal_conv_with_state_silu_fp16_expanded",
        "test_causal_conv_with_state_silu_with_past_state_expanded",
        "test_causal_conv_with_state_swish_alias_expanded",
        "test_causal_conv_with_state_with_bias_and_past_state_expanded",
        "test_causal_conv_with_state_with_bias_expanded",
        "test_causal_conv_with_state_with_past_state_expanded",
    ),
    "CausalConvWithState written out: Conv is one node of a graph with shape arithmetic, Concat, Cast and Slice",
)


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """What an operator is in the service: operands in the order of its inputs, and parameters that its name implies."""

    path: str
    operands: tuple[str, ...] = ("input",)
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


COUNTERPARTS = {
    "Conv": Counterpart("/conv/forward", ("input", "weight", "bias")),
    "ConvTranspose": Counterpart("/conv_transpose/forward", ("input", "weight", "bias")),
    "ConvInteger": Counterpart("/conv_integer/forward", ("input", "weight", "input_zero_point", "weight_zero_point")),
    "QLinearConv": Counterpart(
        "/qlinear_conv/forward",
        (
            *("input", "input_scale", "input_zero_point"),
            *("weight", "weight_scale", "weight_zero_point"),
            *("output_scale", "output_zero_point", "bias"),
        ),
    ),
    "MaxPool": Counterpart("/pool/forward", parameters={"mode": "max"}),
    "AveragePool": Counterpart("/pool/forward", parameters={"mode": "avg"}),
    "LpPool": Counterpart("/pool/forward", parameters={"mode": "lp"}),
    "GlobalMaxPool": Counterpart("/pool/forward", parameters={"mode": "max", "output_size": 1}),
    "GlobalAveragePool": Counterpart("/pool/forward", parameters={"mode": "avg", "output_size": 1}),
    "GlobalLpPool": Counterpart("/pool/forward", parameters={"mode": "lp", "output_size": 1}),
    "MaxUnpool": Counterpart("/unpool/forward", ("input", "indices", "output_shape")),
    "Col2Im": Counterpart("/fold/forward", ("input", "image_shape", "block_shape")),
}

RESULTS = ("output", "indices")
"""In the order of a node's outputs."""

QUANTIZED = ("ConvInteger", "QLinearConv")
"""Operators whose integers are no numbers to be computed in floating point: their type belongs to the operation."""

AUTO_PAD = {b"VALID": "valid", b"SAME_UPPER": "same", b"SAME_LOWER": "same_lower"}

ATTRIBUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "auto_pad": ("padding", AUTO_PAD.__getitem__),
    "ceil_mode": ("ceil_mode", bool),
    "count_include_pad": ("count_include_pad", bool),
    "dilations": ("dilation", list),
    "group": ("groups", int),
    "kernel_shape": ("kernel_size", list),
    "output_padding": ("output_padding", list),
    "output_shape": ("output_size", list),
    "p": ("norm_type", int),
    # All that comes before, then all that comes after.
    "pads": ("padding", lambda pads: [list(pair) for pair in np.reshape(pads, (2, -1)).T.tolist()]),
    "storage_order": ("storage_order", {0: "row_major", 1: "column_major"}.__getitem__),
    "strides": ("stride", list),
}
"""The parameter that an attribute is, and its value there."""

SHAPES: dict[str, tuple[str, Callable[[Array], list[int]]]] = {
    # MaxUnpool's holds batch and channels too.
    "output_shape": ("output_size", lambda shape: shape[2:].tolist()),
    "image_shape": ("output_size", lambda shape: shape.tolist()),
    "block_shape": ("kernel_size", lambda shape: shape.tolist()),
}
"""Inputs of a node that are parameters of the service, and their values there."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One data set of a node test as a call of the service."""

    operator: str
    parameters: dict[str, Any]
    operands: dict[str, Array]
    expected: dict[str, Array]
    rtol: float
    atol: float

    @property
    def path(self) -> str:
        return COUNTERPARTS[self.operator].path


@functools.cache
def node_tests() -> dict[str, Any]:
    """All node tests with one of the operators anywhere in their graph, by name; they are made when this is called."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        # Making the data of other operators' tests overflows on purpose, and sets shapes as NumPy 2.5 deprecates.
        for category in (RuntimeWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=r"onnx\.backend\.test\.case")
        tests = load_model_tests(kind="node")
    return {test.name: test for test in tests if test.model and EXPRESSED.keys() & set(operators(test))}


def operators(test: Any) -> list[str]:
    """The operators of a node test, in the order of its graph."""
    return [node.op_type for node in test.model.graph.node]


def calls(name: str) -> list[Call]:
    """Translate every data set of a node test."""
    test = node_tests()[name]
    (node,) = test.model.graph.node
    found = []
    for inputs, outputs in test.data_sets:
        operands = named(COUNTERPARTS[node.op_type].operands, node.input, inputs)
        expected = named(RESULTS, node.output, outputs)
        parameters = translate(node, operands, expected)
        operands = {operand: array for operand, array in operands.items() if operand not in SHAPES}
        found.append(Call(node.op_type, parameters, operands, expected, test.rtol, test.atol))
    return found


def named(names: tuple[str, ...], declared: list[str], values: list[Any]) -> dict[str, Array]:
    """Name the tensors of a data set, which has none for an input or output that the node leaves empty."""
    assert len(declared) <= len(names)
    present = [name for name, in_graph in zip(names, declared, strict=False) if in_graph]
    return dict(zip(present, map(np.asarray, values), strict=True))


def translate(node: Any, operands: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, Any]:
    """Return the parameters that a node gives; an attribute that is not known is an error."""
    from onnx import helper

    given = {"framework": "onnx", **COUNTERPARTS[node.op_type].parameters}
    for attribute in node.attribute:
        parameter, convert = ATTRIBUTES[attribute.name]
        value = helper.get_attribute_value(attribute)
        if attribute.name == "kernel_shape" and "weight" in operands:
            # It repeats the weight's shape, which is all that the service is told.
            assert value == list(operands["weight"].shape[2:])
            continue
        assert parameter not in given
        given[parameter] = convert(value)
    for name, array in operands.items():
        if name in SHAPES:
            parameter, read = SHAPES[name]
            assert parameter not in given
            given[parameter] = read(array)
    if "indices" in expected:
        given["return_indices"] = True
    return given
