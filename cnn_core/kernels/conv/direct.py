"""The kernels that add the products themselves, and which of them suits a problem."""

from __future__ import annotations

from .depthwise import DEPTHWISE
from .im2col_gemm import IM2COL_GEMM
from .kernel import ConvKernel
from .problem import ConvProblem
from .window_blocking import WINDOW_BLOCKING

__all__ = ["direct_kernel"]


def direct_kernel(problem: ConvProblem) -> ConvKernel:
    """Return the kernel that computes a problem directly: the first that supports it."""
    if DEPTHWISE.supports(problem):
        return DEPTHWISE
    return WINDOW_BLOCKING if WINDOW_BLOCKING.supports(problem) else IM2COL_GEMM
