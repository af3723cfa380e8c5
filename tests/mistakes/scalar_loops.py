"""Convolution as a porter writes it first: six nested loops over scalars, with a test of the bounds for the padding.

Any number of spatial axes, both layouts. Each mistake is a branch in the code at the place where people make it.
"""

from __future__ import annotations

import itertools

import numpy as np

from tests.mistakes.layers import RIGHT, AnyArray, Index, Layer, Windows, Wrong, element_at, read_windows, swapped

# --------------------------------------------------------------------------------------- what is read for one product


def group_of(layer: Layer, feature: int, wrong: Wrong) -> int:
    if "features_interleaved" in wrong:
        return feature % layer.groups
    return feature // layer.group_features


def source_of(layer: Layer, group: int, channel: int, wrong: Wrong) -> int:
    if "channels_interleaved" in wrong:
        return channel * layer.groups + group
    if "group_offset_missing" in wrong:
        return channel
    return group * layer.group_channels + channel


def weight_place(layer: Layer, tap: Index, channel: int, feature: int, wrong: Wrong) -> Index:
    if "kernel_flipped" in wrong:
        tap = tuple(k - 1 - t for t, k in zip(tap, layer.kernel, strict=True))
    if "kernel_flipped_first_axis" in wrong:
        tap = (layer.kernel[0] - 1 - tap[0], *tap[1:])
    if "kernel_flipped_last_axis" in wrong:
        tap = (*tap[:-1], layer.kernel[-1] - 1 - tap[-1])
    if "kernel_axes_swapped" in wrong:
        tap = swapped(tap)
    if "weight_channels_swapped" in wrong:
        channel, feature = feature, channel
    return layer.kernel_place(tap, channel, feature)


def input_place(layer: Layer, windows: Windows, at: Index, wrong: Wrong) -> Index | None:
    mode = layer.padding_mode
    for other in ("zeros", "replicate", "reflect", "reflect_with_edge", "circular"):
        if f"padding_mode_{other}" in wrong:
            mode = other
    place = element_at(at, windows.sizes, mode)
    return swapped(place) if place is not None and "input_axes_swapped" in wrong else place


def with_bias(layer: Layer, total: float, image: int, position: Index, feature: int, wrong: Wrong) -> float:
    bias = layer.operands.get("bias")
    if bias is None or "bias_missing" in wrong:
        return total
    if "bias_twice" in wrong:
        return total + float(bias[feature]) + float(bias[feature])
    if "bias_subtracted" in wrong:
        return total - float(bias[feature])
    if "bias_of_the_column" in wrong:
        return total + float(bias[position[-1]])
    if "bias_of_the_row" in wrong:
        return total + float(bias[position[0]])
    if "bias_of_the_image" in wrong:
        return total + float(bias[image])
    return total + float(bias[feature])


# -------------------------------------------------------------------------------------------------------- the loops


def forward(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    """Gather each element of the output."""
    input, weight = layer.operands["input"], layer.operands["weight"]
    windows = read_windows(layer, wrong)
    output = np.zeros(layer.activations(windows.output, layer.features))
    for position in windows.positions():
        reached = [
            (tap, input_place(layer, windows, windows.coordinates(position, tap), wrong)) for tap in windows.taps()
        ]
        for image, feature in itertools.product(range(layer.images), range(layer.features)):
            group = group_of(layer, feature, wrong)
            total = 0.0
            for tap, at in reached:
                if at is None:
                    continue
                for channel in range(layer.group_channels):
                    element = float(input[layer.place(image, at, source_of(layer, group, channel, wrong))])
                    total += element * float(weight[weight_place(layer, tap, channel, feature, wrong)])
            if "divided_by_the_window" in wrong:
                total /= len(reached)
            if "doubled" in wrong:
                total *= 2
            total = with_bias(layer, total, image, position, feature, wrong)
            if "relu_applied" in wrong:
                total = max(total, 0.0)
            output[layer.place(image, position, feature)] = total
    return output


def grad_input(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    """Scatter each window's gradient, window by window or tap by tap."""
    input, weight, gradient = (layer.operands[name] for name in ("input", "weight", "grad_output"))
    windows = read_windows(layer, wrong)
    result = np.zeros(input.shape)
    steps = list(itertools.product(_positions(layer), windows.taps()))
    if "taps_outside" in wrong:
        steps = [(position, tap) for tap, position in itertools.product(windows.taps(), _positions(layer))]
    for position, tap in steps:
        at = input_place(layer, windows, windows.coordinates(position, tap), wrong)
        if at is None:
            continue
        for image, group, channel in itertools.product(
            range(layer.images), range(layer.groups), range(layer.group_channels)
        ):
            share = 0.0
            for feature in range(layer.features):
                if group_of(layer, feature, wrong) != group:
                    continue
                arriving = float(gradient[layer.place(image, position, feature)])
                share += arriving * float(weight[weight_place(layer, tap, channel, feature, wrong)])
            target = layer.place(image, at, source_of(layer, group, channel, wrong))
            if "grad_input_assigned" in wrong:
                result[target] = share
            elif "grad_input_averaged" in wrong:
                result[target] += share / layer.images
            else:
                result[target] += share
    return result


def _positions(layer: Layer) -> list[Index]:
    return list(itertools.product(*map(range, layer.output)))


def grad_weight(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    """Add up what each tap read, times the gradient of its window."""
    input, weight, gradient = (layer.operands[name] for name in ("input", "weight", "grad_output"))
    windows = read_windows(layer, wrong)
    result = np.zeros(weight.shape)
    for image in range(layer.images):
        if "grad_weight_last_image" in wrong:
            result = np.zeros(weight.shape)  # where it was meant to stand before the loop
        if "grad_weight_first_image" in wrong and image > 0:
            break
        for position, tap in itertools.product(_positions(layer), windows.taps()):
            at = input_place(layer, windows, windows.coordinates(position, tap), wrong)
            for feature in range(layer.features):
                arriving = float(gradient[layer.place(image, position, feature)])
                group = group_of(layer, feature, wrong)
                for channel in range(layer.group_channels):
                    source = source_of(layer, group, channel, wrong)
                    element = 0.0 if at is None else float(input[layer.place(image, at, source)])
                    target = weight_place(layer, tap, channel, feature, wrong)
                    if "grad_weight_assigned" in wrong:
                        result[target] = element * arriving
                    else:
                        result[target] += element * arriving
    if "grad_weight_mean_images" in wrong:
        result /= layer.images
    if "grad_weight_mean_positions" in wrong:
        result /= len(_positions(layer))
    if "grad_weight_mean_all" in wrong:
        result /= layer.images * len(_positions(layer))
    return result


def grad_bias(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    """Add up the gradient of each feature."""
    gradient = layer.operands["grad_output"]
    positions = _positions(layer)
    result = np.zeros(layer.features)
    for image in range(layer.images):
        if "grad_bias_last_image" in wrong:
            result = np.zeros(layer.features)
        if "grad_bias_first_image" in wrong and image > 0:
            break
        for position, feature in itertools.product(positions, range(layer.features)):
            if "grad_bias_first_position" in wrong and any(position):
                continue
            arriving = float(gradient[layer.place(image, position, feature)])
            if "grad_bias_assigned" in wrong:
                result[feature] = arriving
            else:
                result[feature] += arriving
    if "grad_bias_mean_images" in wrong:
        result /= layer.images
    if "grad_bias_mean_positions" in wrong:
        result /= len(positions)
    if "grad_bias_mean_all" in wrong:
        result /= layer.images * len(positions)
    return result


LOOPS = {"output": forward, "grad_input": grad_input, "grad_weight": grad_weight, "grad_bias": grad_bias}
