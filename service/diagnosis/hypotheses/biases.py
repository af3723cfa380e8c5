"""Mistakes with the bias: left out, added more often than once, or to other elements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvTranspose

from .hypothesis import CONVOLUTION, Altered, Results, ResultsHypothesis, rule

__all__ = ["BIASES", "products_of"]

Array = NDArray[Any]


def products_of(results: Results) -> Iterator[tuple[Array, Array, Array]]:
    """Yield the output without its bias, the bias, and the claim, if there is a bias."""
    bias = results.bias
    if bias is not None and np.any(bias):
        for _, output, claim in results.of_claimed_shape("output"):
            yield output - bias, bias, claim


def _without_bias(results: Results) -> Iterator[Altered]:
    for products, _, _ in products_of(results):
        yield Altered({"output": products})


def _bias_twice(results: Results) -> Iterator[Altered]:
    for products, bias, _ in products_of(results):
        yield Altered({"output": products + 2 * bias})


def _bias_subtracted(results: Results) -> Iterator[Altered]:
    for products, bias, _ in products_of(results):
        yield Altered({"output": products - bias})


def _bias_for_each_product(results: Results) -> Iterator[Altered]:
    """Add the bias once for each tap, or for each product, as in an inner loop."""
    layer, windows = results.layer, results.layer.regular_windows
    for products, bias, _ in products_of(results):
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
    for products, bias, _ in products_of(results):
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
    for products, bias, _ in products_of(results):
        reached = np.ones(products.shape, dtype=bool)
        for axis, along in zip(layer.spatial, windows.axes, strict=True):
            here = np.zeros(along.size, dtype=bool)
            for tap in range(along.kernel_size):
                met = along.tap(tap)
                if met is not None:
                    here[met[1]] = True
            reached &= here.reshape(-1, *(1,) * (products.ndim - 1 - axis))
        yield Altered({"output": products + bias * reached})


BIASES = (
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
)
