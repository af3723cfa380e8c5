"""The layers that are timed, and their operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["SUITE", "Layer", "layers_named"]

Kind = Literal["conv", "max", "avg"]


@dataclass(frozen=True)
class Layer:
    """A layer, its sizes channels-last.

    Parameters
    ----------
    name : str
    kind : {"conv", "max", "avg"}
    input : tuple of int
        (N, *spatial, C).
    kernel : tuple of int
        Kernel sizes, one for each spatial axis.
    features : int
        Channels of the output; 0 for pooling, which keeps those of the input.
    stride, padding, dilation, groups : int
    dtype : {"float32", "float64"}
    is_given : bool
        Whether the layer is one of those that the targets were set with.
    """

    name: str
    kind: Kind
    input: tuple[int, ...]
    kernel: tuple[int, ...]
    features: int = 0
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    dtype: Literal["float32", "float64"] = "float32"
    is_given: bool = False

    @property
    def weight(self) -> tuple[int, ...]:
        """(*kernel, C/groups, F)."""
        return (*self.kernel, self.input[-1] // self.groups, self.features)

    @property
    def output(self) -> tuple[int, ...]:
        """(N, *output, channels)."""
        sizes = (
            (size + 2 * self.padding - self.dilation * (taps - 1) - 1) // self.stride + 1
            for size, taps in zip(self.input[1:-1], self.kernel, strict=True)
        )
        return (self.input[0], *sizes, self.features or self.input[-1])

    @property
    def multiply_accumulates(self) -> int:
        """Of the forward computation of a convolution; of pooling, the taps of all windows."""
        channels = self.input[-1] // self.groups if self.kind == "conv" else 1
        return math.prod(self.output) * math.prod(self.kernel) * channels

    def operands(self, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Return operands of normal distribution, channels-last, and a gradient of the output.

        The weight is scaled so that outputs have a variance of 1, as layers are initialized.
        """
        random = np.random.default_rng(seed)
        shapes = {"input": self.input, "grad_output": self.output}
        if self.kind == "conv":
            shapes |= {"weight": self.weight, "bias": (self.features,)}
        operands = {name: random.standard_normal(shape, dtype=self.dtype) for name, shape in shapes.items()}
        if self.kind == "conv":
            operands["weight"] /= np.sqrt(math.prod(self.weight[:-1]), dtype=self.dtype)
        return operands


def _given(name: str, kind: Kind, input: tuple[int, ...], kernel: tuple[int, ...], **rest: Any) -> Layer:
    return Layer(name, kind, input, kernel, is_given=True, **rest)


SUITE = (
    _given("7x7/2 8x224x224x3 to 64", "conv", (8, 224, 224, 3), (7, 7), features=64, stride=2, padding=3),
    _given("1x1 8x56x56x64 to 256", "conv", (8, 56, 56, 64), (1, 1), features=256),
    _given("3x3 8x56x56x64 to 64", "conv", (8, 56, 56, 64), (3, 3), features=64, padding=1),
    _given("3x3 8x28x28x128 to 128", "conv", (8, 28, 28, 128), (3, 3), features=128, padding=1),
    _given("3x3 8x14x14x256 to 256", "conv", (8, 14, 14, 256), (3, 3), features=256, padding=1),
    _given("3x3 8x7x7x512 to 512", "conv", (8, 7, 7, 512), (3, 3), features=512, padding=1),
    _given("3x3/2 8x56x56x128 to 128", "conv", (8, 56, 56, 128), (3, 3), features=128, stride=2, padding=1),
    _given("3x3 1x224x224x64 to 64", "conv", (1, 224, 224, 64), (3, 3), features=64, padding=1),
    _given("depthwise 3x3 8x56x56x128", "conv", (8, 56, 56, 128), (3, 3), features=128, padding=1, groups=128),
    _given("32 groups 3x3 4x28x28x256", "conv", (4, 28, 28, 256), (3, 3), features=256, padding=1, groups=32),
    _given("LeNet 5x5 64x28x28x1 to 6", "conv", (64, 28, 28, 1), (5, 5), features=6),
    _given("1-D 80/4 8x16000x1 to 64", "conv", (8, 16000, 1), (80,), features=64, stride=4),
    _given("3-D 3x3x3 1x16x56x56x32 to 32", "conv", (1, 16, 56, 56, 32), (3, 3, 3), features=32, padding=1),
    _given("max 3x3/2 8x112x112x64", "max", (8, 112, 112, 64), (3, 3), stride=2, padding=1),
    _given("max 2x2/2 64x28x28x6", "max", (64, 28, 28, 6), (2, 2), stride=2),
    _given("avg 2x2/2 8x56x56x128", "avg", (8, 56, 56, 128), (2, 2), stride=2),
    # the notebook's own sizes, where nothing but the calls themselves takes time
    Layer("notebook 5x5/2 2x9x7x3 to 4", "conv", (2, 9, 7, 3), (5, 5), features=4, stride=2, padding=1),
    Layer("notebook max 2x2/2 2x9x7x3", "max", (2, 9, 7, 3), (2, 2), stride=2),
    Layer("1x1 8x14x14x1024 to 256", "conv", (8, 14, 14, 1024), (1, 1), features=256),
    Layer("1x1/2 8x56x56x256 to 512", "conv", (8, 56, 56, 256), (1, 1), features=512, stride=2),
    Layer("3x3 VGG 4x112x112x64 to 128", "conv", (4, 112, 112, 64), (3, 3), features=128, padding=1),
    Layer("3x3 dilated by 2 4x28x28x256 to 256", "conv", (4, 28, 28, 256), (3, 3), features=256, padding=2, dilation=2),
    Layer(
        "depthwise 5x5/2 8x28x28x240", "conv", (8, 28, 28, 240), (5, 5), features=240, stride=2, padding=2, groups=240
    ),
    Layer("depthwise 7x7 8x28x28x192", "conv", (8, 28, 28, 192), (7, 7), features=192, padding=3, groups=192),
    Layer("depthwise 31x31 2x32x32x128", "conv", (2, 32, 32, 128), (31, 31), features=128, padding=15, groups=128),
    Layer("1-D 1001 1x100000x1 to 1", "conv", (1, 100_000, 1), (1001,), features=1),
    Layer("1-D 3 16x1000x256 to 256", "conv", (16, 1000, 256), (3,), features=256, padding=1),
    Layer("3x3 float64 8x28x28x64 to 64", "conv", (8, 28, 28, 64), (3, 3), features=64, padding=1, dtype="float64"),
    Layer(
        "depthwise 3x3/2 8x112x112x32", "conv", (8, 112, 112, 32), (3, 3), features=32, stride=2, padding=1, groups=32
    ),
    Layer("2 groups 5x5 8x27x27x96 to 256", "conv", (8, 27, 27, 96), (5, 5), features=256, padding=2, groups=2),
    Layer("3x3 1x512x512x3 to 8", "conv", (1, 512, 512, 3), (3, 3), features=8, padding=1),
    Layer("LeNet 5x5 64x14x14x6 to 16", "conv", (64, 14, 14, 6), (5, 5), features=16),
    Layer("1x3 8x28x28x128 to 128", "conv", (8, 28, 28, 128), (1, 3), features=128),
    Layer("1-D 3 16x1000x8 to 8", "conv", (16, 1000, 8), (3,), features=8, padding=1),
    Layer("1x1 1x112x112x32 to 64", "conv", (1, 112, 112, 32), (1, 1), features=64),
    Layer("max 2x2/2 8x112x112x64", "max", (8, 112, 112, 64), (2, 2), stride=2),
    Layer("max 3x3 8x28x28x192", "max", (8, 28, 28, 192), (3, 3), padding=1),
    Layer("avg 3x3 8x35x35x192", "avg", (8, 35, 35, 192), (3, 3), padding=1),
    Layer("avg 7x7 64x7x7x512", "avg", (64, 7, 7, 512), (7, 7)),
    Layer("avg 3x3/2 8x56x56x64", "avg", (8, 56, 56, 64), (3, 3), stride=2, padding=1),
    Layer("max 2x2/2 8x14x14x512", "max", (8, 14, 14, 512), (2, 2), stride=2),
    Layer("1-D max 2/2 16x1000x64", "max", (16, 1000, 64), (2,), stride=2),
    Layer("avg 2x2/2 64x28x28x6", "avg", (64, 28, 28, 6), (2, 2), stride=2),
)


def layers_named(parts: Sequence[str] | None) -> list[Layer]:
    """Return the layers whose names hold one of these texts; all if there are none."""
    return [layer for layer in SUITE if not parts or any(part in layer.name for part in parts)]
