"""Transposed convolution as loops over scalars: each element of the input is scattered through the kernel."""

from __future__ import annotations

import itertools

import numpy as np

from tests.mistakes.layers import RIGHT, AnyArray, Index, Layer, Windows, Wrong, read_windows
from tests.mistakes.scalar_loops import weight_place


def read_transposed(layer: Layer, wrong: Wrong) -> Windows:
    """The windows over the output, whose positions are the elements of the input."""
    windows = read_windows(layer, wrong)
    if "padding_of_the_spread_input" not in wrong:
        return windows
    # Pads the spread input by p, where p should be cut off the output: cuts e - 1 - p.
    cut = tuple(
        (e - 1 - before, e - 1 - after) for e, (before, after) in zip(layer.extents, layer.padding, strict=True)
    )
    sizes = tuple(
        (n - 1) * s + e - sum(c) for n, s, e, c in zip(layer.sizes, layer.stride, layer.extents, cut, strict=True)
    )
    before = tuple(pair[0] for pair in cut)
    return Windows(sizes, layer.kernel, layer.stride, layer.dilation, before, layer.sizes)


def tap_place(layer: Layer, tap: Index, feature: int, channel: int, wrong: Wrong) -> Index:
    return weight_place(layer, tap, feature, channel, wrong)


def output_features(layer: Layer, channel: int) -> range:
    """The features of the output that a channel of the input reaches, from the first of its group on."""
    group = channel // (layer.channels // layer.groups)
    return range(group * layer.group_features, (group + 1) * layer.group_features)


def forward(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    input, weight, bias = layer.operands["input"], layer.operands["weight"], layer.operands.get("bias")
    windows = read_transposed(layer, wrong)
    output = np.zeros(layer.activations(windows.sizes, layer.features))
    for image, position, tap in itertools.product(range(layer.images), list(windows.positions()), list(windows.taps())):
        at = windows.coordinates(position, tap)
        if not windows.inside(at):
            continue
        totals = [0.0] * layer.features
        for channel in range(layer.channels):
            element = float(input[layer.place(image, position, channel)])
            for inner, feature in enumerate(output_features(layer, channel)):
                totals[feature] += element * float(weight[tap_place(layer, tap, inner, channel, wrong)])
        for feature, total in enumerate(totals):
            if "output_assigned" in wrong:
                output[layer.place(image, at, feature)] = total
            else:
                output[layer.place(image, at, feature)] += total
    if bias is None or "bias_missing" in wrong:
        return output
    for image, at, feature in itertools.product(
        range(layer.images), list(itertools.product(*map(range, windows.sizes))), range(layer.features)
    ):
        place = layer.place(image, at, feature)
        if "bias_only_where_windows_reach" in wrong and output[place] == 0:
            continue
        output[place] += float(bias[feature]) * (2 if "bias_twice" in wrong else 1)
    return output


def gradients(layer: Layer, wrong: Wrong = RIGHT) -> dict[str, AnyArray]:
    input, weight, gradient = (layer.operands[name] for name in ("input", "weight", "grad_output"))
    windows = read_transposed(layer, wrong)
    grad_input, grad_weight, grad_bias = np.zeros(input.shape), np.zeros(weight.shape), np.zeros(layer.features)
    positions = list(itertools.product(*map(range, layer.sizes)))
    for image in range(layer.images):
        if "grad_weight_last_image" in wrong:
            grad_weight = np.zeros(weight.shape)
        for position, tap in itertools.product(positions, windows.taps()):
            at = windows.coordinates(position, tap)
            if not all(0 <= a < n for a, n in zip(at, layer.output, strict=True)):
                continue
            for channel in range(layer.channels):
                place = layer.place(image, position, channel)
                for inner, feature in enumerate(output_features(layer, channel)):
                    arriving = float(gradient[layer.place(image, at, feature)])
                    there = tap_place(layer, tap, inner, channel, wrong)
                    grad_input[place] += arriving * float(weight[there])
                    grad_weight[there] += arriving * float(input[place])
        for at, feature in itertools.product(itertools.product(*map(range, layer.output)), range(layer.features)):
            grad_bias[feature] += float(gradient[layer.place(image, at, feature)])
    if "grad_weight_mean_images" in wrong:
        grad_weight /= layer.images
    return {"grad_input": grad_input, "grad_weight": grad_weight, "grad_bias": grad_bias}


def results(layer: Layer, wrong: Wrong, tensors: tuple[str, ...]) -> dict[str, AnyArray]:
    """The tensors that are asked for."""
    forwards = {"output": forward(layer, wrong)} if "output" in tensors else {}
    backwards = gradients(layer, wrong) if any(name.startswith("grad") for name in tensors) else {}
    return {name: tensor for name, tensor in {**forwards, **backwards}.items() if name in tensors}
