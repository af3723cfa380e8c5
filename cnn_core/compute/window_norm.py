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
    """One axis of a norm over windows: the values before, and the norms after as ``scale * root``.

    The two factors say what their product may not: it can be beyond the type's range, or a subnormal of few digits.
    """

    axis: int
    windows: Axis
    values: Array
    scale: Array
    root: Array

    @property
    def norms(self) -> Array:
        """The norm of each window."""
        return self.scale * self.root


def norm_levels(array: Array, windows: AnyWindows, axes: Sequence[int], norm_type: float) -> list[NormLevel]:
    """Compute the norms of each window's taps inside the input, and keep each axis of them, innermost first."""
    levels = []
    for axis, along in innermost_first(windows, axes):
        levels.append(NormLevel(axis, along, array, *_scale_and_root(array, axis, along, norm_type)))
        array = levels[-1].norms
    return levels


def window_norm(array: Array, windows: AnyWindows, axes: Sequence[int], norm_type: float) -> Array:
    """Compute the norm of each window's taps inside the input; 0 where there are none."""
    for axis, along in innermost_first(windows, axes):
        scale, root = _scale_and_root(array, axis, along, norm_type)
        array = scale * root
    return array


def _scale_and_root(array: Array, axis: int, along: Axis, norm_type: float) -> tuple[Array, Array]:
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
    return scale, np.sqrt(total) if norm_type == 2 else total ** total.dtype.type(1 / norm_type)


def _power(ratios: Array, exponent: float) -> Array:
    if exponent == 0:
        return np.ones_like(ratios)
    if exponent == 1:
        return ratios
    return np.square(ratios) if exponent == 2 else ratios ** ratios.dtype.type(exponent)


def route_norm(gradient: Array, levels: Sequence[NormLevel], norm_type: float) -> Array:
    """Give each tap the window's gradient times ``sign(x) * (|x| / norm)^(p - 1)``; 0 where the norm is 0."""
    for level in reversed(levels):
        routed = np.zeros(level.values.shape, dtype=gradient.dtype)
        # any other divisor keeps the zeros of a window of zeros
        root = np.where(level.root == 0, level.root.dtype.type(1), level.root)
        for piece in level.windows.pieces():
            values = at(level.values, level.axis, piece.inputs)
            scaled = np.abs(values) / at(level.scale, level.axis, piece.outputs)
            slopes = _power(scaled / at(root, level.axis, piece.outputs), norm_type - 1)
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
    # the array after each axis, and of one axis at a time: before it is reduced, absolute values and their powers;
    # after, the largest, the scale, the sum, its root, what a piece adds, masks, and gradients; of all taps of one
    # window, sums in float64
    held = sum(levels[1:]) + 2 * max(levels) + 6 * max(levels[1:]) + 2 * spanned
    costs = reduction_costs(planes, windows, held, held)
    forward, backward = costs.forward, costs.backward["input"]
    powers = POWER * forward.work
    return Costs(
        Cost(forward.work + powers, forward.workspace_elements),
        {"input": Cost(backward.work + 2 * powers, backward.workspace_elements)},
    )
