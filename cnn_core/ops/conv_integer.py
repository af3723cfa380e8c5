"""Convolution of 8-bit integers into 32-bit sums: the op ConvInteger of ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import ONE_VALUE, Operand, computation
from .conv_base import OUTPUT_CHANNELS
from .docstrings import documented
from .quantized_base import BYTES, INPUT, WEIGHT, QuantizedConvolution

__all__ = ["ConvInteger"]

Array = NDArray[Any]


@documented
@dataclass(frozen=True)
class ConvInteger(QuantizedConvolution):
    """Convolution of 8-bit integers.

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

    description: ClassVar[str] = (
        "Convolution of 8-bit integers into 32-bit sums, over 1, 2 or 3 spatial axes.\n\n"
        "`output[n, o, f] = sum over taps k and channels c of (padded[n, o * stride + k * dilation, c] - "
        "input_zero_point) * (weight[k, c, f] - weight_zero_point[f])`, where the padding has the value of the zero "
        "point, modulo 2^32 as 32-bit integers wrap around."
    )
    operands: ClassVar[tuple[Operand, ...]] = (
        INPUT,
        WEIGHT,
        Operand(
            "input_zero_point",
            "Zero point of input: one value of its type; 0 if not given.",
            ONE_VALUE,
            True,
            BYTES,
            "input",
        ),
        Operand(
            "weight_zero_point",
            "Zero point of weight: one value of its type, or one for each output channel; 0 if not given.",
            OUTPUT_CHANNELS,
            True,
            BYTES,
            "weight",
        ),
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

        Returns
        -------
        ndarray of int32, shape (N, *output, C_out) or (N, C_out, *output)
        """
        input, weight, input_zero, weight_zero = self._arrays(input, weight, input_zero_point, weight_zero_point)
        resolved = self._resolved(input, weight, input_zero, weight_zero)
        return self._in_layout(self._sums(input, weight, input_zero, weight_zero, resolved))

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:  # noqa: ARG002, D102
        return {"output": np.dtype(np.int32)}
