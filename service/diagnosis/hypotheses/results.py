"""Mistakes in what is done with the results: the bias, sums over the batch, a factor, axes, or a crop."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvTranspose, MaxPool
from cnn_core.geometry import Windows

from ..comparison import inner_product
from .hypothesis import CONVOLUTION, Altered, Results, ResultsHypothesis, rule

__all__ = ["RESULTS"]

Array = NDArray[Any]
MAXIMUM = rule("max-pooling")

MIN_SHARE_OF_OVERLAP = 0.5
"""Elements that a shifted result must have in common with the right one."""


def _products(results: Results) -> Iterator[tuple[Array, Array, Array]]:
    """Yield the output without its bias, the bias, and the claim, if there is a bias."""
    bias = results.bias
    if bias is not None and np.any(bias):
        for _, output, claim in results.of_claimed_shape("output"):
            yield output - bias, bias, claim


def _without_bias(results: Results) -> Iterator[Altered]:
    for products, _, _ in _products(results):
        yield Altered({"output": products})


def _bias_twice(results: Results) -> Iterator[Altered]:
    for products, bias, _ in _products(results):
        yield Altered({"output": products + 2 * bias})


def _bias_subtracted(results: Results) -> Iterator[Altered]:
    for products, bias, _ in _products(results):
        yield Altered({"output": products - bias})


def _bias_for_each_product(results: Results) -> Iterator[Altered]:
    """Add the bias once for each tap, or for each product, as in an inner loop."""
    layer, windows = results.layer, results.layer.regular_windows
    for products, bias, _ in _products(results):
        if windows is None or layer.tensors["weight"].dtype.kind != "f":
            return
        taps = math.prod(windows.kernel_sizes)
        of_ones = {name: np.ones_like(layer.tensors[name]) for name in ("input", "weight")}
        counts = dataclasses.replace(layer, tensors=of_ones).compute(["output"])["output"]
        channels = counts.max() / taps if counts.size else 1.0
        for count, text in (
            (taps, "tap"),
            (counts, "product"),
            (counts / max(1.0, np.round(channels)), "tap inside the input"),
            (taps * np.round(channels), "product, also with the padding"),
        ):
            if np.shape(count) in ((), products.shape):  # another mistake may have changed the shape
                yield Altered({"output": products + count * bias}, text)


def _bias_along_another_axis(results: Results) -> Iterator[Altered]:
    layer = results.layer
    for products, bias, _ in _products(results):
        values = bias.reshape(-1)
        for axis in range(products.ndim):
            if axis != layer.channel_axis:
                shape = [1] * products.ndim
                shape[axis] = -1
                along = np.resize(values, products.shape[axis])  # repeated, where there are fewer
                name = ("image", *("position", "row", "plane")[layer.rank - 1 :: -1])
                text = name[0] if axis == 0 else f"spatial axis {layer.spatial.index(axis)}"
                yield Altered({"output": products + along.reshape(shape)}, text)
        memory = np.resize(values, products.size).reshape(products.shape)
        yield Altered({"output": products + memory}, "element in memory")
        yield Altered({"output": products + values[0]}, "output with that of the first channel")


def _bias_only_where_reached(results: Results) -> Iterator[Altered]:
    layer = results.layer
    windows = layer.regular_windows
    if not isinstance(layer.op, ConvTranspose) or windows is None:
        return
    for products, bias, _ in _products(results):
        reached = np.ones(products.shape, dtype=bool)
        for axis, along in zip(layer.spatial, windows.axes, strict=True):
            here = np.zeros(along.size, dtype=bool)
            for tap in range(along.kernel_size):
                met = along.tap(tap)
                if met is not None:
                    here[met[1]] = True
            reached &= here.reshape(-1, *(1,) * (products.ndim - 1 - axis))
        yield Altered({"output": products + bias * reached})


def _averaged(results: Results, name: str) -> Iterator[Altered]:
    gradient = results.layer.tensors.get("grad_output")
    if gradient is None or not gradient.size or gradient.ndim != results.layer.rank + 2:
        return
    batch, positions = gradient.shape[0], math.prod(gradient.shape[axis] for axis in results.layer.spatial)
    for _, right, _ in results.of_claimed_shape(name):
        for count, text in ((batch, "images"), (positions, "positions"), (batch * positions, "images and positions")):
            if count > 1:
                yield Altered({name: right / count}, text)


def _weight_averaged(results: Results) -> Iterator[Altered]:
    yield from _averaged(results, "grad_weight")


def _bias_averaged(results: Results) -> Iterator[Altered]:
    yield from _averaged(results, "grad_bias")


def _input_averaged(results: Results) -> Iterator[Altered]:
    yield from _averaged(results, "grad_input")


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
    for products, bias, claim in _products(results):
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


def _shifted(results: Results) -> Iterator[Altered]:
    """Move a result by one along an axis; what comes in at the end is taken as it was claimed."""
    yield from _shifted_tensors(results, "output", "grad_weight")


def _shifted_gradient(results: Results) -> Iterator[Altered]:
    yield from _shifted_tensors(results, "grad_input")


def _shifted_tensors(results: Results, *names: str) -> Iterator[Altered]:
    layer = results.layer
    for name, right, claim in results.of_claimed_shape(*names):
        axes = layer.kernel_axes if name == "grad_weight" else layer.spatial if right.ndim == layer.rank + 2 else ()
        for axis, step in itertools.product(axes, (1, -1)):
            size = right.shape[axis]
            if size < 3 or (size - 1) / size < MIN_SHARE_OF_OVERLAP:
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


def _in_padded_plane(results: Results) -> Iterator[Altered]:
    """Count indices within the padded plane."""
    layer, windows = results.layer, results.layer.windows
    if not isinstance(layer.op, MaxPool) or not isinstance(windows, Windows):
        return
    for _, right, _ in results.of_claimed_shape("indices"):
        if layer.op.index_scheme == "plane" and layer.op.storage_order == "row_major":
            places = np.unravel_index(right, windows.sizes)
            within = [place + axis.before for place, axis in zip(places, windows.axes, strict=True)]
            yield Altered({"indices": np.ravel_multi_index(within, windows.padded_sizes)})


def _within_window(results: Results) -> Iterator[Altered]:
    """Count indices within the window: the number of the tap."""
    layer, windows = results.layer, results.layer.windows
    if not isinstance(layer.op, MaxPool) or not isinstance(windows, Windows):
        return
    for _, right, _ in results.of_claimed_shape("indices"):
        if layer.op.index_scheme == "plane" and layer.op.storage_order == "row_major":
            places = np.unravel_index(right, windows.sizes)
            taps = []
            for number, (place, axis) in enumerate(zip(places, windows.axes, strict=True)):
                shape = [1] * right.ndim
                shape[layer.spatial[number]] = -1
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


RESULTS = (
    ResultsHypothesis("bias_missing", "The bias is missing.", CONVOLUTION, _without_bias, in_pairs=True),
    ResultsHypothesis("bias_twice", "The bias is added twice.", CONVOLUTION, _bias_twice, in_pairs=True),
    ResultsHypothesis("bias_subtracted", "The bias is subtracted.", CONVOLUTION, _bias_subtracted, in_pairs=True),
    ResultsHypothesis(
        "bias_with_each_product",
        "The bias is added for each {}, not once.",
        CONVOLUTION,
        _bias_for_each_product,
        in_pairs=True,
    ),
    ResultsHypothesis(
        "bias_axis",
        "The bias is added for each {}: it has one value for each output channel.",
        CONVOLUTION,
        _bias_along_another_axis,
    ),
    ResultsHypothesis(
        "bias_only_where_windows_reach",
        "The bias is added only where a window reaches the output: it belongs to every element.",
        rule("transposed-convolution"),
        _bias_only_where_reached,
    ),
    ResultsHypothesis(
        "grad_weight_averaged",
        "The gradient of the weight is averaged over the {}: it is a sum.",
        CONVOLUTION,
        _weight_averaged,
        in_pairs=True,
        about="grad_weight",
    ),
    ResultsHypothesis(
        "grad_bias_averaged",
        "The gradient of the bias is averaged over the {}: it is a sum.",
        CONVOLUTION,
        _bias_averaged,
        in_pairs=True,
        about="grad_bias",
    ),
    ResultsHypothesis(
        "grad_input_averaged",
        "The gradient of the input is divided by the number of {}.",
        CONVOLUTION,
        _input_averaged,
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
        _shifted_gradient,
        about="grad_input",
    ),
    ResultsHypothesis(
        "shifted_by_one",
        "The result is off by one position along an axis: every element comes one {}.",
        CONVOLUTION,
        _shifted,
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
