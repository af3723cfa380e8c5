"""Tiles of 4 x 4 outputs, evaluated at points: the transforms of Winograd's minimal filtering.

Both polynomials, of the inputs and of the weight, are evaluated at six points along either axis; there a correlation is
a product. Along one axis, with a tile d of six inputs, a weight g of three and a gradient y of four outputs:

    outputs      A (G g * B d)       A: 4 x 6, G: 6 x 3, B: 6 x 6
    grad_weight  G' (A' y * B d)     ': transposed

The points decide how much is lost to rounding. With 0, +-1/sqrt(2), +-sqrt(2) and infinity the factors of the
transforms are about 1, and results in float32 lose about one bit more than those of direct sums; with 0, +-1, +-2, the
usual choice, it is four. (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016; Barabasz et al.,
"Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.)

All views are created in advance: between NumPy's calls a thread should hold the GIL as briefly as possible.

Axes in comments: M planes (images and what lies along the axes before the last two), C channels, P points along both
axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ...finite import is_all_finite

__all__ = ["OUTPUTS", "POINTS", "TAPS", "A", "B", "Evaluation", "G", "Interpolation"]

Array = NDArray[Any]

OUTPUTS, TAPS = 4, 3
POINTS = OUTPUTS + TAPS - 1
FINITE_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))


def _powers(count: int) -> Array:
    """Return the first powers of each point, a row for each; of infinity, the last power alone."""
    finite = [[point**power for power in range(count)] for point in FINITE_POINTS]
    return np.array([*finite, [0.0] * (count - 1) + [1.0]])


A = _powers(OUTPUTS).T
G = _powers(TAPS)
B = np.linalg.inv(_powers(POINTS)).T


class Evaluation:
    """Evaluates tiles of size x size, each 4 elements after the last, at points along both axes.

    Parameters
    ----------
    planes : ndarray, shape (M, rows, columns, C)
        Where the tiles are, each time.
    size : int
    down, along : ndarray, shape (points, size)
        What evaluates them along either axis.
    first, second : ndarray
        Memory; the result is a view of the second.
    """

    def __init__(self, planes: Array, size: int, down: Array, along: Array, first: Array, second: Array) -> None:
        images, height, width, channels = planes.shape
        tiles_down, tiles_along = ((length - size) // OUTPUTS + 1 for length in (height, width))
        points, item = len(down), planes.itemsize
        line = width * channels
        self._down, self._along = down.astype(planes.dtype), along.astype(planes.dtype)
        self._rows = as_strided(  # the rows of a tile, of all columns at once
            planes,
            shape=(images, tiles_down, size, line),
            strides=(height * line * item, OUTPUTS * line * item, line * item, item),
        )
        evaluated = second[: points * images * tiles_down * line].reshape(points, images, tiles_down, line)
        self._evaluated = evaluated.transpose(1, 2, 0, 3)
        columns = as_strided(
            evaluated,
            shape=(points, size, images * tiles_down, tiles_along, channels),
            strides=tuple(item * step for step in (images * tiles_down * line, channels, line, OUTPUTS * channels, 1)),
        )
        gathered = first[: columns.size].reshape(columns.shape)
        self._gathering = gathered, columns
        self._columns = gathered.reshape(points, size, -1)
        tiles = images * tiles_down * tiles_along
        by_point = second[: points * len(along) * tiles * channels]
        self._results = by_point.reshape(points, len(along), -1)
        self.by_tile: Array = by_point.reshape(points * len(along), images, tiles_down * tiles_along, channels)
        """The tiles at each point, (P, M, tiles of a plane, C)."""

    def compute(self) -> None:
        """Evaluate the tiles in ``planes``."""
        np.matmul(self._down, self._rows, out=self._evaluated)
        np.copyto(*self._gathering)
        np.matmul(self._along, self._columns, out=self._results)


class Interpolation:
    """Computes the outputs of tiles from the products at all points.

    Parameters
    ----------
    products : ndarray, shape (P, tiles, F)
        The products of each block: overwritten.
    counts : sequence of int
        Images, what lies along the axes before the last two, and tiles along each of these.
    spare : ndarray
        Memory of as many elements.
    """

    def __init__(self, products: Array, counts: Sequence[int], spare: Array) -> None:
        elements, features = math.prod(products.shape[1:]), products.shape[-1]
        *ahead, down, along = counts
        self._matrix = A.astype(products.dtype)
        self._by_row = products.reshape(POINTS, POINTS, elements)
        self._across = spare[: POINTS * OUTPUTS * elements].reshape(POINTS, OUTPUTS, elements)
        self._by_column = self._across.reshape(POINTS, -1)
        self._computed = products.reshape(-1)[: OUTPUTS**2 * elements]
        self._results = self._computed.reshape(OUTPUTS, -1)
        by_output = self._computed.reshape(OUTPUTS, OUTPUTS, *counts, features)
        rank = len(ahead)
        # (*ahead, down, 4, along, 4, F)
        self._in_rows = by_output.transpose(*range(2, 2 + rank), 2 + rank, 0, 3 + rank, 1, 4 + rank)
        self._shape = (*ahead, OUTPUTS * down, OUTPUTS * along, features)
        self._whole = spare[: self._computed.size].reshape(self._shape)

    def compute(self) -> bool:
        """Compute the outputs; return whether all are finite."""
        np.matmul(self._matrix, self._by_row, out=self._across)
        np.matmul(self._matrix, self._by_column, out=self._results)
        return is_all_finite(self._computed)

    def write(self, target: Array, bias: Array | None) -> None:
        """Write the outputs, with a bias, to a part of the output (*ahead, rows, columns, F); it may end in tiles."""
        is_whole = target.shape == self._shape
        # splitting axes never copies
        destination = (target if is_whole else self._whole).reshape(self._in_rows.shape, copy=False)
        if bias is None:
            np.copyto(destination, self._in_rows)
        else:
            np.add(self._in_rows, bias, out=destination)
        if not is_whole:
            rows, columns = target.shape[-3:-1]
            target[...] = self._whole[..., :rows, :columns, :]
