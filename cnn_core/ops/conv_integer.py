"""Convolution of 8-bit integers into 32-bit sums: the op ConvInteger of ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.geometry import Windows
from cnn_core.operands import as_operand, shape_of
from cnn_core.ops.base import Operand, ResolvedOp, computation
from cnn_core.ops.quantized_base import BYTES, INPUT, WEIGHT, QuantizedConvolution

__all__ = ["ConvInteger"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ConvInteger(QuantizedConvolution):
    """Convolution of 8-bit integers into 32-bit sums, over 1, 2 or 3 spatial axes.

    ``output[n, o, f] = sum over taps k and channels c of
    (padded[n, o * stride + k * dilation, c] - input_zero_point) * (weight[k, c, f] - weight_zero_point[f])``,
    where the padding has the value of the zero point, modulo 2^32 as 32-bit integers wrap around.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}
        channels_last: input (N, *spatial, C), weight (*kernel, C/groups, C_out).
        channels_first: input (N, C, *spatial), weight (C_out, C/groups, *kernel).
    framework : {"torch", "tensorflow", "onnx", "jax"} or None
        Whose defaults are taken for what is not given.
    stride, dilation : int or tuple of int
        Distance between windows, and between the taps of one window (1 = dense), in elements.
    padding : int, tuple of int, tuple of (before, after), "valid", "same" or "same_lower"
        Padding around the input, in elements.
    groups : int
        Number of groups that the channels are divided into.

    Raises
    ------
    ParameterError
        If a parameter has a value outside its rule.

    Notes
    -----
    The op ``ConvInteger`` of ONNX.

    Examples
    --------
    >>> import numpy as np
    >>> input = np.array([2, 3, 4], dtype=np.uint8).reshape(1, 3, 1)
    >>> weight = np.ones((2, 1, 1), dtype=np.uint8)
    >>> ConvInteger().forward(input, weight, np.uint8(1)).ravel().tolist()
    [3, 5]
    """

    operands: ClassVar[tuple[Operand, ...]] = (
        INPUT,
        WEIGHT,
        Operand(
            "input_zero_point", "What input has for zero: one value of its type; 0 if not given.", True, BYTES, "input"
        ),
        Operand(
            "weight_zero_point",
            "What weight has for zero: one value of its type, or one for each output channel; 0 if not given.",
            True,
            BYTES,
            "weight",
        ),
    )

    def resolve(
        self,
        input_shape: Sequence[int],
        weight_shape: Sequence[int],
        input_zero_point_shape: Sequence[int] | None = None,
        weight_zero_point_shape: Sequence[int] | None = None,
    ) -> ResolvedOp[Windows]:
        """Resolve the convolution for operands of these shapes; allocates nothing.

        Raises
        ------
        ParameterError, ShapeError
            If the shapes fit neither each other nor the parameters.
        """
        return self._layer(
            input_shape,
            weight_shape,
            single={"input_zero_point": input_zero_point_shape},
            by_channel={"weight_zero_point": weight_zero_point_shape},
        )

    @computation
    def forward(
        self,
        input: ArrayLike,
        weight: ArrayLike,
        input_zero_point: ArrayLike | None = None,
        weight_zero_point: ArrayLike | None = None,
    ) -> Array:
        """Compute the sums.

        Parameters
        ----------
        input : array_like of int8 or uint8, shape (N, *spatial, C) or (N, C, *spatial)
        weight : array_like of int8 or uint8, shape (*kernel, C/groups, C_out) or (C_out, C/groups, *kernel)
        input_zero_point : array_like of input's type, shape () or (1,), optional
        weight_zero_point : array_like of weight's type, shape (), (1,) or (C_out,), optional

        Returns
        -------
        ndarray of int32, shape (N, *output, C_out) or (N, C_out, *output)

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither int8 nor uint8, or a zero point is not of its operand's type.
        """
        input, weight = as_operand("input", input, BYTES), as_operand("weight", weight, BYTES)
        input_zero = _zero_point("input_zero_point", input_zero_point, input)
        weight_zero = _zero_point("weight_zero_point", weight_zero_point, weight)
        resolved = self.resolve(input.shape, weight.shape, shape_of(input_zero), shape_of(weight_zero))
        return self._in_layout(self._sums(input, weight, input_zero, weight_zero, resolved))

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:  # noqa: ARG002, D102
        return {"output": np.dtype(np.int32)}


def _zero_point(name: str, value: ArrayLike | None, of: Array) -> Array | None:
    return None if value is None else as_operand(name, value, (of.dtype.name,))
