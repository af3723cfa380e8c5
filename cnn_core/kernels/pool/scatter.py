"""The way back from windows to the elements that they cover, along one axis: what is written, and what is added."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.geometry import Axis, AxisWindows
from cnn_core.kernels.by_axis import at

__all__ = ["Routes", "TapRoute", "routes_by_tap", "routes_of", "spread"]

Array = NDArray[Any]

MAX_KEPT = 512


@dataclass(frozen=True)
class TapRoute:
    """One tap: its number, the windows that have it in the elements that are written, and in which of these."""

    number: int
    outputs: slice
    place: slice


@dataclass(frozen=True)
class Routes:
    """All taps: those whose elements no tap before them has are copied, others added; the rest of the elements is 0."""

    copied: tuple[TapRoute, ...]
    added: tuple[TapRoute, ...]
    rest: slice | None


@functools.lru_cache(maxsize=MAX_KEPT)
def routes_of(along: AxisWindows, start: int, stop: int) -> Routes:
    """Return the routes to the elements from start to stop, which may be more than the axis has.

    The places are relative to the start.
    """
    written = np.zeros(stop - start, dtype=bool)
    copied: list[TapRoute] = []
    added: list[TapRoute] = []
    for number in range(along.kernel_size):
        tap = along.tap(number)
        if tap is None:
            continue
        (outputs, inputs), step = tap, along.stride
        skipped = max(0, -(-(start - inputs.start) // step))
        count = min(outputs.stop - outputs.start, -(-(stop - inputs.start) // step)) - skipped
        if count <= 0:
            continue
        first = inputs.start + skipped * step - start
        place = slice(first, first + (count - 1) * step + 1, step)
        windows = slice(outputs.start + skipped, outputs.start + skipped + count)
        (added if written[place].any() else copied).append(TapRoute(number, windows, place))
        written[place] = True
    # those that are added need something to be added to
    written[...] = False
    for route in copied:
        written[route.place] = True
    (rest,) = np.nonzero(~written)
    return Routes(tuple(copied), tuple(added), slice(int(rest[0]), int(rest[-1]) + 1) if len(rest) else None)


def routes_by_tap(along: Axis, start: int, stop: int) -> Routes | None:
    """Return ``routes_of`` ordinary windows; None of others, and of so few that their taps are more."""
    if not isinstance(along, AxisWindows) or along.goes_by_window:
        return None
    return routes_of(along, start, stop)


def spread(values: Array, axis: int, routes: Routes, target: Array) -> None:
    """Give every tap of a window the window's value, and add up where windows overlap."""
    if routes.rest is not None:
        # what else is in it is written after this
        at(target, axis, routes.rest)[...] = 0
    for route in routes.copied:
        at(target, axis, route.place)[...] = at(values, axis, route.outputs)
    for route in routes.added:
        place = at(target, axis, route.place)
        np.add(place, at(values, axis, route.outputs), out=place)
