"""Random small layers of every kind, and what cnn_core computes of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cnn_core
from service.operations.catalogue import CATALOGUE
from tests.browser.playground.oracle import windows_of
from tests.mistakes.drawing import Random, choose, draw, whole
from tests.mistakes.layers import Layer
from tests.oracle.windows import AnyArray

MOST_CELLS = 160
"""Cells of all grids together: as many as a lecturer would show, and few enough to walk 200 layers."""


@dataclass(frozen=True, eq=False)
class Example:
    """A layer of the catalogue with parameters as in a request's body, its operands by name and a grad_output."""

    op: str
    parameters: dict[str, Any]
    tensors: dict[str, AnyArray]

    @property
    def operands(self) -> dict[str, AnyArray]:
        return {name: array for name, array in self.tensors.items() if name != "grad_output"}

    @property
    def first(self) -> bool:
        return bool(self.parameters["data_format"] == "channels_first")

    def computed(self) -> dict[str, AnyArray]:
        """Every result of forward and backward, by its name, as cnn_core has it."""
        layer = next(entry for entry in CATALOGUE if entry.name == self.op)
        parameters = dict(self.parameters)
        op = layer.ops[parameters.pop(layer.selector) if layer.selector else ""](**parameters)
        forward = op.forward(**self.operands)
        results = forward._asdict() if isinstance(forward, cnn_core.MaxPoolResult) else {"output": forward}
        if op.differentiable and "grad_output" in self.tensors:
            gradients = op.backward(self.tensors["grad_output"], **self.operands)
            if isinstance(gradients, cnn_core.ConvGradients):
                results |= {name: array for name, array in gradients._asdict().items() if array is not None}
            else:
                results["grad_input"] = gradients
        return {name: np.asarray(array) for name, array in results.items()}


def integers(random: Random, shape: tuple[int, ...], low: int = -3, high: int = 3) -> AnyArray:
    return random.integers(low, high + 1, shape).astype(np.float64)


def plane_shape(data_format: str, channels: int, spatial: Sequence[int]) -> tuple[int, ...]:
    """The shape of activations of one item."""
    return (1, channels, *spatial) if data_format == "channels_first" else (1, *spatial, channels)


def layer_example(random: Random, name: str, **fixed: Any) -> Example:
    """A layer of conv, conv_transpose or pool, its values small integers."""
    groups = choose(random, 1, 1, 1, 2, 3)
    if name != "pool":
        fixed = {
            "groups": groups,
            "channels": lambda r: groups * whole(r, 1, 2),
            "features": lambda r: groups * whole(r, 1, 2),
        } | fixed
    layer = draw(random, name, small_enough, images=choose(random, 1, 1, 1, 2), **fixed)
    tensors = {"input": integers(random, layer.activations(layer.sizes, layer.channels))}
    if name != "pool":
        tensors["weight"] = integers(random, layer.kernel_shape())
        if choose(random, True, False):
            tensors["bias"] = integers(random, (layer.features,))
    tensors["grad_output"] = integers(random, layer.activations(layer.output, layer.features))
    return Example(name, layer.parameters(), tensors)


def small_enough(layer: Layer) -> bool:
    shapes = [layer.activations(layer.sizes, layer.channels), layer.activations(layer.output, layer.features)]
    if layer.name != "pool":
        shapes.append(layer.kernel_shape())
    return sum(map(math.prod, shapes)) <= MOST_CELLS


def conv(random: Random) -> Example:
    mode = choose(random, "zeros", "zeros", "reflect", "replicate", "circular")
    return layer_example(random, "conv", padding_mode=mode)


def conv_transpose(random: Random) -> Example:
    return layer_example(random, "conv_transpose")


def max_pool(random: Random) -> Example:
    more: dict[str, Any] = {}
    if choose(random, True, False):
        more = {"return_indices": True, "index_scheme": choose(random, "plane", "image", "tensor")}
    ties = choose(random, "first", "all", "split")
    return layer_example(random, "pool", mode="max", ceil_mode=choose(random, True, False), ties=ties, **more)


def avg_pool(random: Random) -> Example:
    divisor = choose(random, None, None, 3)
    return layer_example(
        random,
        "pool",
        mode="avg",
        ceil_mode=choose(random, True, False),
        count_include_pad=choose(random, True, False),
        divisor_override=divisor,
    )


def lp_pool(random: Random) -> Example:
    return layer_example(
        random, "pool", mode="lp", norm_type=choose(random, 1.0, 2.0), ceil_mode=choose(random, True, False)
    )


def adaptive_pool(random: Random) -> Example:
    rank, layout = choose(random, 1, 2, 2, 3), choose(random, "channels_last", "channels_first")
    sizes = [whole(random, 2, 6 if rank < 3 else 4) for _ in range(rank)]
    output, channels = [whole(random, 1, size) for size in sizes], whole(random, 1, 2)
    parameters = {"data_format": layout, "mode": choose(random, "max", "avg"), "output_size": output}
    tensors = {
        "input": integers(random, plane_shape(layout, channels, sizes)),
        "grad_output": integers(random, plane_shape(layout, channels, output)),
    }
    return Example("pool", parameters, tensors)


def unpool(random: Random) -> Example:
    """Indices that differ, in a plane that is larger than the input."""
    layout, channels = choose(random, "channels_last", "channels_first"), whole(random, 1, 2)
    sizes, output = [2, whole(random, 1, 3)], [4, whole(random, 4, 5)]
    picks = [random.permutation(math.prod(output))[: math.prod(sizes)].reshape(sizes) for _ in range(channels)]
    tensors = {
        "input": integers(random, plane_shape(layout, channels, sizes)),
        "indices": np.stack(picks, axis=0 if layout == "channels_first" else -1)[None].astype(np.int64),
        "grad_output": integers(random, plane_shape(layout, channels, output)),
    }
    return Example("unpool", {"data_format": layout, "output_size": output, "index_scheme": "plane"}, tensors)


def patch_parameters(random: Random) -> dict[str, Any]:
    return {
        "data_format": choose(random, "channels_last", "channels_first"),
        "kernel_size": [whole(random, 1, 2), 2],
        "stride": [1, whole(random, 1, 2)],
        "padding": [[0, whole(random, 0, 1)], [whole(random, 0, 1), 0]],
    }


def unfold(random: Random) -> Example:
    parameters, sizes, channels = patch_parameters(random), (whole(random, 2, 3), 3), whole(random, 1, 2)
    tensors = {"input": integers(random, plane_shape(parameters["data_format"], channels, sizes))}
    shape = windows_of("unfold", parameters, tensors).output_shape
    return Example("unfold", parameters, tensors | {"grad_output": integers(random, shape)})


def fold(random: Random) -> Example:
    """The transpose of an unfold: its output's shape is this one's input's."""
    other = unfold(random)
    sizes = other.tensors["input"].shape[2:] if other.first else other.tensors["input"].shape[1:-1]
    tensors = {"input": other.tensors["grad_output"], "grad_output": other.tensors["input"]}
    return Example("fold", other.parameters | {"output_size": list(sizes)}, tensors)


def bytes_of(random: Random, example: Example) -> dict[str, AnyArray]:
    """The operands of a convolution of 8-bit integers."""
    return {
        "input": random.integers(0, 20, example.tensors["input"].shape).astype(np.uint8),
        "input_zero_point": np.array(whole(random, 0, 5), dtype=np.uint8),
        "weight": random.integers(-5, 6, example.tensors["weight"].shape).astype(np.int8),
        "weight_zero_point": np.array(whole(random, -2, 2), dtype=np.int8),
    }


def conv_integer(random: Random) -> Example:
    example = layer_example(random, "conv")
    return Example("conv_integer", without_mode(example), bytes_of(random, example))


def qlinear_conv(random: Random) -> Example:
    example = layer_example(random, "conv")
    operands = bytes_of(random, example) | {
        "input_scale": np.array(0.5),
        "weight_scale": np.array(0.25),
        "output_scale": np.array(0.75),
        "output_zero_point": np.array(128, dtype=np.uint8),
    }
    return Example("qlinear_conv", without_mode(example), operands)


def without_mode(example: Example) -> dict[str, Any]:
    return {name: value for name, value in example.parameters.items() if name != "padding_mode"}


KINDS: dict[str, Callable[[Random], Example]] = {
    kind.__name__: kind
    for kind in (
        conv, conv_transpose, max_pool, avg_pool, lp_pool, adaptive_pool, unpool, unfold, fold, conv_integer,
        qlinear_conv,
    )
}  # fmt: skip


def examples(count: int, kinds: list[str], seed: int) -> list[Example]:
    """So many layers, the kinds by turns."""
    random = np.random.default_rng(seed)
    return [KINDS[kind](random) for kind in itertools.islice(itertools.cycle(kinds), count)]
