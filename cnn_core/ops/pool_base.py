"""What all pooling ops share: their windows, and the shape rule."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError, describe
from ..geometry import AnyWindows, resolve_adaptive, resolve_windows
from ..kernels.cost import Costs
from ..kernels.pool.kernel import PoolKernel
from ..kernels.pool.problem import PoolProblem, pool_backward, pool_forward
from ..operands import accumulation_dtype, as_operand, common_dtype, layer_shape, spatial_axes, split_layer_shape
from ..parameters import Framework, Padding, PerAxis, one_per_axis, optional, parameter
from .base import INPUT, Op, Operand, ResolvedOp
from .rules import (
    DILATION_TEXT,
    FLAG,
    PADDING,
    POSITIVE_PER_AXIS,
    SAME_TEXT,
    STRIDE_TEXT,
    is_padded,
    require_size,
)

__all__ = ["Pool"]

MAX_KEPT_WINDOWS = 2**12
"""A kernel, which may have a number for each window of an image, is kept for the next call unless there are more."""


@dataclass(frozen=True, kw_only=True)
class ResolvedPool(ResolvedOp[AnyWindows]):
    """A pooling of given shapes.

    Parameters
    ----------
    computed : callable
        Returns the problem, and the kernel that computes it, for the type that is computed in.
    """

    computed: Callable[[np.dtype[Any]], tuple[PoolProblem, PoolKernel]]


@dataclass(frozen=True)
class Pool(Op):
    """Base of the pooling ops: windows of one size, or a requested number of them, over every channel of an input."""

    operands: ClassVar[tuple[Operand, ...]] = (INPUT,)
    differentiable: ClassVar[tuple[str, ...]] = ("input",)
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"onnx": {"stride": 1}, "jax": {"stride": 1}}

    kernel_size: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS), "Size of the windows; needed unless output_size is given.", None
    )
    output_size: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS),
        "Number of windows, instead of kernel_size: window i of o covers the elements from floor(i * n / o) to "
        "ceil((i + 1) * n / o) of n (adaptive pooling; 1 is global).",
        None,
    )
    stride: PerAxis | None = parameter(optional(POSITIVE_PER_AXIS), f"{STRIDE_TEXT} kernel_size if not given.", None)
    padding: Padding = parameter(PADDING, f"Padding around the input; {SAME_TEXT}", 0)
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, DILATION_TEXT, 1)
    ceil_mode: bool = parameter(
        FLAG, "Round the output size up; the last window must start in the input or its leading padding.", False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size(self.kernel_size, self.output_size)
        if self.output_size is None:
            return
        given = {
            "kernel_size": self.kernel_size is not None,
            "stride": self.stride is not None,
            "padding": is_padded(self.padding),
            "dilation": bool(np.any(np.asarray(self.dilation) != 1)),
            "ceil_mode": self.ceil_mode,
        }
        for name, is_given in given.items():
            if is_given:
                raise ParameterError(
                    name,
                    "must be",
                    "left out with output_size",
                    got=describe(getattr(self, name)),
                    reason="which determines the windows",
                )

    def _defaults_for(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:
        defaults = super()._defaults_for(given, framework)
        # with output_size there is no stride, whatever the framework's default is
        return {name: value for name, value in defaults.items() if name != "stride" or "output_size" not in given}

    def resolve(self, input_shape: Sequence[int]) -> ResolvedPool:  # noqa: D102
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        windows = self._windows(spatial)
        if self._needs_real_taps():
            _require_real_taps(windows)
        output_shape = layer_shape(batch, windows.output_sizes, channels, self.data_format)
        outer, inner = ((batch,), channels) if self.data_format == "channels_last" else ((batch, channels), 1)

        def computed(dtype: np.dtype[Any]) -> tuple[PoolProblem, PoolKernel]:
            return PoolProblem(outer, inner, windows, dtype.itemsize), self._kernel(windows, dtype)

        def costs() -> Costs:  # blocks of the smallest type have the most elements
            return computed(np.dtype(np.float32))[0].costs(self._kernel(windows, np.dtype(np.float64)))

        return ResolvedPool(
            result_shapes=dict.fromkeys(self.result_names(), output_shape),
            gradient_shapes={"input": layer_shape(batch, spatial, channels, self.data_format)},
            windows=windows,
            multiply_accumulates=batch * channels * math.prod(axis.tap_count for axis in windows.axes),
            costs=costs,
            computed=functools.cache(computed) if math.prod(windows.output_sizes) <= MAX_KEPT_WINDOWS else computed,
        )

    def _checked_gradient(self, grad_output: ArrayLike, resolved: ResolvedOp[Any]) -> NDArray[Any]:
        try:
            return super()._checked_gradient(grad_output, resolved)
        except ShapeError as error:
            if self.stride is None and self.kernel_size is not None:
                error.add_hint("stride is not given, so it is kernel_size")
            raise

    def _windows(self, spatial: tuple[int, ...]) -> AnyWindows:
        if self.output_size is not None:
            return resolve_adaptive(spatial, self.output_size)
        assert self.kernel_size is not None  # noqa: S101  (checked when the op was created)
        return resolve_windows(
            spatial,
            one_per_axis("kernel_size", self.kernel_size, len(spatial)),
            stride=self.kernel_size if self.stride is None else self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )

    @abstractmethod
    def _kernel(self, windows: AnyWindows, dtype: np.dtype[Any]) -> PoolKernel:
        """Return the kernel that computes the pooling in a floating type."""

    def _output(self, input: ArrayLike) -> NDArray[Any]:
        """Return the one result of a pooling that has no other."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        output = np.empty(resolved.output_shape, dtype=common_dtype(input))
        self._pooled(resolved, input, [output])
        return output

    def _pooled(self, resolved: ResolvedPool, input: NDArray[Any], results: Sequence[NDArray[Any]]) -> None:
        """Write the results of all windows."""
        problem, kernel = resolved.computed(accumulation_dtype(results[0].dtype))
        pool_forward(problem, kernel, input, results)

    def _gradient(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Return the gradient with respect to the input."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        gradient = self._checked_gradient(grad_output, resolved)
        dtype = common_dtype(gradient, input)
        grad_input = np.empty(input.shape, dtype=dtype)
        problem, kernel = resolved.computed(accumulation_dtype(dtype))
        pool_backward(problem, kernel, input, gradient, grad_input)
        return grad_input

    def _needs_real_taps(self) -> bool:
        """Return whether a window with no tap inside the input has no value."""
        return True

    def _spatial_axes(self, windows: AnyWindows) -> range:
        return spatial_axes(len(windows.axes), self.data_format)


def _require_real_taps(windows: AnyWindows) -> None:
    for index, axis in enumerate(windows.axes):
        if axis.has_window_in_padding():
            raise ShapeError(
                "input",
                f"must give every window on spatial axis {index}",
                "at least one tap inside the input",
                got="a window entirely in the padding",
                hint=f"input has {axis.size} elements there, and the padding is {windows.padding[index]}",
            )
