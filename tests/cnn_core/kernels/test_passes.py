"""Passes over arrays in parts: they cover everything once, and change no bit of any result."""

from __future__ import annotations

import collections
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import AvgPool, Cancelled, Conv, MaxPool, MaxUnpool, get_threads, set_threads
from cnn_core.kernels import passes
from tests.cnn_core.layers_in_blocks import CATALOGUE, calls, same_bits
from tests.cnn_core.stopping import StopsAt, small_passes
from tests.strategies import quick_settings

shapes = st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple)
dtypes = st.sampled_from(["float16", "float32", "float64", "int64", "int8"])


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Numbers in any order of the axes in memory, with gaps, or repeated."""
    shape = draw(shapes)
    array: Any = np.arange(np.prod([2 * size for size in shape])) % 100
    array = array.reshape([2 * size for size in shape])[tuple(slice(None, None, 2) for _ in shape)]
    array = array.astype(draw(dtypes)).transpose(draw(st.permutations(range(len(shape)))))
    return np.broadcast_to(array[:1], array.shape) if draw(st.booleans()) and array.size else array


@quick_settings
@given(arrays(), dtypes, st.integers(1, 200))
def test_copies_are_those_of_a_single_call(array: Any, dtype: str, part_bytes: int) -> None:
    with small_passes(part_bytes):
        target = np.full(array.shape, 77, dtype)
        passes.copy(target, array)
        converted, contiguous = passes.converted(array, dtype), passes.contiguous(array)
    for copied in (target, converted):
        np.testing.assert_array_equal(copied, array.astype(dtype), strict=True)
    assert converted.strides == array.astype(dtype, copy=False).strides
    np.testing.assert_array_equal(contiguous, array, strict=True)
    assert contiguous.flags.c_contiguous
    assert (contiguous is array) == (array.flags.c_contiguous)


@quick_settings
@given(arrays(), st.integers(1, 200))
def test_elementwise_broadcasts_and_may_work_in_place(array: Any, part_bytes: int) -> None:
    array = array.astype("float64")
    along = np.arange(array.shape[-1], dtype=np.int8)
    out = np.empty_like(array)
    with small_passes(part_bytes):
        passes.elementwise(np.subtract, out, array, along)
        in_place = array.copy()
        passes.elementwise(np.add, in_place, in_place, np.array(2.0))
    np.testing.assert_array_equal(out, array - along)
    np.testing.assert_array_equal(in_place, array + 2)


@quick_settings
@given(shapes, st.integers(1, 16), st.integers(1, 200))
def test_parts_cover_an_array_once_and_each_is_checked(shape: Any, itemsize: int, part_bytes: int) -> None:
    counts, counting = np.zeros(shape, int), StopsAt()
    with small_passes(part_bytes), counting:
        for number, part in enumerate(passes.parts(shape, itemsize), start=1):
            counts[part] += 1
            assert counting.checks == number
            assert counts[part].size in (0, 1) or counts[part].size * itemsize <= part_bytes
    assert (counts == 1).all()


def test_a_loop_stops_before_the_next_item() -> None:
    seen: list[int] = []
    with pytest.raises(Cancelled), StopsAt(4):
        collections.deque(map(seen.append, passes.checked(itertools.count())), maxlen=0)
    assert seen == [0, 1, 2]


# ---------------------------------------------------------------------------------------------------------- the layers


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", CATALOGUE)
def test_parts_change_no_bit_of_a_layer(name: str, count: int) -> None:
    before = get_threads()
    for dtype in ("float16", "float32"):
        compute = calls(name, dtype, odd=dtype == "float16")
        expected = compute()
        try:
            set_threads(count)
            with small_passes(2**12):
                assert same_bits(compute(), expected)
        finally:
            set_threads(before)


OTHERS: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "groups, channels first": (Conv(groups=40, data_format="channels_first"), [(1, 80, 4, 5), (120, 2, 2, 2)]),
    "groups": (Conv(groups=40, padding=1), [(2, 4, 5, 80), (2, 3, 2, 120)]),
    "one position": (Conv(), [(1, 40, 30, 2), (40, 30, 2, 5)]),
    "reflected": (Conv(padding=((5, 3), (0, 9)), padding_mode="reflect"), [(2, 9, 10, 3), (3, 2, 3, 4)]),
    "circular": (Conv(padding=((5, 9), (1, 0)), padding_mode="circular"), [(2, 9, 10, 3), (3, 2, 3, 4)]),
    "replicated": (Conv(padding=((50, 3), (0, 90)), padding_mode="replicate"), [(2, 9, 10, 3), (3, 2, 3, 4)]),
    "adaptive maximum": (MaxPool(output_size=(29, 31), ties="split"), [(2, 30, 10, 3)]),
    "adaptive average": (AvgPool(output_size=(29, 31)), [(2, 30, 10, 3)]),
    "average with padding": (AvgPool(kernel_size=3, stride=1, padding=1), [(2, 30, 40, 3)]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_parts_change_no_bit_of_odd_layers(name: str) -> None:
    op, operand_shapes = OTHERS[name]
    random = np.random.default_rng(0)
    for dtype in ("float16", "float32", "int8"):
        operands = [(4 * random.standard_normal(shape)).astype(dtype) for shape in operand_shapes]
        gradient = random.standard_normal(op.output_shape(*operand_shapes))

        def compute(operands: Any = operands, gradient: Any = gradient) -> list[Any]:
            gradients = op.backward(gradient, *operands)
            return [op.forward(*operands), *(gradients if isinstance(gradients, tuple) else (gradients,))]

        expected = compute()
        for part_bytes in (256, 1000):
            with small_passes(part_bytes):
                assert same_bits(compute(), expected)


@pytest.mark.parametrize("scheme", ["plane", "image", "tensor"])
@pytest.mark.parametrize("order", ["row_major", "column_major"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_parts_change_no_index(layout: Any, order: Any, scheme: Any) -> None:
    shape = (2, 3, 12, 14) if layout == "channels_first" else (2, 12, 14, 3)
    image = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(float)
    given: Any = {"data_format": layout, "index_scheme": scheme, "storage_order": order, "kernel_size": 2}
    pool, unpool = MaxPool(**given, return_indices=True), MaxUnpool(**given)

    def compute() -> list[Any]:
        output, indices = pool.forward(image)
        results = [output, indices]
        for typed in (indices, indices.astype("float32")):
            results += [unpool.forward(output, typed), unpool.backward(image, output, typed)]
        return results

    expected = compute()
    with small_passes(40):
        assert same_bits(compute(), expected)


def test_the_last_of_several_values_stays_where_parts_divide_them() -> None:
    values = np.arange(1.0, 101).reshape(1, 100, 1)
    op = MaxUnpool(output_size=100)
    with small_passes(24):
        assert op.forward(values, np.zeros((1, 100, 1), int)).ravel()[0] == 100
        gradient = op.backward(np.ones((1, 100, 1)), values, np.zeros((1, 100, 1), int))
    assert gradient.ravel().tolist() == [0.0] * 99 + [1.0]
