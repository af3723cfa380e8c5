"""What is given wins over the default of a framework, also where it is the op's own default."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.cnn_core.ops.test_framework_defaults import DECLARED, POOLS, made
from tests.comparisons import normal
from tests.declarations.declaration import FRAMEWORKS

WITH_DEFAULTS = [
    (name, framework, parameter)
    for name in DECLARED
    for framework in FRAMEWORKS
    for parameter in DECLARED[name].op.defaults_of(framework)
]
BESIDE: dict[str, dict[str, Any]] = {
    "count_include_pad": {"padding": 1},
    "index_scheme": {"return_indices": True},
    "output_padding": {"stride": 5},
}
"""What makes a difference between the values of a parameter."""


@pytest.mark.parametrize(("name", "framework", "parameter"), WITH_DEFAULTS)
@pytest.mark.parametrize("padding", [0, "same", "valid"])
def test_the_op_s_own_default_wins_where_it_is_given(name: str, framework: str, parameter: str, padding: Any) -> None:
    """Whatever else is said; None is not given, and an op that is made of another one's parameters has them."""
    known = {field.name for field in DECLARED[name].op.parameters()}
    beside = {one: value for one, value in BESIDE.get(parameter, {}).items() if one in known}
    if "padding" in known:
        beside = {"padding": padding, **beside}
    own, theirs = getattr(made(name), parameter), made(name, **beside, framework=framework)
    given = made(name, **beside, framework=framework, **{parameter: own})
    if own is None:
        assert given == theirs
    else:
        assert getattr(given, parameter) == own
    replaced = dataclasses.replace(theirs, **{parameter: own})
    assert getattr(replaced, parameter) == own
    assert dataclasses.replace(replaced, framework=framework) == replaced
    without = {one.name: getattr(theirs, one.name) for one in theirs.parameters() if one.name != parameter}
    assert without == {one: getattr(replaced, one) for one in without}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("padding", [1, "same", "same_lower", "valid"])
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose", *POOLS, "Unfold"])
def test_with_every_default_given_a_framework_changes_nothing(name: str, framework: str, padding: Any) -> None:
    """But for the size of same padding in Keras, which a given output_padding sets."""
    beside: dict[str, Any] = {"padding": padding, "stride": 2}
    own = made(name, **beside)
    given = {one: getattr(own, one) for one in own.defaults_of(framework)}
    op = made(name, **given | beside, framework=framework)
    operands = [np.round(normal(1, 7, 7, 3)), *([normal(3, 3, 3, 3)] if name.startswith("Conv") else [])]
    if (name, framework) == ("ConvTranspose", "tensorflow") and padding in {"same", "same_lower"}:
        assert own.forward(*operands).shape[1] == 14
        assert op.forward(*operands).shape[1] == 13
    else:
        np.testing.assert_array_equal(op.forward(*operands), own.forward(*operands))


@pytest.mark.parametrize(
    ("weight", "parameters", "expected"),
    [
        ([1, 2, 3], {"stride": 2}, [1, 2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "output_padding": 0}, [2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "output_padding": [0]}, [2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "output_padding": 1}, [1, 2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "output_padding": "to_stride"}, [1, 2, 13, 20]),
        ([1, 2, 3, 4], {"stride": 3, "output_padding": 1}, [2, 3, 14, 20]),
        ([1], {"stride": 3, "output_padding": 0}, [1, 0, 0, 10]),
        ([1], {"stride": 3, "output_padding": 2}, [1, 0, 0, 10, 0, 0]),
        ([1, 2], {"dilation": 2, "output_padding": 0}, [10, 2]),
        ([1, 2, 3], {"stride": 2, "output_padding": 0, "output_size": 4}, [1, 2, 13, 20]),
        ([1, 2, 3], {"stride": 2, "output_padding": 0, "framework": None}, [1, 2, 13, 20]),
    ],
    ids=str,
)
def test_a_given_output_padding_sets_the_size_of_same_in_keras(
    weight: list[float], parameters: dict[str, Any], expected: list[float]
) -> None:
    """It adds to what is left without half a window at either side, as tf.nn crops it; alone, 0 means n * stride."""
    op = made("ConvTranspose", **{"framework": "tensorflow", "padding": "same", **parameters})
    output = op.forward(np.reshape([1.0, 10.0], (1, 2, 1)), np.reshape(weight, (-1, 1, 1)))
    assert output.ravel().tolist() == expected
