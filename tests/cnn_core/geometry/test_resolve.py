"""Output sizes from the rules by hand, and every shape that is an error."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import AvgPool, Conv, ConvpoolError, MaxPool, ParameterError, ShapeError
from tests.comparisons import normal
from tests.oracle import windows
from tests.strategies import thorough_settings


def assert_mentions(error: pytest.ExceptionInfo[ConvpoolError], *numbers: int) -> None:
    """The message holds these numbers as words of their own."""
    words = "".join(letter if letter.isalnum() else " " for letter in str(error.value)).split()
    for number in numbers:
        assert str(number) in words, f"{number} is not in {str(error.value)!r}"


# ----------------------------------------------------------------------------------------------------------- good sizes


@pytest.mark.parametrize(
    ("size", "parameters", "expected"),
    [
        (6, {"kernel_size": 3, "stride": 2}, 2),
        (6, {"kernel_size": 3, "stride": 2, "ceil_mode": True}, 3),
        (7, {"kernel_size": 3, "stride": 2}, 3),
        (7, {"kernel_size": 3, "stride": 2, "ceil_mode": True}, 3),
        (7, {"kernel_size": 3}, 2),  # the stride is the kernel size
        (7, {"kernel_size": 3, "ceil_mode": True}, 3),
        (7, {"kernel_size": 3, "stride": None}, 2),
        # With ceil_mode the last window starts inside the input or its leading padding.
        (5, {"kernel_size": 1, "stride": 3, "ceil_mode": True}, 2),
        (3, {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True}, 2),
        (4, {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True}, 3),
        (1, {"kernel_size": 2, "stride": 2, "ceil_mode": True}, 1),
        (2, {"kernel_size": 7, "stride": 6, "ceil_mode": True}, 1),
        # Dilation: the extent is (k - 1) * d + 1.
        (7, {"kernel_size": 3, "stride": 1, "dilation": 3}, 1),
        (8, {"kernel_size": 3, "stride": 1, "dilation": 3}, 2),
        (7, {"kernel_size": 1, "stride": 1, "dilation": 50}, 7),
        # same: as many windows as strides fit, rounded up; the padding is never negative.
        (7, {"kernel_size": 3, "stride": 2, "padding": "same"}, 4),
        (7, {"kernel_size": 3, "stride": 2, "padding": "same_lower"}, 4),
        (7, {"kernel_size": 3, "stride": 2, "padding": "valid"}, 3),
        (7, {"kernel_size": 3, "padding": "same"}, 3),
        (6, {"kernel_size": 1, "stride": 3, "padding": "same"}, 2),
        (6, {"kernel_size": 1, "stride": 3, "padding": "same", "ceil_mode": True}, 2),
        (7, {"kernel_size": 1, "stride": 3, "padding": "same"}, 3),
        (4, {"kernel_size": 3, "stride": 1, "padding": "same", "dilation": 2}, 4),
        (2, {"kernel_size": 9, "stride": 1, "padding": "same"}, 2),
        (7, {"kernel_size": 3, "stride": 2, "padding": [[0, 1]]}, 3),
        (7, {"kernel_size": 3, "stride": 2, "padding": [[1, 1]]}, 4),
    ],
)
def test_output_sizes(size: int, parameters: dict[str, Any], expected: int) -> None:
    for pool in (MaxPool(**parameters), AvgPool(**parameters)):
        assert pool.output_shape((2, size, 3)) == (2, expected, 3)
        assert pool.forward(normal(2, size, 3)).shape == (2, expected, 3)
    assert MaxPool(data_format="channels_first", **parameters).output_shape((2, 3, size)) == (2, 3, expected)
    if not parameters.get("ceil_mode") and parameters.get("stride") is not None:
        conv = Conv(**{name: value for name, value in parameters.items() if name not in {"kernel_size", "ceil_mode"}})
        assert conv.output_shape((2, size, 3), (parameters["kernel_size"], 3, 5)) == (2, expected, 5)


def test_one_value_per_axis() -> None:
    conv = Conv(stride=(1, 2, 3), padding=(0, 1, 2), dilation=(3, 2, 1))
    assert conv.output_shape((1, 9, 9, 9, 2), (2, 3, 4, 2, 4)) == (1, 6, 4, 4, 4)
    pool = MaxPool(kernel_size=(2, 3, 4), padding=((0, 1), (1, 0), (1, 1)), stride=(1, 2, 3))
    assert pool.output_shape((1, 9, 9, 9, 2)) == (1, 9, 4, 3, 2)
    average = AvgPool(kernel_size=(2, 3), stride=(2, 2), data_format="channels_first")
    assert average.output_shape((5, 2, 9, 9)) == (5, 2, 4, 4)


def test_a_pair_of_paddings_is_one_for_each_axis() -> None:
    """(0, 2) is 0 on the first axis and 2 on the second; before and after need brackets of their own."""
    assert Conv(padding=(0, 2)).output_shape((1, 5, 5, 1), (3, 3, 1, 1)) == (1, 3, 7, 1)
    assert Conv(padding=((0, 2),)).output_shape((1, 5, 1), (3, 1, 1)) == (1, 5, 1)
    with pytest.raises(ConvpoolError):
        Conv(padding=(0, 2)).output_shape((1, 5, 1), (3, 1, 1))


def test_channels_first_weights() -> None:
    conv = Conv(data_format="channels_first", groups=2)
    assert conv.output_shape((1, 4, 9, 8), (6, 2, 3, 1)) == (1, 6, 7, 8)


def test_a_shape_is_a_tuple_of_ints() -> None:
    array = normal(2, 5, 5, 3)
    for shape in (
        Conv(padding="same").output_shape(array.shape, (3, 3, 3, 2)),
        MaxPool(kernel_size=2).output_shape(array.shape),
        AvgPool(kernel_size=2).output_shape(array.shape),
    ):
        assert type(shape) is tuple
        assert {type(size) for size in shape} == {int}


@thorough_settings
@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 5),
    padding=st.one_of(
        st.sampled_from(["same", "same_lower", "valid"]),
        st.integers(0, 12),
        st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: [list(pair)]),
    ),
    ceil_mode=st.booleans(),
)
def test_sizes_agree_with_the_oracle_where_they_are_errors_too(
    size: int, kernel: int, stride: int, dilation: int, padding: windows.Padding, ceil_mode: bool
) -> None:
    parameters: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    # A divisor leaves only the geometry to check, not that every window has a valid tap.
    pool = AvgPool(kernel_size=kernel, ceil_mode=ceil_mode, divisor_override=1, **parameters)
    try:
        expected = windows.geometry([size], kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    except windows.OracleError:
        with pytest.raises(ShapeError):
            pool.output_shape((1, size, 1))
        return
    assert pool.output_shape((1, size, 1)) == (1, expected.output[0], 1)
    if not ceil_mode:
        assert Conv(**parameters).output_shape((1, size, 1), (kernel, 1, 1)) == (1, expected.output[0], 1)
    if all(expected.valid(position) for position in expected.positions()):
        assert MaxPool(kernel_size=kernel, ceil_mode=ceil_mode, **parameters).output_shape((1, size, 1)) == (
            1,
            expected.output[0],
            1,
        )
    else:
        for strict in (MaxPool, AvgPool):
            with pytest.raises(ShapeError):
                strict(kernel_size=kernel, ceil_mode=ceil_mode, **parameters).output_shape((1, size, 1))


# ---------------------------------------------------------------------------------------------------- huge parameters


huge = 10**9


@contextlib.contextmanager
def at_no_cost() -> Iterator[None]:
    """A mebibyte is far more than a shape needs, and far less than 10**8 positions take."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "parameters", "expected"),
    [
        ((1, 5, 1), {"kernel_size": huge}, None),
        ((1, 5, 1), {"kernel_size": huge, "ceil_mode": True}, 1),
        ((1, 5, 1), {"kernel_size": huge, "stride": 1, "padding": "same"}, 5),
        ((1, 5, 1), {"kernel_size": huge, "stride": 1, "padding": huge - 1}, huge + 4),
        ((1, 5, 1), {"kernel_size": huge, "stride": huge, "padding": huge - 1}, 2),
        ((1, 5, 1), {"kernel_size": 3, "stride": 1, "dilation": 10**8}, None),
        ((1, 5, 1), {"kernel_size": 3, "stride": 1, "dilation": 10**8, "padding": 10**8}, 5),
        ((1, 5, 1), {"kernel_size": 1, "dilation": 10**8}, 5),
        ((1, 5, 1), {"kernel_size": 2, "stride": huge, "ceil_mode": True}, 1),
        ((1, huge, 1), {"kernel_size": 2, "stride": 1}, huge - 1),
        ((huge, 5, huge), {"kernel_size": 5}, 1),
        ((1, huge, 1), {"kernel_size": huge // 2, "stride": 1, "dilation": 2, "padding": "same"}, huge),
    ],
)
def test_huge_parameters_cost_nothing(shape: tuple[int, ...], parameters: dict[str, Any], expected: int | None) -> None:
    with at_no_cost():
        for pool in (MaxPool(**parameters), AvgPool(**parameters), AvgPool(**parameters, count_include_pad=True)):
            if expected is None:
                with pytest.raises(ShapeError):
                    pool.output_shape(shape)
            else:
                assert pool.output_shape(shape) == (shape[0], expected, shape[2])


@pytest.mark.parametrize(
    ("parameters", "weight_shape", "expected"),
    [
        ({"padding": huge}, (3, 1, 1), 2 * huge + 3),
        ({"padding": [[huge, 0]], "stride": huge}, (3, 1, 1), 2),
        ({"dilation": 10**8}, (3, 1, 1), None),
        ({"dilation": 10**8, "padding": 10**8}, (3, 1, 1), 5),
        ({}, (huge, 1, 1), None),
        ({"padding": "same"}, (huge, 1, huge), 5),
        ({"groups": huge}, (1, 1, 1), None),
        ({"padding": [[huge, huge]], "stride": huge}, (3, 1, 1), 3),
        ({"padding": [[huge + 1, huge]], "stride": 2}, (3, 1, 1), huge + 2),
    ],
)
def test_huge_parameters_of_conv_cost_nothing(
    parameters: dict[str, Any], weight_shape: tuple[int, ...], expected: int | None
) -> None:
    with at_no_cost():
        if expected is None:
            with pytest.raises(ShapeError):
                Conv(**parameters).output_shape((1, 5, 1), weight_shape)
        else:
            assert Conv(**parameters).output_shape((1, 5, 1), weight_shape) == (1, expected, weight_shape[-1])


@pytest.mark.parametrize(
    "parameters",
    [{"padding": 10**30}, {"stride": 10**400}, {"dilation": 10**30, "padding": "same"}, {"dilation": 10**5000}],
    ids=["padding", "stride", "dilation", "digits"],
)
def test_numbers_beyond_every_integer_type_are_served_or_refused(parameters: dict[str, Any]) -> None:
    """Whichever it is, no OverflowError of NumPy comes out, nor Python's limit on the digits of a printed integer."""
    with at_no_cost():
        calls: list[Callable[[], object]] = [
            lambda: Conv(**parameters).output_shape((1, 5, 1), (1, 1, 1)),
            lambda: MaxPool(kernel_size=1, **parameters).output_shape((1, 5, 1)),
            lambda: AvgPool(kernel_size=1, count_include_pad=True, **parameters).output_shape((1, 5, 1)),
            lambda: AvgPool(kernel_size=10**30, divisor_override=-(10**30)).output_shape((1, 5, 1)),
            lambda: Conv(**parameters).output_shape((1, 10**30, 1), (1, 1, 1)),
        ]
        for call in calls:
            with contextlib.suppress(ConvpoolError):
                call()


@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
@pytest.mark.parametrize("number", [2**31, 2**63, 10**17, 10**30])
def test_a_refusal_of_a_large_number_names_the_limit(name: str, number: int) -> None:
    """The rule that a number is at least 1 does not explain why 10**17 is refused."""
    parameters: dict[str, Any] = {name: number}
    refusal = ""
    try:
        Conv(**parameters).output_shape((1, 5, 1), (1, 1, 1))
    except ParameterError as error:
        refusal = str(error)
    assert not refusal or re.search(r"(<=|<|at most|up to|to|below|less than) \d", refusal), refusal


@pytest.mark.parametrize("parameters", [{"padding": huge}, {"padding": [[0, huge]]}, {"padding": 10**8, "dilation": 7}])
def test_huge_padding_around_a_small_window_is_an_error_at_once(parameters: dict[str, Any]) -> None:
    with at_no_cost():
        for pool in (MaxPool(kernel_size=2, **parameters), AvgPool(kernel_size=2, **parameters)):
            with pytest.raises(ShapeError):
                pool.output_shape((1, 5, 1))
            with pytest.raises(ShapeError):
                pool.forward(np.zeros((1, 5, 1)))


# --------------------------------------------------------------------------------------------------------- wrong shapes


def test_channels_of_input_and_weight() -> None:
    with pytest.raises(ShapeError) as caught:
        Conv().forward(normal(1, 5, 5, 3), normal(3, 3, 2, 8))
    assert_mentions(caught, 3, 2)
    with pytest.raises(ShapeError) as caught:
        Conv().output_shape((1, 5, 5, 3), (3, 3, 2, 8))
    assert_mentions(caught, 3, 2)
    with pytest.raises(ShapeError) as caught:
        Conv(data_format="channels_first").forward(normal(1, 7, 5, 5), normal(8, 6, 3, 3))
    assert_mentions(caught, 7, 6)
    with pytest.raises(ShapeError) as caught:
        Conv(groups=2).backward(normal(1, 3, 3, 8), normal(1, 5, 5, 7), normal(3, 3, 3, 8))
    assert_mentions(caught, 7, 6, 2)


def test_groups_must_divide_the_filters() -> None:
    with pytest.raises((ShapeError, ParameterError)) as caught:  # the rules do not say whose fault it is
        Conv(groups=3).forward(normal(1, 5, 6), normal(1, 2, 8))
    assert_mentions(caught, 8, 3)


@pytest.mark.parametrize(
    ("size", "kernel", "parameters", "numbers"),
    [
        (4, 7, {}, (7, 4)),
        (4, 7, {"padding": 1}, (7, 6)),
        (4, 3, {"dilation": 3}, (7, 4)),
        (4, 3, {"dilation": 3, "padding": [[0, 1]]}, (7, 5)),
        (2, 3, {"stride": 2}, (3, 2)),  # the notebook's int() truncates towards zero and yields one output here
        (4, 7, {"padding": "valid"}, (7, 4)),
    ],
)
def test_a_window_larger_than_the_padded_input(
    size: int, kernel: int, parameters: dict[str, Any], numbers: tuple[int, int]
) -> None:
    with pytest.raises(ShapeError) as caught:
        Conv(**parameters).forward(normal(1, size, 1), normal(kernel, 1, 1))
    assert_mentions(caught, *numbers)
    for pool in (MaxPool(kernel_size=kernel, **parameters), AvgPool(kernel_size=kernel, **parameters)):
        with pytest.raises(ShapeError) as caught:
            pool.forward(normal(1, size, 1))
        assert_mentions(caught, *numbers)
        with pytest.raises(ShapeError):
            pool.backward(normal(1, 1, 1), normal(1, size, 1))


def test_ceil_mode_needs_one_output_position() -> None:
    for pool in (MaxPool, AvgPool):
        assert pool(kernel_size=2, stride=2, ceil_mode=True).output_shape((1, 1, 1)) == (1, 1, 1)
        with pytest.raises(ShapeError):
            pool(kernel_size=3, stride=2, ceil_mode=True).output_shape((1, 1, 1))


def test_a_window_that_hangs_over_the_end() -> None:
    input = np.array([3.0]).reshape(1, 1, 1)
    assert MaxPool(kernel_size=2, ceil_mode=True).forward(input).item() == 3
    assert AvgPool(kernel_size=2, ceil_mode=True).forward(input).item() == 3
    assert AvgPool(kernel_size=2, ceil_mode=True, count_include_pad=True).forward(input).item() == 3
    assert AvgPool(kernel_size=2, ceil_mode=True, divisor_override=2).forward(input).item() == 1.5


@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (1, 2, 2, 2, 2, 1), (1, 0, 3), (1, 3, 0), (1, 3, 0, 3)])
def test_shapes_that_are_no_input(shape: tuple[int, ...]) -> None:
    input = np.zeros(shape)
    for pool in (MaxPool(kernel_size=1), AvgPool(kernel_size=1)):
        with pytest.raises(ShapeError):
            pool.forward(input)
        with pytest.raises(ShapeError):
            pool.output_shape(shape)
    weight_shape = (1,) * max(2, len(shape))
    with pytest.raises(ShapeError):
        Conv().forward(input, np.ones(weight_shape))
    with pytest.raises(ShapeError):
        Conv().output_shape(shape, weight_shape)


@pytest.mark.parametrize(
    "shape", [(), (3,), (3, 1), (3, 1, 2), (1, 3, 3, 1, 2), (0, 3, 1, 2), (3, 3, 1, 0), (3, 3, 0, 2)]
)
def test_shapes_that_are_no_weight_of_a_plane(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        Conv().forward(normal(1, 5, 5, 1), np.zeros(shape))
    with pytest.raises(ShapeError):
        Conv().output_shape((1, 5, 5, 1), shape)


@pytest.mark.parametrize(
    "shape", [(), (1,), (3,), (5,), (1, 4), (1, 1, 4), (4, 1, 1, 1), (1, 4, 1, 1), (2, 1, 1, 4), (1, 1, 1, 1, 4), (0,)]
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_shapes_that_are_no_bias_of_four_filters(shape: tuple[int, ...], data_format: Any) -> None:
    conv = Conv(data_format=data_format)
    input, weight = normal(1, 4, 4, 4), normal(4, 4, 4, 4)
    with pytest.raises(ShapeError) as caught:
        conv.forward(input, weight, np.ones(shape))
    assert_mentions(caught, 4)
    with pytest.raises(ShapeError):
        conv.backward(normal(1, 1, 1, 4), input, weight, np.ones(shape))
    with pytest.raises(ShapeError):
        conv.output_shape(input.shape, weight.shape, shape)


@pytest.mark.parametrize("shape", [(1, 3, 4, 2), (2, 4, 4, 2), (1, 4, 4, 3), (1, 4, 4), (1, 2, 4, 4), (0, 4, 4, 2)])
def test_grad_output_must_have_the_shape_of_the_output(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        Conv().backward(np.ones(shape), normal(1, 5, 5, 1), normal(2, 2, 1, 2))
    assert "grad_output" in str(caught.value)
    assert str(shape) in str(caught.value)
    assert "(1, 4, 4, 2)" in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [{"stride": [1, 1]}, {"dilation": [1, 1]}, {"padding": [1, 1, 1, 1]}, {"padding": [[0, 1]]}, {"stride": [1] * 4}],
)
def test_as_many_values_as_axes(parameters: dict[str, Any]) -> None:
    input = normal(1, 5, 5, 5, 2)
    calls: list[Callable[[], object]] = [
        lambda: Conv(**parameters).forward(input, normal(2, 2, 2, 2, 1)),
        lambda: MaxPool(kernel_size=2, **parameters).forward(input),
        lambda: AvgPool(kernel_size=2, **parameters).forward(input),
        lambda: MaxPool(kernel_size=(2, 2)).forward(input),
        lambda: AvgPool(kernel_size=(2, 2)).output_shape(input.shape),
    ]
    for call in calls:
        with pytest.raises(ConvpoolError):
            call()
