"""Mistakes in the loop itself: what is computed window by window, or tap by tap, with an assignment for a sum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import AvgPool, ConvTranspose, LpPool, MaxPool, Unfold
from cnn_core.geometry import Windows
from cnn_core.operands import channels_last_view
from cnn_core.ops.conv_base import DifferentiableConvolution

from ..layer import Layer, Scenario, Tensors
from .hypothesis import Hypothesis, Variant, rule

__all__ = ["LOOPS"]

Array = NDArray[Any]
MAXIMUM, NORM = rule("max-pooling"), rule("lp-pooling")

MAX_TAPS = 2**19
"""Elements of all windows together: beyond it these loops are not tried."""

MAX_STEPS = 10_000
"""Windows of one image, each of which is a step of a loop here."""


def _size(layer: Layer, windows: Windows) -> int:
    """Return the elements of all windows together."""
    channels = layer.tensors["input"].shape[layer.channel_axis]
    count = layer.tensors["input"].shape[0] * channels
    return int(count * math.prod(windows.output_sizes) * math.prod(windows.kernel_sizes))


def _looped(compute: Callable[[Layer], Tensors], text: str = "") -> Variant:
    return Variant(Scenario(loop=compute), text)


def _views_of_windows(layer: Layer, windows: Windows, outside: float) -> Array:
    """Return the windows of the input (N, *windows, *kernel, C), with a value for what is outside."""
    input = layer.by_position("input").astype(np.float64)
    pads = [(0, 0), *((axis.before, axis.reach - axis.before - axis.size) for axis in windows.axes), (0, 0)]
    view: Array = windows.view(np.pad(input, pads, constant_values=outside))
    return view


def _in_layout(layer: Layer, by_position: Array) -> Array:
    return by_position if layer.is_channels_last else np.moveaxis(by_position, -1, 1)


def _winners(layer: Layer, windows: Windows, *, last: bool) -> Array:
    """Return a mask (N, *windows, *kernel, C) of the first or last maximum of each window."""
    taps = _views_of_windows(layer, windows, -np.inf)
    flat = taps.reshape(*taps.shape[: 1 + layer.rank], -1, taps.shape[-1])
    count = flat.shape[-2]
    place = count - 1 - np.argmax(flat[..., ::-1, :], axis=-2) if last else np.argmax(flat, axis=-2)
    mask = np.arange(count)[:, None] == place[..., None, :]
    winners: Array = mask.reshape(taps.shape)
    return winners


def _contributions(layer: Layer, windows: Windows) -> Array:
    """Return what each window gives to each of its taps: (N, *windows, *kernel, C)."""
    gradient = channels_last_view(layer.tensors["grad_output"], layer.op.data_format).astype(np.float64)
    spread = gradient.reshape(*gradient.shape[:-1], *(1,) * layer.rank, gradient.shape[-1])
    op = layer.op
    if isinstance(op, MaxPool):
        if op.resolved_parameters(layer.resolved)["ties"] == "first":
            return _winners(layer, windows, last=False) * spread
        taps = _views_of_windows(layer, windows, -np.inf)
        axes = tuple(range(1 + layer.rank, 1 + 2 * layer.rank))
        mask = (taps == taps.max(axis=axes, keepdims=True)).astype(np.float64)
        shares: Array = mask / mask.sum(axis=axes, keepdims=True) if op.ties == "split" else mask
        return np.asarray(spread * shares)
    if isinstance(op, AvgPool):
        if op.divisor_override is not None:
            divisors: Any = op.divisor_override
        else:
            counts = [axis.counts(include_padding=op.count_include_pad) for axis in windows.axes]
            divisors = np.asarray(counts[0], dtype=np.float64)
            for each in counts[1:]:
                divisors = np.multiply.outer(divisors, each)
            divisors = divisors.reshape(*divisors.shape, *(1,) * (layer.rank + 1))
        shape = (*gradient.shape[:-1], *windows.kernel_sizes, gradient.shape[-1])
        return np.broadcast_to(spread / divisors, shape)
    weight = layer.tensors["weight"]
    kernels = weight if layer.is_channels_last else np.moveaxis(weight, (0, 1), (-1, -2))
    groups = getattr(op, "groups", 1)
    grouped = gradient.reshape(*gradient.shape[:-1], groups, -1)
    by_group = kernels.reshape(*kernels.shape[:-1], groups, -1)
    products: Array = np.einsum("...gf,kcgf->...kgc", grouped, by_group.reshape(-1, *by_group.shape[-3:]))
    return products.reshape(*gradient.shape[:-1], *windows.kernel_sizes, -1)


def _overwritten(layer: Layer, windows: Windows, *, by_tap: bool, only_winners: bool) -> Tensors:
    """Return the gradient of the input where a window's contribution replaces those before it."""
    contributions = _contributions(layer, windows)
    batch, channels = contributions.shape[0], contributions.shape[-1]
    padded: Array = np.zeros((batch, *(axis.reach for axis in windows.axes), channels))
    whole = slice(None)
    if by_tap:
        for tap in itertools.product(*map(range, windows.kernel_sizes)):
            starts = [offset * axis.dilation for offset, axis in zip(tap, windows.axes, strict=True)]
            places: tuple[Any, ...] = tuple(
                slice(start, start + (axis.output_size - 1) * axis.stride + 1, axis.stride)
                for start, axis in zip(starts, windows.axes, strict=True)
            )
            given: tuple[Any, ...] = (whole, *(whole,) * layer.rank, *tap)
            _assign(padded[(whole, *places)], contributions[given], only_winners=only_winners)
    else:
        for window in itertools.product(*map(range, windows.output_sizes)):
            starts = [position * axis.stride for position, axis in zip(window, windows.axes, strict=True)]
            places = tuple(
                slice(start, start + axis.extent, axis.dilation)
                for start, axis in zip(starts, windows.axes, strict=True)
            )
            given = (whole, *window)
            _assign(padded[(whole, *places)], contributions[given], only_winners=only_winners)
    inside = tuple(slice(axis.before, axis.before + axis.size) for axis in windows.axes)
    return {"grad_input": _in_layout(layer, padded[(slice(None), *inside)])}


def _assign(target: Array, values: Array, *, only_winners: bool) -> None:
    if only_winners:
        np.copyto(target, values, where=values != 0)
    else:
        target[...] = values


def _assignments(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    kinds = (MaxPool, AvgPool, DifferentiableConvolution)
    if windows is None or not isinstance(layer.op, kinds) or isinstance(layer.op, ConvTranspose):
        return
    if getattr(layer.op, "padding_mode", "zeros") != "zeros" or layer.result_shape("grad_input") is None:
        return
    if not any(axis.overlaps for axis in windows.axes):
        return
    if _size(layer, windows) > MAX_TAPS or math.prod(windows.output_sizes) > MAX_STEPS:
        return
    for by_tap, text in ((False, "window by window"), (True, "tap by tap")):
        for only_winners in (False, True) if isinstance(layer.op, MaxPool) else (False,):

            def compute(changed: Layer, *, by_tap: bool = by_tap, only_winners: bool = only_winners) -> Tensors:
                regular = changed.regular_windows
                if regular is None or changed.result_shape("grad_input") is None:
                    return {}
                return _overwritten(changed, regular, by_tap=by_tap, only_winners=only_winners)

            yield _looped(compute, text)


def _last_of_ties(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if not isinstance(layer.op, MaxPool) or windows is None or _size(layer, windows) > MAX_TAPS:
        return

    def compute(changed: Layer) -> Tensors:
        regular = changed.regular_windows
        assert regular is not None  # noqa: S101
        winners = _winners(changed, regular, last=True)
        found: Tensors = {"indices": _indices(changed, regular, winners)}
        if changed.result_shape("grad_input") is not None:
            gradient = channels_last_view(changed.tensors["grad_output"], changed.op.data_format)
            spread = gradient.reshape(*gradient.shape[:-1], *(1,) * changed.rank, gradient.shape[-1])
            matrix = (winners * spread).reshape(len(gradient), math.prod(regular.output_sizes), -1)
            # what each window gives to its taps is added up; the overhang of ceil_mode is cut off as padding is
            pads = tuple((axis.before, axis.reach - axis.before - axis.size) for axis in regular.axes)
            unfold = Unfold(
                kernel_size=regular.kernel_sizes,
                stride=tuple(axis.stride for axis in regular.axes),
                dilation=tuple(axis.dilation for axis in regular.axes),
                padding=pads,
            )
            found["grad_input"] = _in_layout(changed, unfold.backward(matrix, changed.by_position("input")))
        return found

    yield _looped(compute)


def _indices(layer: Layer, windows: Windows, winners: Array) -> Array:
    """Return the indices of the chosen taps, as the layer counts them."""
    op: Any = layer.op
    flat = winners.reshape(*winners.shape[: 1 + layer.rank], -1, winners.shape[-1])
    taps = np.unravel_index(np.argmax(flat, axis=-2), windows.kernel_sizes)
    position: Array = np.zeros((*flat.shape[:-2], flat.shape[-1]), dtype=np.int64)
    for number, (axis, tap) in enumerate(zip(windows.axes, taps, strict=True)):
        starts = axis.starts().reshape(-1, *(1,) * (layer.rank - number))
        position = position * axis.size + starts + tap * axis.dilation
    in_plane = np.ascontiguousarray(_in_layout(layer, position))
    counted = op._counted(len(position), windows.sizes, position.shape[-1])
    indices: Array = counted.encode(in_plane)
    return indices


def _signed_powers(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if not isinstance(layer.op, LpPool) or windows is None or _size(layer, windows) > MAX_TAPS:
        return
    for root, text in ((True, "the absolute values"), (False, "the root")):

        def compute(changed: Layer, *, root: bool = root) -> Tensors:
            op: Any = changed.op
            regular = changed.regular_windows
            assert regular is not None  # noqa: S101
            taps = _views_of_windows(changed, regular, 0.0)
            axes = tuple(range(1 + changed.rank, 1 + 2 * changed.rank))
            with np.errstate(all="ignore"):
                powers = (taps if root else np.abs(taps)) ** op.norm_type
                sums = powers.sum(axis=axes)
                return {"output": _in_layout(changed, sums ** (1 / op.norm_type) if root else sums)}

        yield _looped(compute, text)


LOOPS = (
    Hypothesis(
        "gradient_overwritten",
        "Where windows overlap, the gradient of the input is overwritten ({}): the contributions must be added.",
        rule("convolution-and-its-geometry"),
        _assignments,
    ),
    Hypothesis("ties_last", "Of equal maxima the last is chosen.", MAXIMUM, _last_of_ties),
    Hypothesis("absolute_value_missing", "In the norm {} is missing.", NORM, _signed_powers),
)
