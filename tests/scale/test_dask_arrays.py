"""Layers over chunked arrays give what one call over the whole array gives: that call is the oracle here.

The declarations of all ops draw the layers, with their parameters in every form; values are integers, whose sums are
exact in any order.
"""

from __future__ import annotations

import doctest
import importlib
import pickle
import subprocess
import sys
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
    ConvInteger,
    ConvTranspose,
    DtypeError,
    LpPool,
    MaxPool,
    MaxUnpool,
    OperandError,
    ParameterError,
    ShapeError,
    Unfold,
)
from convpool.arrays.dask import backward, forward
from convpool.arrays.operands import ChunkError
from convpool.arrays.parts import Layer
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Case, Declaration
from tests.scale.sections import example

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


def layers() -> list[Any]:
    """One layer of each kind that may be divided along spatial axes, with its input, weight and grad_output."""
    return [
        (Conv(stride=2, padding=1), integers_of(5, 12, 11, 2), [integers_of(3, 3, 2, 3)]),
        (Conv(padding="same", padding_mode="circular"), integers_of(5, 12, 11, 2), [integers_of(3, 3, 2, 3)]),
        (ConvTranspose(stride=2), integers_of(5, 6, 5, 3), [integers_of(3, 3, 2, 3), integers_of(2)]),
        (MaxPool(kernel_size=3, stride=2), integers_of(5, 12, 11, 2), []),
        (LpPool(kernel_size=2, padding=1), integers_of(5, 12, 11, 2), []),
    ]


def integers_of(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype("float32")


def wanted(op: Any, gradient: Any, input: Any, operands: list[Any]) -> list[Any]:
    """All results of both directions."""
    gradients = backward(op, gradient, input, *operands)
    return [forward(op, input, *operands), *([gradients] if isinstance(gradients, da.Array) else gradients)]


@pytest.mark.parametrize(("op", "array", "operands"), layers(), ids=lambda value: type(value).__name__)
def test_nothing_is_computed_before_it_is_asked_for_and_every_chunk_once_then(
    op: Any, array: Any, operands: list[Any]
) -> None:
    calls = []

    def noted(chunk: Any) -> Any:
        calls.append(chunk.shape)
        return chunk

    input = da.from_array(array, chunks=(2, 4, 4, -1)).map_blocks(noted, meta=np.empty((0,) * 4, "float32"))
    gradient = np.ones(op.output_shape(array.shape, *(operand.shape for operand in operands)), "float32")
    results = wanted(op, da.from_array(gradient, chunks=(3, 5, 3, -1)), input, operands)
    assert not calls
    dask.compute(*results)
    assert sorted(calls) == sorted(tuple(shape) for shape in shapes_of_chunks(input))


def shapes_of_chunks(array: da.Array) -> list[list[int]]:
    return [
        [array.chunks[axis][position] for axis, position in enumerate(index)] for index in np.ndindex(array.numblocks)
    ]


@pytest.mark.parametrize(("op", "array", "operands"), layers(), ids=lambda value: type(value).__name__)
def test_graphs_grow_with_the_chunks_and_hold_a_weight_once(op: Any, array: Any, operands: list[Any]) -> None:
    """Tasks that are sent to other machines are small."""
    gradient = np.ones(op.output_shape((96, *array.shape[1:]), *(each.shape for each in operands)), "float32")

    def graph(images: int) -> dict[Any, Any]:
        input = da.zeros((images, *array.shape[1:]), chunks=(1, 4, 4, -1), dtype="float32")
        lazy = wanted(op, da.from_array(gradient[:images], chunks=(1, 4, 4, -1)), input, operands)
        return {key: task for each in lazy for key, task in each.__dask_graph__().items()}

    few, many_more = graph(24), graph(96)
    assert len(many_more) <= 4.2 * len(few)
    arrays = [task for task in many_more.values() if isinstance(task, np.ndarray)]
    tasks = [task for task in many_more.values() if not isinstance(task, np.ndarray)]
    assert max(len(pickle.dumps(task)) for task in tasks) < 8_000
    for operand in operands:
        assert sum(np.array_equal(held, operand) for held in arrays) == 1


def test_the_same_call_has_the_same_name_and_another_one_another() -> None:
    input, weight = da.zeros((4, 8, 8, 2), chunks=(1, 4, 4, 2)), np.ones((3, 3, 2, 2))
    name = forward(Conv(), input, weight).name
    assert forward(Conv(), input, weight.copy()).name == name
    assert forward(Conv(stride=2), input, weight).name != name
    assert forward(Conv(), input, 2 * weight).name != name
    assert forward(Conv(), input.rechunk((2, 4, 4, 2)), weight).name != name
    assert forward(Conv(), input, weight, np.ones(2)).name != name


@pytest.mark.parametrize(
    ("op", "shape", "chunks", "message"),
    [
        (
            Conv(),
            (4, 8, 8, 2),
            (2, 4, 4, 1),
            r"along axis 3 \(C\), as each output .*; got 2 chunks; rechunk it: input = input.rechunk\({3: -1}\)",
        ),
        (
            MaxPool(output_size=3),
            (4, 8, 8, 2),
            (2, 4, 8, 2),
            r"along axis 1 \(spatial axis 0\), as the windows of output_size .*; got 2 chunks; .*rechunk\({1: -1}\)",
        ),
        (
            Unfold(kernel_size=2),
            (4, 8, 8, 2),
            (2, 8, 4, 2),
            r"along axis 2 \(spatial axis 1\), as Unfold has one matrix",
        ),
        (Conv(framework="torch"), (4, 2, 8, 8), (2, 1, 8, 8), r"along axis 1 \(C\).*rechunk\({1: -1}\)"),
    ],
)
def test_chunks_that_cannot_be_are_refused_with_what_mends_them(
    op: Any, shape: tuple[int, ...], chunks: tuple[int, ...], message: str
) -> None:
    operands = [np.ones((2, 2, 2, 2))] if isinstance(op, Conv) else []
    with pytest.raises(ChunkError, match=message):
        forward(op, da.zeros(shape, chunks=chunks), *operands)


def test_other_mistakes_are_found_when_the_call_is_made() -> None:
    input, weight = da.zeros((4, 8, 8, 2), chunks=(2, 4, 4, 2)), np.ones((3, 3, 2, 2))
    with pytest.raises(ShapeError, match="weight must have 2 channels"):
        forward(Conv(), input, np.ones((3, 3, 3, 2)))
    with pytest.raises(ShapeError, match=r"grad_output must have shape \(4, 6, 6, 2\)"):
        backward(Conv(), input, input, weight)
    with pytest.raises(ChunkError, match=r"grad_output must be a single chunk along axis 3 \(C_out\)"):
        backward(Conv(padding=1), input.rechunk((2, 8, 8, 1)), input, weight)
    with pytest.raises(DtypeError, match="input must have dtype"):
        forward(Conv(), input.astype("complex64"), weight)
    with pytest.raises(DtypeError, match="grad_output must have dtype"):
        backward(Conv(padding=1), input.astype("complex64"), input, weight)
    with pytest.raises(ChunkError, match=r"input must have chunks of known sizes.*compute_chunk_sizes\(\)"):
        forward(Conv(), input[input[:, 0, 0, 0] > 0], weight)
    with pytest.raises(TypeError, match="scale is no operand of Conv: its operands are input, weight, bias"):
        forward(Conv(), input, weight, scale=1)
    with pytest.raises(TypeError, match="ConvInteger has no gradients"):
        backward(ConvInteger(), input, input, weight)
    with pytest.raises(ParameterError, match="wrt must be"):
        backward(Conv(padding=1), input, input, weight, wrt=["output"])


def test_an_index_of_another_chunk_s_image_is_refused() -> None:
    values = da.ones((2, 2, 1), chunks=(1, 2, 1))
    op = MaxUnpool(kernel_size=2, index_scheme="tensor")
    with pytest.raises(OperandError, match=r"must be of an image of its own chunk.*rechunk\({0: -1}\)"):
        forward(op, values, np.array([0, 2, 1, 5]).reshape(2, 2, 1)).compute()


def test_chunks_follow_those_of_the_input() -> None:
    input, weight = (
        da.zeros((6, 64, 64, 3), chunks=(2, (16, 48), 32, 3), dtype="float32"),
        np.ones((3, 3, 3, 8), "float32"),
    )
    assert forward(Conv(padding="same"), input, weight).chunks == ((2, 2, 2), (16, 48), (32, 32), (8,))
    assert forward(Conv(), input, weight).chunks[1] == (15, 47)
    assert forward(MaxPool(kernel_size=2), input).chunks == ((2, 2, 2), (8, 24), (16, 16), (3,))
    assert forward(ConvTranspose(stride=2, padding=1, output_padding=1), input, np.ones((3, 3, 8, 3))).chunks[1] == (
        32,
        96,
    )
    assert forward(MaxPool(kernel_size=32), input).chunks[1] == (1, 1)
    assert backward(MaxPool(kernel_size=32), np.ones((6, 2, 2, 3)), input).chunks == input.chunks
    assert backward(Conv(padding="same"), input[..., :1], input, weight[..., :1]).grad_weight.npartitions == 1


def test_results_of_layers_are_operands_of_others() -> None:
    """A small network, and its gradients, without anything in memory between the layers."""
    images, (first, second) = integers_of(5, 16, 15, 2), (integers_of(3, 3, 2, 4), integers_of(3, 3, 4, 2))
    conv, pool = Conv(padding="same"), MaxPool(kernel_size=2)
    chunked_images = da.from_array(images, chunks=(2, 5, 7, 2))
    hidden, expected = forward(conv, chunked_images, first), conv.forward(images, first)
    pooled, expected_pooled = forward(pool, hidden), pool.forward(expected)
    output, expected_output = forward(conv, pooled, second), conv.forward(expected_pooled, second)
    np.testing.assert_array_equal(output.compute(), expected_output)
    of_pooled, expected_of_pooled = (
        backward(conv, output, pooled, second),
        conv.backward(expected_output, expected_pooled, second),
    )
    of_hidden = backward(pool, of_pooled.grad_input, hidden)
    of_first = backward(conv, of_hidden, chunked_images, first)
    expected_of_hidden = pool.backward(expected_of_pooled.grad_input, expected)
    expected_of_first = conv.backward(expected_of_hidden, images, first)
    np.testing.assert_array_equal(of_pooled.grad_weight.compute(), expected_of_pooled.grad_weight)
    np.testing.assert_array_equal(of_first.grad_weight.compute(), expected_of_first.grad_weight)
    np.testing.assert_array_equal(of_first.grad_input.compute(), expected_of_first.grad_input)


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


def test_without_dask_the_error_says_what_to_install() -> None:
    script = "import sys; sys.modules['dask'] = None; import convpool.arrays.dask"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'convpool[dask]'" in ended.stderr.splitlines()[-1]


def test_the_example_in_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = example("Dask")
    exec(code, {})
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("name", ["dask", "parts", "spans"])
def test_the_examples_in_docstrings(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"convpool.arrays.{name}"))
    assert tried.attempted
    assert not tried.failed


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
