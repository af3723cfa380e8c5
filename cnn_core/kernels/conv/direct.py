"""The kernels that add the products themselves, and which of them suits a problem."""

from __future__ import annotations

from .kernel import ConvKernel
from .problem import ConvProblem
from .window_blocking import WINDOW_BLOCKING, unblocked_kernel

__all__ = ["direct_kernel"]


def direct_kernel(problem: ConvProblem) -> ConvKernel:
    """Return the kernel that computes a problem directly."""
    return WINDOW_BLOCKING if WINDOW_BLOCKING.supports(problem) else unblocked_kernel(problem)
