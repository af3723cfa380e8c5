"""Parameters are checked when the op is made, once and strictly."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cnn_core import AvgPool, Conv, ConvpoolError, DtypeError, MaxPool, ParameterError, ShapeError

not_one_or_more: list[Any] = [
    0,
    -1,
    float("nan"),
    True,
    False,
    "2",
    "",
    b"2",
    [],
    (),
    [1, 0],
    [1, -3],
    [1, True],
    [1, 2.5],
    [1, "2"],
    [1, None],
    [[1, 2]],
    {"height": 2},
    {2},
    1 + 0j,
    object,
]
not_a_padding: list[Any] = [
    -1,
    1.5,
    float("inf"),
    True,
    None,
    "",
    "SAMES",
    "full",
    "1",
    b"same",
    [],
    [1, -1],
    [1, True],
    [1, 1.5],
    [1, "same"],
    ["same", "same"],
    [[0, -1]],
    [[0, 1, 2]],
    [[0]],
    [[]],
    [[0, True]],
    [[0, 1.5]],
    [[0, "1"]],
    [[[0, 1]]],
    {"before": 1},
]


def pooled(**parameters: Any) -> list[tuple[type[MaxPool | AvgPool], dict[str, Any]]]:
    """The same parameters for both kinds of pooling."""
    return [(MaxPool, parameters), (AvgPool, parameters)]


def assert_refused(op: Any, parameters: dict[str, Any], name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        op(**parameters)
    assert name in str(caught.value)


@pytest.mark.parametrize("value", [*not_one_or_more, None], ids=repr)
@pytest.mark.parametrize("name", ["stride", "dilation"])
def test_stride_and_dilation_of_conv(name: str, value: Any) -> None:
    assert_refused(Conv, {name: value}, name)


@pytest.mark.parametrize("value", not_one_or_more, ids=repr)
@pytest.mark.parametrize("name", ["stride", "dilation", "kernel_size"])
def test_stride_dilation_and_kernel_size_of_pools(name: str, value: Any) -> None:
    for op, parameters in pooled(**({"kernel_size": 2} | {name: value})):
        assert_refused(op, parameters, name)


@pytest.mark.parametrize("name", ["dilation", "kernel_size"])
def test_none_is_only_a_stride_of_a_pool(name: str) -> None:
    for op, parameters in pooled(**({"kernel_size": 2} | {name: None})):
        assert_refused(op, parameters, name)
    assert MaxPool(kernel_size=2, stride=None) == MaxPool(kernel_size=2)


@pytest.mark.parametrize("value", not_a_padding, ids=repr)
def test_padding(value: Any) -> None:
    assert_refused(Conv, {"padding": value}, "padding")
    for op, parameters in pooled(kernel_size=2, padding=value):
        assert_refused(op, parameters, "padding")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None, [1], [1, 1]], ids=repr)
def test_groups(value: Any) -> None:
    assert_refused(Conv, {"groups": value}, "groups")


@pytest.mark.parametrize(
    "value", ["HWCN", "channels-last", "", 1, None, True, ["channels_last", "channels_first"]], ids=repr
)
def test_data_format(value: Any) -> None:
    assert_refused(Conv, {"data_format": value}, "data_format")
    for op, parameters in pooled(kernel_size=2, data_format=value):
        assert_refused(op, parameters, "data_format")


@pytest.mark.parametrize("value", [0, 1, "true", None, [], [True], 1.0], ids=repr)
def test_ceil_mode(value: Any) -> None:
    for op, parameters in pooled(kernel_size=2, ceil_mode=value):
        assert_refused(op, parameters, "ceil_mode")


@pytest.mark.parametrize("value", [0, 1, "true", None, [], [True], 1.0], ids=repr)
def test_count_include_pad(value: Any) -> None:
    assert_refused(AvgPool, {"kernel_size": 2, "count_include_pad": value}, "count_include_pad")


@pytest.mark.parametrize("value", [0, 0.0, 0.5, True, False, "3", [3], float("nan")], ids=repr)
def test_divisor_override(value: Any) -> None:
    assert_refused(AvgPool, {"kernel_size": 2, "divisor_override": value}, "divisor_override")


@pytest.mark.parametrize("value", ["last", "", None, 1, True, ["first", "all"]], ids=repr)
def test_ties(value: Any) -> None:
    assert_refused(MaxPool, {"kernel_size": 2, "ties": value}, "ties")


@pytest.mark.parametrize(
    ("op", "parameters"),
    [
        (Conv, {"strides": 2}),
        (Conv, {"kernel_size": 2}),
        (Conv, {"ceil_mode": True}),
        (MaxPool, {"kernel_size": 2, "count_include_pad": True}),
        (MaxPool, {"kernel_size": 2, "groups": 1}),
        (AvgPool, {"kernel_size": 2, "ties": "first"}),
        (MaxPool, {}),
        (AvgPool, {}),
    ],
)
def test_a_parameter_that_the_op_does_not_have_or_that_is_missing(op: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ParameterError)):
        op(**parameters)


@pytest.mark.parametrize(
    ("op", "parameters", "message"),
    [
        (Conv, {"stride": [1, -3]}, r"stride.*-3"),
        (Conv, {"padding": -7}, r"padding.*-7"),
        (Conv, {"padding": "lower"}, "same_lower"),
        (Conv, {"data_format": "CNHW"}, "channels_first"),
        (MaxPool, {"kernel_size": 2, "ties": "last"}, "split"),
    ],
)
def test_the_message_tells_the_rule_and_what_came(op: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        op(**parameters)


@pytest.mark.parametrize("error", [ParameterError, ShapeError, DtypeError])
def test_every_error_is_a_convpool_error(error: type[Exception]) -> None:
    assert issubclass(error, ConvpoolError)
    assert issubclass(ConvpoolError, ValueError)


@pytest.mark.parametrize("op", [Conv(), MaxPool(kernel_size=2), AvgPool(kernel_size=2)])
def test_an_op_is_a_frozen_value(op: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        op.stride = 3
    assert op == dataclasses.replace(op)
    assert op != dataclasses.replace(op, stride=5)


@pytest.mark.parametrize(
    ("op", "defaults"),
    [
        (Conv(), {"data_format": "channels_last", "stride": 1, "padding": 0, "dilation": 1, "groups": 1}),
        (
            MaxPool(kernel_size=3),
            {
                "kernel_size": 3,
                "data_format": "channels_last",
                "stride": None,
                "padding": 0,
                "dilation": 1,
                "ceil_mode": False,
                "ties": "first",
            },
        ),
        (
            AvgPool(kernel_size=3),
            {
                "kernel_size": 3,
                "data_format": "channels_last",
                "stride": None,
                "padding": 0,
                "dilation": 1,
                "ceil_mode": False,
                "count_include_pad": False,
                "divisor_override": None,
            },
        ),
    ],
)
def test_defaults(op: Any, defaults: dict[str, Any]) -> None:
    assert op == type(op)(**defaults)


@pytest.mark.parametrize("value", [1, 7, [2], [1, 2], (1, 2, 3), [3, 1, 2]], ids=repr)
def test_good_values(value: Any) -> None:
    Conv(stride=value, dilation=value, padding=value)
    MaxPool(kernel_size=value, stride=value, dilation=value, padding=value)
    AvgPool(kernel_size=value, stride=value, dilation=value, padding=value, divisor_override=-7)


@pytest.mark.parametrize("value", [0, [0], [[0, 1]], [[0, 0], (2, 1)], ((1, 2), (3, 4), (5, 6)), "valid"], ids=repr)
def test_good_paddings(value: Any) -> None:
    Conv(padding=value)
    MaxPool(kernel_size=2, padding=value)
    AvgPool(kernel_size=2, padding=value)
