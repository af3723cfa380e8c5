"""How every index scheme and storage order numbers the elements of a tensor, written as one array of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.peers.cases import Array

SCHEMES = ["plane", "image", "tensor"]
STORAGE_ORDERS = ["row_major", "column_major"]


def numbers(shape: Sequence[int], first: bool, scheme: str, storage_order: str) -> Array:
    """The number of each element of a tensor (N, C, *spatial), which lies in memory as the data format has it.

    The numbers are those of a counting array laid out as the memory, with the spatial axes turned around if they are in
    column-major order; what is not counted through has one element there.
    """
    batch, channels, *spatial = shape
    counted = {"plane": (1, 1), "image": (1, channels), "tensor": (batch, channels)}[scheme]
    reverse = storage_order == "column_major"
    in_order = spatial[::-1] if reverse else spatial
    layout = (*counted, *in_order) if first else (counted[0], *in_order, counted[1])
    counting = np.arange(math.prod(layout)).reshape(layout)
    if not first:
        counting = np.moveaxis(counting, -1, 1)
    if reverse:
        counting = counting.transpose(0, 1, *range(counting.ndim - 1, 1, -1))
    return np.broadcast_to(counting, shape)


def renumbered(plane: Array, shape: Sequence[int], first: bool, scheme: str, storage_order: str) -> Array:
    """Number anew what PyTorch numbers: indices (N, C, *any) within the planes of a tensor (N, C, *spatial)."""
    elements = numbers(shape, first, scheme, storage_order).reshape(*shape[:2], math.prod(shape[2:]))
    flat = plane.reshape(*shape[:2], math.prod(plane.shape[2:]))
    return np.take_along_axis(elements, flat, -1).reshape(plane.shape)
