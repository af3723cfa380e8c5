"""How tiles of 4 x 4 outputs are divided into blocks, and what these take.

Tiles are over the last two axes; those before are called the axes ahead. Axes in comments as in ``winograd``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ....geometry import AxisWindows, Windows
from ....runtime.blocks import BLOCK_BYTES
from ..problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem
from .tiles import OUTPUTS, POINTS, TAPS

__all__ = [
    "division",
    "gathers_taps",
    "grad_weight_division",
    "gradient_elements",
    "over_tiles",
    "partial_sum_count",
    "point_parts",
    "points_of_weight",
    "taps_ahead",
    "tile_blocks",
    "tile_counts",
    "tile_elements",
]

USUAL_BLOCK_BYTES = 3 * BLOCK_BYTES
MAX_BLOCK_BYTES = 5 * BLOCK_BYTES
MAX_PARTIAL_SUMS = 4
MAX_PARTIAL_SUM_BYTES = 5 * BLOCK_BYTES // 2


def taps_ahead(problem: ConvProblem) -> int:
    """Return the taps of a window along the axes before the last two."""
    return problem.taps // TAPS**2


def points_of_weight(problem: ConvProblem) -> int:
    """Return the elements of a weight at all points."""
    return POINTS**2 * taps_ahead(problem) * problem.channels * problem.features


def gathers_taps(problem: ConvProblem) -> bool:
    """Return whether evaluated tiles are copied, so that those of all taps ahead of the last two axes are adjacent."""
    return any(axis.kernel_size > 1 or axis.stride > 1 for axis in problem.windows.axes[:-2])


def tile_counts(problem: ConvProblem) -> tuple[int, ...]:
    """Return the images, the outputs along the axes before the last two, and the tiles along these."""
    *ahead, rows, columns = problem.windows.output_sizes
    return (problem.batch, *ahead, -(-rows // OUTPUTS), -(-columns // OUTPUTS))


def _tile_bytes(problem: ConvProblem) -> int:
    """Return the bytes that a tile takes at one point."""
    channels = problem.channels * (1 + taps_ahead(problem) if gathers_taps(problem) else 1)
    return problem.itemsize * (channels + problem.features)


@cached_per_problem
def division(problem: ConvProblem) -> Division:
    """Return the blocks of tiles: images, tiles along the last two axes, and outputs along the others."""
    # each block reads the whole weight, at all points
    limit = min(max(USUAL_BLOCK_BYTES, problem.itemsize * points_of_weight(problem) // 2), MAX_BLOCK_BYTES)
    return Division(_divided(problem), POINTS**2 * _tile_bytes(problem), limit)


def _divided(problem: ConvProblem) -> tuple[int, ...]:
    # the axes whose blocks overlap are divided last, since adjacent blocks evaluate the overlap twice
    images, *ahead, down, along = tile_counts(problem)
    return (images, down, along, *ahead)


@cached_per_problem
def point_parts(problem: ConvProblem) -> int:
    """Return in how many parts the points along the first axis are computed for the gradient of the weight."""
    return 1 if problem.itemsize * points_of_weight(problem) <= MAX_PARTIAL_SUM_BYTES else POINTS


@cached_per_problem
def grad_weight_division(problem: ConvProblem) -> Division:
    """Return the blocks of tiles for the gradient of the weight."""
    points = POINTS**2 // point_parts(problem)
    return Division(_divided(problem), points * _tile_bytes(problem), USUAL_BLOCK_BYTES)


@cached_per_problem
def partial_sum_count(problem: ConvProblem) -> int:
    """Return the number of partial sums (split-K)."""
    blocks = grad_weight_division(problem)
    return min(MAX_PARTIAL_SUMS, max(1, blocks.steps)) if point_parts(problem) == 1 else 1


def _counts(blocks: Division) -> tuple[int, ...]:
    """Return the maximum images, outputs along the axes before the last two, and tiles along these, of a block."""
    images, down, along, *ahead = blocks.counts
    return (images, *ahead, down, along)


def _span(counts: Sequence[int], problem: ConvProblem) -> int:
    """Return how many planes so many images and outputs along the axes before the last two cover."""
    images, *ahead = counts
    axes = zip(ahead, problem.windows.axes[:-2], strict=True)
    return images * math.prod((count - 1) * axis.stride + axis.extent for count, axis in axes)


def tile_elements(problem: ConvProblem, blocks: Division, points: int = POINTS) -> tuple[int, int, int, int]:
    """Return the elements that the largest block takes, of which points are evaluated along one of the axes.

    Returns
    -------
    int, int
        Elements of each of two arrays in which tiles are evaluated in turn.
    int
        Elements of the array in which the tiles of all taps ahead are adjacent, if they are copied.
    int
        Elements of the part of the padded input.
    """
    *ahead, down, along = _counts(blocks)
    planes, spanned = math.prod(ahead), _span(ahead, problem)
    widest = max(planes * problem.features, spanned * problem.channels)
    width = OUTPUTS * along + TAPS - 1
    # tiles that are evaluated along the first axis alone still overlap along the other
    across = points * down * width * widest
    adjacent = planes * taps_ahead(problem) * problem.channels if gathers_taps(problem) else 0
    return (
        points * POINTS * down * along * widest,
        max(across, points * POINTS * down * along * widest),
        points * POINTS * down * along * adjacent,
        problem.channels * problem.span((*ahead, OUTPUTS * down, OUTPUTS * along)),
    )


def gradient_elements(problem: ConvProblem, points: int = POINTS) -> tuple[int, int, int]:
    """Return the elements that the largest block takes in addition for the gradient with respect to the weight.

    Returns
    -------
    int, int
        Elements of the array in which the tiles of grad_output are evaluated, and of these tiles.
    int
        Elements of the products of a block.
    """
    counts = math.prod(_counts(grad_weight_division(problem)))
    return (
        points * POINTS * counts * problem.features,
        OUTPUTS**2 * counts * problem.features,
        points * POINTS * taps_ahead(problem) * problem.channels * problem.features,
    )


def tile_blocks(problem: ConvProblem, blocks: Division) -> list[WindowBlock]:
    """Return the windows of blocks of tiles; the last tiles may reach beyond the output."""

    def outputs() -> Iterator[tuple[slice, ...]]:
        for images, down, along, *ahead in blocks.blocks():
            tiles = (slice(OUTPUTS * each.start, OUTPUTS * each.stop) for each in (down, along))
            yield (images, *ahead, *tiles)

    return problem.cached_blocks((tile_blocks, blocks), outputs)


def over_tiles(written: tuple[int, ...], layout: Layout) -> Windows:
    """Return windows of one element over a part of grad_output that is padded to whole tiles."""
    problem = zip(written[1:-1], layout.outputs[1:], strict=True)
    return Windows(
        tuple(AxisWindows(size, 1, 1, 1, before=0, after=whole - size, output_size=whole) for size, whole in problem)
    )
