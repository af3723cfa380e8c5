"""A part of a batch or of an image has the bits that it has in the whole: of the output, and of grad_input.

So what is computed by blocks, or image by image, equals what one call computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Conv, ConvTranspose
from cnn_core.kernels.conv.alignment import Alignment, grad_input_alignment
from cnn_core.operands import accumulation_dtype
from tests.cnn_core.parts import assert_same_bits, part_of, parts
from tests.cnn_core.rows_alike import adds_rows_alike
from tests.cnn_core.small_blocks import small_blocks
from tests.strategies import quick_settings

Array = NDArray[Any]

many_settings = settings(quick_settings, max_examples=150)
very_many_settings = settings(quick_settings, max_examples=4000)

MOST_SIZE = {1: 60, 2: 24, 3: 9}
MOST_TAPS = {1: 12, 2: 5, 3: 3}
JOINED, MIN_JOINED = 8, 9
"""Windows of few channels are computed together, so many at most, where there are so many along the last axis."""

TYPES = [each for each in ("float16", "float32", "float64") if adds_rows_alike(each.replace("16", "32"))]


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """A convolution, channels-last; padding has a pair for each axis."""

    parameters: dict[str, Any]
    input: Array
    weight: Array
    bias: Array | None
    grad_output: Array

    def __repr__(self) -> str:
        dtype = self.input.dtype
        return f"{dtype} {self.input.shape} * {self.weight.shape} bias {self.bias is not None} {self.parameters}"

    def axis(self, axis: int, padding: list[int]) -> dict[str, Any]:
        """Return the parameters with another padding of one axis."""
        changed = [list(pair) for pair in self.parameters["padding"]]
        changed[axis] = padding
        return {**self.parameters, "padding": changed}


@st.composite
def cases(draw: st.DrawFn, *, modes: bool = True) -> Case:
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, MOST_TAPS[rank])) for _ in range(rank)]
    stride = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(rank)]
    dilation = [draw(st.sampled_from([1, 1, 2])) for _ in range(rank)]
    extents = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    sizes = [extent + draw(st.integers(0, MOST_SIZE[rank])) for extent in extents]
    padding = [[draw(st.integers(0, taps - 1)) for _ in range(2)] for taps in kernel]
    groups = draw(st.sampled_from([1, 1, 1, 2, 4]))
    channels = groups * draw(st.sampled_from([1, 2, 3, 5, 8, 16, 17, 64 // groups]))
    dtype = draw(st.sampled_from(TYPES))
    features = groups * draw(st.sampled_from([1, 1, 2, 3, 4, 7, 16, 33, 64]))
    parameters: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
    fits = all(max(pair) < size for pair, size in zip(padding, sizes, strict=True))
    if modes and fits and any(map(any, padding)):
        parameters["padding_mode"] = draw(st.sampled_from(["zeros", "zeros", "reflect", "circular", "replicate"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    input_shape = (draw(st.integers(2, 9)), *sizes, channels)
    weight_shape = (*kernel, channels // groups, features)
    operands = [random.standard_normal(shape).astype(dtype) for shape in (input_shape, weight_shape, (features,))]
    shape = Conv(**parameters, data_format="channels_last").output_shape(input_shape, weight_shape)
    bias = operands[2] if draw(st.booleans()) else None
    return Case(parameters, operands[0], operands[1], bias, random.standard_normal(shape).astype(dtype))


def check_images(case: Case, numbers: tuple[int, int], *, first: bool, transposed: bool) -> None:
    parameters = {**case.parameters, "data_format": "channels_first" if first else "channels_last"}
    input, gradient, weight = case.input, case.grad_output, case.weight
    if first:
        input, gradient = (np.ascontiguousarray(np.moveaxis(each, -1, 1)) for each in (input, gradient))
        weight = np.ascontiguousarray(np.moveaxis(weight, (-1, -2), (0, 1)))
    conv = Conv(**parameters)

    def forward(some: slice) -> Array:
        return conv.forward(input[some], weight, case.bias)

    def backward(some: slice) -> Array | None:
        return conv.backward(gradient[some], input[some], weight, case.bias, wrt=["input"]).grad_input

    def transpose(some: slice) -> Array:
        sizes = input.shape[2:] if first else input.shape[1:-1]
        return ConvTranspose(**parameters, output_size=sizes).forward(gradient[some], weight)

    everything = slice(0, len(input))
    for some in (part_of(len(input), numbers), slice(numbers[0] % len(input), numbers[0] % len(input) + 1)):
        for computed in (forward, backward, *((transpose,) if transposed else ())):
            whole = computed(everything)
            assert whole is not None
            assert_same_bits(computed(some), whole[some], (computed.__name__, some))


def check_region(case: Case, axis: int, numbers: tuple[int, int]) -> None:
    """Some outputs along one axis, from the part of the input that they need."""
    axis %= len(case.parameters["stride"])
    stride, (before, _) = case.parameters["stride"][axis], case.parameters["padding"][axis]
    extent = (case.weight.shape[axis] - 1) * case.parameters["dilation"][axis] + 1
    outputs, size = case.grad_output.shape[1 + axis], case.input.shape[1 + axis]
    chosen = part_of(outputs, numbers)
    if axis == case.input.ndim - 3 and outputs >= MIN_JOINED:  # the last axis
        start = chosen.start // JOINED * JOINED
        if outputs - start < MIN_JOINED:
            start -= JOINED
        chosen = slice(start, max(chosen.stop, start + MIN_JOINED))
    low, high = chosen.start * stride - before, (chosen.stop - 1) * stride + extent - before
    padding = [max(0, -low), max(0, high - size)]
    part = (slice(None),) * (1 + axis) + (slice(max(0, low), min(size, high)),)
    whole = Conv(**case.parameters, data_format="channels_last").forward(case.input, case.weight, case.bias)
    if case.input[part].size == 0:  # windows in the padding alone
        return
    op = Conv(**case.axis(axis, padding), data_format="channels_last")
    region = op.forward(case.input[part], case.weight, case.bias)
    assert_same_bits(region, whole[(slice(None),) * (1 + axis) + (chosen,)], (axis, chosen))


def check_gradient_of_region(case: Case, axis: int, numbers: tuple[int, int]) -> None:
    """grad_input of some elements along one axis, and so the output of a transposed layer, from the windows there."""
    axis %= len(case.parameters["stride"])
    rank = len(case.parameters["stride"])
    op = Conv(**case.parameters, data_format="channels_last")
    (before, _), stride = case.parameters["padding"][axis], case.parameters["stride"][axis]
    extent = (case.weight.shape[axis] - 1) * case.parameters["dilation"][axis] + 1
    size, outputs = case.input.shape[1 + axis], case.grad_output.shape[1 + axis]
    chosen = part_of(size, numbers)
    low, high, alignment = chosen.start, chosen.stop, Alignment()
    if axis == rank - 1:
        itemsize = accumulation_dtype(case.input.dtype).itemsize
        alignment = grad_input_alignment(op.resolve(case.input.shape, case.weight.shape).problem(itemsize))
    if alignment.of_elements:
        low, high = alignment.around(low, high, size)
    first = max(0, (low + before - extent) // stride + 1)
    stop = min(outputs, (high - 1 + before) // stride + 1)
    if first >= stop:  # no window is there
        return
    if alignment.of_elements:
        first = min(first, (low + before) // stride)
    else:
        first, stop = alignment.around(first, stop, outputs)
        low, high = max(0, first * stride - before), min(size, (stop - 1) * stride + extent - before)
    padding = [low + before - first * stride, max(0, (stop - 1) * stride + extent - before - high)]
    ahead = (slice(None),) * (1 + axis)
    gradient, covered = case.grad_output[(*ahead, slice(first, stop))], case.input[(*ahead, slice(low, high))]
    inside = slice(max(chosen.start, low), min(chosen.stop, high))
    in_part, in_whole = (*ahead, slice(inside.start - low, inside.stop - low)), (*ahead, inside)
    whole = op.backward(case.grad_output, case.input, case.weight, wrt=["input"]).grad_input
    part = (
        Conv(**case.axis(axis, padding), data_format="channels_last")
        .backward(gradient, covered, case.weight, wrt=["input"])
        .grad_input
    )
    assert whole is not None
    assert part is not None
    assert_same_bits(part[in_part], whole[in_whole], (axis, chosen))
    bias = None if case.bias is None else np.resize(case.bias, case.input.shape[-1])

    def transpose(parameters: dict[str, Any], gradient: Array, input: Array) -> Array:
        op = ConvTranspose(**parameters, data_format="channels_last", output_size=input.shape[1:-1])
        return op.forward(gradient, case.weight, bias)

    whole = transpose(case.parameters, case.grad_output, case.input)
    part = transpose(case.axis(axis, padding), gradient, covered)
    assert_same_bits(part[in_part], whole[in_whole], ("transposed", axis, chosen))


# --------------------------------------------------------------------------------------------------------------- tests


@many_settings
@given(cases(), parts, st.booleans())
def test_images(case: Case, numbers: tuple[int, int], first: bool) -> None:
    check_images(case, numbers, first=first, transposed="padding_mode" not in case.parameters)


@many_settings
@given(cases(modes=False), st.integers(0, 2), parts)
def test_regions(case: Case, axis: int, numbers: tuple[int, int]) -> None:
    check_region(case, axis, numbers)


@many_settings
@given(cases(modes=False), st.integers(0, 2), parts)
def test_gradients_of_regions(case: Case, axis: int, numbers: tuple[int, int]) -> None:
    check_gradient_of_region(case, axis, numbers)


SCATTERED: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "runs": ({"padding": [[2, 2]]}, (40, 3), (5, 3, 40)),
    "runs, strided": ({"stride": [2, 2], "padding": [[1, 2], [0, 3]]}, (12, 30, 3), (5, 7, 3, 40)),
    "joined": ({"padding": [[2, 2], [2, 2]]}, (9, 50, 1), (5, 5, 1, 6)),
    "joined, strided": ({"stride": [1, 2], "padding": [[0, 0], [2, 1]]}, (9, 90, 2), (3, 5, 2, 7)),
    "dilated": ({"dilation": [1, 2], "padding": [[1, 1], [2, 2]]}, (9, 30, 3), (3, 4, 3, 40)),
    "groups": ({"groups": 2, "padding": [[1, 1], [2, 2]]}, (9, 30, 6), (3, 5, 3, 40)),
    "a long kernel": ({"padding": [[40, 9]]}, (300, 2), (101, 2, 1)),
    "gathered, joined": ({"padding": [[1, 1], [1, 1]]}, (9, 50, 8), (3, 3, 8, 8)),
    "gathered, strided and joined": ({"stride": [1, 2], "padding": [[1, 1], [3, 1]]}, (9, 90, 8), (3, 4, 8, 8)),
    "gathered, one tap and a bias": ({"stride": [2], "padding": [[1, 1]]}, (90, 12), (3, 12, 16)),
    "windows in the padding": ({"padding": [[1, 1], [4, 5]]}, (9, 30, 16), (3, 3, 16, 20)),
}
"""Layers whose gradients are computed in every way."""


@pytest.mark.parametrize("dtype", [each for each in TYPES if each != "float16"])
@pytest.mark.parametrize("name", SCATTERED)
def test_gradients_of_regions_of_every_kind(name: str, dtype: str) -> None:
    given_parameters, input_shape, weight_shape = SCATTERED[name]
    rank = len(input_shape) - 1
    parameters = {"stride": [1] * rank, "dilation": [1] * rank, "groups": 1, **given_parameters}
    shape = Conv(**parameters, data_format="channels_last").output_shape((2, *input_shape), weight_shape)
    random = np.random.default_rng(0)
    shapes = ((2, *input_shape), weight_shape, weight_shape[-1:], shape)
    input, weight, bias, gradient = (random.standard_normal(each).astype(dtype) for each in shapes)
    case = Case(parameters, input, weight, bias, gradient)
    for axis in range(rank):
        for start in range(0, input_shape[axis], 3):
            check_gradient_of_region(case, axis, (start, 6))


@pytest.mark.parametrize("dtype", [each for each in TYPES if each != "float16"])
def test_gradients_of_parts_of_a_long_row(dtype: str) -> None:
    """Whose windows are divided into blocks: in the part at other places than in the whole."""
    random = np.random.default_rng(0)
    parameters = {"stride": [1], "dilation": [1], "groups": 1, "padding": [[2, 2]]}
    input, weight = (
        random.standard_normal((1, 40_000, 1)).astype(dtype),
        random.standard_normal((9, 1, 40)).astype(dtype),
    )
    gradient = random.standard_normal((1, 39_996, 40)).astype(dtype)
    for start in (0, 5_000, 10_003):
        check_gradient_of_region(Case(parameters, input, weight, None, gradient), 0, (start, 29_000))


@pytest.mark.parametrize("seed", range(40))
def test_gradients_do_not_depend_on_the_blocks(seed: int) -> None:
    """Where they are scattered: rows, and parts of rows, are added to those before in the order of one block."""
    random = np.random.default_rng(seed)
    rank, dtype = int(random.integers(1, 4)), str(random.choice(TYPES))
    kernel, stride = random.integers(1, 6, rank).tolist(), random.integers(1, 3, rank).tolist()
    dilation, groups = random.choice([1, 1, 2], rank).tolist(), int(random.choice([1, 1, 2]))
    channels, features = groups * int(random.integers(1, 6)), groups * int(random.choice([1, 3, 20]))
    extents = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    spatial = [extent + int(random.integers(0, (400, 40, 9)[rank - 1])) for extent in extents]
    op = Conv(stride=stride, dilation=dilation, padding=1, groups=groups, data_format="channels_last")
    input = random.standard_normal((2, *spatial, channels)).astype(dtype)
    weight = random.standard_normal((*kernel, channels // groups, features)).astype(dtype)
    gradient = random.standard_normal(op.output_shape(input.shape, weight.shape)).astype(dtype)

    def grad_input() -> Array | None:
        return op.backward(gradient, input, weight, wrt=["input"]).grad_input

    whole = grad_input()
    for block_bytes in (2**9, 2**11, 2**14):
        with small_blocks(block_bytes):
            assert_same_bits(grad_input(), whole, block_bytes)


@pytest.mark.parametrize("dtype", [each for each in TYPES if each != "float16"])
@pytest.mark.parametrize("features", [3, 20, 33])
def test_gradients_of_single_windows_of_depthwise_layers(features: int, dtype: str) -> None:
    """In channels_first, where a feature's outputs are adjacent if they are several, and features if there is one."""
    random = np.random.default_rng(0)
    op = Conv(stride=3, groups=2, data_format="channels_first")
    input, weight = (random.standard_normal(shape).astype(dtype) for shape in ((2, 2, 60), (2 * features, 1, 2)))
    gradient = random.standard_normal(op.output_shape(input.shape, weight.shape)).astype(dtype)
    whole = op.backward(gradient, input, weight, wrt=["input"]).grad_input
    assert whole is not None
    for window in range(gradient.shape[-1]):
        some = slice(3 * window, 3 * window + 2)  # of no other window
        alone = np.ascontiguousarray(gradient[..., window : window + 1])
        part = op.backward(alone, input[..., some], weight, wrt=["input"]).grad_input
        assert_same_bits(part, whole[..., some], window)


@pytest.mark.exhaustive
@very_many_settings
@given(cases(modes=False), st.integers(0, 2), parts)
def test_gradients_of_regions_of_many_layers(case: Case, axis: int, numbers: tuple[int, int]) -> None:
    check_gradient_of_region(case, axis, numbers)


@pytest.mark.exhaustive
@very_many_settings
@given(cases(), parts, st.booleans())
def test_images_of_many_layers(case: Case, numbers: tuple[int, int], first: bool) -> None:
    check_images(case, numbers, first=first, transposed="padding_mode" not in case.parameters)


@pytest.mark.exhaustive
@very_many_settings
@given(cases(modes=False), st.integers(0, 2), parts)
def test_regions_of_many_layers(case: Case, axis: int, numbers: tuple[int, int]) -> None:
    check_region(case, axis, numbers)


@pytest.mark.parametrize("kernel", [(5, 5, 1, 6), (3, 3, 64, 64), (1, 1, 128, 100), (3, 3, 16, 1)])
def test_large_images(kernel: tuple[int, ...]) -> None:
    """Of many blocks, each of many products."""
    random = np.random.default_rng(0)
    input = random.standard_normal((3, 96, 100, kernel[2])).astype(np.float32)
    weight = random.standard_normal(kernel).astype(np.float32)
    if not adds_rows_alike("float32"):
        input, weight = input.astype(float), weight.astype(float)
    op = Conv(data_format="channels_last")
    output = op.forward(input, weight)
    gradient = random.standard_normal(output.shape).astype(input.dtype)
    grad_input = op.backward(gradient, input, weight, wrt=["input"]).grad_input
    assert grad_input is not None
    for image in range(3):
        some = slice(image, image + 1)
        assert_same_bits(op.forward(input[some], weight), output[some], image)
        part = op.backward(gradient[some], input[some], weight, wrt=["input"]).grad_input
        assert_same_bits(part, grad_input[some], image)
    for start, stop in ((0, 1), (5, 47), (40, output.shape[1])):
        rows = input[:, start : stop + kernel[0] - 1]
        assert_same_bits(op.forward(rows, weight), output[:, start:stop], (start, stop))
    assert math.prod(output.shape[:3]) * math.prod(kernel) > 10**6


def test_a_region_of_a_depthwise_layer_whose_weight_has_another_order() -> None:
    """Einsum orders its loops by the strides of all operands."""
    random = np.random.default_rng(0)
    input, weight = random.standard_normal((1, 4, 3, 25)), random.standard_normal((68, 1, 2, 3))
    parameters: dict[str, Any] = {"stride": (1, 2), "groups": 4, "data_format": "channels_first"}
    whole = Conv(padding=((2, 0), (0, 1)), **parameters).forward(input, weight)
    region = Conv(**parameters).forward(input[..., 22:25], weight)
    assert_same_bits(region, whole[:, :, 2:4, 11:12], "region")


def test_an_infinity_changes_no_other_output() -> None:
    """Where windows are joined, those with an infinity are computed again, and no others."""
    random = np.random.default_rng(0)
    input, weight = random.standard_normal((2, 20, 24, 3)), random.standard_normal((3, 3, 3, 5))
    op = Conv(data_format="channels_last")
    finite = op.forward(input, weight)
    input[1, 10, 11, 1] = np.inf
    output = op.forward(input, weight)
    differs = output != finite
    assert differs[1, 8:11, 9:12].all()
    differs[1, 8:11, 9:12] = False
    assert not differs.any()
