"""Winograd's minimal filtering for windows of 3 x 3: F(4 x 4, 3 x 3).

A tile of 4 x 4 outputs covers 6 x 6 inputs. Both polynomials, of the inputs and of the weight, are evaluated at six
points along either axis; there a correlation is a product, and 36 products do what 144 would. Along one axis, with a
tile d of six inputs, a weight g of three and a gradient y of four outputs:

    outputs      A (G g * B d)       A: 4 x 6, G: 6 x 3, B: 6 x 6
    grad_weight  G' (A' y * B d)     ': transposed

over two axes each of them applies to both. With all channels, the 36 products are products of matrices: 36 of (tiles x
C) @ (C x F) for outputs, of (C x tiles) @ (tiles x F) for the gradient of the weight.

The points decide how much is lost to rounding. With 0, +-1/sqrt(2), +-sqrt(2) and infinity the factors of the
transforms are about 1, and results in float32 lose about one bit more than those of ``direct``; with 0, +-1, +-2, the
usual choice, it is four. (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016; Barabasz et al.,
"Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.)

Rounding is in proportion to the largest input of a tile, where direct sums lose in proportion to their own terms: next
to an input of 1e6, one of 1 counts for less. A tile whose outputs are not all finite is computed again as ``direct``
has it: an infinity would make all of them NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cnn_core.compute.blocks import BLOCK_BYTES
from cnn_core.compute.correlation import direct
from cnn_core.compute.correlation.parts import PaddedParts
from cnn_core.compute.correlation.sizes import Correlation, Division, WindowBlock, remembered, window_blocks
from cnn_core.compute.threads import run_blocks
from cnn_core.compute.workspace import Workspace
from cnn_core.geometry import AxisWindows, Windows

__all__ = ["applies", "correlate", "correlate_grad_weight", "division", "grad_weight_division", "lane_count"]

Array = NDArray[Any]

OUTPUTS, TAPS = 4, 3
POINTS = OUTPUTS + TAPS - 1
FINITE_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))

LARGEST_BLOCK_BYTES = 5 * BLOCK_BYTES
LANES = 4
LARGEST_LANE_BYTES = 5 * BLOCK_BYTES // 2
COLUMNS = 2**14
"""Of the weight, transformed at a time."""


def _powers(count: int) -> Array:
    """Return the first powers of each point, a row for each; of infinity, the last power alone."""
    finite = [[point**power for power in range(count)] for point in FINITE_POINTS]
    return np.array([*finite, [0.0] * (count - 1) + [1.0]])


A = _powers(OUTPUTS).T
G = _powers(TAPS)
B = np.linalg.inv(_powers(POINTS)).T


@remembered
def applies(sizes: Correlation) -> bool:
    """Tell whether windows are dense squares of 3 x 3, one next to the other, over all channels."""
    return (
        sizes.groups == 1
        and len(sizes.windows.axes) == 2
        and all((axis.kernel_size, axis.stride, axis.dilation) == (TAPS, 1, 1) for axis in sizes.windows.axes)
    )


@remembered
def tile_counts(sizes: Correlation) -> tuple[int, ...]:
    """Return the images, and the tiles along each axis."""
    return (sizes.batch, *(-(-size // OUTPUTS) for size in sizes.windows.output_sizes))


@remembered
def division(sizes: Correlation) -> Division:
    """Return the blocks of tiles, (N, tiles along each axis)."""
    # each block reads the whole weight, which has as many elements as points
    weight_bytes = POINTS**2 * sizes.itemsize * sizes.channels * sizes.features
    limit = min(max(2 * BLOCK_BYTES, weight_bytes // 2), LARGEST_BLOCK_BYTES)
    return Division(tile_counts(sizes), POINTS**2 * sizes.itemsize * (sizes.channels + sizes.features), limit)


def correlate(sizes: Correlation, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
    """Write the cross-correlation; shapes as in ``cnn_core.compute.correlation.correlate``."""
    by_point = _transformed_weight(weight)  # (36, C, F)
    found = division(sizes)
    not_finite: list[WindowBlock] = []

    def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
        widest = max(sizes.channels, sizes.features)
        elements, pixels = tile_elements(found, widest)
        padded, first, second = workspace.arrays((pixels,), (elements,), (elements,), dtype=weight.dtype)
        parts = PaddedParts(padded)
        steps: dict[tuple[int, Windows], _Outputs] = {}

        def compute(block: WindowBlock) -> None:
            part = parts(input[block.inputs], block.windows)
            key = (block.images, block.windows)
            if key not in steps:
                steps[key] = _Outputs(part, by_point, first, second)
            step = steps[key]
            if step.compute():
                step.write(output[block.outputs], bias)
            else:
                not_finite.append(block)

        return compute

    run_blocks(_tile_blocks(sizes, found), make_worker)
    for block in not_finite:
        target = output[block.outputs]
        written = (
            slice(each.start, each.start + size) for each, size in zip(block.outputs, target.shape, strict=False)
        )
        (alone,) = window_blocks(sizes.windows, [tuple(written)])
        part_sizes = Correlation(block.images, sizes.weight_shape, 1, alone.windows, sizes.itemsize)
        direct.correlate(part_sizes, input[alone.inputs], weight, bias, target)


def correlate_grad_weight(sizes: Correlation, input: Array, grad_output: Array, grad_weight: Array) -> None:
    """Write the gradient with respect to the weight; shapes as in ``cnn_core.compute.correlation``.

    Blocks are added up in lanes, as in ``direct``; of a large weight, points are computed side by side instead.
    """
    lanes, together = lane_count(sizes), POINTS // point_parts(sizes)
    found = grad_weight_division(sizes)
    tile_blocks = _tile_blocks(sizes, found)
    channels, features, dtype = sizes.channels, sizes.features, grad_weight.dtype
    totals = np.zeros((lanes, POINTS, POINTS, channels, features), dtype=dtype)

    def make_worker(workspace: Workspace) -> Callable[[tuple[int, int]], None]:
        elements, pixels = tile_elements(found, max(channels, features), together)
        shapes = ((pixels,), (pixels,), (elements,), (elements,), (elements,))
        padded, padded_gradient, first, second, third = workspace.arrays(*shapes, dtype=dtype)
        parts, gradients = PaddedParts(padded), PaddedParts(padded_gradient)

        def compute(unit: tuple[int, int]) -> None:
            lane, start = unit
            rows = slice(start, start + together)
            total = totals[lane, rows].reshape(-1, channels, features)
            known: tuple[Any, ...] = ()
            for block in tile_blocks[lane::lanes]:
                part = parts(input[block.inputs], block.windows)
                gradient = grad_output[block.outputs]
                # blocks that lie in the padding have the same windows, and the last of them fewer outputs
                if known != (gradient.shape, block.windows):
                    known = gradient.shape, block.windows
                    over_tiles = _over_tiles(gradient, block.windows)
                    by_tile = _Evaluation(part, POINTS, B[rows], B, first, second)
                    of_gradient = _Evaluation(gradients(gradient, over_tiles), OUTPUTS, A.T[rows], A.T, first, third)
                else:
                    gradients(gradient, over_tiles)
                total += np.matmul(by_tile().swapaxes(1, 2), of_gradient())

        return compute

    run_blocks(list(itertools.product(range(lanes), range(0, POINTS, together))), make_worker)
    total = np.add.reduce(totals, axis=0) if lanes > 1 else totals[0]
    back = np.kron(G, G).T.astype(dtype)  # (9, 36)
    grad_weight[...] = np.matmul(back, total.reshape(POINTS**2, -1)).reshape(grad_weight.shape)
    if not np.isfinite(grad_weight).all():
        direct.correlate_grad_weight(sizes, input, grad_output, grad_weight)


@remembered
def point_parts(sizes: Correlation) -> int:
    """Return in how many parts the points along the first axis are computed for the gradient of the weight."""
    lane_bytes = POINTS**2 * sizes.itemsize * sizes.channels * sizes.features
    return 1 if lane_bytes <= LARGEST_LANE_BYTES else POINTS


@remembered
def grad_weight_division(sizes: Correlation) -> Division:
    """Return the blocks of tiles for the gradient of the weight."""
    points = POINTS**2 // point_parts(sizes)
    bytes_of_tile = points * sizes.itemsize * (sizes.channels + sizes.features)
    return Division(tile_counts(sizes), bytes_of_tile, 3 * BLOCK_BYTES)


@remembered
def lane_count(sizes: Correlation) -> int:
    """Return how many sums of blocks are added side by side."""
    found = grad_weight_division(sizes)
    return min(LANES, max(1, found.steps)) if point_parts(sizes) == 1 else 1


def tile_elements(found: Division, channels: int, points: int = POINTS) -> tuple[int, int]:
    """Return the elements of the largest block of tiles at some of the points, and of its part of the padded input."""
    images, down, along = found.counts
    width = OUTPUTS * along + TAPS - 1
    pixels = images * channels * (OUTPUTS * down + TAPS - 1) * width
    # tiles that are evaluated along the first axis alone still overlap along the other
    across = images * channels * points * down * width
    return max(across, images * channels * points * POINTS * down * along), pixels


def _tile_blocks(sizes: Correlation, found: Division) -> list[WindowBlock]:
    """Return the windows of blocks of tiles; the last tiles may reach beyond the output."""
    outputs = (
        (images, *(slice(OUTPUTS * t.start, OUTPUTS * t.stop) for t in tiles)) for images, *tiles in found.blocks()
    )
    return window_blocks(sizes.windows, outputs)


def _over_tiles(gradient: Array, windows: Windows) -> Windows:
    """Return windows of one element over whole tiles of grad_output, whose padding is what the output lacks of them."""
    return Windows(
        tuple(
            AxisWindows(size, 1, 1, 1, before=0, after=axis.output_size - size, output_size=axis.output_size)
            for size, axis in zip(gradient.shape[1:], windows.axes, strict=False)
        )
    )


def _transformed_weight(weight: Array) -> Array:
    """Return (3, 3, C, F) at all points: (36, C, F)."""
    columns = weight.reshape(TAPS**2, -1)
    transform = np.kron(G, G).astype(weight.dtype)
    by_point = np.empty((POINTS**2, *weight.shape[2:]), dtype=weight.dtype)
    target = by_point.reshape(POINTS**2, -1)

    def make_worker(_: Workspace) -> Callable[[slice], None]:
        def compute(chosen: slice) -> None:
            np.matmul(transform, columns[:, chosen], out=target[:, chosen])

        return compute

    run_blocks([slice(start, start + COLUMNS) for start in range(0, columns.shape[1], COLUMNS)], make_worker)
    return by_point


class _Evaluation:
    """Evaluates tiles of size x size, each 4 elements after the last, at points along both axes.

    All views are made beforehand: between NumPy's calls a thread is to hold Python's lock as briefly as possible.

    Parameters
    ----------
    part : ndarray, shape (n, rows, columns, C)
        Where the tiles are, each time.
    size : int
    down, along : ndarray, shape (points, size)
        What evaluates them along either axis.
    first, second : ndarray
        Memory; the result is a view of the second.
    """

    def __init__(self, part: Array, size: int, down: Array, along: Array, first: Array, second: Array) -> None:
        images, height, width, channels = part.shape
        self.counts = images, (height - size) // OUTPUTS + 1, (width - size) // OUTPUTS + 1
        _, tiles_down, tiles_along = self.counts
        points, item = len(down), part.itemsize
        line = width * channels
        self._down, self._along = down.astype(part.dtype), along.astype(part.dtype)
        self._rows = as_strided(  # the rows of a tile, of all columns at once
            part,
            shape=(images, tiles_down, size, line),
            strides=(height * line * item, OUTPUTS * line * item, line * item, item),
        )
        self._evaluated = second[: points * images * tiles_down * line].reshape(points, images, tiles_down, line)
        columns = as_strided(
            self._evaluated,
            shape=(points, size, images * tiles_down, tiles_along, channels),
            strides=tuple(item * step for step in (images * tiles_down * line, channels, line, OUTPUTS * channels, 1)),
        )
        gathered = first[: columns.size].reshape(columns.shape)
        self._gathering = gathered, columns
        self._columns = gathered.reshape(points, size, -1)
        tiles = math.prod(self.counts)
        self.by_tile = second[: points * len(along) * tiles * channels].reshape(points * len(along), tiles, channels)

    def __call__(self) -> Array:
        """Return the tiles that stand in ``part``, (points down * points along, tiles, C)."""
        np.matmul(self._down, self._rows, out=self._evaluated.transpose(1, 2, 0, 3))
        np.copyto(*self._gathering)
        np.matmul(self._along, self._columns, out=self.by_tile.reshape(len(self._down), len(self._along), -1))
        return self.by_tile


class _Outputs:
    """Computes the outputs of a block of tiles; all views are made beforehand, as in ``_Evaluation``."""

    def __init__(self, part: Array, by_point: Array, first: Array, second: Array) -> None:
        self._evaluate = _Evaluation(part, POINTS, B, B, first, second)
        self._by_point = by_point
        counts = images, down, along = self._evaluate.counts
        tiles, features = math.prod(counts), by_point.shape[-1]
        elements = tiles * features
        self._matrix = A.astype(part.dtype)
        self._products = first[: POINTS**2 * elements].reshape(POINTS**2, tiles, features)
        self._by_row = self._products.reshape(POINTS, POINTS, elements)
        self._across = second[: POINTS * OUTPUTS * elements].reshape(POINTS, OUTPUTS, elements)
        self._computed = first[: OUTPUTS**2 * elements]
        self._in_rows = self._computed.reshape(OUTPUTS, OUTPUTS, *counts, features).transpose(2, 3, 0, 4, 1, 5)
        self._shape = (images, OUTPUTS * down, OUTPUTS * along, features)
        self._whole = second[: self._computed.size].reshape(self._shape)

    def compute(self) -> bool:
        """Compute the outputs of the tiles that stand in ``part``; tell whether all are finite."""
        np.matmul(self._evaluate(), self._by_point, out=self._products)
        np.matmul(self._matrix, self._by_row, out=self._across)
        np.matmul(self._matrix, self._across.reshape(POINTS, -1), out=self._computed.reshape(OUTPUTS, -1))
        return bool(np.isfinite(np.add.reduce(self._computed)))

    def write(self, target: Array, bias: Array | None) -> None:
        """Write the outputs, with a bias, to a part of the output (n, rows, columns, F), which may end within tiles."""
        is_whole = target.shape == self._shape
        # splitting axes never copies
        place = (target if is_whole else self._whole).reshape(self._in_rows.shape, copy=False)
        if bias is None:
            np.copyto(place, self._in_rows)
        else:
            np.add(self._in_rows, bias, out=place)
        if not is_whole:
            target[...] = self._whole[:, : target.shape[1], : target.shape[2]]
