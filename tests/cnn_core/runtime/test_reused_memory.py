"""Memory that one block leaves to the next: it is nobody else's, and nothing depends on what is left in it."""

from __future__ import annotations

import itertools
import math
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core.runtime.workspace import MAX_KEPT_BYTES, Workspace
from tests.cnn_core.layers_in_blocks import (
    BLOCK_BYTES,
    CATALOGUE,
    CONVOLUTIONS,
    POOLINGS,
    calls,
    fill_what_is_kept,
    same_bits,
)
from tests.cnn_core.small_blocks import small_blocks
from tests.strategies import quick_settings

Array = NDArray[Any]

shapes = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5)
dtypes = st.sampled_from(["uint8", "float16", "float32", "float64", "int64"])


def extents(arrays: list[Array]) -> list[tuple[int, int]]:
    """First byte and the one after the last, of those that have any."""
    return sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays if array.size)


def assert_apart(arrays: list[Array]) -> None:
    for (_, end), (start, _) in itertools.pairwise(extents(arrays)):
        assert end <= start


# ------------------------------------------------------------------------------------------------------- the workspace


@quick_settings
@given(st.lists(st.tuples(shapes, dtypes), min_size=1, max_size=3))
def test_arrays_are_aligned_apart_and_as_asked_for(requests: list[tuple[list[list[int]], str]]) -> None:
    with Workspace() as workspace:
        for wanted, dtype in requests:
            arrays = workspace.arrays(*wanted, dtype=dtype)
            assert [array.shape for array in arrays] == [tuple(shape) for shape in wanted]
            assert_apart(arrays)
            for number, array in enumerate(arrays):
                assert array.dtype == dtype
                assert array.ctypes.data % 64 == 0
                assert array.flags.c_contiguous
                assert array.flags.aligned
                array[...] = number
            for number, array in enumerate(arrays):
                assert (array == number).all()


def test_memory_is_used_again() -> None:
    with Workspace() as workspace:
        (first,) = workspace.arrays((1000,), dtype="float32")
        (second,) = workspace.arrays((500,), dtype="float64")
        assert second.ctypes.data == first.ctypes.data
    with Workspace() as workspace:
        (third,) = workspace.arrays((10, 10), dtype="float32")
        assert third.ctypes.data == first.ctypes.data


def test_a_workspace_within_another_has_other_memory() -> None:
    with Workspace() as workspace:  # what is kept is enough for all of them
        workspace.arrays((5000,), dtype="float64")
    with Workspace() as outer:
        mine = outer.arrays((100,), (200,), dtype="float64")
        for array in mine:
            array[...] = 1
        with Workspace() as inner, Workspace() as innermost:
            others = [*inner.arrays((300,), dtype="float64"), *innermost.arrays((10,), (30,), dtype="float64")]
            assert_apart([*mine, *others])
            for array in others:
                array[...] = 2
        with Workspace() as after:
            assert_apart([*mine, *after.arrays((300,), dtype="float64")])
        assert all((array == 1).all() for array in mine)


def test_threads_have_memory_of_their_own() -> None:
    arrays: list[Array] = []
    barrier = threading.Barrier(3)

    def take() -> None:
        for _ in range(2):
            with Workspace() as workspace:
                taken = workspace.arrays((1000,), dtype="float32")
                arrays.extend(taken)
                barrier.wait(60)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(arrays) == 6
    assert len(set(extents(arrays))) == 3
    assert_apart([array for number, array in enumerate(arrays) if extents([array])[0] not in extents(arrays[:number])])


def test_little_is_kept() -> None:
    """Of a call that needed much, nothing is."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with Workspace() as workspace:
            workspace.arrays((4 * MAX_KEPT_BYTES,), dtype="uint8")
            assert tracemalloc.get_traced_memory()[0] - before >= 4 * MAX_KEPT_BYTES
        assert tracemalloc.get_traced_memory()[0] - before <= MAX_KEPT_BYTES
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------------- the layers


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("name", CATALOGUE)
def test_results_stay_as_they_are(name: str) -> None:
    """Whatever is computed after them, and whatever is left in the memory of blocks."""
    for block_bytes in (BLOCK_BYTES, 2**20):
        with small_blocks(block_bytes):
            fill_what_is_kept()
            first = calls(name)()
            copies = [array.copy() for array in first]
            other = calls(name, seed=1)()
            fill_what_is_kept()
        assert same_bits(first, copies)
        assert not same_bits(first, other)
        assert_apart([*first, *other])
        with Workspace() as workspace:
            assert_apart([*first, *other, *workspace.arrays((MAX_KEPT_BYTES - 64,), dtype="uint8")])


@pytest.mark.one_in(4)
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_nothing_depends_on_what_memory_held(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory is full of ones, too, bit for bit."""
    empty = np.empty

    def full(shape: Any, *arguments: Any, **named: Any) -> Array:
        array = empty(shape, *arguments, **named)
        array.reshape(-1).view(np.uint8)[...] = 255
        return array

    for block_bytes in (BLOCK_BYTES, 2**20):
        with small_blocks(block_bytes, block_bytes):
            compute = calls(name, dtype)
            expected = compute()
            with monkeypatch.context() as patch:
                patch.setattr(np, "empty", full)
                fill_what_is_kept()
                found = compute()
            assert same_bits(found, expected)
            assert all(np.isfinite(array).all() for array in found)


@pytest.mark.parametrize("name", CATALOGUE)
def test_operands_and_results_share_no_memory(name: str) -> None:
    """A window of one element would let an output be a view of the input."""
    op: Any = CONVOLUTIONS[name][0] if name in CONVOLUTIONS else POOLINGS[name][0]
    wanted = CONVOLUTIONS[name][1:] if name in CONVOLUTIONS else POOLINGS[name][1:]
    operands = [np.ones(shape) for shape in wanted]
    output = op.forward(*operands)
    outputs = list(output) if isinstance(output, tuple) else [output]
    gradient = np.ones(outputs[0].shape)
    gradients = op.backward(gradient, *operands)
    results = [*outputs, *(gradients if isinstance(gradients, tuple) else [gradients])]
    assert len(extents(results)) == len(results)
    assert_apart([*operands, gradient, *results])
    assert all(array.flags.writeable and math.prod(array.shape) == array.size for array in results)
