"""Layers to make mistakes in: what a request says, resolved by hand, and the geometry as a porter computes it.

Written from the rules alone. ``read_windows`` is the place where a port reads its parameters, and where it may read
them wrongly; the loops of the other modules walk what it returns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

AnyArray = npt.NDArray[Any]
Index = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Wrong = frozenset[str]
"""The mistakes that a loop is to make, by the names that it knows."""

RIGHT: Wrong = frozenset()


@dataclass(frozen=True)
class Windows:
    """The windows that a loop walks; one entry per spatial axis each."""

    sizes: Index
    kernel: Index
    stride: Index
    dilation: Index
    before: Index
    output: Index

    def positions(self) -> Iterator[Index]:
        return itertools.product(*map(range, self.output))

    def taps(self) -> Iterator[Index]:
        return itertools.product(*map(range, self.kernel))

    def coordinates(self, position: Index, tap: Index) -> Index:
        return tuple(
            p * s + t * d - b
            for p, s, t, d, b in zip(position, self.stride, tap, self.dilation, self.before, strict=True)
        )

    def inside(self, at: Index) -> bool:
        return all(0 <= a < n for a, n in zip(at, self.sizes, strict=True))

    def effect(self) -> tuple[Any, ...]:
        """Which element each tap of each window reads, axis by axis; windows of the same effect are alike."""
        return tuple(
            tuple(tuple(at if 0 <= (at := p * s + t * d - b) < n else None for t in range(k)) for p in range(positions))
            for n, k, s, d, b, positions in zip(
                self.sizes, self.kernel, self.stride, self.dilation, self.before, self.output, strict=True
            )
        )


@dataclass(frozen=True)
class Layer:
    """A layer and its operands. ``padding`` is in elements, also where the request says ``same``."""

    name: str
    layout: str
    images: int
    sizes: Index
    channels: int
    features: int
    kernel: Index
    stride: Index
    dilation: Index
    padding: Pairs
    same: str | None = None
    groups: int = 1
    padding_mode: str = "zeros"
    output_padding: Index = ()
    mode: str = ""
    ceil_mode: bool = False
    count_include_pad: bool = False
    divisor_override: int | None = None
    norm_type: float = 2.0
    ties: str = "first"
    index_scheme: str = "plane"
    storage_order: str = "row_major"
    return_indices: bool = False
    operands: dict[str, AnyArray] = field(default_factory=dict, compare=False)

    @property
    def rank(self) -> int:
        return len(self.sizes)

    @property
    def last(self) -> bool:
        """Whether the channels are the last axis."""
        return self.layout == "channels_last"

    @property
    def extents(self) -> Index:
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def group_channels(self) -> int:
        """Input channels of a group; of a transposed convolution its output channels, which its features are."""
        return self.channels // self.groups

    @property
    def group_features(self) -> int:
        return self.features // self.groups

    @property
    def output(self) -> Index:
        """The right spatial sizes of the output."""
        windows = read_windows(self)
        return windows.sizes if self.name == "conv_transpose" else windows.output

    def activations(self, spatial: Sequence[int], channels: int) -> Index:
        """The shape of activations in this layer's layout."""
        return (self.images, *spatial, channels) if self.last else (self.images, channels, *spatial)

    def place(self, image: int, at: Index, channel: int) -> Index:
        return (image, *at, channel) if self.last else (image, channel, *at)

    def kernel_shape(self) -> Index:
        """The shape of the weight; what a transposed convolution scatters from is its last (or first) axis."""
        if self.name == "conv_transpose":
            inner, outer = self.group_features, self.channels
        else:
            inner, outer = self.group_channels, self.features
        return (*self.kernel, inner, outer) if self.last else (outer, inner, *self.kernel)

    def kernel_place(self, tap: Index, inner: int, outer: int) -> Index:
        return (*tap, inner, outer) if self.last else (outer, inner, *tap)

    def parameters(self) -> dict[str, Any]:
        """The parameters as a request has them."""
        pad: Any = self.same or [list(pair) for pair in self.padding]
        given: dict[str, Any] = {"data_format": self.layout, "stride": list(self.stride), "padding": pad}
        given |= {"dilation": list(self.dilation)}
        if self.name == "pool":
            given |= {"mode": self.mode, "kernel_size": list(self.kernel), "ceil_mode": self.ceil_mode}
            if self.mode == "avg":
                given |= {"count_include_pad": self.count_include_pad}
                given |= {} if self.divisor_override is None else {"divisor_override": self.divisor_override}
            if self.mode == "lp":
                given |= {"norm_type": self.norm_type}
            if self.mode == "max":
                given |= {"ties": self.ties}
                if self.return_indices:
                    given |= {"return_indices": True, "index_scheme": self.index_scheme}
                    given |= {"storage_order": self.storage_order}
            return given
        given |= {"groups": self.groups}
        if self.name == "conv":
            given |= {"padding_mode": self.padding_mode}
        if self.name == "conv_transpose" and any(self.output_padding):
            given |= {"output_padding": list(self.output_padding)}
        return given


def positions_along(size: int, before: int, after: int, extent: int, stride: int, ceil_mode: bool) -> int:
    """How many windows fit along an axis; 0 if none does."""
    room = size + before + after - extent
    if not ceil_mode:
        return room // stride + 1 if room >= 0 else 0
    positions = -(-room // stride) + 1
    return max(positions - 1 if (positions - 1) * stride >= size + before else positions, 0)


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """``same`` as TensorFlow has it: the odd element at the end."""
    total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
    return total // 2, total - total // 2


PADDING_MISTAKES: dict[str, Callable[[tuple[int, int], int, int], tuple[int, int]]] = {
    "padding_sides_swapped": lambda pair, _k, _e: (pair[1], pair[0]),
    "padding_none": lambda _pair, _k, _e: (0, 0),
    "padding_before_only": lambda pair, _k, _e: (pair[0], 0),
    "padding_after_only": lambda pair, _k, _e: (0, pair[1]),
    "padding_half_window": lambda _pair, k, _e: (k // 2, k // 2),
    "padding_half_extent": lambda _pair, _k, e: (e // 2, e // 2),
    "padding_symmetric": lambda _pair, _k, e: ((e - 1) // 2, (e - 1) // 2),
    "padding_of_stride_one": lambda _pair, _k, e: ((e - 1) // 2, e - 1 - (e - 1) // 2),
    "padding_more": lambda pair, _k, _e: (pair[0] + 1, pair[1] + 1),
    "padding_less": lambda pair, _k, _e: (max(pair[0] - 1, 0), max(pair[1] - 1, 0)),
    "window_starts_late": lambda pair, _k, _e: (pair[0] - 1, pair[1] + 1),
    "window_starts_early": lambda pair, _k, _e: (pair[0] + 1, pair[1] - 1),
}
"""How a port gets the padding (before, after) of an axis wrong: from the right one, the kernel's size, its extent."""


def swapped(values: Index) -> Index:
    """The last two axes exchanged."""
    return (*values[:-2], values[-1], values[-2]) if len(values) > 1 else values


def changed(values: Index, what: str, wrong: Wrong) -> Index:
    """Strides or dilations as a port reads them."""
    if f"{what}_of_the_first_axis" in wrong:
        values = values[:1] * len(values)
    if f"{what}_of_the_last_axis" in wrong:
        values = values[-1:] * len(values)
    if f"{what}_more_on_the_first_axis" in wrong:
        values = (values[0] + 1, *values[1:])
    if f"{what}_more_on_the_last_axis" in wrong:
        values = (*values[:-1], values[-1] + 1)
    if f"{what}_less_on_the_first_axis" in wrong:
        values = (max(values[0] - 1, 1), *values[1:])
    if f"{what}_less_on_the_last_axis" in wrong:
        values = (*values[:-1], max(values[-1] - 1, 1))
    if f"{what}_swapped" in wrong:
        values = swapped(values)
    if f"{what}_one" in wrong:
        values = (1,) * len(values)
    if f"{what}_more" in wrong:
        values = tuple(value + 1 for value in values)
    if f"{what}_less" in wrong:
        values = tuple(max(value - 1, 1) for value in values)
    return values


def read_windows(layer: Layer, wrong: Wrong = RIGHT) -> Windows:
    """Compute the windows from the parameters, with the mistakes of this step that are in ``wrong``."""
    sizes = swapped(layer.sizes) if "input_axes_swapped" in wrong else layer.sizes
    kernel = swapped(layer.kernel) if "kernel_axes_swapped" in wrong else layer.kernel
    stride, dilation = changed(layer.stride, "stride", wrong), changed(layer.dilation, "dilation", wrong)
    if "stride_of_the_kernel" in wrong:
        stride = kernel
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padding = layer.padding
    if layer.same and layer.name != "conv_transpose":
        padding = tuple(same_padding(*axis) for axis in zip(sizes, extents, stride, strict=True))
        if layer.same == "same_lower":
            padding = tuple((after, before) for before, after in padding)
    if "padding_axes_swapped" in wrong:
        padding = (*padding[:-2], *reversed(padding[-2:]))
    if "pads_in_another_order" in wrong:  # [top, bottom, left, right] read as [top, left, bottom, right]
        flat = [pad for pair in padding for pad in pair]
        padding = tuple(zip(flat[: len(sizes)], flat[len(sizes) :], strict=True))
    if wrong & {"padding_same", "padding_same_lower"}:
        padding = tuple(same_padding(*axis) for axis in zip(sizes, extents, stride, strict=True))
        if "padding_same_lower" in wrong:
            padding = tuple((after, before) for before, after in padding)
    for mistake in wrong & PADDING_MISTAKES.keys():
        rule = PADDING_MISTAKES[mistake]
        padding = tuple(rule(pair, k, e) for pair, k, e in zip(padding, kernel, extents, strict=True))
    before = tuple(pair[0] for pair in padding)
    if layer.name == "conv_transpose":
        more = layer.output_padding or (0,) * layer.rank
        if "output_padding_ignored" in wrong:
            more = (0,) * layer.rank
        outputs = tuple(
            (n - 1) * s - sum(pair) + e + m
            for n, s, pair, e, m in zip(sizes, stride, padding, extents, more, strict=True)
        )
        return Windows(outputs, kernel, stride, dilation, before, sizes)
    ceil_mode = layer.ceil_mode != ("ceil_mode_turned" in wrong)
    output = tuple(
        positions_along(n, *pair, e, s, ceil_mode)
        for n, pair, e, s in zip(sizes, padding, extents, stride, strict=True)
    )
    return Windows(sizes, kernel, stride, dilation, before, output)


def spatial_of(layer: Layer, activations: AnyArray) -> Index:
    return activations.shape[1:-1] if layer.last else activations.shape[2:]


PADDED_PLACES: dict[str, Callable[[int, int], int | None]] = {
    "zeros": lambda at, n: at if 0 <= at < n else None,
    "replicate": lambda at, n: min(max(at, 0), n - 1),
    "reflect": lambda at, n: -at if at < 0 else 2 * (n - 1) - at if at >= n else at,
    "reflect_with_edge": lambda at, n: -at - 1 if at < 0 else 2 * n - 1 - at if at >= n else at,
    "circular": lambda at, n: at % n,
}
"""Which element stands at a place of the padded input, along one axis; None: a zero."""


def element_at(at: Index, sizes: Index, padding_mode: str) -> Index | None:
    """Which element of the input stands at the coordinates, which may lie in the padding."""
    places = [PADDED_PLACES[padding_mode](a, n) for a, n in zip(at, sizes, strict=True)]
    found = tuple(place for place in places if place is not None and place >= 0)
    return found if len(found) == len(at) else None
