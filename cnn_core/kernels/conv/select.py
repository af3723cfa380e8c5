"""Which algorithm computes a correlation."""

from __future__ import annotations

import functools
import math
from types import ModuleType

from cnn_core.kernels.conv import col2im as spread
from cnn_core.kernels.conv import depthwise
from cnn_core.kernels.conv import fft as fourier
from cnn_core.kernels.conv import window_blocking as widened
from cnn_core.kernels.conv.exact import exact
from cnn_core.kernels.conv.polyphase import Phase, phases
from cnn_core.kernels.conv.problem import Correlation, remembered
from cnn_core.kernels.conv.winograd import blocks as tile_blocks
from cnn_core.kernels.conv.winograd import kernel as winograd
from cnn_core.parameters import Algorithm, Direction, TakenAlgorithm

__all__ = ["chosen", "gathered", "gathered_sizes", "spreading", "taken"]

FLOAT32_BYTES = 4
FEWEST_CHANNELS = 32
FEWEST_TILES = 64
"""Of all images together; with fewer, what is saved in products is lost in transforming the weight."""

FEWEST_TAPS = 300
"""Of a window; with fewer, transforms take longer than the products that they save."""

FEWEST_GROUP_CHANNELS = 8
"""Of a group, for grad_input to be a correlation: fewer make products of narrow matrices."""

MOST_PHASES = 8
"""Of the strides: each is a correlation of its own, and has fewer windows than the one before."""


def taken(sizes: Correlation, algorithm: Algorithm, direction: Direction, *, transposed: bool) -> TakenAlgorithm:
    """Return the algorithm that a direction of a layer takes; what it does not apply to there is computed directly.

    Parameters
    ----------
    sizes : Correlation
    algorithm : {"auto", "direct", "fastest", "winograd", "fft"}
        As the parameter of the ops: "auto" is "direct", whose sums of integers are exact.
    direction : {"forward", "backward"}
    transposed : bool
        Whether the layer is a transposed convolution, whose output is the gradient of a correlation's input.
    """
    problems_of = functools.partial(_problems, sizes, direction, transposed)
    if algorithm in {"winograd", "fastest"} and any(
        winograd.applies(each) and (algorithm == "winograd" or _is_worth_tiles(each))
        for each in problems_of("winograd")
    ):
        return "winograd"
    if algorithm in {"fft", "fastest"} and any(
        fourier.applies(each) and (algorithm == "fft" or _is_worth_transforms(each)) for each in problems_of("fft")
    ):
        return "fft"
    return "direct"


def _problems(
    sizes: Correlation, direction: Direction, transposed: bool, algorithm: TakenAlgorithm
) -> list[Correlation]:
    """Return the correlations that a direction of a layer computes."""
    if transposed:
        return gathered_sizes(sizes, algorithm) if direction == "forward" else [sizes]
    return [sizes] if direction == "forward" else [sizes, *gathered_sizes(sizes, algorithm)]


def chosen(sizes: Correlation, algorithm: TakenAlgorithm) -> ModuleType:
    """Return the module that computes a correlation, and the gradient of its weight."""
    if algorithm == "winograd" and winograd.applies(sizes):
        return winograd
    if algorithm == "fft" and fourier.applies(sizes):
        return fourier
    return exact(sizes)


def spreading(sizes: Correlation) -> ModuleType:
    """Return the module that computes grad_input where no correlation does."""
    return widened if widened.applies(sizes) else spread


def _is_worth_transforms(sizes: Correlation) -> bool:
    return sizes.itemsize == FLOAT32_BYTES and sizes.taps >= FEWEST_TAPS


def _is_worth_tiles(sizes: Correlation) -> bool:
    # in float64 nobody wants to wait less for fewer digits
    return (
        sizes.itemsize == FLOAT32_BYTES
        and min(sizes.channels, sizes.features) >= FEWEST_CHANNELS
        and math.prod(tile_blocks.tile_counts(sizes)) >= FEWEST_TILES
    )


def gathered(sizes: Correlation, algorithm: TakenAlgorithm) -> list[Phase] | None:
    """Return the correlations that compute grad_input, if there are any and they are faster than spreading patches."""
    found = _phases(sizes)
    if found is None or sizes.group_channels >= FEWEST_GROUP_CHANNELS:
        return found
    correlations = _sizes_of(found)
    if all(depthwise.applies(each) for each in correlations):
        return found
    return found if algorithm == "fft" and all(fourier.applies(each) for each in correlations) else None


def gathered_sizes(sizes: Correlation, algorithm: TakenAlgorithm) -> list[Correlation]:
    """Return the sizes of the correlations that compute grad_input; none if patches are spread."""
    return _sizes_of(gathered(sizes, algorithm) or [])


def _sizes_of(found: list[Phase]) -> list[Correlation]:
    return [phase.sizes for phase in found if phase.sizes is not None]


@remembered
def _phases(sizes: Correlation) -> list[Phase] | None:
    return phases(sizes) if math.prod(axis.stride for axis in sizes.windows.axes) <= MOST_PHASES else None
