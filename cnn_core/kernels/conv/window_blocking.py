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
from cnn_core.kernels.conv.problem import ConvProblem, cached_per_problem, conv_problem
from cnn_core.kernels.finite import is_all_finite

__all__ = ["applies", "correlate", "correlate_grad_input", "correlate_grad_weight", "wide"]

Array = NDArray[Any]

MAX_FEATURES = 16
MAX_RUN = 32
"""Elements of the taps next to each other: longer runs are copied about as fast as memory allows."""

MIN_POSITIONS = 2**12
MAX_COLUMNS = 128

COPIED_RUN, COPIED_ELEMENT = 3.0, 0.1
"""Nanoseconds that a run of a patch takes, and each of its elements."""

PRODUCTS, HALF_SPEED_COLUMNS = 60.0, 24
"""Products in a nanosecond, of many columns; and the columns that have half of that speed."""


@cached_per_problem
def applies(problem: ConvProblem) -> bool:
    """Return whether channels are few, and windows that are one are faster."""
    return _together(problem) > 1


@cached_per_problem
def _together(problem: ConvProblem) -> int:
    """Return how many windows are one: of the divisors of the output's size the one that is the fastest."""
    last = problem.windows.axes[-1]
    if (
        problem.groups > 1
        or problem.features > MAX_FEATURES
        or problem.channels * last.kernel_size > MAX_RUN
        or math.prod(problem.positions) < MIN_POSITIONS
    ):
        return 1
    most = MAX_COLUMNS // problem.features
    divisors = (count for count in range(1, most + 1) if last.output_size % count == 0)
    return min(divisors, key=lambda count: _time(problem, count))


def _time(problem: ConvProblem, together: int) -> float:
    """Return the nanoseconds that a window takes, about, if so many are one."""
    rows = problem.taps // problem.windows.axes[-1].kernel_size
    run = problem.channels * _extent(problem, together)
    columns = together * problem.features
    products = rows * run * problem.features * (1 + HALF_SPEED_COLUMNS / columns) / PRODUCTS
    return rows * (COPIED_RUN + COPIED_ELEMENT * run) / together + products


def _extent(problem: ConvProblem, together: int) -> int:
    last = problem.windows.axes[-1]
    return (together - 1) * last.stride + last.extent


@cached_per_problem
def wide(problem: ConvProblem) -> ConvProblem:
    """Return the sizes of the same correlation with wider windows."""
    together, last = _together(problem), problem.windows.axes[-1]
    extent = _extent(problem, together)
    axis = dataclasses.replace(
        last,
        kernel_size=extent,
        stride=together * last.stride,
        dilation=1,
        output_size=last.output_size // together,
    )
    weight_shape = (*problem.weight_shape[:-3], extent, problem.channels, together * problem.features)
    windows = Windows((*problem.windows.axes[:-1], axis))
    return conv_problem(problem.batch, weight_shape, 1, windows, problem.itemsize)


def correlate(problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
    """Write the cross-correlation; shapes as in ``cnn_core.kernels.conv.correlate``."""
    wider, together = wide(problem), _together(problem)
    by_window = None if bias is None else np.tile(bias, together)
    shape = (*wider.positions, wider.features)
    try:
        target = output.reshape(shape, copy=False)
    except ValueError:  # its channels are apart
        target = np.empty(shape, dtype=output.dtype)
    direct.correlate(wider, input, _wide_weight(problem, weight), by_window, target)
    if not is_all_finite(target):
        direct.correlate(problem, input, weight, bias, output)
    elif not np.may_share_memory(target, output):
        output[...] = target.reshape(output.shape)


def correlate_grad_weight(problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight; shapes as in ``cnn_core.kernels.conv``."""
    wider = wide(problem)
    gradient = np.empty(wider.weight_shape, dtype=grad_weight.dtype)
    direct.correlate_grad_weight(wider, input, _wide_gradient(problem, grad_output), gradient)
    # what belongs to the zeros of the wider weight counts for nothing
    np.add.reduce(_bands(problem, gradient), axis=0, out=grad_weight)


def correlate_grad_input(
    problem: ConvProblem, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
) -> None:
    """Write the gradient with respect to the input; shapes as in ``cnn_core.kernels.conv``."""
    gradient = _wide_gradient(problem, grad_output)
    spread.correlate_grad_input(wide(problem), gradient, _wide_weight(problem, weight), bias, grad_input)
    if not is_all_finite(grad_input):
        spread.correlate_grad_input(problem, grad_output, weight, bias, grad_input)


def _wide_weight(problem: ConvProblem, weight: Array) -> Array:
    wider = np.zeros(wide(problem).weight_shape, dtype=weight.dtype)
    _bands(problem, wider)[...] = weight
    return wider


def _wide_gradient(problem: ConvProblem, grad_output: Array) -> Array:
    wider = wide(problem)
    return grad_output.reshape(*wider.positions, wider.features)


def _bands(problem: ConvProblem, wider: Array) -> Array:
    """View where a wider weight (*K, L, C, T * F) holds that of each window: (T, *K, KW, C, F)."""
    together, last = _together(problem), problem.windows.axes[-1]
    *ahead, along, channel, feature = wider.strides
    return np.ndarray(
        (together, *problem.weight_shape),
        wider.dtype,
        wider.data,
        strides=(
            last.stride * along + problem.features * feature,
            *ahead,
            last.dilation * along,
            channel,
            feature,
        ),
    )
