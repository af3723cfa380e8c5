"""Correct results as an honest port computes them: in any float type, its sums in an order of its own.

Tap by tap over whole arrays, channels last inside. ``sums`` is the type of products and sums, ``stored`` that of
operands and results; each is rounded once. A port that sums in too narrow a type is the same code, told another
``sums``.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.mistakes.drawing import Random
from tests.mistakes.layers import PADDED_PLACES, AnyArray, Layer, Windows, read_windows

Type = npt.DTypeLike


def channels_last(layer: Layer, array: AnyArray, sums: Type) -> AnyArray:
    return np.asarray(array if layer.last else np.moveaxis(array, 1, -1)).astype(sums)


def in_layout(layer: Layer, array: AnyArray) -> AnyArray:
    return array if layer.last else np.moveaxis(array, -1, 1)


def kernel_first(layer: Layer, weight: AnyArray, sums: Type) -> AnyArray:
    return np.asarray(weight if layer.last else np.moveaxis(weight, (0, 1), (-1, -2))).astype(sums)


def kernel_in_layout(layer: Layer, weight: AnyArray) -> AnyArray:
    return weight if layer.last else np.moveaxis(weight, (-1, -2), (0, 1))


def reached(layer: Layer, windows: Windows, tap: tuple[int, ...]) -> tuple[tuple[Any, ...], AnyArray]:
    """Which element each window's tap reads, as indices per axis, and where it reads one at all."""
    rule = PADDED_PLACES[layer.padding_mode]
    axes, real = [], []
    for axis, t in enumerate(tap):
        places = [
            rule(p * windows.stride[axis] + t * windows.dilation[axis] - windows.before[axis], windows.sizes[axis])
            for p in range(windows.output[axis])
        ]
        axes.append(np.array([0 if place is None else place for place in places]))
        real.append(np.array([place is not None for place in places]))
    inside = np.logical_and.reduce(np.meshgrid(*real, indexing="ij")) if len(real) > 1 else real[0]
    return np.ix_(*axes), inside


def added(random: Random, products: AnyArray) -> AnyArray:
    """The sum over the first axis, in the type of the products and in some order."""
    products = products[random.permutation(len(products))]
    if random.random() < 0.5:
        return np.asarray(np.add.reduce(products, axis=0, dtype=products.dtype))
    total = np.zeros(products.shape[1:], products.dtype)
    for product in products:
        total += product
    return total


# -------------------------------------------------------------------------------------------------------- convolution


def gathered(layer: Layer, windows: Windows, tap: tuple[int, ...], array: AnyArray) -> AnyArray:
    """What a tap reads in each window: (N, *output, C)."""
    places, inside = reached(layer, windows, tap)
    return np.where(inside[..., None], array[(slice(None), *places)], array.dtype.type(0))


def scattered(layer: Layer, windows: Windows, tap: tuple[int, ...], result: AnyArray, values: AnyArray) -> None:
    """Add each window's value to the element that a tap reads."""
    places, inside = reached(layer, windows, tap)
    where: Any = (slice(None), *places)
    np.add.at(result, where, np.where(inside[..., None], values, values.dtype.type(0)))


def order(random: Random, *counts: int) -> list[tuple[int, ...]]:
    """All combinations, in a random order."""
    every = list(itertools.product(*map(range, counts)))
    return [every[int(at)] for at in random.permutation(len(every))]


def group_slices(layer: Layer, inner: int, outer: int) -> list[tuple[slice, slice]]:
    return [
        (slice(group * inner, (group + 1) * inner), slice(group * outer, (group + 1) * outer))
        for group in range(layer.groups)
    ]


def correlate(layer: Layer, windows: Windows, input: AnyArray, weight: AnyArray, random: Random) -> AnyArray:
    inner, outer = weight.shape[-2], weight.shape[-1] // layer.groups
    result = np.zeros((len(input), *windows.output, weight.shape[-1]), input.dtype)
    for *tap, channel in order(random, *windows.kernel, inner):
        read = gathered(layer, windows, tuple(tap), input)
        for of_input, of_output in group_slices(layer, inner, outer):
            result[..., of_output] += read[..., of_input][..., channel, None] * weight[(*tap, channel)][of_output]
    return result


def spread(layer: Layer, windows: Windows, values: AnyArray, weight: AnyArray, random: Random) -> AnyArray:
    """The adjoint of correlate, for its input."""
    inner, outer = weight.shape[-2], weight.shape[-1] // layer.groups
    result = np.zeros((len(values), *windows.sizes, layer.groups * inner), values.dtype)
    for *tap, feature in order(random, *windows.kernel, outer):
        products = np.zeros((*values.shape[:-1], layer.groups * inner), values.dtype)
        for of_input, of_output in group_slices(layer, inner, outer):
            products[..., of_input] = (
                values[..., of_output][..., feature, None] * weight[tuple(tap)][:, of_output][:, feature]
            )
        scattered(layer, windows, tuple(tap), result, products)
    return result


def weight_gradient(layer: Layer, windows: Windows, input: AnyArray, values: AnyArray, random: Random) -> AnyArray:
    """The adjoint of correlate, for its weight."""
    inner, outer = input.shape[-1] // layer.groups, values.shape[-1] // layer.groups
    result = np.zeros((*windows.kernel, inner, values.shape[-1]), input.dtype)
    for tap in itertools.product(*map(range, windows.kernel)):
        read = gathered(layer, windows, tap, input)
        for of_input, of_output in group_slices(layer, inner, outer):
            products = read[..., of_input][..., :, None] * values[..., of_output][..., None, :]
            result[tap][:, of_output] = added(random, products.reshape(-1, inner, outer))
    return result


def convolution(layer: Layer, random: Random, sums: Type) -> dict[str, AnyArray]:
    """Output and gradients of conv and conv_transpose, in the type of the sums."""
    windows = read_windows(layer)
    input = channels_last(layer, layer.operands["input"], sums)
    values = channels_last(layer, layer.operands["grad_output"], sums)
    weight = kernel_first(layer, layer.operands["weight"], sums)
    if layer.name == "conv":
        output = correlate(layer, windows, input, weight, random)
        grad_input = spread(layer, windows, values, weight, random)
        grad_weight = weight_gradient(layer, windows, input, values, random)
    else:
        output = spread(layer, windows, input, weight, random)
        grad_input = correlate(layer, windows, values, weight, random)
        grad_weight = weight_gradient(layer, windows, values, input, random)
    if "bias" in layer.operands:
        output = output + layer.operands["bias"].astype(sums)
    results = {
        "output": in_layout(layer, output),
        "grad_input": in_layout(layer, grad_input),
        "grad_weight": kernel_in_layout(layer, grad_weight),
    }
    if "bias" in layer.operands:
        results["grad_bias"] = added(random, values.reshape(-1, values.shape[-1]))
    return results


# ------------------------------------------------------------------------------------------------------------ pooling


def pooling(layer: Layer, random: Random, sums: Type) -> dict[str, AnyArray]:
    """Output, indices and gradient of the pools, in the type of the sums."""
    windows = read_windows(layer)
    input = channels_last(layer, layer.operands["input"], sums)
    values = channels_last(layer, layer.operands["grad_output"], sums)
    taps = list(itertools.product(*map(range, windows.kernel)))
    inside = np.stack([reached(layer, windows, tap)[1] for tap in taps])[:, None, ..., None]
    read = np.stack([gathered(layer, windows, tap, input) for tap in taps])
    results: dict[str, AnyArray] = {}
    if layer.mode == "max":
        candidates = np.where(inside, read, read.dtype.type(-np.inf))
        output = candidates.max(axis=0)
        winners = inside & (candidates == output)
        if layer.ties == "first":
            winners &= np.cumsum(winners, axis=0) == 1
        shares = winners.astype(sums)
        if layer.ties == "split":
            shares /= shares.sum(axis=0, dtype=sums)
        products = shares * values
    elif layer.mode == "avg":
        divisor = divisors(layer, windows, inside).astype(sums)
        output = added(random, read) / divisor
        products = np.where(inside, values / divisor, values.dtype.type(0))
    else:
        power = input.dtype.type(layer.norm_type)
        output = np.power(added(random, np.abs(read) ** power), 1 / power)
        safe = np.where(output == 0, output.dtype.type(1), output)
        products = values * np.sign(read) * (np.abs(read) / safe) ** (power - 1)
    grad_input = np.zeros(input.shape, input.dtype)
    for at in random.permutation(len(taps)):
        scattered(layer, windows, taps[int(at)], grad_input, products[int(at)].astype(sums))
    results["output"] = in_layout(layer, output.astype(sums))
    results["grad_input"] = in_layout(layer, grad_input)
    return results


def divisors(layer: Layer, windows: Windows, inside: AnyArray) -> AnyArray:
    """What the sum of each window is divided by: (1, *output, 1)."""
    if layer.divisor_override is not None:
        return np.full((1, *windows.output, 1), layer.divisor_override)
    if not layer.count_include_pad:
        return np.asarray(inside.sum(axis=0))
    counts: list[Any] = []
    for axis, positions in enumerate(windows.output):
        end = windows.sizes[axis] + layer.padding[axis][1]
        ends = [
            [p * windows.stride[axis] + t * windows.dilation[axis] - windows.before[axis] for t in range(taps)]
            for p in range(positions)
            for taps in (windows.kernel[axis],)
        ]
        counts.append(np.array([sum(at < end for at in window) for window in ends]))
    product = counts[0]
    for count in counts[1:]:
        product = np.multiply.outer(product, count)
    return np.asarray(product[None, ..., None])


# ------------------------------------------------------------------------------------------------------------- rounding


def in_type(layer: Layer, stored: Type) -> Layer:
    """The layer with its operands rounded to a type."""
    return dataclasses.replace(
        layer, operands={name: operand.astype(stored) for name, operand in layer.operands.items()}
    )


def results(layer: Layer, random: Random, sums: Type, stored: Type) -> dict[str, AnyArray]:
    """All results of a layer, computed in one type and stored in another."""
    computed = pooling(layer, random, sums) if layer.name == "pool" else convolution(layer, random, sums)
    return {name: np.asarray(result).astype(stored) for name, result in computed.items()}
