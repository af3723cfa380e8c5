"""Which algorithm computes a correlation."""

from __future__ import annotations

import math
from types import ModuleType

from cnn_core.compute.correlation import depthwise, fourier, spread, tile_blocks, widened, winograd
from cnn_core.compute.correlation.exact import exact
from cnn_core.compute.correlation.phases import Phase, phases
from cnn_core.compute.correlation.sizes import Correlation, remembered
from cnn_core.parameters import Algorithm

__all__ = ["chosen", "gathered", "spreading"]

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


def chosen(sizes: Correlation, algorithm: Algorithm) -> ModuleType:
    """Return the module that computes a correlation, and the gradient of its weight."""
    if winograd.applies(sizes) and (algorithm == "winograd" or (algorithm == "auto" and _is_worth_tiles(sizes))):
        return winograd
    if algorithm in {"fft", "auto"} and fourier.applies(sizes) and (algorithm == "fft" or _is_worth_transforms(sizes)):
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


@remembered
def gathered(sizes: Correlation) -> list[Phase] | None:
    """Return the correlations that compute grad_input, if there are any and they are faster than spreading patches."""
    if math.prod(axis.stride for axis in sizes.windows.axes) > MOST_PHASES:
        return None
    found = phases(sizes)
    if found is None or sizes.group_channels >= FEWEST_GROUP_CHANNELS:
        return found
    correlations = [phase.sizes for phase in found if phase.sizes is not None]
    if all(depthwise.applies(each) for each in correlations):
        return found
    is_long = all(fourier.applies(each) and each.taps >= FEWEST_TAPS for each in correlations)
    return found if is_long else None
