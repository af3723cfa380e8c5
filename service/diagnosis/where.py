"""Where errors are: in one row or channel, at the border, at every second position, or everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .layer import Layer

__all__ = ["Where", "axis_names", "where_errors_are"]

Mask = NDArray[np.bool_]

MAX_LISTED = 8
"""Positions along an axis that are listed one by one."""


class Where(NamedTuple):
    """The pattern of the wrong elements, and what it is in a sentence."""

    pattern: str
    sentence: str


def axis_names(layer: Layer, name: str, ndim: int) -> list[str]:
    """Return what the axes of a result are called, in its own order."""
    spatial = {1: ["position"], 2: ["row", "column"], 3: ["plane", "row", "column"]}[layer.rank]
    if name == "grad_weight" and ndim == layer.rank + 2:
        taps = [f"kernel {axis}" for axis in spatial]
        return (
            [*taps, "input channel", "output channel"]
            if layer.is_channels_last
            else ["output channel", "input channel", *taps]
        )
    if name == "grad_bias" or ndim == 1:
        return [f"axis {axis}" for axis in range(ndim - 1)] + ["output channel"]
    if ndim == layer.rank + 2:
        return ["image", *spatial, "channel"] if layer.is_channels_last else ["image", "channel", *spatial]
    return [f"axis {axis}" for axis in range(ndim)]


def where_errors_are(layer: Layer, name: str, wrong: Mask) -> Where:
    """Return the pattern of the wrong elements of a tensor, of which there is at least one."""
    names = axis_names(layer, name, wrong.ndim)
    if wrong.all():
        return Where("all", "Every element is off.")
    limited = list(_limited_axes(wrong, names))
    outside = wrong.copy()
    if limited:
        selection = np.ix_(*(_positions(wrong, axis) for axis in range(wrong.ndim)))
        if wrong[selection].all():
            outside[selection] = False
        text = " and ".join(part.sentence for part in limited)
        complete = not outside.any()
        pattern = limited[0].pattern if len(limited) == 1 else "block"
        sentence = (
            f"All and only the elements {text} are off." if complete else f"Errors are only among the elements {text}."
        )
        return Where(pattern, sentence)
    border = _border(layer, name, wrong.shape)
    if border is not None and border.any() and not border.all():
        if np.array_equal(wrong, border & wrong) and wrong[border].mean() > 0.5:
            complete = bool(wrong[border].all())
            which = "All and only" if complete else "Only"
            return Where("border", f"{which} elements at the border, whose windows reach into the padding, are off.")
        if not wrong[border].any():
            return Where("interior", "Only elements whose windows lie inside the input are off; the border is right.")
    share = float(wrong.mean())
    if share > 0.9:
        return Where("nearly_all", f"{share:.1%} of the elements are off, in no pattern of rows, columns or channels.")
    return Where("scattered", f"{share:.1%} of the elements are off, in no pattern of rows, columns or channels.")


def _positions(wrong: Mask, axis: int) -> NDArray[np.intp]:
    others = tuple(other for other in range(wrong.ndim) if other != axis)
    return np.flatnonzero(wrong.any(axis=others))


def _limited_axes(wrong: Mask, names: Sequence[str]) -> Iterator[Where]:
    """Yield for each axis along which only some positions have errors which these are."""
    for axis, name in enumerate(names):
        positions = _positions(wrong, axis).tolist()
        if len(positions) < wrong.shape[axis]:
            yield (
                _one(name, wrong.shape[axis], positions[0])
                if len(positions) == 1
                else _some(name, wrong.shape[axis], positions)
            )


def _one(name: str, size: int, position: int) -> Where:
    slug = name.replace(" ", "_")
    if position == size - 1:
        return Where(f"last_{slug}", f"in the last {name}")
    if position == 0:
        return Where(f"first_{slug}", f"in the first {name}")
    return Where(f"one_{slug}", f"in {name} {position}")


def _some(name: str, size: int, positions: list[int]) -> Where:
    slug, first, last, count = name.replace(" ", "_"), positions[0], positions[-1], len(positions)
    step = positions[1] - first
    if positions == list(range(first, last + 1)):
        if last == size - 1:
            return Where(f"all_but_first_{slug}", f"in all but the first {_counted(first, name)}")
        if first > 0:
            return Where(f"some_{slug}s", f"in {name}s {first} to {last}")
        if size - count < count:
            return Where(f"all_but_last_{slug}", f"in all but the last {_counted(size - count, name)}")
        return Where(f"first_{slug}s", f"in the first {count} {name}s")
    if count > 2 and positions == list(range(first, last + 1, step)):
        return Where(f"every_kth_{slug}", f"in every {_ordinal(step)} {name}, from {first} on")
    if positions == [0, size - 1]:
        return Where(f"outer_{slug}s", f"in the first and the last {name}")
    listed = ", ".join(map(str, positions[:MAX_LISTED])) + (", ..." if count > MAX_LISTED else "")
    return Where(f"some_{slug}s", f"in {name}s {listed}")


def _counted(count: int, name: str) -> str:
    return name if count == 1 else f"{count} {name}s"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _border(layer: Layer, name: str, shape: tuple[int, ...]) -> Any:
    """Return which outputs have windows that reach into the padding; None for another tensor."""
    windows = layer.regular_windows
    if name not in {"output", "indices"} or windows is None or shape != layer.resolved.output_shape:
        return None
    if len(shape) != 2 + len(windows.axes):  # unfold has all windows along one axis
        return None
    if windows.output_sizes != tuple(shape[axis] for axis in layer.spatial):  # a transposed convolution
        return None
    border = np.zeros(shape, dtype=bool)
    for axis, along in zip(layer.spatial, windows.axes, strict=True):
        inside = (along.starts() >= 0) & (along.starts() + along.extent <= along.size)
        border |= ~inside.reshape(-1, *(1,) * (len(shape) - 1 - axis))
    return border
