"""Two-dimensional convolution as a product of matrices, channels first, with the mistakes of reshaping."""

from __future__ import annotations

import numpy as np

from tests.mistakes.layers import RIGHT, AnyArray, Layer, Wrong, read_windows


def columns_of(layer: Layer, wrong: Wrong) -> AnyArray:
    """A column for each window, its taps as rows: (N, C * kh * kw, L)."""
    input = layer.operands["input"]
    padded = np.pad(input, ((0, 0), (0, 0), *layer.padding))
    windows = read_windows(layer)
    columns = []
    for y, x in windows.positions():
        window = padded[
            :,
            :,
            y * layer.stride[0] : y * layer.stride[0] + layer.extents[0] : layer.dilation[0],
            x * layer.stride[1] : x * layer.stride[1] + layer.extents[1] : layer.dilation[1],
        ]
        if "channels_last_in_the_rows" in wrong:
            window = window.transpose(0, 2, 3, 1)
        columns.append(window.reshape(layer.images, -1))
    return np.stack(columns, axis=2)


def forward(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    weight, bias = layer.operands["weight"], layer.operands["bias"]
    rows, columns = layer.output
    matrix = weight.reshape(layer.features, -1)
    if "weight_matrix_reshaped" in wrong:
        matrix = weight.reshape(-1, layer.features).T  # as if the features were the last axis
    products = [matrix @ patches for patches in columns_of(layer, wrong)]  # (F, L) for each image
    if "bias_along_the_row" in wrong:
        # (F,) added to (N, F, Ho, Wo): along the last axis, by the rules of broadcasting
        return np.asarray(np.stack(products).reshape(layer.images, layer.features, rows, columns) + bias)
    if "output_reshaped" in wrong:
        # all images in one matrix (F, N * L), and the axes not turned around
        together = np.concatenate(products, axis=1) + bias[:, None]
        return together.reshape(layer.images, layer.features, rows, columns)
    if "output_of_positions_reshaped" in wrong:
        # (L, F) for each image, reshaped as if it were (F, L)
        turned = [(product + bias[:, None]).T for product in products]
        return np.stack([one.reshape(layer.features, rows, columns) for one in turned])
    return np.stack([(product + bias[:, None]).reshape(layer.features, rows, columns) for product in products])


def grad_weight(layer: Layer, wrong: Wrong = RIGHT) -> AnyArray:
    gradient, weight = layer.operands["grad_output"], layer.operands["weight"]
    flat = gradient.reshape(layer.images, layer.features, -1)
    pairs = zip(flat, columns_of(layer, wrong), strict=True)
    matrix = sum((one @ patches.T for one, patches in pairs), np.zeros((layer.features, weight[0].size)))
    if "grad_weight_matrix_reshaped" in wrong:
        return np.asarray(matrix.T.reshape(weight.shape))
    return np.asarray(matrix.reshape(weight.shape))
