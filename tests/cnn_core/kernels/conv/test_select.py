"""Every algorithm of a convolution gives the same results, up to the rounding that is its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Conv, ConvTranspose, ParameterError
from cnn_core.kernels.conv.winograd.kernel import Winograd
from tests.cnn_core import tap_by_tap
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.tap_by_tap import RESULTS, assert_near
from tests.comparisons import normal
from tests.oracle import conv_transpose, loops, padding_modes
from tests.strategies import ConvCase, conv_cases, quick_settings, thorough_settings
from tests.strategies_conv import backwards, big_endian, conv_transpose_cases, padding_mode_cases, read_only

Array = NDArray[Any]

ALGORITHMS: list[Any] = ["auto", "direct", "fastest", "winograd", "fft"]
algorithms = st.sampled_from(ALGORITHMS)
dtypes = st.sampled_from(["float32", "float64"])
layouts = st.sampled_from([np.ascontiguousarray, np.asfortranarray, backwards, read_only, big_endian])
WRT = ("input", "weight", "bias")


def bound_of(algorithm: str, dtype: str) -> float:
    """The relative error that an algorithm may make."""
    if dtype == "float64":
        return 1e-12
    return 2e-6 if algorithm in {"auto", "direct"} else 1e-5


def of_dtype(case: ConvCase, dtype: str) -> ConvCase:
    arrays = (case.input, case.weight, case.bias, case.grad_output)
    rounded = (None if array is None else array.astype(dtype) for array in arrays)
    return ConvCase(case.parameters, *rounded)  # type: ignore[arg-type]  # of these only the bias may be None


def computed(op: Conv | ConvTranspose, case: ConvCase) -> dict[str, Array]:
    gradients = op.backward(case.grad_output, case.input, case.weight, case.bias)
    return {"output": op.forward(case.input, case.weight, case.bias), **gradients._asdict()}


def assert_accurate(case: ConvCase, algorithm: Any, dtype: str) -> None:
    case = of_dtype(case, dtype)
    results, expected = computed(Conv(**case.parameters, algorithm=algorithm), case), tap_by_tap.conv(case)
    for name in RESULTS:
        assert results[name].dtype == dtype
        assert_near(results[name], getattr(expected, name), bound_of(algorithm, dtype), expected.terms[name])


@contextlib.contextmanager
def winograd_calls() -> Iterator[list[str]]:
    """Which computations Winograd's algorithm was taken for."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("forward", "grad_weight"):
            original = getattr(Winograd, name)

            def counted(*arguments: Any, name: str = name, original: Any = original, **named: Any) -> Any:
                calls.append(name)
                return original(*arguments, **named)

            patch.setattr(Winograd, name, counted)
        yield calls


@st.composite
def dense_cases(draw: st.DrawFn) -> ConvCase:
    """Convolutions of 3 x 3 with stride 1: any number of whole and partial tiles, of few channels or many."""
    sizes = draw(st.lists(st.integers(1, 14), min_size=2, max_size=2))
    pads = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=2))
    full = [size + sum(pair) for size, pair in zip(sizes, pads, strict=True)]
    assume(min(full) >= 3)
    room = min(size - max(pair) for size, pair in zip(sizes, pads, strict=True))
    modes = ["zeros", "zeros", "replicate", *(["circular"] if room >= 0 else []), *(["reflect"] if room > 0 else [])]
    parameters: dict[str, Any] = {
        "padding": [list(pair) for pair in pads],
        "padding_mode": draw(st.sampled_from(modes)),
        "data_format": draw(st.sampled_from(["channels_last", "channels_first"])),
    }
    channels, features = draw(st.tuples(*[st.one_of(st.integers(1, 6), st.sampled_from([33, 48, 80]))] * 2))
    batch = draw(st.sampled_from([0, 1, 1, 2, 2, 3]))
    outputs = [size - 2 for size in full]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = [(batch, *sizes, channels), (3, 3, channels, features), (batch, *outputs, features)]
    if parameters["data_format"] == "channels_first":
        shapes = [(batch, channels, *sizes), (features, channels, 3, 3), (batch, features, *outputs)]
    image, weight, gradient = (random.standard_normal(shape) for shape in shapes)
    bias_shape = draw(st.sampled_from([None, (features,), (1, 1, 1, features)]))
    return ConvCase(
        parameters, image, weight, None if bias_shape is None else random.standard_normal(bias_shape), gradient
    )


@st.composite
def deep_cases(draw: st.DrawFn) -> ConvCase:
    """Convolutions of 3 x 3 with stride 1 over the last two of three axes, and of any windows along the first."""
    depth, kernel, stride, dilation = (draw(st.integers(1, most)) for most in (7, 3, 3, 3))
    pads = [[draw(st.integers(0, 2)), draw(st.integers(0, 2))] for _ in range(3)]
    sizes = [depth, draw(st.integers(3, 9)), draw(st.integers(3, 9))]
    extent = (kernel - 1) * dilation + 1
    outputs = [(depth + sum(pads[0]) - extent) // stride + 1]
    assume(outputs[0] > 0)
    outputs += [size + sum(pair) - 2 for size, pair in zip(sizes[1:], pads[1:], strict=True)]
    parameters = {"padding": pads, "stride": [stride, 1, 1], "dilation": [dilation, 1, 1]}
    channels, features = draw(st.tuples(*[st.one_of(st.integers(1, 5), st.sampled_from([33, 40]))] * 2))
    batch = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = [(batch, *sizes, channels), (kernel, 3, 3, channels, features), (features,), (batch, *outputs, features)]
    return ConvCase(parameters, *(random.standard_normal(shape) for shape in shapes))


# --------------------------------------------------------------------------------------------------- the second oracle


@settings(quick_settings, max_examples=20)
@given(st.one_of(conv_cases(), padding_mode_cases()))
def test_tap_by_tap_agrees_with_the_loops(case: ConvCase) -> None:
    expected = tap_by_tap.conv(case)
    output = padding_modes.conv_forward(case.input, case.weight, case.bias, **case.parameters)
    gradients = padding_modes.conv_backward(
        case.grad_output, case.input, case.weight, case.bias, **case.parameters
    )._asdict()
    for name, by_loops in {"output": output, **gradients}.items():
        np.testing.assert_allclose(getattr(expected, name), by_loops, rtol=1e-12, atol=1e-12, strict=True)


# ----------------------------------------------------------------------------------------------------------- accuracy


@thorough_settings
@given(st.one_of(dense_cases(), deep_cases()), algorithms, dtypes)
def test_every_algorithm_agrees_on_windows_of_3_x_3(case: ConvCase, algorithm: Any, dtype: str) -> None:
    assert_accurate(case, algorithm, dtype)


@quick_settings
@given(
    st.one_of(dense_cases(), deep_cases()),
    algorithms,
    dtypes,
    st.sampled_from([100, 3_000, 50_000]),
    st.sampled_from([100, 2**20]),
)
def test_every_algorithm_agrees_in_many_blocks(
    case: ConvCase, algorithm: Any, dtype: str, block_bytes: int, partial_sum_bytes: int
) -> None:
    with small_blocks(block_bytes, partial_sum_bytes):
        assert_accurate(case, algorithm, dtype)


@thorough_settings
@given(st.one_of(conv_cases(), padding_mode_cases()), algorithms, dtypes, st.sampled_from([20, 400, 2**20]))
def test_every_algorithm_agrees_on_any_layer(case: ConvCase, algorithm: Any, dtype: str, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        assert_accurate(case, algorithm, dtype)


@quick_settings
@given(conv_transpose_cases(), algorithms, dtypes, st.sampled_from([20, 400, 2**20]))
def test_every_algorithm_agrees_on_any_transposed_layer(
    case: ConvCase, algorithm: Any, dtype: str, block_bytes: int
) -> None:
    case = of_dtype(case, dtype)
    with small_blocks(block_bytes):
        results = computed(ConvTranspose(**case.parameters, algorithm=algorithm), case)
    output = conv_transpose.conv_transpose_forward(case.input, case.weight, case.bias, **case.parameters)
    gradients = conv_transpose.conv_transpose_backward(
        case.grad_output, case.input, case.weight, case.bias, **case.parameters
    )
    for name, expected in {"output": output, **gradients._asdict()}.items():
        assert results[name].dtype == dtype
        assert_near(results[name], expected, bound_of(algorithm, dtype), 1)


@settings(quick_settings, max_examples=20)
@given(dense_cases(), algorithms, dtypes)
def test_transposed_windows_of_3_x_3_are_the_adjoint(case: ConvCase, algorithm: Any, dtype: str) -> None:
    parameters = {name: value for name, value in case.parameters.items() if name != "padding_mode"}
    case = of_dtype(ConvCase(parameters, case.input, case.weight, None, case.grad_output), dtype)
    expected = tap_by_tap.conv(case)
    op, bound = ConvTranspose(**parameters, algorithm=algorithm), bound_of(algorithm, dtype)
    assert_near(op.forward(case.grad_output, case.weight), expected.grad_input, bound, expected.terms["grad_input"])
    gradients = op.backward(case.input, case.grad_output, case.weight)
    assert_near(gradients.grad_input, expected.output, bound, expected.terms["output"])
    assert_near(gradients.grad_weight, expected.grad_weight, bound, expected.terms["grad_weight"])


@settings(quick_settings, max_examples=20)
@given(dense_cases(), algorithms)
def test_float16_is_computed_in_float32(case: ConvCase, algorithm: Any) -> None:
    case = of_dtype(case, "float16")
    results, expected = computed(Conv(**case.parameters, algorithm=algorithm), case), tap_by_tap.conv(case)
    for name in RESULTS:
        assert results[name].dtype == np.float16
        assert_near(results[name], getattr(expected, name), 2.0**-11 + 1e-5, expected.terms[name])


# ----------------------------------------------------------------------------------------------------------- operands


@quick_settings
@given(dense_cases(), algorithms, dtypes, layouts, layouts, st.sets(st.sampled_from(WRT), min_size=1))
def test_operands_of_any_layout_are_read_only(
    case: ConvCase, algorithm: Any, dtype: str, activations: Any, weights: Any, wrt: set[str]
) -> None:
    plain = of_dtype(case, dtype)
    bias = None if plain.bias is None else backwards(plain.bias)
    laid = ConvCase(
        plain.parameters, activations(plain.input), weights(plain.weight), bias, activations(plain.grad_output)
    )
    op, expected = Conv(**plain.parameters, algorithm=algorithm), tap_by_tap.conv(plain)
    output = op.forward(laid.input, laid.weight, laid.bias)
    gradients = op.backward(laid.grad_output, laid.input, laid.weight, laid.bias, wrt=sorted(wrt))._asdict()
    for name, array in {"output": output, **gradients}.items():
        if name == "output" or name.removeprefix("grad_") in wrt:
            assert array.dtype == dtype
            assert_near(array, getattr(expected, name), bound_of(algorithm, dtype), expected.terms[name])
        else:
            assert array is None
    for name in ("input", "weight", "bias", "grad_output"):
        if getattr(plain, name) is not None:
            np.testing.assert_array_equal(getattr(laid, name), getattr(plain, name))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_operands_of_several_dtypes_are_computed_in_the_widest(algorithm: Any) -> None:
    image, weight = normal(2, 9, 10, 40).astype("float32"), normal(3, 3, 40, 33, seed=1).astype("float16")
    expected = loops_of_few(image, weight)
    output = Conv(algorithm=algorithm).forward(image, weight)
    assert output.dtype == np.float32
    assert_near(output[:1, :1, :2], expected, 1e-5, 360)
    with winograd_calls() as calls:
        wide = Conv(algorithm="fastest").forward(image, weight.astype("float64"))
    assert not calls
    assert wide.dtype == np.float64
    assert_near(wide[:1, :1, :2], expected, 1e-12, 360)


def loops_of_few(image: Array, weight: Array) -> Array:
    return loops.conv_forward(image[:1, :3, :4], weight)


# ------------------------------------------------------------------------------------------------------- which is taken


def large_case(data_format: str = "channels_last") -> ConvCase:
    parameters = {"padding": 1, "data_format": data_format}
    image, weight, gradient = normal(4, 33, 34, 80), normal(3, 3, 80, 65, seed=1), normal(4, 33, 34, 65, seed=2)
    if data_format == "channels_first":
        image, gradient = np.moveaxis(image, -1, 1), np.moveaxis(gradient, -1, 1)
        weight = np.moveaxis(weight, (-1, -2), (0, 1))
    return ConvCase(parameters, image, weight, normal(65, seed=3), gradient)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("dtype", "taken"), [("float16", True), ("float32", True), ("float64", False)])
def test_fastest_takes_winograd_for_large_layers_but_never_in_float64(
    dtype: str, taken: bool, data_format: str
) -> None:
    case = of_dtype(large_case(data_format), dtype)
    with winograd_calls() as calls:
        results = computed(Conv(**case.parameters, algorithm="fastest"), case)
    # of backward, the gradient of the input is a correlation too
    assert sorted(calls) == (["forward", "forward", "grad_weight"] if taken else [])
    expected = tap_by_tap.conv(case)
    bound = 2.0**-11 + 1e-5 if dtype == "float16" else bound_of("fastest", dtype)
    for name in RESULTS:
        assert_near(results[name], getattr(expected, name), bound, expected.terms[name])


@pytest.mark.parametrize(("algorithm", "taken"), [("winograd", True), ("direct", False)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_algorithm_that_is_asked_for_is_taken(algorithm: Any, dtype: str, taken: bool) -> None:
    volume, deep = normal(2, 5, 9, 10, 4), normal(2, 3, 3, 4, 3, seed=1)
    with winograd_calls() as calls:
        Conv(stride=(2, 1, 1), algorithm=algorithm).forward(volume.astype(dtype), deep.astype(dtype))
    assert bool(calls) is taken
    case = of_dtype(large_case(), dtype)
    with winograd_calls() as calls:
        computed(Conv(**case.parameters, algorithm=algorithm), case)
    assert bool(calls) is taken
    with winograd_calls() as calls:
        ConvTranspose(**case.parameters, algorithm=algorithm).forward(case.grad_output, case.weight)
    assert bool(calls) is taken


OTHERS: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "1-D": ({}, (2, 9, 4), (3, 4, 5)),
    "3-D, 3 x 3 first": ({}, (1, 5, 6, 4, 4), (3, 3, 2, 4, 5)),
    "3-D, strided last": ({"stride": [1, 1, 2]}, (1, 5, 6, 5, 4), (3, 3, 3, 4, 5)),
    "5 x 5": ({}, (1, 9, 9, 4), (5, 5, 4, 5)),
    "3 x 1": ({}, (1, 9, 9, 4), (3, 1, 4, 5)),
    "strided": ({"stride": [1, 2]}, (1, 9, 9, 4), (3, 3, 4, 5)),
    "dilated": ({"dilation": [2, 1]}, (1, 9, 9, 4), (3, 3, 4, 5)),
    "grouped": ({"groups": 2}, (1, 9, 9, 4), (3, 3, 2, 6)),
    "depthwise": ({"groups": 4}, (1, 9, 9, 4), (3, 3, 1, 8)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("parameters", "input_shape", "weight_shape"), OTHERS.values(), ids=OTHERS.keys())
def test_direct_is_taken_where_winograd_does_not_apply(
    parameters: dict[str, Any], input_shape: tuple[int, ...], weight_shape: tuple[int, ...], dtype: str
) -> None:
    image, weight = normal(*input_shape), normal(*weight_shape, seed=1)
    gradient = normal(*Conv(**parameters).output_shape(image.shape, weight.shape), seed=2)
    case = of_dtype(ConvCase(parameters, image, weight, None, gradient), dtype)
    with winograd_calls() as calls:
        results = computed(Conv(**parameters, algorithm="winograd"), case)
    assert not calls
    direct = computed(Conv(**parameters, algorithm="direct"), case)
    for name in RESULTS:
        np.testing.assert_array_equal(results[name], direct[name], strict=True)


@pytest.mark.parametrize("value", ["Winograd2", "im2col", None, 1, ["auto", "auto"]])
@pytest.mark.parametrize("op", [Conv, ConvTranspose])
def test_other_algorithms_are_refused(op: Any, value: Any) -> None:
    with pytest.raises(ParameterError, match="algorithm"):
        op(algorithm=value)
