"""Convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.compute.correlation import correlate, correlate_grad_input, correlate_grad_weight
from cnn_core.compute.plan import correlation_costs
from cnn_core.errors import ParameterError, ShapeError, describe, number_of
from cnn_core.geometry import resolve_windows
from cnn_core.op import Layer, Op, Operand, without_floating_point_warnings
from cnn_core.operands import (
    accumulation_dtype,
    as_operand,
    channels_last_view,
    checked_sequence,
    common_dtype,
    describe_shape,
    layer_shape,
    require_shape,
    require_sizes,
    split_layer_shape,
)
from cnn_core.parameters import PADDING, POSITIVE_PER_AXIS, Padding, PerAxis, integer_from, parameter, subset_of

__all__ = ["Conv", "ConvGradients"]


@dataclass(frozen=True, eq=False)
class ConvGradients:
    """The gradients of a convolution; None for those that were not asked for."""

    grad_input: NDArray[Any] | None = None
    grad_weight: NDArray[Any] | None = None
    grad_bias: NDArray[Any] | None = None


@dataclass(frozen=True)
class Conv(Op):
    """Convolution over 1, 2 or 3 spatial axes: the cross-correlation of every framework, the kernel is not flipped.

    ``output[n, o, f] = bias[f] + sum over taps k and channels c of
    padded[n, o * stride + k * dilation, c] * weight[k, c, f]``, where output channel f sees only the input channels of
    its group, number ``f // (F / groups)``.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}
        channels_last: input (N, *spatial, C), weight (*kernel, C/groups, F). channels_first: input (N, C, *spatial),
        weight (F, C/groups, *kernel).
    stride, dilation : int or tuple of int
        Distance between windows, and between the taps of one window (1 = dense), in elements.
    padding : int, tuple of int, tuple of (before, after), "valid", "same" or "same_lower"
        Zeros around the input, in elements.
    groups : int
        Number of groups that the channels are divided into; C groups make a depthwise convolution.

    Raises
    ------
    ParameterError
        If a parameter has a value outside its rule.

    Notes
    -----
    Geometry: see ``cnn_core.geometry.resolve_windows``. The layouts are those of TensorFlow (NHWC with HWIO) and of
    PyTorch and ONNX (NCHW with OIHW). float16 operands are summed in float32 and rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.arange(5.0).reshape(1, 5, 1)
    >>> Conv(padding=1).forward(ramp, np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1)).ravel().tolist()
    [-1.0, -2.0, -2.0, -2.0, 3.0]
    """

    operands: ClassVar[tuple[Operand, ...]] = (
        Operand("input", "Activations: (N, *spatial, C), or (N, C, *spatial) with channels_first."),
        Operand("weight", "Kernels: (*kernel, C/groups, F), or (F, C/groups, *kernel) with channels_first."),
        Operand(
            "bias", "One value for each output channel: (F,), or ones and F on as many axes as input.", optional=True
        ),
    )
    differentiable: ClassVar[tuple[str, ...]] = ("input", "weight", "bias")

    stride: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one window to the next.", 1)
    padding: Padding = parameter(
        PADDING, "Zeros around the input; same gives ceil(n / stride) outputs with the odd zero at the end.", 0
    )
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one tap of a window to the next; 1 is dense.", 1)
    groups: int = parameter(integer_from(1), "Number of groups that the channels are divided into.", 1)

    def layer(
        self,
        input_shape: Sequence[int],
        weight_shape: Sequence[int],
        bias_shape: Sequence[int] | None = None,
    ) -> Layer:
        """Resolve the convolution for operands of these shapes; allocates nothing.

        Raises
        ------
        ParameterError, ShapeError
            If the shapes fit neither each other nor the parameters.
        """
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format)
        weight_shape = checked_sequence("weight", weight_shape)
        kernel_sizes, group_channels, features = self._split_weight_shape(weight_shape, len(spatial))
        if channels != group_channels * self.groups:
            raise ShapeError(
                "weight",
                f"input has {number_of(channels, 'channel', 'channels')}; weight {describe_shape(weight_shape)} with "
                f"groups={self.groups} needs {group_channels * self.groups}",
                got=f"{number_of(group_channels, 'channel', 'channels')} in each of {self.groups} groups",
                expected=f"{number_of(channels, 'channel', 'channels')} in all groups together",
            )
        if features % self.groups:
            raise ParameterError(
                "groups",
                f"groups={self.groups} does not divide the {features} output channels of weight "
                f"{describe_shape(weight_shape)}",
                got=describe(self.groups),
                expected=f"a divisor of {features}",
            )
        bias_shape = (features,) if bias_shape is None else checked_sequence("bias", bias_shape)
        if bias_shape != (1,) * (len(spatial) + 1) + (features,):
            reason = f"weight {describe_shape(weight_shape)} (or as many axes of size 1 before it as input has)"
            require_shape("bias", bias_shape, (features,), reason)
        windows = resolve_windows(
            spatial, kernel_sizes, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        kernel_first_shape = (*kernel_sizes, group_channels, features)
        return Layer(
            output_shape=layer_shape(batch, windows.output_sizes, features, self.data_format),
            gradient_shapes={
                "input": layer_shape(batch, spatial, channels, self.data_format),
                "weight": weight_shape,
                "bias": bias_shape,
            },
            windows=windows,
            multiply_accumulates=batch * math.prod(windows.output_sizes) * math.prod(weight_shape),
            costs=functools.partial(correlation_costs, batch, channels, kernel_first_shape, windows),
        )

    @without_floating_point_warnings
    def forward(self, input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> NDArray[Any]:
        """Compute the convolution.

        Parameters
        ----------
        input : array_like, shape (N, *spatial, C) or (N, C, *spatial)
        weight : array_like, shape (*kernel, C/groups, F) or (F, C/groups, *kernel)
        bias : array_like, shape (F,) or (1, ..., 1, F) with as many axes as input, optional
            Of dtype float16, float32, float64 or an integer type, as all operands.

        Returns
        -------
        ndarray, shape (N, *output, F) or (N, F, *output)
            Of the operands' common floating dtype; integers count as float64.

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither float16, float32, float64 nor an integer of at most 64 bits.
        """
        input, weight = as_operand("input", input), as_operand("weight", weight)
        bias = None if bias is None else as_operand("bias", bias)
        layer = self.layer(input.shape, weight.shape, None if bias is None else bias.shape)
        dtype = common_dtype(input, weight, bias)
        sums = accumulation_dtype(dtype)
        output = np.empty(layer.output_shape, dtype=sums)
        channels_last = channels_last_view(output, self.data_format)
        correlate(
            channels_last_view(input, self.data_format),
            self._kernel_first(weight.astype(sums, copy=False)),
            layer.windows,
            self.groups,
            channels_last,
        )
        if bias is not None:
            channels_last += bias.reshape(-1)
        return output.astype(dtype, copy=False)

    @without_floating_point_warnings
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        wrt: Sequence[str] = ("input", "weight", "bias"),
    ) -> ConvGradients:
        """Compute the gradients of ``sum(grad_output * forward(input, weight, bias))``.

        Parameters
        ----------
        grad_output : array_like, shape of the output of ``forward``
        input, weight, bias : array_like
            The operands of ``forward``.
        wrt : sequence of {"input", "weight", "bias"}
            The operands whose gradients are computed.

        Returns
        -------
        ConvGradients
            grad_input, grad_weight and grad_bias, each of its operand's shape and of the operands' common floating
            dtype. grad_bias is computed whether or not a bias was given; without one its shape is (F,). Elements of the
            input that no window covers have gradient 0.

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither float16, float32, float64 nor an integer of at most 64 bits.
        """
        wrt = subset_of(self.differentiable).check("wrt", wrt)
        grad_output, input, weight = (
            as_operand("grad_output", grad_output),
            as_operand("input", input),
            as_operand("weight", weight),
        )
        bias = None if bias is None else as_operand("bias", bias)
        layer = self.layer(input.shape, weight.shape, None if bias is None else bias.shape)
        require_shape("grad_output", grad_output.shape, layer.output_shape, "the output of forward")
        dtype = common_dtype(grad_output, input, weight, bias)
        sums = accumulation_dtype(dtype)
        shapes = layer.gradient_shapes
        results = {f"grad_{name}": np.empty(shapes[name], dtype=sums) for name in wrt}
        by_position = channels_last_view(grad_output, self.data_format)
        if "input" in wrt:
            correlate_grad_input(
                by_position,
                self._kernel_first(weight.astype(sums, copy=False)),
                layer.windows,
                self.groups,
                channels_last_view(results["grad_input"], self.data_format),
            )
        if "weight" in wrt:
            correlate_grad_weight(
                channels_last_view(input, self.data_format),
                by_position,
                layer.windows,
                self.groups,
                self._kernel_first(results["grad_weight"]),
            )
        if "bias" in wrt:
            # summed in float64: a sum over all positions of a batch loses digits in float32, and costs next to nothing
            total = by_position.sum(axis=tuple(range(by_position.ndim - 1)), dtype=np.float64)
            results["grad_bias"][...] = total.reshape(shapes["bias"])
        return ConvGradients(**{name: array.astype(dtype, copy=False) for name, array in results.items()})

    def _kernel_first(self, weight: NDArray[Any]) -> NDArray[Any]:
        """View a weight of either layout as (*kernel, C/groups, F)."""
        return weight if self.data_format == "channels_last" else np.moveaxis(weight, (0, 1), (-1, -2))

    def _split_weight_shape(self, shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], int, int]:
        """Split the shape of a weight into kernel sizes, channels of a group, and output channels."""
        if len(shape) != rank + 2:
            layout = "(*kernel, C/groups, F)" if self.data_format == "channels_last" else "(F, C/groups, *kernel)"
            raise ShapeError(
                "weight",
                f"weight has {len(shape)} axes; an input with "
                f"{number_of(rank, 'spatial axis', 'spatial axes')} needs {rank + 2}: {layout}",
                got=f"{len(shape)} axes",
                expected=f"{rank + 2} axes: {layout}",
            )
        require_sizes("weight", shape)
        if self.data_format == "channels_last":
            return shape[:-2], shape[-2], shape[-1]
        return shape[2:], shape[1], shape[0]
