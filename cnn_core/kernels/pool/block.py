"""A block of windows: its windows, the part of the input that they cover, and the rows of the gradient that it owns.

Along the first spatial axis windows of different blocks may overlap. Each row of the input's gradient is written by one
block, its owner, which computes all windows that reach into its rows, though other blocks compute some of these too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ...geometry import AnyWindows
from ..by_axis import at

__all__ = ["PoolBlock"]

Array = NDArray[Any]


@dataclass(frozen=True)
class PoolBlock:
    """A block of windows.

    Parameters
    ----------
    outputs, inputs : tuple of slice
        The windows, and the part of the input that they cover: of the axes before the spatial ones, and of the first of
        these.
    owned : slice
        Rows, along the first spatial axis of the input, whose gradients this block writes. Some may be outside
        ``inputs``: those that no window reaches.
    windows : AnyWindows
        Over the part of the input alone.
    """

    outputs: tuple[slice, ...]
    inputs: tuple[slice, ...]
    owned: slice
    windows: AnyWindows

    @property
    def owned_in_part(self) -> slice:
        """The owned rows, relative to the part of the input."""
        start = self.inputs[-1].start
        return slice(self.owned.start - start, self.owned.stop - start)

    @property
    def covered(self) -> slice:
        """The owned rows that are in the part of the input, relative to it."""
        owned = self.owned_in_part
        low = min(max(owned.start, 0), owned.stop)
        return slice(low, max(low, min(owned.stop, self.windows.axes[0].size)))

    def covered_rows(self, axis: int, target: Array) -> Array:
        """View those owned rows that are in the part of the input; set the others to zero.

        Parameters
        ----------
        axis : int
            The first spatial one.
        target : ndarray
            The owned rows.
        """
        covered, start = self.covered, self.owned_in_part.start
        view = at(target, axis, slice(covered.start - start, covered.stop - start))
        if view.shape != target.shape:
            target.fill(0)
        return view

    def write_owned(self, gradient: Array, axis: int, target: Array) -> None:
        """Write the owned rows, given the gradient of the whole part of the input."""
        self.covered_rows(axis, target)[...] = at(gradient, axis, self.covered)
