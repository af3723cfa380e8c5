"""Max pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from cnn_core.compute.cost import Costs
from cnn_core.compute.window_reduction import (
    maximum_costs,
    maximum_levels,
    route_to_chosen,
    route_to_tied,
    window_maximum,
)
from cnn_core.geometry import Windows
from cnn_core.op import without_floating_point_warnings
from cnn_core.operands import accumulation_dtype, as_operand, common_dtype
from cnn_core.parameters import TIES, Ties, parameter
from cnn_core.pool import Pool

__all__ = ["MaxPool"]


@dataclass(frozen=True)
class MaxPool(Pool):
    """Max pooling over 1, 2 or 3 spatial axes.

    ``output[n, o, c] = max over the taps k inside the input of input[n, o * stride - before + k * dilation, c]``.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}
        Input (N, *spatial, C) or (N, C, *spatial).
    kernel_size, stride, dilation : int or tuple of int
        Size of the windows, distance between them (kernel_size if None), and between the taps of one; in elements.
    padding : int, tuple of int, tuple of (before, after), "valid", "same" or "same_lower"
        Padding in elements. It never wins: it counts as minus infinity.
    ceil_mode : bool
        Round the output size up.
    ties : {"first", "all", "split"}
        Who gets the gradient where several taps of a window hold its maximum: the first in row-major order; all of
        them, each the whole of it; or all of them, in equal shares.

    Raises
    ------
    ParameterError
        If a parameter has a value outside its rule.

    Notes
    -----
    NaN is larger than everything, as in PyTorch and JAX: a window that holds one gives NaN. Its gradient goes to the
    last NaN of the window with ties="first" (PyTorch, ``MaxPoolKernel.cpp``), else to all of them. A window with no tap
    inside the input is an error. ``first`` is the rule of PyTorch, JAX and TensorFlow's 2-D kernel; ``all`` is that of
    TensorFlow's 3-D kernel and of the notebook that convpool began as.

    Examples
    --------
    >>> import numpy as np
    >>> tied = np.array([1.0, 3.0, 3.0, 2.0]).reshape(1, 4, 1)
    >>> MaxPool(kernel_size=2).forward(tied).ravel().tolist()
    [3.0, 3.0]
    >>> MaxPool(kernel_size=4, ties="split").backward(np.ones((1, 1, 1)), tied).ravel().tolist()
    [0.0, 0.5, 0.5, 0.0]
    """

    ties: Ties = parameter(
        TIES,
        "Who gets the gradient of a maximum that several taps hold: the first in row-major order, all of it to all, "
        "or an equal share to all.",
        "first",
    )

    @without_floating_point_warnings
    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Compute the maximum of each window.

        Parameters
        ----------
        input : array_like, shape (N, *spatial, C) or (N, C, *spatial)
            Of dtype float16, float32, float64 or an integer type.

        Returns
        -------
        ndarray, shape (N, *output, C) or (N, C, *output)
            Of the input's dtype; integers count as float64.

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither float16, float32, float64 nor an integer of at most 64 bits.
        """
        input = as_operand("input", input)
        windows = self.layer(input.shape).windows
        dtype = common_dtype(input)
        largest = window_maximum(self._comparable(input), windows, self._spatial_axes(windows))
        return largest.astype(dtype, copy=False)

    @without_floating_point_warnings
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to the input.

        Parameters
        ----------
        grad_output : array_like, shape of the output of ``forward``
        input : array_like
            The operand of ``forward``.

        Returns
        -------
        ndarray, shape of the input
            Of the operands' common floating dtype.

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither float16, float32, float64 nor an integer of at most 64 bits.
        """
        gradient, input, layer = self._gradient_operands(grad_output, input)
        dtype = common_dtype(gradient, input)
        levels = maximum_levels(self._comparable(input), layer.windows, self._spatial_axes(layer.windows))
        gradient = gradient.astype(accumulation_dtype(dtype), copy=False)
        if self.ties == "first":
            routed = route_to_chosen(gradient, levels)
        else:
            routed = route_to_tied(gradient, levels, shared=self.ties == "split")
        return routed.astype(dtype, copy=False)

    def _costs(self, planes: int, windows: Windows) -> Costs:
        return maximum_costs(planes, windows)

    @staticmethod
    def _comparable(input: NDArray[Any]) -> NDArray[Any]:
        # float16 is compared as float32, which holds its values exactly: NumPy has no fast loops for float16
        return input.astype(accumulation_dtype(common_dtype(input)), copy=False)
