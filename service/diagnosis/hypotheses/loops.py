"""Mistakes in the loop itself: what is computed window by window, or tap by tap, with an assignment for a sum."""

from __future__ import annotations

import functools
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

MAX_TAPS, MAX_PRODUCTS = 2**19, 2**26
"""Elements of all windows together, and multiply-accumulates: beyond them these loops are not tried."""

MAX_STEPS = 10_000
"""Windows of one image, each of which is a step of a loop here."""


def _is_small(layer: Layer, windows: Windows) -> bool:
    """Return whether all windows together have so few elements that a loop is tried."""
    input, output = layer.tensors["input"].shape, layer.resolved.output_shape
    channels = max(input[layer.channel_axis], output[layer.channel_axis] if len(output) == len(input) else 0)
    size = input[0] * channels * math.prod(windows.output_sizes) * math.prod(windows.kernel_sizes)
    products = layer.resolved.multiply_accumulates
    return size <= MAX_TAPS and products <= MAX_PRODUCTS and layer.has_room_for_padded(windows)


def _looped(compute: Callable[[Layer], Tensors], text: str = "") -> Variant:
    def if_small(layer: Layer) -> Tensors:
        # the layer may have been changed by another mistake
        windows = layer.regular_windows
        return compute(layer) if windows is not None and _is_small(layer, windows) else {}

    return Variant(Scenario(loop=if_small), text)


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


def _contributions(layer: Layer, windows: Windows, gradient: Array) -> Array:
    """Return what each window, with its element of a gradient, gives to each of its taps: (N, *windows, *kernel, C)."""
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


def _overwritten(windows: Windows, contributions: Array, *, by_tap: bool, only_winners: bool) -> Array:
    """Return elements (N, *spatial, C) where a window's contribution replaces those before it."""
    padded: Array = np.zeros((len(contributions), *(axis.reach for axis in windows.axes), contributions.shape[-1]))
    whole, rank = slice(None), len(windows.axes)
    if by_tap:
        for tap in itertools.product(*map(range, windows.kernel_sizes)):
            starts = [offset * axis.dilation for offset, axis in zip(tap, windows.axes, strict=True)]
            places: tuple[Any, ...] = tuple(
                slice(start, start + (axis.output_size - 1) * axis.stride + 1, axis.stride)
                for start, axis in zip(starts, windows.axes, strict=True)
            )
            given: tuple[Any, ...] = (whole, *(whole,) * rank, *tap)
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
    return padded[(whole, *inside)]


def _assign(target: Array, values: Array, *, only_winners: bool) -> None:
    if only_winners:
        np.copyto(target, values, where=values != 0)
    else:
        target[...] = values


def _assignments(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if windows is None or not isinstance(layer.op, (MaxPool, AvgPool, DifferentiableConvolution)):
        return
    if getattr(layer.op, "padding_mode", "zeros") != "zeros" or not any(axis.overlaps for axis in windows.axes):
        return
    if not _is_small(layer, windows):
        return
    kinds = [(False, False, "window by window"), (True, False, "tap by tap")]
    if isinstance(layer.op, MaxPool):
        kinds += [(False, True, "at the maximum of each window"), (True, True, "at each maximum, tap by tap")]
    elif isinstance(layer.op, DifferentiableConvolution):
        kinds += [(False, True, "channel by channel")]
    for by_tap, only_some, text in kinds:
        compute = functools.partial(_assigned, by_tap=by_tap, only_some=only_some)
        yield _looped(compute, text)


def _assigned(layer: Layer, *, by_tap: bool, only_some: bool) -> Tensors:
    """Return the gradient of the input, or the output of a transposed convolution, with an assignment for a sum."""
    windows, op = layer.regular_windows, layer.op
    transposed = isinstance(op, ConvTranspose)
    if windows is None or math.prod(windows.output_sizes) > MAX_STEPS:
        return {}
    if not transposed and layer.result_shape("grad_input") is None:
        return {}
    given = (
        layer.by_position("input") if transposed else channels_last_view(layer.tensors["grad_output"], op.data_format)
    )
    if only_some and not isinstance(op, MaxPool):
        given = given.copy()  # the loop over the channels assigns, too: that of the last one stays
        given[..., :-1] = 0
    contributions = _contributions(layer, windows, given.astype(np.float64))
    winners = only_some and isinstance(op, MaxPool)
    elements = _overwritten(windows, contributions, by_tap=by_tap, only_winners=winners)
    if transposed:
        bias = layer.tensors.get("bias")
        return {"output": _in_layout(layer, elements if bias is None else elements + bias.reshape(-1))}
    return {"grad_input": _in_layout(layer, elements)}


def _last_of_ties(layer: Layer) -> Iterator[Variant]:
    windows = layer.regular_windows
    if not isinstance(layer.op, MaxPool) or windows is None or not _is_small(layer, windows):
        return

    def compute(changed: Layer) -> Tensors:
        regular = changed.regular_windows
        if regular is None:
            return {}
        winners = _winners(changed, regular, last=True)
        found: Tensors = {"indices": _indices(changed, regular, winners)}
        if changed.result_shape("grad_input") is not None:
            gradient = channels_last_view(changed.tensors["grad_output"], changed.op.data_format)
            spread = gradient.reshape(*gradient.shape[:-1], *(1,) * changed.rank, gradient.shape[-1])
            found["grad_input"] = _added(changed, regular, winners * spread)
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


def _other_norms(*kinds: str) -> Callable[[Layer], Iterator[Variant]]:
    def variants(layer: Layer) -> Iterator[Variant]:
        windows = layer.regular_windows
        if isinstance(layer.op, LpPool) and windows is not None and _is_small(layer, windows):
            for kind in kinds:
                yield _looped(functools.partial(_norm, kind=kind))

    return variants


def _norm(layer: Layer, kind: str) -> Tensors:
    op: Any = layer.op
    windows = layer.regular_windows
    if windows is None:
        return {}
    taps = _views_of_windows(layer, windows, 0.0)
    axes, exponent = tuple(range(1 + layer.rank, 1 + 2 * layer.rank)), op.norm_type
    with np.errstate(all="ignore"):
        sums = ((taps if kind in {"signed", "not a number"} else np.abs(taps)) ** exponent).sum(
            axis=axes, keepdims=True
        )
        if kind == "not a number":  # as the root of a negative sum
            sums = np.where(sums < 0, np.nan, sums)
        if kind == "mean":
            sums = sums / math.prod(windows.kernel_sizes)
        if kind == "mean inside":
            sums = sums / np.isfinite(_views_of_windows(layer, windows, np.nan)).sum(axis=axes, keepdims=True)
        norms = sums if kind == "powers" else sums ** (1 / exponent)
        found: Tensors = {}
        if kind != "gradient":
            found["output"] = _in_layout(layer, norms.reshape(*norms.shape[: 1 + layer.rank], -1))
        if kind in {"signed", "not a number", "gradient"} and layer.result_shape("grad_input") is not None:
            gradient = channels_last_view(layer.tensors["grad_output"], layer.op.data_format)
            slopes = np.where(norms == 0, 0, taps ** (exponent - 1) * norms ** (1 - exponent))
            found["grad_input"] = _added(layer, windows, gradient.reshape(norms.shape) * slopes)
    return found


def _added(layer: Layer, windows: Windows, contributions: Array) -> Array:
    """Add what each window gives to its taps (N, *windows, *kernel, C) up to the gradient of the input."""
    # the overhang of ceil_mode is cut off as padding is
    unfold = Unfold(
        kernel_size=windows.kernel_sizes,
        stride=tuple(axis.stride for axis in windows.axes),
        dilation=tuple(axis.dilation for axis in windows.axes),
        padding=tuple((axis.before, axis.reach - axis.before - axis.size) for axis in windows.axes),
    )
    matrix = contributions.reshape(len(contributions), math.prod(windows.output_sizes), -1)
    return _in_layout(layer, unfold.backward(matrix, layer.by_position("input")))


LOOPS = (
    Hypothesis(
        "gradient_overwritten",
        "Where windows overlap, elements are overwritten ({}): the contributions of the windows must be added.",
        rule("convolution-and-its-geometry"),
        _assignments,
    ),
    Hypothesis("ties_last", "Of equal maxima the last is chosen.", MAXIMUM, _last_of_ties),
    Hypothesis(
        "absolute_value_missing",
        "The norm is of the values themselves: it is of their absolute values.",
        NORM,
        _other_norms("signed", "not a number", "gradient"),
    ),
    Hypothesis("root_missing", "The norm lacks its root: it is the sum of the powers.", NORM, _other_norms("powers")),
    Hypothesis(
        "mean_of_the_powers",
        "The norm is of the mean of the powers: it is of their sum.",
        NORM,
        _other_norms("mean", "mean inside"),
    ),
)
