"""Cross-correlation and its two transposes, on channels-last arrays of any number of spatial axes.

This says what is computed; how it is follows from the sizes:

* ``direct``: patches times weights, as products of matrices, in blocks;
* ``depthwise``: the same where every channel is a group of its own, as weighted sums;
* ``widened``: the same where channels are few, several windows as one;
* ``winograd``: for windows of 3 x 3, with a quarter of the multiplications;
* ``phases``: what windows give back to the elements that they cover, as correlations;
* ``spread``: the same, added piece by piece;
* ``choice``: which of them;
* ``costs``: what it costs.

Axes: N batch, S spatial sizes, O output sizes, K kernel sizes, G groups, C channels in, F channels out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.geometry import Windows
from cnn_core.kernels.conv import select as choice
from cnn_core.kernels.conv.problem import ConvProblem, conv_problem, transposed_weight
from cnn_core.parameters import Algorithm, Direction, TakenAlgorithm
from cnn_core.runtime.packing import touch_packing_buffers
from cnn_core.runtime.threads import get_threads

__all__ = ["correlate", "correlate_grad_input", "correlate_grad_weight", "taken_algorithm"]

Array = NDArray[Any]

MIN_TOUCHING_WORK = 2**24
"""Multiply-accumulates of a layer from which BLAS's buffers are touched first: it takes as long as some of these."""


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
    batch : int
    weight_shape : tuple of int
        (*K, C/G, F).
    groups : int
    windows : Windows
    itemsize : int
        Bytes of an element of the type that sums are computed in.
    algorithm : {"auto", "direct", "fastest", "winograd", "fft"}
    direction : {"forward", "backward"}
    transposed : bool
        Whether the layer is a transposed convolution.
    """
    if algorithm in {"auto", "direct"}:  # as ``choice.taken`` has it, but tiny layers need not look their sizes up
        return "direct"
    problem = conv_problem(batch, weight_shape, groups, windows, itemsize)
    return choice.taken(problem, algorithm, direction, transposed=transposed)


def _prepare_blas(problem: ConvProblem) -> None:
    if math.prod(problem.positions) * problem.weights >= MIN_TOUCHING_WORK:
        touch_packing_buffers(get_threads())


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
    """Write the cross-correlation of an input with a weight.

    Parameters
    ----------
    input : ndarray, shape (N, *S, C)
    weight : ndarray, shape (*K, C/G, F)
        In the type that sums are computed in.
    windows : Windows
    groups : int
    output : ndarray, shape (N, *O, F)
        Overwritten. Of the type of ``weight``.
    bias : ndarray, shape (F,), optional
        Of the type of ``weight``.
    algorithm : {"direct", "winograd", "fft"}
        Direct is used where another one does not apply.
    """
    problem = conv_problem(len(input), weight.shape, groups, windows, weight.itemsize)
    _prepare_blas(problem)
    choice.chosen(problem, algorithm).correlate(problem, input, weight, bias, output)


def correlate_grad_weight(
    input: Array,
    grad_output: Array,
    windows: Windows,
    groups: int,
    grad_weight: Array,
    *,
    algorithm: TakenAlgorithm = "direct",
) -> None:
    """Write the gradient with respect to the weight: the correlation of the input with grad_output.

    Parameters
    ----------
    input : ndarray, shape (N, *S, C)
    grad_output : ndarray, shape (N, *O, F)
    windows : Windows
    groups : int
    grad_weight : ndarray, shape (*K, C/G, F)
        Overwritten. Of the type that sums are computed in.
    algorithm : {"direct", "winograd", "fft"}
        As of ``correlate``.
    """
    problem = conv_problem(len(input), grad_weight.shape, groups, windows, grad_weight.itemsize)
    _prepare_blas(problem)
    choice.chosen(problem, algorithm).correlate_grad_weight(problem, input, grad_output, grad_weight)


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
    """Write the gradient with respect to the input: the transposed correlation of grad_output with the weight.

    Parameters
    ----------
    grad_output : ndarray, shape (N, *O, F)
    weight : ndarray, shape (*K, C/G, F)
    windows : Windows
    groups : int
    grad_input : ndarray, shape (N, *S, C)
        Overwritten. Of the type of ``weight``. Elements that no window covers get zero.
    bias : ndarray, shape (C,), optional
        Added to all elements.
    algorithm : {"direct", "winograd", "fft"}
        As of ``correlate``.
    """
    problem = conv_problem(len(grad_input), weight.shape, groups, windows, weight.itemsize)
    _prepare_blas(problem)
    polyphase_components = choice.gathered(problem, algorithm)
    # as a correlation, grad_output is padded with zeros: an infinite weight would make NaN of them
    if polyphase_components is None or not np.isfinite(weight).all():
        choice.spreading(problem).correlate_grad_input(problem, grad_output, weight, bias, grad_input)
        return
    for component in polyphase_components:
        target = grad_input[(slice(None), *component.elements)]
        if component.problem is None:
            target[...] = 0 if bias is None else bias
            continue
        flipped = transposed_weight(weight[component.taps], groups)
        choice.chosen(component.problem, algorithm).correlate(component.problem, grad_output, flipped, bias, target)
