"""Average pooling: sums over windows divided by the number of taps, and their adjoint."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import AnyWindows, AxisWindows
from ...runtime.workspace import Workspace
from ..by_axis import (
    largest_stride_first,
    level_sizes,
    reduce_axes,
    reduction_costs,
    spanned_windows,
)
from ..cost import Costs
from ..passes import parts
from .block import PoolBlock
from .scatter import STEP_ELEMENTS, rows_plan, scatter, scatter_plan

__all__ = ["AverageKernel"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class AverageKernel:
    """Averages over windows.

    Parameters
    ----------
    axes : sequence of int
    dtype : dtype
    windows : AnyWindows
        Over the whole input.
    include_padding : bool
        Whether taps in the padding count in the divisor.
    divisor : int or None
        Divisor of every window, instead of the number of its taps.
    """

    axes: Sequence[int]
    dtype: np.dtype[Any]
    windows: AnyWindows
    include_padding: bool
    divisor: int | None

    @functools.cached_property
    def _divisors(self) -> Array:
        """The divisor of each window, in a shape that broadcasts over an image; or the one of all windows."""
        if self.divisor is not None:
            return np.asarray(self.divisor, dtype=self.dtype)
        along = [axis.counts(include_padding=self.include_padding) for axis in self.windows.axes]
        if all((counts == counts[0]).all() for counts in along):
            return np.asarray(math.prod(int(counts[0]) for counts in along), dtype=self.dtype)
        # a window is a box, so its count is the product of its counts along the axes; in float64, which does not
        # overflow where an integer would
        along = [counts.astype(np.float64) for counts in along]
        divisors = np.empty(self.windows.output_sizes, dtype=self.dtype)
        for part in parts(divisors.shape, divisors.itemsize):
            divisors[part] = functools.reduce(
                np.multiply.outer, (counts[chosen] for counts, chosen in zip(along, part, strict=True))
            )
        # channels come after the spatial axes, or before them
        return divisors[..., None] if self.axes[0] == 1 else divisors

    def _divisors_of(self, block: PoolBlock) -> Array:
        return self._divisors[block.outputs[-1]] if self._divisors.ndim else self._divisors

    def forward(self, _: Workspace, input: Array, block: PoolBlock, results: Sequence[Array]) -> None:
        """Write the average of each window's taps inside the input."""
        (target,) = results
        reduce_axes(np.add, input, largest_stride_first(block.windows, self.axes), 0, target, np.dtype(np.float64))
        np.divide(target, self._divisors_of(block), out=target)

    def backward(self, workspace: Workspace, gradient: Array, _: Array, block: PoolBlock, grad_input: Array) -> None:
        """Give every tap of a window its share of the window's gradient."""
        # the axes in the reverse order of the sums, through arrays of the same shapes
        (last_axis, last), *others = largest_stride_first(block.windows, self.axes)
        others.reverse()
        # rows that other blocks own are left out, where that is possible
        by_rows = isinstance(last, AxisWindows) and not last.goes_by_window and last_axis == self.axes[0]
        shapes = [gradient.shape]
        for axis, along in others if by_rows else [*others, (last_axis, last)]:
            shapes.append((*shapes[-1][:axis], along.size, *shapes[-1][axis + 1 :]))
        shares, *wholes = workspace.arrays(*shapes, dtype=self.dtype)
        np.divide(gradient, self._divisors_of(block), out=shares)
        for (axis, along), whole in zip(others, wholes, strict=False):
            scatter(shares, axis, scatter_plan(along), whole)
            shares = whole
        if isinstance(last, AxisWindows) and by_rows:
            owned = block.owned_in_part
            scatter(shares, last_axis, rows_plan(last, owned.start, owned.stop), grad_input)
        else:
            scatter(shares, last_axis, scatter_plan(last), wholes[-1])
            block.write_owned(wholes[-1], self.axes[0], grad_input)

    def costs(self, planes: int, windows: AnyWindows) -> Costs:  # noqa: D102
        levels = level_sizes(planes, windows)
        steps = STEP_ELEMENTS * sum(axis.piece_count for axis in windows.axes)
        # the input and the output in ``dtype``, the array after each axis, and float64 sums of all taps of one window
        forward = sum(levels) + levels[-1] + 2 * spanned_windows(levels, windows)
        # the gradient in ``dtype`` and its quotient, what each axis leaves, and the owned rows in ``dtype``
        return reduction_costs(planes, windows, forward, sum(levels) + levels[0] + 2 * levels[-1] + steps)

    def shared_elements(self, planes: int, windows: AnyWindows) -> int:  # noqa: ARG002
        """Return the elements of the divisors, in float64 and in ``dtype``, and of the counts along each axis."""
        return 4 * math.prod(windows.output_sizes) + 16 * sum(windows.output_sizes)
