"""Max pooling: the maxima of windows, their positions, and the gradient, which goes to the taps that hold them.

The gradient needs the argmax again. A level reduces the windows along one axis, the last axis first, or along all axes
at once where windows do not overlap, so that no element is read twice. In each level a tap is compared with the maximum
of its window, and the first one that equals it is the argmax; over all levels that is the first in row-major order.
A window that holds a NaN has one as its maximum, and the last NaN is its argmax, as in PyTorch.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...geometry import AnyWindows, Axis
from ...runtime.cancellation import check_cancelled
from ...runtime.workspace import Workspace
from ..by_axis import (
    at,
    innermost_first,
    largest_stride_first,
    level_sizes,
    reduce_axes,
    reduction_costs,
    spanned_windows,
)
from ..cost import Cost, Costs
from ..opaque import as_runs
from ..passes import checked, converted
from .block import PoolBlock
from .scatter import STEP_ELEMENTS, scatter_plan

__all__ = ["MaxKernel", "ResolvedTies"]

Array = NDArray[Any]
ResolvedTies = Literal["first", "all", "split"]
Index = tuple[slice, ...]

MAX_CACHED_PLANS = 128
"""The steps of so many levels are cached for the next call, unless a window has more than MAX_JOINT_TAPS taps."""

MAX_JOINT_TAPS = 64
"""Windows of more taps are reduced one axis after the other even where they do not overlap, in fewer NumPy calls."""


MAX_SHORT_RUN_BYTES, MIN_COPIED_BYTES = 32, 2**15
"""Channels of at most so many bytes, in an array of at least so many, are not worth a loop of NumPy's for each run."""


@dataclass(frozen=True)
class MaxKernel:
    """Maxima over windows, each with a tap inside the input; padding never wins, and NaN always does.

    Parameters
    ----------
    axes : sequence of int
    dtype : dtype
    ties : {"first", "all", "split"}
        Which of the taps that hold a maximum get its gradient.
    with_indices : bool
        Whether there is a second result: the row-major index of each argmax in the spatial plane.
    """

    axes: Sequence[int]
    dtype: np.dtype[Any]
    ties: ResolvedTies
    with_indices: bool

    def forward(self, workspace: Workspace, input: Array, block: PoolBlock, results: Sequence[Array]) -> None:
        """Write the maximum of each window, and its index."""
        if not self.with_indices:
            reduce_axes(np.maximum, input, largest_stride_first(block.windows, self.axes), -np.inf, results[0])
            return
        levels = _levels(workspace, input, block.windows, self.axes)
        plane = block.windows.sizes
        start = block.inputs[-1].start * math.prod(plane[1:])
        indices = np.arange(start, start + math.prod(plane)).reshape(self._plane_shape(input))
        for level in levels:
            indices = level.gather(indices, only_first=True)
        results[0][...], results[1][...] = levels[-1].largest, indices

    def backward(
        self, workspace: Workspace, gradient: Array, input: Array, block: PoolBlock, grad_input: Array
    ) -> None:
        """Give the gradient of each window to the first of the taps that hold its maximum, or to all of them."""
        levels = _levels(workspace, converted(input, self.dtype), block.windows, self.axes)
        if self.ties == "split":
            counts = np.ones(self._plane_shape(input), dtype=self.dtype)
            for level in levels:
                counts = level.gather(counts, only_first=False)
            gradient = gradient / counts
        axis, only_first = self.axes[0], self.ties == "first"
        target = block.covered_rows(axis, grad_input)
        *inner, outermost = levels
        if inner:
            gradient = at(outermost.scatter(gradient, only_first=only_first), axis, block.covered)
            # along the other axes only the rows that the block owns are needed
            innermost, *between = (level.rows(axis, block.covered) for level in inner)
            for level in reversed(between):
                gradient = level.scatter(gradient, only_first=only_first)
            innermost.scatter(gradient, target, only_first=only_first)
        elif target.shape == input.shape:
            outermost.scatter(gradient, target, only_first=only_first)
        else:
            target[...] = at(outermost.scatter(gradient, only_first=only_first), axis, block.covered)

    def _plane_shape(self, input: Array) -> tuple[int, ...]:
        """Return the shape of an array that has values for each position in the plane, for all images and channels."""
        return tuple(size if axis in self.axes else 1 for axis, size in enumerate(input.shape))

    def costs(self, planes: int, windows: AnyWindows) -> Costs:  # noqa: D102
        levels = level_sizes(planes, windows)
        before, after = max(levels), max(levels[1:])
        spanned = spanned_windows(levels, windows)
        # the operands and the result in ``dtype``
        converted = 2 * levels[0] + levels[-1]
        # maxima after each axis, those that are reduced on the way there, and of one axis at a time two masks of a byte
        # for each window; where a piece is all taps of one window, masks of these taps, and the offset of one
        argmax = 2 * sum(levels[1:]) + after // 2 + STEP_ELEMENTS * sum(axis.piece_count for axis in windows.axes)
        argmax += before + 5 * spanned if spanned else 0
        # before and after one axis the gradient, or the number of taps in a tie, and what one tap adds to it
        routed = 2 * before + 2 * after
        forward = levels[0] + sum(levels) + spanned + levels[-1]
        costs = reduction_costs(planes, windows, forward, converted + argmax + routed)
        if not self.with_indices:
            return costs
        # indices in 64 bits before and after one axis, and what one tap adds
        indices = 2 * math.prod(windows.sizes) + 6 * after + (2 * before if spanned else 0)
        return Costs(Cost(costs.backward["input"].work, converted + argmax + indices), costs.backward)

    def shared_elements(self, planes: int, windows: AnyWindows) -> int:
        """Return the elements of the indices in the plane, in 64 bits, and of what encoding them takes."""
        return 6 * planes * math.prod(windows.output_sizes) if self.with_indices else 0


def _levels(workspace: Workspace, input: Array, windows: AnyWindows, axes: Sequence[int]) -> list[ArgmaxLevel]:
    """Reduce the windows to their maxima, the innermost level first."""
    taps = math.prod(along.piece_count for along in windows.axes)
    is_joint = taps <= MAX_JOINT_TAPS and not any(along.overlaps or along.goes_by_window for along in windows.axes)
    each_axis = [(axis, (along,)) for axis, along in innermost_first(windows, axes)]
    parts = [(axes[0], windows.axes)] if is_joint else each_axis
    shapes = [input.shape]
    for axis, along in parts:
        outputs = (each.output_size for each in along)
        shapes.append((*shapes[-1][:axis], *outputs, *shapes[-1][axis + len(along) :]))
    most = max(map(math.prod, shapes[1:]))
    scratch, masks, *arrays = workspace.arrays(
        (most,), (-(-2 * most // input.itemsize),), *shapes[1:], *shapes[1:-1], dtype=input.dtype
    )
    levels, values = [], input
    for position, (axis, along) in enumerate(parts):
        pairs = largest_stride_first(AnyWindows(along), range(axis, axis + len(along)))
        reduce_axes(np.maximum, values, pairs, -np.inf, arrays[position])
        routed = arrays[len(parts) + position - 1] if position else None
        levels.append(ArgmaxLevel(axis, along, values, arrays[position], scratch, masks.view(bool), routed))
        values = arrays[position]
    # the maximum of a NaN and others is NaN
    if np.isnan(np.maximum.reduce(values, axis=None, initial=-np.inf)):
        levels = [dataclasses.replace(level, has_nan=True) for level in levels]
    return levels


@dataclass(frozen=True)
class ArgmaxLevel:
    """A reduction of windows to their maxima, along one axis or several.

    Parameters
    ----------
    axis : int
        The first one.
    windows : tuple of Axis
    values, largest : ndarray
        What is reduced, and the maxima.
    scratch, masks : ndarray of one axis
        Memory for an element, and for two masks, of each window.
    routed : ndarray, optional
        Memory for the gradient of the values.
    has_nan : bool
        Whether some of the maxima may be NaN.
    """

    axis: int
    windows: tuple[Axis, ...]
    values: Array
    largest: Array
    scratch: Array
    masks: NDArray[np.bool_]
    routed: Array | None
    has_nan: bool = False

    def rows(self, axis: int, rows: slice) -> ArgmaxLevel:
        """Restrict to some rows along an axis that is not reduced here."""
        values, largest = at(self.values, axis, rows), at(self.largest, axis, rows)
        return dataclasses.replace(self, values=values, largest=largest)

    def gather(self, source: Array, *, only_first: bool) -> Array:
        """Return for each window the value of its argmax, or the sum over all taps that hold its maximum.

        Parameters
        ----------
        source : ndarray
            A value for each element, in a shape that broadcasts over them.
        only_first : bool
        """
        result = np.zeros(self.largest.shape, dtype=source.dtype)
        for step, mask in self._selected(only_first=only_first):
            values = (mask[step.outputs] if step.is_dense else mask) * source[step.inputs]
            selected = result[step.outputs]
            selected += values if values.shape == selected.shape else values.sum(axis=self.axis, keepdims=True)
        return result

    def scatter(self, gradient: Array, target: Array | None = None, *, only_first: bool) -> Array:
        """Give the gradient of each window to its argmax, or to all taps that hold its maximum; all others get 0."""
        if target is None:
            target = np.empty_like(self.values) if self.routed is None else _shaped(self.routed, self.values.shape)
        plan = _plan(self.axis, self.windows)
        if plan.rest is not None:
            target[plan.rest].fill(0)
        memory, bits = _shaped(self.scratch, self.largest.shape), _bits(gradient)
        is_direct = target.shape[-1] * target.itemsize > MAX_SHORT_RUN_BYTES or target.nbytes < MIN_COPIED_BYTES
        for step, mask in self._selected(only_first=only_first):
            elements = target[step.inputs]
            # as integers, so that 0 times infinity is 0, and 1 times NaN keeps its bits
            if not step.adds and is_direct:
                np.multiply(mask[step.outputs] if step.is_dense else mask, bits[step.outputs], out=_bits(elements))
                continue
            region = () if step.is_dense else step.outputs
            values = memory[region] if memory[region].shape == mask.shape else np.empty(mask.shape, gradient.dtype)
            np.multiply(mask, bits[region], out=_bits(values))
            of_step = values[step.outputs] if step.is_dense else values
            if step.adds:
                np.add(elements, of_step, out=elements)
            else:
                np.copyto(*as_runs(elements, of_step))
        return target

    def _selected(self, *, only_first: bool) -> Iterator[tuple[_Step, NDArray[np.uint8]]]:
        """Yield which taps are the argmax of their window, or hold its maximum, step by step.

        Yields
        ------
        _Step
        mask : ndarray of uint8
            1 where a tap is selected: of all windows for a dense step, else of those of the step, or of all taps of its
            one window. Valid until the next step.
        """
        steps = _plan(self.axis, self.windows).steps
        # a window is open until its argmax is found
        memory, is_open = _shaped(self.masks, (2, *self.largest.shape))
        is_open.fill(True)
        for step in checked(steps):
            is_last = step is steps[-1] and not self.has_nan
            yield step, self._mask(step, memory, is_open, only_first=only_first, is_last=is_last)
        if self.has_nan:
            np.not_equal(self.largest, self.largest, out=is_open)  # where they are NaN
            for step in checked(reversed(steps)):
                mask = self._mask(step, memory, is_open, only_first=only_first, of_nan=True)
                yield dataclasses.replace(step, adds=True), mask

    def _mask(
        self,
        step: _Step,
        memory: NDArray[np.bool_],
        is_open: NDArray[np.bool_],
        *,
        only_first: bool,
        is_last: bool = False,
        of_nan: bool = False,
    ) -> NDArray[np.uint8]:
        values, largest = self.values[step.inputs], self.largest[step.outputs]
        if values.shape != largest.shape:
            return self._mask_of_window(values, largest, is_open[step.outputs], only_first=only_first, of_nan=of_nan)
        region = () if step.is_dense else step.outputs
        mask, is_open = memory[region], is_open[region]
        if is_last and only_first:  # no other tap is left for the windows that are open
            return is_open.view(np.uint8)
        if step.is_dense and not step.is_whole:
            mask.fill(False)
        if of_nan:
            np.not_equal(values, values, out=memory[step.outputs])  # np.isnan of NumPy 2.4 fails for a strided ``out``
        else:
            np.equal(values, largest, out=memory[step.outputs])
        if only_first or of_nan:
            np.logical_and(mask, is_open, out=mask)
        if only_first:
            np.not_equal(is_open, mask, out=is_open)
        return mask.view(np.uint8)

    def _mask_of_window(
        self, values: Array, largest: Array, is_open: NDArray[np.bool_], *, only_first: bool, of_nan: bool
    ) -> NDArray[np.uint8]:
        mask: NDArray[np.bool_] = np.isnan(values) if of_nan else values == largest
        np.logical_and(mask, is_open, out=mask)
        check_cancelled()
        if only_first:
            taps = np.arange(mask.shape[self.axis]).reshape(-1, *(1,) * (mask.ndim - 1 - self.axis))
            first = (np.flip(mask, self.axis) if of_nan else mask).argmax(axis=self.axis, keepdims=True)
            check_cancelled()
            np.logical_and(mask, taps == (len(taps) - 1 - first if of_nan else first), out=mask)
            check_cancelled()
        return mask.view(np.uint8)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of scattering along all axes of a level.

    Parameters
    ----------
    inputs, outputs : tuple of slice
    adds : bool
    is_dense, is_whole : bool
        Whether the windows are so many that masks are of all windows, in contiguous memory; whether they are all.
    """

    inputs: Index
    outputs: Index
    adds: bool
    is_dense: bool
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    steps: tuple[_Step, ...]
    rest: Index | None


def _plan(axis: int, windows: tuple[Axis, ...]) -> _Plan:
    """Return the steps of a level in the order of the taps."""
    is_kept = math.prod(along.piece_count for along in windows) <= MAX_JOINT_TAPS
    return (_cached_plan if is_kept else _made_plan)(axis, windows)


def _made_plan(axis: int, windows: tuple[Axis, ...]) -> _Plan:
    ahead = (slice(None),) * axis
    plans = [scatter_plan(along) for along in windows]
    steps = []
    for combined in checked(itertools.product(*(plan.steps for plan in plans))):
        chosen = [range(along.output_size)[step.outputs] for step, along in zip(combined, windows, strict=True)]
        share = math.prod(len(part) / along.output_size for part, along in zip(chosen, windows, strict=True))
        steps.append(
            _Step(
                (*ahead, *(step.inputs for step in combined)),
                (*ahead, *(step.outputs for step in combined)),
                any(step.adds for step in combined),
                share > 0.5 and not any(along.goes_by_window for along in windows),
                share == 1,
            )
        )
    rests = [plan.rest for plan in plans]
    if len(rests) > 1 and any(rest is not None for rest in rests):
        rests = [slice(None)]
    return _Plan(tuple(steps), None if rests[0] is None else (*ahead, rests[0]))


_cached_plan = functools.lru_cache(maxsize=MAX_CACHED_PLANS)(_made_plan)


def _shaped(memory: Array, shape: tuple[int, ...]) -> Array:
    return memory.reshape(-1)[: math.prod(shape)].reshape(shape)


def _bits(values: Array) -> Array:
    """View floating numbers as integers of their size."""
    return values.view(f"i{values.itemsize}")
