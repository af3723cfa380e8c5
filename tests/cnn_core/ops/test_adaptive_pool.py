"""Pooling by output_size: window i of an axis of n elements is [floor(i n / o), ceil((i + 1) n / o))."""

from __future__ import annotations

import contextlib
import copy
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import AvgPool, ConvpoolError, LpPool, MaxPool, ParameterError, ShapeError
from tests.comparisons import assert_close, inner, normal
from tests.interpreter import at_most_lines
from tests.oracle import adaptive
from tests.strategies import PoolCase, quick_settings
from tests.strategies_pool import adaptive_cases, adaptive_max_pool_cases, memory_layouts

some_settings = settings(quick_settings, max_examples=30)
every_pool = pytest.mark.parametrize("pool", [MaxPool, AvgPool, LpPool])


def windows_of(size: int, output_size: int) -> list[list[int]]:
    """The elements that hand something on to each output of an average."""
    gradients = [
        AvgPool(output_size=output_size).backward(one_hot.reshape(1, -1, 1), np.zeros((1, size, 1)))
        for one_hot in np.eye(output_size)
    ]
    return [np.flatnonzero(gradient).tolist() for gradient in gradients]


# ------------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((1, 41, 38, 3), {"output_size": [7, 5]}),
        ((1, 40, 60, 2), {"output_size": 1}),
        ((3, 64, 8), {"output_size": 9}),
        ((1, 30, 20, 1), {"output_size": [45, 33]}),
        ((1, 2, 12, 13, 14), {"output_size": [5, 13, 2], "data_format": "channels_first"}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(shape: tuple[int, ...], parameters: dict[str, Any]) -> None:
    input = np.random.default_rng(0).integers(-4, 9, size=shape).astype(np.float64)
    output: Any = MaxPool(**parameters).forward(input)
    np.testing.assert_array_equal(output, adaptive.max_pool_forward(input, **parameters), strict=True)
    grad_output = normal(*output.shape)
    for ties in ("first", "all", "split"):
        gradient = MaxPool(**parameters | {"ties": ties}).backward(grad_output, input)
        assert_close(gradient, adaptive.max_pool_backward(grad_output, input, **parameters, ties=ties))
    assert_close(AvgPool(**parameters).forward(input), adaptive.avg_pool_forward(input, **parameters))
    gradient = AvgPool(**parameters).backward(grad_output, input)
    assert_close(gradient, adaptive.avg_pool_backward(grad_output, input, **parameters))


@pytest.mark.parametrize("output_size", [(7, 7), (1, 50), (70, 3)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_an_input_that_is_computed_in_parts(output_size: tuple[int, int], data_format: str) -> None:
    """Half a million elements, window by window with NumPy's own reductions."""
    shape = (12, 60, 90, 8) if data_format == "channels_last" else (12, 8, 60, 90)
    axes = (1, 2) if data_format == "channels_last" else (2, 3)
    input = normal(*shape)
    parameters: dict[str, Any] = {"output_size": output_size, "data_format": data_format}
    outputs: list[Any] = [kind(**parameters).forward(input) for kind in (MaxPool, AvgPool, LpPool)]
    images = [np.moveaxis(array, axes, (0, 1)) for array in (input, *outputs)]
    for y, x in np.ndindex(output_size):
        rows, columns = (
            adaptive.adaptive_range(at, size, count)
            for at, size, count in zip((y, x), (60, 90), output_size, strict=True)
        )
        window = images[0][rows.start : rows.stop, columns.start : columns.stop]
        np.testing.assert_array_equal(images[1][y, x], window.max(axis=(0, 1)))
        np.testing.assert_allclose(images[2][y, x], window.mean(axis=(0, 1)), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(images[3][y, x], np.sqrt((window**2).sum(axis=(0, 1))), rtol=1e-12)
    ones = np.ones(outputs[0].shape)
    assert AvgPool(**parameters).backward(ones, input).sum() == pytest.approx(ones.size, rel=1e-10)
    gradient = MaxPool(**parameters).backward(outputs[0], input)
    assert inner(gradient, np.ones(shape)) == pytest.approx(outputs[0].sum(), rel=1e-10)
    assert set(np.unique(input[gradient != 0])) == set(np.unique(outputs[0]))


# ------------------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize(
    ("size", "output_size", "expected"),
    [
        (5, 3, [[0, 1], [1, 2, 3], [3, 4]]),
        (7, 2, [[0, 1, 2, 3], [3, 4, 5, 6]]),
        (6, 3, [[0, 1], [2, 3], [4, 5]]),
        (4, 4, [[0], [1], [2], [3]]),
        (3, 1, [[0, 1, 2]]),
        (3, 5, [[0], [0, 1], [1], [1, 2], [2]]),
        (2, 6, [[0], [0], [0], [1], [1], [1]]),
        (1, 3, [[0], [0], [0]]),
    ],
)
def test_windows_by_hand(size: int, output_size: int, expected: list[list[int]]) -> None:
    assert windows_of(size, output_size) == expected


@pytest.mark.parametrize("size", range(1, 10))
def test_windows_of_every_small_size_forward_and_backward(size: int) -> None:
    """Every element alone in an image of its own shows the windows that it is in."""
    one_hot = np.eye(size)[:, :, None]
    for output_size in range(1, 12):
        member = np.zeros((size, output_size))
        for at in range(output_size):
            member[list(adaptive.adaptive_range(at, size, output_size)), at] = 1.0
        expected = member[:, :, None]
        np.testing.assert_array_equal(MaxPool(output_size=output_size).forward(one_hot), expected)
        assert_close(LpPool(output_size=output_size).forward(one_hot), expected)
        assert_close(AvgPool(output_size=output_size).forward(one_hot), expected / member.sum(axis=0)[:, None])
        ones = np.ones((1, output_size, 1))
        gradient = AvgPool(output_size=output_size).backward(ones, np.zeros((1, size, 1)))
        assert_close(gradient[0, :, 0], (member / member.sum(axis=0)).sum(axis=1))


def test_output_size_per_axis() -> None:
    input = np.arange(12.0).reshape(1, 3, 4, 1)
    a_list: Any = [3, 1]  # as a client sends it
    for output_size, expected in (((1, 2), [[9.0, 11.0]]), (a_list, [[3.0], [7.0], [11.0]])):
        pool: Any = MaxPool(output_size=output_size)
        assert pool.forward(input)[0, :, :, 0].tolist() == expected
    assert AvgPool(output_size=(1, 4), data_format="channels_first").forward(input.reshape(1, 1, 3, 4)).tolist() == [
        [[[4.0, 5.0, 6.0, 7.0]]]
    ]


@quick_settings
@given(adaptive_cases())
def test_an_output_size_of_1_is_global(case: PoolCase) -> None:
    parameters = case.parameters | {"output_size": 1}
    first = parameters.get("data_format") == "channels_first"
    axes = tuple(range(2, case.input.ndim)) if first else tuple(range(1, case.input.ndim - 1))
    np.testing.assert_array_equal(
        MaxPool(**parameters).forward(case.input), case.input.max(axis=axes, keepdims=True), strict=True
    )
    assert_close(AvgPool(**parameters).forward(case.input), case.input.mean(axis=axes, keepdims=True))
    norm = np.sqrt((case.input**2).sum(axis=axes, keepdims=True))
    assert_close(LpPool(**parameters).forward(case.input), norm)


@quick_settings
@given(adaptive_cases())
def test_an_output_size_of_the_inputs_own_changes_nothing(case: PoolCase) -> None:
    first = case.parameters.get("data_format") == "channels_first"
    parameters = case.parameters | {"output_size": case.input.shape[2:] if first else case.input.shape[1:-1]}
    for pool, expected in ((MaxPool, case.input), (AvgPool, case.input), (LpPool, np.abs(case.input))):
        op: Any = pool(**parameters)
        assert_close(op.forward(case.input), expected, 1e-14)
    gradient = normal(*case.input.shape)
    assert_close(MaxPool(**parameters).backward(gradient, case.input), gradient)
    assert_close(AvgPool(**parameters).backward(gradient, case.input), gradient)


@every_pool
@pytest.mark.parametrize(("size", "output_size"), [(6, 2), (6, 3), (12, 4), (9, 9)])
def test_an_output_size_that_divides_the_input_is_a_kernel(pool: Any, size: int, output_size: int) -> None:
    input = normal(2, size, size, 3)
    grad_output = normal(2, output_size, output_size, 3, seed=1)
    kernel = pool(kernel_size=size // output_size)
    assert_close(pool(output_size=output_size).forward(input), kernel.forward(input))
    assert_close(pool(output_size=output_size).backward(grad_output, input), kernel.backward(grad_output, input))


# ---------------------------------------------------------------------------------------------------------- gradients


@quick_settings
@given(adaptive_max_pool_cases(spaced=True), st.integers(0, 2**32 - 1))
def test_gradients_agree_with_central_differences(case: PoolCase, seed: int) -> None:
    toward = np.random.default_rng(seed).uniform(-1e-3, 1e-3, size=case.input.shape)
    windows = {name: value for name, value in case.parameters.items() if name != "ties"}
    ops: list[Any] = [MaxPool(**case.parameters), AvgPool(**windows)]
    for pool in ops:
        slope = inner(pool.forward(case.input + toward) - pool.forward(case.input - toward), case.grad_output) / 2
        gradient = pool.backward(case.grad_output, case.input)
        assert slope == pytest.approx(inner(toward, gradient), rel=1e-7, abs=1e-9)


def test_windows_that_overlap_add_their_gradients() -> None:
    """Five elements in three windows: [0, 2), [1, 4) and [3, 5)."""
    grad_output = np.array([6.0, 60.0, 600.0]).reshape(1, 3, 1)
    input = np.array([1.0, 5.0, 2.0, 5.0, 3.0]).reshape(1, 5, 1)
    for ties, expected in {
        "first": [0.0, 66.0, 0.0, 600.0, 0.0],
        "all": [0.0, 66.0, 0.0, 660.0, 0.0],
        "split": [0.0, 36.0, 0.0, 630.0, 0.0],
    }.items():
        options: dict[str, Any] = {"ties": ties}
        pool = MaxPool(output_size=3, **options)
        assert pool.backward(grad_output, input).reshape(-1).tolist() == expected
    gradient = AvgPool(output_size=3).backward(grad_output, input)
    assert_close(gradient.reshape(-1), np.array([3.0, 23.0, 20.0, 320.0, 300.0]))


@quick_settings
@given(adaptive_cases())
def test_average_and_its_gradient_are_adjoint(case: PoolCase) -> None:
    pool = AvgPool(**case.parameters)
    product = inner(pool.forward(case.input), case.grad_output)
    gradient = pool.backward(case.grad_output, case.input)
    assert inner(case.input, gradient) == pytest.approx(product, rel=1e-10, abs=1e-10)
    assert gradient.sum() == pytest.approx(case.grad_output.sum(), rel=1e-10, abs=1e-10)


# ----------------------------------------------------------------------------------------------------------- operands


@quick_settings
@given(adaptive_cases(), memory_layouts)
def test_operands_in_any_memory_layout_are_left_as_they_were(case: PoolCase, change: Any) -> None:
    before = copy.deepcopy(case)
    input, grad_output = change(case.input), change(case.grad_output)
    for kind in (MaxPool, AvgPool, LpPool):
        pool: Any = kind(**case.parameters)
        for result, plain in (
            (pool.forward(input), pool.forward(case.input)),
            (pool.backward(grad_output, input), pool.backward(case.grad_output, case.input)),
        ):
            assert result.dtype.isnative
            assert_close(result, plain)
            result.fill(np.nan)  # a result is its caller's own: it must be no view of an operand
    for array in (input, case.input):
        np.testing.assert_array_equal(array, before.input)
    for array in (grad_output, case.grad_output):
        np.testing.assert_array_equal(array, before.grad_output)


@every_pool
def test_an_empty_batch(pool: Any) -> None:
    input = np.zeros((0, 5, 5, 2), dtype=np.float32)
    output = pool(output_size=(3, 7)).forward(input)
    assert output.dtype == np.float32
    assert output.shape == (0, 3, 7, 2)
    assert_close(pool(output_size=(3, 7)).backward(output, input), input)


@contextlib.contextmanager
def at_no_cost() -> Iterator[None]:
    """A few thousand lines of Python, and under a megabyte."""
    tracemalloc.start()
    try:
        with at_most_lines(20_000):
            yield
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@every_pool
def test_a_predicted_shape_costs_nothing(pool: Any) -> None:
    many = 2_000_003
    with at_no_cost():
        assert pool(output_size=many).output_shape((1, 5, 1)) == (1, many, 1)
        assert pool(output_size=7).output_shape((many, many, many, 1)) == (many, 7, 7, 1)
        assert pool(output_size=many).resolve((1, many + 1, 3)).output_shape == (1, many, 3)


# ------------------------------------------------------------------------------------------------------------- errors


@every_pool
@pytest.mark.parametrize(
    ("name", "value"), [("stride", 1), ("stride", [2]), ("padding", 1), ("dilation", 2), ("ceil_mode", True)]
)
def test_output_size_excludes_what_describes_a_kernel(pool: Any, name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match="output_size") as caught:
        pool(output_size=2, **{name: value})
    assert name in str(caught.value)
    assert caught.value.subject in {name, "output_size"}


@every_pool
@pytest.mark.parametrize("padding", [[[0, 1]], [[1, 0]], "same", "same_lower"])
def test_output_size_excludes_every_form_of_padding(pool: Any, padding: Any) -> None:
    with pytest.raises(ParameterError, match="padding") as caught:
        pool(output_size=2, padding=padding)
    assert caught.value.subject in {"padding", "output_size"}


@every_pool
def test_output_size_beside_the_defaults_of_a_kernel(pool: Any) -> None:
    op = pool(output_size=2, stride=None, padding=0, dilation=1, ceil_mode=False)
    assert op == pool(output_size=2)
    assert op.output_shape((1, 5, 1)) == (1, 2, 1)


@every_pool
def test_both_of_kernel_size_and_output_size_or_neither(pool: Any) -> None:
    with pytest.raises(ParameterError, match="kernel_size") as caught:
        pool(kernel_size=2, output_size=2)
    assert "output_size" in str(caught.value)
    assert caught.value.subject in {"kernel_size", "output_size"}
    with pytest.raises(ParameterError, match="kernel_size") as caught:
        pool()
    assert "output_size" in str(caught.value)
    assert caught.value.subject in {"kernel_size", "output_size"}


@every_pool
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "2", [], [1, 0], [1, True], [[1, 2]], {"height": 2}], ids=repr)
def test_an_output_size_is_one_or_more(pool: Any, value: Any) -> None:
    with pytest.raises(ParameterError, match="output_size") as caught:
        pool(output_size=value)
    assert caught.value.subject == "output_size"


@every_pool
def test_as_many_output_sizes_as_axes(pool: Any) -> None:
    op = pool(output_size=[2, 2])
    for call in (op.forward, lambda array: op.output_shape(array.shape)):
        with pytest.raises(ParameterError, match=r"output_size.* 2 .* 3 |output_size.* 3 .* 2 ") as caught:
            call(normal(1, 5, 5, 5, 2))
        assert caught.value.subject == "output_size"


@every_pool
@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (1, 2, 2, 2, 2, 1), (1, 0, 3), (1, 3, 0)])
def test_shapes_that_are_no_input(pool: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        pool(output_size=1).forward(np.zeros(shape))
    assert caught.value.subject == "input"
    with pytest.raises(ShapeError):
        pool(output_size=1).output_shape(shape)


@every_pool
def test_grad_output_must_have_the_shape_of_the_output(pool: Any) -> None:
    with pytest.raises(ShapeError, match=r"grad_output.*\(1, 4, 2\).*\(1, 3, 2\)") as caught:
        pool(output_size=4).backward(normal(1, 3, 2), normal(1, 5, 2))
    assert caught.value.subject == "grad_output"
    assert isinstance(caught.value, ConvpoolError)
