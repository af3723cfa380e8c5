"""Shapes and parameters of layers of a few megabytes, for the tests of predicted memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Shape = tuple[int, ...]
ShapesOfOperands = dict[str, tuple[Shape, str]]
"""Shape and type of each operand of forward; the type "" is replaced by the floating type of the test."""


@dataclass(frozen=True)
class MemoryCase:
    """A call of forward by the shapes of its operands."""

    parameters: dict[str, Any]
    operands: ShapesOfOperands

    def shapes(self) -> dict[str, Shape]:
        return {name: shape for name, (shape, _) in self.operands.items()}


def images(*shape: int, dtype: str = "") -> ShapesOfOperands:
    return {"input": (shape, dtype)}


def weighted(input_shape: Shape, weight_shape: Shape, *bias: int) -> ShapesOfOperands:
    return {"input": (input_shape, ""), "weight": (weight_shape, "")} | ({"bias": (bias, "")} if bias else {})


def quantized(input_shape: Shape, weight_shape: Shape, features: int, dtype: str = "uint8") -> ShapesOfOperands:
    """The operands of a QLinearConv with a scale and a zero point for each output channel."""
    return {
        "input": (input_shape, dtype),
        "input_scale": ((), "float32"),
        "input_zero_point": ((), dtype),
        "weight": (weight_shape, "int8"),
        "weight_scale": ((features,), "float32"),
        "weight_zero_point": ((features,), "int8"),
        "output_scale": ((), "float32"),
        "output_zero_point": ((), "int8"),
        "bias": ((features,), "int32"),
    }


def of_integers(operands: ShapesOfOperands) -> ShapesOfOperands:
    """The operands of a ConvInteger among those of a QLinearConv."""
    names = ("input", "weight", "input_zero_point", "weight_zero_point")
    return {name: operands[name] for name in names}


def indexed(shape: Shape, dtype: str = "int64") -> ShapesOfOperands:
    return {"input": (shape, ""), "indices": (shape, dtype)}


QUANTIZED = quantized((4, 40, 40, 16), (3, 3, 16, 32), 32)
QUANTIZED_FIRST = quantized((4, 32, 40, 40), (64, 1, 5, 5), 64, "int8")
QUANTIZED_LONG = quantized((1, 20_000, 2), (5000, 2, 6), 6)


def in_layout(data_format: str, batch: int, sizes: Shape, channels: int) -> Shape:
    return (batch, *sizes, channels) if data_format == "channels_last" else (batch, channels, *sizes)


# -------------------------------------------------------------------------------------------------------- random shapes


def choice(draw: st.DrawFn, *options: Any) -> Any:
    """One of the options."""
    return draw(st.sampled_from(options))


@dataclass(frozen=True)
class Spaced:
    """Axes of very different sizes, with windows, strides and padding; the results have a few megabytes."""

    sizes: Shape
    kernel: Shape
    dilation: Shape
    padding: tuple[Shape, ...]
    stride: Shape
    data_format: str
    batch: int
    channels: int

    @property
    def reach(self) -> Shape:
        """From the first tap of a window to its last."""
        return tuple((taps - 1) * apart for taps, apart in zip(self.kernel, self.dilation, strict=True))

    @property
    def shape(self) -> Shape:
        return self.shape_of(self.channels)

    def shape_of(self, channels: int) -> Shape:
        """The shape of an input with so many channels."""
        return in_layout(self.data_format, self.batch, self.sizes, channels)

    def layout(self) -> dict[str, Any]:
        return {"data_format": self.data_format}

    def spacing(self) -> dict[str, Any]:
        return {**self.layout(), "stride": self.stride, "padding": self.padding}

    def windows(self) -> dict[str, Any]:
        return {**self.spacing(), "dilation": self.dilation, "kernel_size": self.kernel}

    def weight(self, per_group: int, features: int) -> Shape:
        if self.data_format == "channels_first":
            return (features, per_group, *self.kernel)
        return (*self.kernel, per_group, features)


@st.composite
def spaced(draw: st.DrawFn) -> Spaced:
    some_sizes = choice(draw, [20_000], [1, 3, 40, 700], [1, 3, 40, 700], [1, 3, 40])
    rank = {20_000: 1, 700: 2, 40: 3}[some_sizes[-1]]
    sizes = tuple(choice(draw, *some_sizes) for _ in range(rank))
    kernel = tuple(choice(draw, 1, 2, 30, size) for size in sizes)
    dilation = tuple(choice(draw, 1, 3, 100) if taps < 40 else 1 for taps in kernel)
    reach = [(taps - 1) * apart for taps, apart in zip(kernel, dilation, strict=True)]
    padding = tuple(
        (choice(draw, 0, taps - 1, most), choice(draw, 0, most)) for taps, most in zip(kernel, reach, strict=True)
    )
    stride = tuple(choice(draw, 1, 2, 50, 1000) for _ in sizes)
    data_format = choice(draw, "channels_last", "channels_first")
    batch, channels = choice(draw, 1, 5, 200), choice(draw, 1, 2, 6, 64, 1000)
    return Spaced(sizes, kernel, dilation, padding, stride, data_format, batch, channels)


@st.composite
def pool_geometries(draw: st.DrawFn, more: st.SearchStrategy[dict[str, Any]]) -> MemoryCase:
    """Poolings with kernel or adaptive windows, and more parameters of their kind."""
    axes = draw(spaced())
    wanted = tuple(choice(draw, 1, 2, 3, 7, 30, size, size + 1, 2 * size) for size in axes.sizes)
    parameters = choice(draw, axes.windows(), {**axes.layout(), "output_size": wanted})
    return MemoryCase({**parameters, **draw(more)}, images(*axes.shape))


@st.composite
def grouped(draw: st.DrawFn, axes: Spaced) -> tuple[dict[str, Any], Shape, int]:
    """The parameters and the shape of the weight of a convolution over these axes, and its number of features."""
    groups = choice(draw, 1, axes.channels, 2 if axes.channels % 2 == 0 else 1)
    features = choice(draw, 1, 5) * axes.channels if groups > 1 else choice(draw, 1, 3, axes.channels)
    parameters = {**axes.spacing(), "dilation": axes.dilation, "groups": groups}
    return parameters, axes.weight(axes.channels // groups, features), features


@st.composite
def quantized_geometries(draw: st.DrawFn) -> MemoryCase:
    """Calls of QLinearConv."""
    axes = draw(spaced())
    parameters, weight, features = draw(grouped(axes))
    return MemoryCase(parameters, quantized(axes.shape, weight, features, choice(draw, "uint8", "int8")))
