"""Layers of every kind that are computed in several blocks, and in several sums side by side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Conv, ConvTranspose
from tests.cnn_core import tap_by_tap
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.tap_by_tap import Results, assert_near
from tests.comparisons import normal
from tests.oracle.windows import OracleError, geometry
from tests.strategies import ConvCase, quick_settings

Array = NDArray[Any]
ResolvedOp = tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]

BOUNDS = {"float32": 2e-6, "float64": 1e-12}

MANY_TERMS = 2048
"""Sums in float32 of more terms, one after the other, may lose more: as the square root of their number."""

LARGE: dict[str, ResolvedOp] = {
    "3 x 3": ({"padding": 1}, (4, 40, 41, 24), (3, 3, 24, 40)),
    "few channels": ({"padding": 3, "stride": 2}, (4, 90, 91, 3), (7, 7, 3, 16)),
    "strided": ({"padding": 1, "stride": 2}, (6, 45, 46, 32), (3, 3, 32, 24)),
    "dilated": ({"padding": 2, "dilation": [2, 3]}, (3, 40, 44, 24), (3, 3, 24, 20)),
    "depthwise": ({"padding": 1, "groups": 40}, (4, 50, 51, 40), (3, 3, 1, 40)),
    "depthwise with a multiplier": ({"padding": 1, "groups": 24}, (4, 40, 41, 24), (3, 3, 1, 48)),
    "depthwise, strided": ({"padding": [[0, 2], [1, 3]], "stride": 2, "groups": 40}, (4, 60, 61, 40), (3, 3, 1, 40)),
    "depthwise, dilated": ({"padding": 2, "dilation": 2, "groups": 32}, (4, 50, 51, 32), (3, 3, 1, 32)),
    "depthwise, wide": ({"padding": [2, 1], "groups": 600}, (2, 14, 15, 600), (5, 3, 1, 600)),
    "depthwise of many taps": ({"padding": 3, "groups": 24}, (2, 40, 41, 24), (7, 9, 1, 24)),
    "depthwise of more taps than one pass takes": ({"groups": 2}, (4, 60, 71, 2), (33, 32, 1, 4)),
    "groups of two": ({"padding": 1, "groups": 24}, (3, 30, 31, 48), (3, 3, 2, 48)),
    "groups of three, strided": ({"padding": 1, "stride": 2, "groups": 8}, (4, 60, 61, 24), (3, 3, 3, 32)),
    "groups of sixteen": ({"padding": 1, "groups": 3}, (3, 40, 41, 48), (3, 3, 16, 60)),
    "one feature for each group": ({"padding": 1, "groups": 12}, (3, 40, 41, 48), (3, 3, 4, 12)),
    "1-D": ({"padding": [[4, 0]]}, (5, 3000, 12), (5, 12, 20)),
    "1-D, dilated": ({"padding": 8, "dilation": 4, "stride": 3}, (3, 6001, 16), (5, 16, 20)),
    "1-D, depthwise": ({"padding": 3, "groups": 48}, (3, 2000, 48), (7, 1, 96)),
    "3-D": ({"padding": 1}, (2, 13, 14, 15, 12), (3, 3, 3, 12, 16)),
    "3-D, strided": ({"padding": [[0, 1], [2, 1], [1, 1]], "stride": [1, 2, 2]}, (4, 17, 19, 20, 8), (3, 2, 3, 8, 12)),
    "3-D, depthwise": ({"padding": 1, "groups": 16}, (2, 17, 18, 19, 16), (3, 3, 3, 1, 16)),
    "pointwise": ({}, (4, 45, 46, 40), (1, 1, 40, 56)),
    "pointwise, strided": ({"stride": 2}, (6, 61, 62, 40), (1, 1, 40, 56)),
    "pointwise, padded": ({"padding": [[1, 0], [0, 2]]}, (4, 45, 46, 40), (1, 1, 40, 56)),
    "pointwise in groups": ({"groups": 4}, (4, 45, 46, 48), (1, 1, 12, 64)),
    "a large weight": ({"padding": 1}, (3, 7, 8, 200), (3, 3, 200, 210)),
    "a large weight, strided": ({"padding": 1, "stride": 2}, (3, 14, 15, 200), (3, 3, 200, 210)),
    "to one feature": ({"padding": 1}, (3, 60, 61, 40), (3, 3, 40, 1)),
    "from one channel": ({"padding": 1}, (3, 60, 61, 1), (3, 3, 1, 40)),
    "replicated padding": ({"padding": [[3, 1], [0, 2]], "padding_mode": "replicate"}, (3, 40, 41, 16), (3, 3, 16, 24)),
    "reflected padding": ({"padding": 2, "padding_mode": "reflect", "groups": 32}, (3, 40, 41, 32), (5, 5, 1, 32)),
}


def case_of(layer: ResolvedOp, dtype: str, data_format: str, seed: int = 0) -> ConvCase:
    """Operands of a layer in either layout, from its shapes in channels_last."""
    parameters, input_shape, weight_shape = layer
    output_shape = Conv(**parameters).output_shape(input_shape, weight_shape)
    random = np.random.default_rng(seed)
    shapes = (input_shape, weight_shape, weight_shape[-1:], output_shape)
    image, weight, bias, gradient = (random.standard_normal(shape).astype(dtype) for shape in shapes)
    if data_format == "channels_first":
        image, gradient = np.moveaxis(image, -1, 1), np.moveaxis(gradient, -1, 1)
        weight = np.moveaxis(weight, (-1, -2), (0, 1))
        if seed % 2:
            image, weight, gradient = map(np.ascontiguousarray, (image, weight, gradient))
    return ConvCase({**parameters, "data_format": data_format}, image, weight, bias, gradient)


def assert_as_expected(case: ConvCase, expected: Results, algorithm: Any, dtype: str) -> None:
    op = Conv(**case.parameters, algorithm=algorithm)
    gradients = op.backward(case.grad_output, case.input, case.weight, case.bias)
    bound = 1e-5 if (algorithm, dtype) == ("fastest", "float32") else BOUNDS[dtype]
    for name, array in {"output": op.forward(case.input, case.weight, case.bias), **gradients._asdict()}.items():
        assert array.dtype == dtype
        terms = expected.terms[name]
        assert_near(array, getattr(expected, name), bound * max(1, math.sqrt(terms / MANY_TERMS)), terms)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LARGE.values(), ids=LARGE.keys())
def test_large_layers(layer: ResolvedOp, dtype: str) -> None:
    for seed, data_format in enumerate(("channels_last", "channels_first")):
        case = case_of(layer, dtype, data_format, seed)
        expected = tap_by_tap.conv(case)
        with small_blocks(2**20) as counts:  # their real size
            assert_as_expected(case, expected, "fastest" if seed else "direct", dtype)
        assert max(counts) > 1


@pytest.mark.one_in(3)
@pytest.mark.parametrize("partial_sum_bytes", [2**9, 2**20])
@pytest.mark.parametrize("layer", LARGE.values(), ids=LARGE.keys())
def test_small_blocks_of_large_layers(layer: ResolvedOp, partial_sum_bytes: int) -> None:
    """With few bytes for sums side by side, weights count as large ones."""
    case = case_of(layer, "float32", "channels_last", partial_sum_bytes)
    expected = tap_by_tap.conv(case)
    with small_blocks(2**15, partial_sum_bytes) as counts:
        assert_as_expected(case, expected, "direct", "float32")
    assert max(counts) > 8


@pytest.mark.parametrize("name", ["3 x 3", "strided", "1-D, dilated", "groups of three, strided", "depthwise, strided"])
def test_large_transposed_layers(name: str) -> None:
    parameters, input_shape, weight_shape = LARGE[name]
    case = case_of((parameters, input_shape, weight_shape), "float32", "channels_last")
    sizes = input_shape[1:-1]
    op = ConvTranspose(**parameters, output_size=sizes, algorithm="direct")
    expected = tap_by_tap.conv(ConvCase(case.parameters, case.input, case.weight, None, case.grad_output))
    for block_bytes in (2**20, 2**15):
        with small_blocks(block_bytes):
            bias = np.arange(input_shape[-1], dtype=np.float32)
            output = op.forward(case.grad_output, case.weight, bias)
            gradients = op.backward(case.input, case.grad_output, case.weight)
        assert_near(output, expected.grad_input + bias, 2e-6, expected.terms["grad_input"])
        assert_near(gradients.grad_input, expected.output, 2e-6, expected.terms["output"])
        assert_near(gradients.grad_weight, expected.grad_weight, 2e-6, expected.terms["grad_weight"])
        assert_near(gradients.grad_bias, case.input.sum((*range(len(sizes) + 1),), dtype=float), 2e-6, case.input.size)


@st.composite
def wide_cases(draw: st.DrawFn) -> tuple[ResolvedOp, str, int]:
    """Layers of 1 to 3 axes with more channels than the loops' cases have, their dtype, and the size of blocks."""
    rank = draw(st.integers(1, 3))
    several = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    sizes = draw(st.lists(st.integers(1, {1: 60, 2: 13, 3: 6}[rank]), min_size=rank, max_size=rank))
    pads = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=rank, max_size=rank))
    kernel, stride, dilation = draw(several), draw(several), draw(several)
    padding = [list(pair) for pair in pads]
    try:
        geometry(sizes, kernel, stride, padding, dilation)
    except OracleError:
        assume(condition=False)
    groups = draw(st.sampled_from([1, 1, 2, 5, 12, 12]))
    group_channels = draw(st.sampled_from([1, 1, 2, 3, 8, 17]))
    group_features = draw(st.sampled_from([1, 1, 2, 3, 9]))
    parameters = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    weight_shape = (*kernel, group_channels, group_features * groups)
    layer = (parameters, (draw(st.integers(0, 3)), *sizes, group_channels * groups), weight_shape)
    return layer, draw(st.sampled_from(["float32", "float64"])), draw(st.sampled_from([300, 5_000, 100_000]))


@settings(quick_settings, max_examples=40)
@given(wide_cases(), st.sampled_from(["channels_last", "channels_first"]), st.sampled_from([500, 20_000, 2**20]))
def test_any_layer_of_several_channels(
    drawn: tuple[ResolvedOp, str, int], data_format: str, partial_sum_bytes: int
) -> None:
    layer, dtype, block_bytes = drawn
    case = case_of(layer, dtype, data_format, partial_sum_bytes % 7)
    expected = tap_by_tap.conv(case)
    with small_blocks(block_bytes, partial_sum_bytes):
        assert_as_expected(case, expected, "direct", dtype)


@pytest.mark.parametrize("padding", [150, ((0, 301), (1, 1)), ((300, 303), (1, 1))])
def test_blocks_of_tiles_that_lie_in_the_padding(padding: Any) -> None:
    """The last of them has fewer outputs than the others, but the same windows."""
    image, weight = normal(1, 4, 4, 64), normal(3, 3, 64, 64)
    gradient = normal(*Conv(padding=padding).output_shape(image.shape, weight.shape))
    operands = [array.astype(np.float32) for array in (gradient, image, weight)]
    found = Conv(padding=padding, algorithm="winograd").backward(*operands)
    for actual, expected in zip(found, Conv(padding=padding).backward(gradient, image, weight), strict=True):
        assert actual is not None
        assert expected is not None
        np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
