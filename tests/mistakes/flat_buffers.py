"""Two-dimensional convolution as it is written in C: flat buffers, and offsets that the port computes itself.

The mistakes are orders of axes that the buffers do not have. Orders are written with a letter for each axis: n images,
h and w the spatial axes, c the channels (of the weight: of a group), f the features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from tests.mistakes.layers import RIGHT, AnyArray, Layer, Wrong, read_windows

RIGHT_ORDERS = {
    "channels_last": {"input": "nhwc", "weight": "hwcf", "output": "nhwc"},
    "channels_first": {"input": "nchw", "weight": "fchw", "output": "nchw"},
}


def offset(order: str, sizes: Mapping[str, int], at: Mapping[str, int]) -> int:
    """Where an element stands in a buffer whose axes are in that order."""
    result = 0
    for axis in order:
        result = result * sizes[axis] + at[axis]
    return result


def orders_read(layer: Layer, wrong: Wrong) -> dict[str, str]:
    """The orders that the port believes in: ``weight_as_fchw`` is a mistake for a weight that is not."""
    orders = dict(RIGHT_ORDERS[layer.layout])
    for mistake in wrong:
        tensor, _, order = mistake.partition("_as_")
        if tensor in orders and order:
            orders[tensor] = order
    return orders


def results(layer: Layer, wrong: Wrong = RIGHT) -> dict[str, AnyArray]:
    """The output and, with a grad_output, all gradients."""
    orders = orders_read(layer, wrong)
    windows = read_windows(layer)
    (height, width), (rows, columns), (high, wide) = layer.sizes, windows.output, layer.kernel
    inner = layer.group_channels
    input_sizes = {"n": layer.images, "h": height, "w": width, "c": layer.channels}
    weight_sizes = {"h": high, "w": wide, "c": inner, "f": layer.features}
    output_sizes = {"n": layer.images, "h": rows, "w": columns, "c": layer.features}
    input, weight = layer.operands["input"].reshape(-1).tolist(), layer.operands["weight"].reshape(-1).tolist()
    gradient = layer.operands["grad_output"].reshape(-1).tolist()
    bias = layer.operands["bias"].tolist() if "bias" in layer.operands else [0.0] * layer.features
    output, grad_input, grad_weight = [0.0] * len(gradient), [0.0] * len(input), [0.0] * len(weight)
    for n, f, y, x in itertools.product(range(layer.images), range(layer.features), range(rows), range(columns)):
        total = bias[f]
        here = offset(orders["output"], output_sizes, {"n": n, "h": y, "w": x, "c": f})
        for i, j, c in itertools.product(range(high), range(wide), range(inner)):
            row, column = windows.coordinates((y, x), (i, j))
            if not 0 <= row < height or not 0 <= column < width:
                continue
            source = f // layer.group_features * inner + c
            element = offset(orders["input"], input_sizes, {"n": n, "h": row, "w": column, "c": source})
            tap = offset(orders["weight"], weight_sizes, {"h": i, "w": j, "c": c, "f": f})
            total += input[element] * weight[tap]
            grad_input[element] += gradient[here] * weight[tap]
            grad_weight[tap] += gradient[here] * input[element]
        output[here] = total
    return {
        "output": np.array(output).reshape(layer.operands["grad_output"].shape),
        "grad_input": np.array(grad_input).reshape(layer.operands["input"].shape),
        "grad_weight": np.array(grad_weight).reshape(layer.operands["weight"].shape),
    }
