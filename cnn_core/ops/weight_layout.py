"""The layout of a weight: its sizes, and what an error says of a weight that may be in another layout."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast, get_args

from ..errors import ConvpoolError, ShapeError, number_of
from ..operands import Layout, checked_sequence, require_sizes, split_layer_shape
from ..parameters import DataFormat

__all__ = ["WEIGHT_AXES", "Weight", "explains_layout", "split_weight_shape"]

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

WEIGHT_LAYOUTS = {
    "(*kernel, C/groups, C_out)": "kio",
    "(C_out, C/groups, *kernel)": "oik",
    "(C/groups, C_out, *kernel)": "iok",
    "(*kernel, C_out, C/groups)": "koi",
    "(C_out, *kernel, C/groups)": "oki",
}
"""Layouts of weights that are in use, with the order of their axes: kernel, input channels, output channels."""

WEIGHT_AXES = Layout(("*kernel", "C/groups", "C_out"), ("C_out", "C/groups", "*kernel"))
OWN_LAYOUTS: dict[DataFormat, str] = {
    data_format: WEIGHT_AXES.text(data_format) for data_format in get_args(DataFormat)
}
"""The layout that a weight has with each data format."""


@dataclass(frozen=True)
class Weight:
    """The sizes of a weight, whose shape is in the layout of its op."""

    shape: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    group_channels: int
    features: int

    @property
    def kernel_first_shape(self) -> tuple[int, ...]:
        """(*kernel, C/groups, C_out)."""
        return (*self.kernel_sizes, self.group_channels, self.features)


def split_weight_shape(weight_shape: Sequence[int], rank: int, data_format: DataFormat) -> Weight:
    """Split the shape of a weight in the layout of a data format.

    Raises
    ------
    ShapeError
        If it does not have two axes more than there are spatial axes, or an axis of size 0.
    """
    shape, layout = checked_sequence("weight", weight_shape), OWN_LAYOUTS[data_format]
    if len(shape) != rank + 2:
        hints = {
            rank + 3: "the batch axis of input is missing, or weight has an axis too many",
            rank + 1: "weight lacks an axis, perhaps one of size 1, or input has one too many",
        }
        raise ShapeError(
            "weight",
            "must have",
            f"{rank + 2} axes: {layout}",
            got=number_of(len(shape), "axis", "axes"),
            reason="as many as input",
            hint=hints.get(len(shape), ""),
        )
    require_sizes("weight", shape)
    *kernel_sizes, group_channels, features = _kernel_first_shape(shape, layout)
    return Weight(shape, tuple(kernel_sizes), group_channels, features)


def _kernel_first_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the sizes of a weight of some layout in the order (*kernel, C/groups, C_out)."""
    sizes, rank = iter(shape), len(shape) - 2
    by_letter = {
        letter: tuple(itertools.islice(sizes, rank if letter == "k" else 1)) for letter in WEIGHT_LAYOUTS[layout]
    }
    return by_letter["k"] + by_letter["i"] + by_letter["o"]


def explains_layout(resolve: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let an error of a convolution's ``resolve`` say how the weight was read, and which layout the shapes would fit.

    A weight in the layout of another framework is the most frequent mistake of a port, and the first rule that it
    breaks, often one of the bias, does not tell.
    """
    attempt: Any = resolve

    @functools.wraps(resolve)
    def wrapped(
        op: Any, input_shape: Sequence[int], weight_shape: Sequence[int], *shapes: Any, **named: Any
    ) -> Returned:
        def fits(candidate: Any, weight_shape: Sequence[int]) -> bool:
            try:
                attempt(candidate, input_shape, weight_shape, *shapes, **named)
            except ConvpoolError:
                return False
            return True

        try:
            return attempt(op, input_shape, weight_shape, *shapes, **named)  # type: ignore[no-any-return]
        except ConvpoolError as error:
            if isinstance(error, ShapeError) or error.subject == "groups":
                for hint in _layout_hints(op, input_shape, weight_shape, fits):
                    error.add_hint(hint)
            raise

    return cast("Callable[Arguments, Returned]", wrapped)


def _layout_hints(
    op: Any, input_shape: Sequence[int], weight_shape: Sequence[int], fits: Callable[[Any, Sequence[int]], bool]
) -> Iterator[str]:
    try:
        _, spatial, _ = split_layer_shape("input", input_shape, op.data_format, op.spatial_axes)
        weight = split_weight_shape(weight_shape, len(spatial), op.data_format)
    except ConvpoolError:  # nothing is known of the axes
        return
    sizes = {
        "*kernel": f"kernel {'x'.join(map(str, weight.kernel_sizes))}",
        "C/groups": f"C/groups={weight.group_channels}",
        "C_out": f"C_out={weight.features}",
    }
    reading = ", ".join(sizes[axis] for axis in WEIGHT_AXES.axes(op.data_format))
    yield f"weight {weight.shape} is read as ({reading})"
    fitting = []
    for data_format, own in OWN_LAYOUTS.items():
        candidate = dataclasses.replace(op, data_format=data_format)
        for layout in WEIGHT_LAYOUTS:
            *kernel_sizes, group_channels, features = _kernel_first_shape(weight.shape, layout)
            channels = (group_channels, features) if data_format == "channels_last" else (features, group_channels)
            shape = (*kernel_sizes, *channels) if data_format == "channels_last" else (*channels, *kernel_sizes)
            if fits(candidate, shape):
                # most kernels have one size along all axes, and most ports are wrong in one respect only
                unlikely = (len(set(kernel_sizes)) > 1, layout != own, data_format != op.data_format)
                fitting.append((unlikely, data_format, layout))
    if fitting:
        least = min(unlikely for unlikely, _, _ in fitting)
        formats, layouts = zip(*(pair for unlikely, *pair in fitting if unlikely == least), strict=True)
        texts = []
        if formats[0] != op.data_format:
            texts.append(f"data_format={formats[0]}")
        if layouts[0] != OWN_LAYOUTS[formats[0]]:
            swapped = WEIGHT_LAYOUTS[OWN_LAYOUTS[formats[0]]].translate(str.maketrans("io", "oi"))
            names = (
                layout + " (C/groups and C_out exchanged)" * (WEIGHT_LAYOUTS[layout] == swapped) for layout in layouts
            )
            texts.append(f"a weight laid out as {' or '.join(names)}")
        yield f"the shapes fit {' and '.join(texts)}"
