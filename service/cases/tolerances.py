"""What each result of a case may be off by, if sums are computed in the type of the case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.ops.base import Op, ResolvedOp
from cnn_core.ops.conv_base import DifferentiableConvolution
from cnn_core.ops.conv_transpose import ConvTranspose

from ..operations.tolerance import Tolerance, magnitudes, term_counts
from .call import CasesCall, Layer
from .exactness import copies_in_padding

__all__ = ["tolerances"]

Array = NDArray[Any]
Tensors = Mapping[str, Array]


def tolerances(call: CasesCall, layer: Layer, operands: Tensors, results: Tensors) -> dict[str, tuple[float, int]]:
    """Return for each result what every element may be off by, and the terms of the longest sum.

    Parameters
    ----------
    call : CasesCall
    layer : Layer
    operands, results : mapping of str to ndarray
        In float64.
    """
    if not call.is_floating:
        return dict.fromkeys(results, (0.0, 0))
    terms = term_counts(layer.op, layer.resolved, layer.shapes)
    if call.kind == "integers":
        return {name: (0.0, terms[name]) for name in results}
    found = _largest_magnitudes(call, layer, operands, tuple(name for name in results if terms[name]))
    return {
        name: (_bound(Tolerance.of(terms[name], call.dtype), result, found.get(name)), terms[name])
        for name, result in results.items()
    }


def _bound(tolerance: Tolerance, result: Array, magnitude: Array | None) -> float:
    if magnitude is None:
        return 0.0
    if magnitude.shape == (1,):  # one for all elements
        result = np.array([_largest(np.abs(result))])
    return float(np.max(tolerance.bounds(result, magnitude), initial=0.0))


def _largest_magnitudes(call: CasesCall, layer: Layer, operands: Tensors, names: tuple[str, ...]) -> dict[str, Array]:
    """Return for each sum the absolute values of its terms added, or one upper bound for all elements of a result."""
    if not names:
        return {}
    if call.kind == "random" and isinstance(layer.op, DifferentiableConvolution):
        bounds = _bounds_of_convolution(layer.op, layer.resolved, operands)
        return {name: np.array([bounds[name]]) for name in names}
    return magnitudes(layer.op, operands, names)


def _bounds_of_convolution(
    op: DifferentiableConvolution, resolved: ResolvedOp[Any], operands: Tensors
) -> dict[str, float]:
    """Return upper bounds: one factor's absolute values added, times the largest of the other.

    They are a few times the sums of products, and need no second computation of the layer.
    """
    input, weight = np.abs(operands["input"]), np.abs(operands["weight"])
    by_feature, by_channel = _sums_of_weight(op, weight)
    by_channel = min(by_channel, _largest(weight) * _products_of_element(op, resolved, weight))
    is_transposed = isinstance(op, ConvTranspose)
    forward, backward = (by_channel, by_feature) if is_transposed else (by_feature, by_channel)
    bias = _largest(np.abs(operands["bias"])) if "bias" in operands else 0.0
    bounds = {"output": forward * _largest(input) + bias}
    if "grad_output" in operands:
        gradient = np.abs(operands["grad_output"])
        scattered, gathered = (input, gradient) if is_transposed else (gradient, input)
        bounds |= {
            "grad_input": backward * copies_in_padding(op, resolved) * _largest(gradient),
            "grad_weight": _sum_by_channel(op, scattered) * _largest(gathered),
            "grad_bias": _sum_by_channel(op, gradient),
        }
    return bounds


def _products_of_element(op: DifferentiableConvolution, resolved: ResolvedOp[Any], weight: Array) -> int:
    """Return how many products of a channel meet in one element that windows overlap at, at most."""
    taps: int = 1
    for axis in resolved.windows.axes:
        taps *= -(-axis.kernel_size // (axis.stride // math.gcd(axis.stride, axis.dilation)))
    features = weight.shape[0 if op.data_format == "channels_first" else -1]
    return int(taps * features // op.groups)


def _largest(magnitudes: Array) -> float:
    return float(magnitudes.max(initial=0.0))


def _sums_of_weight(op: DifferentiableConvolution, weight: Array) -> tuple[float, float]:
    """Return the largest sum of a feature's weights, and of the weights of a channel of a group."""
    if op.data_format == "channels_first":
        features, channels = weight.shape[:2]
        groups = weight.reshape(op.groups, features // op.groups, channels, -1)
        return float(groups.sum(axis=(2, 3)).max()), float(groups.sum(axis=(1, 3)).max())
    channels, features = weight.shape[-2:]
    groups = weight.reshape(-1, channels, op.groups, features // op.groups)
    return float(groups.sum(axis=(0, 1)).max()), float(groups.sum(axis=(0, 3)).max())


def _sum_by_channel(op: Op, array: Array) -> float:
    """Return the largest sum over images and positions of any channel."""
    channels = 1 if op.data_format == "channels_first" else array.ndim - 1
    return float(array.sum(axis=tuple(axis for axis in range(array.ndim) if axis != channels)).max())
