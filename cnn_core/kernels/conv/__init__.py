"""Cross-correlation and its two gradients, on channels-last arrays with any number of spatial axes.

The functions here say what is computed; how it is computed follows from the ``ConvProblem``:

* ``problem``: the descriptor of what is computed, and its division into blocks;
* ``kernel``: the interfaces of the kernels; ``select``: which kernel computes a problem;
* ``direct``: which of the kernels that add the products: ``im2col_gemm``, ``patches`` times weights as matrix
  products; ``depthwise``, where every channel is a group; ``window_blocking``, for few channels or many taps;
* ``winograd``, for windows of 3 x 3, and ``fft``, for windows of hundreds of taps: faster, but they round more;
* ``polyphase`` and ``col2im``: the gradient with respect to the input, gathered or scattered;
* ``costs``: the predicted costs of a convolution.

Shapes and types of the operands are those of the methods in ``kernel``.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from ...geometry import Windows
from ...parameters import Algorithm, Direction, TakenAlgorithm
from ...runtime.packing import touch_packing_buffers
from ...runtime.threads import get_threads
from . import select
from .problem import ConvProblem, conv_problem

__all__ = ["correlate", "correlate_grad_input", "correlate_grad_weight", "taken_algorithm"]

Array = NDArray[Any]

MIN_TOUCHING_WORK = 2**24
"""Multiply-accumulates of a problem from which the buffers of BLAS are touched first, which takes as long as a few such
problems."""


def taken_algorithm(
    batch: int,
    weight_shape: tuple[int, ...],
    groups: int,
    windows: Windows,
    itemsize: int,
    algorithm: Algorithm,
    direction: Direction,
    *,
    transposed: bool = False,
) -> TakenAlgorithm:
    """Return the algorithm that one direction of a layer takes.

    Parameters
    ----------
    batch, weight_shape, groups, windows, itemsize
        See ``ConvProblem``.
    algorithm : {"auto", "direct", "fastest", "winograd", "fft"}
    direction : {"forward", "backward"}
    transposed : bool
        Whether the layer is a transposed convolution.
    """
    if algorithm in {"auto", "direct"}:  # as in ``select.taken``, but without looking up the problem of a tiny layer
        return "direct"
    problem = conv_problem(batch, weight_shape, groups, windows, itemsize)
    return select.taken(problem, algorithm, direction, transposed=transposed)


def correlate(
    input: Array,
    weight: Array,
    windows: Windows,
    groups: int,
    output: Array,
    *,
    bias: Array | None = None,
    algorithm: TakenAlgorithm = "direct",
) -> None:
    """Write the cross-correlation of an input with a weight; direct where another algorithm does not support it."""
    problem = _problem(len(input), weight, windows, groups)
    select.forward_kernel(problem, algorithm).forward(problem, input, weight, bias, output)


def correlate_grad_weight(
    input: Array,
    grad_output: Array,
    windows: Windows,
    groups: int,
    grad_weight: Array,
    *,
    algorithm: TakenAlgorithm = "direct",
) -> None:
    """Write the gradient with respect to the weight: the correlation of the input with grad_output."""
    problem = _problem(len(input), grad_weight, windows, groups)
    select.forward_kernel(problem, algorithm).grad_weight(problem, input, grad_output, grad_weight)


def correlate_grad_input(
    grad_output: Array,
    weight: Array,
    windows: Windows,
    groups: int,
    grad_input: Array,
    *,
    bias: Array | None = None,
    algorithm: TakenAlgorithm = "direct",
) -> None:
    """Write the gradient with respect to the input: the transposed correlation of grad_output with the weight."""
    problem = _problem(len(grad_input), weight, windows, groups)
    select.grad_input_kernel(problem, algorithm).grad_input(problem, grad_output, weight, bias, grad_input)


def _problem(batch: int, weight: Array, windows: Windows, groups: int) -> ConvProblem:
    problem = conv_problem(batch, weight.shape, groups, windows, weight.itemsize)
    if math.prod(problem.positions) * problem.weights >= MIN_TOUCHING_WORK:
        touch_packing_buffers(get_threads())
    return problem
