"""What a call of a layer over arrays of Dask does before anything is computed: nothing but a graph, or an error."""

from __future__ import annotations

import doctest
import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from convpool import (
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
from tests.scale.arrays import integers_of
from tests.scale.sections import example


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def layers() -> list[Any]:
    """One layer of each kind that may be divided along spatial axes, with its input, weight and grad_output."""
    return [
        (Conv(stride=2, padding=1), integers_of(5, 12, 11, 2), [integers_of(3, 3, 2, 3)]),
        (Conv(padding="same", padding_mode="circular"), integers_of(5, 12, 11, 2), [integers_of(3, 3, 2, 3)]),
        (ConvTranspose(stride=2), integers_of(5, 6, 5, 3), [integers_of(3, 3, 2, 3), integers_of(2)]),
        (MaxPool(kernel_size=3, stride=2), integers_of(5, 12, 11, 2), []),
        (LpPool(kernel_size=2, padding=1), integers_of(5, 12, 11, 2), []),
    ]


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
