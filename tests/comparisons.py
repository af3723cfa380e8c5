"""Comparisons and operands that the numeric tests share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tests.oracle.windows import AnyArray, Array


def assert_close(actual: AnyArray | None, expected: AnyArray, tolerance: float = 1e-11) -> None:
    """The same shape, dtype and, up to the tolerance, values; NaN equals NaN."""
    assert actual is not None
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, strict=True)


def assert_gradients_close(actual: Any, expected: Any, wanted: Collection[str]) -> None:
    """The gradients of a convolution that were asked for are close to the expected ones, the others are None."""
    for name in ("input", "weight", "bias"):
        if name in wanted:
            assert_close(getattr(actual, f"grad_{name}"), getattr(expected, f"grad_{name}"))
        else:
            assert getattr(actual, f"grad_{name}") is None


def inner(left: AnyArray, right: AnyArray | None) -> float:
    """The inner product of two arrays of the same shape."""
    assert right is not None
    assert left.shape == right.shape
    return float(np.vdot(left, right))


def normal(*shape: int, seed: int = 0) -> Array:
    """Normally distributed operands, the same in every run."""
    return np.random.default_rng(seed).standard_normal(shape)
