"""What the convolutions of 8-bit integers share: exact sums of products, whose zero points are taken away first."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cnn_core.errors import ShapeError
from cnn_core.geometry import Windows
from cnn_core.kernels.conv import correlate
from cnn_core.kernels.conv.costs import correlation_costs
from cnn_core.kernels.cost import MOVED_ELEMENT, Cost, Costs
from cnn_core.operands import channels_last_view, checked_sequence, describe_shape, layer_shape, split_layer_shape
from cnn_core.ops.base import Operand, ResolvedOp, suggest_layout
from cnn_core.ops.conv_base import Convolution

__all__ = ["BYTES", "INPUT", "WEIGHT", "QuantizedConvolution"]

BYTES = ("uint8", "int8")
INPUT = Operand("input", "Activations: (N, *spatial, C), or (N, C, *spatial) with channels_first.", dtypes=BYTES)
WEIGHT = Operand(
    "weight", "Kernels: (*kernel, C/groups, C_out), or (C_out, C/groups, *kernel) with channels_first.", dtypes=BYTES
)

Array = NDArray[Any]


@dataclass(frozen=True)
class QuantizedConvolution(Convolution):
    """Base of the two ops: the sums of a convolution of integers whose zero points are taken away first.

    They are computed in float64, which holds every sum of fewer than 2^37 products of 8-bit integers, and wrap around
    as 32-bit integers do.
    """

    differentiable: ClassVar[tuple[str, ...]] = ()

    @suggest_layout
    def _layer(
        self,
        input_shape: Sequence[int],
        weight_shape: Sequence[int],
        *,
        single: Mapping[str, Sequence[int] | None],
        by_channel: Mapping[str, Sequence[int] | None],
        bias_shape: Sequence[int] | None = None,
    ) -> ResolvedOp[Windows]:
        """Resolve the op for an input, a weight, and operands of one value, or of one or one for each channel."""
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        weight, windows = self._over_input(spatial, channels, weight_shape)
        each = (weight.features,)
        _require_one_of(single, [(), (1,)])
        _require_one_of(by_channel, [(), (1,), each])
        _require_one_of({"bias": bias_shape}, [each])
        outputs = batch * weight.features * math.prod(windows.output_sizes)
        return ResolvedOp(
            result_shapes={"output": layer_shape(batch, windows.output_sizes, weight.features, self.data_format)},
            gradient_shapes={},
            windows=windows,
            multiply_accumulates=batch * math.prod(windows.output_sizes) * math.prod(weight.shape),
            costs=functools.partial(_costs, batch, channels, weight.kernel_first_shape, windows, outputs),
        )

    def _sums(
        self,
        input: Array,
        weight: Array,
        input_zero: Array | None,
        weight_zero: Array | None,
        resolved: ResolvedOp[Windows],
        bias: Array | None = None,
    ) -> Array:
        """Return the sums of ``(input - input_zero) * (weight - weight_zero)`` and a bias as int32; channels-last."""
        by_position = channels_last_view(input, self.data_format).astype(np.float64)
        kernels = self._kernel_first(weight).astype(np.float64)
        # so that the zeros of the padding stand for the zero point
        if input_zero is not None:
            by_position -= input_zero.reshape(-1)
        if weight_zero is not None:
            kernels -= weight_zero.reshape(-1)
        sums = np.empty((*by_position.shape[:1], *resolved.windows.output_sizes, kernels.shape[-1]))
        correlate(by_position, kernels, resolved.windows, self.groups, sums)
        if bias is not None:
            sums += bias
        # int64 holds every sum, and its lower half is the sum modulo 2^32
        return sums.astype(np.int64).astype(np.int32)

    def _in_layout(self, output: Array) -> Array:
        return output if self.data_format == "channels_last" else np.ascontiguousarray(np.moveaxis(output, -1, 1))

    def computation_dtype(self, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:  # noqa: ARG002, D102
        return np.dtype(np.float64)


def _require_one_of(shapes: Mapping[str, Sequence[int] | None], accepted: Sequence[tuple[int, ...]]) -> None:
    """Raise ShapeError unless each operand that is given has one of the accepted shapes."""
    for name, shape in shapes.items():
        sizes = None if shape is None else checked_sequence(name, shape)
        if sizes is not None and sizes not in accepted:
            expected = " or ".join(str(one) for one in dict.fromkeys(accepted))
            raise ShapeError(name, f"{name} must have shape", expected=expected, got=describe_shape(sizes))


def _costs(batch: int, channels: int, weight_shape: tuple[int, ...], windows: Windows, outputs: int) -> Costs:
    sums = correlation_costs(batch, channels, weight_shape, windows, "direct").forward
    # the operands and the sums in float64 count as what they are converted from and to; beside them the sums as 64-bit
    # integers, or the results in the one layout and in the other
    return Costs(Cost(sums.work + MOVED_ELEMENT * outputs, sums.workspace_elements + outputs), {})
