"""Convolution of quantized tensors into a quantized tensor: the op QLinearConv of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import OperandError
from ..kernels.requantize import requantized
from .base import ONE_VALUE, Operand, computation
from .conv_base import OUTPUT_CHANNELS
from .docstrings import documented
from .quantized_base import BYTES, INPUT, WEIGHT, QuantizedConvolution

__all__ = ["QLinearConv"]

FLOATS = ("float32", "float16", "float64")

Array = NDArray[Any]


@documented
@dataclass(frozen=True)
class QLinearConv(QuantizedConvolution):
    """Convolution of quantized tensors.

    Notes
    -----
    The op ``QLinearConv`` of ONNX. The result is that of exact fractions of the given scales. ONNX Runtime scales in
    float32, so its results may differ by one where a scaled sum is close to half-way.

    Examples
    --------
    >>> import numpy as np
    >>> input = np.array([1, 2, 3], dtype=np.uint8).reshape(1, 3, 1)
    >>> weight = np.ones((1, 1, 1), dtype=np.uint8)
    >>> zero = np.uint8(0)
    >>> QLinearConv().forward(input, 0.5, zero, weight, 1.0, zero, 1.0, zero).ravel().tolist()
    [0, 1, 2]
    """

    description: ClassVar[str] = (
        "Convolution of quantized tensors into a quantized tensor, over 1, 2 or 3 spatial axes.\n\n"
        "`output = saturate(round((sums + bias) * input_scale * weight_scale / output_scale) + output_zero_point)` "
        "with the sums of ConvInteger; sums and bias wrap around in 32 bits, what follows is exact, and half-way cases "
        "are rounded to even."
    )
    operands: ClassVar[tuple[Operand, ...]] = (
        INPUT,
        Operand("input_scale", "Scale of input: one value.", ONE_VALUE, dtypes=FLOATS),
        Operand(
            "input_zero_point", "Zero point of input: one value of its type.", ONE_VALUE, dtypes=BYTES, type_of="input"
        ),
        WEIGHT,
        Operand(
            "weight_scale",
            "Scale of weight: one value, or one for each output channel.",
            OUTPUT_CHANNELS,
            dtypes=FLOATS,
        ),
        Operand(
            "weight_zero_point",
            "Zero point of weight: one value of its type, or one for each output channel.",
            OUTPUT_CHANNELS,
            dtypes=BYTES,
            type_of="weight",
        ),
        Operand("output_scale", "Scale of output: one value.", ONE_VALUE, dtypes=FLOATS),
        Operand(
            "output_zero_point",
            "Zero point of output: one value; its type is that of output.",
            ONE_VALUE,
            dtypes=BYTES,
        ),
        Operand(
            "bias",
            f"One value for each output channel: {OUTPUT_CHANNELS}; in units of input_scale * weight_scale.",
            OUTPUT_CHANNELS,
            optional=True,
            dtypes=("int32",),
        ),
    )

    @computation
    def forward(
        self,
        input: ArrayLike,
        input_scale: ArrayLike,
        input_zero_point: ArrayLike,
        weight: ArrayLike,
        weight_scale: ArrayLike,
        weight_zero_point: ArrayLike,
        output_scale: ArrayLike,
        output_zero_point: ArrayLike,
        bias: ArrayLike | None = None,
    ) -> Array:
        """Compute the convolution.

        Returns
        -------
        ndarray of output_zero_point's type, shape (N, *output, C_out) or (N, C_out, *output)

        Raises
        ------
        OperandError
            If a scale is not a finite number greater than 0.
        """
        operands = self._arrays(
            input,
            input_scale,
            input_zero_point,
            weight,
            weight_scale,
            weight_zero_point,
            output_scale,
            output_zero_point,
            bias,
        )
        input, input_scale, input_zero, weight, weight_scale, weight_zero, output_scale, output_zero, bias = operands
        scales = (input_scale, weight_scale, output_scale)
        for name, scale in zip(("input_scale", "weight_scale", "output_scale"), scales, strict=True):
            _require_positive(name, scale)
        sums = self._sums(input, weight, input_zero, weight_zero, self._resolved(*operands), bias)
        return self._in_layout(requantized(sums, *scales, output_zero))

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:  # noqa: D102
        return {"output": dtypes.get("output_zero_point", np.dtype(np.uint8))}


def _require_positive(name: str, scale: Array) -> None:
    wrong = ~(np.isfinite(scale) & (scale > 0))
    if wrong.any():
        got = repr(float(scale[wrong].flat[0]))
        raise OperandError(name, "must hold", "finite numbers greater than 0", got=got)
