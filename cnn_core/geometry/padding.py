"""The padding of one axis: its size, and which elements of the input it is filled with."""

from __future__ import annotations

import math

from ..errors import ShapeError
from ..parameters import Padding, PaddingMode, require_length

__all__ = ["padding_of_axis", "require_padding_source", "same_padding"]


def padding_of_axis(padding: Padding, axis: int, rank: int, size: int, stride: int, extent: int) -> tuple[int, int]:
    """Return the padding before and after an input, for windows with a stride and an extent on one of ``rank`` axes."""
    if padding == "valid":
        return 0, 0
    if padding in ("same", "same_lower"):
        return same_padding(size, math.ceil(size / stride), stride, extent, at_end=padding == "same")
    if isinstance(padding, int):
        return padding, padding
    if len(padding) == 1 and isinstance(padding[0], int):  # one value for all axes, as for every parameter
        return padding[0], padding[0]
    require_length("padding", len(padding), rank)
    entry = padding[axis]
    if isinstance(entry, tuple):
        return entry
    return int(entry), int(entry)


def same_padding(size: int, output_size: int, stride: int, extent: int, *, at_end: bool) -> tuple[int, int]:
    """Return the smallest padding with which the windows fit, split evenly, with the extra element at one end."""
    total = max(0, (output_size - 1) * stride + extent - size)
    less, more = total // 2, total - total // 2
    return (less, more) if at_end else (more, less)


def require_padding_source(mode: PaddingMode, axis: int, size: int, before: int, after: int) -> None:
    """Raise ShapeError unless an axis has the elements that its padding is filled with.

    The limits are PyTorch's: reflection does not repeat the edge, so it needs one element more than the padding has;
    circular padding wraps around once.
    """
    limits = {"reflect": size - 1, "circular": size}
    largest = max(before, after)
    limit = limits.get(mode, largest)
    if largest > limit:
        raise ShapeError(
            "input",
            f"with padding_mode {mode} allows on spatial axis {axis}",
            f"padding of at most {limit} elements on each side",
            got=f"padding of {largest} elements",
            reason=f"as it has {size} there",
        )
