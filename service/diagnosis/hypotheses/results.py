"""Mistakes in what is done with the results: the bias, sums over the batch, a factor, axes, or a crop."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import MaxPool
from cnn_core.geometry import Windows

from ..comparison import inner_product
from .biases import products_of
from .hypothesis import CONVOLUTION, Altered, Results, ResultsHypothesis, rule

__all__ = ["OTHER_RESULTS"]

Array = NDArray[Any]
MAXIMUM = rule("max-pooling")


def _averaged(results: Results, name: str) -> Iterator[Altered]:
    gradient = results.layer.tensors.get("grad_output")
    if gradient is None or not gradient.size or gradient.ndim != results.layer.rank + 2:
        return
    batch, positions = gradient.shape[0], math.prod(gradient.shape[axis] for axis in results.layer.spatial)
    for _, right, _ in results.of_claimed_shape(name):
        for count, text in ((batch, "images"), (positions, "positions"), (batch * positions, "images and positions")):
            if count > 1:
                yield Altered({name: right / count}, text)


def _bias_not_summed(results: Results) -> Iterator[Altered]:
    """Take grad_output summed over only some of its axes, or not at all, for the gradient of the bias."""
    gradient, claim = results.layer.tensors.get("grad_output"), results.claimed.get("grad_bias")
    if gradient is None or claim is None or gradient.ndim != results.layer.rank + 2 or not gradient.size:
        return
    axes = [axis for axis in range(gradient.ndim) if axis != results.layer.channel_axis]
    for count in range(len(axes) - 1, -1, -1):
        for summed in itertools.combinations(axes, count):
            rest = gradient.sum(axis=summed) if summed else gradient
            yield Altered({"grad_bias": rest}, "as a whole")
            for position, text in ((-1, "last"), (0, "first")):
                chosen: list[Any] = [
                    slice(None) if axis in (*summed, results.layer.channel_axis) else position
                    for axis in range(gradient.ndim)
                ]
                kept = [axis for axis, each in enumerate(chosen) if isinstance(each, slice)]
                over = tuple(kept.index(axis) for axis in summed)
                partial = gradient[tuple(chosen)].sum(axis=over) if summed else gradient[tuple(chosen)]
                if partial.size == claim.size:
                    yield Altered({"grad_bias": partial.reshape(claim.shape)}, f"for the {text} of the others")


def _scaled(results: Results) -> Iterator[Altered]:
    """Find the factor that brings a result closest to its claim."""
    for name, right, claim in results.of_claimed_shape():
        if right.dtype.kind != "f":
            continue
        finite = np.isfinite(right) & np.isfinite(claim)
        values, others = right[finite], claim[finite]
        scale = np.max(np.abs(values), initial=0.0)
        if not scale:
            continue
        values = values / scale
        factor = inner_product(values, others) / inner_product(values, values) / float(scale)
        nice = _nice(factor)
        if nice != 1:
            text = "all zero" if nice == 0 else "negated" if nice == -1 else f"multiplied by {nice:.6g}"
            yield Altered({name: right * nice}, text)


def _nice(factor: float) -> float:
    """Return the integer or fraction of one that a factor is, but for rounding; else itself."""
    if not math.isfinite(factor):
        return factor
    if abs(factor - round(factor)) < 1e-6:
        return float(round(factor))
    if factor and abs(1 / factor - round(1 / factor)) < 1e-6 * abs(1 / factor):
        return 1 / round(1 / factor)
    return factor


def _scaled_products(results: Results) -> Iterator[Altered]:
    for products, bias, claim in products_of(results):
        rest = claim - bias
        finite = np.isfinite(products) & np.isfinite(rest)
        values = products[finite]
        total = inner_product(values, values)
        if total:
            factor = _nice(inner_product(values, rest[finite]) / total)
            if factor != 1:
                yield Altered({"output": products * factor + bias}, f"{factor:.6g}")


def _axes_in_another_order(results: Results) -> Iterator[Altered]:
    for name, right in results.tensors.items():
        claim = results.claimed.get(name)
        if claim is None or right.ndim < 2 or claim.size != right.size:
            continue
        for order in itertools.islice(itertools.permutations(range(right.ndim)), 1, None):
            turned = right.transpose(order)
            if claim.ndim == right.ndim and turned.shape == claim.shape:
                yield Altered({name: turned}, f"{list(order)}")
            else:  # the shape is right, but the memory is in another order
                yield Altered({name: np.ascontiguousarray(turned).reshape(claim.shape)}, f"{list(order)} in memory")
        if claim.shape != right.shape:
            yield Altered({name: right.reshape(claim.shape)}, "as they are, in another shape")


def _cropped(results: Results) -> Iterator[Altered]:
    """Leave out positions at one end of an axis, or at both, where the claim has fewer."""
    for name, right in results.tensors.items():
        claim = results.claimed.get(name)
        if claim is None or claim.ndim != right.ndim or claim.shape == right.shape or not claim.size:
            continue
        differences = [size - len_ for size, len_ in zip(right.shape, claim.shape, strict=True)]
        if min(differences) < 0:
            continue
        for ends in ((0, 0), (1, 1), (1, 2)):
            cut = tuple(
                slice(less * ends[0] // ends[1] if ends[1] else 0, (less * ends[0] // ends[1] if ends[1] else 0) + size)
                for less, size in zip(differences, claim.shape, strict=True)
            )
            text = {(0, 0): "the end", (1, 1): "the start", (1, 2): "both ends"}[ends]
            yield Altered({name: right[cut]}, text)


def _shifted(results: Results, names: Sequence[str]) -> Iterator[Altered]:
    """Move results by one along an axis; what comes in at the end is taken as it was claimed."""
    layer = results.layer
    for name, right, claim in results.of_claimed_shape(*names):
        axes = layer.kernel_axes if name == "grad_weight" else layer.spatial if right.ndim == layer.rank + 2 else ()
        for axis, step in itertools.product(axes, (1, -1)):
            if right.shape[axis] < 3:  # most of it must be compared
                continue
            moved = np.roll(right, step, axis)
            edge: list[Any] = [slice(None)] * right.ndim
            edge[axis] = 0 if step > 0 else -1
            moved[tuple(edge)] = claim[tuple(edge)]
            yield Altered({name: moved}, "later" if step > 0 else "earlier")


def _rectified(results: Results) -> Iterator[Altered]:
    for _, output, _ in results.of_claimed_shape("output"):
        yield Altered({"output": np.maximum(output, 0)})


def _cut_to_integers(results: Results) -> Iterator[Altered]:
    for name, right, _ in results.of_claimed_shape():
        if right.dtype.kind == "f":
            yield Altered({name: np.trunc(right)}, "cut off")
            yield Altered({name: np.rint(right)}, "rounded")
            yield Altered({name: np.floor(right)}, "rounded down")


def _places_of_maxima(results: Results) -> Iterator[tuple[Windows, tuple[Array, ...]]]:
    """Yield the windows, and where along each axis their maxima are, if indices are those of a plane."""
    op, windows = results.layer.op, results.layer.regular_windows
    if isinstance(op, MaxPool) and windows and op.index_scheme == "plane" and op.storage_order == "row_major":
        for _, right, _ in results.of_claimed_shape("indices"):
            yield windows, np.unravel_index(right, windows.sizes)


def _in_padded_plane(results: Results) -> Iterator[Altered]:
    """Count indices within the padded plane."""
    for windows, places in _places_of_maxima(results):
        within = [place + axis.before for place, axis in zip(places, windows.axes, strict=True)]
        yield Altered({"indices": np.ravel_multi_index(within, windows.padded_sizes)})


def _within_window(results: Results) -> Iterator[Altered]:
    """Count indices within the window: the number of the tap."""
    for windows, places in _places_of_maxima(results):
        taps = []
        for position, place, axis in zip(results.layer.spatial, places, windows.axes, strict=True):
            shape = [1] * place.ndim
            shape[position] = -1
            taps.append((place - axis.starts().reshape(shape)) // axis.dilation)
        yield Altered({"indices": np.ravel_multi_index(taps, windows.kernel_sizes)})


def _from_one(results: Results) -> Iterator[Altered]:
    for _, right, _ in results.of_claimed_shape("indices"):
        yield Altered({"indices": right + 1})


def _by_one(results: Results) -> Iterator[Altered]:
    """Requantized values that are off by one unit at most."""
    for _, right, claim in results.of_claimed_shape("output"):
        if right.dtype.kind in "iu" and right.dtype.itemsize == 1:
            off = claim.astype(np.int64) - right
            if np.abs(off).max() == 1:
                yield Altered({"output": claim})


def _not_written(results: Results) -> Iterator[Altered]:
    for name, right, claim in results.of_claimed_shape():
        missing = (claim == 0) & (right != 0)
        if missing.any() and not (claim == 0).all():
            yield Altered({name: np.where(claim == 0, np.zeros_like(right), right)})


OTHER_RESULTS = (
    ResultsHypothesis(
        "grad_weight_averaged",
        "The gradient of the weight is averaged over the {}: it is a sum.",
        CONVOLUTION,
        functools.partial(_averaged, name="grad_weight"),
        in_pairs=True,
        about="grad_weight",
    ),
    ResultsHypothesis(
        "grad_bias_averaged",
        "The gradient of the bias is averaged over the {}: it is a sum.",
        CONVOLUTION,
        functools.partial(_averaged, name="grad_bias"),
        in_pairs=True,
        about="grad_bias",
    ),
    ResultsHypothesis(
        "grad_input_averaged",
        "The gradient of the input is divided by the number of {}.",
        CONVOLUTION,
        functools.partial(_averaged, name="grad_input"),
        in_pairs=True,
        about="grad_input",
    ),
    ResultsHypothesis(
        "grad_bias_not_summed",
        "The gradient of the bias is not summed over all images and positions; it is taken {}.",
        CONVOLUTION,
        _bias_not_summed,
        in_pairs=True,
        about="grad_bias",
    ),
    ResultsHypothesis(
        "index_of_padded_plane",
        "Indices count the elements of the padded plane: they count those of the input.",
        MAXIMUM,
        _in_padded_plane,
        in_pairs=True,
        about="indices",
    ),
    ResultsHypothesis(
        "index_in_the_window",
        "Indices are the numbers of taps within the window.",
        MAXIMUM,
        _within_window,
        about="indices",
    ),
    ResultsHypothesis(
        "index_from_one",
        "Indices count from one: they count from zero.",
        MAXIMUM,
        _from_one,
        in_pairs=True,
        about="indices",
    ),
    ResultsHypothesis("constant_factor", "The result is {}.", CONVOLUTION, _scaled, in_pairs=True),
    ResultsHypothesis(
        "constant_factor",
        "The sum of the products is multiplied by {} before the bias is added.",
        CONVOLUTION,
        _scaled_products,
    ),
    ResultsHypothesis(
        "result_axes", "The axes of the result are in the order {}.", CONVOLUTION, _axes_in_another_order
    ),
    ResultsHypothesis("cropped", "Positions at {} of an axis are missing.", CONVOLUTION, _cropped, in_pairs=True),
    ResultsHypothesis(
        "shifted_by_one",
        "The gradient of the input is off by one position along an axis: every element comes one {}.",
        CONVOLUTION,
        functools.partial(_shifted, names=("grad_input",)),
        about="grad_input",
    ),
    ResultsHypothesis(
        "shifted_by_one",
        "The result is off by one position along an axis: every element comes one {}.",
        CONVOLUTION,
        functools.partial(_shifted, names=("output", "grad_weight")),
    ),
    ResultsHypothesis(
        "relu_applied",
        "Negative results are 0, as after a ReLU, which is no part of the layer.",
        CONVOLUTION,
        _rectified,
        in_pairs=True,
    ),
    ResultsHypothesis("rounded_to_integers", "The results are {} to integers.", CONVOLUTION, _cut_to_integers),
    ResultsHypothesis(
        "requantization_rounding",
        "Some values are off by one unit: the scaled sums are rounded otherwise (half to even, in float32).",
        rule("quantized-convolution"),
        _by_one,
    ),
    ResultsHypothesis(
        "not_written", "Elements that are off are 0: they were never written.", CONVOLUTION, _not_written
    ),
)
