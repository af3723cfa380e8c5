"""Comparisons and operands that the numeric tests share."""

from __future__ import annotations

import numpy as np

from tests.oracle.windows import AnyArray, Array


def assert_close(actual: AnyArray | None, expected: AnyArray, tolerance: float = 1e-11) -> None:
    """The same shape, dtype and, up to the tolerance, values; NaN equals NaN."""
    assert actual is not None
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, strict=True)


def inner(left: AnyArray, right: AnyArray | None) -> float:
    """The inner product of two arrays of the same shape."""
    assert right is not None
    assert left.shape == right.shape
    return float(np.vdot(left, right))


def normal(*shape: int, seed: int = 0) -> Array:
    """Normally distributed operands, the same in every run."""
    return np.random.default_rng(seed).standard_normal(shape)
