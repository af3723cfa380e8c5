"""What the operands of all ops have in common: data types, layouts, and the checks on their shapes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DtypeError, MissingAxisError, ShapeError, describe, number_of
from .parameters import MAX_INTEGER, MAX_RANK, MIN_RANK, DataFormat

MISSING_AXIS = (
    "an axis of size 1 may be missing: the batch axis of a single image, the channel axis of a grayscale image, or a "
    "trailing axis that the language dropped"
)
FLOATING = tuple(np.dtype(name) for name in ("float16", "float32", "float64"))


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor in their order with each data format.

    Parameters
    ----------
    channels_last, channels_first : tuple of str
        What each axis is. A name with an asterisk in front stands for as many axes as there are spatial ones.

    Examples
    --------
    >>> print(Layout(("N", "*spatial", "C"), ("N", "C", "*spatial")))
    (N, *spatial, C), or (N, C, *spatial) with channels_first
    >>> print(Layout(("C_out",), ("C_out",)))
    (C_out,)
    """

    channels_last: tuple[str, ...]
    channels_first: tuple[str, ...]

    def axes(self, data_format: DataFormat) -> tuple[str, ...]:
        """Return what each axis is with a data format."""
        return self.channels_last if data_format == "channels_last" else self.channels_first

    def text(self, data_format: DataFormat) -> str:
        """Write the axes with a data format as a shape."""
        axes = self.axes(data_format)
        return f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"

    def __str__(self) -> str:
        last, first = self.text("channels_last"), self.text("channels_first")
        return last if last == first else f"{last}, or {first} with channels_first"


ACTIVATIONS = Layout(("N", "*spatial", "C"), ("N", "C", "*spatial"))


def as_operand(name: str, value: ArrayLike | None, dtypes: tuple[str, ...] = ()) -> NDArray[Any]:
    """Return an operand as an array of native byte order, whose type must be one that the op computes with.

    Parameters
    ----------
    name : str
    value : array_like
    dtypes : tuple of str
        The accepted types; if empty: float16, float32, float64 and integers of at most 64 bits.

    Raises
    ------
    DtypeError
        If the type is not one of those.
    ShapeError
        If nested sequences are ragged.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(name, "must consist of", "sequences of equal lengths", got="ragged sequences") from None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = array.dtype
    if not (dtype.name in dtypes if dtypes else dtype.kind in "iu" or dtype in FLOATING):
        accepted = " or ".join(dtypes) or "float16, float32, float64 or integers"
        raise DtypeError(name, "must have dtype", accepted, got=dtype.name)
    return array


def common_dtype(*operands: NDArray[Any] | np.dtype[Any] | None) -> np.dtype[Any]:
    """Return the floating type that holds all operands, or their types, that are given; integers count as float64."""
    common, _, float64 = FLOATING
    for operand in operands:
        if operand is not None:
            dtype = operand if isinstance(operand, np.dtype) else operand.dtype
            if dtype is not common:
                common = np.promote_types(common, dtype if dtype.kind == "f" else float64)
    return common


def accumulation_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that sums are computed in: float32 for float16, else the type itself."""
    float16, float32, _ = FLOATING
    return float32 if dtype == float16 else dtype


def checked_sequence(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape as a tuple of Python integers, or raise ShapeError."""
    try:
        return tuple(operator.index(size) for size in shape)
    except TypeError:
        raise ShapeError(name, "must have as shape", "a sequence of integers", got=describe(shape)) from None


def require_sizes(name: str, sizes: Sequence[int], *, has_batch: bool = False) -> None:
    """Raise ShapeError unless an operand may have these sizes; only a leading batch may be empty."""
    for axis, size in enumerate(sizes):
        smallest = 0 if has_batch and axis == 0 else 1
        if not smallest <= size <= MAX_INTEGER:
            raise ShapeError(
                name, "must have", f"size {smallest} to {MAX_INTEGER} on axis {axis}", got=f"size {describe(size)}"
            )


def split_layer_shape(
    name: str, shape: Sequence[int], data_format: DataFormat, spatial_axes: int | None = None
) -> tuple[int, tuple[int, ...], int]:
    """Split the shape of activations into batch, spatial sizes and channels.

    Raises
    ------
    ShapeError
        If there are not 1, 2 or 3 spatial axes, or not ``spatial_axes``, or a size other than the batch is 0.
    """
    sizes = checked_sequence(name, shape)
    if not MIN_RANK <= len(sizes) - 2 <= MAX_RANK or len(sizes) - 2 != (spatial_axes or len(sizes) - 2):
        needed = "3, 4 or 5" if spatial_axes is None else str(spatial_axes + 2)
        is_one_short = len(sizes) + 1 == (3 if spatial_axes is None else spatial_axes + 2)
        raise (MissingAxisError if is_one_short else ShapeError)(
            name,
            "must have",
            f"{needed} axes: {ACTIVATIONS.text(data_format)}",
            got=number_of(len(sizes), "axis", "axes"),
            reason="" if spatial_axes is None else f"as spatial_axes={spatial_axes} says",
            hint=MISSING_AXIS if is_one_short else "",
        )
    require_sizes(name, sizes, has_batch=True)
    if data_format == "channels_last":
        return sizes[0], sizes[1:-1], sizes[-1]
    return sizes[0], sizes[2:], sizes[1]


def layer_shape(batch: int, spatial: Sequence[int], channels: int, data_format: DataFormat) -> tuple[int, ...]:
    """Join batch, spatial sizes and channels in the order of a layout."""
    if data_format == "channels_last":
        return (batch, *spatial, channels)
    return (batch, channels, *spatial)


def spatial_axes(rank: int, data_format: DataFormat) -> range:
    """Return the positions of the spatial axes in a layout."""
    return range(1, 1 + rank) if data_format == "channels_last" else range(2, 2 + rank)


def channels_last_view(array: NDArray[Any], data_format: DataFormat) -> NDArray[Any]:
    """View activations of either layout as (N, *spatial, C)."""
    return array if data_format == "channels_last" else np.moveaxis(array, 1, -1)


def require_shape(name: str, shape: Sequence[int], needed: Sequence[int], reason: str) -> None:
    """Raise ShapeError unless an operand has exactly the needed shape."""
    if tuple(shape) != tuple(needed):
        raise ShapeError(name, "must have shape", describe_shape(needed), got=describe_shape(shape), reason=reason)


def describe_shape(shape: Sequence[int]) -> str:
    """Write a shape as Python does; beyond eight axes just how many."""
    return str(tuple(shape)) if len(shape) <= 8 else f"{len(shape)} axes"
