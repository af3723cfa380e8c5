"""Two-dimensional convolution as in many notebooks: channels last, a padded copy, and a slice for each window."""

from __future__ import annotations

import numpy as np

from tests.mistakes.layers import RIGHT, AnyArray, Layer, Wrong, read_windows


def padded_copy(layer: Layer, array: AnyArray, value: float = 0.0) -> AnyArray:
    top, left = layer.padding
    return np.pad(array, ((0, 0), top, left, (0, 0)), constant_values=value)


def windows_of(layer: Layer) -> list[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Each position of the output with the slices of the padded input that its window covers."""
    (step_y, step_x), (dilation_y, dilation_x), (high, wide) = layer.stride, layer.dilation, layer.extents
    rows, columns = read_windows(layer).output
    return [
        (
            (y, x),
            (
                slice(y * step_y, y * step_y + high, dilation_y),
                slice(x * step_x, x * step_x + wide, dilation_x),
            ),
        )
        for y in range(rows)
        for x in range(columns)
    ]


def forward(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    input, weight, bias = (layer.operands[name] for name in ("input", "weight", "bias"))
    padded = padded_copy(layer, input)
    output = np.zeros((layer.images, *layer.output, layer.features))
    for image in range(layer.images):
        for (y, x), (rows, columns) in windows_of(layer):
            for feature in range(layer.features):
                window = padded[image, rows, columns, :]
                output[image, y, x, feature] = np.sum(window * weight[..., feature]) + bias[feature]
    if "last_row_missing" in wrong:
        return output[:, :-1]
    if "last_row_and_column_missing" in wrong:
        return output[:, :-1, :-1]
    if "rounded_to_integers" in wrong:
        return np.trunc(output)
    return output


def cropped(layer: Layer, padded: AnyArray, wrong: Wrong) -> AnyArray:
    """Cut the padding off a gradient."""
    (top, bottom), (left, right) = layer.padding
    height, width = layer.sizes
    if "padding_returned" in wrong:
        return padded
    if "cropped_from_the_start" in wrong:
        return padded[:, :height, :width]
    if "cropped_one_row_late" in wrong:
        top += 1
    if "cropped_one_row_early" in wrong:
        top -= 1
    if "cropped_one_column_late" in wrong:
        left += 1
    if "cropped_other_sides" in wrong:
        top, left = bottom, right
    return padded[:, top : top + height, left : left + width]


def grad_input(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    input, weight, gradient = (layer.operands[name] for name in ("input", "weight", "grad_output"))
    padded = np.zeros(padded_copy(layer, input).shape)
    for image in range(layer.images):
        for (y, x), (rows, columns) in windows_of(layer):
            if "grad_input_assigned" in wrong:
                padded[image, rows, columns, :] = np.dot(weight, gradient[image, y, x])
                continue
            for feature in range(layer.features):
                share = weight[..., feature] * gradient[image, y, x, feature]
                if "grad_input_assigned_for_each_filter" in wrong:
                    padded[image, rows, columns, :] = share
                else:
                    padded[image, rows, columns, :] += share
    return cropped(layer, padded, wrong)


def grad_weight(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    input, weight, gradient = (layer.operands[name] for name in ("input", "weight", "grad_output"))
    padded = padded_copy(layer, input)
    result = np.zeros(weight.shape)
    for image in range(layer.images):
        for (y, x), (rows, columns) in windows_of(layer):
            for feature in range(layer.features):
                product = padded[image, rows, columns, :] * gradient[image, y, x, feature]
                if "grad_weight_assigned" in wrong:
                    result[..., feature] = product
                else:
                    result[..., feature] += product
    return result


def grad_bias(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    gradient = layer.operands["grad_output"]
    if "grad_bias_of_each_image" in wrong:
        return np.asarray(np.sum(gradient, axis=(1, 2)))
    if "grad_bias_of_one_axis" in wrong:
        return np.asarray(np.sum(gradient, axis=(0, 1))[0])
    return np.asarray(np.sum(gradient, axis=(0, 1, 2)))


LOOPS = {"output": forward, "grad_input": grad_input, "grad_weight": grad_weight, "grad_bias": grad_bias}


def grad_input_by_convolution(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    """The gradient as textbooks draw it: the spread gradient, padded all around, under the kernel turned by 180°."""
    weight, gradient = layer.operands["weight"], layer.operands["grad_output"]
    (step_y, step_x), (high, wide) = layer.stride, layer.kernel
    if "gradient_not_spread" in wrong:
        step_y = step_x = 1
    (top, _), (left, _) = layer.padding
    height, width = layer.sizes
    rows, columns = gradient.shape[1:3]
    reach = (height + top + 2 * high + rows * step_y, width + left + 2 * wide + columns * step_x)
    spread = np.zeros((layer.images, *reach, layer.features))
    for y in range(rows):
        for x in range(columns):
            spread[:, high - 1 + y * step_y, wide - 1 + x * step_x] = gradient[:, y, x]
    turned = weight if "kernel_not_turned" in wrong else weight[::-1, ::-1]
    result = np.zeros(layer.operands["input"].shape)
    for image in range(layer.images):
        for y in range(height):
            for x in range(width):
                window = spread[image, y + top : y + top + high, x + left : x + left + wide]
                for channel in range(layer.channels):
                    result[image, y, x, channel] = np.sum(window * turned[:, :, channel, :])
    return result
