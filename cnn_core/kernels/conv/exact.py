"""The algorithm that adds the products themselves, in the form for the channels of a correlation."""

from __future__ import annotations

from types import ModuleType

from cnn_core.kernels.conv import depthwise
from cnn_core.kernels.conv import im2col_gemm as direct
from cnn_core.kernels.conv import window_blocking as widened
from cnn_core.kernels.conv.problem import ConvProblem

__all__ = ["exact"]


def exact(problem: ConvProblem) -> ModuleType:
    """Return the module that computes a correlation, and the gradient of its weight, directly."""
    if depthwise.applies(problem):
        return depthwise
    return widened if widened.applies(problem) else direct
