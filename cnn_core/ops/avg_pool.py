"""Average pooling."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.geometry import AnyWindows
from cnn_core.kernels.cost import Costs
from cnn_core.kernels.pool.blocks import PoolBlock, PoolSizes, pool_backward, pool_forward
from cnn_core.kernels.pool.sum import sum_costs, window_sum, window_sum_transposed
from cnn_core.operands import accumulation_dtype, as_operand, common_dtype
from cnn_core.ops.base import computation
from cnn_core.ops.docstrings import documented
from cnn_core.ops.pool_base import Pool
from cnn_core.ops.rules import FLAG, NONZERO_INTEGER
from cnn_core.parameters import Framework, optional, parameter

__all__ = ["AvgPool"]


@documented
@dataclass(frozen=True)
class AvgPool(Pool):
    """Average pooling.

    Notes
    -----
    The divisor is that of PyTorch (``AvgPoolKernel.cpp``) and of ONNX. The default for count_include_pad is that of
    ONNX and of TensorFlow; PyTorch's is True. Where the divisor would be 0, for a window with no tap inside the input
    and count_include_pad=False, ShapeError is raised. float16 is summed in float32 and rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.array([2.0, 4.0, 6.0]).reshape(1, 3, 1)
    >>> AvgPool(kernel_size=2, padding=1).forward(ramp).ravel().tolist()
    [2.0, 5.0]
    >>> AvgPool(kernel_size=2, padding=1, count_include_pad=True).forward(ramp).ravel().tolist()
    [1.0, 5.0]
    """

    description: ClassVar[str] = (
        "Average pooling over 1, 2 or 3 spatial axes.\n\n"
        "`output[n, o, c] = (sum over the taps k inside the input of input[n, o * stride - before + k * dilation, c]) "
        "/ divisor[o]`."
    )

    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {
        "torch": {"count_include_pad": True},
        "jax": {"count_include_pad": True},
    }

    count_include_pad: bool = parameter(
        FLAG, "Whether taps in the padding count in the divisor; the overhang of ceil_mode never does.", False
    )
    divisor_override: int | None = parameter(
        optional(NONZERO_INTEGER), "Divisor of every window, instead of the number of its taps.", None
    )

    @computation
    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Compute the average of each window."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        axes, dtype = self._spatial_axes(resolved.windows), common_dtype(input)
        sums = accumulation_dtype(dtype)
        divisor = self._divisor(resolved.windows).astype(sums)

        def reduce(part: NDArray[Any], block: PoolBlock, results: Sequence[NDArray[Any]]) -> None:
            (target,) = results
            totals = target if target.dtype == sums else np.empty(target.shape, dtype=sums)
            window_sum(part.astype(sums, copy=False), block.windows, axes, totals)
            np.divide(totals, _of_rows(divisor, block.outputs[-1]), out=totals)
            if totals is not target:
                target[...] = totals

        output = np.empty(resolved.output_shape, dtype=dtype)
        pool_forward(self._sizes_of(input, resolved.windows), input, lambda _: reduce, [output])
        return output

    @computation
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to the input."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        gradient = self._checked_gradient(grad_output, resolved)
        dtype = common_dtype(gradient, input)
        axes, sums = self._spatial_axes(resolved.windows), accumulation_dtype(dtype)
        divisor = self._divisor(resolved.windows).astype(sums)

        def route(gradient: NDArray[Any], _: NDArray[Any], block: PoolBlock, target: NDArray[Any]) -> None:
            shares: NDArray[Any] = np.divide(gradient, _of_rows(divisor, block.outputs[-1]), dtype=sums)
            window_sum_transposed(shares, block, axes, target)

        spread = np.empty(input.shape, dtype=dtype)
        pool_backward(self._sizes_of(input, resolved.windows), input, gradient, lambda _: route, spread)
        return spread

    def _needs_real_taps(self) -> bool:
        return self.divisor_override is None and not self.count_include_pad

    def _costs(self, sizes: PoolSizes) -> Costs:
        # a divisor in float64 for each window, and what counting its taps takes along each axis
        outputs = sizes.windows.output_sizes
        return sizes.in_blocks(sum_costs, 4 * math.prod(outputs) + 16 * sum(outputs))

    def _divisor(self, windows: AnyWindows) -> NDArray[Any]:
        """Return the divisor of each window in a shape that broadcasts over an output."""
        if self.divisor_override is not None:
            return np.asarray(self.divisor_override, dtype=np.float64)
        along = [axis.counts(include_padding=self.count_include_pad) for axis in windows.axes]
        if all((counts == counts[0]).all() for counts in along):
            return np.asarray(math.prod(int(counts[0]) for counts in along), dtype=np.float64)
        # a window is a box, so its count is the product of its counts along the axes; in float64, which does not
        # overflow where an integer would
        divisor = functools.reduce(np.multiply.outer, (counts.astype(np.float64) for counts in along))
        return divisor[..., None] if self.data_format == "channels_last" else divisor


def _of_rows(divisor: NDArray[Any], rows: slice) -> NDArray[Any]:
    """Return the divisor of some windows along the first spatial axis."""
    return divisor[rows] if divisor.ndim else divisor
