"""Which elements of the input, and which taps of the kernel, an element of a result comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnn_core import ConvTranspose, Fold, MaxUnpool
from cnn_core.geometry import AxisWindows

from .layer import Layer

__all__ = ["window_of"]

MAX_LISTED = 64
"""Taps along an axis that are listed."""


def window_of(layer: Layer, name: str, index: Sequence[int]) -> dict[str, Any] | None:
    """Return what an element of a result comes from, for each spatial axis; None where there is no such thing.

    Parameters
    ----------
    layer : Layer
    name : str
        Of the result or gradient.
    index : sequence of int
        Of the element, in the layout of the result.

    Returns
    -------
    dict
        For an output, ``axes`` has for each spatial axis ``taps`` (offsets within the kernel) and ``input`` (where they
        are), as long as both, and ``padding``, the taps that are in the padding. For a gradient of the input, or the
        output of a transposed convolution, Fold or MaxUnpool, ``taps`` and ``windows``: those windows that have the
        element, and at which tap. For a gradient of the weight, ``tap`` and the range of the ``windows`` in which it
        meets the input.
    """
    if name == "grad_bias" or len(index) != layer.rank + 2:
        return None
    positions = [index[axis] for axis in (layer.kernel_axes if name == "grad_weight" else layer.spatial)]
    scatters = isinstance(layer.op, (ConvTranspose, Fold, MaxUnpool))
    by_window = (name in {"output", "indices"}) != scatters
    axes: list[dict[str, Any]] = []
    for along, position in zip(layer.windows.axes, positions, strict=True):
        if not isinstance(along, AxisWindows):
            starts, counts = along.starts(), along.counts(include_padding=False)
            if by_window:
                first, count = int(starts[position]), min(int(counts[position]), MAX_LISTED)
                axes.append({"taps": list(range(count)), "input": list(range(first, first + count)), "padding": []})
                continue
            windows = [i for i in range(along.output_size) if starts[i] <= position < starts[i] + counts[i]]
            axes.append({"windows": windows[:MAX_LISTED]})
        elif name == "grad_weight":
            axes.append(_of_tap(along, position))
        elif by_window:
            axes.append(_of_window(along, position))
        else:
            axes.append(_of_element(along, position))
    return {"axes": axes}


def _of_window(along: AxisWindows, window: int) -> dict[str, Any]:
    start = window * along.stride - along.before
    places = [(tap, start + tap * along.dilation) for tap in range(min(along.kernel_size, MAX_LISTED))]
    inside = [(tap, place) for tap, place in places if 0 <= place < along.size]
    return {
        "taps": [tap for tap, _ in inside],
        "input": [place for _, place in inside],
        "padding": [tap for tap, place in places if not 0 <= place < along.size],
    }


def _of_element(along: AxisWindows, element: int) -> dict[str, Any]:
    met = []
    for tap in range(min(along.kernel_size, MAX_LISTED)):
        window, beside = divmod(element + along.before - tap * along.dilation, along.stride)
        if not beside and 0 <= window < along.output_size:
            met.append((tap, window))
    return {"taps": [tap for tap, _ in met], "windows": [window for _, window in met]}


def _of_tap(along: AxisWindows, tap: int) -> dict[str, Any]:
    met = along.tap(tap)
    if met is None:
        return {"tap": tap, "windows": [], "input": []}
    windows, inputs = met
    return {"tap": tap, "windows": [windows.start, windows.stop - 1], "input": [inputs.start, inputs.stop - 1]}
