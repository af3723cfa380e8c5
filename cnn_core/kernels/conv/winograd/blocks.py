"""How tiles of 4 x 4 outputs are divided into blocks, and what these take.

Tiles are over the last two axes; those before are called the axes ahead. Axes in comments as in ``winograd``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cnn_core.geometry import AxisWindows, Windows
from cnn_core.kernels.conv.problem import Correlation, Division, Layout, WindowBlock, remembered
from cnn_core.kernels.conv.winograd.tiles import OUTPUTS, POINTS, TAPS
from cnn_core.runtime.blocks import BLOCK_BYTES

__all__ = [
    "division",
    "grad_weight_division",
    "gradient_elements",
    "lane_count",
    "lays_beside",
    "over_tiles",
    "point_parts",
    "points_of_weight",
    "taps_ahead",
    "tile_blocks",
    "tile_counts",
    "tile_elements",
]

USUAL_BLOCK_BYTES = 3 * BLOCK_BYTES
LARGEST_BLOCK_BYTES = 5 * BLOCK_BYTES
LANES = 4
LARGEST_LANE_BYTES = 5 * BLOCK_BYTES // 2


def taps_ahead(sizes: Correlation) -> int:
    """Return the taps of a window along the axes before the last two."""
    return sizes.taps // TAPS**2


def points_of_weight(sizes: Correlation) -> int:
    """Return the elements of a weight at all points."""
    return POINTS**2 * taps_ahead(sizes) * sizes.channels * sizes.features


def lays_beside(sizes: Correlation) -> bool:
    """Tell whether evaluated tiles are copied, for those of all taps ahead of the last two axes to be side by side."""
    return any(axis.kernel_size > 1 or axis.stride > 1 for axis in sizes.windows.axes[:-2])


def tile_counts(sizes: Correlation) -> tuple[int, ...]:
    """Return the images, the outputs along the axes before the last two, and the tiles along these."""
    *ahead, rows, columns = sizes.windows.output_sizes
    return (sizes.batch, *ahead, -(-rows // OUTPUTS), -(-columns // OUTPUTS))


def _tile_bytes(sizes: Correlation) -> int:
    """Return the bytes that a tile takes at one point."""
    channels = sizes.channels * (1 + taps_ahead(sizes) if lays_beside(sizes) else 1)
    return sizes.itemsize * (channels + sizes.features)


@remembered
def division(sizes: Correlation) -> Division:
    """Return the blocks of tiles: images, tiles along the last two axes, and outputs along the others."""
    # each block reads the whole weight, at all points
    limit = min(max(USUAL_BLOCK_BYTES, sizes.itemsize * points_of_weight(sizes) // 2), LARGEST_BLOCK_BYTES)
    return Division(_divided(sizes), POINTS**2 * _tile_bytes(sizes), limit)


def _divided(sizes: Correlation) -> tuple[int, ...]:
    # what is cut last is what blocks next to each other would evaluate twice
    images, *ahead, down, along = tile_counts(sizes)
    return (images, down, along, *ahead)


@remembered
def point_parts(sizes: Correlation) -> int:
    """Return in how many parts the points along the first axis are computed for the gradient of the weight."""
    return 1 if sizes.itemsize * points_of_weight(sizes) <= LARGEST_LANE_BYTES else POINTS


@remembered
def grad_weight_division(sizes: Correlation) -> Division:
    """Return the blocks of tiles for the gradient of the weight."""
    points = POINTS**2 // point_parts(sizes)
    return Division(_divided(sizes), points * _tile_bytes(sizes), USUAL_BLOCK_BYTES)


@remembered
def lane_count(sizes: Correlation) -> int:
    """Return how many sums of blocks are added side by side."""
    found = grad_weight_division(sizes)
    return min(LANES, max(1, found.steps)) if point_parts(sizes) == 1 else 1


def _counts(found: Division) -> tuple[int, ...]:
    """Return the most images, outputs along the axes before the last two, and tiles along these, of a block."""
    images, down, along, *ahead = found.counts
    return (images, *ahead, down, along)


def _span(counts: Sequence[int], sizes: Correlation) -> int:
    """Return how many planes so many images and outputs along the axes before the last two cover."""
    images, *ahead = counts
    axes = zip(ahead, sizes.windows.axes[:-2], strict=True)
    return images * math.prod((count - 1) * axis.stride + axis.extent for count, axis in axes)


def tile_elements(sizes: Correlation, found: Division, points: int = POINTS) -> tuple[int, int, int, int]:
    """Return the elements that the largest block takes, of which points are evaluated along one of the axes.

    Returns
    -------
    int, int
        Of each of two arrays in which tiles are evaluated in turn.
    int
        Of the array in which the tiles of taps ahead are side by side, if they are copied.
    int
        Of the part of the padded input.
    """
    *ahead, down, along = _counts(found)
    planes, spanned = math.prod(ahead), _span(ahead, sizes)
    widest = max(planes * sizes.features, spanned * sizes.channels)
    width = OUTPUTS * along + TAPS - 1
    # tiles that are evaluated along the first axis alone still overlap along the other
    across = points * down * width * widest
    beside = planes * taps_ahead(sizes) * sizes.channels if lays_beside(sizes) else 0
    return (
        points * POINTS * down * along * widest,
        max(across, points * POINTS * down * along * widest),
        points * POINTS * down * along * beside,
        sizes.channels * sizes.span((*ahead, OUTPUTS * down, OUTPUTS * along)),
    )


def gradient_elements(sizes: Correlation, points: int = POINTS) -> tuple[int, int, int]:
    """Return the elements that the largest block takes beside these for the gradient of the weight.

    Returns
    -------
    int, int
        Of the array in which the tiles of grad_output are evaluated, and of these tiles.
    int
        Of the products of a block.
    """
    counts = math.prod(_counts(grad_weight_division(sizes)))
    return (
        points * POINTS * counts * sizes.features,
        OUTPUTS**2 * counts * sizes.features,
        points * POINTS * taps_ahead(sizes) * sizes.channels * sizes.features,
    )


def tile_blocks(sizes: Correlation, found: Division) -> list[WindowBlock]:
    """Return the windows of blocks of tiles; the last tiles may reach beyond the output."""

    def outputs() -> Iterator[tuple[slice, ...]]:
        for images, down, along, *ahead in found.blocks():
            tiles = (slice(OUTPUTS * each.start, OUTPUTS * each.stop) for each in (down, along))
            yield (images, *ahead, *tiles)

    return sizes.kept_blocks((tile_blocks, found), outputs)


def over_tiles(written: tuple[int, ...], layout: Layout) -> Windows:
    """Return windows of one element over whole tiles of a part of grad_output, padded with what it lacks of them."""
    sizes = zip(written[1:-1], layout.outputs[1:], strict=True)
    return Windows(
        tuple(AxisWindows(size, 1, 1, 1, before=0, after=whole - size, output_size=whole) for size, whole in sizes)
    )
