"""Max, average and Lp pooling as loops over windows, with the maxima's indices, and unpooling."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.mistakes.layers import RIGHT, AnyArray, Index, Layer, Windows, Wrong, read_windows, swapped

Taps = list[tuple[Index, float]]


def places_of(windows: Windows, position: Index, wrong: Wrong) -> list[Index]:
    """Where the taps of a window lie; in the padding only where the mistake lets it in."""
    places = [windows.coordinates(position, tap) for tap in windows.taps()]
    return places if "padded_with_zeros" in wrong else [at for at in places if windows.inside(at)]


def taps_of(layer: Layer, windows: Windows, image: int, places: list[Index], channel: int, wrong: Wrong) -> Taps:
    """The elements of a window with their coordinates."""
    input, turned = layer.operands["input"], "input_axes_swapped" in wrong
    return [
        (at, float(input[layer.place(image, swapped(at) if turned else at, channel)]) if windows.inside(at) else 0.0)
        for at in places
    ]


# ------------------------------------------------------------------------------------------------------ max pooling


def ties_of(layer: Layer, wrong: Wrong) -> str:
    for ties in ("first", "last", "all", "split"):
        if f"ties_{ties}" in wrong:
            return ties
    return layer.ties


def winners(taps: Taps, ties: str) -> list[Index]:
    """Who receives the gradient."""
    largest = max(value for _, value in taps)
    tied = [at for at, value in taps if value == largest]
    if ties == "last":
        return tied[-1:]
    return tied[:1] if ties == "first" else tied


def index_of(layer: Layer, windows: Windows, image: int, position: Index, channel: int, at: Index, wrong: Wrong) -> int:
    """The number of an element, in the scheme that the port believes in."""
    sizes, order, scheme = windows.sizes, layer.storage_order, layer.index_scheme
    for other in ("plane", "image", "tensor"):
        scheme = other if f"index_of_{other}" in wrong else scheme
    if "index_of_padded_plane" in wrong:
        at = tuple(a + b for a, b in zip(at, windows.before, strict=True))
        sizes = tuple(n + sum(pair) for n, pair in zip(sizes, layer.padding, strict=True))
    if "index_in_the_window" in wrong:
        at = tuple(
            (a - (p * s - b)) // d
            for a, p, s, b, d in zip(at, position, windows.stride, windows.before, windows.dilation, strict=True)
        )
        sizes = windows.kernel
    if "storage_order_turned" in wrong:
        order = "column_major" if order == "row_major" else "row_major"
    axes = range(len(sizes))
    in_plane = 0
    for axis in axes if order == "row_major" else reversed(axes):
        in_plane = in_plane * sizes[axis] + at[axis]
    plane = math.prod(sizes)
    in_image = in_plane * layer.channels + channel if layer.last else channel * plane + in_plane
    index = {"plane": in_plane, "image": in_image, "tensor": image * layer.channels * plane + in_image}[scheme]
    return index + 1 if "index_from_one" in wrong else index


def planes(layer: Layer) -> list[tuple[int, int]]:
    """Each channel of each image."""
    return list(itertools.product(range(layer.images), range(layer.channels)))


def value_of(layer: Layer, taps: Taps, windows: Windows, position: Index, wrong: Wrong) -> float:
    """The value of one window."""
    mode = layer.mode
    for other in ("max", "avg"):
        mode = other if f"{other}_instead" in wrong else mode
    values = [value for _, value in taps]
    if mode == "max":
        return max(values)
    if mode == "avg":
        return sum(values) / divisor_of(layer, windows, position, len(taps), wrong)
    power = 2.0 if "norm_of_two" in wrong else layer.norm_type
    powers = [value**power if "absolute_value_missing" in wrong else abs(value) ** power for value in values]
    total: float = sum(powers)
    if "mean_of_the_powers" in wrong:
        total /= len(powers)
    if "root_missing" in wrong:
        return total
    return math.nan if total < 0 else math.pow(total, 1 / power)


def divisor_of(layer: Layer, windows: Windows, position: Index, real: int, wrong: Wrong) -> float:
    """What the sum of a window is divided by."""
    taps = math.prod(windows.kernel)
    if "sum_instead" in wrong:
        return 1
    if "divisor_of_the_window" in wrong:
        return taps
    if layer.divisor_override is not None and "divisor_override_ignored" not in wrong:
        return layer.divisor_override
    if layer.count_include_pad == ("count_include_pad_turned" in wrong):
        return real
    within = 0
    for tap in windows.taps():
        at = windows.coordinates(position, tap)
        within += all(a < n + after for a, n, (_, after) in zip(at, windows.sizes, layer.padding, strict=True))
    return within


def forward(layer: Layer, wrong: Wrong = RIGHT) -> dict[str, AnyArray]:
    """The output, and with maxima their indices."""
    windows = read_windows(layer, wrong)
    output = np.zeros(layer.activations(windows.output, layer.channels))
    indices = np.zeros(output.shape, np.int64)
    for position, (image, channel) in itertools.product(windows.positions(), planes(layer)):
        if (image, channel) == (0, 0):
            places = places_of(windows, position, wrong)
        taps = taps_of(layer, windows, image, places, channel, wrong)
        place = layer.place(image, position, channel)
        output[place] = value_of(layer, taps, windows, position, wrong) if taps else 0.0
        if layer.return_indices:
            ties = "last" if "ties_last" in wrong else "first"
            at = winners(taps, ties)[0]
            indices[place] = index_of(layer, windows, image, position, channel, at, wrong)
    return {"output": output, "indices": indices} if layer.return_indices else {"output": output}


def shares_of(layer: Layer, taps: Taps, windows: Windows, position: Index, wrong: Wrong) -> list[tuple[Index, float]]:
    """What part of a window's gradient each of its elements receives."""
    if layer.mode == "max":
        ties = ties_of(layer, wrong)
        places = winners(taps, ties)
        return [(at, 1 / len(places) if ties == "split" else 1.0) for at in places]
    if layer.mode == "avg":
        divisor = divisor_of(layer, windows, position, len(taps), wrong)
        return [(at, 1 / divisor) for at, _ in taps]
    norm = sum(abs(value) ** layer.norm_type for _, value in taps) ** (1 / layer.norm_type)
    if norm == 0:
        return []
    exponent = layer.norm_type - 1
    if "absolute_value_missing" in wrong:
        return [(at, (abs(value) / norm) ** exponent) for at, value in taps]
    return [(at, math.copysign(1.0, value) * (abs(value) / norm) ** exponent if value else 0.0) for at, value in taps]


def backward(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    """Hand each window's gradient to its elements."""
    gradient = layer.operands["grad_output"]
    windows = read_windows(layer, wrong)
    result = np.zeros(layer.operands["input"].shape)
    positions = itertools.product(*map(range, layer.output))
    for position, (image, channel) in itertools.product(positions, planes(layer)):
        if (image, channel) == (0, 0):
            places = places_of(windows, position, wrong)
        arriving = float(gradient[layer.place(image, position, channel)])
        taps = taps_of(layer, windows, image, places, channel, wrong)
        for at, share in shares_of(layer, taps, windows, position, wrong) if taps else ():
            if not windows.inside(at):
                continue
            place = layer.place(image, swapped(at) if "input_axes_swapped" in wrong else at, channel)
            if "grad_input_assigned" in wrong:
                result[place] = share * arriving
            else:
                result[place] += share * arriving
        if "grad_input_window_assigned" in wrong:
            # the whole slice of the window is assigned: zeros beside the maximum
            for at, _ in taps:
                result[layer.place(image, at, channel)] = 0.0
            for at, share in shares_of(layer, taps, windows, position, wrong):
                result[layer.place(image, at, channel)] = share * arriving
    return result


def results(layer: Layer, wrong: Wrong, tensors: tuple[str, ...]) -> dict[str, AnyArray]:
    """The tensors that are asked for."""
    forwards = forward(layer, wrong) if {"output", "indices"} & set(tensors) else {}
    backwards = {"grad_input": backward(layer, wrong)} if "grad_input" in tensors else {}
    return {name: tensor for name, tensor in {**forwards, **backwards}.items() if name in tensors}


def padded_loops(layer: Layer, wrong: Wrong = RIGHT) -> dict[str, AnyArray]:
    """The gradient of two-dimensional windows as slices of a padded copy, channels last, cut at the end."""
    low = -math.inf if layer.mode == "max" else 0.0
    padded = np.pad(layer.operands["input"], ((0, 0), *layer.padding, (0, 0)), constant_values=low)
    gradient = layer.operands["grad_output"]
    spread = np.zeros(padded.shape)
    for y, x in itertools.product(*map(range, layer.output)):
        top, left = y * layer.stride[0], x * layer.stride[1]
        rows = slice(top, top + layer.extents[0], layer.dilation[0])
        columns = slice(left, left + layer.extents[1], layer.dilation[1])
        for image, channel in itertools.product(range(layer.images), range(layer.channels)):
            window = padded[image, rows, columns, channel]
            if layer.mode == "max":
                at = np.unravel_index(np.argmax(window), window.shape)
                share = np.zeros(window.shape)
                share[at] = gradient[image, y, x, channel]
            else:
                share = np.full(window.shape, gradient[image, y, x, channel] / window.size)
            if "grad_input_window_assigned" in wrong:
                spread[image, rows, columns, channel] = share
            else:
                spread[image, rows, columns, channel] += share
    (top, _), (left, _) = layer.padding
    if "padding_returned" in wrong:
        return {"grad_input": spread}
    if "cropped_from_the_start" in wrong:
        top = left = 0
    if "cropped_one_row_late" in wrong:
        top += 1
    height, width = layer.sizes
    return {"grad_input": spread[:, top : top + height, left : left + width]}
