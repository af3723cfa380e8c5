"""Patches: copies of the windows of an input, and adding them back to where they were taken from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Windows
from .cost import MOVED_ELEMENT, STEP, Cost, Costs
from .passes import checked, copy, elementwise

__all__ = ["fold", "patch_costs", "unfold"]

Array = NDArray[Any]

PIECE_ELEMENTS = 128
"""Upper bound of the memory of one piece with its slices, in elements of 4 bytes."""


def unfold(input: Array, windows: Windows, patches: Array) -> None:
    """Write the patches (N, *O, *K, ...) of an input (N, *S, ...); taps in the padding are 0."""
    padded = input
    if any(map(any, windows.padding)):
        padded = np.zeros((len(input), *windows.padded_sizes, *input.shape[1 + len(windows.axes) :]), dtype=input.dtype)
        copy(padded[(slice(None), *windows.inside)], input)
    copy(patches, windows.view(padded))


def fold(patches: Array, windows: Windows, target: Array) -> None:
    """Add patches (N, *O, *K, ...) to the elements of a target (N, *S, ...) that they were taken from."""
    rank = len(windows.axes)
    interleaved = [position for axis in range(rank) for position in (1 + axis, 1 + rank + axis)]
    rest = range(1 + 2 * rank, patches.ndim)
    patches = patches.transpose(0, *interleaved, *rest)  # (N, O1, K1, O2, K2, ..., ...)
    for pieces in checked(windows.pieces()):
        in_patches = tuple(index for piece in pieces for index in (piece.outputs, piece.offsets))
        elements = target[(slice(None), *(piece.inputs for piece in pieces))]
        # on each axis, either outputs or offsets select a single element, so joining the two never copies
        elementwise(np.add, elements, elements, patches[(slice(None), *in_patches)].reshape(elements.shape))


def patch_costs(planes: int, windows: Windows) -> Costs:
    """Return what ``unfold`` costs as an output, and ``fold`` as its gradient.

    Parameters
    ----------
    planes : int
        Images times channels.
    windows : Windows
    """
    elements = planes * math.prod(axis.tap_count for axis in windows.axes)
    padded = planes * math.prod(windows.padded_sizes) if any(map(any, windows.padding)) else 0
    steps = math.prod(axis.piece_count for axis in windows.axes)
    return Costs(
        # the padded input is copied whole, and may be far larger than the patches
        Cost(MOVED_ELEMENT * (elements + padded), padded),
        # the pieces of each axis are listed
        {
            "input": Cost(
                MOVED_ELEMENT * elements + STEP * steps, PIECE_ELEMENTS * sum(axis.piece_count for axis in windows.axes)
            )
        },
    )
