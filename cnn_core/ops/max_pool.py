"""Max pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import AnyWindows
from ..kernels.pool.argmax import MaxKernel, ResolvedTies
from ..kernels.pool.kernel import PoolKernel
from ..operands import as_operand, common_dtype, split_layer_shape
from ..parameters import Direction, Framework, Ties, parameter
from .base import ResolvedOp, computation
from .docstrings import documented
from .indices import Indexed
from .pool_base import Pool
from .rules import FLAG, TIES

__all__ = ["MaxPool", "MaxPoolResult"]


class MaxPoolResult(NamedTuple):
    """The maxima of all windows, and their indices."""

    output: NDArray[Any]
    indices: NDArray[np.int64]


@documented
@dataclass(frozen=True)
class MaxPool(Indexed, Pool):
    """Max pooling.

    Notes
    -----
    NaN is larger than everything, as in PyTorch and JAX: a window that holds one gives NaN. Its gradient goes to the
    last NaN of the window with ties="first" (PyTorch, ``MaxPoolKernel.cpp``), else to all of them. A window with no tap
    inside the input is an error. ``first`` is the rule of PyTorch, JAX and TensorFlow's 2-D kernel; ``all`` is that of
    TensorFlow's 3-D kernel and of the notebook that convpool began as. The index of a maximum is that of the element
    which ``first`` gives the gradient to; a window that holds nothing but minus infinity has the index of its first tap
    inside the input.

    Examples
    --------
    >>> import numpy as np
    >>> tied = np.array([1.0, 3.0, 3.0, 2.0]).reshape(1, 4, 1)
    >>> MaxPool(kernel_size=2).forward(tied).ravel().tolist()
    [3.0, 3.0]
    >>> MaxPool(kernel_size=4, ties="split").backward(np.ones((1, 1, 1)), tied).ravel().tolist()
    [0.0, 0.5, 0.5, 0.0]
    >>> MaxPool(kernel_size=2, return_indices=True).forward(tied).indices.ravel().tolist()
    [1, 2]
    """

    description: ClassVar[str] = (
        "Max pooling over 1, 2 or 3 spatial axes.\n\n"
        "`output[n, o, c] = max over the taps k inside the input of input[n, o * stride - before + k * dilation, c]`."
    )

    results: ClassVar[tuple[str, ...]] = ("output", "indices")
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"tensorflow": {"ties": "tensorflow"}}

    ties: Ties = parameter(
        TIES,
        "Which of several equal maxima receives the gradient; first: the first in row-major order; all: each gets the "
        "full gradient; split: each gets an equal share; tensorflow: the first, but all with three spatial axes.",
        "first",
    )
    return_indices: bool = parameter(FLAG, "Whether forward also returns the index of each maximum.", False)

    @computation
    def forward(self, input: ArrayLike) -> NDArray[Any] | Any:  # a union with MaxPoolResult would burden every caller
        """Compute the maximum of each window.

        Returns
        -------
        ndarray or MaxPoolResult
            The output, of the input's dtype; integers count as float64. With return_indices also the indices.
        """
        input = as_operand("input", input)
        resolved = self._resolved(input)
        output = np.empty(resolved.output_shape, dtype=common_dtype(input))
        if not self.return_indices:
            self._pooled(resolved, input, [output])
            return output
        in_plane = np.empty(resolved.output_shape, dtype=np.int64)
        self._pooled(resolved, input, [output, in_plane])
        counted = self._counted(*split_layer_shape("input", input.shape, self.data_format))
        return MaxPoolResult(output, counted.encode(in_plane))

    @computation
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to the input."""
        return self._gradient(grad_output, input)

    def _kernel(self, windows: AnyWindows, dtype: np.dtype[Any]) -> PoolKernel:
        return MaxKernel(self._spatial_axes(windows), dtype, self._ties(windows), self.return_indices)

    def _ties(self, windows: AnyWindows) -> ResolvedTies:
        if self.ties == "tensorflow":
            return "all" if len(windows.axes) == 3 else "first"
        return self.ties

    def result_names(self) -> tuple[str, ...]:  # noqa: D102
        return self.results if self.return_indices else ("output",)

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:  # noqa: D102
        return super().result_dtypes(dtypes) | ({"indices": np.dtype(np.int64)} if self.return_indices else {})

    def resolved_parameters(  # noqa: D102
        self, resolved: ResolvedOp[AnyWindows], itemsize: int = 8, direction: Direction = "forward"
    ) -> dict[str, Any]:
        return super().resolved_parameters(resolved, itemsize, direction) | {"ties": self._ties(resolved.windows)}
