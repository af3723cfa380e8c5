"""What the convolutions of 8-bit integers share: exact sums of products, with their zero points subtracted first."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..geometry import Windows
from ..kernels.conv import correlate
from ..kernels.conv.costs import conv_costs
from ..kernels.conv.problem import conv_problem
from ..kernels.cost import MOVED_ELEMENT, Cost, Costs
from ..kernels.passes import contiguous, converted, elementwise
from ..operands import channels_last_view, checked_sequence, describe_shape, layer_shape, split_layer_shape
from . import base, conv_base
from .base import ResolvedOp
from .conv_base import Convolution
from .weight_layout import explains_layout

__all__ = ["BYTES", "INPUT", "WEIGHT", "QuantizedConvolution"]

BYTES = ("uint8", "int8")
INPUT, WEIGHT = (dataclasses.replace(operand, dtypes=BYTES) for operand in (base.INPUT, conv_base.WEIGHT))

Array = NDArray[Any]


@dataclass(frozen=True)
class QuantizedConvolution(Convolution):
    """Base of the two ops: the sums of a convolution of integers with their zero points subtracted first.

    They are computed in float64, which holds every sum of fewer than 2^37 products of 8-bit integers, and wrap around
    as 32-bit integers do.
    """

    differentiable: ClassVar[tuple[str, ...]] = ()

    def resolve(self, *shapes: Sequence[int] | None) -> ResolvedOp[Windows]:  # noqa: D102
        names = [operand.name for operand in self.operands]
        required = sum(not operand.optional for operand in self.operands)
        if not required <= len(shapes) <= len(names):
            raise TypeError(
                f"resolve() takes {required} to {len(names)} shapes, one for each operand; got {len(shapes)}"
            )
        named: dict[str, Any] = dict.fromkeys(names) | dict(zip(names, shapes, strict=False))
        return self._resolve_named(named.pop("input"), named.pop("weight"), **named)

    @explains_layout
    def _resolve_named(
        self, input_shape: Sequence[int], weight_shape: Sequence[int], **shapes: Sequence[int] | None
    ) -> ResolvedOp[Windows]:
        """Resolve the op for an input, a weight and the other operands by name."""
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        weight, windows = self._over_input(spatial, channels, weight_shape)
        for name, shape in shapes.items():
            each = (weight.features,)
            accepted = [each] if name == "bias" else [(), (1,), *([each] if name.startswith("weight") else [])]
            if shape is not None and checked_sequence(name, shape) not in accepted:
                expected = " or ".join(map(str, dict.fromkeys(accepted)))
                raise ShapeError(name, "must have shape", expected, got=describe_shape(shape))
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
        """Return the sums of ``(input - input_zero) * (weight - weight_zero)`` and a bias: int32, channels-last."""
        by_position = converted(channels_last_view(input, self.data_format), np.float64)
        kernels = converted(self._kernel_first(weight), np.float64)
        # so that the zeros of the padding have the meaning of the zero point
        if input_zero is not None:
            elementwise(np.subtract, by_position, by_position, input_zero.reshape(-1))
        if weight_zero is not None:
            elementwise(np.subtract, kernels, kernels, weight_zero.reshape(-1))
        sums = np.empty((*by_position.shape[:1], *resolved.windows.output_sizes, kernels.shape[-1]))
        problem = conv_problem(len(sums), kernels.shape, self.groups, resolved.windows, sums.itemsize)
        correlate(problem, by_position, kernels, sums)
        if bias is not None:
            elementwise(np.add, sums, sums, bias)
        # int64 holds every sum, and its lower half is the sum modulo 2^32
        return converted(converted(sums, np.int64), np.int32)

    def _in_layout(self, output: Array) -> Array:
        return output if self.data_format == "channels_last" else contiguous(np.moveaxis(output, -1, 1))

    def computation_dtype(self, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:  # noqa: ARG002, D102
        return np.dtype(np.float64)


def _costs(batch: int, channels: int, weight_shape: tuple[int, ...], windows: Windows, outputs: int) -> Costs:
    sums = conv_costs(batch, channels, weight_shape, windows, "direct").forward
    # the operands and the sums in float64 count as what they are converted from and to; added are the sums as 64-bit
    # integers, or the results in both layouts
    return Costs(Cost(sums.work + MOVED_ELEMENT * outputs, sums.workspace_elements + outputs), {})
