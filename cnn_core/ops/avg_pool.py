"""Average pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import AnyWindows
from ..kernels.pool.average import AverageKernel
from ..kernels.pool.kernel import PoolKernel
from ..parameters import Framework, optional, parameter
from .base import computation
from .docstrings import documented
from .pool_base import Pool
from .rules import FLAG, NONZERO_INTEGER

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
        return self._output(input)

    @computation
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to the input."""
        return self._gradient(grad_output, input)

    def _needs_real_taps(self) -> bool:
        return self.divisor_override is None and not self.count_include_pad

    def _kernel(self, windows: AnyWindows, dtype: np.dtype[Any]) -> PoolKernel:
        return AverageKernel(self._spatial_axes(windows), dtype, windows, self.count_include_pad, self.divisor_override)
