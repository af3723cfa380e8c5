"""Norms over windows, and the routes of their gradients back to the input.

The p-norm of a box is the p-norm along one axis of the p-norms along the others. Each of them is taken of the values
divided by their maximum m, ``m * (sum (|x| / m)^p)^(1 / p)``: a power can then neither overflow nor lose everything to
underflow, as long as the norm itself is a number of the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.axis_by_axis import (
    accumulate,
    at,
    innermost_first,
    level_sizes,
    reduction_costs,
    resized,
    spanned_windows,
)
from cnn_core.compute.cost import Cost, Costs
from cnn_core.geometry import AnyWindows, Axis

__all__ = ["NormLevel", "norm_costs", "norm_levels", "route_norm", "window_norm"]

Array = NDArray[Any]

POWER = 20
"""How many times the work of a sum's tap a power and a division are."""


@dataclass(frozen=True)
class NormLevel:
    """One axis of a norm over windows: the values before, and the norms after as ``scale * total^(1 / p)``.

    The two say more than the norm, which may be beyond the type's range, or a subnormal of few digits.
    """

    axis: int
    windows: Axis
    values: Array
    scale: Array
    total: Array

    def norms(self, norm_type: float) -> Array:
        """Return the norm of each window."""
        return self.scale * _power(self.total, 1 / norm_type)


def norm_levels(array: Array, windows: AnyWindows, axes: Sequence[int], norm_type: float) -> list[NormLevel]:
    """Compute the norms of each window's taps inside the input, and keep each axis of them, innermost first."""
    levels = []
    for axis, along in innermost_first(windows, axes):
        level = _level(array, axis, along, norm_type)
        levels.append(level)
        array = level.norms(norm_type)
    return levels


def window_norm(array: Array, windows: AnyWindows, axes: Sequence[int], norm_type: float) -> Array:
    """Compute the norm of each window's taps inside the input; 0 where there are none."""
    for axis, along in innermost_first(windows, axes):
        array = _level(array, axis, along, norm_type).norms(norm_type)
    return array


def _level(array: Array, axis: int, along: Axis, norm_type: float) -> NormLevel:
    shape = resized(array, axis, along.output_size)
    largest = np.zeros(shape, dtype=array.dtype)
    accumulate(np.maximum, np.abs(array), axis, along, largest, array.dtype)
    # a window of zeros, or with an infinity or NaN, needs none: its sum is what its norm is
    scale = np.where((largest > 0) & (largest < np.inf), largest, array.dtype.type(1))
    total = np.zeros(shape, dtype=array.dtype)
    for piece in along.pieces():
        powers = _power(np.abs(at(array, axis, piece.inputs)) / at(scale, axis, piece.outputs), norm_type)
        if piece.spans_taps:
            powers = powers.sum(axis=axis, keepdims=True, dtype=np.float64)
        part = at(total, axis, piece.outputs)
        np.add(part, powers, out=part, casting="same_kind")
    return NormLevel(axis, along, array, scale, total)


def _power(base: Array, exponent: float) -> Array:
    if exponent == 0:
        return np.ones_like(base)
    if exponent == 1:
        return base
    if exponent == 0.5:
        return np.sqrt(base)
    return np.square(base) if exponent == 2 else base ** base.dtype.type(exponent)


def route_norm(gradient: Array, levels: Sequence[NormLevel], norm_type: float) -> Array:
    """Give each tap the window's gradient times ``sign(x) * (|x| / norm)^(p - 1)``; 0 where the norm is 0.

    That is ``sign(x) * (|x| / scale)^(p - 1) / total^((p - 1) / p)``, whatever the range of the norm.
    """
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        # any other divisor keeps the zeros of a window of zeros
        divisor = _power(np.where(level.total == 0, level.total.dtype.type(1), level.total), 1 - 1 / norm_type)
        for piece in level.windows.pieces():
            values = at(level.values, level.axis, piece.inputs)
            slopes = _power(np.abs(values) / at(level.scale, level.axis, piece.outputs), norm_type - 1)
            slopes /= at(divisor, level.axis, piece.outputs)
            slopes *= np.sign(values)
            slopes *= at(gradient, level.axis, piece.outputs)
            part = at(routed, level.axis, piece.inputs)
            part += slopes
        gradient = routed
    return gradient


def norm_costs(planes: int, windows: AnyWindows) -> Costs:
    """Return what ``window_norm`` costs, and what ``norm_levels`` and ``route_norm`` cost together.

    Parameters
    ----------
    planes : int
        Images times channels.
    windows : AnyWindows
    """
    levels = level_sizes(planes, windows)
    spanned = spanned_windows(levels, windows)
    # of one axis at a time: before it is reduced, absolute values and their powers; after, the largest, the scale, the
    # sum, its root, what a piece adds, masks, and gradients; of all taps of one window, sums in float64
    at_a_time = 2 * max(levels) + 6 * max(levels[1:]) + 2 * spanned
    # after each axis the norms, and backward also their scale and their sum
    costs = reduction_costs(planes, windows, sum(levels[1:]) + at_a_time, 3 * sum(levels[1:]) + at_a_time)
    forward, backward = costs.forward, costs.backward["input"]
    powers = POWER * forward.work
    return Costs(
        Cost(forward.work + powers, forward.workspace_elements),
        {"input": Cost(backward.work + 2 * powers, backward.workspace_elements)},
    )
