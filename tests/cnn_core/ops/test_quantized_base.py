"""ConvInteger and QLinearConv against the loop oracle in exact arithmetic, and their rounding by hand."""

from __future__ import annotations

import copy
import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import ConvInteger, DtypeError, ParameterError, QLinearConv, ShapeError
from tests.oracle import quantized as oracle
from tests.oracle.windows import AnyArray
from tests.strategies import quick_settings
from tests.strategies_conv import IntegerCase, backwards, few_settings, integer_cases, read_only, refused

assert_same = np.testing.assert_array_equal
types = ["int8", "uint8"]
QLINEAR = (
    *("input", "input_scale", "input_zero_point"),
    *("weight", "weight_scale", "weight_zero_point"),
    *("output_scale", "output_zero_point", "bias"),
)


def scalar(value: float, dtype: str) -> AnyArray:
    """An operand of one element, which cannot be a number that the type does not hold."""
    return np.array(value, dtype=dtype)


def requantized(
    sums: list[int], scale: float = 1.0, zero_point: int = 0, dtype: str = "int8", bias: AnyArray | None = None
) -> list[int]:
    """Pass sums of products, each up to 127 * 127, through QLinearConv: one channel and one weight carry each."""
    quotients = [round(total / 127) for total in sums]
    input = np.array([[quotient, total - 127 * quotient] for quotient, total in zip(quotients, sums, strict=True)])
    one = scalar(1, "float32")
    output = QLinearConv().forward(
        input.astype("int8").reshape(1, -1, 2),
        one,
        scalar(0, "int8"),
        np.array([127, 1], dtype="int8").reshape(1, 2, 1),
        scalar(scale, "float32"),
        scalar(0, "int8"),
        one,
        scalar(zero_point, dtype),
        bias,
    )
    assert output.dtype == dtype
    elements: list[int] = output.reshape(-1).tolist()
    return elements


# ------------------------------------------------------------------------------------------------- against the oracle


@quick_settings
@given(integer_cases(), st.sampled_from([(), ("input_zero_point",), ("weight_zero_point",)]))
def test_a_zero_point_that_is_left_out_is_zero(case: IntegerCase, given_ones: tuple[str, ...]) -> None:
    some = {name: getattr(case, name) for name in given_ones}
    output = ConvInteger(**case.parameters).forward(case.input, case.weight, **some)
    assert_same(output, oracle.conv_integer(case.input, case.weight, **some, **case.parameters), strict=True)


@few_settings
@given(integer_cases())
def test_the_padding_is_the_zero_point(case: IntegerCase) -> None:
    """Whatever the zero points are: explicit elements of that value give the same sums as padding."""
    first = case.parameters.get("data_format") == "channels_first"
    rank = case.input.ndim - 2
    parameters = {**case.parameters, "padding": [[2, 1]] * rank}
    widths = [(0, 0), (0, 0), *[(2, 1)] * rank] if first else [(0, 0), *[(2, 1)] * rank, (0, 0)]
    zero_point = case.input_zero_point.reshape(-1)[0]
    padded = np.pad(case.input, widths, constant_values=zero_point)
    try:
        by_hand = ConvInteger(**{**parameters, "padding": 0}).forward(padded, *case.integer_operands()[1:])
    except ShapeError:  # a window larger than even that
        return
    assert_same(ConvInteger(**parameters).forward(*case.integer_operands()), by_hand)


# ------------------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(("input_dtype", "weight_dtype"), [(a, b) for a in types for b in types])
def test_the_extremes_of_the_types(input_dtype: str, weight_dtype: str) -> None:
    """No difference to a zero point, of up to 255 either way, overflows on its way to the product."""
    low, high = np.iinfo(input_dtype), np.iinfo(weight_dtype)
    for element, zero in ((low.min, low.max), (low.max, low.min)):
        for factor, weight_zero in ((high.min, high.max), (high.max, high.min)):
            output = ConvInteger().forward(
                np.full((1, 1, 1), element, input_dtype),
                np.full((1, 1, 1), factor, weight_dtype),
                scalar(zero, input_dtype),
                scalar(weight_zero, weight_dtype),
            )
            assert output.dtype == np.int32
            assert output.item() == (255 if element > zero else -255) * (255 if factor > weight_zero else -255)


def test_sums_are_exact_beyond_the_integers_of_float32() -> None:
    """2**24 + 1 is the first integer that a float32 does not hold."""
    channels = 260
    input = np.full((1, 1, channels), 255, dtype=np.uint8)
    input[0, 0, -1] = 254
    output = ConvInteger().forward(input, np.full((1, channels, 1), 255, dtype=np.uint8))
    total = 255 * 255 * channels - 255
    assert total > 2**24
    assert total % 2 == 1
    assert output.item() == total


@pytest.mark.parametrize(("sign", "weight_dtype"), [(1, "uint8"), (-1, "int8")])
def test_sums_wrap_around_in_32_bits(sign: int, weight_dtype: str) -> None:
    channels = 70_000
    factor = 255 if sign == 1 else -128
    input = np.full((1, 1, channels), 255, dtype=np.uint8)
    total = 255 * factor * channels
    assert not -(2**31) <= total < 2**31
    output = ConvInteger().forward(input, np.full((1, channels, 1), factor, dtype=weight_dtype))
    assert output.dtype == np.int32
    assert output.item() == oracle.wrapped(total)


def test_the_padding_counts_as_zero_though_the_weight_has_a_zero_point() -> None:
    """Padding of the value 0 would add (0 - 10) * (3 - 1) for each tap that lies in it."""
    input, weight = np.full((1, 2, 1), 12, dtype=np.uint8), np.full((2, 1, 1), 3, dtype=np.uint8)
    zero_points = scalar(10, "uint8"), scalar(1, "uint8")
    assert ConvInteger(padding=1).forward(input, weight, *zero_points).reshape(-1).tolist() == [4, 8, 4]


def test_each_filter_has_its_own_zero_point_and_scale() -> None:
    input, weight = np.full((1, 1, 2), 10, dtype=np.int8), np.full((1, 1, 4), 4, dtype=np.int8)
    zero_points = np.array([0, 1, 2, 3], dtype=np.int8)
    plain = scalar(0, "int8")
    assert ConvInteger(groups=2).forward(input, weight, plain, zero_points).tolist() == [[[40, 30, 20, 10]]]
    one, scales = scalar(1, "float64"), np.array([1, 2, 0.5, 3])
    output = QLinearConv(groups=2).forward(input, one, plain, weight, scales, zero_points, one, plain)
    assert output.tolist() == [[[40, 60, 10, 30]]]
    weight, channels_first = np.moveaxis(weight, -1, 0), {"groups": 2, "data_format": "channels_first"}
    input = np.moveaxis(input, -1, 1)
    output = ConvInteger(**channels_first).forward(input, weight, plain, zero_points)  # type: ignore[arg-type]
    assert output.reshape(-1).tolist() == [40, 30, 20, 10]


def test_ties_round_to_the_even_integer() -> None:
    assert requantized([-5, -3, -2, -1, 0, 1, 2, 3, 5, 7], 0.5) == [-2, -2, -1, 0, 0, 0, 1, 2, 2, 4]


def test_the_zero_point_is_added_after_rounding() -> None:
    """0.5 + 1 would round to 2, and 1.5 + 1 to 2."""
    assert requantized([1, 3], 0.5, zero_point=1) == [1, 3]


@pytest.mark.parametrize(
    ("dtype", "zero_point", "expected"),
    [
        ("int8", 0, [-128, -128, -128, 0, 127, 127, 127]),
        ("int8", 100, [-128, -29, -28, 100, 127, 127, 127]),
        ("int8", -100, [-128, -128, -128, -100, 27, 28, 127]),
        ("uint8", 0, [0, 0, 0, 0, 127, 128, 255]),
        ("uint8", 255, [0, 126, 127, 255, 255, 255, 255]),
    ],
)
def test_what_the_type_does_not_hold_saturates(dtype: str, zero_point: int, expected: list[int]) -> None:
    assert requantized([-16000, -129, -128, 0, 127, 128, 16000], zero_point=zero_point, dtype=dtype) == expected


def test_saturation_far_beyond_the_integers() -> None:
    assert requantized([-16000, -1, 0, 1, 16000], 1e30) == [-128, -128, 0, 127, 127]


def test_the_bias_is_added_before_scaling() -> None:
    bias = np.array([5], dtype=np.int32)
    assert requantized([0, 1, -9], 0.5, bias=bias) == [2, 3, -2]
    bias = np.array([2_000_000_000], dtype=np.int32)
    assert requantized([0, 16], 2.0**-25, bias=bias) == [60, 60]


def test_scaling_is_in_float64() -> None:
    """A float32 holds 2**24 of these 2**24 + 1, and half of that many 2**-24 are a tie, which rounds to 0."""
    bias = np.array([16777217], dtype=np.int32)
    assert requantized([0], 2.0**-25, bias=bias) == [1]


def test_float16_scales_do_not_narrow_the_computation() -> None:
    operands: list[Any] = [
        np.full((1, 1, 100), 100, dtype=np.int8),
        scalar(8, "float16"),
        scalar(0, "int8"),
        np.full((1, 100, 1), 10, dtype=np.int8),
        scalar(8, "float16"),
        scalar(0, "int8"),
        scalar(60000, "float16"),
        scalar(0, "int8"),
    ]
    assert QLinearConv().forward(*operands).item() == 107  # 6400000 / 60000


@pytest.mark.parametrize("op", [ConvInteger, QLinearConv])
@pytest.mark.parametrize("framework", [None, "torch", "onnx", "tensorflow"])
def test_data_format_of_a_framework(op: Any, framework: Any) -> None:
    default = "channels_first" if framework in {"torch", "onnx"} else "channels_last"
    assert op(framework=framework).data_format == default
    assert op(framework=framework, data_format="channels_last").data_format == "channels_last"


@pytest.mark.parametrize("op", [ConvInteger(), QLinearConv()])
def test_there_is_no_backward_pass(op: Any) -> None:
    assert not hasattr(op, "backward")


def test_predicting_a_huge_output_costs_nothing() -> None:
    huge = 10**9
    tracemalloc.start()
    shape = ConvInteger().output_shape((1, huge, 1), (2, 1, 3))
    quantized = QLinearConv().output_shape((1, huge, 1), (), (), (2, 1, 3), (3,), (3,), (), ())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shape == quantized == (1, huge - 1, 3)
    assert peak < 2**20


# ----------------------------------------------------------------------------------------------------------- operands


@few_settings
@given(integer_cases(), st.sampled_from([backwards, read_only, np.asfortranarray]))
def test_operands_of_any_memory_layout_are_read_and_never_written(case: IntegerCase, change: Any) -> None:
    originals: list[Any] = case.quantized_operands()
    operands: list[Any] = [None if one is None else change(one) for one in originals]
    before = copy.deepcopy(operands)
    integers = [change(one) for one in case.integer_operands()]
    output = ConvInteger(**case.parameters).forward(*integers)
    assert_same(output, ConvInteger(**case.parameters).forward(*case.integer_operands()), strict=True)
    quantized = QLinearConv(**case.parameters).forward(*operands)
    assert_same(quantized, oracle.qlinear_conv(*originals, **case.parameters), strict=True)
    output.fill(1)
    quantized.fill(1)
    for operand, copied in zip(operands, before, strict=True):
        assert_same(operand, copied)
    for operand, original in zip(integers, case.integer_operands(), strict=True):
        assert_same(operand, original)


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("op", [ConvInteger, QLinearConv])
def test_parameters_have_names_and_stay(op: Any) -> None:
    with pytest.raises(TypeError):
        op(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        op().stride = 2


def good_operands() -> dict[str, AnyArray]:
    """What QLinearConv takes for three filters over two channels; the first few are those of ConvInteger."""
    return {
        "input": np.zeros((1, 4, 2), dtype=np.uint8),
        "input_scale": scalar(0.5, "float32"),
        "input_zero_point": scalar(1, "uint8"),
        "weight": np.zeros((3, 2, 3), dtype=np.int8),
        "weight_scale": np.ones(3, dtype=np.float32),
        "weight_zero_point": np.zeros(3, dtype=np.int8),
        "output_scale": scalar(2, "float32"),
        "output_zero_point": scalar(0, "int8"),
        "bias": np.zeros(3, dtype=np.int32),
    }


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("input", "int16", ("int16", "int8", "uint8")),
        ("input", "float32", ("float32", "int8", "uint8")),
        ("weight", "int32", ("int32", "int8", "uint8")),
        ("weight", "bool", ("bool", "int8", "uint8")),
        ("input_zero_point", "int8", ("int8", "uint8")),
        ("weight_zero_point", "uint8", ("uint8", "int8")),
        ("weight_zero_point", "float64", ("float64", "int8")),
        ("input_scale", "int32", ("int32",)),
        ("weight_scale", "uint8", ("uint8",)),
        ("output_scale", "bool", ("bool",)),
        ("output_zero_point", "int32", ("int32", "int8", "uint8")),
        ("bias", "int64", ("int64", "int32")),
        ("bias", "float32", ("float32", "int32")),
    ],
)
def test_dtypes_that_are_refused(name: str, dtype: str, words: tuple[str, ...]) -> None:
    operands = good_operands()
    operands[name] = operands[name].astype(dtype)
    with refused(DtypeError, name, *words):
        QLinearConv().forward(**operands)
    if name in {"input", "weight", "input_zero_point", "weight_zero_point"}:
        with refused(DtypeError, name, *words):
            ConvInteger().forward(
                *(operands[one] for one in ("input", "weight", "input_zero_point", "weight_zero_point"))
            )


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("input", (4, 2), (2,)),
        ("input", (1, 4, 3), (3, 2)),
        ("input", (1, 2, 2), (3, 2)),  # a window spans three elements
        ("weight", (3, 3, 2, 3), (4, 3)),
        ("input_zero_point", (2,), ("(2,)",)),
        ("input_zero_point", (1, 1), ("(1, 1)",)),
        ("weight_zero_point", (2,), ("(2,)", 3)),
        ("weight_zero_point", (1, 3), ("(1, 3)", 3)),
        ("weight_zero_point", (0,), ("(0,)", 3)),
        ("input_scale", (3,), ("(3,)",)),
        ("weight_scale", (2,), ("(2,)", 3)),
        ("output_scale", (3,), ("(3,)",)),
        ("output_zero_point", (3,), ("(3,)",)),
        ("bias", (1,), ("(1,)", 3)),
        ("bias", (4,), ("(4,)", 3)),
    ],
)
def test_shapes_that_are_refused(name: str, shape: tuple[int, ...], words: tuple[object, ...]) -> None:
    operands = good_operands()
    operands[name] = np.ones(shape, dtype=operands[name].dtype)
    subjects = "input|weight" if name in {"input", "weight"} else name
    with refused(ShapeError, subjects, *words):
        QLinearConv().forward(**operands)
    with refused(ShapeError, subjects, *words):
        QLinearConv().output_shape(*(operands[one].shape for one in QLINEAR))
    if name in {"input", "weight", "input_zero_point", "weight_zero_point"}:
        integers = [operands[one] for one in ("input", "weight", "input_zero_point", "weight_zero_point")]
        with refused(ShapeError, subjects, *words):
            ConvInteger().forward(*integers)
        with refused(ShapeError, subjects, *words):
            ConvInteger().output_shape(*(operand.shape for operand in integers))


@pytest.mark.parametrize("op", [ConvInteger, QLinearConv])
@pytest.mark.parametrize(
    ("name", "value"),
    [("stride", 0), ("padding", -1), ("dilation", [1, True]), ("groups", 0), ("data_format", "CNHW"), ("framework", 1)],
)
def test_parameters_that_are_refused(op: Any, name: str, value: Any) -> None:
    with refused(ParameterError, name):
        op(**{name: value})


@pytest.mark.parametrize("shapes", [(), ((1, 4, 2),), ((1, 4, 2), (3, 2, 1), (), (), ())])
def test_resolve_takes_a_shape_for_each_operand(shapes: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="takes 2 to 4 shapes"):
        ConvInteger().resolve(*shapes)
