"""Transposed convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError, ShapeError, describe, number_of
from ..geometry import Windows, resolve_transposed
from ..kernels.conv import correlate, correlate_grad_input, correlate_grad_weight
from ..kernels.conv.costs import conv_costs
from ..kernels.cost import Cost, Costs
from ..operands import ACTIVATIONS, Layout, layer_shape, split_layer_shape
from ..parameters import Algorithm, Direction, Framework, OutputPadding, Padding, PerAxis, optional, parameter
from .base import Operand, ResolvedOp
from .conv_base import OUTPUT_AXES, DifferentiableConvolution, ResolvedConvolution, checked_bias_shape
from .docstrings import documented
from .rules import OUTPUT_PADDING, PADDING, POSITIVE_PER_AXIS
from .weight_layout import WEIGHT_AXES, explains_layout, split_weight_shape

__all__ = ["ConvTranspose"]

Array = NDArray[Any]

OUTPUT_CHANNELS = Layout(("C",), ("C",))


@documented
@dataclass(frozen=True)
class ConvTranspose(DifferentiableConvolution):
    """Transposed convolution.

    Notes
    -----
    The output has ``(n - 1) * stride - before - after + (k - 1) * dilation + 1 + output_padding`` elements along an
    axis, as in PyTorch (``ConvTranspose2d``) and ONNX (``ConvTranspose``). The weight's layout is that of both, and
    channels_last that of TensorFlow (``conv2d_transpose``). output_padding shows elements that the windows reach, where
    they do; it does not append zeros. ``jax.lax.conv_transpose`` is the adjoint with ``transpose_kernel=True`` only:
    without it, its result is that of the flipped kernel, and the weight's last two axes change places. See
    ``cnn_core.geometry.resolve_transposed``.

    Examples
    --------
    >>> import numpy as np
    >>> scattered = ConvTranspose(stride=2).forward(np.array([1.0, 10.0]).reshape(1, 2, 1), np.ones((3, 1, 1)))
    >>> scattered.ravel().tolist()
    [1.0, 1.0, 11.0, 10.0, 10.0]
    """

    description: ClassVar[str] = (
        "Transposed convolution over 1, 2 or 3 spatial axes: the adjoint of the convolution with the same parameters."
        "\n\n"
        "`output[n, i * stride - before + k * dilation, c] = bias[c] + sum over i, k and channels f of input[n, i, f] "
        "* weight[k, c, f]`, over all i and k that fall on the element. Each element of the input scatters through the "
        "kernel; what no window reaches is 0, plus the bias."
    )
    operands: ClassVar[tuple[Operand, ...]] = (
        Operand("input", f"Activations: {OUTPUT_AXES}.", OUTPUT_AXES),
        Operand(
            "weight",
            f"Kernels of the convolution that is transposed: {WEIGHT_AXES}; C_out are the channels of input, C those "
            "of output.",
            WEIGHT_AXES,
        ),
        Operand(
            "bias",
            f"One value for each output channel: {OUTPUT_CHANNELS}, or (1, ..., 1, C) with as many axes as input.",
            OUTPUT_CHANNELS,
            optional=True,
        ),
    )
    output_layout: ClassVar[Layout] = ACTIVATIONS
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {
        "tensorflow": {"output_padding": "to_stride"},
        # lax.conv_transpose, whose layout is not that of lax.conv_general_dilated
        "jax": {"data_format": "channels_last", "output_padding": "to_stride"},
    }

    stride: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one window to the next, over the output.", 1)
    padding: Padding = parameter(
        PADDING,
        "What is cut off the output; same: n * stride elements of output; if the total is odd, the extra element is "
        "cut at the end (same_lower: at the start).",
        0,
    )
    output_padding: OutputPadding = parameter(
        OUTPUT_PADDING,
        "Elements added at the end of the output, fewer than the stride or the dilation; to_stride: max(stride - "
        "window extent, 0) elements (Keras, JAX). With framework=tensorflow a number sets the size of padding same, as "
        "in Keras: (n - 1) * stride + e % 2 + output_padding for a window extent e.",
        0,
    )
    output_size: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS),
        "The requested spatial sizes, instead of output_padding. With framework=onnx they set the padding.",
        None,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_size is None or self._sizes_set_padding:
            return
        if self.output_padding != "to_stride" and np.any(np.asarray(self.output_padding) != 0):
            raise ParameterError(
                "output_padding",
                "must be",
                "left out with output_size",
                got=describe(self.output_padding),
                reason="which determines it",
            )

    def _defaults_for(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:
        defaults = super()._defaults_for(given, framework)
        # lax.conv_transpose reaches the stride with VALID and SAME only, not with a padding in numbers
        exact = framework == "jax" and not isinstance(given.get("padding", "valid"), str)
        return {name: value for name, value in defaults.items() if not (exact and name == "output_padding")}

    @property
    def _sizes_set_padding(self) -> bool:
        return self.framework == "onnx"

    @explains_layout
    def resolve(  # noqa: D102
        self, input_shape: Sequence[int], weight_shape: Sequence[int], bias_shape: Sequence[int] | None = None
    ) -> ResolvedConvolution:
        batch, spatial, features = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        weight = split_weight_shape(weight_shape, len(spatial), self.data_format)
        if features != weight.features:
            raise ShapeError(
                "weight",
                "of the convolution that is transposed must have as C_out",
                number_of(features, "channel", "channels"),
                got=number_of(weight.features, "channel", "channels"),
                reason="as input has",
            )
        self._require_groups(weight)
        channels = weight.group_channels * self.groups
        checked_bias = checked_bias_shape(bias_shape, channels, len(spatial))
        windows = resolve_transposed(
            spatial,
            weight.kernel_sizes,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            output_padding=self.output_padding,
            output_size=self.output_size,
            sets_padding=self._sizes_set_padding,
            adds_to_same=self.framework == "tensorflow",
        )
        return ResolvedConvolution(
            result_shapes={"output": layer_shape(batch, windows.sizes, channels, self.data_format)},
            gradient_shapes={
                "input": layer_shape(batch, spatial, features, self.data_format),
                "weight": weight.shape,
                "bias": checked_bias,
            },
            windows=windows,
            multiply_accumulates=batch * math.prod(spatial) * math.prod(weight.shape),
            costs=functools.partial(_costs, batch, channels, weight.kernel_first_shape, windows, self.algorithm),
            **self._problem_and_algorithm(batch, weight, windows, transposed=True),
        )

    def resolved_parameters(  # noqa: D102
        self, resolved: ResolvedOp[Windows], itemsize: int = 8, direction: Direction = "forward"
    ) -> dict[str, Any]:
        values = super().resolved_parameters(resolved, itemsize, direction)
        if self.output_size is None:
            values["output_padding"] = tuple(axis.output_padding for axis in resolved.windows.axes)
        elif self._sizes_set_padding and self.padding == "same":
            values["padding"] = self.padding  # which says where the odd element goes
        return values

    # The transposed op is the gradient of the convolution with respect to its input. So its own gradient with respect
    # to the input is the convolution, and for the weight input and grad_output change places.

    def _write_output(
        self, resolved: ResolvedConvolution, input: Array, weight: Array, bias: Array | None, output: Array
    ) -> None:
        problem, algorithm = resolved.problem(weight.itemsize), resolved.algorithm(weight.itemsize, "forward")
        correlate_grad_input(problem, input, weight, output, bias=bias, algorithm=algorithm)

    def _write_grad_input(
        self, resolved: ResolvedConvolution, grad_output: Array, weight: Array, grad_input: Array
    ) -> None:
        problem, algorithm = resolved.problem(weight.itemsize), resolved.algorithm(weight.itemsize, "backward")
        correlate(problem, grad_output, weight, grad_input, algorithm=algorithm)

    def _write_grad_weight(
        self, resolved: ResolvedConvolution, input: Array, grad_output: Array, grad_weight: Array
    ) -> None:
        itemsize = grad_weight.itemsize
        problem, algorithm = resolved.problem(itemsize), resolved.algorithm(itemsize, "backward")
        correlate_grad_weight(problem, grad_output, input, grad_weight, algorithm=algorithm)


def _costs(batch: int, channels: int, weight_shape: tuple[int, ...], windows: Windows, algorithm: Algorithm) -> Costs:
    transposed = conv_costs(batch, channels, weight_shape, windows, algorithm, transposed=True)
    elements = batch * channels * math.prod(windows.sizes)

    def forward() -> Cost:
        output = transposed.backward["input"]
        # an element that no window reaches is still written
        return Cost(output.work + elements, output.workspace_elements)

    return Costs(
        forward,
        {
            "input": lambda: transposed.forward,
            "weight": lambda: transposed.backward["weight"],
            "bias": lambda: transposed.backward["bias"],
        },
    )
