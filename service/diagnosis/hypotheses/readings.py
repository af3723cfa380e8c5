"""Mistakes in how an operand is read: its axes in another order, flipped, or one image of several."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvTranspose
from cnn_core.ops.conv_base import Convolution
from cnn_core.ops.weight_layout import OWN_LAYOUTS, WEIGHT_LAYOUTS

from ..layer import Layer, Reading, Scenario
from .hypothesis import CONVOLUTION, Hypothesis, Variant, rule

__all__ = ["READINGS"]

Array = NDArray[Any]
MAXIMUM, QUANTIZED = rule("max-pooling"), rule("quantized-convolution")

OTHER_LAYOUTS = {"(C/groups, *kernel, C_out)": "iko"}
"""Layouts that no framework has, but code that makes a matrix of a weight."""


def _flipped(name: str, axes: Sequence[int]) -> Reading:
    def flip(array: Array) -> Array:
        return np.flip(array, tuple(axes))

    return Reading(name, flip, flip)


def _buffer_read_as(name: str, shape: tuple[int, ...], other: tuple[int, ...], order: Sequence[int]) -> Reading:
    """Read the memory of a tensor of a shape as one of another shape, whose axes are then put in an order."""
    back = np.argsort(order)
    return Reading(
        name,
        lambda array: np.ascontiguousarray(array).reshape(other).transpose(order),
        lambda array: np.ascontiguousarray(array.transpose(back)).reshape(shape),
    )


def _moved(name: str, order: Sequence[int]) -> Reading:
    back = np.argsort(order)
    return Reading(name, lambda array: array.transpose(order), lambda array: array.transpose(back))


def _chosen(name: str, axis: int, positions: Any) -> Reading:
    """Read the positions along an axis in another order."""
    back = np.argsort(positions)
    return Reading(name, lambda array: np.take(array, positions, axis), lambda array: np.take(array, back, axis))


def _with_weight(layer: Layer) -> bool:
    return isinstance(layer.op, Convolution)


def _flips_of_all(layer: Layer) -> Iterator[Variant]:
    if _with_weight(layer):
        yield Variant(Scenario(readings=(_flipped("weight", layer.kernel_axes),)))


def _flips_of_one(layer: Layer) -> Iterator[Variant]:
    if _with_weight(layer) and layer.rank > 1:
        for count in range(1, layer.rank):
            for axes in itertools.combinations(layer.kernel_axes, count):
                text = " and ".join(str(layer.kernel_axes.index(axis)) for axis in axes)
                yield Variant(Scenario(readings=(_flipped("weight", axes),)), text)


def _other_axes(layer: Layer, name: str, axes: Sequence[int]) -> Iterator[Reading]:
    """Yield readings with spatial axes in another order: moved, and as a buffer of a tensor in that order."""
    tensor = layer.tensors[name]
    for order in itertools.islice(itertools.permutations(axes), 1, None):
        whole: list[int] = list(range(tensor.ndim))
        for axis, place in zip(axes, order, strict=True):
            whole[axis] = place
        yield _moved(name, whole)
        other = tuple(tensor.shape[axis] for axis in whole)
        if other != tensor.shape:
            yield _buffer_read_as(name, tensor.shape, other, np.argsort(whole).tolist())
            yield _buffer_read_as(name, tensor.shape, other, range(tensor.ndim))


def _kernel_axes_swapped(layer: Layer) -> Iterator[Variant]:
    if _with_weight(layer):
        for reading in _other_axes(layer, "weight", layer.kernel_axes):
            yield Variant(Scenario(readings=(reading,)))


def _input_axes_swapped(layer: Layer) -> Iterator[Variant]:
    if layer.tensors["input"].ndim == layer.rank + 2:
        for reading in _other_axes(layer, "input", layer.spatial):
            yield Variant(Scenario(readings=(reading,)))
            # and the result is written as the input was read
            turned = _moved("output", _order_of(layer))
            if layer.rank == 2:
                yield Variant(Scenario(readings=(reading, turned)))


def _order_of(layer: Layer) -> list[int]:
    order = list(range(layer.rank + 2))
    order[layer.spatial[0]], order[layer.spatial[-1]] = layer.spatial[-1], layer.spatial[0]
    return order


def _axes_of_layout(layout: str, rank: int) -> list[str]:
    """Return a name for each axis of a weight in a layout such as kio."""
    return [axis for letter in layout for axis in ([f"k{each}" for each in range(rank)] if letter == "k" else letter)]


def _weight_layouts(layer: Layer) -> Iterator[Variant]:
    if not _with_weight(layer):
        return
    own = _axes_of_layout(WEIGHT_LAYOUTS[OWN_LAYOUTS[layer.op.data_format]], layer.rank)
    sizes = dict(zip(own, layer.tensors["weight"].shape, strict=True))
    for text, layout in {**WEIGHT_LAYOUTS, **OTHER_LAYOUTS}.items():
        axes = _axes_of_layout(layout, layer.rank)
        if axes != own:
            order = [axes.index(axis) for axis in own]
            shape, other = layer.tensors["weight"].shape, tuple(sizes[axis] for axis in axes)
            reading = _buffer_read_as("weight", shape, other, order)
            yield Variant(Scenario(readings=(reading,)), text)


def _channels_swapped(layer: Layer) -> Iterator[Variant]:
    if not _with_weight(layer):
        return
    axes = (layer.rank, layer.rank + 1) if layer.is_channels_last else (0, 1)
    order = list(range(layer.rank + 2))
    order[axes[0]], order[axes[1]] = axes[1], axes[0]
    weight = layer.tensors["weight"]
    if weight.shape[axes[0]] == weight.shape[axes[1]]:
        yield Variant(Scenario(readings=(_moved("weight", order),)))
    else:
        other = tuple(weight.shape[axis] for axis in order)
        yield Variant(Scenario(readings=(_buffer_read_as("weight", weight.shape, other, order),)))


def _interleaved(layer: Layer) -> Iterator[Variant]:
    groups = getattr(layer.op, "groups", 1)
    if groups == 1:
        return
    weight = layer.tensors["weight"]
    features_axis, channels_axis = (-1, -2) if layer.is_channels_last else (0, 1)
    features, channels = weight.shape[features_axis], weight.shape[channels_axis] * groups
    inner, outer = ("input", "output")
    if isinstance(layer.op, ConvTranspose):
        inner, outer = outer, inner  # the channels of the output are those of the convolution's input
    of_channels = [("input channels", [(inner, layer.channel_axis)], channels)]
    if inner == "output":
        of_channels[0][1].append(("bias", -1))
    of_features = [(outer, layer.channel_axis), ("weight", features_axis)]
    if outer == "output":
        of_features.append(("bias", -1))
    choices = []
    for text, places, count in (*of_channels, ("output channels", of_features, features)):
        strided = np.arange(count).reshape(groups, -1).T.reshape(-1)
        choices += [
            (text, tuple(_chosen(name, axis, positions) for name, axis in places))
            for positions in (strided, np.argsort(strided))
        ]
    for text, readings in choices:
        yield Variant(Scenario(readings=readings), text)
    for (_, first), (_, second) in itertools.product(choices[:2], choices[2:]):
        yield Variant(Scenario(readings=(*first, *second)), "input and output channels")


def _input_layouts(layer: Layer) -> Iterator[Variant]:
    """Read the memory of activations in the other layout; the output may be left in that layout, too."""
    if layer.tensors["input"].ndim == len(layer.resolved.output_shape) == layer.rank + 2:
        input = _in_other_layout(layer, "input", layer.tensors["input"].shape)
        output = _in_other_layout(layer, "output", layer.resolved.output_shape)
        yield Variant(Scenario(readings=(input,)), "input")
        yield Variant(Scenario(readings=(input, output)), "input and output")


def _output_layouts(layer: Layer) -> Iterator[Variant]:
    if len(layer.resolved.output_shape) == layer.rank + 2:
        yield Variant(Scenario(readings=(_in_other_layout(layer, "output", layer.resolved.output_shape),)))


def _first_groups_only(layer: Layer) -> Iterator[Variant]:
    """Let every group read the input channels of the first."""
    groups = getattr(layer.op, "groups", 1)
    if groups == 1 or isinstance(layer.op, ConvTranspose):
        return
    axis = layer.channel_axis
    each = layer.tensors["input"].shape[axis] // groups

    def read(input: Array) -> Array:
        return np.concatenate([np.take(input, range(each), axis)] * groups, axis)

    def undo(gradient: Array) -> Array:
        parts = np.split(gradient, groups, axis)
        zeros = [np.zeros_like(part) for part in parts[1:]]
        return np.concatenate([np.sum(parts, axis=0), *zeros], axis)

    yield Variant(Scenario(readings=(Reading("input", read, undo),)))


def _in_other_layout(layer: Layer, name: str, shape: tuple[int, ...]) -> Reading:
    rank = layer.rank
    if layer.is_channels_last:
        return _buffer_read_as(name, shape, (shape[0], shape[-1], *shape[1:-1]), (0, *range(2, rank + 2), 1))
    return _buffer_read_as(name, shape, (shape[0], *shape[2:], shape[1]), (0, rank + 1, *range(1, rank + 1)))


def _one_image(layer: Layer) -> Iterator[Variant]:
    if layer.tensors["input"].shape[0] > 1:
        for text, image in (("last", slice(-1, None)), ("first", slice(0, 1))):
            readings = tuple(
                Reading(name, lambda array, image=image: array[image], lambda array: array)  # type: ignore[misc]
                for name in ("input", "output")
            )
            yield Variant(Scenario(readings=readings), text)


def _one_position(layer: Layer) -> Iterator[Variant]:
    gradient = layer.tensors.get("grad_output")
    if gradient is None or gradient.ndim != layer.rank + 2 or not gradient.size:
        return

    def at(position: int, *, every_image: bool) -> Callable[[Array], Array]:
        def read(gradient: Array) -> Array:
            chosen: list[Any] = [slice(None)] * gradient.ndim
            for axis in (*([] if every_image else [0]), *layer.spatial):
                chosen[axis] = position
            only = np.zeros_like(gradient)
            only[tuple(chosen)] = gradient[tuple(chosen)]
            return only

        return read

    for position, which in ((-1, "last"), (0, "first")):
        for every_image in (False, True):
            reading = Reading("output", at(position, every_image=every_image), lambda output: output)
            text = f"{which} position{' of each image' if every_image else ''}"
            yield Variant(Scenario(readings=(reading,)), text)


def _zero_points(layer: Layer) -> Iterator[Variant]:
    for name in ("input_zero_point", "weight_zero_point"):
        if name in layer.tensors:
            reading = Reading(name, np.zeros_like, lambda array: array)
            yield Variant(Scenario(readings=(reading,)), name)


READINGS = (
    Hypothesis(
        "kernel_flipped",
        "The kernel is flipped: that is the convolution of mathematics; the layers of all frameworks are "
        "cross-correlations.",
        CONVOLUTION,
        _flips_of_all,
    ),
    Hypothesis(
        "kernel_flipped_one_axis", "The kernel is flipped along spatial axis {} only.", CONVOLUTION, _flips_of_one
    ),
    Hypothesis("kernel_axes_swapped", "The spatial axes of the kernel are swapped.", CONVOLUTION, _kernel_axes_swapped),
    Hypothesis(
        "weight_channels_swapped",
        "The input and output channels of the weight are swapped.",
        CONVOLUTION,
        _channels_swapped,
    ),
    Hypothesis(
        "weight_layout", "The weight's memory is read as if it were laid out as {}.", CONVOLUTION, _weight_layouts
    ),
    Hypothesis(
        "groups_interleaved",
        "Groups take every k-th of the {}: each group has consecutive ones.",
        CONVOLUTION,
        _interleaved,
    ),
    Hypothesis(
        "output_layout", "The memory of the output is written in the other layout.", CONVOLUTION, _output_layouts
    ),
    Hypothesis(
        "input_layout",
        "The memory of the {} is read in the other layout: channels last for channels first, or the reverse.",
        CONVOLUTION,
        _input_layouts,
    ),
    Hypothesis(
        "group_offset_missing",
        "Every group reads the input channels of the first: group g has those from g * C/groups on.",
        CONVOLUTION,
        _first_groups_only,
    ),
    Hypothesis("input_axes_swapped", "The spatial axes of the input are swapped.", CONVOLUTION, _input_axes_swapped),
    Hypothesis(
        "grad_weight_one_image",
        "Only the {} image is in the sum: it is over all images.",
        CONVOLUTION,
        _one_image,
        about="grad_weight",
    ),
    Hypothesis(
        "grad_weight_not_summed",
        "Only the {} of the output is in the sum: it is over all positions and images.",
        CONVOLUTION,
        _one_position,
        about="grad_weight",
    ),
    Hypothesis(
        "zero_point_ignored",
        "The {} is ignored: it must be subtracted, also from the padding.",
        QUANTIZED,
        _zero_points,
    ),
)
