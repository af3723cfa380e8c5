"""Layers over chunked arrays give what one call over the whole array gives: that call is the oracle here.

The declarations of all ops draw the layers, with their parameters in every form; values are integers, whose sums are
exact in any order, or any floats where the order is the same.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convpool import (
    AvgPool,
    Conv,
    ConvTranspose,
    LpPool,
    MaxPool,
    MaxUnpool,
    ShapeError,
)
from convpool.arrays.dask import backward, forward
from convpool.arrays.parts import Layer
from tests.cnn_core.rows_alike import adds_rows_alike
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Case, Declaration
from tests.scale.arrays import integers_of

CHUNKED = {"input", "indices"}
MULTIPLE = 6**3
"""Gradients are multiples of this, so that an average's share of one is an integer: windows have 1 to 3 taps along an
axis."""

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
        gradient = integers(gradient, dtype, factor=MULTIPLE)
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


def is_exact(op: Any) -> bool:
    """Whether all sums are of integers: a gradient may be split among any number of taps."""
    return getattr(op, "ties", "first") != "split"


def require_equal(lazy: da.Array, expected: Any, *, exact: bool = True) -> None:
    """The same values and bits but for the sign of zeros and the payload of NaN; and what Dask was told is so."""
    assert lazy.shape == expected.shape
    assert lazy.dtype == expected.dtype == lazy._meta.dtype
    assert lazy._meta.ndim == expected.ndim
    computed = lazy.compute()
    assert computed.dtype == expected.dtype
    if exact or expected.dtype.kind == "i":
        np.testing.assert_array_equal(computed, expected)
    else:
        close = 100 * np.finfo(expected.dtype).eps
        largest = np.max(abs(expected), initial=0, where=np.isfinite(expected))
        np.testing.assert_allclose(computed, expected, rtol=close, atol=close * float(largest))
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
            require_equal(one, other, exact=is_exact(op))
        return
    require_equal(lazy, expected, exact=is_exact(op))


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
        require_equal(lazy, expected, exact=is_exact(op))
        return
    for one, other in zip(lazy, expected, strict=True):
        require_equal(one, other, exact=is_exact(op))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_that_are_sums_differ_by_rounding_only(dtype: str) -> None:
    """One call adds up other partial sums: the bound is that of any order of the additions."""
    random = np.random.default_rng(0)
    images, weight = random.standard_normal((6, 40, 40, 3)).astype(dtype), np.zeros((3, 3, 3, 4), dtype)
    gradient = random.standard_normal((6, 40, 40, 4)).astype(dtype)
    op = Conv(padding="same", algorithm="direct")
    whole = op.backward(gradient, images, weight, wrt=("weight", "bias"))
    chunks = (2, 13, 17, -1)
    lazy = backward(
        op, da.from_array(gradient, chunks=chunks), da.from_array(images, chunks=chunks), weight, wrt=("weight", "bias")
    )
    absolute = op.backward(
        abs(gradient).astype("float64"), abs(images).astype("float64"), weight, wrt=("weight", "bias")
    )
    added_in, rounded_to = np.finfo(np.promote_types(dtype, "float32")).eps, np.finfo(dtype).eps
    terms = gradient.size // 4
    for one, other, size in zip(lazy[1:], whole[1:], absolute[1:], strict=True):
        computed = one.compute().astype("float64")
        bound = terms * added_in * size + rounded_to * abs(other.astype("float64"))
        assert (abs(computed - other) <= bound).all()


def test_sums_do_not_depend_on_the_workers() -> None:
    random = np.random.default_rng(0)
    images = da.from_array(random.standard_normal((8, 20, 20, 3)), chunks=(1, 7, 7, 3))
    gradient = da.from_array(random.standard_normal((8, 20, 20, 2)), chunks=(1, 7, 7, 2))
    lazy = backward(Conv(padding="same"), gradient, images, np.ones((3, 3, 3, 2)), wrt=["weight"]).grad_weight
    expected = lazy.compute(scheduler="synchronous")
    for workers in (1, 2, 5):
        np.testing.assert_array_equal(lazy.compute(scheduler="threads", num_workers=workers), expected)


@pytest.mark.parametrize("count_include_pad", [False, True])
def test_windows_that_hang_over_the_end_or_start_in_the_padding(*, count_include_pad: bool) -> None:
    """What hangs over along one axis does not count, padding does; along the other, windows are beyond the input."""
    parameters = {"kernel_size": (3, 2), "stride": (2, 1), "ceil_mode": True, "count_include_pad": count_include_pad}
    image = integers_of(2, 6, 5, 1)
    for padding in [((0, 0), (0, 1)), *([((1, 0), (0, 3)), ((0, 1), (2, 4))] if count_include_pad else [])]:
        op = AvgPool(padding=padding, **parameters)
        lazy = forward(op, da.from_array(image, chunks=(1, (2, 2, 2), (2, 2, 1), 1)))
        require_equal(lazy, op.forward(image))
        expected = op.backward(36 * np.ones(lazy.shape), image)
        require_equal(
            backward(op, 36 * da.ones(lazy.shape, chunks=(2, 1, 2, 1)), da.from_array(image, chunks=(1, 4, 2, 1))),
            expected,
        )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("scheme", ["plane", "image", "tensor"])
@pytest.mark.parametrize("order", ["row_major", "column_major"])
def test_indices_are_those_of_the_whole(order: Any, scheme: Any, data_format: Any) -> None:
    op = MaxPool(
        kernel_size=2, padding=1, return_indices=True, storage_order=order, index_scheme=scheme, data_format=data_format
    )
    array = np.random.default_rng(0).permutation(4 * 6 * 5 * 7).reshape(4, 6, 5, 7).astype("float64")
    lazy = forward(op, da.from_array(array, chunks=(3, 2, (1, 1, 3), (4, 3))))
    for computed, expected in zip(lazy, op.forward(array), strict=True):
        require_equal(computed, expected)


@pytest.mark.parametrize(
    "op", [Conv(padding=2, padding_mode="reflect"), Conv(padding=2, padding_mode="replicate"), ConvTranspose()]
)
def test_gradients_in_float16_are_rounded_once(op: Any) -> None:
    """Summands have more digits than float16 holds, and so has what is folded."""
    random = np.random.default_rng(0)
    images, weight = (
        random.integers(0, 90, (3, 14, 13, 2)).astype("float16"),
        random.integers(0, 400, (3, 3, 2, 2)).astype("float16"),
    )
    gradient = random.integers(0, 3, op.output_shape(images.shape, weight.shape)).astype("float16")
    chunks = (2, 5, 4, 2)
    lazy = backward(op, da.from_array(gradient, chunks=chunks), da.from_array(images, chunks=chunks), weight)
    whole = op.backward(gradient, images, weight)
    assert 2048 < abs(whole.grad_input).max() < np.inf
    assert 2048 < abs(whole.grad_weight).max() < np.inf
    for computed, expected in zip(lazy, whole, strict=True):
        require_equal(computed, expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "op",
    [Conv(padding="same", algorithm="direct"), ConvTranspose(stride=2, algorithm="direct")],
    ids=["conv", "transposed"],
)
def test_random_values_differ_by_rounding_only(op: Any, dtype: str) -> None:
    """Sums of few products, by the bound of any order of the additions."""
    random = np.random.default_rng(0)
    images = random.standard_normal((4, 33, 31, 5)).astype(dtype)
    weight = random.standard_normal((3, 3, 5, 5)).astype(dtype)
    whole = op.forward(images, weight)
    gradient = random.standard_normal(whole.shape).astype(dtype)
    input = da.from_array(images, chunks=(3, 10, 12, -1))
    lazy = [
        forward(op, input, weight),
        backward(op, da.from_array(gradient, chunks=(3, 20, 9, -1)), input, weight).grad_input,
    ]
    absolute = [abs(array).astype("float64") for array in (images, weight, gradient)]
    sizes = [op.forward(*absolute[:2]), op.backward(absolute[2], *absolute[:2]).grad_input]
    added_in, rounded_to = np.finfo(np.promote_types(dtype, "float32")).eps, np.finfo(dtype).eps
    for one, other, size in zip(lazy, [whole, op.backward(gradient, images, weight).grad_input], sizes, strict=True):
        bound = 2 * 9 * 5 * added_in * size + rounded_to * abs(other.astype("float64"))
        assert (abs(one.compute().astype("float64") - other) <= bound).all()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_convolutions_have_the_bits_of_one_call_for_any_values(dtype: str, seed: int) -> None:
    if not adds_rows_alike(dtype.replace("16", "32")):
        pytest.skip("this machine's BLAS adds in an order that depends on the place of a row")
    random = np.random.default_rng(seed)
    rank, groups = int(random.integers(1, 3)), int(random.choice([1, 1, 2, 4]))
    channels, features = groups * int(random.integers(1, 9)), groups * int(random.choice([1, 4, 8, 40]))
    spatial, kernel = random.integers(8, 30, rank).tolist(), random.integers(1, 6, rank).tolist()
    parameters: dict[str, Any] = {"stride": random.integers(1, 4, rank), "dilation": random.integers(1, 3, rank)}
    parameters |= {"padding": random.integers(0, 3, rank), "groups": groups, "algorithm": "direct"}
    mode = str(random.choice(["zeros", "reflect", "replicate", "circular"]))
    images = random.standard_normal((7, *spatial, channels)).astype(dtype)
    for op, weight_axes in (
        (Conv(padding_mode=mode, **parameters), (channels // groups, features)),
        (ConvTranspose(**parameters), (features // groups, channels)),
    ):
        weight = random.standard_normal((*kernel, *weight_axes)).astype(dtype)
        try:
            whole: Any = op.forward(images, weight)
        except ShapeError:  # larger than the input
            continue
        gradient = random.standard_normal(whole.shape).astype(dtype)
        expected = op.backward(gradient, images, weight, wrt=["input"]).grad_input
        along = [tuple(int(part) for part in np.diff([0, *sorted({3, size // 2 - 1}), size])) for size in spatial]
        for chunks in (((1, 4, 2), *spatial, channels), ((3, 4), *along, channels)):
            input = da.from_array(images, chunks=chunks)
            require_equal(forward(op, input, weight), whole)
            lazy = backward(op, da.from_array(gradient, chunks=(3, *whole.shape[1:])), input, weight, wrt=["input"])
            require_equal(lazy.grad_input, expected)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("pool", [AvgPool, LpPool])
def test_averages_and_norms_have_the_bits_of_one_call_for_any_values(pool: Any, dtype: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    rank = int(random.integers(1, 4))
    kernel = random.integers(1, (13, 6, 4)[rank - 1], rank)
    parameters: dict[str, Any] = {"kernel_size": kernel, "stride": random.integers(1, 4, rank)}
    parameters |= {"padding": random.integers(0, kernel // 2 + 1), "ceil_mode": bool(random.integers(2))}
    parameters |= {"count_include_pad": bool(random.integers(2))} if pool is AvgPool else {"norm_type": 2}
    op = pool(**parameters, data_format=str(random.choice(["channels_last", "channels_first"])))
    spatial = (kernel + random.integers(0, (70, 20, 6)[rank - 1], rank)).tolist()
    shape = (5, *spatial, 3) if op.data_format == "channels_last" else (5, 3, *spatial)
    images = random.standard_normal(shape).astype(dtype)
    whole = op.forward(images)
    gradient = random.standard_normal(whole.shape).astype(dtype)
    input = da.from_array(images, chunks=tuple(random.integers(1, 1 + max(1, size // 2)) for size in shape))
    require_equal(forward(op, input), whole)
    lazy_gradient = da.from_array(gradient, chunks=tuple(max(1, size // 3) for size in whole.shape))
    require_equal(backward(op, lazy_gradient, input), op.backward(gradient, images))
