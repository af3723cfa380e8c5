"""Output-width blocking for few channels: several adjacent windows as one wider window with a banded weight.

Where a window has few channels in and out, its matrix products are narrow, and its patch is copied in runs of a few
elements. Some adjacent windows along the last axis are together one window of larger extent that has the outputs of
all of them: its weight is banded (a Toeplitz matrix), with their weights side by side, each shifted by the stride, and
zeros elsewhere. A depthwise convolution of many taps is that for each channel.

    weight   1 2 3     two windows   1 2 3 .
                       as one        . 1 2 3

There are more products, by the ratio of the extents, but fewer and longer runs to copy, and more columns. What is added
to each sum in addition to its own products is zeros. Zero times infinity is not zero: a result that is not all finite
is computed again without blocking.

LeNet's layers take 1.5 to 2.6 times as long without this, others 0.8 to 1.3 times (docs/decisions/0013), depthwise
windows of 31 x 31 twice as long.

Axes in comments as in ``im2col_gemm``; B windows joined to one, L elements of the wider window along the last axis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import Windows
from ...runtime.blocks import BLOCK_BYTES
from ...runtime.threads import run_blocks, thread_count
from ..finite import is_all_finite
from ..passes import contiguous
from .col2im import COL2IM
from .depthwise import DEPTHWISE
from .im2col_gemm import IM2COL_GEMM
from .kernel import ConvKernel
from .patches import split_channels
from .problem import ConvProblem, cached_per_problem, conv_problem

__all__ = ["BLOCKED_COL2IM", "WINDOW_BLOCKING", "BlockedCol2im", "WindowBlocking", "unblocked_kernel"]

Array = NDArray[Any]

MAX_FEATURES = 16
"""With more output channels, matrix products are wide enough."""

MAX_RUN = 32
"""Maximum elements of adjacent taps: longer runs are copied about as fast as memory allows."""

MIN_POSITIONS = 2**12
"""With fewer windows, making the banded weight takes longer than it saves."""

MAX_COLUMNS = 128
"""Maximum number of columns; wider products are not faster."""

COPIED_RUN, COPIED_ELEMENT = 3.0, 0.1
"""Nanoseconds for copying a run of a patch, and in addition for each of its elements."""

PRODUCTS, HALF_SPEED_COLUMNS = 60.0, 24
"""Products in a nanosecond with many columns; and the number of columns at which a product has half that speed."""

MAX_PART_BYTES = 3 * BLOCK_BYTES
"""Patches and banded weights of the groups that are computed at a time: what is computed as one block."""

DEPTHWISE_PRODUCT, COPIED_CHANNEL = 6, 1.5
"""How many products of small matrices take as long as one of the depthwise kernel; and the nanoseconds for copying an
element of one channel from between those of the others."""


class WindowBlocking:
    """The ``ConvKernel`` of problems with few channels."""

    def supports(self, problem: ConvProblem) -> bool:
        """Return whether channels are few, and wider windows are faster."""
        return _block_width(problem) > 1

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation."""
        blocked, outputs = _blocked_problem(problem), _outputs_by_group(problem, output)
        by_group = None if bias is None else bias.reshape(problem.groups, 1, -1)

        def make_worker(_: object) -> Callable[[slice], None]:
            def compute(groups: slice) -> None:
                banded = _banded_weight(problem, weight, groups)  # (g, B, F/G, *K, L, C/G)
                target = outputs[..., groups, :, :]
                of_groups = None if by_group is None else by_group[groups]
                matrices = banded.reshape(len(banded), target.shape[-2] * target.shape[-1], -1).swapaxes(1, 2)
                if problem.groups == 1:  # the only matrix is read again for every few rows
                    matrices = np.ascontiguousarray(matrices)
                IM2COL_GEMM.forward_by_group(blocked, _channels(problem, input, groups), matrices, of_groups, target)

            return compute

        run_blocks(_parts(problem), make_worker)
        if not is_all_finite(output):
            unblocked_kernel(problem).forward(problem, input, weight, bias, output)

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight."""
        blocked, gradients = _blocked_problem(problem), _outputs_by_group(problem, grad_output)
        targets = _groups_first(problem, grad_weight)

        def make_worker(_: object) -> Callable[[slice], None]:
            def compute(groups: slice) -> None:
                gradient, of_groups = np.empty(blocked.weight_shape, grad_weight.dtype), gradients[..., groups, :, :]
                channels = _channels(problem, input, groups)
                IM2COL_GEMM.grad_weight_by_group(blocked, channels, of_groups, gradient)
                by_window = gradient.reshape(*gradient.shape[:-1], *of_groups.shape[-3:])
                # what belongs to the zeros of the banded weight does not count
                bands = _bands(problem, gradient, by_window.transpose(-3, -2, -1, *range(gradient.ndim - 1)))
                np.add.reduce(bands, axis=1, out=targets[groups])

            return compute

        run_blocks(_parts(problem), make_worker)

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the banded weights and of products; without blocking, if these are not finite."""
        blocked = _blocked_problem(problem)
        of_part = 2 * blocked.weights + problem.weights + IM2COL_GEMM.forward_workspace(blocked)
        without = unblocked_kernel(problem).forward_workspace(problem)
        return max(without, thread_count(len(_parts(problem))) * of_part)

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the gradients of banded weights, and of what computes them."""
        blocked = _blocked_problem(problem)
        of_part = blocked.weights + IM2COL_GEMM.grad_weight_workspace(blocked)
        return thread_count(len(_parts(problem))) * of_part

    def work(self, problem: ConvProblem) -> int:
        """Return the work without blocking, which is faster where it is taken."""
        return unblocked_kernel(problem).work(problem)


class BlockedCol2im:
    """The ``GradInputKernel`` of the same problems."""

    def grad_input(
        self, problem: ConvProblem, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
    ) -> None:
        """Write the gradient with respect to the input."""
        blocked = _blocked_problem(problem)
        gradient = contiguous(grad_output).reshape(*blocked.positions, blocked.features)
        banded = _banded_weight(problem, weight, slice(0, 1)).reshape(blocked.features, *blocked.weight_shape[:-1])
        COL2IM.grad_input(blocked, gradient, np.moveaxis(banded, 0, -1), bias, grad_input)
        if not is_all_finite(grad_input):
            COL2IM.grad_input(problem, grad_output, weight, bias, grad_input)

    def workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the banded weight and of grad_output, if it must be copied."""
        kernel = max(COL2IM.workspace(problem), COL2IM.workspace(_blocked_problem(problem)))
        copied = _blocked_problem(problem).weights + math.prod(problem.positions) * problem.features
        return copied + problem.weights + kernel

    def work(self, problem: ConvProblem) -> int:
        """Return the work without blocking, which is faster where it is taken."""
        return COL2IM.work(problem)


WINDOW_BLOCKING = WindowBlocking()
BLOCKED_COL2IM = BlockedCol2im()


def unblocked_kernel(problem: ConvProblem) -> ConvKernel:
    """Return the kernel that computes a problem directly, and each window by itself."""
    return DEPTHWISE if DEPTHWISE.supports(problem) else IM2COL_GEMM


@cached_per_problem
def _block_width(problem: ConvProblem) -> int:
    """Return how many windows are joined to one: the fastest of the divisors of the output's size."""
    last, features = problem.windows.axes[-1], problem.features // problem.groups
    is_depthwise = problem.groups > 1 and problem.group_channels == 1
    if not is_depthwise and (
        problem.groups > 1
        or features > MAX_FEATURES
        or problem.channels * last.kernel_size > MAX_RUN
        or math.prod(problem.positions) < MIN_POSITIONS
    ):
        return 1
    divisors = (
        count
        for count in range(1, MAX_COLUMNS // features + 1)
        if last.output_size % count == 0 and problem.itemsize * _banded_elements(problem, count) <= MAX_PART_BYTES
    )
    fastest = min(divisors, key=lambda count: _time(problem, count), default=1)
    return 1 if DEPTHWISE.supports(problem) and _time(problem, fastest) > _depthwise_time(problem) else fastest


def _time(problem: ConvProblem, width: int) -> float:
    """Estimate the nanoseconds for one window of a group if so many windows are joined to one."""
    rows = problem.taps // problem.windows.axes[-1].kernel_size
    run = problem.group_channels * _extent(problem, width)
    columns, banded = width * problem.features // problem.groups, _banded_elements(problem, width)
    products = banded * (1 + HALF_SPEED_COLUMNS / columns) / PRODUCTS
    copied = COPIED_ELEMENT * banded * width / max(1, math.prod(problem.positions))
    return (rows * (COPIED_RUN + COPIED_ELEMENT * run) + products + copied) / width


def _banded_elements(problem: ConvProblem, width: int) -> int:
    """Return the elements of the banded weight of a group if so many windows are joined to one."""
    last = problem.windows.axes[-1]
    return problem.weights // problem.groups // last.kernel_size * _extent(problem, width) * width


def _depthwise_time(problem: ConvProblem) -> float:
    """Estimate the nanoseconds for one window of a channel without blocking, less what takes its channel apart."""
    copied = (problem.spanned_per_position + problem.features) / problem.groups
    return problem.weights / problem.groups * DEPTHWISE_PRODUCT / PRODUCTS - copied * COPIED_CHANNEL


def _extent(problem: ConvProblem, width: int) -> int:
    last = problem.windows.axes[-1]
    return (width - 1) * last.stride + last.extent


@cached_per_problem
def _parts(problem: ConvProblem) -> list[slice]:
    """Return the groups that are computed at a time."""
    step = _blocked_problem(problem).groups
    return [slice(start, start + step) for start in range(0, problem.groups, step)]


@cached_per_problem
def _blocked_problem(problem: ConvProblem) -> ConvProblem:
    """Return the same cross-correlation of some groups, as many as are computed at a time, with wider windows."""
    width, last = _block_width(problem), problem.windows.axes[-1]
    extent, columns = _extent(problem, width), width * problem.features // problem.groups
    axis = dataclasses.replace(
        last, kernel_size=extent, stride=width * last.stride, dilation=1, output_size=last.output_size // width
    )
    windows = Windows((*problem.windows.axes[:-1], axis))
    ahead = (*problem.weight_shape[:-3], extent, problem.group_channels)
    of_group = problem.itemsize * math.prod(ahead) * (math.prod(problem.positions) // width + columns)
    most = max(1, MAX_PART_BYTES // of_group)
    groups = max(count for count in range(1, min(most, problem.groups) + 1) if problem.groups % count == 0)
    return conv_problem(problem.batch, (*ahead, groups * columns), groups, windows, problem.itemsize)


def _outputs_by_group(problem: ConvProblem, output: Array) -> Array:
    """View an output (N, *O, F) by group, (N, *O / B, G, B, F/G); splitting axes never copies."""
    *ahead, last, features = output.shape
    width, groups = _block_width(problem), problem.groups
    return output.reshape(*ahead, last // width, width, groups, features // groups).swapaxes(-3, -2)


def _channels(problem: ConvProblem, input: Array, groups: slice) -> Array:
    return input[..., groups.start * problem.group_channels : groups.stop * problem.group_channels]


def _groups_first(problem: ConvProblem, weight: Array) -> Array:
    """View a weight (*K, C/G, F) as (G, F/G, *K, C/G)."""
    kernel = range(weight.ndim - 1)
    return split_channels(weight, problem.groups).transpose(-2, -1, *kernel)


def _banded_weight(problem: ConvProblem, weight: Array, groups: slice) -> Array:
    """Return the banded weight of some groups, (g, B, F/G, *K, L, C/G)."""
    of_groups = np.ascontiguousarray(_groups_first(problem, weight)[groups])
    count, features, *kernel, _, channels = of_groups.shape
    width = _block_width(problem)
    banded = np.zeros((count, width, features, *kernel, _extent(problem, width), channels), dtype=weight.dtype)
    _bands(problem, banded, banded)[...] = of_groups[:, None]
    return banded


def _bands(problem: ConvProblem, memory: Array, banded: Array) -> Array:
    """View the bands of banded weights (g, B, F/G, *K, L, C/G), one for each window: (g, B, F/G, *K, KW, C/G)."""
    last = problem.windows.axes[-1]
    group, window, *between, along, channel = banded.strides
    shape = (*banded.shape[:-2], last.kernel_size, banded.shape[-1])
    strides = (group, window + last.stride * along, *between, last.dilation * along, channel)
    return np.ndarray(shape, banded.dtype, memory.data, strides=strides)
