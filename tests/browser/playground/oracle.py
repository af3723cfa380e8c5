"""Which cells each output cell is computed from, as plain loops: the oracle of what the playground highlights.

Written from the rules alone, on the geometry of tests.oracle: it knows nothing of cnn_core, the service and the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tests.oracle.adaptive import adaptive_range
from tests.oracle.conv_transpose import transposed_geometry
from tests.oracle.indices import inferred_sizes, unpool_targets
from tests.oracle.padding_modes import check_reach, source
from tests.oracle.unfold import matrix_shape, places
from tests.oracle.windows import AnyArray, Geometry, Index, OracleError, geometry, per_axis

Parameters = Mapping[str, Any]
Operands = Mapping[str, AnyArray]


class Reach(NamedTuple):
    """One term of an output cell; flat indices are those of whole tensors, in C order.

    ``at`` are the spatial coordinates under the tap, counted from the input's first element: negative or beyond its end
    in the padding and the overhang. ``input`` is None for a zero of the padding, ``weight`` where there is none.
    """

    at: Index
    channel: int
    input: int | None
    weight: int | None


class Windows(NamedTuple):
    """The terms of every output cell, by its flat index."""

    output_shape: Index
    terms: dict[int, list[Reach]]

    def fan_out(self) -> dict[int, set[int]]:
        """The output cells that each input cell takes part in."""
        reached: dict[int, set[int]] = {}
        for output, terms in self.terms.items():
            for term in terms:
                if term.input is not None:
                    reached.setdefault(term.input, set()).add(output)
        return reached

    def uses(self) -> dict[int, set[tuple[int, int]]]:
        """The pairs of an output cell and an input cell that each cell of the weight takes part in."""
        used: dict[int, set[tuple[int, int]]] = {}
        for output, terms in self.terms.items():
            for term in terms:
                if term.weight is not None and term.input is not None:
                    used.setdefault(term.weight, set()).add((output, term.input))
        return used


class Frame(NamedTuple):
    """The input of one item with its padding, and the overhang of ceil_mode, around it."""

    shape: Index
    before: Index
    first: bool

    def index(self, at: Index, channel: int) -> int:
        """The flat index of a place, whose coordinates count from the input's first element."""
        moved = tuple(one + before for one, before in zip(at, self.before, strict=True))
        return flat(self.shape, (0, channel, *moved) if self.first else (0, *moved, channel))


class Layout:
    """Where activations of a shape lie, channels_first or channels_last."""

    def __init__(self, shape: Index, *, first: bool) -> None:
        self.shape, self.first = shape, first
        self.images = shape[0]
        self.sizes = shape[2:] if first else shape[1:-1]
        self.channels = shape[1] if first else shape[-1]

    @classmethod
    def of(cls, images: int, sizes: list[int], channels: int, *, first: bool) -> Layout:
        return cls((images, channels, *sizes) if first else (images, *sizes, channels), first=first)

    def flat(self, image: int, at: Index, channel: int) -> int:
        return flat(self.shape, (image, channel, *at) if self.first else (image, *at, channel))

    def place(self, index: int) -> tuple[Index, int]:
        """The spatial coordinates and the channel of a flat index."""
        _, *position = (int(one) for one in np.unravel_index(index, self.shape))
        return (tuple(position[1:]), position[0]) if self.first else (tuple(position[:-1]), position[-1])


def flat(shape: Index, position: Index) -> int:
    index = 0
    for size, coordinate in zip(shape, position, strict=True):
        assert 0 <= coordinate < size
        index = index * size + coordinate
    return index


def is_first(parameters: Parameters) -> bool:
    return bool(parameters.get("data_format") == "channels_first")


def windows_of(op: str, parameters: Parameters, operands: Operands) -> Windows:
    """The terms of every output cell of a layer.

    Parameters
    ----------
    op : str
        conv, conv_integer, qlinear_conv, conv_transpose, pool, unfold, fold or unpool.
    parameters : dict
        As in a request; of the framework's defaults only ``data_format`` is known, so it must be given.
    operands : dict
        Arrays by name; of all but ``indices`` only the shapes matter.

    Raises
    ------
    OracleError
        If the rules say that there is no such layer.
    """
    input = Layout(operands["input"].shape, first=is_first(parameters))
    if op in {"conv", "conv_integer", "qlinear_conv"}:
        return convolution(parameters, input, operands["weight"].shape)
    if op == "conv_transpose":
        return transposed(parameters, input, operands["weight"].shape)
    if op == "pool":
        return pooling(parameters, input)
    if op == "unfold":
        return unfolded(parameters, input)
    if op == "fold":
        return folded(parameters, operands["input"].shape)
    if op == "unpool":
        return unpooled(parameters, input, operands)
    raise OracleError(f"no rule for {op}")


def frame_of(op: str, parameters: Parameters, operands: Operands) -> Frame | None:
    """The padded input of an item, or None if the layer pads its input with nothing."""
    if op in {"conv_transpose", "fold", "unpool"} or parameters.get("output_size") is not None:
        return None
    input = Layout(operands["input"].shape, first=is_first(parameters))
    weight = operands["weight"].shape if "weight" in operands else ()
    windows = geometry(
        input.sizes,
        parameters["kernel_size"] if not weight else list(weight[2:] if input.first else weight[:-2]),
        parameters.get("stride", None if op == "pool" else 1),
        parameters.get("padding", 0),
        parameters.get("dilation", 1),
        ceil_mode=parameters.get("ceil_mode", False),
    )
    before = tuple(pair[0] for pair in windows.padding)
    reached = [max(at[axis] for _, taps in taps_of(windows) for at, _ in taps) for axis in range(len(before))]
    sizes = [
        before[axis] + max(size + windows.padding[axis][1], reached[axis] + 1) for axis, size in enumerate(input.sizes)
    ]
    if sizes == list(input.sizes):
        return None
    return Frame(Layout.of(1, sizes, input.channels, first=input.first).shape, before, input.first)


def convolution(parameters: Parameters, input: Layout, weight_shape: Index) -> Windows:
    if input.first:
        features, group_channels, *kernel = weight_shape
    else:
        *kernel, group_channels, features = weight_shape
    windows = geometry(
        input.sizes, kernel, parameters.get("stride", 1), parameters.get("padding", 0), parameters.get("dilation", 1)
    )
    mode, groups = parameters.get("padding_mode", "zeros"), parameters.get("groups", 1)
    check_reach(windows, mode)
    output = Layout.of(input.images, windows.output, features, first=input.first)
    terms: dict[int, list[Reach]] = {}
    for image, position, feature in itertools.product(range(input.images), windows.positions(), range(features)):
        first_channel = feature // (features // groups) * group_channels
        reached = terms.setdefault(output.flat(image, position, feature), [])
        for tap, channel in itertools.product(windows.taps(), range(group_channels)):
            found = source(windows, position, tap, mode)
            from_channel = first_channel + channel
            place = (feature, channel, *tap) if input.first else (*tap, channel, feature)
            reached.append(
                Reach(
                    windows.coordinates(position, tap),
                    from_channel,
                    None if found is None else input.flat(image, found, from_channel),
                    flat(weight_shape, place),
                )
            )
    return Windows(output.shape, terms)


def transposed(parameters: Parameters, input: Layout, weight_shape: Index) -> Windows:
    """Each input cell times each tap goes to one output cell, unless the padding crops that away."""
    if input.first:
        channels, group_features, *kernel = weight_shape
    else:
        *kernel, group_features, channels = weight_shape
    names = ("stride", "padding", "dilation", "output_padding", "output_size")
    windows = transposed_geometry(
        input.sizes, kernel, **{name: parameters[name] for name in names if name in parameters}
    )
    groups = parameters.get("groups", 1)
    output = Layout.of(input.images, windows.sizes, groups * group_features, first=input.first)
    terms: dict[int, list[Reach]] = {index: [] for index in range(int(np.prod(output.shape)))}
    for image, position, tap in itertools.product(range(input.images), windows.positions(), windows.taps()):
        to = windows.coordinates(position, tap)
        if not windows.inside(to):
            continue
        for channel, feature in itertools.product(range(channels), range(group_features)):
            place = (channel, feature, *tap) if input.first else (*tap, feature, channel)
            to_feature = channel // (channels // groups) * group_features + feature
            terms[output.flat(image, to, to_feature)].append(
                Reach(position, channel, input.flat(image, position, channel), flat(weight_shape, place))
            )
    return Windows(output.shape, terms)


def pooling(parameters: Parameters, input: Layout) -> Windows:
    if parameters.get("output_size") is not None:
        sizes = per_axis(parameters["output_size"], len(input.sizes), least=1)
        under = {
            position: [
                (at, at)
                for at in itertools.product(
                    *(adaptive_range(at, input.sizes[axis], sizes[axis]) for axis, at in enumerate(position))
                )
            ]
            for position in itertools.product(*map(range, sizes))
        }
    else:
        windows = geometry(
            input.sizes,
            parameters["kernel_size"],
            parameters.get("stride"),
            parameters.get("padding", 0),
            parameters.get("dilation", 1),
            ceil_mode=parameters.get("ceil_mode", False),
        )
        sizes, under = windows.output, dict(taps_of(windows))
    output = Layout.of(input.images, sizes, input.channels, first=input.first)
    terms: dict[int, list[Reach]] = {}
    for image, position, channel in itertools.product(range(input.images), under, range(input.channels)):
        terms[output.flat(image, position, channel)] = [
            Reach(at, channel, None if found is None else input.flat(image, found, channel), None)
            for at, found in under[position]
        ]
    return Windows(output.shape, terms)


def taps_of(windows: Geometry) -> Iterator[tuple[Index, list[tuple[Index, Index | None]]]]:
    """Every output position with its coordinates, and again those among them that lie inside the input."""
    for position in windows.positions():
        reached = [windows.coordinates(position, tap) for tap in windows.taps()]
        yield position, [(at, at if windows.inside(at) else None) for at in reached]


def unfolded(parameters: Parameters, input: Layout) -> Windows:
    """Every output cell copies at most one input cell."""
    windows = patches(parameters, input.sizes)
    layout = "channels_first" if input.first else "channels_last"
    shape = matrix_shape(windows, input.images, input.channels, layout)
    terms: dict[int, list[Reach]] = {index: [] for index in range(int(np.prod(shape)))}
    for image in range(input.images):
        for place, (*at, channel) in places(windows, input.channels, layout):
            source_cell = input.flat(image, tuple(at), channel)
            terms[flat(shape, (image, *place))].append(Reach(tuple(at), channel, source_cell, None))
    return Windows(shape, terms)


def folded(parameters: Parameters, shape: Index) -> Windows:
    """Every input cell is added to at most one output cell."""
    first = is_first(parameters)
    windows = patches(parameters, parameters["output_size"])
    layout = "channels_first" if first else "channels_last"
    channels = (shape[1] if first else shape[2]) // int(np.prod(windows.kernel))
    if shape != matrix_shape(windows, shape[0], channels, layout):
        raise OracleError(f"no matrix of windows: {shape}")
    output = Layout.of(shape[0], windows.sizes, channels, first=first)
    terms: dict[int, list[Reach]] = {index: [] for index in range(int(np.prod(output.shape)))}
    for image in range(shape[0]):
        for place, (*at, channel) in places(windows, channels, layout):
            cell = flat(shape, (image, *place))
            terms[output.flat(image, tuple(at), channel)].append(Reach(place, 0, cell, None))
    return Windows(output.shape, terms)


def patches(parameters: Parameters, sizes: Any) -> Geometry:
    return geometry(
        sizes,
        parameters["kernel_size"],
        parameters.get("stride", 1),
        parameters.get("padding", 0),
        parameters.get("dilation", 1),
    )


def unpooled(parameters: Parameters, input: Layout, operands: Operands) -> Windows:
    """Every output cell has the last input cell whose index names it, or none; the output's size must be given."""
    sizes = per_axis(parameters["output_size"], len(input.sizes), least=1)
    output = Layout.of(input.images, sizes, input.channels, first=input.first)
    counted = sizes
    if parameters.get("framework") == "onnx" and "kernel_size" in parameters:
        windows = (parameters["kernel_size"], parameters.get("stride", 1), parameters.get("padding", 0))
        counted = tuple(inferred_sizes(input.sizes, *windows))
    targets = unpool_targets(
        operands["input"],
        operands["indices"],
        counted=counted,
        data_format="channels_first" if input.first else "channels_last",
        index_scheme=parameters.get("index_scheme", "plane"),
        storage_order=parameters.get("storage_order", "row_major"),
    )
    terms: dict[int, list[Reach]] = {index: [] for index in range(int(np.prod(output.shape)))}
    for (image, *at, channel), place in targets.items():
        terms[output.flat(image, tuple(at), channel)].append(Reach((), channel, flat(input.shape, place), None))
    return Windows(output.shape, terms)
