"""Norms over windows, and their gradients.

The p-norm of a box is taken as ``S * T^(1 / p)``: S is the largest of its absolute values, and T the sum of
``(|x| / S)^p``. No power can then overflow, or lose everything to underflow, where the norm is a number of the type.
Up to p = 2, S is the power of two that it begins with: dividing by that loses no digit, and integers have exact sums.
The pair goes from axis to axis: with M the largest S of a window, the next pair is M and the sum of ``(S / M)^p * T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import AnyWindows, Axis
from ...runtime.cancellation import check_cancelled
from ...runtime.workspace import Workspace
from ..by_axis import (
    added,
    at,
    innermost_first,
    level_sizes,
    pieces_of,
    reduced,
    reduction_costs,
    spanned_windows,
)
from ..cost import Cost, Costs
from ..passes import checked, converted, elementwise
from .block import PoolBlock

__all__ = ["NormKernel"]

Array = NDArray[Any]

MAX_TYPE_SCALED_BY_TWO = 2
"""Up to this norm type S is a power of two. The ratios ``|x| / S`` may then be almost 2, and higher powers of them may
overflow where the norm does not."""

POWER = 20
"""A power and a division take about this many times as long as adding a tap."""


@dataclass(frozen=True)
class NormKernel:
    """Norms over windows, of one type; 0 for windows without a tap inside the input."""

    axes: Sequence[int]
    dtype: np.dtype[Any]
    norm_type: float

    def forward(self, __: Workspace, input: Array, block: PoolBlock, results: Sequence[Array]) -> None:
        """Write the norm of each window's taps inside the input."""
        _, largest, total = _reduced_levels(input, block.windows, self.axes, self.norm_type)
        np.multiply(largest, _power(total, 1 / self.norm_type), out=results[0])

    def backward(self, __: Workspace, gradient: Array, input: Array, block: PoolBlock, grad_input: Array) -> None:
        """Give each tap the window's gradient times ``sign(x) * (|x| / norm)^(p - 1)``; 0 where the norm is 0.

        With ``norm = S * T^(1 / p)``, that is a power of T, and powers of the ratios of S from axis to axis.
        """
        input = _zero_where_uncovered(converted(input, self.dtype), block.windows, self.axes)
        levels, _, total = _reduced_levels(input, block.windows, self.axes, self.norm_type)
        # any other divisor keeps the zeros of a window of zeros
        gradient = gradient / _power(np.where(total == 0, total.dtype.type(1), total), 1 - 1 / self.norm_type)
        for level in reversed(levels):
            routed = np.zeros(level.values.shape, dtype=gradient.dtype)
            for piece in checked(pieces_of(level.windows)):
                slopes = level.powers(piece.inputs, piece.outputs, self.norm_type - 1)
                slopes *= at(gradient, level.axis, piece.outputs)
                check_cancelled()
                target = at(routed, level.axis, piece.inputs)
                target += slopes
            gradient = routed
            check_cancelled()
        gradient *= np.sign(input)
        check_cancelled()
        block.write_owned(gradient, self.axes[0], grad_input)

    def costs(self, planes: int, windows: AnyWindows) -> Costs:  # noqa: D102
        levels = level_sizes(planes, windows)
        spanned = spanned_windows(levels, windows)
        # the largest, the scale and the sum after each axis, and of one axis at a time: before it is reduced, absolute
        # values, their powers and those of the piece before; after, the root of the sum, what a piece adds, masks, and
        # gradients; of all taps of one window, sums in float64
        elements = 3 * sum(levels[1:]) + 3 * max(levels) + 6 * max(levels[1:]) + 2 * spanned
        # the input and the output, or the owned rows and the gradient, in ``dtype``
        converted = levels[0] + levels[-1]
        costs = reduction_costs(planes, windows, elements + converted, elements + levels[0] + 2 * converted)
        forward, backward = costs.forward, costs.backward["input"]
        powers = POWER * forward.work
        return Costs(
            Cost(forward.work + powers, forward.workspace_elements),
            {"input": Cost(backward.work + 2 * powers, backward.workspace_elements)},
        )

    def shared_elements(self, planes: int, windows: AnyWindows) -> int:  # noqa: ARG002
        """Nothing is shared by the blocks."""
        return 0


@dataclass(frozen=True)
class _Level:
    """One axis of a norm over windows: S before, M after, and what S is divided by in each window."""

    axis: int
    windows: Axis
    values: Array
    largest: Array
    scale: Array

    def powers(self, inputs: slice, outputs: slice, exponent: float) -> Array:
        """Return ``(S / M)^exponent`` of some taps as a new array, from 0 to 1 but where there are infinities."""
        check_cancelled()
        values, scale = at(self.values, self.axis, inputs), at(self.scale, self.axis, outputs)
        if 0 < exponent < 1:
            # their ratio may be less than the smallest number where such a power of it is not
            return _power(values, exponent) / _power(scale, exponent)
        return _power(values / scale, exponent)


def _reduced_levels(
    array: Array, windows: AnyWindows, axes: Sequence[int], norm_type: float
) -> tuple[list[_Level], Array, Array]:
    """Reduce the windows axis by axis.

    Returns
    -------
    list of _Level
        Innermost first.
    ndarray, ndarray
        S and T of each window.
    """
    levels = []
    largest = np.abs(array)
    total: Array | None = None  # T of single elements: 1
    for axis, along in innermost_first(windows, axes):
        level = _level(largest, axis, along, norm_type)
        total = _sum_of_powers(level, total, norm_type)
        levels.append(level)
        largest = level.largest
    assert total is not None  # noqa: S101  (there is an axis at least)
    return levels, largest, total


def _level(values: Array, axis: int, along: Axis, norm_type: float) -> _Level:
    check_cancelled()
    largest = reduced(np.maximum, values, axis, along, 0)
    check_cancelled()
    if norm_type <= MAX_TYPE_SCALED_BY_TWO:
        largest = _leading_bit(largest)
    # nothing is divided by 0, infinity or NaN: sums of zeros are 0 then, and those of the others infinite or NaN,
    # as M is
    scale = np.where((largest > 0) & (largest < np.inf), largest, largest.dtype.type(1))
    return _Level(axis, along, values, largest, scale)


def _leading_bit(largest: Array) -> Array:
    """Return the leading power of two of each non-negative number; 0, subnormal and non-finite ones stay."""
    integer = np.dtype(f"u{largest.itemsize}")
    exponent_bits = largest.dtype.type(np.inf).view(integer)
    power = (largest.view(integer) & exponent_bits).view(largest.dtype)
    return np.where((power > 0) & (power < np.inf), power, largest)


def _sum_of_powers(level: _Level, inner: Array | None, norm_type: float) -> Array:
    """Return T of each window, given those before the axis was reduced."""
    total = np.zeros(level.scale.shape, dtype=level.scale.dtype)
    for piece in checked(pieces_of(level.windows)):
        powers = level.powers(piece.inputs, piece.outputs, norm_type)
        if inner is not None:
            powers *= at(inner, level.axis, piece.inputs)
        if piece.spans_taps:
            powers = added(powers, level.axis, np.dtype(np.float64))
        outputs = at(total, level.axis, piece.outputs)
        np.add(outputs, powers, out=outputs, casting="same_kind")
    return total


def _power(base: Array, exponent: float) -> Array:
    """Return ``base^exponent`` as a new array, or the base itself."""
    if exponent == 0:
        return np.ones_like(base)
    if exponent == 1:
        return base
    if exponent == 0.5:
        return np.sqrt(base)
    power = np.empty_like(base)
    if exponent == 2:
        elementwise(np.square, power, base)
    else:
        elementwise(np.power, power, base, np.asarray(exponent, dtype=base.dtype))
    return power


def _zero_where_uncovered(input: Array, windows: AnyWindows, axes: Sequence[int]) -> Array:
    """Return the input with zeros where no window reaches, so that no NaN there gets into a gradient."""
    for axis, along in zip(axes, windows.axes, strict=True):
        if along.is_covered:
            continue
        reached = np.zeros(along.size, dtype=bool)
        for piece in pieces_of(along):
            reached[piece.inputs] = True
        if not reached.all():
            input = np.where(reached.reshape(-1, *(1,) * (input.ndim - 1 - axis)), input, input.dtype.type(0))
    return input
