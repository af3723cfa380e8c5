"""Lp pooling: the norm of each window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import AnyWindows
from ..kernels.pool.kernel import PoolKernel
from ..kernels.pool.norm import NormKernel
from ..parameters import parameter
from .base import computation
from .docstrings import documented
from .pool_base import Pool
from .rules import NORM_TYPE

__all__ = ["LpPool"]


@documented
@dataclass(frozen=True)
class LpPool(Pool):
    """Lp pooling.

    Notes
    -----
    The absolute value is taken, as in ONNX (``LpPool``); PyTorch's ``lp_pool`` does not, so that negative elements and
    an odd p give NaN there. Where a window is all zeros the gradient is 0. Values are divided by the largest of their
    window before they are raised to a power, so nothing overflows on the way to a norm that the type can hold. A window
    with no tap inside the input has norm 0. One that holds NaN has norm NaN, else one that holds an infinity has norm
    infinity; their gradients are NaN or 0.

    Examples
    --------
    >>> import numpy as np
    >>> LpPool(kernel_size=2).forward(np.array([3.0, -4.0, 0.0, 0.0]).reshape(1, 4, 1)).ravel().tolist()
    [5.0, 0.0]
    """

    description: ClassVar[str] = (
        "Lp pooling over 1, 2 or 3 spatial axes: the p-norm of each window.\n\n"
        "`output[n, o, c] = (sum over the taps k inside the input of |input[n, o * stride - before + k * dilation, "
        "c]|^p)^(1 / p)`."
    )

    norm_type: float = parameter(NORM_TYPE, "The exponent p of the norm.", 2.0)

    @computation
    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Compute the norm of each window."""
        return self._output(input)

    @computation
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to the input.

        Returns
        -------
        ndarray, shape of input
            Of the operands' common floating dtype: ``grad_output * sign(x) * (|x| / output)^(p - 1)``, and 0 where a
            window is all zeros.
        """
        return self._gradient(grad_output, input)

    def _needs_real_taps(self) -> bool:
        return False

    def _kernel(self, windows: AnyWindows, dtype: np.dtype[Any]) -> PoolKernel:
        return NormKernel(self._spatial_axes(windows), dtype, self.norm_type)
