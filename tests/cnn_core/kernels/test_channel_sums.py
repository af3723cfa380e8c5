"""The gradient of a bias: sums over all positions, in parts and some rows at a time, lose no digits that count."""

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

from cnn_core import Conv, ConvTranspose
from cnn_core.kernels import channel_sums as module
from cnn_core.kernels.channel_sums import channel_sums
from tests.cnn_core.small_blocks import small_blocks
from tests.strategies import quick_settings, thorough_settings
from tests.strategies_conv import backwards, read_only, repeated

Array = NDArray[Any]

EPSILON = {"float16": 2.0**-23, "float32": 2.0**-23, "float64": 2.0**-52}
"""Of the type that is added in."""

MAX_SUMMED = 16

rows = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 255, 256, 257, 1000, 1023]))
channel_counts = st.one_of(st.integers(1, 9), st.sampled_from([31, 32, 33, 63, 64, 65, 100]))
floating = st.sampled_from(["float16", "float32", "float64"])
seeds = st.integers(0, 2**32 - 1)
limits = st.tuples(st.sampled_from([1, 100, 3_000, 2**20]), st.sampled_from([0, 0, 2**12]))


def channels_first(array: Array) -> Array:
    """The same values as they lie in a layer of channels_first."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 1)), 1, -1)


def every_other_row(array: Array) -> Array:
    """The same values, each image in one piece but not all of them."""
    larger = np.zeros((2 * array.shape[0], *array.shape[1:]), dtype=array.dtype)
    larger[::2] = array
    return larger[::2]


def cropped(array: Array) -> Array:
    """The same values as the middle of a larger array: its rows are in one piece, but lie apart."""
    larger = np.zeros((array.shape[0], *(2 + size for size in array.shape[1:-1]), array.shape[-1]), dtype=array.dtype)
    view: Array = larger[(slice(None), *[slice(1, -1)] * (array.ndim - 2))]
    view[...] = array
    return view


layouts = st.sampled_from(
    [np.ascontiguousarray, np.asfortranarray, backwards, read_only, channels_first, every_other_row, cropped, repeated]
)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """(N, *spatial, C) of one to three spatial axes, often of as many rows as are added at a time, or nearly so."""
    channels, sizes = draw(channel_counts), [draw(rows)]
    for _ in range(draw(st.integers(0, 2))):
        sizes.append(draw(st.integers(1, 4 if sizes[0] > 40 else 7)))
    batch = draw(st.integers(0, 3))
    return (batch, *(draw(st.permutations(sizes))), channels)


@contextlib.contextmanager
def in_parts(limits: tuple[int, int]) -> Iterator[list[int]]:
    """What is more than a few elements is divided into parts of so few bytes; there may be no such few."""
    block_bytes, few = limits
    with pytest.MonkeyPatch.context() as patch, small_blocks(block_bytes) as counts:
        patch.setattr(module, "MAX_UNDIVIDED_ELEMENTS", few)
        yield counts


def exact_sums(array: Array) -> Array:
    """Of each channel the sum as if it was rounded once: without NumPy, and in no order."""
    columns = array.astype(np.float64).reshape(-1, array.shape[-1]).T
    return np.array([math.fsum(column) for column in columns.tolist()])


def assert_near(sums: Array, array: Array) -> None:
    """Within what sums of some rows at a time may lose."""
    assert sums.dtype == np.float64
    assert sums.shape == array.shape[-1:]
    magnitudes = exact_sums(np.abs(array.astype(np.float64)))
    bound = MAX_SUMMED * EPSILON[array.dtype.name] * magnitudes
    if array.dtype == np.float64:  # all sums after them are in float64 as well
        bound = 64 * EPSILON["float64"] * magnitudes
    assert (np.abs(sums - exact_sums(array)) <= bound).all()


# ------------------------------------------------------------------------------------------------- any array of numbers


@quick_settings
@given(shapes(), st.sampled_from(["float16", "float32", "float64", "int8", "int32", "int64"]), layouts, limits, seeds)
def test_whole_numbers_are_added_exactly(
    shape: tuple[int, ...], dtype: str, layout: Any, limited: tuple[int, int], seed: int
) -> None:
    array = layout(np.random.default_rng(seed).integers(-99, 100, shape).astype(dtype))
    with in_parts(limited):
        sums = channel_sums(array)
    assert sums.dtype == np.float64
    np.testing.assert_array_equal(sums, array.astype(np.int64).sum(axis=tuple(range(array.ndim - 1))))


@quick_settings
@given(shapes(), floating, layouts, limits, seeds)
def test_numbers_of_any_size(
    shape: tuple[int, ...], dtype: str, layout: Any, limited: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    exponents = random.integers(-4, 4, shape) if dtype == "float16" else random.integers(-30, 30, shape)
    array = layout((random.standard_normal(shape) * 2.0**exponents).astype(dtype))
    with in_parts(limited):
        assert_near(channel_sums(array), array)


@quick_settings
@given(shapes(), st.sampled_from(["int32", "int64"]), limits, seeds)
def test_large_integers_are_exact_as_long_as_their_sum_is(
    shape: tuple[int, ...], dtype: str, limited: tuple[int, int], seed: int
) -> None:
    """Up to 2 ** 31 each, as in float64; float32 would round them."""
    array = np.random.default_rng(seed).integers(-(2**31), 2**31, shape).astype(dtype)
    with in_parts(limited):
        sums = channel_sums(array)
    np.testing.assert_array_equal(sums, array.astype(np.int64).sum(axis=tuple(range(array.ndim - 1))))


@settings(thorough_settings, max_examples=40)
@given(
    shapes().filter(lambda shape: min(shape) > 0),
    floating,
    layouts,
    limits,
    st.lists(st.tuples(st.sampled_from([np.inf, -np.inf, np.nan]), st.integers(0, 2**20)), min_size=1, max_size=4),
    seeds,
)
def test_infinities_and_nans_stay_in_their_channel(
    shape: tuple[int, ...], dtype: str, layout: Any, limited: tuple[int, int], odd: list[tuple[float, int]], seed: int
) -> None:
    """One infinity is the sum; two of both signs, or a NaN, make it NaN."""
    array = np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)
    for value, place in odd:
        array.reshape(-1)[place % array.size] = value
    array = layout(array)
    expected = []
    for column in array.astype(np.float64).reshape(-1, array.shape[-1]).T.tolist():
        total = 0.0
        for value in column:
            total += value
        expected.append(total)
    with in_parts(limited), np.errstate(invalid="ignore"):
        sums = channel_sums(array)
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 16, 64, 65, 300])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_first])
def test_large_arrays(layout: Any, channels: int, dtype: str) -> None:
    """Of their real limits, in several parts."""
    shape = (3, max(1, 2**20 // channels), 2, channels)
    array = layout(np.random.default_rng(channels).standard_normal(shape, dtype=np.float32).astype(dtype))
    with small_blocks(2**20) as counts:
        sums = channel_sums(array)
    assert max(counts) > 1
    sums_in_float64 = array.sum(axis=(0, 1, 2), dtype=np.float64)
    magnitudes = np.abs(array).sum(axis=(0, 1, 2), dtype=np.float64)
    assert (np.abs(sums - sums_in_float64) <= 2e-7 * magnitudes).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_first, backwards, cropped])
@pytest.mark.parametrize("channels", [1, 2, 64, 70])
def test_a_sum_of_equal_numbers_keeps_its_digits(channels: int, layout: Any, dtype: str) -> None:
    """Every addition of these is rounded the same way: a sum in float32 of all of them would be far off."""
    array = layout(np.full((2, 2**9, 2**9 // channels, channels), 0.1, dtype=dtype))
    tenth = float(array.flat[0])
    np.testing.assert_allclose(channel_sums(array), tenth * array.size / channels, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------- as grad_bias


@quick_settings
@given(
    st.integers(0, 3),
    st.integers(1, 60),
    st.integers(1, 40),
    floating,
    st.sampled_from(["channels_last", "channels_first"]),
    st.sampled_from([Conv, ConvTranspose]),
    limits,
    seeds,
)
def test_grad_bias(
    batch: int, size: int, features: int, dtype: str, data_format: Any, layer: Any, limited: tuple[int, int], seed: int
) -> None:
    """Of the operands' type and the bias's shape, and the same as the sum itself."""
    first = data_format == "channels_first"
    image = np.ones((batch, 1, size, 2) if first else (batch, size, 2, 1), dtype=dtype)
    channels = (
        (features, 1) if layer is Conv else (1, features)
    )  # of a transposed layer, those of the output are second
    weight = np.ones((*channels, 1, 1) if first else (1, 1, *channels[::-1]), dtype=dtype)
    bias = np.ones((1, 1, 1, features), dtype=dtype)
    gradient = np.random.default_rng(seed).integers(-9, 10, (batch, size, 2, features)).astype(dtype)
    given_gradient = np.moveaxis(gradient, -1, 1) if first else gradient
    with in_parts(limited):
        found = layer(data_format=data_format).backward(given_gradient, image, weight, bias, wrt=["bias"]).grad_bias
    assert found.dtype == dtype
    assert found.shape == bias.shape
    np.testing.assert_array_equal(found.reshape(-1), exact_sums(gradient).astype(dtype))


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_nothing_warns_or_raises(odd: float) -> None:
    """Whatever the caller's own error state is."""
    gradient = np.ones((1, 5000, 3), dtype=np.float32)
    gradient[0, 17, 1], gradient[0, 18, 1] = odd, -odd
    with np.errstate(all="raise"):
        found = Conv().backward(gradient, np.ones((1, 5000, 1)), np.ones((1, 1, 3)), wrt=["bias"]).grad_bias
    np.testing.assert_array_equal(np.asarray(found), [5000, np.nan, 5000])
