"""The parameter framework: that framework's own defaults for what is not given, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cnn_core import AvgPool, Conv, LpPool, MaxPool, MaxUnpool, ParameterError
from tests.comparisons import normal
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import FRAMEWORKS, LAYOUTS, Declaration
from tests.oracle import loops

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)
every_pool = pytest.mark.parametrize("pool", [MaxPool, AvgPool, LpPool])


def required_parameters(declared: Declaration) -> dict[str, Any]:
    """The parameters that the op has no default for, and the size of windows, as in the declaration."""
    given = declared.same_in_both_layouts.parameters
    fields = {field.name: field.default for field in declared.op.parameters()}
    required = {name for name, default in fields.items() if default is dataclasses.MISSING} | {"kernel_size"}
    return {name: value for name, value in given.items() if name in required}


POOLS = {"MaxPool": {"kernel_size": 2}, "AvgPool": {"kernel_size": 2}, "LpPool": {"kernel_size": 2}}
DECLARED = {declared.op.__name__: declared for declared in DECLARATIONS}
REQUIRED = {name: required_parameters(declared) for name, declared in DECLARED.items()}
"""Every op with the parameters that it cannot do without."""


def made(name: str, **parameters: Any) -> Any:
    """An op by its name."""
    return DECLARED[name].create_op(**REQUIRED[name] | parameters)


def resolved_stride(op: Any) -> int:
    """The stride on one axis, seen in the output's size: 41 elements, 3 taps."""
    size = (41 - 3) // np.arange(1, 9) + 1
    layer = op.output_shape((41, 41, 41))  # one spatial axis in either layout, and no layout is the other
    spatial = layer[2] if op.data_format == "channels_first" else layer[1]
    return int(np.flatnonzero(size == spatial)[0]) + 1


# -------------------------------------------------------------------------------------------------------- data_format


@pytest.mark.parametrize(
    ("name", "framework", "expected"),
    [
        (name, framework, declared.defaults(framework)["data_format"])
        for name, declared in DECLARED.items()
        for framework in declared.frameworks
    ],
)
def test_data_format(name: str, framework: str, expected: str) -> None:
    assert made(name, framework=framework).data_format == expected


@pytest.mark.parametrize("name", REQUIRED)
@every_framework
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_given_data_format_wins(name: str, framework: str, data_format: str) -> None:
    """Also where it is the one that holds without a framework."""
    assert made(name, framework=framework, data_format=data_format).data_format == data_format


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_framework_data_format_is_channels_last(name: str) -> None:
    assert made(name).data_format == made(name, framework=None).data_format == "channels_last"
    assert made(name) == made(name, framework=None)


def test_data_format_is_followed() -> None:
    assert Conv(framework="torch").output_shape((1, 2, 5, 6), (4, 2, 3, 3)) == (1, 4, 3, 4)
    assert Conv(framework="jax").output_shape((1, 2, 5, 6), (4, 2, 3, 3)) == (1, 4, 3, 4)
    assert Conv(framework="tensorflow").output_shape((1, 5, 6, 2), (3, 3, 2, 4)) == (1, 3, 4, 4)
    assert MaxPool(output_size=1, framework="torch").output_shape((7, 5, 6, 2)) == (7, 5, 1, 1)
    assert MaxPool(output_size=1, framework="jax").output_shape((7, 5, 6, 2)) == (7, 1, 1, 2)
    unpool = MaxUnpool(output_size=9, framework="onnx")
    assert unpool.output_shape((1, 2, 3), (1, 2, 3)) == (1, 2, 9)


# ------------------------------------------------------------------------------------------------------------- stride


@every_pool
@pytest.mark.parametrize(("framework", "stride"), [("torch", 3), ("tensorflow", 3), ("onnx", 1), ("jax", 1), (None, 3)])
def test_stride_of_a_pool(pool: Any, framework: str | None, stride: int) -> None:
    assert resolved_stride(pool(kernel_size=3, framework=framework)) == stride


@every_pool
@every_framework
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_given_stride_of_a_pool_wins(pool: Any, framework: str, stride: int) -> None:
    op = pool(kernel_size=3, framework=framework, stride=stride)
    assert op.stride == stride
    assert resolved_stride(op) == stride


@pytest.mark.parametrize(
    ("framework", "size"), [("onnx", 2 + 3), ("torch", 3 * 3), ("tensorflow", 3 * 3), (None, 3 * 3)]
)
def test_stride_of_unpooling(framework: Any, size: int) -> None:
    assert MaxUnpool(kernel_size=3, framework=framework).output_shape((3, 3, 3), (3, 3, 3)).count(size) == 1
    given = MaxUnpool(kernel_size=3, framework=framework, stride=2)
    assert given.stride == 2
    assert given.output_shape((3, 3, 3), (3, 3, 3)).count(2 * 2 + 3) == 1


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose", "Unfold", "Fold", "ConvInteger", "QLinearConv"])
@every_framework
def test_stride_of_everything_else_is_1(name: str, framework: str) -> None:
    assert made(name, framework=framework).stride == 1


@every_pool
@every_framework
def test_adaptive_windows_have_no_stride_that_a_framework_could_set(pool: Any, framework: str) -> None:
    op = pool(output_size=2, framework=framework)
    first = op.data_format == "channels_first"
    assert op.output_shape((1, 3, 5) if first else (1, 5, 3)) == ((1, 3, 2) if first else (1, 2, 3))
    with pytest.raises(ParameterError):
        pool(output_size=2, framework=framework, stride=1)


# -------------------------------------------------------------------------------------------------- count_include_pad


@pytest.mark.parametrize(
    ("framework", "count_include_pad"),
    [("torch", True), ("jax", True), ("onnx", False), ("tensorflow", False), (None, False)],
)
def test_count_include_pad(framework: str | None, count_include_pad: bool) -> None:
    pool: Any = AvgPool
    op = pool(kernel_size=2, padding=1, stride=2, framework=framework)
    assert op.count_include_pad is count_include_pad
    assert op.forward(np.full((1, 2, 2), 8.0)).max() == (4.0 if count_include_pad else 8.0)


@every_framework
@pytest.mark.parametrize("given", [True, False])
def test_a_given_count_include_pad_wins(framework: Any, given: bool) -> None:
    assert AvgPool(kernel_size=2, framework=framework, count_include_pad=given).count_include_pad is given


@every_framework
def test_the_average_of_an_adaptive_window_has_its_own_size_as_divisor(framework: Any) -> None:
    assert AvgPool(output_size=2, framework=framework).forward(np.full((1, 3, 3), 8.0)).tolist()[0][0][0] == 8.0


# ------------------------------------------------------------------------------------------------------- index_scheme


@pytest.mark.parametrize("op", [MaxPool, MaxUnpool])
@pytest.mark.parametrize(
    ("framework", "index_scheme"),
    [("torch", "plane"), ("jax", "plane"), ("tensorflow", "image"), ("onnx", "tensor"), (None, "plane")],
)
def test_index_scheme(op: Any, framework: str | None, index_scheme: str) -> None:
    assert op(kernel_size=2, framework=framework).index_scheme == index_scheme


@pytest.mark.parametrize("op", [MaxPool, MaxUnpool])
@every_framework
@pytest.mark.parametrize("given", ["plane", "image", "tensor"])
def test_a_given_index_scheme_wins(op: Any, framework: str, given: str) -> None:
    assert op(kernel_size=2, framework=framework, index_scheme=given).index_scheme == given


@pytest.mark.parametrize(
    ("framework", "expected"),
    [("torch", [0, 1, 0, 1]), ("jax", [0, 0, 1, 1]), ("tensorflow", [0, 1, 2, 3]), ("onnx", [4, 5, 6, 7])],
)
def test_index_scheme_is_followed(framework: Any, expected: list[int]) -> None:
    """The second image of two has 2 by 2 elements: axis and channel, or channel and axis; every element is a window."""
    pool: Any = MaxPool(kernel_size=1, framework=framework, return_indices=True)
    result = pool.forward(np.zeros((2, 2, 2)))
    assert result.indices[1].reshape(-1).tolist() == expected


# --------------------------------------------------------------------------------------------------------------- ties


def gradient_of_equal_values(rank: int, **parameters: Any) -> list[float]:
    """The gradient of one window over equal values."""
    op: Any = MaxPool(**parameters)
    shape = (1, *[2] * rank, 1) if op.data_format == "channels_last" else (1, 1, *[2] * rank)
    return [float(value) for value in op.backward(np.ones((1,) * (rank + 2)), np.zeros(shape)).reshape(-1)]


@pytest.mark.parametrize("windows", [{"kernel_size": 2}, {"output_size": 1}])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("framework", [*FRAMEWORKS, None])
def test_ties(framework: str | None, rank: int, windows: dict[str, Any]) -> None:
    """TensorFlow gives every tied maximum the gradient, but over three spatial axes only."""
    expected = [1.0] * 8 if (framework, rank) == ("tensorflow", 3) else [1.0] + [0.0] * (2**rank - 1)
    assert gradient_of_equal_values(rank, **windows, framework=framework) == expected


@pytest.mark.parametrize("kernel_size", [[2], [2, 2], [2, 2, 2]])
def test_ties_where_the_parameters_tell_the_number_of_axes(kernel_size: list[int]) -> None:
    rank = len(kernel_size)
    expected = [1.0] * 8 if rank == 3 else [1.0] + [0.0] * (2**rank - 1)
    assert gradient_of_equal_values(rank, kernel_size=kernel_size, framework="tensorflow") == expected


@pytest.mark.parametrize("rank", [1, 2, 3])
@every_framework
@pytest.mark.parametrize("ties", ["first", "all", "split"])
def test_given_ties_win(framework: str, rank: int, ties: str) -> None:
    count = 2**rank
    expected = {"first": [1.0] + [0.0] * (count - 1), "all": [1.0] * count, "split": [1 / count] * count}[ties]
    assert gradient_of_equal_values(rank, kernel_size=2, framework=framework, ties=ties) == expected


def test_the_ties_of_tensorflow_leave_the_index_at_the_first_maximum() -> None:
    pool: Any = MaxPool(kernel_size=2, framework="tensorflow", return_indices=True)
    assert pool.forward(np.zeros((1, 2, 2, 2, 1))).indices.item() == 0


# ----------------------------------------------------------------------------------------------------- output_padding


KERAS_ADDS = {"tensorflow", "jax"}
"""The frameworks whose transposed convolution is at least n * stride long."""


@pytest.mark.parametrize("framework", [*FRAMEWORKS, None])
@pytest.mark.parametrize(
    ("stride", "kernel", "dilation", "more"),
    [
        (3, 2, 1, 1),  # a stride beyond the extent of the window: as many elements as it has more
        (5, 2, 2, 2),
        (2, 3, 1, 0),
        (2, 2, 1, 0),
    ],
)
def test_output_padding_of_a_transposed_convolution(
    framework: str | None, stride: int, kernel: int, dilation: int, more: int
) -> None:
    op = made("ConvTranspose", framework=framework, stride=stride, dilation=dilation)
    first = op.data_format == "channels_first"
    shapes = ((1, 1, 4), (1, 1, kernel)) if first else ((1, 4, 1), (kernel, 1, 1))
    extent = (kernel - 1) * dilation + 1
    assert max(op.output_shape(*shapes)) == 3 * stride + extent + (more if framework in KERAS_ADDS else 0)
    given = made("ConvTranspose", framework=framework, stride=stride, dilation=dilation, output_padding=0)
    assert max(given.output_shape(*shapes)) == 3 * stride + extent


@pytest.mark.parametrize(
    ("padding", "expected"), [("valid", 15), ("same", 15), (0, 13), (1, 11), ([0], 13), ([[0, 0]], 13), ([[1, 0]], 12)]
)
def test_jax_reaches_the_stride_with_words_only(padding: Any, expected: int) -> None:
    """lax.conv_transpose with a stride of 5 and 3 taps; numbers as with use_consistent_padding."""
    op = made("ConvTranspose", framework="jax", stride=5, padding=padding)
    assert op.output_shape((1, 3, 1), (3, 1, 1)) == (1, expected, 1)


# ------------------------------------------------------------------------------------------------------- the instance


@pytest.mark.parametrize(
    ("op", "resolved"),
    [
        (
            MaxPool(kernel_size=2, framework="onnx"),
            {"stride": 1, "data_format": "channels_first", "index_scheme": "tensor", "padding": 0},
        ),
        (MaxPool(kernel_size=2, framework="tensorflow"), {"data_format": "channels_last", "index_scheme": "image"}),
        (
            AvgPool(kernel_size=2, framework="jax"),
            {"stride": 1, "data_format": "channels_last", "count_include_pad": True},
        ),
        (AvgPool(kernel_size=2, framework="torch"), {"data_format": "channels_first", "count_include_pad": True}),
        (LpPool(kernel_size=2, framework="onnx"), {"stride": 1, "data_format": "channels_first", "norm_type": 2}),
        (MaxUnpool(kernel_size=2, framework="onnx"), {"stride": 1, "index_scheme": "tensor"}),
        (Conv(framework="jax"), {"stride": 1, "data_format": "channels_first"}),
    ],
    ids=lambda value: repr(value) if dataclasses.is_dataclass(value) else "",
)
def test_an_instance_shows_resolved_values(op: Any, resolved: dict[str, Any]) -> None:
    for name, value in resolved.items():
        assert getattr(op, name) == value
        assert f"{name}={value!r}" in repr(op)


@pytest.mark.parametrize("name", REQUIRED)
@every_framework
def test_an_instance_made_of_resolved_values_is_the_same(name: str, framework: str) -> None:
    op = made(name, framework=framework)
    assert dataclasses.replace(op) == op
    assert hash(dataclasses.replace(op)) == hash(op)


@every_framework
@pytest.mark.parametrize(
    ("pool", "shape"), [(MaxPool, (2, 3, 7, 6)), (AvgPool, (2, 3, 7, 6)), (MaxPool, (1, 3, 4, 5, 2))]
)
def test_the_defaults_of_a_framework_are_the_same_as_giving_them(
    pool: Any, shape: tuple[int, ...], framework: str
) -> None:
    input = np.round(normal(*shape))  # with ties
    given: dict[str, Any] = {"kernel_size": 2, "padding": 1}
    parameters = given | {"data_format": LAYOUTS[framework]}
    if framework in {"onnx", "jax"}:
        parameters["stride"] = 1
    forward: Any
    backward: Any
    if pool is AvgPool:
        parameters["count_include_pad"] = framework in {"torch", "jax"}
        forward, backward = loops.avg_pool_forward, loops.avg_pool_backward
    else:
        parameters["ties"] = "all" if framework == "tensorflow" and len(shape) == 5 else "first"
        forward, backward = loops.max_pool_forward, loops.max_pool_backward
    op = pool(**given, framework=framework)
    output = op.forward(input)
    np.testing.assert_allclose(output, forward(input, **parameters), rtol=1e-12, strict=True)
    grad_output = normal(*output.shape, seed=1)
    expected = backward(grad_output, input, **parameters)
    np.testing.assert_allclose(op.backward(grad_output, input), expected, rtol=1e-12, atol=1e-12, strict=True)


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("value", ["torchvision", "", 1, True, ["torch", "jax"]], ids=repr)
@pytest.mark.parametrize("name", REQUIRED)
def test_frameworks_that_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match="framework") as caught:
        made(name, framework=value)
    assert caught.value.subject == "framework"
    for framework in FRAMEWORKS:
        assert framework in str(caught.value)


@every_framework
def test_a_framework_does_not_hide_a_bad_value(framework: str) -> None:
    for name, value in {"stride": 0, "data_format": "CHWN", "index_scheme": "flat", "ties": "last"}.items():
        parameters: dict[str, Any] = {"kernel_size": 2, "framework": framework, name: value}
        with pytest.raises(ParameterError, match=name) as caught:
            MaxPool(**parameters)
        assert caught.value.subject == name
