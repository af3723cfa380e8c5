"""The onnx package's node tests of convolution and pooling, written as calls of the service.

ONNX has the layout (N, C, *spatial) and, by default, pooling with stride 1 that counts no padding. MaxPool's second
output, Indices, is not part of the service yet: the first output is what is compared, and ``storage_order``, which
concerns the indices only, is read and left out.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
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
    "GlobalAveragePool": (
        "test_globalaveragepool",
        "test_globalaveragepool_precomputed",
    ),
    "GlobalMaxPool": (
        "test_globalmaxpool",
        "test_globalmaxpool_precomputed",
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

PADDING_OF_AUTO_PAD = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


@dataclasses.dataclass(frozen=True)
class Call:
    """One data set of a node test as a call of the service."""

    path: str
    parameters: dict[str, Any]
    operands: dict[str, Array]
    expected: Array
    rtol: float
    atol: float


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
    from onnx import helper

    test = node_tests()[name]
    (node,) = test.model.graph.node
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    found = []
    for inputs, outputs in test.data_sets:
        operands = dict(zip(("input", "weight", "bias"), map(np.asarray, inputs), strict=False))
        assert len(operands) == len(inputs) == len(node.input)
        assert len(outputs) == len(node.output)
        path, parameters = translate(node.op_type, dict(attributes), operands)
        found.append(Call(path, parameters, operands, np.asarray(outputs[0]), test.rtol, test.atol))
    return found


def translate(operator: str, attributes: dict[str, Any], operands: dict[str, Array]) -> tuple[str, dict[str, Any]]:
    """Return the path and the parameters of a node; an attribute that is not known is an error."""
    spatial = operands["input"].shape[2:]
    parameters: dict[str, Any] = {"data_format": "channels_first"}
    if operator == "Conv":
        path = "/conv/forward"
        assert attributes.pop("kernel_shape") == list(operands["weight"].shape[2:])
        parameters["groups"] = attributes.pop("group", 1)
    else:
        path = "/pool/forward"
        parameters["mode"] = "max" if operator.endswith("MaxPool") else "avg"
        # A global pooling is the one window over all of the input.
        parameters["kernel_size"] = list(spatial) if operator.startswith("Global") else attributes.pop("kernel_shape")
    if operator in {"MaxPool", "AveragePool"}:
        parameters["ceil_mode"] = bool(attributes.pop("ceil_mode", 0))
    if operator == "AveragePool":
        parameters["count_include_pad"] = bool(attributes.pop("count_include_pad", 0))
    if operator == "MaxPool":
        attributes.pop("storage_order", 0)
    parameters["stride"] = attributes.pop("strides", [1] * len(spatial))
    parameters["dilation"] = attributes.pop("dilations", [1] * len(spatial))
    auto_pad = attributes.pop("auto_pad", b"NOTSET").decode()
    pads = attributes.pop("pads", [0] * 2 * len(spatial))
    if auto_pad == "NOTSET":
        parameters["padding"] = [list(sides) for sides in zip(pads[: len(spatial)], pads[len(spatial) :], strict=True)]
    else:
        parameters["padding"] = PADDING_OF_AUTO_PAD[auto_pad]
    if attributes:
        raise ValueError(f"{operator} has attributes that are not translated: {sorted(attributes)}")
    return path, parameters
