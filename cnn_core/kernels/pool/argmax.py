"""Which tap of each window holds its maximum, for ordinary windows: one axis after the other, the first one first.

Along the first axis rows lie in one piece, and taps are compared as they lie there. Along each other axis the taps are
copied side by side. A tap has a number, row-major over the axes so far; of the taps along an axis that hold the maximum
the one with the smallest number is chosen, so that at last it is the first in row-major order.

For windows of many taps, those that are not at equal distances, and those that hold a NaN, ``window_maximum`` goes
through the axes in another way, which needs no numbers.

Axes in comments: A those before the axis of a level, X those after it, I elements along it, O windows along it, K taps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnn_core.geometry import AxisWindows, Windows
from cnn_core.kernels.by_axis import at, integers_of
from cnn_core.kernels.opaque import as_runs
from cnn_core.kernels.pool.argmax_by_axis import MAX_TAPS
from cnn_core.kernels.pool.blocks import PoolBlock
from cnn_core.kernels.pool.scatter import Routes, routes_of
from cnn_core.runtime.workspace import Workspace

__all__ = ["ChosenTaps", "chosen_taps"]

Array = NDArray[Any]
Needed = tuple[Sequence[int], DTypeLike]


def chosen_taps(workspace: Workspace, axes: Sequence[int], part: Array, block: PoolBlock) -> ChosenTaps | None:
    """Find the chosen taps of a block; None if this is not the way to find them.

    Parameters
    ----------
    workspace : Workspace
    axes : sequence of int
        Those of the part that are pooled.
    part : ndarray
        The block's part of the input.
    block : PoolBlock

    Returns
    -------
    ChosenTaps or None
        Valid until the next block.
    """
    windows = block.windows
    if not isinstance(windows, Windows) or math.prod(windows.kernel_sizes) > MAX_TAPS:
        return None
    found = workspace.cached(
        (ChosenTaps, block.layout, part.dtype), lambda: ChosenTaps(workspace, axes, part.shape, part.dtype, block)
    )
    return found if found.find(part, must_clear=workspace.claim(found)) else None


class ChosenTaps:
    """The chosen taps of all blocks in which windows lie alike, one block after the other.

    Views are made beforehand where they can be: between NumPy's calls a thread is to hold Python's lock as briefly as
    possible.
    """

    def __init__(
        self, workspace: Workspace, axes: Sequence[int], shape: tuple[int, ...], dtype: np.dtype[Any], block: PoolBlock
    ) -> None:
        assert isinstance(block.windows, Windows)  # noqa: S101  (else there are none)
        self._windows, self._axes = block.windows, axes
        along = self._windows.axes
        rows = block.layout.written
        routes = [routes_of(along[0], rows.start, rows.stop), *(routes_of(each, 0, each.size) for each in along[1:])]
        kind = _SideBySide if _base_tap(along[0]) is None else _InPlace
        after, needed, largest = list(shape), [], 0
        for number, (axis, each) in enumerate(zip(axes, along, strict=True)):
            before, after[axis] = list(after), each.output_size
            largest = max(largest, math.prod(after))
            needed += (_SideBySide if number else kind).needed(each.kernel_size, list(after), dtype)
            if number:
                needed.append((before, dtype))  # where its gradients go
        arrays = iter(_arrays(workspace, [((largest,), dtype), *needed]))
        spare = next(arrays)
        steps = [math.prod(self._windows.kernel_sizes[1 + number :]) for number in range(len(along))]
        self._levels: list[_Level] = [kind(axes[0], along[0], steps[0], routes[0], spare, arrays)]
        self._routed: list[Array] = []
        for axis, each, step, these in zip(axes[1:], along[1:], steps[1:], routes[1:], strict=True):
            self._levels.append(_SideBySide(axis, each, step, these, spare, arrays, self._levels[-1]))
            self._routed.append(next(arrays))

    @property
    def largest(self) -> Array:
        """The maxima."""
        return self._levels[-1].largest

    def find(self, part: Array, *, must_clear: bool) -> bool:
        """Find the taps; tell whether all maxima are numbers, which are not minus infinity."""
        for level in self._levels:
            level.find(part, must_clear=must_clear)
        # minus infinity is what stands for taps in the padding
        return bool(np.minimum.reduce(self.largest, axis=None) > -np.inf)

    def positions(self) -> list[NDArray[np.int64]]:
        """Return where in the part each window's tap lies: its index along each pooled axis."""
        chosen = self._levels[-1].chosen
        offsets = np.unravel_index(np.arange(math.prod(self._windows.kernel_sizes)), self._windows.kernel_sizes)
        positions = []
        for axis, along, offset in zip(self._axes, self._windows.axes, offsets, strict=True):
            position = np.take(offset * along.dilation, chosen, mode="clip")
            position += along.starts().reshape(-1, *(1,) * (chosen.ndim - 1 - axis))
            positions.append(position)
        return positions

    def route(self, gradient: Array, target: Array) -> None:
        """Give each window's gradient to its tap.

        Parameters
        ----------
        gradient : ndarray
            Of the type in which taps were found.
        target : ndarray
            The rows that the block writes.
        """
        rows = target if target.dtype == gradient.dtype else np.empty(target.shape, dtype=gradient.dtype)
        for level, routed in zip(self._levels[:0:-1], self._routed[::-1], strict=True):
            level.route(gradient, routed)
            gradient = routed
        self._levels[0].route(gradient, rows)
        if rows is not target:
            target[...] = rows


def _arrays(workspace: Workspace, needed: Sequence[Needed]) -> list[Array]:
    """Return arrays of several shapes and types."""
    sizes = ((math.prod(shape) * np.dtype(dtype).itemsize,) for shape, dtype in needed)
    memory = workspace.arrays(*sizes, dtype=np.uint8)
    return [array.view(dtype).reshape(shape) for array, (shape, dtype) in zip(memory, needed, strict=True)]


def _base_tap(along: AxisWindows) -> int | None:
    """Return a tap that lies inside the input in all windows, if there is one."""
    whole = slice(0, along.output_size)
    return next((number for number, outputs, _ in _taps_inside(along) if outputs == whole), None)


def _taps_inside(along: AxisWindows) -> list[tuple[int, slice, slice]]:
    """Return the number of each tap, which windows have it inside the input, and where it lies there."""
    taps = ((number, along.tap(number)) for number in range(along.kernel_size))
    return [(number, *tap) for number, tap in taps if tap is not None]


class _Level:
    """One axis: of each window along it the largest value, and the number of the chosen tap.

    Parameters
    ----------
    axis : int
    along : AxisWindows
    step : int
        From the number of a tap to that of the next one: the taps of a window along the axes after this one.
    routes : Routes
        From windows to elements.
    spare : ndarray
        Memory of one axis, and as many elements as the results of any level.
    arrays : iterator of ndarray
        As ``needed`` has them.
    """

    def __init__(
        self, axis: int, along: AxisWindows, step: int, routes: Routes, spare: Array, arrays: Iterator[Array]
    ) -> None:
        self._axis, self._along, self._routes = axis, along, routes
        self.largest: Array = next(arrays)
        """Of each window, (A, O, X)."""
        self.chosen: NDArray[np.uint8] = next(arrays)
        """The numbers of the chosen taps, (A, O, X)."""
        numbers = step * np.arange(along.kernel_size, dtype=np.uint8)
        self._numbers: NDArray[np.uint8] = numbers.reshape(-1, *(1,) * self.largest.ndim)
        # (K, A, O, X)
        self._equal: NDArray[np.uint8] = next(arrays)
        self._is_equal = self._equal.view(np.bool_)
        values = spare[: self.largest.size].reshape(self.largest.shape)
        # of each tap: where it is the chosen one, and memory for what it gets
        self._copies, self._additions = (
            [
                (route, at(self._is_equal[route.number], axis, route.outputs), at(values, axis, route.outputs))
                for route in these
            ]
            for these in (routes.copied, routes.added)
        )

    @staticmethod
    def needed(taps: int, after: Sequence[int], dtype: np.dtype[Any]) -> list[Needed]:
        """Return the shapes and types of the arrays of a level, given that of its results."""
        return [(after, dtype), (after, np.uint8), ((taps, *after), np.uint8)]

    def find(self, part: Array, *, must_clear: bool) -> None:
        """Find the chosen taps of a part of the input, or of what the level before has found."""
        raise NotImplementedError

    def _find_chosen(self) -> None:
        """Set ``_equal`` where a tap is the chosen one."""
        raise NotImplementedError

    def route(self, gradient: Array, target: Array) -> None:
        """Give each window's gradient (A, O, X) to its tap, among the elements that are written."""
        self._find_chosen()
        axis, bits = self._axis, integers_of(gradient)
        if self._routes.rest is not None:
            at(target, axis, self._routes.rest).fill(0)
        # as integers, of which one times is themselves and zero times is zero whatever they mean as floating numbers
        for route, is_chosen, values in self._copies:
            np.multiply(is_chosen, at(bits, axis, route.outputs), out=integers_of(values))
            # faster than writing it there at once: copies do not read first what they write
            np.copyto(*as_runs(at(target, axis, route.place), values))
        for route, is_chosen, values in self._additions:
            place = at(target, axis, route.place)
            np.multiply(is_chosen, at(bits, axis, route.outputs), out=integers_of(values))
            np.add(place, values, out=place)


class _InPlace(_Level):
    """The first axis, whose taps are compared as they lie in the part."""

    def __init__(
        self, axis: int, along: AxisWindows, step: int, routes: Routes, spare: Array, arrays: Iterator[Array]
    ) -> None:
        super().__init__(axis, along, step, routes, spare, arrays)
        base = _base_tap(along)
        assert base is not None  # noqa: S101  (else they are laid side by side)
        found = _taps_inside(along)
        self._base = np.uint8(step * base)
        self._base_inputs = next(inputs for number, _, inputs in found if number == base)
        # (number, inputs, largest, chosen, better)
        views = [
            (
                np.uint8(step * number),
                inputs,
                at(self.largest, axis, outputs),
                at(self.chosen, axis, outputs),
                at(self._equal[0], axis, outputs),
            )
            for number, outputs, inputs in found
        ]
        self._after = [view for view in views if view[0] > self._base]
        self._ahead = [view for view in views if view[0] < self._base][::-1]

    def find(self, part: Array, *, must_clear: bool) -> None:  # noqa: ARG002
        """Find the chosen taps of a part of the input, (A, I, X)."""
        base = at(part, self._axis, self._base_inputs)
        after = self._after
        if after and after[0][2].shape == self.largest.shape:
            number, inputs, largest, chosen, _ = after[0]
            values, after = at(part, self._axis, inputs), after[1:]
            np.greater(values, base, out=chosen.view(np.bool_))
            np.maximum(base, values, out=largest)
            if number > 1:
                np.multiply(chosen, number - self._base, out=chosen)
                np.add(chosen, self._base, out=chosen)
        else:
            np.copyto(self.largest, base)
            self.chosen.fill(self._base)
        for number, inputs, largest, chosen, better in after:
            values = at(part, self._axis, inputs)
            # of those that are larger than all before them, the last one is the largest
            np.greater(values, largest, out=better.view(np.bool_))
            np.maximum(largest, values, out=largest)
            np.multiply(better, number, out=better)
            np.maximum(chosen, better, out=chosen)
        for number, inputs, largest, chosen, better in self._ahead:
            values = at(part, self._axis, inputs)
            np.greater_equal(values, largest, out=better.view(np.bool_))
            np.maximum(largest, values, out=largest)
            # 255 for one that is not better
            np.subtract(better, 1, out=better)
            np.bitwise_or(better, number, out=better)
            np.minimum(chosen, better, out=chosen)

    def _find_chosen(self) -> None:
        np.equal(self.chosen, self._numbers, out=self._is_equal)


class _SideBySide(_Level):
    """An axis whose taps are copied side by side, from the part or from what the level before has found."""

    def __init__(
        self,
        axis: int,
        along: AxisWindows,
        step: int,
        routes: Routes,
        spare: Array,
        arrays: Iterator[Array],
        previous: _Level | None = None,
    ) -> None:
        super().__init__(axis, along, step, routes, spare, arrays)
        self._values, self._taken = next(arrays), next(arrays)
        self._taps, whole = _taps_inside(along), slice(0, along.output_size)
        inside = sum(outputs == whole for _, outputs, _ in self._taps)
        self._has_padding, self._is_next = inside < along.kernel_size, previous is not None
        self._of_values: list[tuple[Array, Array]] = []
        self._of_numbers: list[tuple[Array, Array, Array]] = []
        if previous is not None:
            self._of_values = [as_runs(*pair[:2]) for pair in self._gathering(self._values, previous.largest)]
            self._of_numbers = list(self._gathering(self._taken, previous.chosen))

    @staticmethod
    def needed(taps: int, after: Sequence[int], dtype: np.dtype[Any]) -> list[Needed]:
        """Return the shapes and types of the arrays of a level, given that of its results."""
        return [*_Level.needed(taps, after, dtype), ((taps, *after), dtype), ((taps, *after), np.uint8)]

    def _gathering(self, target: Array, source: Array) -> Iterator[tuple[Array, Array, Array]]:
        """Yield what is copied from where, so that taps (A, I, X) are side by side, (K, A, O, X), and their numbers."""
        if not self._has_padding:
            yield target, Windows((self._along,)).taps_first(source, (self._axis,)), self._numbers
            return
        for number, outputs, inputs in self._taps:
            yield at(target[number], self._axis, outputs), at(source, self._axis, inputs), self._numbers[number]

    def find(self, part: Array, *, must_clear: bool) -> None:
        """Find the chosen taps among those of the level before, or of a part of the input."""
        if must_clear and self._has_padding:
            self._values.fill(-np.inf)
            self._taken.fill(0)
        if self._is_next:
            for target, source in self._of_values:
                np.copyto(target, source)
            for target, source, number in self._of_numbers:
                np.add(source, number, out=target)
        else:
            for target, source, _ in self._gathering(self._values, part):
                np.copyto(target, source)
            np.copyto(self._taken, self._numbers)
        np.maximum.reduce(self._values, axis=0, out=self.largest)
        np.equal(self._values, self.largest, out=self._is_equal)
        # 255 for a tap that does not equal the maximum
        np.subtract(self._equal, 1, out=self._equal)
        np.bitwise_or(self._taken, self._equal, out=self._taken)
        np.minimum.reduce(self._taken, axis=0, out=self.chosen)

    def _find_chosen(self) -> None:
        np.equal(self._taken, self.chosen, out=self._is_equal)
