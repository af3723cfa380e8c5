"""Average pooling of many channels, and of blocks that write the rows of the gradient that they own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import AvgPool
from tests.cnn_core.small_blocks import small_blocks
from tests.oracle import loops
from tests.oracle.windows import OracleError, geometry
from tests.strategies import PoolCase, quick_settings, thorough_settings
from tests.strategies_conv import backwards, big_endian, read_only, repeated

Array = NDArray[Any]

MAX_STEPS = 8_000
"""Of the loops, for one case."""

BOUNDS = {"float16": 2.0**-10, "float32": 1e-6, "float64": 1e-14}
"""Relative to the largest of what is expected, or to one: the operands are of about one."""

dtypes = st.sampled_from(["float16", "float32", "float64"])
few_bytes = st.sampled_from([1, 500, 5_000, 30_000, 2**20])
layouts = st.sampled_from([np.ascontiguousarray, np.asfortranarray, backwards, big_endian, read_only, repeated])


@st.composite
def many_channel_cases(draw: st.DrawFn, *, padded: bool = False) -> PoolCase:
    """Windows that overlap, lie side by side or apart, most often of many channels.

    The oracle's loops go through a few channels only: see ``expected``.
    """
    rank = draw(st.integers(1, 3))
    kernel, stride, dilation, sizes = [], [], [], []
    padding: list[list[int]] = []
    for _ in range(rank):
        taps = draw(st.sampled_from([1, 2, 2, 3, 4, *([9, 64, 65] if rank == 1 else [])]))
        gap = draw(st.sampled_from([1, 1, 1, 2, 3]))
        extent = (taps - 1) * gap + 1
        before, after = (draw(st.integers(0, min(3, extent - 1))) if padded else 0 for _ in range(2))
        kernel.append(taps)
        dilation.append(gap)
        stride.append(draw(st.sampled_from([1, 1, 2, 3, taps, taps + 1, extent + 2])))
        padding.append([before, after])
        sizes.append(max(1, extent - before - after) + draw(st.integers(0, {1: 20, 2: 7, 3: 4}[rank])))
    parameters: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
        "count_include_pad": draw(st.booleans()),
        "data_format": draw(st.sampled_from(["channels_last", "channels_last", "channels_first"])),
    }
    if padded:
        parameters["padding"] = padding
    divisor = draw(st.sampled_from([None, None, None, 3, -2]))
    if divisor is not None:
        parameters["divisor_override"] = divisor
    try:
        windows = geometry(sizes, kernel, stride, padding, dilation, ceil_mode=parameters["ceil_mode"])
    except OracleError:
        assume(condition=False)
    assume(all(windows.valid(position) for position in windows.positions()))
    batch = draw(st.integers(1, 3))
    assume(4 * batch * math.prod(windows.output) * math.prod(kernel) <= MAX_STEPS)
    channels = draw(st.sampled_from([64, 64, 65, 130, 63, 2]))
    shapes = [(batch, *sizes, channels), (batch, *windows.output, channels)]
    if parameters["data_format"] == "channels_first":
        shapes = [(batch, channels, *sizes), (batch, channels, *windows.output)]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image, gradient = (random.standard_normal(shape) for shape in shapes)
    return PoolCase(parameters, image, gradient)


def computed(case: PoolCase) -> tuple[Array, Array]:
    op = AvgPool(**case.parameters)
    return op.forward(case.input), op.backward(case.grad_output, case.input)


def some_channels(array: Array, data_format: str) -> Array:
    """The first two channels, one in the middle, and the last: what the oracle has time for."""
    axis = 1 if data_format == "channels_first" else -1
    count = array.shape[axis]
    return np.take(array, [0, 1 % count, count // 2, count - 1], axis=axis)


def assert_as_the_loops(case: PoolCase, output: Array, gradient: Array, dtype: str) -> None:
    data_format = case.parameters.get("data_format", "channels_last")
    image, arriving = some_channels(case.input, data_format), some_channels(case.grad_output, data_format)
    for actual, expected in (
        (output, loops.avg_pool_forward(image, **case.parameters)),
        (gradient, loops.avg_pool_backward(arriving, image, **case.parameters)),
    ):
        assert actual.dtype == dtype
        chosen = some_channels(actual, data_format).astype(np.float64)
        scale = max(1.0, float(np.abs(expected).max(initial=0, where=np.isfinite(expected))))
        np.testing.assert_allclose(chosen, expected, rtol=0, atol=BOUNDS[dtype] * scale)


def of_dtype(case: PoolCase, dtype: str) -> PoolCase:
    return PoolCase(case.parameters, case.input.astype(dtype), case.grad_output.astype(dtype))


# ------------------------------------------------------------------------------------------------- against the loops


@thorough_settings
@given(many_channel_cases(), dtypes, few_bytes)
def test_many_channels(case: PoolCase, dtype: str, block_bytes: int) -> None:
    case = of_dtype(case, dtype)
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results, dtype)


@quick_settings
@given(many_channel_cases(padded=True), dtypes, few_bytes)
def test_many_channels_with_padding(case: PoolCase, dtype: str, block_bytes: int) -> None:
    case = of_dtype(case, dtype)
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results, dtype)


@quick_settings
@given(many_channel_cases(), dtypes, layouts, layouts, few_bytes)
def test_operands_of_any_layout(case: PoolCase, dtype: str, of_input: Any, of_gradient: Any, block_bytes: int) -> None:
    """Of an image that is a part of a larger one, what lies beside it is never read."""
    case = of_dtype(case, dtype)
    case = PoolCase(case.parameters, of_input(case.input), of_gradient(case.grad_output))
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results, dtype)


@quick_settings
@given(many_channel_cases(), few_bytes, st.sampled_from(["int8", "int64"]))
def test_integers_are_averaged_in_float64(case: PoolCase, block_bytes: int, dtype: str) -> None:
    case = PoolCase(case.parameters, (20 * case.input).astype(dtype), case.grad_output)
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results, "float64")


@quick_settings
@given(
    many_channel_cases(),
    st.lists(st.tuples(st.sampled_from([np.inf, -np.inf, np.nan]), st.integers(0, 2**20)), min_size=1, max_size=4),
    dtypes,
    few_bytes,
)
def test_infinities_and_nans_stay_in_their_windows(
    case: PoolCase, odd: list[tuple[float, int]], dtype: str, block_bytes: int
) -> None:
    """In the operands of either direction, and among the channels that the oracle looks at."""
    case = of_dtype(case, dtype)
    first = case.parameters["data_format"] == "channels_first"
    for array in (case.input, case.grad_output):
        by_channel = np.moveaxis(array, 1 if first else -1, 0)
        for value, place in odd:
            position = np.unravel_index(place % by_channel[0].size, by_channel.shape[1:])
            by_channel[(-1 if place % 2 else 0, *position)] = value
    with small_blocks(block_bytes):
        results = computed(case)
    with np.errstate(invalid="ignore"):
        assert_as_the_loops(case, *results, dtype)


# ---------------------------------------------------------------------------------------------------- blocks and ways


CATALOGUE: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "side by side": ({"kernel_size": 2}, (3, 20, 21, 64)),
    "overlapping": ({"kernel_size": 3, "stride": 1}, (2, 20, 13, 70)),
    "apart": ({"kernel_size": 2, "stride": [5, 3]}, (2, 33, 12, 64)),
    "dilated": ({"kernel_size": [3, 2], "stride": [2, 1], "dilation": [4, 3]}, (2, 90, 7, 64)),
    "1-D": ({"kernel_size": 5, "stride": 3}, (3, 100, 96)),
    "3-D": ({"kernel_size": [2, 3, 1], "stride": [1, 2, 2]}, (2, 11, 8, 5, 64)),
    "one window along the last axis": ({"kernel_size": [2, 6], "stride": 1}, (2, 24, 6, 64)),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("block_bytes", [3_000, 20_000, 2**20])
@pytest.mark.parametrize("name", CATALOGUE)
def test_layers_of_several_blocks(name: str, block_bytes: int, dtype: str) -> None:
    parameters, shape = CATALOGUE[name]
    random = np.random.default_rng(0)
    image = random.standard_normal(shape).astype(dtype)
    gradient = random.standard_normal(AvgPool(**parameters).output_shape(shape)).astype(dtype)
    case = PoolCase(parameters, image, gradient)
    with small_blocks(block_bytes) as counts:
        results = computed(case)
    if block_bytes == 3_000:
        assert min(counts) > 4
    assert_as_the_loops(case, *results, dtype)
    # channels that the oracle leaves out
    with small_blocks(2**30):
        doubled = computed(PoolCase(parameters, np.repeat(image, 2, axis=-1), np.repeat(gradient, 2, axis=-1)))
    for result, of_two in zip(results, doubled, strict=True):
        np.testing.assert_allclose(result, of_two[..., ::2], rtol=0, atol=4 * BOUNDS[dtype])
        np.testing.assert_array_equal(of_two[..., 1::2], of_two[..., ::2])


@pytest.mark.parametrize("layout", [np.ascontiguousarray, backwards, np.asfortranarray])
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((1, 3, 64), {"kernel_size": 2}),
        ((2, 5, 5, 64), {"kernel_size": 2}),
        ((2, 6, 4, 64), {"kernel_size": 3, "stride": 2}),
        ((2, 4, 6, 64), {"kernel_size": [2, 3], "stride": 2}),
        ((1, 4, 3, 5, 64), {"kernel_size": 2, "dilation": [2, 1, 2], "stride": [2, 2, 1]}),
    ],
)
def test_windows_that_hang_over_the_end(
    shape: tuple[int, ...], parameters: dict[str, Any], count_include_pad: bool, layout: Any
) -> None:
    """The overhang of ceil_mode is no padding, but no element of the input either."""
    parameters = parameters | {"ceil_mode": True, "count_include_pad": count_include_pad}
    random = np.random.default_rng(0)
    image = layout(random.standard_normal(shape))
    gradient = random.standard_normal(AvgPool(**parameters).output_shape(shape))
    case = PoolCase(parameters, image, gradient)
    for block_bytes in (1, 2**20):
        with small_blocks(block_bytes):
            results = computed(case)
        assert_as_the_loops(case, *results, "float64")
