"""Maxima among few values, so that most windows hold theirs several times: which tap is chosen, and what it gets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import MaxPool
from tests.cnn_core.small_blocks import small_blocks
from tests.oracle import loops
from tests.oracle.indices import max_pool_indices
from tests.oracle.windows import OracleError, geometry
from tests.strategies import PoolCase, quick_settings, thorough_settings
from tests.strategies_conv import backwards, big_endian, read_only

Array = NDArray[Any]

MAX_STEPS = 6_000
"""Of the loops, for one case."""

PALETTES: dict[str, list[float]] = {
    "few": [0, 1, 2],
    "one": [1],
    "zeros of both signs": [0.0, -0.0, -1],
    "minus infinity": [-math.inf, -math.inf, 0, 1],
    "only minus infinity": [-math.inf],
    "infinity": [math.inf, math.inf, 0, -math.inf],
    "nan": [math.nan, 0, 1, 2, 2, 2, 2, 2, 2, 2],
    "anything": [math.nan, math.inf, -math.inf, 0, 1],
}
NUMBERS = ["few", "few", "few", "one", "zeros of both signs"]

dtypes = st.sampled_from(["float16", "float32", "float64", "int8", "int64"])
few_bytes = st.sampled_from([1, 60, 500, 4_000, 2**20])
layouts = st.sampled_from([np.ascontiguousarray, np.asfortranarray, backwards, read_only, big_endian])
ordinary = st.sampled_from(NUMBERS)
anything = st.sampled_from([*NUMBERS, *PALETTES])


@st.composite
def tied_cases(draw: st.DrawFn, palettes: st.SearchStrategy[str] = anything, most_taps: int = 40) -> PoolCase:
    """Windows of few taps and of many, side by side, overlapping and apart, over few channels and many.

    Gradients are whole numbers, whose sums are exact in every type.
    """
    rank = draw(st.integers(1, 3))
    kernel, stride, dilation, sizes = [], [], [], []
    padding: list[list[int]] = []
    for _ in range(rank):
        taps = draw(st.sampled_from([1, 2, 2, 3, 3, 4, 5, *([7, 9, 16, 32] if rank == 1 else [])]))
        gap = draw(st.sampled_from([1, 1, 1, 2, 3]))
        extent = (taps - 1) * gap + 1
        before, after = (draw(st.sampled_from([0, 0, 1, extent - 1])) for _ in range(2))
        assume(max(before, after) < extent)
        kernel.append(taps)
        dilation.append(gap)
        stride.append(draw(st.sampled_from([1, 1, 2, 3, taps, taps + 1, extent + 2])))
        padding.append([before, after])
        sizes.append(max(1, extent - before - after) + draw(st.integers(0, {1: 20, 2: 7, 3: 4}[rank])))
    assume(math.prod(kernel) <= most_taps)
    parameters: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
        "data_format": draw(st.sampled_from(["channels_last", "channels_first"])),
    }
    try:
        windows = geometry(sizes, kernel, stride, padding, dilation, ceil_mode=parameters["ceil_mode"])
    except OracleError:
        assume(condition=False)
    assume(all(windows.valid(position) for position in windows.positions()))
    batch = draw(st.integers(1, 3))
    channels = draw(st.sampled_from([1, 2, 3, 5, 17, 40]))
    assume(batch * channels * math.prod(windows.output) * math.prod(kernel) <= MAX_STEPS)
    shapes = [(batch, *sizes, channels), (batch, *windows.output, channels)]
    if parameters["data_format"] == "channels_first":
        shapes = [(batch, channels, *sizes), (batch, channels, *windows.output)]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.choice(np.array(PALETTES[draw(palettes)]), size=shapes[0])
    return PoolCase(parameters, values, random.integers(-9, 10, shapes[1]).astype(np.float64))


def of_dtype(case: PoolCase, dtype: str) -> PoolCase:
    """Integers stay as they are where infinities have no integer."""
    if np.dtype(dtype).kind == "i" and not np.isfinite(case.input).all():
        dtype = "float32"
    gradient = case.grad_output if np.dtype(dtype).kind == "i" else case.grad_output.astype(dtype)
    return PoolCase(case.parameters, case.input.astype(dtype), gradient)


def assert_as_the_loops(
    case: PoolCase, output: Array, indices: Array, gradients: dict[str, Array], *, same_dtype: bool = True
) -> None:
    expected = loops.max_pool_forward(case.input, **case.parameters)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(indices, max_pool_indices(case.input, **case.parameters, index_scheme="plane"))
    for ties, gradient in gradients.items():
        with np.errstate(invalid="ignore"):  # infinities of both signs may meet
            by_loops = loops.max_pool_backward(case.grad_output, case.input, **case.parameters, ties=ties)
        np.testing.assert_array_equal(gradient, by_loops, err_msg=ties)
    if same_dtype:
        wanted = case.input.dtype if case.input.dtype.kind == "f" else np.dtype(np.float64)
        assert {output.dtype, *(gradient.dtype for gradient in gradients.values())} == {wanted}


def computed(case: PoolCase, rules: tuple[Any, ...] = ("first", "all")) -> tuple[Array, Array, dict[str, Array]]:
    """The output as it is without indices, the indices, and the gradient by some rules of ties."""
    output = MaxPool(**case.parameters).forward(case.input)
    found: Any = MaxPool(**case.parameters, return_indices=True).forward(case.input)
    np.testing.assert_array_equal(found.output, output, strict=True)
    gradients = {ties: MaxPool(**case.parameters, ties=ties).backward(case.grad_output, case.input) for ties in rules}
    return output, found.indices, gradients


# ------------------------------------------------------------------------------------------------- against the loops


@settings(thorough_settings, max_examples=60)
@given(tied_cases(ordinary), dtypes, few_bytes)
def test_ties_are_the_rule(case: PoolCase, dtype: str, block_bytes: int) -> None:
    case = of_dtype(case, dtype)
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results)


@settings(thorough_settings, max_examples=60)
@given(tied_cases(), dtypes, few_bytes)
def test_ties_of_what_is_no_number(case: PoolCase, dtype: str, block_bytes: int) -> None:
    """Of several blocks some hold nothing but numbers, and are computed in another way than the others."""
    case = of_dtype(case, dtype)
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results)


@quick_settings
@given(tied_cases(), layouts, layouts, few_bytes)
def test_operands_of_any_layout(case: PoolCase, of_input: Any, of_gradient: Any, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        results = computed(PoolCase(case.parameters, of_input(case.input), of_gradient(case.grad_output)))
    assert_as_the_loops(case, *results)


@quick_settings
@given(tied_cases(), few_bytes, st.sampled_from([("float32", "float64"), ("float64", "float32"), ("int8", "float16")]))
def test_operands_of_two_types(case: PoolCase, block_bytes: int, types: tuple[str, str]) -> None:
    """Gradients are of the wider type; values are compared in their own."""
    gradient = case.grad_output.astype(types[1])
    case = of_dtype(case, types[0])
    case = PoolCase(case.parameters, case.input, gradient)
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results, same_dtype=False)
    assert results[2]["first"].dtype == np.result_type(results[0].dtype, gradient.dtype)


@quick_settings
@given(
    tied_cases(ordinary),
    st.lists(st.tuples(st.sampled_from([np.inf, -np.inf, np.nan]), st.integers(0, 2**20)), min_size=1, max_size=5),
    st.sampled_from(["float16", "float32", "float64"]),
    few_bytes,
)
def test_gradients_that_are_no_numbers_reach_only_the_chosen_tap(
    case: PoolCase, odd: list[tuple[float, int]], dtype: str, block_bytes: int
) -> None:
    """Zero times an infinity would be NaN in all the others."""
    case = of_dtype(case, dtype)
    for value, place in odd:
        case.grad_output.reshape(-1)[place % case.grad_output.size] = value
    with small_blocks(block_bytes):
        results = computed(case)
    assert_as_the_loops(case, *results)


# ------------------------------------------------------------------------------------------------------ larger layers


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((2, 21, 23, 4), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ((2, 20, 22, 3), {"kernel_size": 2}),
        ((1, 30, 31, 2), {"kernel_size": [4, 8], "stride": [1, 3], "padding": [[3, 0], [0, 7]]}),
        ((1, 17, 18, 6), {"kernel_size": 2, "stride": 5, "dilation": 3, "ceil_mode": True}),
        ((1, 9, 8, 7, 3), {"kernel_size": [2, 4, 4], "stride": [2, 1, 3], "padding": [[1, 0], [3, 3], [0, 2]]}),
        ((3, 150, 2), {"kernel_size": 32, "stride": 3, "padding": 31, "ceil_mode": True}),
        ((1, 4, 6, 130), {"kernel_size": [1, 3], "stride": 1}),
    ],
)
@pytest.mark.parametrize("block_bytes", [2_000, 2**20])
def test_larger_layers(
    shape: tuple[int, ...], parameters: dict[str, Any], data_format: str, dtype: str, block_bytes: int
) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 3, shape).astype(dtype)
    if data_format == "channels_first":
        image = np.ascontiguousarray(np.moveaxis(image, -1, 1))
    parameters = parameters | {"data_format": data_format}
    gradient = random.integers(-9, 10, MaxPool(**parameters).output_shape(image.shape)).astype(np.float64)
    case = of_dtype(PoolCase(parameters, image, gradient), dtype)
    with small_blocks(block_bytes):
        results = computed(case, ("first",))
    assert_as_the_loops(case, *results)
