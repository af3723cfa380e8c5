"""The kernels that add the products themselves, and which of them suits a problem."""

from __future__ import annotations

from cnn_core.kernels.conv.depthwise import DEPTHWISE
from cnn_core.kernels.conv.im2col_gemm import IM2COL_GEMM
from cnn_core.kernels.conv.kernel import ConvKernel
from cnn_core.kernels.conv.problem import ConvProblem
from cnn_core.kernels.conv.window_blocking import WINDOW_BLOCKING

__all__ = ["direct_kernel"]


def direct_kernel(problem: ConvProblem) -> ConvKernel:
    """Return the kernel that computes a problem directly: the first that supports it."""
    if DEPTHWISE.supports(problem):
        return DEPTHWISE
    return WINDOW_BLOCKING if WINDOW_BLOCKING.supports(problem) else IM2COL_GEMM
