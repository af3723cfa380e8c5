"""Of integers whose sums their type holds, every result is the true integer; without a term other than 0 it is 0.

Sums of float16 are in float32, and rounded once to what float16 holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import AvgPool, Conv, ConvInteger, ConvTranspose, Fold, LpPool, MaxPool, MaxUnpool, Unfold
from tests.cnn_core import tap_by_tap
from tests.cnn_core.tap_by_tap import RESULTS
from tests.oracle import conv_transpose, indices, loops, lp_pool, padding_modes, unfold
from tests.strategies import ConvCase, PoolCase, avg_pool_cases, conv_cases, max_pool_cases, quick_settings
from tests.strategies_conv import MatrixCase, conv_transpose_cases, matrix_cases, padding_mode_cases
from tests.strategies_pool import UnpoolCase, lp_pool_cases, unpool_cases

Array = NDArray[Any]

LIMITS = {"float16": 2**24, "float32": 2**24, "float64": 2**53}
"""Of the sums: the type that they are in holds all integers up to there."""

LARGEST = {"float16": 2**11, "float32": 2**24, "float64": 2**53}
"""Of an operand."""

WRT: Any = ("input", "weight", "bias")
each_algorithm = pytest.mark.parametrize("algorithm", ["auto", "direct"])
each_dtype = pytest.mark.parametrize("dtype", LIMITS)
dtypes = st.sampled_from(list(LIMITS))


def integers(like: Array | None, largest: int, dtype: str, seed: int) -> Any:
    """Integers from -largest to largest: some of them are 0, some the largest."""
    if like is None:
        return None
    random = np.random.default_rng([seed, like.size])
    values = random.integers(-largest, largest, like.shape, endpoint=True)
    kind = random.integers(0, 4, like.shape)
    return np.where(kind == 0, 0, np.where(kind == 1, np.sign(values) * largest, values)).astype(dtype)


def of_integers(case: ConvCase, dtype: str, terms: int) -> ConvCase:
    """A case whose operands are integers, so large that sums of so many products just fit the type."""
    largest = min(int((LIMITS[dtype] / (terms + 1)) ** 0.5), LARGEST[dtype])
    assert largest > 1
    operands = (case.input, case.weight, case.bias, case.grad_output)
    return ConvCase(case.parameters, *(integers(one, largest, dtype, seed) for seed, one in enumerate(operands)))


def most_terms(case: ConvCase) -> int:
    """Of any sum of a convolution, or of a transposed one: but for copied padding, no element is in a sum twice."""
    if "padding_mode" in case.parameters:
        return max(1, case.weight.size * case.grad_output.size)
    return max(case.weight.size, case.input.size, case.grad_output.size)


def computed(op: Any, case: ConvCase) -> dict[str, Array]:
    gradients = op.backward(case.grad_output, case.input, case.weight, case.bias, wrt=WRT)
    return {"output": op.forward(case.input, case.weight, case.bias), **gradients._asdict()}


def assert_integers(actual: Any, expected: Array, dtype: str) -> None:
    """Exactly what is expected, which is less than 2**53 and so exact in float64."""
    with np.errstate(over="ignore"):  # in float16 large ones are infinite
        np.testing.assert_array_equal(actual, expected.astype(dtype), strict=True)


# -------------------------------------------------------------------------------------------- convolutions, of any kind


@each_algorithm
@quick_settings
@given(st.one_of(conv_cases(), padding_mode_cases()), dtypes)
def test_convolutions_of_integers(algorithm: Any, drawn: ConvCase, dtype: str) -> None:
    case = of_integers(drawn, dtype, most_terms(drawn))
    oracle: Any = padding_modes if "padding_mode" in case.parameters else loops
    results = computed(Conv(**case.parameters, algorithm=algorithm), case)
    output = oracle.conv_forward(case.input, case.weight, case.bias, **case.parameters)
    gradients = oracle.conv_backward(case.grad_output, case.input, case.weight, case.bias, **case.parameters)
    for name, expected in zip(RESULTS, (output, *gradients), strict=True):
        assert_integers(results[name], expected, dtype)


@each_algorithm
@quick_settings
@given(conv_transpose_cases(), dtypes)
def test_transposed_convolutions_of_integers(algorithm: Any, drawn: ConvCase, dtype: str) -> None:
    case = of_integers(drawn, dtype, most_terms(drawn))
    operands = (case.input, case.weight, case.bias)
    results = computed(ConvTranspose(**case.parameters, algorithm=algorithm), case)
    output = conv_transpose.conv_transpose_forward(*operands, **case.parameters)
    gradients = conv_transpose.conv_transpose_backward(case.grad_output, *operands, **case.parameters)
    for name, expected in zip(RESULTS, (output, *gradients), strict=True):
        assert_integers(results[name], expected, dtype)


CATALOGUE: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "3 x 3": ({}, (1, 34, 34, 32), (3, 3, 32, 32)),
    "3 x 3, padded, channels first": ({"padding": 1, "data_format": "channels_first"}, (2, 33, 30, 35), (40, 33, 3, 3)),
    "3 x 3, reflected": ({"padding": 1, "padding_mode": "reflect"}, (1, 34, 33, 32), (3, 3, 32, 32)),
    "2 x 3 x 3": ({"padding": 1}, (1, 4, 20, 20, 32), (2, 3, 3, 32, 33)),
    "3 x 3, strided": ({"padding": 1, "stride": 2}, (1, 41, 40, 32), (3, 3, 32, 40)),
    "3 x 3, dilated": ({"padding": 2, "dilation": 2}, (1, 30, 31, 32), (3, 3, 32, 32)),
    "3 x 3, grouped": ({"padding": 1, "groups": 4}, (1, 30, 31, 64), (3, 3, 16, 32)),
    "3 x 3, few channels": ({"padding": 1}, (2, 60, 61, 3), (3, 3, 3, 5)),
    "5 x 5": ({"padding": "same"}, (1, 30, 31, 20), (5, 5, 20, 16)),
    "1 x 1": ({}, (2, 40, 41, 64), (1, 1, 64, 48)),
    "depthwise": ({"padding": 1, "groups": 64}, (2, 40, 41, 64), (3, 3, 1, 64)),
    "depthwise, strided": ({"padding": 1, "groups": 64, "stride": 2}, (2, 40, 41, 64), (3, 3, 1, 64)),
    "depthwise, long": ({"groups": 8, "padding": 150}, (1, 3000, 8), (301, 1, 8)),
    "long": ({}, (1, 3000, 1), (300, 1, 1)),
    "long, padded": ({"padding": "same"}, (2, 2500, 2), (401, 2, 3)),
    "long, strided": ({"stride": 3}, (1, 3000, 2), (350, 2, 2)),
    "19 x 19": ({"padding": 9}, (1, 60, 61, 2), (19, 19, 2, 2)),
    "7 x 7 x 7": ({"padding": 3}, (1, 14, 15, 16, 2), (7, 7, 7, 2, 1)),
    "long, channels first": ({"data_format": "channels_first"}, (2, 2, 2000), (3, 2, 333)),
}
each_layer = pytest.mark.parametrize("layer", CATALOGUE)


def layer_case(layer: str) -> ConvCase:
    """Operands of the shapes alone; the bias is that of the convolution."""
    parameters, input_shape, weight_shape = CATALOGUE[layer]
    output_shape = Conv(**parameters).output_shape(input_shape, weight_shape)
    features = weight_shape[0] if "data_format" in parameters else weight_shape[-1]
    return ConvCase(parameters, *map(np.zeros, (input_shape, weight_shape, (features,), output_shape)))


def layer_terms(layer: str) -> int:
    """At most, of one sum."""
    return max(tap_by_tap.conv(layer_case(layer)).terms.values())


@pytest.mark.one_in(5)
@each_algorithm
@each_dtype
@each_layer
def test_large_convolutions_of_integers(layer: str, dtype: str, algorithm: Any) -> None:
    case = of_integers(layer_case(layer), dtype, layer_terms(layer))
    results, expected = computed(Conv(**case.parameters, algorithm=algorithm), case), tap_by_tap.conv(case)
    for name in RESULTS:
        assert_integers(results[name], getattr(expected, name), dtype)


@pytest.mark.one_in(5)
@each_algorithm
@each_dtype
@pytest.mark.parametrize("layer", [layer for layer, (given, *_) in CATALOGUE.items() if "padding_mode" not in given])
def test_large_transposed_convolutions_of_integers(layer: str, dtype: str, algorithm: Any) -> None:
    """Each is the gradient of a convolution, whose input has the size of the output here."""
    conv = of_integers(layer_case(layer), dtype, layer_terms(layer))
    expected = tap_by_tap.conv(conv)
    first = "data_format" in conv.parameters
    sizes = conv.input.shape[2:] if first else conv.input.shape[1:-1]
    op = ConvTranspose(**conv.parameters, output_size=sizes, algorithm=algorithm)
    case = ConvCase(conv.parameters, conv.grad_output, conv.weight, None, conv.input)
    results = computed(op, case)
    convolved = expected.output - np.reshape(conv.bias, (-1, *[1] * len(sizes)) if first else (-1,))  # type: ignore[arg-type]  # it has one
    assert_integers(results["output"], expected.grad_input, dtype)
    assert_integers(results["grad_input"], convolved, dtype)
    assert_integers(results["grad_weight"], expected.grad_weight, dtype)


@pytest.mark.one_in(5)
@each_algorithm
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_layer
def test_a_sum_without_terms_is_zero(layer: str, dtype: str, algorithm: Any) -> None:
    """Beside large numbers with all their digits: the middle third of the operands is zeros, and most of the weight."""
    shapes = layer_case(layer)
    random = np.random.default_rng(1)
    first = "data_format" in shapes.parameters

    def with_zeros(shape: tuple[int, ...]) -> Array:
        values = 1e6 * random.standard_normal(shape)
        axis = 2 if first else 1
        place: list[slice] = [slice(None)] * len(shape)
        place[axis] = slice(shape[axis] // 3, -(shape[axis] // 3))
        values[tuple(place)] = 0
        return values.astype(dtype)

    weight = (random.standard_normal(shapes.weight.shape) * (random.random(shapes.weight.shape) < 0.02)).astype(dtype)
    case = ConvCase(
        shapes.parameters, with_zeros(shapes.input.shape), weight, None, with_zeros(shapes.grad_output.shape)
    )
    image, taps, gradient = ((one != 0).astype(np.float64) for one in (case.input, case.weight, case.grad_output))
    counts = tap_by_tap.conv(ConvCase(case.parameters, image, taps, None, gradient))
    results = computed(Conv(**case.parameters, algorithm=algorithm), case)
    for name in ("output", "grad_input"):
        without = getattr(counts, name) == 0
        assert without.any()
        np.testing.assert_array_equal(results[name][without], 0)


@pytest.mark.parametrize(
    "layer", [layer for layer, (given, *_) in CATALOGUE.items() if "padding_mode" not in given and "7 x" not in layer]
)
def test_large_convolutions_of_bytes(layer: str) -> None:
    shapes, random = layer_case(layer), np.random.default_rng(2)
    image = random.integers(0, 255, shapes.input.shape, dtype=np.uint8, endpoint=True)
    weight = random.integers(-128, 127, shapes.weight.shape, dtype=np.int8, endpoint=True)
    expected = tap_by_tap.conv(
        ConvCase(shapes.parameters, image.astype(float), weight.astype(float), None, shapes.grad_output)
    )
    assert_integers(ConvInteger(**shapes.parameters).forward(image, weight), expected.output, "int32")


# -------------------------------------------------------------------------------------------------------------- pooling


@quick_settings
@given(avg_pool_cases(), dtypes, st.sampled_from([1, -2, 4]))
def test_averages_of_integers_are_rounded_once(case: PoolCase, dtype: str, divisor: int) -> None:
    """And their gradients, with a divisor that has no remainder, are integers."""
    largest = min(LIMITS[dtype] // max(1, 8 * case.input.size), LARGEST[dtype] // 4)
    image = integers(case.input, largest, dtype, 0)
    expected = loops.avg_pool_forward(image, **case.parameters)
    assert_integers(AvgPool(**case.parameters).forward(image), expected, dtype)
    parameters = {**case.parameters, "divisor_override": divisor}
    gradient = 4 * integers(case.grad_output, min(largest, 100), dtype, 1)
    expected = loops.avg_pool_backward(gradient, image, **parameters)
    assert_integers(AvgPool(**parameters).backward(gradient, image), expected, dtype)


@quick_settings
@given(max_pool_cases(finite=True), dtypes, st.sampled_from(["first", "all"]))
def test_maxima_of_integers(case: PoolCase, dtype: str, ties: str) -> None:
    parameters = {**case.parameters, "ties": ties}
    image = np.round(case.input).astype(dtype)
    gradient = integers(case.grad_output, min(LIMITS[dtype] // 100, LARGEST[dtype]), dtype, 1)
    op = MaxPool(**parameters)
    assert_integers(op.forward(image), loops.max_pool_forward(image, **parameters), dtype)
    assert_integers(op.backward(gradient, image), loops.max_pool_backward(gradient, image, **parameters), dtype)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@each_dtype
@pytest.mark.parametrize(
    "parameters", [{"kernel_size": 2}, {"kernel_size": 4, "stride": 1}, {"kernel_size": (16, 32), "stride": 2}]
)
def test_large_averages_of_integers(parameters: dict[str, Any], dtype: str, data_format: str) -> None:
    """A power of two has no remainder; sums and gradients are those of a convolution with ones."""
    kernel = np.ones(np.broadcast_to(parameters["kernel_size"], 2))
    first = data_format == "channels_first"
    shape = (2, 3, 70, 81) if first else (2, 70, 81, 3)
    op = AvgPool(**parameters, data_format=data_format)  # type: ignore[arg-type]  # one of the two
    largest = min(LIMITS[dtype] // kernel.size, LARGEST[dtype]) // 4
    image = integers(np.empty(shape), largest, dtype, 0)
    gradient = (kernel.size * integers(np.empty(op.output_shape(shape)), 3, dtype, 1)).astype(dtype)
    ones = np.stack([kernel] * 3)[:, None] if first else np.stack([kernel] * 3, -1)[:, :, None]
    stride = parameters.get("stride", parameters["kernel_size"])
    case = ConvCase({"stride": stride, "groups": 3, "data_format": data_format}, image, ones, None, gradient)
    expected = tap_by_tap.conv(case)
    assert_integers(op.forward(image), expected.output / kernel.size, dtype)
    assert_integers(op.backward(gradient, image), expected.grad_input / kernel.size, dtype)


@quick_settings
@given(lp_pool_cases(finite=True), dtypes, st.sampled_from([1, 2]))
def test_norms_of_integers_are_rounded_once(case: PoolCase, dtype: str, norm_type: int) -> None:
    """The sum of absolute values is an integer, and so is the root of a square number."""
    parameters = {**case.parameters, "norm_type": norm_type}
    largest = int((LIMITS[dtype] // max(1, case.input.size)) ** (1 / norm_type))
    image = integers(case.input, min(largest, LARGEST[dtype]), dtype, 0)
    gradient = integers(case.grad_output, 100, dtype, 1)
    op = LpPool(**parameters)
    assert_integers(op.forward(image), lp_pool.lp_pool_forward(image, **parameters), dtype)
    if norm_type == 1:
        expected = lp_pool.lp_pool_backward(gradient, image, **parameters)
        assert_integers(op.backward(gradient, image), expected, dtype)


@each_dtype
@pytest.mark.parametrize("kernel_size", [(2, 2), (3, 1), (15, 16)])
@pytest.mark.parametrize("norm_type", [1, 2])
def test_large_norms_of_integers(norm_type: int, dtype: str, kernel_size: tuple[int, int]) -> None:
    image = integers(np.empty((2, 60, 61, 3)), 30, dtype, 0)
    powers = np.abs(image.astype(np.int64)) ** norm_type
    sums = np.lib.stride_tricks.sliding_window_view(powers, kernel_size, axis=(1, 2)).sum(axis=(-1, -2))
    output = LpPool(kernel_size=kernel_size, stride=1, norm_type=norm_type).forward(image)
    assert_integers(output, np.sqrt(sums) if norm_type == 2 else sums, dtype)


# ------------------------------------------------------------------------------------------- ops that move and add


@quick_settings
@given(matrix_cases(), dtypes)
def test_unfolded_and_folded_integers(case: MatrixCase, dtype: str) -> None:
    largest = min(LIMITS[dtype] // max(1, case.matrix.size), LARGEST[dtype])
    image, matrix = integers(case.input, largest, dtype, 0), integers(case.matrix, largest, dtype, 1)
    columns = unfold.unfold(image, **case.parameters)
    folded = unfold.fold(matrix, output_size=case.sizes, **case.parameters)
    assert_integers(Unfold(**case.parameters).forward(image), columns, dtype)
    assert_integers(Unfold(**case.parameters).backward(matrix, image), folded, dtype)
    fold = Fold(output_size=tuple(case.sizes), **case.parameters)
    assert_integers(fold.forward(matrix), folded, dtype)
    assert_integers(fold.backward(image, matrix), columns, dtype)


@quick_settings
@given(unpool_cases(), dtypes)
def test_unpooled_integers(case: UnpoolCase, dtype: str) -> None:
    values = integers(case.input, LARGEST[dtype], dtype, 0)
    gradient = integers(case.grad_output, LARGEST[dtype], dtype, 1)
    op, operands = MaxUnpool(**case.parameters), (values, case.indices)
    assert_integers(op.forward(*operands), indices.unpool(*operands, **case.parameters), dtype)
    assert_integers(op.backward(gradient, *operands), indices.unpool(*operands, gradient, **case.parameters), dtype)
