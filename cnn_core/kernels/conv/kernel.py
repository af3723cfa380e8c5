"""The interfaces of the convolution kernels.

A kernel is a class without state: all that it needs to know is in the ``ConvProblem``. What it predicts is written next
to what it predicts: the memory next to the allocation, the work next to the loops.

Axes: N batch, S spatial sizes, O output sizes, K kernel sizes, G groups, C channels in, F channels out.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from .problem import ConvProblem

__all__ = ["ConvKernel", "GradInputKernel"]

Array = NDArray[Any]


class ConvKernel(Protocol):
    """One way to compute the cross-correlation, and its gradient with respect to the weight."""

    def supports(self, problem: ConvProblem) -> bool:
        """Return whether the kernel can compute a problem."""
        ...

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation.

        Parameters
        ----------
        problem : ConvProblem
        input : ndarray, shape (N, *S, C)
        weight : ndarray, shape (*K, C/G, F)
            Of the type that is computed in.
        bias : ndarray, shape (F,), or None
            Of the type of ``weight``.
        output : ndarray, shape (N, *O, F)
            Overwritten. Of the type of ``weight``.
        """
        ...

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight.

        Parameters
        ----------
        problem : ConvProblem
        input : ndarray, shape (N, *S, C)
        grad_output : ndarray, shape (N, *O, F)
        grad_weight : ndarray, shape (*K, C/G, F)
            Overwritten. Of the type that is computed in.
        """
        ...

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return an upper bound of the elements that ``forward`` holds in addition to operands and results."""
        ...

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return an upper bound of the elements that ``grad_weight`` holds in addition to operands and results."""
        ...

    def work(self, problem: ConvProblem) -> int:
        """Return an estimate of the time of either direction, in the unit of ``cnn_core.kernels.cost.Cost``."""
        ...


class GradInputKernel(Protocol):
    """One way to compute the gradient with respect to the input: the transposed cross-correlation."""

    def grad_input(
        self, problem: ConvProblem, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
    ) -> None:
        """Write the gradient with respect to the input.

        Parameters
        ----------
        problem : ConvProblem
        grad_output : ndarray, shape (N, *O, F)
        weight : ndarray, shape (*K, C/G, F)
            Of the type that is computed in.
        bias : ndarray, shape (C,), or None
            Added to every element, for transposed convolutions.
        grad_input : ndarray, shape (N, *S, C)
            Overwritten. Elements that no window covers get zero, or the bias.
        """
        ...

    def workspace(self, problem: ConvProblem) -> int:
        """Return an upper bound of the elements that are held in addition to operands and results."""
        ...

    def work(self, problem: ConvProblem) -> int:
        """Return an estimate of the time, in the unit of ``cnn_core.kernels.cost.Cost``."""
        ...
