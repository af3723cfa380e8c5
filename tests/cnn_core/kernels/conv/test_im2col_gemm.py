"""How convolutions as matrix products are divided: blocks with enough rows, and memory for the parts of a weight."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cnn_core.geometry import AxisWindows, Windows
from cnn_core.kernels.conv import col2im, im2col_gemm
from cnn_core.kernels.conv.problem import ConvProblem
from cnn_core.kernels.products import least_rows, parts_of_rows
from tests.strategies import thorough_settings


def square(batch: int, outputs: int, kernel: int, channels: int, features: int, itemsize: int) -> ConvProblem:
    """Windows of one group at a stride of 1, without padding."""
    axis = AxisWindows(outputs + kernel - 1, kernel, 1, 1, before=0, after=0, output_size=outputs)
    return ConvProblem(batch, (kernel, kernel, channels, features), 1, Windows((axis, axis)), itemsize)


problems = st.builds(
    square,
    st.integers(1, 5),
    st.integers(1, 70),
    st.sampled_from([1, 2, 3, 5, 7, 11, 31]),
    st.integers(1, 300),
    st.sampled_from([1, 2, 3, 10, 64, 100, 300]),
    st.sampled_from([4, 8]),
)


@settings(thorough_settings, max_examples=300)
@given(problems)
@example(square(1, 28, 7, 32, 100, 8))
def test_there_is_memory_for_the_products_of_every_slice_of_a_weight(problem: ConvProblem) -> None:
    """The rows of a small slice may be multiplied in parts where those of a larger one are not."""
    features = problem.features
    memory = im2col_gemm._grad_weight_elements(problem)[-1]
    slices = im2col_gemm._weight_slices(problem)
    assume(len(slices) > 1)
    rows = math.prod(im2col_gemm._grad_weight_division(problem).counts)
    for some in slices:
        columns = math.prod(part.stop - part.start for part in some)
        parts = parts_of_rows(rows, columns, features)
        assert parts == 1 or parts * columns * features <= memory


@settings(thorough_settings, max_examples=300)
@given(problems)
@example(square(1, 48, 31, 60, 1, 8))
@pytest.mark.parametrize("kernel", [im2col_gemm, col2im])
def test_blocks_have_as_many_rows_as_a_product_computes_at_least(kernel: ModuleType, problem: ConvProblem) -> None:
    """Otherwise the products of rows of zeros, which are added, may take ten times as long as those of the block."""
    taps = math.prod(problem.weight_shape[:2]) * problem.channels
    inner, columns = (taps, problem.features) if kernel is im2col_gemm else (problem.features, taps)
    division = (im2col_gemm._division if kernel is im2col_gemm else col2im._patch_division)(problem)
    whole = math.prod(division.positions)
    assert math.prod(division.counts) >= min(whole, least_rows(inner, columns))
