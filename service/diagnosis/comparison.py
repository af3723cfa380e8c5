"""How far what somebody computed is from what is right, and whether that is within what rounding explains."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codecs.message import BFLOAT16
from ..operations.tolerance import Tolerance, is_floating

__all__ = ["Comparison", "as_float", "inner_product", "narrower", "root_mean_square"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A claimed tensor beside the exact one of the same shape.

    Parameters
    ----------
    claimed : ndarray
    exact : ndarray
        As computed in float64.
    magnitude : ndarray, optional
        For each element the sum of the absolute values of its terms, where it is a sum.
    tolerance : Tolerance
    """

    claimed: Array
    exact: Array
    magnitude: Array | None
    tolerance: Tolerance

    @functools.cached_property
    def expected(self) -> Array:
        """The exact tensor; what is not a sum is rounded to the claimed type, in which it must be exact."""
        if self.tolerance.terms == 0 and is_floating(self.tolerance.storage) and is_floating(self.exact.dtype):
            with np.errstate(all="ignore"):
                return self.exact.astype(self.tolerance.storage).astype(self.exact.dtype)
        return self.exact

    @functools.cached_property
    def difference(self) -> Array:
        """What was claimed minus what is right, in float64; 0 where both are NaN, or the same infinity."""
        got, expected = as_float(self.claimed), as_float(self.expected)
        with np.errstate(all="ignore"):
            difference = np.asarray(got - expected)  # also without axes
        difference[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0
        return difference

    @functools.cached_property
    def bounds(self) -> Array | float:
        """What each element may be off by."""
        return self.tolerance.bounds(as_float(self.expected), self.magnitude)

    @functools.cached_property
    def wrong(self) -> Mask:
        """Where an element is off by more than the tolerance."""
        if self.claimed.dtype.kind in "iu" and self.exact.dtype.kind in "iu":  # also beyond what float64 holds
            return np.asarray(self.claimed != self.exact)
        with np.errstate(all="ignore"):
            return ~(np.abs(self.difference) <= self.bounds)

    @functools.cached_property
    def agrees(self) -> bool:
        """Whether every element is within the tolerance."""
        return not self.wrong.any()

    @property
    def max_absolute_error(self) -> float:
        """The largest error; NaN if a number and a NaN meet."""
        return float(np.max(np.abs(self.difference), initial=0.0))

    @property
    def max_relative_error(self) -> float:
        """The largest error relative to the right value, where that is not 0."""
        expected = np.abs(as_float(self.expected))
        is_relative = (expected > 0) & np.isfinite(expected)
        return float(np.max(np.abs(self.difference)[is_relative] / expected[is_relative], initial=0.0))

    @property
    def max_ulps(self) -> float | None:
        """The largest error in units in the last place of the right value, in the type that it is stored in."""
        storage = self.tolerance.storage
        if not is_floating(storage):
            return None
        if storage == BFLOAT16:  # as many bits of exponent as float32, and 16 bits less
            spacing = np.spacing(np.abs(as_float(self.expected)).astype(np.float32)).astype(np.float64) * 2.0**16
        else:
            spacing = np.spacing(np.abs(as_float(self.expected)).astype(storage)).astype(np.float64)
        with np.errstate(all="ignore"):
            ulps = np.abs(self.difference) / spacing
        return float(np.max(ulps, initial=0.0, where=np.isfinite(spacing)))

    @functools.cached_property
    def residual(self) -> float:
        """Root of the mean square of the differences, relative to that of what was claimed; infinite if not finite."""
        difference = root_mean_square(self.difference)
        if difference == 0:
            return 0.0
        scale = root_mean_square(self.expected) or root_mean_square(self.claimed) or 1.0
        return difference / scale if np.isfinite(difference) else float("inf")


def as_float(array: Array) -> Array:
    """Return an array in float64."""
    return array.astype(np.float64, copy=False)


def inner_product(first: Array, second: Array) -> float:
    """Return the inner product of two vectors; not by BLAS, whose threads would take turns with those that compute."""
    return float(np.einsum("i,i->", first, second))


def root_mean_square(array: Array) -> float:
    """Return the root of the mean square of an array; 0 if it is empty. Infinities and NaNs count as none."""
    values = as_float(array)
    values = np.where(np.isfinite(values), values, 0.0)
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0:
        return 0.0
    values = values / largest  # so that no square overflows
    return largest * float(np.sqrt(np.mean(values * values)))


def narrower(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """Return the one of two floating types that holds fewer bits."""
    return first if first.itemsize <= second.itemsize else second
