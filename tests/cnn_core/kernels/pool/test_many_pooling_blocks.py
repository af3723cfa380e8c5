"""Pooling in many blocks, which share windows and elements: the results are those of the loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_core import AvgPool, LpPool, MaxPool
from tests.cnn_core.layers_in_blocks import POOLINGS, calls, same_bits
from tests.cnn_core.small_blocks import small_blocks
from tests.comparisons import assert_close
from tests.oracle import adaptive, loops, lp_pool
from tests.strategies import PoolCase, avg_pool_cases, max_pool_cases, thorough_settings
from tests.strategies_pool import adaptive_max_pool_cases, lp_pool_cases

few_bytes = st.sampled_from([1, 60, 200, 500])
some_settings = settings(thorough_settings, max_examples=100)


@some_settings
@given(max_pool_cases(), few_bytes)
def test_max_pooling(case: PoolCase, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        output = MaxPool(**case.parameters).forward(case.input)
        gradient = MaxPool(**case.parameters).backward(case.grad_output, case.input)
        found: Any = MaxPool(**case.parameters, return_indices=True, index_scheme="tensor").forward(case.input)
    parameters = {name: value for name, value in case.parameters.items() if name != "ties"}
    assert_close(output, loops.max_pool_forward(case.input, **parameters), 0)
    assert_close(gradient, loops.max_pool_backward(case.grad_output, case.input, **case.parameters))
    assert_close(found.output, output, 0)
    assert_close(case.input.reshape(-1)[found.indices], output, 0)


@some_settings
@given(avg_pool_cases(), few_bytes)
def test_average_pooling(case: PoolCase, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        output = AvgPool(**case.parameters).forward(case.input)
        gradient = AvgPool(**case.parameters).backward(case.grad_output, case.input)
    assert_close(output, loops.avg_pool_forward(case.input, **case.parameters))
    assert_close(gradient, loops.avg_pool_backward(case.grad_output, case.input, **case.parameters))


@some_settings
@given(lp_pool_cases(finite=True), few_bytes)
def test_lp_pooling(case: PoolCase, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        output = LpPool(**case.parameters).forward(case.input)
        gradient = LpPool(**case.parameters).backward(case.grad_output, case.input)
    assert_close(output, lp_pool.lp_pool_forward(case.input, **case.parameters))
    assert_close(gradient, lp_pool.lp_pool_backward(case.grad_output, case.input, **case.parameters))


@settings(some_settings, max_examples=80)
@given(adaptive_max_pool_cases(), few_bytes)
def test_adaptive_pooling(case: PoolCase, block_bytes: int) -> None:
    with small_blocks(block_bytes):
        gradient = MaxPool(**case.parameters).backward(case.grad_output, case.input)
        output = MaxPool(**case.parameters).forward(case.input)
    parameters = {name: value for name, value in case.parameters.items() if name != "ties"}
    assert_close(output, adaptive.max_pool_forward(case.input, **parameters), 0)
    assert_close(gradient, adaptive.max_pool_backward(case.grad_output, case.input, **case.parameters))


@pytest.mark.one_in(7)
@pytest.mark.parametrize("block_bytes", [2**8, 2**11, 2**13])
@pytest.mark.parametrize("name", POOLINGS)
def test_one_block_and_many_give_the_same(name: str, block_bytes: int) -> None:
    for odd in (False, True):
        compute: Any = calls(name, "float64", odd=odd)
        with small_blocks(2**30) as counts:
            expected = compute()
        assert max(counts) == 1
        with small_blocks(block_bytes) as counts:
            found = compute()
        assert max(counts) > 4
        if name.startswith("max"):
            assert same_bits(found[:-1], expected[:-1])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "parameters", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 9, "stride": 4}]
)
def test_indices_of_an_image_of_several_blocks(parameters: dict[str, Any], data_format: Any) -> None:
    """Of its real size: an index counts from the first element of the image, not of a block."""
    image = np.random.default_rng(0).permutation(600 * 601 * 2).astype(np.float32).reshape(1, 600, 601, 2)
    if data_format == "channels_first":
        image = np.moveaxis(image, -1, 1)
    op = MaxPool(**parameters, data_format=data_format, return_indices=True, index_scheme="tensor")
    found: Any = op.forward(image)
    np.testing.assert_array_equal(image.reshape(-1)[found.indices], found.output)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("pool", [MaxPool, AvgPool, LpPool])
def test_an_element_that_no_window_covers_has_no_gradient(pool: Any, odd: float) -> None:
    """Whatever it is, between windows or after the last of them, and however many blocks there are."""
    image = np.array([1.0, 2.0, odd, 3.0, 4.0, odd]).reshape(1, 6, 1)
    op = pool(kernel_size=2, stride=3)
    for block_bytes in (1, 2**20):
        with small_blocks(block_bytes):
            gradient = op.backward(np.ones((1, 2, 1)), image)
        assert gradient[0, 2::3, 0].tolist() == [0, 0]
        assert np.isfinite(gradient).all()
