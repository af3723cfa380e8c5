"""The geometry of windows: output sizes, padding, and which input elements each window covers.

This is the only module that computes an output size, a pad or a strided view. All of it works on one axis at a time
(AxisWindows), so that one, two and three spatial axes are the same code.

Tap ``j`` of window ``i`` lies at input index ``i * stride - before + j * dilation``. A tap outside ``[0, size)`` lies
in the padding, or in the overhang that ceil_mode allows at the end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cnn_core.errors import ShapeError
from cnn_core.parameters import Padding, PerAxis, one_per_axis, require_length

__all__ = ["AxisWindows", "Piece", "Windows", "resolve_windows"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of the pairs of a window and a tap on one axis: one tap of many windows, or many taps of one window.

    Parameters
    ----------
    offsets, outputs, inputs : slice
        The taps (slice of the kernel axis), the windows (slice of the output axis) and where in the input they meet.
        One of ``offsets`` and ``outputs`` selects a single element, the other as many as ``inputs``.
    """

    offsets: slice
    outputs: slice
    inputs: slice

    @property
    def spans_taps(self) -> bool:
        """Whether several taps of one window lie in this piece."""
        return int(self.offsets.stop - self.offsets.start) > 1


@dataclass(frozen=True, slots=True)
class AxisWindows:
    """The windows along one axis; all values are counts of elements.

    Parameters
    ----------
    size : int
        Size of the input.
    kernel_size, stride, dilation : int
        Taps of a window, distance from one window to the next, distance from one tap to the next.
    before, after : int
        Padding at the start and at the end.
    output_size : int
        Number of windows.
    """

    size: int
    kernel_size: int
    stride: int
    dilation: int
    before: int
    after: int
    output_size: int

    @property
    def extent(self) -> int:
        """The distance from a window's first tap to its last, plus one."""
        return (self.kernel_size - 1) * self.dilation + 1

    def tap(self, offset: int) -> tuple[slice, slice] | None:
        """Tell which windows have their tap number ``offset`` inside the input, and where these taps lie.

        Returns
        -------
        (slice, slice) or None
            Slices of the output axis and of the input axis that select equally many elements; None if that tap lies
            in the padding for every window.
        """
        position = offset * self.dilation - self.before
        first = max(0, -(position // self.stride))
        last = min(self.output_size - 1, (self.size - 1 - position) // self.stride)
        if first > last:
            return None
        start = first * self.stride + position
        return slice(first, last + 1), slice(start, start + (last - first) * self.stride + 1, self.stride)

    def taps_of_window(self, number: int) -> tuple[slice, slice] | None:
        """Tell which taps of one window lie inside the input, and where.

        Returns
        -------
        (slice, slice) or None
            Slices of the offsets and of the input axis that select equally many elements; None if there are none.
        """
        start = number * self.stride - self.before
        first = max(0, -(start // self.dilation))
        last = min(self.kernel_size - 1, (self.size - 1 - start) // self.dilation)
        if first > last:
            return None
        low, high = start + first * self.dilation, start + last * self.dilation
        return slice(first, last + 1), slice(low, high + 1, self.dilation)

    def pieces(self) -> Iterator[Piece]:
        """Divide the pairs of a window and one of its taps inside the input into as few regular pieces as possible.

        There is one piece for each tap, over all windows, or one for each window, over all its taps: whichever are
        fewer. So an ordinary layer takes as many steps as its kernel is wide, and a global pooling takes one.
        """
        if self.kernel_size <= self.output_size:
            for offset in range(self.kernel_size):
                found = self.tap(offset)
                if found is not None:
                    yield Piece(slice(offset, offset + 1), *found)
        else:
            for number in range(self.output_size):
                found = self.taps_of_window(number)
                if found is not None:
                    yield Piece(found[0], slice(number, number + 1), found[1])

    def counts(self, *, include_padding: bool) -> NDArray[np.int64]:
        """Count each window's taps inside the input, or inside the input and its padding.

        The overhang of ceil_mode is neither: it never counts (PyTorch ``AvgPoolKernel.cpp``; ONNX issue 5276).

        Returns
        -------
        ndarray of int64, shape (output_size,)
        """
        start = np.arange(self.output_size, dtype=np.int64) * self.stride - self.before
        end = self.size + (self.after if include_padding else 0)
        first = 0 if include_padding else np.maximum(0, -(start // self.dilation))
        stop = np.minimum(self.kernel_size, -((start - end) // self.dilation))
        return np.maximum(0, stop - first)

    def has_window_in_padding(self) -> bool:
        """Tell whether some window has no tap inside the input, in constant memory and logarithmic time."""
        if (self.output_size - 1) * self.stride - self.before >= self.size or self.extent <= self.before:
            return True
        if self.size >= self.dilation:
            return False
        # Only windows that start in the leading padding are left. Their taps step over the whole input where the first
        # tap at an index >= 0, which is start mod dilation, lies at or beyond the end. Count those:
        # [start mod d >= n] = floor((start + d - n) / d) - floor(start / d).
        windows = min(self.output_size, -(-self.before // self.stride))
        shifted = _floor_sum(windows, self.dilation, self.stride, self.dilation - self.size - self.before)
        return shifted != _floor_sum(windows, self.dilation, self.stride, -self.before)

    def block(self, start: int, stop: int) -> tuple[slice, AxisWindows]:
        """Restrict to the windows ``start`` to ``stop``.

        Returns
        -------
        (slice, AxisWindows)
            The part of the input that these windows cover, and the same windows over that part alone.
        """
        first = start * self.stride - self.before
        span = (stop - start - 1) * self.stride + self.extent
        low = min(max(first, 0), self.size)
        high = max(low, min(first + span, self.size))
        before = min(span, max(0, -first)) if first < self.size else span
        part = AxisWindows(
            size=high - low,
            kernel_size=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            before=before,
            after=span - before - (high - low),
            output_size=stop - start,
        )
        return slice(low, high), part


def _floor_sum(terms: int, modulus: int, factor: int, constant: int) -> int:
    """Sum ``(factor * i + constant) // modulus`` over ``i`` from 0 to ``terms - 1`` with Euclid's algorithm."""
    total = 0
    while terms > 0:
        total += factor // modulus * (terms * (terms - 1) // 2) + constant // modulus * terms
        factor %= modulus
        constant %= modulus
        terms, constant = divmod(factor * terms + constant, modulus)
        modulus, factor = factor, modulus
    return total


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows over all spatial axes: one AxisWindows for each."""

    axes: tuple[AxisWindows, ...]

    @property
    def output_sizes(self) -> tuple[int, ...]:
        """Number of windows along each axis."""
        return tuple(axis.output_size for axis in self.axes)

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        """Taps of a window along each axis."""
        return tuple(axis.kernel_size for axis in self.axes)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Padding (before, after) of each axis."""
        return tuple((axis.before, axis.after) for axis in self.axes)

    @property
    def padded_sizes(self) -> tuple[int, ...]:
        """Size of the input with its padding, along each axis."""
        return tuple(axis.before + axis.size + axis.after for axis in self.axes)

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """Yield (offsets, slices of the outputs, slices of the inputs) of each tap, where it is inside the input."""
        for offsets in itertools.product(*(range(axis.kernel_size) for axis in self.axes)):
            found = [axis.tap(offset) for axis, offset in zip(self.axes, offsets, strict=True)]
            present = [slices for slices in found if slices is not None]
            if len(present) == len(found):
                outputs, inputs = zip(*present, strict=True)
                yield offsets, outputs, inputs

    def pieces(self) -> Iterator[tuple[Piece, ...]]:
        """Yield all combinations of the axes' pieces."""
        return itertools.product(*(tuple(axis.pieces()) for axis in self.axes))

    def block(self, outputs: Sequence[slice]) -> tuple[tuple[slice, ...], Windows]:
        """Restrict to a block of windows: the part of the input that it covers, and the windows over that part."""
        parts = [axis.block(chosen.start, chosen.stop) for axis, chosen in zip(self.axes, outputs, strict=True)]
        inputs, axes = zip(*parts, strict=True)
        return inputs, Windows(axes)

    def pad(self, input: NDArray[Any]) -> NDArray[Any]:
        """Return the input (N, *spatial, ...) with its zero padding; the input itself if there is none."""
        if not any(axis.before or axis.after for axis in self.axes):
            return input
        rest = input.shape[1 + len(self.axes) :]
        padded = np.zeros((input.shape[0], *self.padded_sizes, *rest), dtype=input.dtype)
        inside = tuple(slice(axis.before, axis.before + axis.size) for axis in self.axes)
        padded[(slice(None), *inside)] = input
        return padded

    def view(self, padded: NDArray[Any]) -> NDArray[Any]:
        """View the windows of a padded input, without a copy.

        Parameters
        ----------
        padded : ndarray, shape (N, *padded spatial, ...)

        Returns
        -------
        ndarray, shape (N, *output_sizes, *kernel_sizes, ...), read-only
        """
        rank = len(self.axes)
        batch, spatial, rest = padded.strides[0], padded.strides[1 : 1 + rank], padded.strides[1 + rank :]
        between_windows = (step * axis.stride for step, axis in zip(spatial, self.axes, strict=True))
        between_taps = (step * axis.dilation for step, axis in zip(spatial, self.axes, strict=True))
        return as_strided(
            padded,
            shape=(padded.shape[0], *self.output_sizes, *self.kernel_sizes, *padded.shape[1 + rank :]),
            strides=(batch, *between_windows, *between_taps, *rest),
            writeable=False,
        )


def resolve_windows(
    sizes: Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis,
    padding: Padding,
    dilation: PerAxis,
    ceil_mode: bool = False,
) -> Windows:
    """Lay windows over an input, one axis at a time.

    The number of windows along an axis of size n is ``floor((n + before + after - e) / stride) + 1`` with the extent
    ``e = (kernel_size - 1) * dilation + 1``; with ceil_mode it is rounded up, and a last window that would start beyond
    the input and its leading padding is dropped.

    Parameters
    ----------
    sizes : sequence of int
        The spatial sizes of the input.
    kernel_size, stride, dilation : int or tuple of int
    padding : int, tuple or str
        As the parameter ``padding`` of the ops.
    ceil_mode : bool

    Returns
    -------
    Windows

    Raises
    ------
    ParameterError
        If a per-axis parameter has another number of entries than the input has spatial axes.
    ShapeError
        If a window is larger than the padded input.

    Notes
    -----
    Sizes as in PyTorch (``aten/src/ATen/native/Pool.h``) and the ONNX operators. ``same`` as in TensorFlow: the output
    size is ``ceil(n / stride)``, and an odd pad has its extra element at the end (``same_lower``: at the start).

    Examples
    --------
    >>> resolve_windows((5, 5), 3, stride=2, padding="same", dilation=1).padding
    ((1, 1), (1, 1))
    """
    rank = len(sizes)
    strides = one_per_axis("stride", stride, rank)
    kernel_sizes = one_per_axis("kernel_size", kernel_size, rank)
    dilations = one_per_axis("dilation", dilation, rank)
    axes = []
    for axis in range(rank):
        size, step = sizes[axis], strides[axis]
        extent = (kernel_sizes[axis] - 1) * dilations[axis] + 1
        before, after = _padding_of_axis(padding, axis, rank, size, step, extent)
        output_size = _output_size(axis, size, before, after, extent, step, ceil_mode=ceil_mode)
        axes.append(AxisWindows(size, kernel_sizes[axis], step, dilations[axis], before, after, output_size))
    return Windows(tuple(axes))


def _padding_of_axis(padding: Padding, axis: int, rank: int, size: int, stride: int, extent: int) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding in ("same", "same_lower"):
        total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
        less, more = total // 2, total - total // 2
        return (less, more) if padding == "same" else (more, less)
    if isinstance(padding, int):
        return padding, padding
    require_length("padding", len(padding), rank)
    entry = padding[axis]
    if isinstance(entry, tuple):
        return entry
    return int(entry), int(entry)


def _output_size(axis: int, size: int, before: int, after: int, extent: int, stride: int, *, ceil_mode: bool) -> int:
    room = size + before + after - extent
    if not ceil_mode:
        output_size = room // stride + 1
    else:
        output_size = -(-room // stride) + 1
        if (output_size - 1) * stride >= size + before:
            output_size -= 1
    if output_size < 1:
        needed = max(1, extent - stride + 1) if ceil_mode else extent
        raise ShapeError(
            "input",
            f"a window spans {extent} elements of spatial axis {axis}; the input has {size} there, "
            f"{size + before + after} with its padding ({before}, {after})",
            got=f"{size + before + after} elements with padding",
            expected=f"at least {needed} elements with padding",
        )
    return output_size
