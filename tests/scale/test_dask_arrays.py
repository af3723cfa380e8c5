"""Layers over chunked arrays give what one call over the whole array gives: that call is the oracle here.

The declarations of all ops draw the layers, with their parameters in every form; values are integers, whose sums are
exact in any order.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convpool import MaxPool, MaxUnpool
from convpool.arrays.dask import backward, forward
from convpool.arrays.parts import Layer
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Case, Declaration

CHUNKED = {"input", "indices"}
MULTIPLE = 2**4 * 3**3 * 5 * 7
"""Gradients are multiples of this, so that a share of one is an integer for windows of most sizes."""

many = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def integers(array: Any, dtype: str, *, factor: int = 1) -> Any:
    """Whole numbers in place of floating ones, NaN and infinities as they are."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return array
    with np.errstate(all="ignore"):
        return (np.clip(np.round(array * 2), -8, 8) * factor).astype(dtype)


def with_integers(declaration: Declaration, case: Case, dtype: str) -> Case:
    typed = {operand.name for operand in declaration.op.operands if operand.dtypes}
    operands = {name: array if name in typed else integers(array, dtype) for name, array in case.operands.items()}
    gradient = case.grad_output
    if gradient is not None:
        gradient = integers(gradient, dtype, factor=1 if dtype == "float16" else MULTIPLE)
    if declaration.op is MaxUnpool:
        operands["indices"] = of_own_images(operands["indices"], case)
    parameters = (
        {"algorithm": "direct", **case.parameters}
        if declaration.layer in {"conv", "conv_transpose"}
        else case.parameters
    )
    return Case(parameters, operands, gradient)


def of_own_images(indices: Any, case: Case) -> Any:
    """Indices of index_scheme=tensor that name elements of their own images."""
    if case.parameters.get("index_scheme") != "tensor" or not len(indices):
        return indices
    assert case.grad_output is not None
    image = case.grad_output[0].size
    return indices % image + image * np.arange(len(indices)).reshape(-1, *(1,) * (indices.ndim - 1))


def chunkings(data: st.DataObject, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Chunks of any sizes along the axes that may have some."""

    def along(size: int) -> tuple[int, ...]:
        borders = sorted(data.draw(st.sets(st.integers(1, size - 1), max_size=4))) if size > 1 else []
        return tuple(int(part) for part in np.diff([0, *borders, size]))

    return tuple(along(size) if axis in axes else (size,) for axis, size in enumerate(shape))


def layer_of(op: Any, operands: dict[str, Any]) -> Layer:
    return Layer(
        op,
        {name: array.shape for name, array in operands.items()},
        {name: array.dtype for name, array in operands.items()},
    )


def chunked(data: st.DataObject, op: Any, operands: dict[str, Any]) -> dict[str, Any]:
    axes = layer_of(op, operands).divisible_axes
    return {
        name: da.from_array(array, chunks=chunkings(data, array.shape, axes)) if name in CHUNKED else array
        for name, array in operands.items()
    }


def require_equal(lazy: da.Array, expected: Any) -> None:
    """The same values and bits but for the sign of zeros and the payload of NaN; and what Dask was told is so."""
    assert lazy.shape == expected.shape
    assert lazy.dtype == expected.dtype == lazy._meta.dtype
    assert lazy._meta.ndim == expected.ndim
    computed = lazy.compute()
    assert computed.dtype == expected.dtype
    np.testing.assert_array_equal(computed, expected)
    assert [part.shape for part in dask.compute(*lazy.to_delayed().ravel())] == [
        tuple(lazy.chunks[axis][position] for axis, position in enumerate(index))
        for index in np.ndindex(lazy.numblocks)
    ]


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda declaration: declaration.name)
@given(data=st.data())
@many
def test_forward(declaration: Declaration, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["float32", "float64", "float16"]))
    case = with_integers(declaration, data.draw(declaration.cases), dtype)
    parameters = dict(case.parameters)
    if declaration.op is MaxPool and data.draw(st.booleans()):
        parameters |= {"return_indices": True, "index_scheme": data.draw(st.sampled_from(["plane", "image", "tensor"]))}
        parameters |= {"storage_order": data.draw(st.sampled_from(["row_major", "column_major"]))}
    op = declaration.create_op(**parameters)
    expected = op.forward(**case.operands)
    lazy = forward(op, **chunked(data, op, case.operands))
    if not isinstance(expected, np.ndarray):
        for one, other in zip(lazy, expected, strict=True):
            require_equal(one, other)
        return
    require_equal(lazy, expected)


@pytest.mark.parametrize(
    "declaration",
    [each for each in DECLARATIONS if each.backward is not None],
    ids=lambda declaration: declaration.name,
)
@given(data=st.data())
@many
def test_backward(declaration: Declaration, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["float32", "float64", "float16"]))
    case = with_integers(declaration, data.draw(declaration.cases), dtype)
    op = declaration.create_op(**case.parameters)
    expected = op.backward(case.grad_output, **case.operands)
    axes = layer_of(op, case.operands).divisible_axes
    gradient = da.from_array(case.grad_output, chunks=chunkings(data, case.grad_output.shape, axes))
    lazy = backward(op, gradient, **chunked(data, op, case.operands))
    if isinstance(expected, np.ndarray):
        require_equal(lazy, expected)
        return
    for one, other in zip(lazy, expected, strict=True):
        require_equal(one, other)
