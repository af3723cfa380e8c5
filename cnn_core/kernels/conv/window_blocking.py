"""Correlation of several windows next to each other as one wider window: for few channels.

Where a window has few channels in and out, its products are of narrow matrices, and its patch is copied in runs of a
few elements. Some windows along the last axis together are one of larger extent that has the outputs of all of them:
its weight holds theirs side by side, each shifted by the stride, and zeros elsewhere.

    weight   1 2 3     two windows   1 2 3 .
                       as one        . 1 2 3

There are more products, by the ratio of the extents, but fewer and longer runs to copy, and more columns. What is added
to each sum besides its own products are zeros. Zero times infinity is none: a result that is not all finite is computed
again as ``direct`` has it.

Axes in comments as in ``direct``; T windows that are one, L elements of the wider window along the last axis.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.geometry import Windows
from cnn_core.kernels.conv import col2im as spread
from cnn_core.kernels.conv import im2col_gemm as direct
from cnn_core.kernels.conv.problem import Correlation, correlation_of, remembered
from cnn_core.kernels.finite import is_all_finite

__all__ = ["applies", "correlate", "correlate_grad_input", "correlate_grad_weight", "wide"]

Array = NDArray[Any]

MOST_FEATURES = 16
LONGEST_RUN = 32
"""Elements of the taps next to each other: longer runs are copied about as fast as memory allows."""

FEWEST_POSITIONS = 2**12
MOST_COLUMNS = 128

COPIED_RUN, COPIED_ELEMENT = 3.0, 0.1
"""Nanoseconds that a run of a patch takes, and each of its elements."""

PRODUCTS, HALF_SPEED_COLUMNS = 60.0, 24
"""Products in a nanosecond, of many columns; and the columns that have half of that speed."""


@remembered
def applies(sizes: Correlation) -> bool:
    """Tell whether channels are few, and windows that are one are faster."""
    return _together(sizes) > 1


@remembered
def _together(sizes: Correlation) -> int:
    """Return how many windows are one: of the divisors of the output's size the one that is the fastest."""
    last = sizes.windows.axes[-1]
    if (
        sizes.groups > 1
        or sizes.features > MOST_FEATURES
        or sizes.channels * last.kernel_size > LONGEST_RUN
        or math.prod(sizes.positions) < FEWEST_POSITIONS
    ):
        return 1
    most = MOST_COLUMNS // sizes.features
    divisors = (count for count in range(1, most + 1) if last.output_size % count == 0)
    return min(divisors, key=lambda count: _time(sizes, count))


def _time(sizes: Correlation, together: int) -> float:
    """Return the nanoseconds that a window takes, about, if so many are one."""
    rows = sizes.taps // sizes.windows.axes[-1].kernel_size
    run = sizes.channels * _extent(sizes, together)
    columns = together * sizes.features
    products = rows * run * sizes.features * (1 + HALF_SPEED_COLUMNS / columns) / PRODUCTS
    return rows * (COPIED_RUN + COPIED_ELEMENT * run) / together + products


def _extent(sizes: Correlation, together: int) -> int:
    last = sizes.windows.axes[-1]
    return (together - 1) * last.stride + last.extent


@remembered
def wide(sizes: Correlation) -> Correlation:
    """Return the sizes of the same correlation with wider windows."""
    together, last = _together(sizes), sizes.windows.axes[-1]
    extent = _extent(sizes, together)
    axis = dataclasses.replace(
        last,
        kernel_size=extent,
        stride=together * last.stride,
        dilation=1,
        output_size=last.output_size // together,
    )
    weight_shape = (*sizes.weight_shape[:-3], extent, sizes.channels, together * sizes.features)
    windows = Windows((*sizes.windows.axes[:-1], axis))
    return correlation_of(sizes.batch, weight_shape, 1, windows, sizes.itemsize)


def correlate(sizes: Correlation, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
    """Write the cross-correlation; shapes as in ``cnn_core.kernels.conv.correlate``."""
    wider, together = wide(sizes), _together(sizes)
    by_window = None if bias is None else np.tile(bias, together)
    shape = (*wider.positions, wider.features)
    try:
        target = output.reshape(shape, copy=False)
    except ValueError:  # its channels are apart
        target = np.empty(shape, dtype=output.dtype)
    direct.correlate(wider, input, _wide_weight(sizes, weight), by_window, target)
    if not is_all_finite(target):
        direct.correlate(sizes, input, weight, bias, output)
    elif not np.may_share_memory(target, output):
        output[...] = target.reshape(output.shape)


def correlate_grad_weight(sizes: Correlation, input: Array, grad_output: Array, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight; shapes as in ``cnn_core.kernels.conv``."""
    wider = wide(sizes)
    gradient = np.empty(wider.weight_shape, dtype=grad_weight.dtype)
    direct.correlate_grad_weight(wider, input, _wide_gradient(sizes, grad_output), gradient)
    # what belongs to the zeros of the wider weight counts for nothing
    np.add.reduce(_bands(sizes, gradient), axis=0, out=grad_weight)


def correlate_grad_input(
    sizes: Correlation, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
) -> None:
    """Write the gradient with respect to the input; shapes as in ``cnn_core.kernels.conv``."""
    gradient = _wide_gradient(sizes, grad_output)
    spread.correlate_grad_input(wide(sizes), gradient, _wide_weight(sizes, weight), bias, grad_input)
    if not is_all_finite(grad_input):
        spread.correlate_grad_input(sizes, grad_output, weight, bias, grad_input)


def _wide_weight(sizes: Correlation, weight: Array) -> Array:
    wider = np.zeros(wide(sizes).weight_shape, dtype=weight.dtype)
    _bands(sizes, wider)[...] = weight
    return wider


def _wide_gradient(sizes: Correlation, grad_output: Array) -> Array:
    wider = wide(sizes)
    return grad_output.reshape(*wider.positions, wider.features)


def _bands(sizes: Correlation, wider: Array) -> Array:
    """View where a wider weight (*K, L, C, T * F) holds that of each window: (T, *K, KW, C, F)."""
    together, last = _together(sizes), sizes.windows.axes[-1]
    *ahead, along, channel, feature = wider.strides
    return np.ndarray(
        (together, *sizes.weight_shape),
        wider.dtype,
        wider.data,
        strides=(
            last.stride * along + sizes.features * feature,
            *ahead,
            last.dilation * along,
            channel,
            feature,
        ),
    )
