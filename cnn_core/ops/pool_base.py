"""What all pooling ops share: their windows, and the shape rule."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.errors import ParameterError, ShapeError, describe
from cnn_core.geometry import AnyWindows, resolve_adaptive, resolve_windows
from cnn_core.kernels.pool.kernel import PoolKernel
from cnn_core.kernels.pool.problem import PoolProblem, pool_backward, pool_forward
from cnn_core.operands import accumulation_dtype, as_operand, common_dtype, layer_shape, spatial_axes, split_layer_shape
from cnn_core.ops.base import Op, Operand, ResolvedOp
from cnn_core.parameters import (
    FLAG,
    PADDING,
    POSITIVE_PER_AXIS,
    Framework,
    Padding,
    PerAxis,
    is_padded,
    one_per_axis,
    optional,
    parameter,
    require_size,
)

__all__ = ["Pool"]

MIN_ITEMSIZE = 4
"""Bytes of float32, the smallest type that is computed in: its blocks have the most elements."""


@dataclass(frozen=True)
class Pool(Op):
    """Base of the pooling ops: windows of one size, or as many as are wanted, over every channel of an input."""

    operands: ClassVar[tuple[Operand, ...]] = (
        Operand("input", "Activations: (N, *spatial, C), or (N, C, *spatial) with channels_first."),
    )
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
    stride: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS), "Distance from one window to the next; kernel_size if not given.", None
    )
    padding: Padding = parameter(
        PADDING, "Padding around the input; same gives ceil(n / stride) outputs with the odd element at the end.", 0
    )
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one tap of a window to the next; 1 is dense.", 1)
    ceil_mode: bool = parameter(
        FLAG, "Round the output size up; the last window must start in the input or its leading padding.", False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("a pooling", self.kernel_size, self.output_size)
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
                got = describe(getattr(self, name))
                raise ParameterError(
                    name,
                    f"{name} has no meaning with output_size, which lays the windows itself; got {got}",
                    got=got,
                    expected="output_size alone",
                )

    def _defaults_beside(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:
        defaults = super()._defaults_beside(given, framework)
        # windows of a wanted number have no stride, whatever a framework's is
        return {name: value for name, value in defaults.items() if name != "stride" or "output_size" not in given}

    def resolve(self, input_shape: Sequence[int]) -> ResolvedOp[AnyWindows]:
        """Resolve the pooling for an input of this shape; allocates nothing.

        Raises
        ------
        ParameterError, ShapeError
            If the shape and the parameters do not fit each other.
        """
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        windows = self._windows(spatial)
        if self._needs_real_taps():
            _require_real_taps(windows)
        problem = self._problem(batch, channels, windows, MIN_ITEMSIZE)
        output_shape = layer_shape(batch, windows.output_sizes, channels, self.data_format)
        return ResolvedOp(
            result_shapes=dict.fromkeys(self.result_names(), output_shape),
            gradient_shapes={"input": layer_shape(batch, spatial, channels, self.data_format)},
            windows=windows,
            multiply_accumulates=batch * channels * math.prod(axis.tap_count for axis in windows.axes),
            costs=lambda: problem.costs(self._kernel(windows, np.dtype(np.float64))),
        )

    def _checked_gradient(self, grad_output: ArrayLike, resolved: ResolvedOp[Any]) -> NDArray[Any]:
        try:
            return super()._checked_gradient(grad_output, resolved)
        except ShapeError as error:
            if self.stride is not None or self.kernel_size is None:
                raise
            raise error.with_hint("stride is not given, so it is kernel_size") from None

    def _windows(self, spatial: tuple[int, ...]) -> AnyWindows:
        if self.output_size is not None:
            return resolve_adaptive(spatial, self.output_size)
        assert self.kernel_size is not None  # noqa: S101  (checked when the op was made)
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

    def _pooled(self, input: NDArray[Any], results: Sequence[NDArray[Any]], windows: AnyWindows) -> None:
        """Write the results of all windows."""
        dtype = accumulation_dtype(common_dtype(input))
        pool_forward(self._problem_of(input, windows), self._kernel(windows, dtype), input, results)

    def _gradient(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Return the gradient with respect to the input."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        gradient = self._checked_gradient(grad_output, resolved)
        dtype = common_dtype(gradient, input)
        grad_input = np.empty(input.shape, dtype=dtype)
        kernel = self._kernel(resolved.windows, accumulation_dtype(dtype))
        pool_backward(self._problem_of(input, resolved.windows), kernel, input, gradient, grad_input)
        return grad_input

    def _needs_real_taps(self) -> bool:
        """Return whether a window with no tap inside the input has no value."""
        return True

    def _spatial_axes(self, windows: AnyWindows) -> range:
        return spatial_axes(len(windows.axes), self.data_format)

    def _problem(self, batch: int, channels: int, windows: AnyWindows, itemsize: int) -> PoolProblem:
        outer, inner = ((batch,), channels) if self.data_format == "channels_last" else ((batch, channels), 1)
        return PoolProblem(outer, inner, windows, itemsize)

    def _problem_of(self, input: NDArray[Any], windows: AnyWindows) -> PoolProblem:
        batch, _, channels = split_layer_shape("input", input.shape, self.data_format)
        return self._problem(batch, channels, windows, accumulation_dtype(common_dtype(input)).itemsize)


def _require_real_taps(windows: AnyWindows) -> None:
    for number, axis in enumerate(windows.axes):
        if axis.has_window_in_padding():
            raise ShapeError(
                "input",
                f"a window lies wholly in the padding {windows.padding[number]} of spatial axis {number}, where the "
                f"input has {axis.size} elements; every window needs at least one tap inside the input",
                got="a window without a tap inside the input",
                expected="at least one tap of every window inside the input",
            )
