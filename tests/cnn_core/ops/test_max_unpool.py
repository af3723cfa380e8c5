"""MaxUnpool: values go back to where their maxima were, zeros everywhere else."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import MaxPool, MaxUnpool, OperandError
from tests.comparisons import inner, normal
from tests.oracle.indices import unpool
from tests.strategies import PoolCase, quick_settings, spaced_max_pool_cases
from tests.strategies_pool import UnpoolCase, memory_layouts, orders, schemes, unpool_cases

some_settings = settings(quick_settings, max_examples=40)


def unpooled_row(values: list[float], indices: Any, **parameters: Any) -> list[float]:
    """The output over one spatial axis, of one image with one channel."""
    output = MaxUnpool(**parameters).forward(
        np.array(values, dtype=np.float64).reshape(1, -1, 1), np.asarray(indices).reshape(1, -1, 1)
    )
    return [float(value) for value in output.reshape(-1)]


# ------------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("index_scheme", ["plane", "image", "tensor"])
def test_duplicates_in_an_input_that_is_scattered_in_parts(index_scheme: Any, data_format: Any) -> None:
    """A quarter of a million values for a few places: a scatter in any other order leaves other values."""
    shape = (9, 60, 60, 8) if data_format == "channels_last" else (9, 8, 60, 60)
    random = np.random.default_rng(0)
    input = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    op = MaxUnpool(output_size=3, index_scheme=index_scheme, data_format=data_format)
    limit = 9 * {"plane": 1, "image": 8, "tensor": 9 * 8}[index_scheme]
    indices = random.integers(0, limit, size=shape)
    image, *at = np.indices(shape)
    channel = at[-1] if data_format == "channels_last" else at[0]
    channels_last = data_format == "channels_last"
    flat = {
        "plane": image * 72 + (indices * 8 + channel if channels_last else channel * 9 + indices),
        "image": image * 72 + indices,
        "tensor": indices,
    }[index_scheme]
    last = {int(place): int(source) for source, place in enumerate(flat.reshape(-1))}
    output = op.forward(input, indices)
    expected = np.zeros(output.size)
    expected[list(last)] = input.reshape(-1)[list(last.values())]
    np.testing.assert_array_equal(output.reshape(-1), expected)
    gradient = op.backward(output, input, indices)
    np.testing.assert_array_equal(gradient, np.where(np.isin(input, output), input, 0.0))


# ---------------------------------------------------------------------------------------------------------- gradients


@some_settings
@given(unpool_cases())
def test_forward_and_backward_are_adjoint(case: UnpoolCase) -> None:
    """Also with duplicates: what does not come through has no gradient."""
    op = MaxUnpool(**case.parameters)
    product = inner(op.forward(case.input, case.indices), case.grad_output)
    gradient = op.backward(case.grad_output, case.input, case.indices)
    assert inner(case.input, gradient) == pytest.approx(product, rel=1e-12, abs=1e-12)


@quick_settings
@given(unpool_cases(), st.integers(0, 2**32 - 1))
def test_gradient_agrees_with_central_differences(case: UnpoolCase, seed: int) -> None:
    op = MaxUnpool(**case.parameters)
    toward = np.random.default_rng(seed).uniform(-1e-3, 1e-3, size=case.input.shape)
    above, below = (op.forward(case.input + step, case.indices) for step in (toward, -toward))
    gradient = op.backward(case.grad_output, case.input, case.indices)
    assert inner(above - below, case.grad_output) / 2 == pytest.approx(inner(toward, gradient), rel=1e-7, abs=1e-9)


def test_the_last_of_several_values_for_one_place_wins_and_it_alone_gets_the_gradient() -> None:
    assert unpooled_row([1, 2, 3, 4], [5, 0, 5, 0], output_size=6) == [4, 0, 0, 0, 0, 3]
    grad_output = np.arange(10.0, 16.0).reshape(1, 6, 1)
    indices = np.array([5, 0, 5, 0]).reshape(1, 4, 1)
    gradient = MaxUnpool(output_size=6).backward(grad_output, normal(1, 4, 1), indices)
    assert gradient.reshape(-1).tolist() == [0.0, 0.0, 15.0, 10.0]


def test_a_value_of_0_wins_as_any_other() -> None:
    assert unpooled_row([7, 0], [1, 1], output_size=2) == [0, 0]
    assert np.isnan(unpooled_row([7, np.nan], [1, 1], output_size=2)[1])


@pytest.mark.parametrize(("data_format", "winner"), [("channels_last", 3), ("channels_first", 4)])
def test_last_means_the_order_of_the_memory(data_format: Any, winner: int) -> None:
    """Of y = 0 and 1 in channels 0 and 1, the values 3 at (y 1, channel 0) and 4 at (y 0, channel 1) meet."""
    input = np.array([[1.0, 4.0], [3.0, 2.0]]).reshape(1, 2, 2)  # channels_last
    indices = np.array([[0, 5], [5, 1]]).reshape(1, 2, 2)
    if data_format == "channels_first":
        input, indices = np.moveaxis(input, -1, 1), np.moveaxis(indices, -1, 1)
    op = MaxUnpool(output_size=4, index_scheme="image", data_format=data_format)
    output = op.forward(input, indices)
    assert output.reshape(-1).tolist() == [1.0, 2.0, 0.0, 0.0, 0.0, winner, 0.0, 0.0]


# ----------------------------------------------------------------------------------------------- inverse of pooling


@quick_settings
@given(spaced_max_pool_cases(), schemes, orders)
def test_unpooling_puts_every_maximum_back(case: PoolCase, index_scheme: Any, storage_order: Any) -> None:
    """With any windows: those that overlap give the same value at the same place."""
    how: Any = {"index_scheme": index_scheme, "storage_order": storage_order}
    pool: Any = MaxPool(**case.parameters, **how, return_indices=True)
    output, indices = pool.forward(case.input)
    layout = {name: value for name, value in case.parameters.items() if name == "data_format"}
    spatial = case.input.shape[2:] if layout.get("data_format") == "channels_first" else case.input.shape[1:-1]
    op = MaxUnpool(**layout, **how, output_size=spatial)
    restored = op.forward(output, indices)
    assert restored.shape == case.input.shape
    # The values differ, so that the maxima of an image and channel are known by their values.
    kept = np.isin(case.input, output)
    np.testing.assert_array_equal(restored, np.where(kept, case.input, 0.0))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("index_scheme", ["plane", "image", "tensor"])
@pytest.mark.parametrize("storage_order", ["row_major", "column_major"])
@pytest.mark.parametrize(
    ("sizes", "windows"),
    [
        ([6], {"kernel_size": 2}),
        ([6, 4], {"kernel_size": [3, 2]}),
        ([4, 6, 2], {"kernel_size": 2}),
        ([7, 7], {"kernel_size": 3, "stride": 2}),
        ([6, 10], {"kernel_size": 2, "padding": 1}),
        ([5, 4], {"kernel_size": 3, "stride": 2, "padding": [[1, 1], [1, 0]]}),
    ],
)
def test_the_inferred_size_is_the_one_that_was_pooled(
    sizes: list[int], windows: dict[str, Any], data_format: str, index_scheme: str, storage_order: str
) -> None:
    shape = (2, 3, *sizes) if data_format == "channels_first" else (2, *sizes, 3)
    input = normal(*shape)
    how: dict[str, Any] = {"index_scheme": index_scheme, "storage_order": storage_order, "data_format": data_format}
    pool: Any = MaxPool(**windows, **how, return_indices=True)
    output, indices = pool.forward(input)
    restored = MaxUnpool(**windows, **how).forward(output, indices)
    np.testing.assert_array_equal(restored, np.where(np.isin(input, output), input, 0.0), strict=True)
    # With the input as gradient every value gets itself, but for those of windows that overlap: one of them gets it.
    picked = MaxUnpool(**windows, **how).backward(input, output, indices)
    np.testing.assert_array_equal(picked[picked != 0], output[picked != 0])
    assert sorted(picked[picked != 0]) == np.unique(output).tolist()


# --------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "parameters", "expected"),
    [
        (3, {"kernel_size": 2}, 6),
        (3, {"kernel_size": 3, "stride": 2}, 7),
        (3, {"kernel_size": 3, "stride": None}, 9),
        (3, {"kernel_size": 3, "stride": 2, "padding": 1}, 5),
        (3, {"kernel_size": 2, "padding": [[1, 0]]}, 5),
        (3, {"kernel_size": 2, "stride": 3}, 8),
        (3, {"output_size": 4}, 4),
        (3, {"output_size": 1}, 1),
        (3, {"kernel_size": 2, "output_size": 7}, 7),
        (3, {"kernel_size": 2, "output_size": [5]}, 5),
    ],
)
def test_output_sizes(size: int, parameters: dict[str, Any], expected: int) -> None:
    op = MaxUnpool(**parameters)
    shape = (2, size, 3)
    assert op.output_shape(shape, shape) == (2, expected, 3)
    assert op.forward(normal(*shape), np.zeros(shape, dtype=np.int64)).shape == (2, expected, 3)


def test_output_size_per_axis() -> None:
    op = MaxUnpool(output_size=(2, 5), data_format="channels_first")
    assert op.output_shape((1, 2, 3, 4), (1, 2, 3, 4)) == (1, 2, 2, 5)


def test_indices_count_in_the_output_size() -> None:
    """Index 4 is y = 1, x = 0 of 2 by 4 elements, and y = 1, x = 1 of 2 by 3."""
    for width, place in ((4, (1, 0)), (3, (1, 1))):
        op = MaxUnpool(kernel_size=2, output_size=(2, width))
        output = op.forward(np.full((1, 1, 1, 1), 9.0), np.full((1, 1, 1, 1), 4))
        assert [tuple(at) for at in np.argwhere(output[0, :, :, 0])] == [place]


# --------------------------------------------------------------------------------------------------------- ONNX's rule


def test_onnx_counts_in_the_inferred_size_and_puts_it_at_the_start_of_output_size() -> None:
    """The example of ONNX's MaxUnpool, whose 4 by 4 elements stand in 5 by 5."""
    input = np.array([[5.0, 6.0], [7.0, 8.0]]).reshape(1, 1, 2, 2)
    indices = np.array([[5, 7], [13, 15]]).reshape(1, 1, 2, 2)
    parameters: dict[str, Any] = {"kernel_size": 2, "stride": 2, "output_size": 5}
    expected = np.zeros((5, 5))
    expected[1, 1], expected[1, 3], expected[3, 1], expected[3, 3] = 5, 6, 7, 8
    op = MaxUnpool(**parameters, framework="onnx")
    assert op.output_shape(input.shape, indices.shape) == (1, 1, 5, 5)
    output = op.forward(input, indices)
    np.testing.assert_array_equal(output[0, 0], expected)
    grad_output = normal(1, 1, 5, 5)
    gradient = op.backward(grad_output, input, indices)
    np.testing.assert_array_equal(gradient[0, 0], grad_output[0, 0, 1::2, 1::2])
    other = MaxUnpool(**parameters, data_format="channels_first").forward(input, indices)
    assert np.argwhere(other[0, 0]).tolist() == [[1, 0], [1, 2], [2, 3], [3, 0]]


@quick_settings
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_onnx_agrees_with_the_loops(sizes: list[int], kernel: int, stride: int, more: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (2, 2, *sizes)
    inferred = [(size - 1) * stride + kernel for size in sizes]
    output_size = [size + more for size in inferred]
    indices = random.integers(0, 2 * 2 * int(np.prod(inferred)), size=shape)
    parameters: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "output_size": output_size}
    defaults: dict[str, Any] = {"data_format": "channels_first", "index_scheme": "tensor", "onnx_rule": True}
    input, grad_output = random.standard_normal(shape), random.standard_normal((2, 2, *output_size))
    op = MaxUnpool(**parameters, framework="onnx")
    expected = unpool(input, indices, **parameters, **defaults)
    np.testing.assert_array_equal(op.forward(input, indices), expected, strict=True)
    expected = unpool(input, indices, grad_output, **parameters, **defaults)
    np.testing.assert_array_equal(op.backward(grad_output, input, indices), expected, strict=True)


def test_onnx_without_kernel_size_counts_in_output_size() -> None:
    op = MaxUnpool(output_size=(2, 4), framework="onnx")
    output = op.forward(np.full((1, 1, 1, 1), 9.0), np.full((1, 1, 1, 1), 4))
    assert np.argwhere(output[0, 0]).tolist() == [[1, 0]]


def test_onnx_index_beyond_the_inferred_size() -> None:
    """4 elements are counted, however many there are in output_size."""
    op = MaxUnpool(kernel_size=2, stride=2, output_size=6, framework="onnx")
    with pytest.raises(OperandError) as caught:
        op.forward(np.ones((1, 1, 2)), np.array([0, 4]).reshape(1, 1, 2))
    assert caught.value.subject == "indices"


# ------------------------------------------------------------------------------------------------------------ operands


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
)
def test_indices_of_every_dtype_that_holds_them(dtype: str) -> None:
    """The input's dtype is the output's: an index is no number to compute with."""
    indices = np.array([3, 0, 100], dtype=dtype).reshape(1, 3, 1)
    input = np.array([1, 2, 3], dtype=np.float32).reshape(1, 3, 1)
    output = MaxUnpool(output_size=101).forward(input, indices)
    assert output.dtype == np.float32
    assert {int(at): float(output[0, at, 0]) for at in np.flatnonzero(output)} == {3: 1.0, 0: 2.0, 100: 3.0}
    gradient = MaxUnpool(output_size=101).backward(np.ones((1, 101, 1), dtype=np.float32), input, indices)
    assert gradient.dtype == np.float32
    assert gradient.reshape(-1).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("input", "grad_output", "expected"),
    [
        ("float16", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("int8", "float32", "float64"),
        ("float32", "uint8", "float64"),
    ],
)
def test_dtypes_of_the_results(input: str, grad_output: str, expected: str) -> None:
    indices = np.array([1, 0]).reshape(1, 2, 1)
    values = np.array([1, 2]).reshape(1, 2, 1).astype(input)
    op = MaxUnpool(output_size=2)
    assert op.forward(values, indices).dtype == (input if input.startswith("float") else "float64")
    assert op.backward(np.ones((1, 2, 1), dtype=grad_output), values, indices).dtype == expected


@quick_settings
@given(unpool_cases(), memory_layouts)
def test_operands_in_any_memory_layout_are_left_as_they_were(case: UnpoolCase, change: Any) -> None:
    before = copy.deepcopy(case)
    op = MaxUnpool(**case.parameters)
    changed = [change(array) for array in (case.grad_output, case.input, case.indices)]
    for result, expected in (
        (op.forward(*changed[1:]), unpool(case.input, case.indices, **case.parameters)),
        (op.backward(*changed), unpool(case.input, case.indices, case.grad_output, **case.parameters)),
    ):
        assert result.dtype.isnative
        np.testing.assert_array_equal(result, expected, strict=True)
        result.fill(np.nan)  # a result is its caller's own: it must be no view of an operand
    for name, array in zip(("grad_output", "input", "indices"), changed, strict=True):
        np.testing.assert_array_equal(array, getattr(before, name))
        np.testing.assert_array_equal(getattr(case, name), getattr(before, name))


def test_an_empty_batch() -> None:
    op = MaxUnpool(kernel_size=2, index_scheme="tensor")
    input, indices = np.zeros((0, 2, 2, 3), dtype=np.float32), np.zeros((0, 2, 2, 3), dtype=np.int64)
    output = op.forward(input, indices)
    assert output.dtype == np.float32
    assert output.shape == (0, 4, 4, 3)
    assert op.backward(output, input, indices).shape == input.shape
