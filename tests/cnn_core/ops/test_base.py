"""Ops are values: what they are made of can be looked at, copied, compared and given again."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import cnn_core
from cnn_core import AvgPool, Conv, ConvTranspose, Fold, LpPool, MaxPool, MaxUnpool, ParameterError
from cnn_core.ops.base import Op

OPS = [
    Conv(stride=2, framework="jax"),
    ConvTranspose(framework="tensorflow"),
    MaxPool(kernel_size=2, framework="onnx", return_indices=True),
    AvgPool(output_size=(2, 3), framework="torch"),
    LpPool(kernel_size=3, norm_type=1.5),
    MaxUnpool(output_size=4, framework="onnx"),
    Fold(output_size=(4, 4), kernel_size=2),
]


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_an_op_is_what_its_fields_are(op: Any) -> None:
    for other in (copy.copy(op), copy.deepcopy(op), pickle.loads(pickle.dumps(op)), dataclasses.replace(op)):
        assert other == op
        assert hash(other) == hash(op)
        assert vars(other) == vars(op)
    assert set(vars(op)) == {field.name for field in dataclasses.fields(op)}
    assert eval(repr(op), vars(cnn_core)) == op


@pytest.mark.parametrize("op", list(dict.fromkeys(type(op) for op in OPS)), ids=lambda op: op.__name__)
def test_defaults_can_be_looked_at(op: type[Op]) -> None:
    parameters = inspect.signature(op).parameters
    for field in dataclasses.fields(op):
        parameter = parameters[field.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if field.default is not dataclasses.MISSING:
            assert parameter.default == field.default == getattr(op, field.name)
            assert type(field.default) in {str, int, bool, float, type(None)}


def test_a_given_default_is_given() -> None:
    assert MaxPool(kernel_size=2, framework="onnx").stride == 1
    assert (
        AvgPool(kernel_size=2, framework="torch", count_include_pad=AvgPool.count_include_pad).count_include_pad
        is False
    )
    assert Conv(framework="torch", data_format=Conv.data_format).data_format == "channels_last"


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "onnx", "jax"])
@pytest.mark.parametrize("op", [*OPS, MaxPool(kernel_size=2), MaxUnpool(kernel_size=2), ConvTranspose()], ids=repr)
def test_a_replaced_framework_changes_no_other_parameter(op: Any, framework: str) -> None:
    """A stride of None is kernel_size, and stays so."""
    replaced = dataclasses.replace(op, framework=framework)
    assert vars(replaced) == {**vars(op), "framework": framework}
    assert eval(repr(replaced), vars(cnn_core)) == replaced


def test_none_is_what_is_not_given_where_it_may_be() -> None:
    assert MaxPool(kernel_size=2, stride=None, framework="onnx").stride == 1
    with pytest.raises(ParameterError):
        Conv(data_format=None, framework="torch")  # type: ignore[arg-type]


def test_replacing_a_framework_changes_nothing_else() -> None:
    op = dataclasses.replace(Conv(stride=2), framework="torch")
    assert op == Conv(stride=2, framework="torch", data_format="channels_last")


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (
            {"stride": np.array([2, 1]), "padding": np.array([[0, 1], [2, 3]])},
            {"stride": (2, 1), "padding": ((0, 1), (2, 3))},
        ),
        ({"stride": np.array(2), "padding": np.int8(1)}, {"stride": 2, "padding": 1}),
        ({"data_format": np.str_("channels_first")}, {"data_format": "channels_first"}),
        ({"padding": np.str_("same"), "framework": np.str_("torch")}, {"padding": "same", "framework": "torch"}),
    ],
    ids=repr,
)
def test_values_of_numpy_become_those_of_python(given: dict[str, Any], canonical: dict[str, Any]) -> None:
    op = Conv(**given)
    assert op == Conv(**canonical)
    assert {type(value) for value in vars(op).values()} <= {str, int, tuple, type(None)}


@pytest.mark.parametrize("value", [np.array([1.5, 2]), np.array([True]), np.array([]), np.array(["a"])], ids=repr)
def test_arrays_that_are_no_parameter(value: Any) -> None:
    with pytest.raises(ParameterError):
        Conv(stride=value)
