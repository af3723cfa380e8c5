"""Products of a long matrix with a small one, some rows at a time.

BLAS adds the products of a row in an order that depends on how many rows there are. An output must not depend on what
else is computed with it, so ``multiply`` takes only such numbers of rows that all are added in the same order.

BLAS copies both matrices of a large product into an order of its own. For few columns that takes as long as the
products, and OpenBLAS leaves it out where a product has at most a million of them: (25,000 x 147) @ (147 x 64) runs at
115 GFLOP/s as one product, and at 150 as products of 100 rows each, which NumPy calls BLAS for one after the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .passes import checked

__all__ = ["least_rows", "multiplication", "multiply", "multiply_transposed", "padded_elements", "parts_of_rows"]

Array = NDArray[Any]

MAX_PRODUCTS = 10**6
"""OpenBLAS does not pack the matrices of a product of at most this many multiplications."""

MAX_SUMMED = 512
"""At most this many rows are added up by one product: longer float32 sums would lose digits, as small products in BLAS
add one after the other."""

MIN_ROWS = 100
"""With fewer rows at a time, reading the small matrix again takes longer than packing it."""

ROWS_OF_VECTORS, ROWS_OF_NARROW, ROWS_OF_WIDE = 48, 24, 4
"""The kernels of OpenBLAS compute so many rows, or a divisor of it, at a time, and what is left over by other
instructions, which add in another order. So each product has a multiple of it, if need be with rows that others have,
too: times a vector; with fewer columns than MIN_WIDE, or a number of them that is no multiple of WHOLE; or others."""

MIN_WIDE, WHOLE = 16, 8

MAX_ROWS = 2**62
"""No limit."""

MAX_MATRICES = 2**15
"""At most this many matrices are multiplied by one call, so that a computation can stop between calls."""


def multiply(left: Array, right: Array, out: Array) -> None:
    """Write ``left @ right``, each row with the bits that it has in a product with any other rows.

    Parameters
    ----------
    left : ndarray, shape (..., P, K)
        Of contiguous rows, as are the others: BLAS adds in another order where it must transpose.
    right : ndarray, shape (..., K, N)
    out : ndarray, shape (..., P, N)
    """
    rows, inner = left.shape[-2:]
    if left.ndim > 2 and len(left) > MAX_MATRICES:
        for some in checked(_some(len(left))):
            multiply(left[some], right[some], out[some])
        return
    multiple, least, most = _rows_of_products(inner, right.shape[-1])
    if rows >= least and not rows % multiple and rows <= most:
        np.matmul(left, right, out=out)
    elif rows < least or (least > multiple and rows < 2 * least):
        _multiply_padded(left, right, out, max(least, _rounded_up(rows, multiple)))
    else:
        if rows <= most:
            whole = rows - rows % multiple
            np.matmul(left[..., :whole, :], right, out=out[..., :whole, :])
        else:
            at_once = _rounded_up(-(-rows // -(-rows // most)), multiple)
            np.matmul(_by_part(left, at_once), right[..., None, :, :], out=_by_part(out, at_once))
            least = _rounded_up(rows % at_once, multiple)
        if least:
            # the last rows together with some that were multiplied before, and get the same bits again
            first = rows - least
            np.matmul(left[..., first:, :], right, out=out[..., first:, :])


def _multiply_padded(left: Array, right: Array, out: Array, count: int) -> None:
    """Multiply few rows as if there were more, of zeros."""
    *ahead, rows, inner = left.shape
    padded = np.empty((*ahead, count, inner), dtype=left.dtype)
    padded[..., :rows, :] = left
    padded[..., rows:, :] = 0
    out[...] = np.matmul(padded, right)[..., :rows, :]


def padded_elements(inner: int, columns: int) -> int:
    """Return the elements that ``multiply`` allocates at most, for each matrix of a stack."""
    multiple, least, _ = _rows_of_products(inner, columns)
    return (2 * least if least > multiple else least) * (inner + columns)


def least_rows(inner: int, columns: int) -> int:
    """Return the rows that ``multiply`` computes at least: with fewer it takes as long."""
    return _rows_of_products(inner, columns)[1]


def _rounded_up(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple


def _rows_of_products(inner: int, columns: int) -> tuple[int, int, int]:
    """Return of what the rows of a product are a multiple, at least and at most, so that all are added in one order."""
    most = MAX_PRODUCTS // max(1, inner * columns)
    if columns == 1:  # NumPy multiplies by a vector
        return ROWS_OF_VECTORS, ROWS_OF_VECTORS, MAX_ROWS
    multiple = ROWS_OF_NARROW if columns < MIN_WIDE or columns % WHOLE else ROWS_OF_WIDE
    if most < MIN_ROWS:
        return multiple, _rounded_up(most + 1, multiple), MAX_ROWS
    return multiple, multiple, max(multiple, most - most % multiple)


def multiplication(left: Array, shape: tuple[int, ...], out: Array) -> Callable[[Array], object]:
    """Return a function that writes ``left @ right`` for a right matrix; all views are created in advance.

    The bits of a row may differ with the number of rows.

    Parameters
    ----------
    left : ndarray, shape (..., P, K)
    shape : tuple of int
        (..., K, N), of the matrix on the right.
    out : ndarray, shape (..., P, N)
    """
    rows, inner = left.shape[-2:]
    at_once = _rows_at_once(rows, inner, shape[-1])
    if at_once == rows:
        return functools.partial(np.matmul, left, out=out)
    whole = rows // at_once * at_once
    by_part, out_by_part = _by_part(left, at_once), _by_part(out, at_once)
    rest, out_of_rest = left[..., whole:, :], out[..., whole:, :]

    def write(right: Array) -> None:
        np.matmul(by_part, right[..., None, :, :], out=out_by_part)
        if whole < rows:
            np.matmul(rest, right, out=out_of_rest)

    return write


def multiply_transposed(left: Array, right: Array, out: Array, memory: Array) -> None:
    """Write ``left.T @ right``, the sum over all rows.

    Parameters
    ----------
    left, right : ndarray, shapes (..., P, K) and (..., P, N)
    out : ndarray, shape (..., K, N)
    memory : ndarray
        One axis, with ``parts_of_rows`` times as many elements as the result.
    """
    if left.ndim > 2 and len(left) > MAX_MATRICES:
        for some in checked(_some(len(left))):
            multiply_transposed(left[some], right[some], out[some], memory)
        return
    rows, inner = left.shape[-2:]
    at_once = _rows_at_once(rows, inner, right.shape[-1], MAX_SUMMED)
    if at_once == rows:
        np.matmul(left.swapaxes(-1, -2), right, out=out)
        return
    whole = rows // at_once * at_once
    shape = (*out.shape[:-2], parts_of_rows(rows, *out.shape[-2:]), *out.shape[-2:])
    products = memory[: math.prod(shape)].reshape(shape)
    by_part = _by_part(left, at_once).swapaxes(-1, -2)
    np.matmul(by_part, _by_part(right, at_once), out=products[..., : whole // at_once, :, :])
    if whole < rows:
        np.matmul(left[..., whole:, :].swapaxes(-1, -2), right[..., whole:, :], out=products[..., -1, :, :])
    np.add.reduce(products, axis=-3, out=out)


def parts_of_rows(rows: int, inner: int, columns: int) -> int:
    """Return in how many parts (rows x inner).T @ (rows x columns) is computed."""
    return -(-rows // _rows_at_once(rows, inner, columns, MAX_SUMMED)) if rows else 1


def _by_part(array: Array, rows: int) -> Array:
    """View (..., P, K) as (..., parts, rows, K), without what is left over."""
    *ahead, count, columns = array.shape
    parts = count // rows
    return array[..., : parts * rows, :].reshape(*ahead, parts, rows, columns, copy=False)


def _some(count: int) -> Iterator[slice]:
    """Yield slices of so many matrices."""
    return (slice(start, start + MAX_MATRICES) for start in range(0, count, MAX_MATRICES))


def _rows_at_once(rows: int, inner: int, columns: int, limit: int = MAX_PRODUCTS) -> int:
    """Return how many rows are multiplied at a time; all of them if the product is small, or the matrix large."""
    most = MAX_PRODUCTS // max(1, inner * columns)
    if most < MIN_ROWS or rows <= min(most, limit):
        return rows
    return -(-rows // -(-rows // min(most, limit)))
