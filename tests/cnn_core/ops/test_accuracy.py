"""Sums of many elements keep their digits in float32 and float16."""

from __future__ import annotations

import numpy as np
import pytest

from cnn_core import AvgPool, Conv


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-7), ("float16", 1e-3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_average_of_many_elements(data_format: str, dtype: str, bound: float, channels: int) -> None:
    values = np.full((1, 1_000_000, channels), 0.1, dtype=dtype)
    if data_format == "channels_first":
        values = np.moveaxis(values, 1, 2)
    op = AvgPool(kernel_size=1_000_000, data_format=data_format)  # type: ignore[arg-type]
    np.testing.assert_allclose(op.forward(values), float(values.flat[0]), rtol=bound)


def test_grad_bias_of_many_positions() -> None:
    gradient = np.full((1, 1_048_576, 2), 0.1, dtype=np.float32)
    operands = (np.ones((1, 1_048_576, 1), dtype=np.float32), np.ones((1, 1, 2), dtype=np.float32))
    grad_bias = Conv().backward(gradient, *operands, wrt=["bias"]).grad_bias
    assert grad_bias is not None
    np.testing.assert_allclose(grad_bias, 1_048_576 * float(np.float32(0.1)), rtol=2e-7)


def test_a_divisor_beyond_the_range_of_integers() -> None:
    op = AvgPool(kernel_size=2**22, padding=2**21, count_include_pad=True)
    np.testing.assert_allclose(op.forward(np.ones((1, 1, 1, 1, 1))), 2.0**-66)


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_grad_weight_of_many_positions(taps: int, groups: int) -> None:
    """Sums over half a million positions are not added up one after the other in float32."""
    generator = np.random.default_rng(0)
    shapes = ((1, 500_000, 2), (taps, 2 // groups, 2))
    image, weight = (generator.standard_normal(shape, dtype=np.float32) for shape in shapes)
    op = Conv(groups=groups, algorithm="direct")
    gradient = generator.standard_normal(op.output_shape(*shapes), dtype=np.float32)
    found, expected = (
        op.backward(*(operand.astype(dtype) for operand in (gradient, image, weight)), wrt=["weight"]).grad_weight
        for dtype in (np.float32, np.float64)
    )
    assert found is not None
    assert expected is not None
    # relative to a sum that does not cancel
    assert np.abs(found - expected).max() < 2e-6 * np.sqrt(gradient.size / 2)
