"""Output-width blocking for few channels: several adjacent windows as one wider window with a banded weight.

Where a window has few channels in and out, its matrix products are narrow, and its patch is copied in runs of a few
elements. Some adjacent windows along the last axis are together one window of larger extent that has the outputs of
all of them: its weight is banded (a Toeplitz matrix), with their weights side by side, each shifted by the stride, and
zeros elsewhere.

    weight   1 2 3     two windows   1 2 3 .
                       as one        . 1 2 3

There are more products, by the ratio of the extents, but fewer and longer runs to copy, and more columns. What is added
to each sum in addition to its own products is zeros. Zero times infinity is not zero: results that are not finite are
computed again without blocking.

How many windows are joined follows from the layer alone, and whether any are from the size of the last axis, not from
the batch. Windows beyond the last one are computed, too, and left out.

LeNet's layers take 1.5 to 2.6 times as long without this, others 0.8 to 1.3 times (docs/decisions/0013).

Axes in comments as in ``im2col_gemm``; B windows joined to one, L elements of the wider window along the last axis.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import Windows
from ..finite import is_all_finite
from ..passes import copy, parts
from .col2im import COL2IM
from .im2col_gemm import IM2COL_GEMM
from .problem import ConvProblem, cached_per_problem, conv_problem

__all__ = [
    "BLOCKED_COL2IM",
    "WINDOW_BLOCKING",
    "BlockedCol2im",
    "WindowBlocking",
    "blocked_problem",
    "joined_windows",
]

Array = NDArray[Any]

MAX_FEATURES = 16
"""With more output channels, matrix products are wide enough."""

MAX_RUN = 32
"""Maximum elements of adjacent taps: longer runs are copied about as fast as memory allows."""

MAX_JOINED_RUN = 256
"""Maximum elements of a wider window along the last axis: with taps far apart, most of its weight would be zeros."""

ALIGNMENT = 8
"""A region of an image has the bits that it has in the whole if it starts at a multiple of so many windows along the
last axis, since all WIDTHS divide it, and has at least MIN_WINDOWS."""

MIN_WINDOWS = 9
"""With fewer windows along the last axis, making the banded weight takes longer than it saves."""

MAX_COLUMNS = 128
"""Maximum number of columns; wider products are not faster."""

WIDTHS = (1, 2, 4, 8)
"""How many windows may be joined: numbers that divide the usual sizes of outputs."""

MIN_GAIN = 1.05
"""More windows are joined if that is faster by at least this ratio; fewer leave fewer over at the end."""

COPIED_RUN, COPIED_ELEMENT = 3.0, 0.1
"""Nanoseconds for copying a run of a patch, and in addition for each of its elements."""

PRODUCTS, HALF_SPEED_COLUMNS = 60.0, 24
"""Products in a nanosecond with many columns; and the number of columns at which a product has half that speed."""


class WindowBlocking:
    """The ``ConvKernel`` of problems with few channels."""

    def supports(self, problem: ConvProblem) -> bool:
        """Return whether channels are few, and wider windows are faster."""
        return joined_windows(problem) > 1

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation."""
        blocked = blocked_problem(problem)
        by_window = None if bias is None else np.concatenate([bias] * joined_windows(problem))
        target = _by_block(problem, output)
        written = np.empty((*blocked.positions, blocked.features), dtype=output.dtype) if target is None else target
        IM2COL_GEMM.forward(blocked, input, _banded_weight(problem, weight), by_window, written)
        windows = _each_window(problem, written)
        if target is None:
            copy(output, windows)
        if not is_all_finite(windows):
            unblocked = np.empty_like(output)
            IM2COL_GEMM.forward(problem, input, weight, bias, unblocked)
            _replace_not_finite(output, unblocked)

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight."""
        blocked = blocked_problem(problem)
        gradient = np.empty(blocked.weight_shape, dtype=grad_weight.dtype)
        IM2COL_GEMM.grad_weight(blocked, input, _blocked_gradient(problem, grad_output), gradient)
        # what belongs to the zeros of the banded weight does not count
        np.add.reduce(_bands(problem, gradient), axis=0, out=grad_weight)
        # windows beyond the last one may have infinite elements of the input, times zero
        if problem.positions[-1] % joined_windows(problem) and not is_all_finite(grad_weight):
            IM2COL_GEMM.grad_weight(problem, input, grad_output, grad_weight)

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the banded weight and of the output, which may be computed again."""
        blocked = blocked_problem(problem)
        kernel = max(IM2COL_GEMM.forward_workspace(problem), IM2COL_GEMM.forward_workspace(blocked))
        return _blocked_elements(problem) + math.prod(problem.positions) * problem.features + kernel

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the banded weight's gradient and of grad_output, if it must be copied."""
        blocked = blocked_problem(problem)
        kernel = max(IM2COL_GEMM.grad_weight_workspace(problem), IM2COL_GEMM.grad_weight_workspace(blocked))
        return _blocked_elements(problem) + kernel

    def work(self, problem: ConvProblem) -> int:
        """Return the work without blocking, which is faster where it is taken."""
        return IM2COL_GEMM.work(problem)


class BlockedCol2im:
    """The ``GradInputKernel`` of the same problems."""

    def grad_input(
        self, problem: ConvProblem, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
    ) -> None:
        """Write the gradient with respect to the input."""
        gradient = _blocked_gradient(problem, grad_output)
        COL2IM.grad_input(blocked_problem(problem), gradient, _banded_weight(problem, weight), bias, grad_input)
        if not is_all_finite(grad_input):
            unblocked = np.empty_like(grad_input)
            COL2IM.grad_input(problem, grad_output, weight, bias, unblocked)
            _replace_not_finite(grad_input, unblocked)

    def workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the banded weight and of grad_output, if it must be copied."""
        kernel = max(COL2IM.workspace(problem), COL2IM.workspace(blocked_problem(problem)))
        # what is computed without blocking, where results are not finite
        unblocked = problem.batch * math.prod(problem.windows.sizes) * problem.channels
        return _blocked_elements(problem) + unblocked + kernel

    def work(self, problem: ConvProblem) -> int:
        """Return the work without blocking, which is faster where it is taken."""
        return COL2IM.work(problem)


WINDOW_BLOCKING = WindowBlocking()
BLOCKED_COL2IM = BlockedCol2im()


def _blocked_elements(problem: ConvProblem) -> int:
    """Return the elements of a banded weight, and of an output or its gradient with contiguous channels."""
    blocked = blocked_problem(problem)
    return blocked.weights + math.prod(blocked.positions) * blocked.features


@cached_per_problem
def joined_windows(problem: ConvProblem) -> int:
    """Return how many windows are joined to one: as many as are fastest."""
    last = problem.windows.axes[-1]
    if (
        problem.groups > 1
        or problem.features > MAX_FEATURES
        or problem.channels * last.kernel_size > MAX_RUN
        or last.output_size < MIN_WINDOWS
    ):
        return 1
    fastest = 1
    for width in WIDTHS:
        fits = width * problem.features <= MAX_COLUMNS and problem.channels * _extent(problem, width) <= MAX_JOINED_RUN
        if fits and _time(problem, width) * MIN_GAIN < _time(problem, fastest):
            fastest = width
    return fastest


def _time(problem: ConvProblem, width: int) -> float:
    """Estimate the nanoseconds for one window if so many windows are joined to one."""
    rows = problem.taps // problem.windows.axes[-1].kernel_size
    run = problem.channels * _extent(problem, width)
    columns = width * problem.features
    products = rows * run * problem.features * (1 + HALF_SPEED_COLUMNS / columns) / PRODUCTS
    return rows * (COPIED_RUN + COPIED_ELEMENT * run) / width + products


def _extent(problem: ConvProblem, width: int) -> int:
    last = problem.windows.axes[-1]
    return (width - 1) * last.stride + last.extent


@cached_per_problem
def blocked_problem(problem: ConvProblem) -> ConvProblem:
    """Return the same cross-correlation with wider windows."""
    width, last = joined_windows(problem), problem.windows.axes[-1]
    extent = _extent(problem, width)
    axis = dataclasses.replace(
        last, kernel_size=extent, stride=width * last.stride, dilation=1, output_size=-(-last.output_size // width)
    )
    weight_shape = (*problem.weight_shape[:-3], extent, problem.channels, width * problem.features)
    windows = Windows((*problem.windows.axes[:-1], axis))
    return conv_problem(problem.batch, weight_shape, 1, windows, problem.itemsize)


def _banded_weight(problem: ConvProblem, weight: Array) -> Array:
    banded = np.zeros(blocked_problem(problem).weight_shape, dtype=weight.dtype)
    _bands(problem, banded)[...] = weight
    return banded


def _blocked_gradient(problem: ConvProblem, grad_output: Array) -> Array:
    """Return grad_output as that of the wider windows, with zeros for windows beyond the last one."""
    gradient = _by_block(problem, grad_output)
    if gradient is not None:
        return gradient
    blocked = blocked_problem(problem)
    gradient = np.zeros((*blocked.positions, blocked.features), dtype=grad_output.dtype)
    copy(_each_window(problem, gradient), grad_output)
    return gradient


def _each_window(problem: ConvProblem, of_blocks: Array) -> Array:
    """View what is of the wider windows as (N, *O, F)."""
    *ahead, last = problem.positions
    windows = joined_windows(problem) * of_blocks.shape[-2]
    return of_blocks.reshape(*ahead, windows, problem.features)[..., :last, :]


def _by_block(problem: ConvProblem, windows: Array) -> Array | None:
    """View (N, *O, F) as that of the wider windows; None if some are left over, or the view needs a copy."""
    blocked = blocked_problem(problem)
    if problem.positions[-1] % joined_windows(problem):
        return None
    try:
        return windows.reshape(*blocked.positions, blocked.features, copy=False)
    except ValueError:  # its channels are not contiguous
        return None


def _replace_not_finite(results: Array, others: Array) -> None:
    """Write others where results are not finite."""
    for part in parts(results.shape, results.itemsize):
        np.copyto(results[part], others[part], where=~np.isfinite(results[part]))


def _bands(problem: ConvProblem, banded: Array) -> Array:
    """View the bands of a weight (*K, L, C, B * F), one for each window: (B, *K, KW, C, F)."""
    width, last = joined_windows(problem), problem.windows.axes[-1]
    *ahead, along, channel, feature = banded.strides
    return np.ndarray(
        (width, *problem.weight_shape),
        banded.dtype,
        banded.data,
        strides=(
            last.stride * along + problem.features * feature,
            *ahead,
            last.dilation * along,
            channel,
            feature,
        ),
    )
