"""Mistakes in what is around the input: padding that is kept or filled, and windows that start elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvTranspose, MaxPool
from cnn_core.geometry import Windows

from ..layer import Layer, Reading, Scenario
from .hypothesis import CONVOLUTION, Hypothesis, Variant, rule

__all__ = ["PADDINGS"]

Array = NDArray[Any]


def _zeros_in_padding(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if not isinstance(layer.op, MaxPool) or windows is None or not any(map(any, windows.padding)):
        return
    if layer.has_room_for_padded(windows):
        yield Variant(_padded(layer, windows, cropped=True))


def _kept_padding(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if windows is None or not any(map(any, windows.padding)) or "padding" not in vars(layer.op):
        return
    if isinstance(layer.op, ConvTranspose) or layer.tensors["input"].ndim != layer.rank + 2:
        return
    if layer.has_room_for_padded(windows):
        yield Variant(_padded(layer, windows, cropped=False), "from its start")
        yield Variant(_padded(layer, windows, cropped=None), "as a whole")


def _padded(layer: Layer, windows: Windows, *, cropped: bool | None) -> Scenario:
    """Pad with zeros first; the gradient of the padded input is cropped, taken from its start, or (None) kept."""
    pads = [(0, 0)] * (layer.rank + 2)
    whole = [slice(None)] * (layer.rank + 2)
    for axis, along in zip(layer.spatial, windows.axes, strict=True):
        # as much as the last window needs, with ceil_mode
        pads[axis] = (along.before, max(along.after, along.reach - along.before - along.size))
        first = along.before if cropped else 0
        whole[axis] = slice(None) if cropped is None else slice(first, first + along.size)
    outside = -np.inf if isinstance(layer.op, MaxPool) and cropped is not True else 0.0
    reading = Reading(
        "input", lambda array: np.pad(array, pads, constant_values=outside), lambda array: array[tuple(whole)]
    )
    changes: dict[str, Any] = {"padding": ((0, 0),) * layer.rank}
    if "ceil_mode" in vars(layer.op):
        changes["ceil_mode"] = False
    return Scenario(changes, (reading,))


def _edge_repeated(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if windows is None or getattr(layer.op, "padding_mode", "zeros") != "reflect":
        return
    if layer.has_room_for_padded(windows):
        pads = [(0, 0)] * (layer.rank + 2)
        for axis, pair in zip(layer.spatial, windows.padding, strict=True):
            pads[axis] = pair
        reading = Reading("input", lambda array: np.pad(array, pads, mode="symmetric"), lambda array: array)
        yield Variant(Scenario({"padding": ((0, 0),) * layer.rank, "padding_mode": "zeros"}, (reading,)))


def _starting_elsewhere(layer: Layer) -> Iterator[Variant]:
    """Start windows one element later, or earlier, where the padding alone cannot say so: an end is not read."""
    windows = layer.regular_windows
    if windows is None or "padding" not in vars(layer.op) or layer.tensors["input"].ndim != layer.rank + 2:
        return
    if isinstance(layer.op, ConvTranspose):
        return
    for count in range(1, layer.rank + 1):
        for axes in itertools.combinations(range(layer.rank), count):
            if any(windows.axes[axis].size < 2 for axis in axes):
                continue
            for text, step in (("late", -1), ("early", 1)):
                pads, cuts = [], [(0, 0)] * (layer.rank + 2)
                for axis, (before, after) in enumerate(windows.padding):
                    moved = step if axis in axes else 0
                    pads.append((max(0, before + moved), max(0, after - moved)))
                    cuts[layer.spatial[axis]] = (int(before + moved < 0), int(after - moved < 0))
                if any(map(any, cuts)):
                    yield Variant(Scenario({"padding": tuple(pads)}, (_without_ends("input", cuts),)), text)


def _without_ends(name: str, cuts: Sequence[tuple[int, int]]) -> Reading:
    def read(array: Array) -> Array:
        return array[tuple(slice(start, size - stop) for size, (start, stop) in zip(array.shape, cuts, strict=True))]

    return Reading(name, read, lambda array: np.pad(array, cuts))


PADDINGS = (
    Hypothesis(
        "max_over_zero_padding",
        "The zeros of the padding take part in the maximum: the padding counts as minus infinity.",
        rule("max-pooling"),
        _zeros_in_padding,
    ),
    Hypothesis(
        "padding_gradient_kept",
        "The gradient of the padded input is returned {}, where that of the padding must be cut off.",
        CONVOLUTION,
        _kept_padding,
        about="grad_input",
    ),
    Hypothesis(
        "padding_mode",
        "The reflected padding repeats the edge (symmetric): the mirror is the edge itself.",
        rule("padding-modes"),
        _edge_repeated,
    ),
    Hypothesis("shifted_by_one", "Every window starts one element too {}.", CONVOLUTION, _starting_elsewhere),
)
