"""Products some rows at a time are those of the whole matrices, whatever is left over and wherever the rows lie."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core.kernels import products
from cnn_core.kernels.products import multiplication, multiply, multiply_transposed, parts_of_rows
from cnn_core.runtime.blas import one_blas_thread
from tests.cnn_core.rows_alike import adds_rows_alike
from tests.comparisons import normal
from tests.strategies import quick_settings, thorough_settings
from tests.strategies_conv import backwards

Array = NDArray[Any]

dtypes = st.sampled_from(["float32", "float64"])
layouts = st.sampled_from([np.ascontiguousarray, np.asfortranarray, backwards])
small_sizes = st.tuples(st.integers(0, 40), st.integers(0, 6), st.integers(0, 6))
aheads = st.sampled_from([(), (1,), (3,), (2, 2), (0,)])
seeds = st.integers(0, 2**32 - 1)
limits = st.fixed_dictionaries(
    {"MAX_PRODUCTS": st.integers(1, 300), "MAX_SUMMED": st.integers(1, 12), "MIN_ROWS": st.sampled_from([1, 1, 4])}
)


@contextlib.contextmanager
def limited(values: dict[str, int]) -> Iterator[None]:
    """With limits this small, small matrices are divided too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(products, name, value)
        yield


def integers(seed: int, *shape: int) -> Array:
    """Small whole numbers, whose sums are exact in every type and in any order."""
    return np.random.default_rng(seed).integers(-9, 10, shape)


def full_of_nan(*shape: int, dtype: str) -> Array:
    return np.full(shape, np.nan, dtype=dtype)


@contextlib.contextmanager
def counted_rows() -> Iterator[list[int]]:
    """How many rows each product has that is asked of NumPy, over all products of a stack."""
    rows: list[int] = []
    matmul = np.matmul

    def counted(left: Array, right: Array, **named: Any) -> Array:
        rows.extend([left.shape[-2]] * math.prod(left.shape[:-2]))
        products: Array = matmul(left, right, **named)
        return products

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "matmul", counted)
        yield rows


# ----------------------------------------------------------------------------------------------------- left times right


@thorough_settings
@given(small_sizes, aheads, limits, dtypes, layouts, layouts, layouts, seeds)
def test_multiply(
    sizes: tuple[int, int, int],
    ahead: tuple[int, ...],
    values: dict[str, int],
    dtype: str,
    of_left: Any,
    of_right: Any,
    of_out: Any,
    seed: int,
) -> None:
    rows, inner, columns = sizes
    left, right = integers(seed, *ahead, rows, inner), integers(seed + 1, *ahead, inner, columns)
    out = of_out(full_of_nan(*ahead, rows, columns, dtype=dtype))
    with limited(values):
        multiply(of_left(left.astype(dtype)), of_right(right.astype(dtype)), out)
    np.testing.assert_array_equal(out, left @ right)  # of integers, which BLAS does not compute


@quick_settings
@given(small_sizes, aheads, limits, dtypes, layouts, seeds)
def test_a_multiplication_that_was_made_beforehand_sees_what_is_written_later(
    sizes: tuple[int, int, int], ahead: tuple[int, ...], values: dict[str, int], dtype: str, layout: Any, seed: int
) -> None:
    """It holds views of the left matrix and of the result, not copies, and takes one right matrix after the other."""
    rows, inner, columns = sizes
    left = layout(full_of_nan(*ahead, rows, inner, dtype=dtype))
    out = layout(full_of_nan(*ahead, rows, columns, dtype=dtype))
    with limited(values):
        write = multiplication(left, (*ahead, inner, columns), out)
    for number in range(3):
        new_left = integers(seed + number, *ahead, rows, inner)
        right = integers(seed + 10 + number, *ahead, inner, columns)
        left[...] = new_left
        out[...] = np.nan
        write(right.astype(dtype))
        np.testing.assert_array_equal(out, new_left @ right)


@quick_settings
@given(st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)), limits, st.integers(0, 39), seeds)
def test_an_infinity_stays_in_its_row(
    sizes: tuple[int, int, int], values: dict[str, int], place: int, seed: int
) -> None:
    rows, inner, columns = sizes
    left = np.random.default_rng(seed).uniform(1, 2, (rows, inner))
    left[place % rows, -1] = np.inf
    out = full_of_nan(rows, columns, dtype="float64")
    with limited(values), np.errstate(invalid="ignore"):  # BLAS multiplies with zeros of its own beside the matrices
        multiply(left, np.ones((inner, columns)), out)
    np.testing.assert_array_equal(np.isinf(out).all(axis=1), np.arange(rows) == place % rows)
    assert np.isfinite(np.delete(out, place % rows, axis=0)).all()


@pytest.mark.parametrize("rows", [99, 100, 106, 107, 1000, 1003, 25_000])
def test_long_products_are_computed_at_most_a_million_multiplications_at_a_time(rows: int) -> None:
    left, right = normal(rows, 147).astype(np.float32), normal(147, 64, seed=1).astype(np.float32)
    out = full_of_nan(rows, 64, dtype="float32")
    with counted_rows() as counted:
        multiply(left, right, out)
    assert rows <= sum(counted) < rows + 4  # each row once, but for a few at the end
    assert max(counted) * 147 * 64 <= 10**6
    np.testing.assert_allclose(out, left.astype(float) @ right.astype(float), rtol=0, atol=1e-4)


@quick_settings
@given(
    st.sampled_from([1, 3, 9, 27, 75, 150, 400, 600]),
    st.sampled_from([1, 2, 5, 16, 17, 64, 100, 306]),
    st.sampled_from([1, 2, 7, 24, 30, 54, 100, 1001, 2500]),
    st.integers(0, 2**16),
    st.sampled_from([each for each in ("float32", "float64") if adds_rows_alike(each)]),
)
def test_a_row_has_the_same_bits_with_any_other_rows(
    inner: int, columns: int, rows: int, first: int, dtype: str
) -> None:
    random = np.random.default_rng(0)
    left, right = (random.standard_normal(shape).astype(dtype) for shape in ((2600, inner), (inner, columns)))
    whole, part = np.empty((2600, columns), dtype), np.empty((rows, columns), dtype)
    first %= 2600 - rows
    with one_blas_thread:  # as in all computations; several divide the rows
        multiply(left, right, whole)
        multiply(left[first : first + rows], right, part)
    np.testing.assert_array_equal(part, whole[first : first + rows])


@pytest.mark.parametrize(("inner", "columns"), [(200, 60), (1, 20_000), (1152, 128)])
def test_products_with_a_large_matrix_are_computed_as_one(inner: int, columns: int) -> None:
    """Reading it again for every few rows would take longer."""
    with counted_rows() as counted:
        multiply(np.ones((1008, inner), np.float32), np.ones((inner, columns), np.float32), np.ones((1008, columns)))
    assert counted == [1008]


# ---------------------------------------------------------------------------------------- left, transposed, times right


@thorough_settings
@given(small_sizes, aheads, limits, dtypes, layouts, layouts, layouts, seeds)
def test_multiply_transposed(
    sizes: tuple[int, int, int],
    ahead: tuple[int, ...],
    values: dict[str, int],
    dtype: str,
    of_left: Any,
    of_right: Any,
    of_out: Any,
    seed: int,
) -> None:
    """Memory of exactly the size that is asked for is enough, and nothing is written beyond it."""
    rows, inner, columns = sizes
    left, right = integers(seed, *ahead, rows, inner), integers(seed + 1, *ahead, rows, columns)
    out = of_out(full_of_nan(*ahead, inner, columns, dtype=dtype))
    with limited(values):
        parts = parts_of_rows(rows, inner, columns)
        needed = parts * out.size if parts > 1 else 0
        memory = full_of_nan(needed + 50, dtype=dtype)
        multiply_transposed(of_left(left.astype(dtype)), of_right(right.astype(dtype)), out, memory[:needed])
    np.testing.assert_array_equal(out, left.swapaxes(-1, -2) @ right)
    assert np.isnan(memory[needed:]).all()
    if parts > 1:  # all of it is added up, so that nothing of it may be left as it was
        np.testing.assert_array_equal(memory[:needed].reshape(*ahead, parts, inner, columns).sum(axis=-3), out)


@quick_settings
@given(st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)), limits, st.integers(0, 39), seeds)
def test_what_memory_held_counts_for_nothing(
    sizes: tuple[int, int, int], values: dict[str, int], place: int, seed: int
) -> None:
    """Not even a NaN, whereas one in any row counts."""
    rows, inner, columns = sizes
    left, right = integers(seed, rows, inner).astype(float), integers(seed + 1, rows, columns).astype(float)
    memory, out = full_of_nan(rows * inner * columns, dtype="float64"), np.zeros((inner, columns))
    with limited(values), np.errstate(invalid="ignore"):
        multiply_transposed(left, right, out, memory)
        assert np.isfinite(out).all()
        left[place % rows, 0] = np.nan
        multiply_transposed(left, right, out, memory)
    np.testing.assert_array_equal(np.isnan(out).all(axis=1), np.arange(inner) == 0)
    assert np.isfinite(out[1:]).all()


@settings(thorough_settings, max_examples=100)
@given(st.integers(0, 2**21), st.integers(0, 4096), st.integers(0, 4096))
def test_parts_are_as_few_as_sums_that_are_short_allow(rows: int, inner: int, columns: int) -> None:
    parts = parts_of_rows(rows, inner, columns)
    products_of_row = max(1, inner * columns)
    if products_of_row > 10_000:  # a matrix that large is not read more often
        assert parts == 1
        return
    at_once = math.ceil(rows / parts)
    assert at_once <= 512
    assert at_once * products_of_row <= 10**6
    # one less may be enough, as rows are divided evenly
    fewest = max(1, math.ceil(rows / min(512, 10**6 // products_of_row)))
    assert fewest - 1 <= parts <= fewest


@pytest.mark.parametrize("columns", [1, 3, 64])
def test_a_sum_over_many_rows_keeps_its_digits(columns: int) -> None:
    """Equal numbers are what one sum in float32 loses most of: every addition is rounded the same way."""
    rows, tenth = 2**18 + 5, float(np.float32(0.1))
    left, right = np.full((rows, 3), 0.1, dtype=np.float32), np.ones((rows, columns), dtype=np.float32)
    out = full_of_nan(3, columns, dtype="float32")
    memory = np.empty(parts_of_rows(rows, 3, columns) * out.size, dtype=np.float32)
    multiply_transposed(left, right, out, memory)
    np.testing.assert_allclose(out, rows * tenth, rtol=2e-5)
