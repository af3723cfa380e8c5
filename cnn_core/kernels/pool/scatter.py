"""Scatter the values of windows to the elements that they cover, along one axis: the adjoint of a gather.

An element that several windows cover gets the sum of their values. The first tap that reaches an element writes it, so
that most elements need not be set to zero beforehand.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis, AxisWindows
from ..by_axis import MAX_CACHED_AXES, MAX_CACHED_PIECES, at, pieces_of
from ..passes import checked

__all__ = ["STEP_ELEMENTS", "ScatterPlan", "ScatterStep", "rows_plan", "scatter", "scatter_plan"]

Array = NDArray[Any]

STEP_ELEMENTS = 128
"""Upper bound of the memory of one step with its slices, in elements of 4 bytes."""


@dataclass(frozen=True, slots=True)
class ScatterStep:
    """One tap of some windows, or all taps of one window.

    Parameters
    ----------
    outputs, inputs : slice
        The windows, and the elements that get their values.
    adds : bool
        Whether the values are added to what earlier steps wrote.
    """

    outputs: slice
    inputs: slice
    adds: bool


@dataclass(frozen=True, slots=True)
class ScatterPlan:
    """The steps along one axis, in the order of the taps; ``rest`` must be zero before the first of them."""

    steps: tuple[ScatterStep, ...]
    rest: slice | None


def scatter_plan(along: Axis) -> ScatterPlan:
    """Return the steps to all elements of an axis."""
    if isinstance(along, AxisWindows) and not along.goes_by_window:
        return rows_plan(along, 0, along.size)
    rest = None if along.is_covered and not along.overlaps else slice(None)
    return ScatterPlan(
        tuple(ScatterStep(piece.outputs, piece.inputs, along.overlaps) for piece in pieces_of(along)), rest
    )


def rows_plan(along: AxisWindows, start: int, stop: int) -> ScatterPlan:
    """Return the steps to the elements from start to stop, which may be outside the axis; inputs count from start."""
    return (_cached_plan if along.kernel_size <= MAX_CACHED_PIECES else _plan)(along, start, stop)


def _plan(along: AxisWindows, start: int, stop: int) -> ScatterPlan:
    is_written, is_copied = np.zeros(stop - start, dtype=bool), np.zeros(stop - start, dtype=bool)
    steps = []
    for offset in checked(range(along.kernel_size)):
        tap = along.tap(offset)
        if tap is None:
            continue
        (outputs, inputs), stride = tap, along.stride
        skipped = max(0, -(-(start - inputs.start) // stride))
        count = min(outputs.stop - outputs.start, -(-(stop - inputs.start) // stride)) - skipped
        if count <= 0:
            continue
        first = inputs.start + skipped * stride - start
        elements = slice(first, first + (count - 1) * stride + 1, stride)
        adds = bool(is_written[elements].any())
        first_window = outputs.start + skipped
        steps.append(ScatterStep(slice(first_window, first_window + count), elements, adds))
        is_written[elements] = True
        is_copied[elements] |= not adds
    (rest,) = np.nonzero(~is_copied)
    return ScatterPlan(tuple(steps), slice(int(rest[0]), int(rest[-1]) + 1) if len(rest) else None)


_cached_plan = functools.lru_cache(maxsize=MAX_CACHED_AXES)(_plan)


def scatter(values: Array, axis: int, plan: ScatterPlan, target: Array) -> None:
    """Give every tap of a window the window's value, and add up where windows overlap."""
    if plan.rest is not None:
        at(target, axis, plan.rest)[...] = 0
    for step in checked(plan.steps):
        elements, of_windows = at(target, axis, step.inputs), at(values, axis, step.outputs)
        if step.adds:
            np.add(elements, of_windows, out=elements)
        else:
            np.copyto(elements, of_windows)
