"""Cross-correlation and its two transposes, on channels-last arrays of any number of spatial axes.

With the windows of the input laid out as a matrix of patches, one row for each window and one column for each tap and
channel, the three computations are three products of matrices (per group):

    output      = patches @ weight
    grad_weight = patches.T @ grad_output
    grad_input  = fold(grad_output @ weight.T)       fold: add each patch back to where it was taken from

The matrix of patches is never built whole: it is made for one block of windows at a time. Where every channel is a
group of its own (depthwise), the matrices have one column per tap, and elementwise products tap by tap are faster. Tap
by tap is also how grad_input is computed where a patch is so long that few of them fit a block: they would be folded
back one by one.

Axes in comments: N batch, S spatial sizes, O output sizes, K kernel sizes, G groups, C channels in, F channels out,
P windows in a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.folding import fold
from cnn_core.compute.plan import CorrelationPlan, WindowBlock
from cnn_core.geometry import Windows

__all__ = ["correlate", "correlate_grad_input", "correlate_grad_weight"]

Array = NDArray[Any]


def correlate(input: Array, weight: Array, windows: Windows, groups: int, output: Array) -> None:
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
    """
    plan = CorrelationPlan(len(input), weight.shape, groups, windows, weight.itemsize)
    if plan.is_depthwise:
        output[...] = 0
        grouped = _split_channels(output, groups)  # (N, *O, C, F/C)
        for block, view in _views(input, plan.tap_blocks()):
            for taps in np.ndindex(weight.shape[:-2]):
                chosen = _tap_of_view(view, taps)[..., None]  # (n, *o, C, 1)
                grouped[block] += chosen * weight[taps].reshape(groups, -1)
        return
    matrices = _weight_matrices(weight, groups)  # (G, K*C/G, F/G)
    for block, patches in _patches(input, weight, plan):
        products = np.matmul(patches, matrices)  # (G, P, F/G)
        _split_channels(output[block], groups)[...] = _ungrouped_windows(products, output[block].shape[:-1])


def correlate_grad_weight(input: Array, grad_output: Array, windows: Windows, groups: int, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight: the correlation of the input with grad_output.

    Parameters
    ----------
    input : ndarray, shape (N, *S, C)
    grad_output : ndarray, shape (N, *O, F)
    windows : Windows
    groups : int
    grad_weight : ndarray, shape (*K, C/G, F)
        Overwritten. Of the type that sums are computed in.
    """
    plan = CorrelationPlan(len(input), grad_weight.shape, groups, windows, grad_weight.itemsize)
    grad_weight[...] = 0
    if plan.is_depthwise:
        grouped = _split_channels(grad_output, groups)  # (N, *O, C, F/C)
        over_windows = tuple(range(1 + len(windows.axes)))
        for block, view in _views(input, plan.tap_blocks()):
            for taps in np.ndindex(grad_weight.shape[:-2]):
                chosen = _tap_of_view(view, taps)[..., None]  # (n, *o, C, 1)
                products = np.multiply(chosen, grouped[block], dtype=grad_weight.dtype)
                grad_weight[taps] += products.sum(axis=over_windows).reshape(1, -1)
        return
    total = np.zeros_like(_weight_matrices(grad_weight, groups))  # (G, K*C/G, F/G)
    for block, patches in _patches(input, grad_weight, plan):
        total += np.matmul(patches.swapaxes(1, 2), _gradient_matrices(grad_output[block], groups, total.dtype))
    by_group = total.reshape(groups, *grad_weight.shape[:-1], -1)  # (G, *K, C/G, F/G)
    _split_channels(grad_weight, groups)[...] = np.moveaxis(by_group, 0, -2)


def correlate_grad_input(grad_output: Array, weight: Array, windows: Windows, groups: int, grad_input: Array) -> None:
    """Write the gradient with respect to the input: the transposed correlation of grad_output with the weight.

    Parameters
    ----------
    grad_output : ndarray, shape (N, *O, F)
    weight : ndarray, shape (*K, C/G, F)
    windows : Windows
    groups : int
    grad_input : ndarray, shape (N, *S, C)
        Overwritten. Of the type that sums are computed in. Elements that no window covers get zero.
    """
    plan = CorrelationPlan(len(grad_input), weight.shape, groups, windows, weight.itemsize)
    grad_input[...] = 0
    if plan.folds:
        transposed = _weight_matrices(weight, groups).swapaxes(1, 2)  # (G, F/G, K*C/G)
        for block, covered, part in plan.patch_blocks():
            gradient = _gradient_matrices(grad_output[block], groups, weight.dtype)
            patches = np.matmul(gradient, transposed)  # (G, P, K*C/G)
            target = _split_channels(grad_input[covered], groups)  # (n, *S, G, C/G)
            shape = (groups, target.shape[0], *part.output_sizes, *weight.shape[:-1])
            fold(np.moveaxis(patches.reshape(shape), 0, -2), part, target)
        return
    grouped = _split_channels(grad_output, groups)  # (N, *O, G, F/G)
    by_tap = _weight_by_group(weight, groups)  # (*K, G, F/G, C/G)
    target = _split_channels(grad_input, groups)  # (N, *S, G, C/G)
    for block, covered, part in plan.tap_blocks():
        gradient, place = grouped[block], target[covered]
        for taps, outputs, inputs in part.taps():
            place[(slice(None), *inputs)] += _group_products(gradient[(slice(None), *outputs)], by_tap[taps])


def _split_channels(array: Array, groups: int) -> Array:
    """View (..., channels) as (..., G, channels/G); splitting one axis never copies."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def _weight_matrices(weight: Array, groups: int) -> Array:
    """Return (*K, C/G, F) as one matrix (K*C/G, F/G) for each group."""
    columns = weight.shape[-1]
    return np.moveaxis(weight.reshape(-1, groups, columns // groups), 1, 0)


def _weight_by_group(weight: Array, groups: int) -> Array:
    """Return (*K, C/G, F) as (*K, G, F/G, C/G)."""
    return np.moveaxis(_split_channels(weight, groups), -3, -1)


def _group_products(gradient: Array, matrices: Array) -> Array:
    """Multiply (n, *o, G, F/G) by one matrix (F/G, C/G) for each group: (n, *o, G, C/G)."""
    features, channels = matrices.shape[-2:]
    if features == 1 or channels == 1:
        products = gradient[..., None] * matrices  # (n, *o, G, F/G, C/G)
        return products.sum(axis=-2) if features > 1 else products[..., 0, :]
    by_group = np.moveaxis(gradient, -2, 0)  # (G, n, *o, F/G)
    products = np.matmul(by_group.reshape(len(by_group), -1, features), matrices)  # (G, P, C/G)
    return np.moveaxis(products.reshape(*by_group.shape[:-1], channels), 0, -2)


def _gradient_matrices(grad_output: Array, groups: int, dtype: np.dtype[Any]) -> Array:
    """Return (n, *o, F) as one matrix (P, F/G) for each group."""
    split = np.moveaxis(_split_channels(grad_output, groups), -2, 0)  # (G, n, *o, F/G)
    return split.reshape(groups, -1, split.shape[-1]).astype(dtype, copy=False)


def _ungrouped_windows(products: Array, block_shape: tuple[int, ...]) -> Array:
    """Return (G, P, F/G) as (n, *o, G, F/G)."""
    return np.moveaxis(products, 0, 1).reshape(*block_shape, products.shape[0], products.shape[-1])


def _tap_of_view(view: Array, taps: tuple[int, ...]) -> Array:
    """Return one tap of every window: (n, *o, *K, C) at offsets ``taps`` as (n, *o, C)."""
    return view[(slice(None),) * (1 + len(taps)) + taps]


def _views(input: Array, window_blocks: Iterable[WindowBlock]) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Yield slices of the output, and a view (n, *o, *K, C) of their windows in the padded input.

    Taps in the padding are real zeros and are multiplied like any element: an infinite weight over padding gives NaN,
    as it does over an input that was padded beforehand.
    """
    for block, covered, part in window_blocks:
        yield block, part.view(part.pad(input[covered]))


def _patches(input: Array, weight: Array, plan: CorrelationPlan) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Yield the matrices of patches block by block: slices of the output, and patches (G, P, K*C/G)."""
    patch_shape = weight.shape[:-1]  # (*K, C/G)
    for block, view in _views(input, plan.patch_blocks()):
        split = _split_channels(view, plan.groups)  # (n, *o, *K, G, C/G)
        patches = np.empty((plan.groups, *split.shape[: len(block)], *patch_shape), dtype=weight.dtype)
        np.copyto(np.moveaxis(patches, 0, -2), split)
        yield block, patches.reshape(plan.groups, -1, math.prod(patch_shape))
