"""Transposed convolution against the loop oracle, against convolution, and the rules of its size by hand."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnn_core import Conv, ConvTranspose, DtypeError, ParameterError, ShapeError
from tests.comparisons import assert_close, assert_gradients_close, inner, normal
from tests.oracle import conv_transpose as oracle
from tests.oracle.windows import OracleError
from tests.strategies import ConvCase, conv_cases, quick_settings
from tests.strategies_conv import axis_parameters, conv_transpose_cases, few_settings, memory_layouts, refused

GRADIENTS = ("input", "weight", "bias")


def line(values: list[float], weight: list[float], **parameters: Any) -> list[float]:
    """Transpose a convolution of one channel along one axis."""
    op = ConvTranspose(**parameters)
    first = op.data_format == "channels_first"
    shape, kernel_shape = ((1, 1, -1), (1, 1, -1)) if first else ((1, -1, 1), (-1, 1, 1))
    output = op.forward(np.reshape(values, shape).astype(float), np.reshape(weight, kernel_shape).astype(float))
    return list(map(float, output.reshape(-1)))


# ------------------------------------------------------------------------------------------------- against the oracle


@quick_settings
@given(conv_transpose_cases(), st.sets(st.sampled_from(GRADIENTS), min_size=1))
def test_backward_agrees_with_the_loops_for_every_choice_of_gradients(case: ConvCase, wanted: set[str]) -> None:
    op = ConvTranspose(**case.parameters)
    operands = (case.grad_output, case.input, case.weight, case.bias)
    expected = oracle.conv_transpose_backward(*operands, **case.parameters)
    assert_gradients_close(op.backward(*operands), expected, GRADIENTS)
    some: Any = tuple(wanted)
    assert_gradients_close(op.backward(*operands, wrt=some), expected, wanted)


@quick_settings
@given(st.integers(1, 9), st.integers(1, 5), axis_parameters)
def test_sizes_and_refusals_agree_with_the_rules(size: int, kernel: int, parameters: dict[str, Any]) -> None:
    """All but an output_padding next to same padding, which ONNX allows."""
    shapes = (1, size, 1), (kernel, 1, 1)
    alone = "output_padding" in parameters and "output_size" not in parameters
    assume(not alone or "onnx" not in parameters.values())
    try:
        expected = oracle.transposed_geometry([size], [kernel], **parameters).sizes
    except OracleError as error:
        kind = ShapeError if isinstance(error, oracle.WrongShapeError) else ParameterError
        with pytest.raises(kind):
            ConvTranspose(**parameters, data_format="channels_last").output_shape(*shapes)
        return
    assert ConvTranspose(**parameters, data_format="channels_last").output_shape(*shapes) == (1, *expected, 1)


# ------------------------------------------------------------------------------------- against convolution, by algebra


@quick_settings
@given(conv_cases())
def test_of_a_gradient_it_is_the_gradient_of_convolution(case: ConvCase) -> None:
    """Every convolution is transposed by its own parameters and the size of its input."""
    first = case.parameters.get("data_format") == "channels_first"
    sizes = case.input.shape[2:] if first else case.input.shape[1:-1]
    op = ConvTranspose(**case.parameters, output_size=sizes)
    expected = Conv(**case.parameters).backward(case.grad_output, case.input, case.weight).grad_input
    assert_close(op.forward(case.grad_output, case.weight), np.asarray(expected))


@quick_settings
@given(conv_transpose_cases(frameworks=False))
def test_it_is_the_adjoint_of_convolution(case: ConvCase) -> None:
    """<conv(x, w), g> = <x, conv_transpose(g, w)>, and the gradients of one are passes of the other."""
    op = ConvTranspose(**case.parameters)
    own = {"output_padding", "output_size"}
    conv = Conv(**{name: value for name, value in case.parameters.items() if name not in own})
    image = case.grad_output
    try:
        assume(conv.output_shape(image.shape, case.weight.shape) == case.input.shape)
    except ShapeError:  # the output is cropped below the extent of a window
        assume(condition=False)
    convolved = conv.forward(image, case.weight)
    product = inner(convolved, case.input)
    assert inner(image, op.forward(case.input, case.weight)) == pytest.approx(product, rel=1e-10, abs=1e-10)
    gradients = op.backward(image, case.input, case.weight)
    assert_close(gradients.grad_input, convolved)
    assert_close(gradients.grad_weight, np.asarray(conv.backward(case.input, image, case.weight).grad_weight))


@few_settings
@given(conv_transpose_cases(), st.integers(0, 2**32 - 1))
def test_gradients_agree_with_central_differences(case: ConvCase, seed: int) -> None:
    op = ConvTranspose(**case.parameters)
    random = np.random.default_rng(seed)
    operands: dict[str, Any] = {"input": case.input, "weight": case.weight}
    if case.bias is not None:
        operands["bias"] = case.bias
    gradients = op.backward(case.grad_output, **operands)
    for name, operand in operands.items():
        toward = random.standard_normal(operand.shape) * 1e-3
        ahead, behind = (op.forward(**{**operands, name: operand + sign * toward}) for sign in (1, -1))
        slope = inner(ahead - behind, case.grad_output) / 2
        assert slope == pytest.approx(inner(toward, getattr(gradients, f"grad_{name}")), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "parameters"),
    [
        ((2, 20, 13, 8), (5, 3, 3, 8), {"groups": 2, "stride": [2, 3], "padding": [[2, 1], [0, 3]]}),
        ((1, 33, 35, 12), (3, 3, 2, 12), {"groups": 12, "stride": 2, "padding": 1, "output_padding": [1, 0]}),
        ((2, 20, 20, 9), (1, 1, 16, 9), {}),
        ((1, 300, 5), (25, 7, 5), {"dilation": 4, "padding": 30, "output_padding": 3}),
        ((1, 9, 10, 11, 4), (3, 2, 3, 5, 4), {"padding": 1, "stride": [1, 2, 1]}),
        ((3, 2, 2, 3), (12, 12, 2, 3), {}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(
    input_shape: tuple[int, ...], weight_shape: tuple[int, ...], parameters: dict[str, Any]
) -> None:
    """A blocked algorithm may only start at such sizes; single elements are gathered from all that reach them."""
    input, weight = normal(*input_shape), normal(*weight_shape, seed=1)
    op = ConvTranspose(**parameters)
    output = op.forward(input, weight)
    geometry_parameters = {name: value for name, value in parameters.items() if name != "groups"}
    windows = oracle.transposed_geometry(input_shape[1:-1], weight_shape[:-2], **geometry_parameters)
    random = np.random.default_rng(3)
    for _ in range(10):
        at, feature = [int(random.integers(size)) for size in windows.sizes], int(random.integers(output.shape[-1]))
        expected = oracle.output_element(input, weight, windows, parameters.get("groups", 1), at, feature)
        assert output[(0, *at, feature)] == pytest.approx(expected, rel=1e-10, abs=1e-10)
    grad_output = normal(*output.shape, seed=2)
    gradients = op.backward(grad_output, input, weight)
    assert inner(output, grad_output) == pytest.approx(inner(input, gradients.grad_input), rel=1e-9)
    assert inner(output, grad_output) == pytest.approx(inner(weight, gradients.grad_weight), rel=1e-9)
    assert_close(gradients.grad_bias, grad_output.reshape(-1, output.shape[-1]).sum(axis=0), 1e-10)


# ------------------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
    ("weight", "parameters", "expected"),
    [
        ([1, 2, 3], {"stride": 2}, [1, 2, 13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "padding": 1}, [2, 13, 20]),
        # output_padding exposes computed values before it appends zeros.
        ([1, 2, 3], {"stride": 2, "padding": 1, "output_padding": 1}, [2, 13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "output_padding": 1}, [1, 2, 13, 20, 30, 0]),
        ([1, 2, 3], {"stride": 2, "padding": 1, "output_size": 4}, [2, 13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "padding": [[0, 2]], "output_size": [3]}, [1, 2, 13]),
        # It may reach the stride where the dilation is larger.
        ([1, 2], {"dilation": 3, "output_padding": 2}, [1, 10, 0, 2, 20, 0, 0]),
        # Elements between the windows are zeros.
        ([3], {"stride": 3, "output_padding": 2}, [3, 0, 0, 30, 0, 0]),
        # same: n * s elements, the odd one cropped at the end; nothing is cropped where the windows leave gaps.
        ([1, 2, 3], {"stride": 2, "padding": "same"}, [1, 2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "padding": "same_lower"}, [2, 13, 20, 30]),
        ([1, 2], {"padding": "same"}, [1, 12]),
        ([1, 2], {"padding": "same_lower"}, [12, 20]),
        ([1], {"stride": 3, "padding": "same"}, [1, 0, 0, 10, 0, 0]),
        # With output_size, the padding is that of the convolution on so many elements.
        ([1, 2, 3], {"stride": 2, "padding": "same", "output_size": 3}, [2, 13, 20]),
        ([1], {"stride": 3, "padding": "same", "output_size": 4}, [1, 0, 0, 10]),
        # ONNX: the size sets the padding, its extra at the start unless SAME_UPPER; what is given is overridden.
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 4}, [2, 13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 4, "padding": [[0, 1]]}, [2, 13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 4, "padding": "same_lower"}, [2, 13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 4, "padding": "same"}, [1, 2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 3}, [2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 3, "output_padding": 1}, [13, 20, 30]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "output_size": 8}, [1, 2, 13, 20, 30, 0, 0, 0]),
        ([1, 2, 3], {"stride": 2, "framework": "onnx", "padding": 1, "output_padding": 1}, [2, 13, 20, 30]),
        # Keras: output_padding is the stride's excess over the extent, if it is not given.
        ([1, 2], {"stride": 3, "framework": "tensorflow"}, [1, 2, 0, 10, 20, 0]),
        ([1, 2], {"stride": 3, "framework": "tensorflow", "output_padding": 0}, [1, 2, 0, 10, 20]),
        ([1, 2], {"stride": 3, "framework": "tensorflow", "output_size": 5}, [1, 2, 0, 10, 20]),
        ([1, 2], {"stride": 5, "dilation": 3, "framework": "tensorflow"}, [1, 0, 0, 2, 0, 10, 0, 0, 20, 0]),
        ([1, 2, 3], {"stride": 2, "framework": "tensorflow"}, [1, 2, 13, 20, 30]),
        ([1, 2], {"stride": 3, "framework": "tensorflow", "padding": "same"}, [1, 2, 0, 10, 20, 0]),
        ([1, 2], {"stride": 3, "framework": "torch"}, [1, 2, 0, 10, 20]),
    ],
    ids=str,
)
def test_size_and_crop(weight: list[float], parameters: dict[str, Any], expected: list[float]) -> None:
    assert line([1, 10], weight, **parameters) == expected


def test_parameters_per_axis() -> None:
    op = ConvTranspose(stride=(1, 3), output_padding=(0, 2), padding=((0, 1), (2, 0)), dilation=(2, 1))
    assert op.output_shape((1, 4, 4, 5), (2, 3, 7, 5)) == (1, 3 - 1 + 3, 9 - 2 + 3 + 2, 7)
    op = ConvTranspose(framework="tensorflow", stride=(3, 1))
    assert op.output_shape((1, 4, 4, 5), (2, 2, 7, 5)) == (1, 12, 5, 7)


def test_elements_that_no_window_reaches_hold_the_bias_whatever_the_weight() -> None:
    weight = np.full((1, 1, 1), np.nan)
    output = ConvTranspose(stride=2).forward(np.ones((1, 2, 1)), weight, np.array([7.0]))
    np.testing.assert_array_equal(output.reshape(-1), [np.nan, 7.0, np.nan])


def test_the_group_of_an_input_channel() -> None:
    """Input channel c writes to the output channels of group c // (C/G)."""
    input = np.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 4)
    weight = np.arange(1.0, 13).reshape(1, 3, 4)  # (tap, output channel of the group, input channel)
    expected = [1 + 20.0, 5 + 60.0, 9 + 100.0, 300 + 4000.0, 700 + 8000.0, 1100 + 12000.0]
    assert ConvTranspose(groups=2).forward(input, weight).reshape(-1).tolist() == expected
    op = ConvTranspose(groups=2, data_format="channels_first")
    output = op.forward(np.moveaxis(input, -1, 1), np.moveaxis(weight, (0, 1, 2), (2, 1, 0)))
    assert output.shape == (1, 6, 1)
    assert output.reshape(-1).tolist() == expected


@pytest.mark.parametrize("framework", [None, "torch", "onnx", "tensorflow", "jax"])
def test_data_format_of_a_framework(framework: Any) -> None:
    default = "channels_first" if framework in {"torch", "onnx"} else "channels_last"
    assert ConvTranspose(framework=framework).data_format == default
    for layout in ("channels_first", "channels_last"):
        assert ConvTranspose(framework=framework, data_format=layout).data_format == layout


def test_huge_parameters_cost_nothing() -> None:
    huge = 10**9
    tracemalloc.start()
    assert ConvTranspose().output_shape((1, huge, 1), (3, huge, 1)) == (1, huge + 2, huge)
    assert ConvTranspose(stride=huge).output_shape((1, 2, 1), (1, 1, 1)) == (1, huge + 1, 1)
    assert ConvTranspose(padding=huge, dilation=huge).output_shape((1, 9, 1), (4, 1, 1)) == (1, huge + 9, 1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


# ----------------------------------------------------------------------------------------------------------- operands


@pytest.mark.parametrize(
    ("input", "weight", "bias", "expected"),
    [
        ("float16", "float16", "float16", "float16"),
        ("float16", "float32", None, "float32"),
        ("float32", "float32", "float64", "float64"),
        ("uint8", "int8", None, "float64"),
    ],
)
def test_results_have_the_common_floating_dtype(input: str, weight: str, bias: str | None, expected: str) -> None:
    x, w = np.arange(10).reshape(1, 5, 2).astype(input), np.ones((2, 3, 2)).astype(weight)
    b = None if bias is None else np.arange(3).astype(bias)
    output = ConvTranspose(stride=2).forward(x, w, b)
    assert_close(output, oracle.conv_transpose_forward(x, w, b, stride=2).astype(expected))
    gradients = ConvTranspose(stride=2).backward(output, x, w, b)
    by_loops = oracle.conv_transpose_backward(output, x, w, b, stride=2)
    for name in GRADIENTS:
        assert_close(getattr(gradients, f"grad_{name}"), getattr(by_loops, f"grad_{name}").astype(expected))


def test_float16_accumulates_in_float32_and_is_rounded_once() -> None:
    """Counting in float16 stops at 2048; 4097 + 2 is 4099, which rounds to 4100, and 4096 + 2 does not."""
    ones = np.ones((1, 4096, 1), dtype=np.float16)
    assert ConvTranspose().forward(ones, ones.reshape(4096, 1, 1))[0, 4095].item() == 4096
    assert ConvTranspose().forward(ones.reshape(1, 1, 4096), ones.reshape(1, 1, 4096)).item() == 4096
    input, bias = np.array([[[2048, 2048, 1]]], dtype=np.float16), np.array([2], dtype=np.float16)
    assert ConvTranspose().forward(input, np.ones((1, 1, 3), dtype=np.float16), bias).item() == 4100
    gradients = ConvTranspose().backward(ones, ones, ones[:, :1])
    assert np.asarray(gradients.grad_weight).item() == np.asarray(gradients.grad_bias).item() == 4096


@few_settings
@given(conv_transpose_cases(), memory_layouts)
def test_operands_of_any_memory_layout_are_read_and_never_written(case: ConvCase, change: Any) -> None:
    operands = [case.grad_output, case.input, case.weight, *([] if case.bias is None else [case.bias])]
    changed = [change(operand) for operand in operands]
    plain = [np.array(operand, dtype=np.float64) for operand in changed]
    op = ConvTranspose(**case.parameters)
    output, gradients = op.forward(*changed[1:]), op.backward(*changed)
    assert_close(output, op.forward(*plain[1:]))
    for name in GRADIENTS:
        assert_close(getattr(gradients, f"grad_{name}"), getattr(op.backward(*plain), f"grad_{name}"))
    for result in (output, *gradients):
        assert result is not None
        result.fill(np.nan)  # a result may be written to: it is no view of an operand
    for operand, copied in zip(changed, plain, strict=True):
        np.testing.assert_array_equal(operand, copied)


# ----------------------------------------------------------------------------------------------------------- refusals


def test_parameters_have_names_and_stay() -> None:
    op: Any = ConvTranspose
    with pytest.raises(TypeError):
        op(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        op().stride = 2


@pytest.mark.parametrize(
    ("parameters", "subject", "words"),
    [
        ({"output_padding": 1}, "output_padding", (1,)),
        ({"output_padding": 3, "stride": 3, "dilation": 2}, "output_padding", (3,)),
        ({"output_padding": [2, 0], "stride": [1, 3]}, "output_padding", (2, 1)),
        ({"output_padding": -1}, "output_padding", (-1,)),
        ({"output_padding": True, "stride": 2}, "output_padding", ()),
        ({"output_padding": [0, 0, 0]}, "output_padding", (3, 2)),
        ({"output_padding": 1, "stride": 2, "padding": "same"}, "output_padding|padding", ("same",)),
        ({"output_padding": 1, "stride": 2, "padding": "same_lower"}, "output_padding|padding", ("same_lower",)),
        ({"output_padding": 3, "stride": 3, "padding": "same", "framework": "tensorflow"}, "output_padding", (3, "2")),
        ({"output_size": 8, "stride": 2, "output_padding": 1}, "output_size|output_padding", ()),
        ({"output_size": 0}, "output_size", (0,)),
        ({"output_size": [4, 4, 4]}, "output_size", (3, 2)),
        ({"output_size": 9, "stride": 2, "padding": 1}, "output_size", (9, 5, 6)),
        ({"output_size": [5, 4], "stride": 2, "padding": 1}, "output_size", (4, 5, 6)),
        ({"output_size": 4, "stride": 2, "padding": "same"}, "output_size", (4,)),
        ({"output_size": 7, "stride": 2, "padding": "same_lower"}, "output_size", (7,)),
        ({"output_padding": 2, "stride": 2, "framework": "onnx", "output_size": 7}, "output_padding", (2,)),
        ({"framework": "theano"}, "framework", ("tensorflow",)),
        ({"stride": 1.5}, "stride", (1,)),
        ({"padding": [[0, 1]]}, "padding", (1, 2)),
        ({"groups": 2}, "groups", (3, 2)),
    ],
    ids=str,
)
def test_parameters_that_are_refused(parameters: dict[str, Any], subject: str, words: tuple[object, ...]) -> None:
    """On 3 x 3 elements of 3 channels with a kernel of 3 x 3: refused when made or on the call."""
    with refused(ParameterError, subject, *words):
        ConvTranspose(**{"data_format": "channels_last", **parameters}).output_shape((1, 3, 3, 3), (3, 3, 4, 3))


@pytest.mark.parametrize(
    ("operands", "subject", "words"),
    [
        ({"weight": (2, 2, 4, 5)}, "weight|input", (3, 5)),
        ({"weight": (2, 4, 3)}, "weight", (3, 4)),
        ({"weight": (2, 0, 4, 3)}, "weight", ()),
        ({"input": (5, 3)}, "input", (2,)),
        ({"input": (1, 0, 5, 3)}, "input", ()),
        ({"bias": (3,)}, "bias", ("(3,)", "(4,)")),
        ({"bias": (1, 4)}, "bias", ("(1, 4)", "(4,)")),
        ({"grad_output": (1, 5, 5, 4)}, "grad_output", ("(1, 5, 5, 4)", "(1, 6, 6, 4)")),
    ],
    ids=str,
)
def test_shapes_that_are_refused(operands: dict[str, tuple[int, ...]], subject: str, words: tuple[object, ...]) -> None:
    shapes = {"grad_output": (1, 6, 6, 4), "input": (1, 5, 5, 3), "weight": (2, 2, 4, 3), "bias": (4,)} | operands
    with refused(ShapeError, subject, *words):
        ConvTranspose().backward(*map(np.ones, shapes.values()))
    if "grad_output" not in operands:
        with refused(ShapeError, subject, *words):
            ConvTranspose().output_shape(shapes["input"], shapes["weight"], shapes["bias"])


def test_an_output_without_elements_is_refused() -> None:
    with refused(ShapeError, "input|padding", 1):
        ConvTranspose(padding=1).forward(normal(1, 2, 1), normal(1, 1, 1))


@pytest.mark.parametrize("operand", ["grad_output", "input", "weight", "bias"])
def test_dtypes_that_are_no_real_numbers_are_refused(operand: str) -> None:
    shapes = {"grad_output": (1, 4, 1), "input": (1, 3, 1), "weight": (2, 1, 1), "bias": (1,)}
    with refused(DtypeError, operand, "complex128"):
        ConvTranspose().backward(*(np.ones(shapes[name], complex if name == operand else float) for name in shapes))


@pytest.mark.parametrize("wrt", [("weights",), "inputs", (), ("input", "input"), None])
def test_wrt_names_operands_only(wrt: Any) -> None:
    with refused(ParameterError, "wrt", "weight"):
        ConvTranspose().backward(normal(1, 4, 1), normal(1, 3, 1), normal(2, 1, 1), wrt=wrt)
