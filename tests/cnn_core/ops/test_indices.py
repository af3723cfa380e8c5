"""MaxPool(return_indices=True): where every maximum lies, counted by every scheme and storage order."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cnn_core
from cnn_core import MaxPool, ParameterError
from tests.comparisons import assert_close, normal
from tests.oracle.indices import max_pool_indices
from tests.oracle.windows import AnyArray
from tests.strategies import PoolCase, max_pool_cases, quick_settings
from tests.strategies_pool import adaptive_max_pool_cases, memory_layouts, orders, schemes

nan, inf = np.nan, np.inf
some_settings = settings(quick_settings, max_examples=40)
cases = st.one_of(max_pool_cases(), max_pool_cases(), adaptive_max_pool_cases())


def pooled(input: AnyArray, **parameters: Any) -> tuple[AnyArray, AnyArray]:
    """The output and the indices."""
    result: Any = MaxPool(**parameters, return_indices=True).forward(input)
    return result.output, result.indices


def indices_of_a_row(values: list[float], **parameters: Any) -> list[int]:
    """The indices over one spatial axis, of one image with one channel."""
    _, indices = pooled(np.array(values, dtype=np.float64).reshape(1, -1, 1), **parameters)
    return [int(index) for index in indices.reshape(-1)]


# ------------------------------------------------------------------------------------------------- against the oracle


@some_settings
@given(cases, schemes, orders)
def test_the_output_is_the_same_with_and_without_indices(case: PoolCase, index_scheme: Any, storage_order: Any) -> None:
    output, indices = pooled(case.input, **case.parameters, index_scheme=index_scheme, storage_order=storage_order)
    plain: Any = MaxPool(**case.parameters)
    np.testing.assert_array_equal(output, plain.forward(case.input), strict=True)
    assert indices.shape == output.shape
    assert indices.dtype == np.int64


@some_settings
@given(cases)
def test_the_element_at_the_index_is_the_output(case: PoolCase) -> None:
    output, indices = pooled(case.input, **case.parameters, index_scheme="tensor")
    np.testing.assert_array_equal(case.input.reshape(-1)[indices], output)


@some_settings
@given(cases, schemes, orders)
def test_the_gradient_with_ties_first_lands_exactly_on_the_indices(
    case: PoolCase, index_scheme: Any, storage_order: Any
) -> None:
    how: Any = {"index_scheme": index_scheme, "storage_order": storage_order, "ties": "first"}
    _, indices = pooled(case.input, **case.parameters | {"index_scheme": "tensor"})
    expected = np.zeros(case.input.size)
    np.add.at(expected, indices.reshape(-1), case.grad_output.reshape(-1))
    pool: Any = MaxPool(**case.parameters | how, return_indices=True)
    assert_close(pool.backward(case.grad_output, case.input), expected.reshape(case.input.shape))


@some_settings
@given(cases, schemes, orders, st.sampled_from(["first", "all", "split"]))
def test_how_indices_count_leaves_the_gradient_alone(
    case: PoolCase, index_scheme: Any, storage_order: Any, ties: Any
) -> None:
    plain: Any = MaxPool(**case.parameters | {"ties": ties})
    how: Any = {"index_scheme": index_scheme, "storage_order": storage_order, "ties": ties}
    counted: Any = MaxPool(**case.parameters | how, return_indices=True)
    expected = plain.backward(case.grad_output, case.input)
    np.testing.assert_array_equal(counted.backward(case.grad_output, case.input), expected, strict=True)


@pytest.mark.parametrize("index_scheme", ["plane", "image", "tensor"])
@pytest.mark.parametrize("storage_order", ["row_major", "column_major"])
@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((2, 21, 18, 3), {"kernel_size": [3, 2], "stride": 2, "padding": [[1, 1], [0, 1]]}),
        ((1, 32, 32, 8), {"kernel_size": 2}),
        ((1, 10, 11, 2), {"kernel_size": 9, "stride": 1, "padding": "same"}),
        ((2, 50, 6), {"kernel_size": 50}),
        ((1, 9, 8, 7, 2), {"kernel_size": 3, "dilation": 2, "ceil_mode": True}),
        ((30, 2, 7, 7), {"kernel_size": 3, "stride": 2, "data_format": "channels_first"}),
        ((2, 20, 15, 3), {"output_size": [6, 4]}),
    ],
)
def test_sizes_beyond_those_of_the_random_cases(
    shape: tuple[int, ...], parameters: dict[str, Any], index_scheme: str, storage_order: str
) -> None:
    input = np.random.default_rng(0).integers(0, 9, size=shape).astype(np.float64)
    how = {"index_scheme": index_scheme, "storage_order": storage_order}
    _, indices = pooled(input, **parameters, **how)
    np.testing.assert_array_equal(indices, max_pool_indices(input, **parameters, **how), strict=True)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "windows",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (1, 90)},
        {"output_size": (5, 7)},
    ],
)
def test_the_schemes_agree_with_each_other_where_an_input_is_computed_in_parts(
    windows: dict[str, Any], data_format: str
) -> None:
    """Half a million elements: what is left to count is beyond any block, tile or cache."""
    shape = (12, 60, 90, 8) if data_format == "channels_last" else (12, 8, 60, 90)
    input = np.random.default_rng(0).integers(0, 50, size=shape).astype(np.float64)
    layout = {"data_format": data_format}
    output, tensor = pooled(input, **windows, **layout, index_scheme="tensor")
    np.testing.assert_array_equal(input.reshape(-1)[tensor], output)
    coordinates = np.unravel_index(tensor, shape)
    y, x = coordinates[1:3] if data_format == "channels_last" else coordinates[2:]
    for order, in_plane in (("row_major", y * 90 + x), ("column_major", y + x * 60)):
        _, plane = pooled(input, **windows, **layout, storage_order=order)
        np.testing.assert_array_equal(plane, in_plane)
        _, image = pooled(input, **windows, **layout, storage_order=order, index_scheme="image")
        channel = coordinates[3] if data_format == "channels_last" else coordinates[1]
        expected = in_plane * 8 + channel if data_format == "channels_last" else channel * 60 * 90 + in_plane
        np.testing.assert_array_equal(image, expected)
    grad_output = np.ones(output.shape)
    counts = np.bincount(tensor.reshape(-1), minlength=input.size).reshape(shape)
    pool: Any = MaxPool
    gradient = pool(**windows, **layout).backward(grad_output, input)
    np.testing.assert_array_equal(gradient, counts)


# --------------------------------------------------------------------------------------------------- schemes by hand


@pytest.mark.parametrize(
    ("index_scheme", "storage_order", "data_format", "expected"),
    [
        # Two images of two channels, 2 by 3; the maximum of image 1 is at y = 1, x = 2 in channel 1, y = 0, x = 1 in 0.
        ("plane", "row_major", "channels_last", [1, 5]),
        ("plane", "column_major", "channels_last", [2, 5]),
        ("image", "row_major", "channels_last", [2, 11]),
        ("image", "column_major", "channels_last", [4, 11]),
        ("tensor", "row_major", "channels_last", [14, 23]),
        ("tensor", "column_major", "channels_last", [16, 23]),
        ("plane", "row_major", "channels_first", [1, 5]),
        ("plane", "column_major", "channels_first", [2, 5]),
        ("image", "row_major", "channels_first", [1, 11]),
        ("image", "column_major", "channels_first", [2, 11]),
        ("tensor", "row_major", "channels_first", [13, 23]),
        ("tensor", "column_major", "channels_first", [14, 23]),
    ],
)
def test_schemes(index_scheme: str, storage_order: str, data_format: str, expected: list[int]) -> None:
    input = np.zeros((2, 2, 3, 2))
    input[1, 0, 1, 0] = input[1, 1, 2, 1] = 9.0
    if data_format == "channels_first":
        input = np.moveaxis(input, -1, 1)
    _, indices = pooled(
        input, kernel_size=(2, 3), index_scheme=index_scheme, storage_order=storage_order, data_format=data_format
    )
    assert indices[1].reshape(-1).tolist() == expected


def test_column_major_turns_all_three_axes_around() -> None:
    """In 2 x 3 x 4 elements the one at (1, 2, 1) has the index 1 + 2 * 2 + 1 * 6."""
    input = np.zeros((1, 2, 3, 4, 1))
    input[0, 1, 2, 1, 0] = 1.0
    _, indices = pooled(input, kernel_size=(2, 3, 4), storage_order="column_major")
    assert indices.item() == 11
    _, indices = pooled(input, kernel_size=(2, 3, 4))
    assert indices.item() == 1 * 12 + 2 * 4 + 1


@pytest.mark.parametrize("index_scheme", ["plane", "image", "tensor"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_order_makes_no_difference_on_one_axis(data_format: str, index_scheme: str) -> None:
    input = normal(3, 5, 4)
    how = {"kernel_size": 2, "stride": 1, "data_format": data_format, "index_scheme": index_scheme}
    by_row, by_column = (pooled(input, **how, storage_order=order)[1] for order in ("row_major", "column_major"))
    np.testing.assert_array_equal(by_row, by_column)
    assert len(np.unique(by_row)) > 1


def test_the_defaults_are_plane_and_row_major() -> None:
    default: Any = MaxPool(kernel_size=2, return_indices=True)
    assert default == MaxPool(kernel_size=2, return_indices=True, index_scheme="plane", storage_order="row_major")
    assert default != MaxPool(kernel_size=2, return_indices=True, index_scheme="tensor")
    assert MaxPool(kernel_size=2) == MaxPool(kernel_size=2, return_indices=False)


# -------------------------------------------------------------------------------------------------------- which one


def test_the_first_of_several_maxima() -> None:
    assert indices_of_a_row([1, 3, 2, 3, 3], kernel_size=5) == [1]
    assert indices_of_a_row([0.0, -0.0, 0.0, -0.0], kernel_size=2) == [0, 2]


@pytest.mark.parametrize("ties", ["first", "all", "split"])
def test_the_rule_for_ties_does_not_move_an_index(ties: str) -> None:
    assert indices_of_a_row([1, 3, 3], kernel_size=3, ties=ties) == [1]
    assert indices_of_a_row([nan, 3, nan], kernel_size=3, ties=ties) == [2]


def test_first_means_row_major_also_where_indices_count_in_column_major_order() -> None:
    """Of (0, 1) and (1, 0), row-major order has (0, 1) first and column-major order (1, 0)."""
    input = np.array([[0.0, 5.0], [5.0, 0.0]]).reshape(1, 2, 2, 1)
    assert pooled(input, kernel_size=2, storage_order="row_major")[1].item() == 1
    assert pooled(input, kernel_size=2, storage_order="column_major")[1].item() == 2


def test_the_last_of_several_nans() -> None:
    assert indices_of_a_row([inf, nan, 7, nan, inf], kernel_size=5) == [3]
    assert indices_of_a_row([nan, 1, 2, nan], kernel_size=2, stride=1) == [0, 2, 3]
    input = np.array([[nan, 0.0, nan], [0.0, nan, 9.0], [9.0, 9.0, 9.0]]).reshape(1, 3, 3, 1)
    assert pooled(input, kernel_size=3)[1].item() == 4


def test_a_window_of_minus_infinity_has_its_first_valid_tap() -> None:
    """The padding is -inf too, but has no index."""
    assert indices_of_a_row([-inf, -inf], kernel_size=2, stride=1, padding=1) == [0, 0, 1]
    assert indices_of_a_row([-inf] * 3, kernel_size=3, stride=1, padding=2, dilation=1) == [0, 0, 0, 1, 2]


def test_indices_count_in_the_unpadded_input() -> None:
    assert indices_of_a_row([5, 1, 7], kernel_size=3, stride=2, padding=[[2, 1]]) == [0, 2]
    assert indices_of_a_row([5, 1, 7], kernel_size=2, stride=2, padding="same_lower") == [0, 2]


def test_windows_that_overlap_share_an_index() -> None:
    assert indices_of_a_row([1, 9, 1, 8, 1], kernel_size=3, stride=1) == [1, 1, 3]
    assert indices_of_a_row([9, 1, 1, 8, 1], kernel_size=2, stride=1, dilation=3) == [0, 1]


def test_the_last_window_of_ceil_mode() -> None:
    assert indices_of_a_row([1, 2, 3], kernel_size=2, ceil_mode=True) == [1, 2]


def test_adaptive_windows() -> None:
    """[0, 2), [1, 4) and [3, 5)."""
    assert indices_of_a_row([1, 2, 2, 0, 0], output_size=3) == [1, 1, 3]
    assert indices_of_a_row([1, 2], output_size=5) == [0, 0, 1, 1, 1]


# ----------------------------------------------------------------------------------------------- result and operands


def test_the_result_is_a_named_tuple() -> None:
    result: Any = MaxPool(kernel_size=2, return_indices=True).forward(np.ones((1, 4, 1)))
    assert type(result) is cnn_core.MaxPoolResult
    assert cnn_core.MaxPoolResult._fields == ("output", "indices")
    output, indices = result
    assert output is result.output
    assert indices is result.indices


def test_without_return_indices_the_result_is_the_output() -> None:
    output: Any = MaxPool(kernel_size=2, return_indices=False).forward(np.ones((1, 4, 1)))
    assert isinstance(output, np.ndarray)
    assert output.shape == (1, 2, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64"])
def test_indices_are_int64_whatever_the_input_is(dtype: str) -> None:
    """An index beyond 2048 does not fit into float16."""
    input = np.zeros((1, 5001, 1), dtype=dtype)
    input[0, 4999] = 1
    output, indices = pooled(input, kernel_size=5001)
    assert indices.dtype == np.int64
    assert indices.item() == 4999
    assert output.dtype == (dtype if dtype.startswith("float") else "float64")


@quick_settings
@given(cases, memory_layouts, schemes, orders)
def test_operands_in_any_memory_layout_are_left_as_they_were(
    case: PoolCase, change: Any, index_scheme: str, storage_order: str
) -> None:
    """An index counts in the order that data_format has, not in that in which an array happens to lie."""
    before = copy.deepcopy(case)
    input = change(case.input)
    how = {"index_scheme": index_scheme, "storage_order": storage_order}
    output, indices = pooled(input, **case.parameters, **how)
    plain_output, plain_indices = pooled(case.input, **case.parameters, **how)
    np.testing.assert_array_equal(output, plain_output, strict=True)
    np.testing.assert_array_equal(indices, plain_indices, strict=True)
    assert indices.dtype.isnative
    output.fill(nan)  # a result is its caller's own: it must be no view of an operand, and writable
    indices.fill(-1)
    np.testing.assert_array_equal(input, before.input)
    np.testing.assert_array_equal(case.input, before.input)


@pytest.mark.parametrize("index_scheme", ["plane", "image", "tensor"])
def test_an_empty_batch(index_scheme: str) -> None:
    output, indices = pooled(np.zeros((0, 5, 4, 2)), kernel_size=2, index_scheme=index_scheme)
    assert output.shape == indices.shape == (0, 2, 2, 2)
    assert indices.dtype == np.int64


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("return_indices", value) for value in (0, 1, "true", None, [True], 1.0)],
        *[("index_scheme", value) for value in ("Planes", "", "flat", 0, True, ["plane", "image"])],
        *[("storage_order", value) for value in ("C", "F", "", 0, 1, None, True, ["row_major", "C"])],
    ],
)
def test_values_that_are_refused(name: str, value: Any) -> None:
    parameters: dict[str, Any] = {"kernel_size": 2, name: value}
    with pytest.raises(ParameterError, match=name) as caught:
        MaxPool(**parameters)
    assert caught.value.subject == name


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("index_scheme", ["plane", "image", "tensor"]), ("storage_order", ["row_major", "column_major"])],
)
def test_a_refusal_lists_what_there_is(name: str, allowed: list[str]) -> None:
    parameters: dict[str, Any] = {"kernel_size": 2, name: "nonsense"}
    with pytest.raises(ParameterError) as caught:
        MaxPool(**parameters)
    for word in allowed:
        assert word in str(caught.value)
