"""What all pooling ops share: their windows, and the shape rule."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from cnn_core.compute.cost import Costs
from cnn_core.errors import ShapeError
from cnn_core.geometry import Windows, resolve_windows
from cnn_core.op import Layer, Op, Operand
from cnn_core.operands import as_operand, layer_shape, require_shape, spatial_axes, split_layer_shape
from cnn_core.parameters import (
    FLAG,
    PADDING,
    POSITIVE_PER_AXIS,
    Padding,
    PerAxis,
    one_per_axis,
    optional,
    parameter,
)

__all__ = ["Pool"]


@dataclass(frozen=True)
class Pool(Op):
    """Base of the pooling ops: one window shape over every channel of an input."""

    operands: ClassVar[tuple[Operand, ...]] = (
        Operand("input", "Activations: (N, *spatial, C), or (N, C, *spatial) with channels_first."),
    )
    differentiable: ClassVar[tuple[str, ...]] = ("input",)

    kernel_size: PerAxis = parameter(POSITIVE_PER_AXIS, "Size of the windows.")
    stride: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS), "Distance from one window to the next; kernel_size if not given.", None
    )
    padding: Padding = parameter(
        PADDING, "Padding around the input; same gives ceil(n / stride) outputs with the odd element at the end.", 0
    )
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one tap of a window to the next; 1 is dense.", 1)
    ceil_mode: bool = parameter(
        FLAG, "Round the output size up; the last window must start in the input or its leading padding.", False
    )

    def layer(self, input_shape: Sequence[int]) -> Layer:
        """Resolve the pooling for an input of this shape; allocates nothing.

        Raises
        ------
        ParameterError, ShapeError
            If the shape and the parameters do not fit each other.
        """
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format)
        rank = len(spatial)
        windows = resolve_windows(
            spatial,
            one_per_axis("kernel_size", self.kernel_size, rank),
            stride=self.kernel_size if self.stride is None else self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )
        if self._needs_real_taps():
            _require_real_taps(windows)
        return Layer(
            output_shape=layer_shape(batch, windows.output_sizes, channels, self.data_format),
            gradient_shapes={"input": layer_shape(batch, spatial, channels, self.data_format)},
            windows=windows,
            multiply_accumulates=batch * channels * math.prod((*windows.output_sizes, *windows.kernel_sizes)),
            costs=functools.partial(self._costs, batch * channels, windows),
        )

    @abstractmethod
    def _costs(self, planes: int, windows: Windows) -> Costs:
        """Return the costs for as many images times channels."""

    def _needs_real_taps(self) -> bool:
        """Tell whether a window with no tap inside the input has no value."""
        return True

    def _spatial_axes(self, windows: Windows) -> range:
        return spatial_axes(len(windows.axes), self.data_format)

    def _gradient_operands(self, grad_output: Any, input: Any) -> tuple[NDArray[Any], NDArray[Any], Layer]:
        """Return the checked operands of backward, and the layer."""
        gradient, activations = as_operand("grad_output", grad_output), as_operand("input", input)
        layer = self.layer(activations.shape)
        require_shape("grad_output", gradient.shape, layer.output_shape, "the output of forward")
        return gradient, activations, layer


def _require_real_taps(windows: Windows) -> None:
    for number, axis in enumerate(windows.axes):
        if axis.has_window_in_padding():
            raise ShapeError(
                "input",
                f"a window of {axis.kernel_size} taps with dilation {axis.dilation} and stride {axis.stride} lies "
                f"wholly in the padding ({axis.before}, {axis.after}) of spatial axis {number}, where the input has "
                f"{axis.size} elements; every window needs at least one tap inside the input",
                got="a window without a tap inside the input",
                expected="at least one tap of every window inside the input",
            )
