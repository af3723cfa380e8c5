"""Cross-correlation and its two gradients, on channels-last arrays with any number of spatial axes.

The functions here say what is computed; how it is computed follows from the ``ConvProblem``:

* ``problem``: the descriptor of what is computed, and its division into blocks;
* ``kernel``: the interfaces of the kernels; ``select``: which kernel computes a problem;
* ``direct``: which of the kernels that add the products: ``im2col_gemm``, ``patches`` times weights as matrix
  products; ``depthwise``, where every channel is a group; ``window_blocking``, for few channels;
* ``winograd``, for windows of 3 x 3, and ``fft``, for windows of hundreds of taps: faster, but they round more;
* ``polyphase`` and ``col2im``: the gradient with respect to the input, gathered or scattered;
* ``costs``: the predicted costs of a convolution.

Shapes and types of the operands are those of the methods in ``kernel``.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ...parameters import TakenAlgorithm
from ...runtime.packing import touch_packing_buffers
from ...runtime.threads import get_threads
from .problem import ConvProblem
from .select import forward_kernel, grad_input_kernel

__all__ = ["correlate", "correlate_grad_input", "correlate_grad_weight"]

Array = NDArray[Any]

MIN_TOUCHING_WORK = 2**24
"""Multiply-accumulates of a problem from which the buffers of BLAS are touched first, which takes as long as a few such
problems."""


def correlate(
    problem: ConvProblem,
    input: Array,
    weight: Array,
    output: Array,
    *,
    bias: Array | None = None,
    algorithm: TakenAlgorithm = "direct",
) -> None:
    """Write the cross-correlation of an input with a weight; direct where another algorithm does not support it."""
    _touch_buffers(problem)
    forward_kernel(problem, algorithm).forward(problem, input, weight, bias, output)


def correlate_grad_weight(
    problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array, *, algorithm: TakenAlgorithm
) -> None:
    """Write the gradient with respect to the weight: the correlation of the input with grad_output."""
    _touch_buffers(problem)
    forward_kernel(problem, algorithm).grad_weight(problem, input, grad_output, grad_weight)


def correlate_grad_input(
    problem: ConvProblem,
    grad_output: Array,
    weight: Array,
    grad_input: Array,
    *,
    bias: Array | None = None,
    algorithm: TakenAlgorithm,
) -> None:
    """Write the gradient with respect to the input: the transposed correlation of grad_output with the weight."""
    _touch_buffers(problem)
    grad_input_kernel(problem, algorithm).grad_input(problem, grad_output, weight, bias, grad_input)


def _touch_buffers(problem: ConvProblem) -> None:
    if problem.products >= MIN_TOUCHING_WORK:
        touch_packing_buffers(get_threads())
