"""Which algorithm computes a correlation."""

from __future__ import annotations

import math
from types import ModuleType

from cnn_core.compute.correlation import depthwise, direct, winograd
from cnn_core.compute.correlation.sizes import Correlation
from cnn_core.parameters import Algorithm

__all__ = ["chosen", "transposed"]

FLOAT32_BYTES = 4
FEWEST_CHANNELS = 32
FEWEST_TILES = 64
"""Of all images together; with fewer, what is saved in products is lost in transforming the weight."""

FEWEST_GROUP_CHANNELS = 8
"""Of a group, for grad_input to be a correlation: fewer make products of narrow matrices."""


def chosen(sizes: Correlation, algorithm: Algorithm) -> ModuleType:
    """Return the module that computes a correlation, and the gradient of its weight."""
    if winograd.applies(sizes) and (algorithm == "winograd" or (algorithm == "auto" and _is_worth_tiles(sizes))):
        return winograd
    return depthwise if depthwise.applies(sizes) else direct


def _is_worth_tiles(sizes: Correlation) -> bool:
    # in float64 nobody wants to wait less for fewer digits
    return (
        sizes.itemsize == FLOAT32_BYTES
        and min(sizes.channels, sizes.features) >= FEWEST_CHANNELS
        and math.prod(winograd.tile_counts(sizes)) >= FEWEST_TILES
    )


def transposed(sizes: Correlation) -> Correlation | None:
    """Return the correlation that computes grad_input, if there is one and it is faster than spreading patches."""
    found = sizes.transposed()
    if found is None:
        return None
    return found if sizes.group_channels >= FEWEST_GROUP_CHANNELS or depthwise.applies(found) else None
