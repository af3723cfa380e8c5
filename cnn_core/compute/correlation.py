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
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.compute.blocks import BLOCK_BYTES, block_count, block_sizes, blocks
from cnn_core.compute.cost import STEP, Cost
from cnn_core.geometry import AxisWindows, Windows

__all__ = ["correlate", "correlate_grad_input", "correlate_grad_weight", "correlation_costs"]

Array = NDArray[Any]

MOST_DEPTHWISE_TAPS = 1024
LARGEST_BLOCK_BYTES = 16 * BLOCK_BYTES
PATCH_ELEMENT, DEPTHWISE_PRODUCT = 10, 20
"""Work of copying an element of a patch, or of adding it to the gradient; of an elementwise product and its sum."""


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
    if _is_depthwise(weight, groups):
        output[...] = 0
        grouped = _split_channels(output, groups)  # (N, *O, C, F/C)
        for block, view in _view_blocks(input, windows, _bytes_of_taps(weight.shape, groups, windows, weight.itemsize)):
            for taps in np.ndindex(weight.shape[:-2]):
                chosen = _tap_of_view(view, taps)[..., None]  # (n, *o, C, 1)
                grouped[block] += chosen * weight[taps].reshape(groups, -1)
        return
    matrices = _weight_matrices(weight, groups)  # (G, K*C/G, F/G)
    for block, patches in _patch_blocks(input, weight, windows, groups):
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
    grad_weight[...] = 0
    if _is_depthwise(grad_weight, groups):
        grouped = _split_channels(grad_output, groups)  # (N, *O, C, F/C)
        over_windows = tuple(range(1 + len(windows.axes)))
        bytes_of_taps = _bytes_of_taps(grad_weight.shape, groups, windows, grad_weight.itemsize)
        for block, view in _view_blocks(input, windows, bytes_of_taps):
            for taps in np.ndindex(grad_weight.shape[:-2]):
                chosen = _tap_of_view(view, taps)[..., None]  # (n, *o, C, 1)
                products = np.multiply(chosen, grouped[block], dtype=grad_weight.dtype)
                grad_weight[taps] += products.sum(axis=over_windows).reshape(1, -1)
        return
    total = np.zeros_like(_weight_matrices(grad_weight, groups))  # (G, K*C/G, F/G)
    for block, patches in _patch_blocks(input, grad_weight, windows, groups):
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
    grad_input[...] = 0
    windows_shape = grad_output.shape[:-1]
    if _goes_tap_by_tap(windows_shape, weight.shape, groups, windows, weight.itemsize):
        grouped = _split_channels(grad_output, groups)  # (N, *O, G, F/G)
        by_tap = _weight_by_group(weight, groups)  # (*K, G, F/G, C/G)
        target = _split_channels(grad_input, groups)  # (N, *S, G, C/G)
        bytes_of_taps = _bytes_of_taps(weight.shape, groups, windows, weight.itemsize)
        for block, covered, part in _window_blocks(windows_shape, windows, bytes_of_taps):
            gradient, place = grouped[block], target[covered]
            for taps, outputs, inputs in part.taps():
                place[(slice(None), *inputs)] += _group_products(gradient[(slice(None), *outputs)], by_tap[taps])
        return
    transposed = _weight_matrices(weight, groups).swapaxes(1, 2)  # (G, F/G, K*C/G)
    bytes_of_patch = _bytes_of_patch(weight.shape, groups, windows, weight.itemsize)
    for block, covered, part in _window_blocks(windows_shape, windows, bytes_of_patch, _block_limit(weight)):
        gradient = grad_output[block]
        patches = np.matmul(_gradient_matrices(gradient, groups, weight.dtype), transposed)  # (G, P, K*C/G)
        _fold(patches, weight.shape, part, _split_channels(grad_input[covered], groups))


def _fold(patches: Array, weight_shape: tuple[int, ...], windows: Windows, target: Array) -> None:
    """Add patches (G, P, K*C/G) to the places (n, *S, G, C/G) that they were taken from."""
    rank = len(windows.axes)
    shape = (patches.shape[0], target.shape[0], *windows.output_sizes, *weight_shape[:-1])
    patches = np.moveaxis(patches.reshape(shape), 0, -2)  # (n, *o, *K, G, C/G)
    interleaved = [position for axis in range(rank) for position in (1 + axis, 1 + rank + axis)]
    patches = patches.transpose(0, *interleaved, -2, -1)  # (n, o1, K1, o2, K2, ..., G, C/G)
    for pieces in windows.pieces():
        chosen = tuple(part for piece in pieces for part in (piece.outputs, piece.offsets))
        place = target[(slice(None), *(piece.inputs for piece in pieces))]
        # of each axis' outputs and offsets one is a single element, so joining the two never copies
        place += patches[(slice(None), *chosen)].reshape(place.shape)


def _is_depthwise(weight: Array, groups: int) -> bool:
    return _is_depthwise_shape(weight.shape, groups)


def _is_depthwise_shape(weight_shape: Sequence[int], groups: int) -> bool:
    # a step for each tap pays only as long as there are few of them
    return groups > 1 and weight_shape[-2] == 1 and math.prod(weight_shape[:-2]) <= MOST_DEPTHWISE_TAPS


def _goes_tap_by_tap(
    windows_shape: Sequence[int], weight_shape: Sequence[int], groups: int, windows: Windows, itemsize: int
) -> bool:
    """Tell whether grad_input takes fewer steps tap by tap than by folding patches back."""
    if _is_depthwise_shape(weight_shape, groups):
        return True
    by_tap = _tap_steps(windows_shape, weight_shape, groups, windows, itemsize)
    return FEWER_STEPS * by_tap < _fold_steps(windows_shape, weight_shape, groups, windows, itemsize)


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


def _bytes_of_patch(weight_shape: Sequence[int], groups: int, windows: Windows, itemsize: int) -> int:
    """Return the workspace of a window by patches: its patch, its products, or its part of the padded input."""
    patch = math.prod(weight_shape[:-1]) * groups
    return max(itemsize * patch, _bytes_of_taps(weight_shape, groups, windows, itemsize))


def _bytes_of_taps(weight_shape: Sequence[int], groups: int, windows: Windows, itemsize: int) -> int:
    """Return the workspace of a window tap by tap: its products, or its part of the padded input."""
    channels, features = weight_shape[-2] * groups, weight_shape[-1]
    # a block holds what its windows span; padding beyond the last window is never made
    spans = (min((axis.output_size - 1) * axis.stride + axis.extent, total) for axis, total in _padded(windows))
    part = -(-channels * math.prod(spans) // math.prod(windows.output_sizes))
    return itemsize * max(channels, features, part)


def _padded(windows: Windows) -> Iterator[tuple[AxisWindows, int]]:
    return zip(windows.axes, windows.padded_sizes, strict=True)


def _block_limit(weight: Array) -> int:
    return _block_limit_of(weight.size * weight.itemsize)


def _block_limit_of(weight_bytes: int) -> int:
    # every block reads the whole weight: with a large one, blocks of more windows than fit the cache read less in all
    return min(max(BLOCK_BYTES, weight_bytes // 4), LARGEST_BLOCK_BYTES)


def _window_blocks(
    shape: Sequence[int], windows: Windows, bytes_per_window: int, limit: int = BLOCK_BYTES
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], Windows]]:
    """Divide (N, *O): yield slices of the output, of the input that they cover, and the windows over that part."""
    for block in blocks(shape, bytes_per_window, limit):
        covered, part = windows.block(block[1:])
        yield block, (block[0], *covered), part


def _view_blocks(
    input: Array, windows: Windows, bytes_per_window: int, limit: int = BLOCK_BYTES
) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Yield slices of the output, and a view (n, *o, *K, C) of their windows in the padded input.

    Taps in the padding are real zeros and are multiplied like any element: an infinite weight over padding gives NaN,
    as it does over an input that was padded beforehand.
    """
    shape = (input.shape[0], *windows.output_sizes)
    for block, covered, part in _window_blocks(shape, windows, bytes_per_window, limit):
        yield block, part.view(part.pad(input[covered]))


def _patch_blocks(
    input: Array, weight: Array, windows: Windows, groups: int
) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Yield the matrices of patches block by block: slices of the output, and patches (G, P, K*C/G)."""
    patch_shape = weight.shape[:-1]  # (*K, C/G)
    bytes_of_patch = _bytes_of_patch(weight.shape, groups, windows, weight.itemsize)
    for block, view in _view_blocks(input, windows, bytes_of_patch, _block_limit(weight)):
        split = _split_channels(view, groups)  # (n, *o, *K, G, C/G)
        patches = np.empty((groups, *view.shape[: 1 + len(windows.axes)], *patch_shape), dtype=weight.dtype)
        np.copyto(np.moveaxis(patches, 0, -2), split)
        yield block, patches.reshape(groups, -1, math.prod(patch_shape))


# ----------------------------------------------------------------------------------------------------------- prediction

FEWER_STEPS = 4
"""How many times fewer the steps must be: tap by tap, a step reads and writes more."""
LARGEST_ITEMSIZE = 8


def correlation_costs(batch: int, channels: int, weight_shape: Sequence[int], windows: Windows) -> tuple[Cost, Cost]:
    """Return what ``correlate`` costs, and what the two gradients cost together.

    Parameters
    ----------
    batch, channels : int
    weight_shape : sequence of int
        (*K, C/G, F).
    windows : Windows
    """
    groups = channels // weight_shape[-2]
    shape = (batch, *windows.output_sizes)
    multiply_accumulates = math.prod(shape) * math.prod(weight_shape)
    patch_elements = math.prod(shape) * math.prod(weight_shape[:-1]) * groups
    if _is_depthwise_shape(weight_shape, groups):
        elementwise = DEPTHWISE_PRODUCT * multiply_accumulates
        steps = back_steps = _tap_steps(shape, weight_shape, groups, windows, LARGEST_ITEMSIZE)
    else:
        elementwise = PATCH_ELEMENT * patch_elements
        limit = _block_limit_of(LARGEST_ITEMSIZE * math.prod(weight_shape))
        bytes_of_patch = _bytes_of_patch(weight_shape, groups, windows, LARGEST_ITEMSIZE)
        steps = block_count(shape, bytes_of_patch, limit) * (1 + groups // GROUPS_OF_A_STEP)
        tap_steps = _tap_steps(shape, weight_shape, groups, windows, LARGEST_ITEMSIZE)
        fold_steps = _fold_steps(shape, weight_shape, groups, windows, LARGEST_ITEMSIZE)
        back_steps = tap_steps if FEWER_STEPS * tap_steps < fold_steps else fold_steps
    # Of a block: what one window spans, one patch, or what fits the limit, each at most twice, and its products. Of the
    # weight: its matrices, the sum of its gradient, and what a block adds to that.
    spans = math.prod(axis.extent for axis in windows.axes)
    workspace = (
        2 * channels * (spans + math.prod(windows.kernel_sizes))
        + 2 * weight_shape[-1]
        + 3 * math.prod(weight_shape)
        + _block_limit_of(LARGEST_ITEMSIZE * math.prod(weight_shape))
    )
    return (
        Cost(multiply_accumulates + elementwise + STEP * steps, workspace),
        Cost(2 * (multiply_accumulates + elementwise) + STEP * (steps + back_steps), workspace),
    )


GROUPS_OF_A_STEP = 10
"""Products of small matrices that take as long as a step in Python."""


def _tap_steps(shape: Sequence[int], weight_shape: Sequence[int], groups: int, windows: Windows, itemsize: int) -> int:
    bytes_of_taps = _bytes_of_taps(weight_shape, groups, windows, itemsize)
    return block_count(shape, bytes_of_taps) * math.prod(weight_shape[:-2])


def _fold_steps(shape: Sequence[int], weight_shape: Sequence[int], groups: int, windows: Windows, itemsize: int) -> int:
    """Return the pieces that all patches are folded back in."""
    limit = _block_limit_of(itemsize * math.prod(weight_shape))
    bytes_of_patch = _bytes_of_patch(weight_shape, groups, windows, itemsize)
    sizes = block_sizes(shape, bytes_of_patch, limit)[1:]
    pieces = math.prod(min(taps, size) for taps, size in zip(windows.kernel_sizes, sizes, strict=True))
    return block_count(shape, bytes_of_patch, limit) * pieces
