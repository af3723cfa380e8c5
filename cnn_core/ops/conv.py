"""Convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..geometry import Windows, require_padding_source
from ..kernels.conv import correlate, correlate_grad_input, correlate_grad_weight
from ..kernels.conv.costs import conv_costs
from ..kernels.cost import MOVED_ELEMENT, Cost, Costs
from ..kernels.passes import copy
from ..kernels.source_padding import fold_source_padding, pad_from_source
from ..operands import layer_shape, split_layer_shape
from ..parameters import PaddingMode, parameter
from .conv_base import DifferentiableConvolution, ResolvedConvolution, checked_bias_shape
from .docstrings import documented
from .rules import PADDING_MODE
from .weight_layout import explains_layout

__all__ = ["Conv"]

Array = NDArray[Any]


@documented
@dataclass(frozen=True)
class Conv(DifferentiableConvolution):
    """Convolution.

    Notes
    -----
    Geometry: see ``cnn_core.geometry.resolve_windows``. The layouts are those of TensorFlow (NHWC with HWIO) and of
    PyTorch and ONNX (NCHW with OIHW). The padding modes are PyTorch's (``torch.nn.Conv2d``), with its limits: reflect
    needs less padding than there are elements, circular no more than that. float16 operands are summed in float32 and
    rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.arange(5.0).reshape(1, 5, 1)
    >>> Conv(padding=1).forward(ramp, np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1)).ravel().tolist()
    [-1.0, -2.0, -2.0, -2.0, 3.0]
    """

    description: ClassVar[str] = (
        "Convolution over 1, 2 or 3 spatial axes: the cross-correlation of every framework, the kernel is not flipped."
        "\n\n"
        "`output[n, o, f] = bias[f] + sum over taps k and channels c of padded[n, o * stride + k * dilation, c] * "
        "weight[k, c, f]`, where output channel f sees only the input channels of its group, group "
        "`f // (C_out / groups)`."
    )

    padding_mode: PaddingMode = parameter(
        PADDING_MODE,
        "What the padding is filled with: zeros; reflect: the input mirrored (edge not repeated); replicate: its edge "
        "repeated; circular: its other end.",
        "zeros",
    )

    @explains_layout
    def resolve(  # noqa: D102
        self, input_shape: Sequence[int], weight_shape: Sequence[int], bias_shape: Sequence[int] | None = None
    ) -> ResolvedConvolution:
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        weight, windows = self._over_input(spatial, channels, weight_shape)
        checked_bias = checked_bias_shape(bias_shape, weight.features, len(spatial))
        for index, axis in enumerate(windows.axes):
            require_padding_source(self.padding_mode, index, axis.size, axis.before, axis.after)
        over_input = windows.over_padded_input() if self._copies_padding(windows) else windows
        return ResolvedConvolution(
            result_shapes={"output": layer_shape(batch, windows.output_sizes, weight.features, self.data_format)},
            gradient_shapes={
                "input": layer_shape(batch, spatial, channels, self.data_format),
                "weight": weight.shape,
                "bias": checked_bias,
            },
            windows=windows,
            multiply_accumulates=batch * math.prod(windows.output_sizes) * math.prod(weight.shape),
            costs=functools.partial(self._costs, batch, channels, weight.kernel_first_shape, windows),
            **self._problem_and_algorithm(batch, weight, over_input),
        )

    def _write_output(
        self, resolved: ResolvedConvolution, input: Array, weight: Array, bias: Array | None, output: Array
    ) -> None:
        problem, algorithm = resolved.problem(weight.itemsize), resolved.algorithm(weight.itemsize, "forward")
        padded = self._with_padding(input, resolved.windows)
        correlate(problem, padded, weight, output, bias=bias, algorithm=algorithm)

    def _write_grad_input(
        self, resolved: ResolvedConvolution, grad_output: Array, weight: Array, grad_input: Array
    ) -> None:
        problem, algorithm = resolved.problem(weight.itemsize), resolved.algorithm(weight.itemsize, "backward")
        if not self._copies_padding(resolved.windows):
            correlate_grad_input(problem, grad_output, weight, grad_input, algorithm=algorithm)
            return
        padded = np.empty((len(grad_input), *problem.windows.sizes, grad_input.shape[-1]), dtype=grad_input.dtype)
        correlate_grad_input(problem, grad_output, weight, padded, algorithm=algorithm)
        copy(grad_input, fold_source_padding(padded, resolved.windows.padding, self.padding_mode))

    def _write_grad_weight(
        self, resolved: ResolvedConvolution, input: Array, grad_output: Array, grad_weight: Array
    ) -> None:
        itemsize = grad_weight.itemsize
        problem, algorithm = resolved.problem(itemsize), resolved.algorithm(itemsize, "backward")
        padded = self._with_padding(input, resolved.windows)
        correlate_grad_weight(problem, padded, grad_output, grad_weight, algorithm=algorithm)

    def _with_padding(self, input: Array, windows: Windows) -> Array:
        """Return an input with the padding that is copied from it; zeros are added block by block."""
        if not self._copies_padding(windows):
            return input
        return pad_from_source(input, windows.padding, self.padding_mode)

    def _copies_padding(self, windows: Windows) -> bool:
        return self.padding_mode != "zeros" and any(before or after for before, after in windows.padding)

    def _costs(self, batch: int, channels: int, weight_shape: tuple[int, ...], windows: Windows) -> Costs:
        if not self._copies_padding(windows):
            return conv_costs(batch, channels, weight_shape, windows, self.algorithm)
        costs = conv_costs(batch, channels, weight_shape, windows.over_padded_input(), self.algorithm)
        # the padded input, or its gradient, is built in full, one axis after the other
        padded = batch * channels * math.prod(windows.padded_sizes)

        def with_padding(cost: Cost) -> Cost:
            return Cost(cost.work + MOVED_ELEMENT * padded, cost.workspace_elements + 2 * padded)

        return Costs(
            lambda: with_padding(costs.forward),
            {
                "input": lambda: with_padding(costs.backward["input"]),
                "weight": lambda: with_padding(costs.backward["weight"]),
                "bias": lambda: costs.backward["bias"],
            },
        )
