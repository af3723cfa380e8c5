"""Unfolding an input into its patches (im2col), and folding patches back (col2im)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError, number_of
from ..geometry import Windows, resolve_windows
from ..kernels.cost import Cost, Costs
from ..kernels.folding import fold, patch_costs, unfold
from ..kernels.passes import converted
from ..operands import (
    Layout,
    accumulation_dtype,
    as_operand,
    channels_last_view,
    checked_sequence,
    common_dtype,
    describe_shape,
    layer_shape,
    require_sizes,
    split_layer_shape,
)
from ..parameters import MAX_RANK, Framework, Padding, PerAxis, one_per_axis, parameter
from .base import INPUT, Op, Operand, ResolvedOp, computation
from .docstrings import documented
from .rules import DILATION_TEXT, LIST_PER_AXIS, PADDING, POSITIVE_PER_AXIS, SAME_TEXT, STRIDE_TEXT

__all__ = ["Fold", "Unfold"]

PATCHES = Layout(("N", "windows", "kernel * C"), ("N", "C * kernel", "windows"))


@dataclass(frozen=True)
class PatchOp(Op):
    """Base of the two ops: activations on one side, a matrix of patches for each image on the other."""

    differentiable: ClassVar[tuple[str, ...]] = ("input",)
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"jax": {"data_format": "channels_first"}}

    kernel_size: PerAxis = parameter(POSITIVE_PER_AXIS, "Size of the windows.")
    stride: PerAxis = parameter(POSITIVE_PER_AXIS, STRIDE_TEXT, 1)
    padding: Padding = parameter(PADDING, f"Zeros around the activations; {SAME_TEXT}", 0)
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, DILATION_TEXT, 1)

    def _windows(self, spatial: tuple[int, ...], subject: str) -> Windows:
        return resolve_windows(
            spatial,
            one_per_axis("kernel_size", self.kernel_size, len(spatial)),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            subject=subject,
        )

    def _matrix_shape(self, batch: int, channels: int, windows: Windows) -> tuple[int, ...]:
        columns = channels * math.prod(windows.kernel_sizes)
        count = math.prod(windows.output_sizes)
        return (batch, count, columns) if self.data_format == "channels_last" else (batch, columns, count)

    def _patches_view(self, matrix: NDArray[Any], channels: int, windows: Windows) -> NDArray[Any]:
        """View the matrix of patches, which is contiguous, as (N, *O, *K, C)."""
        if self.data_format == "channels_last":
            return matrix.reshape(len(matrix), *windows.output_sizes, *windows.kernel_sizes, channels)
        rank = len(windows.axes)
        by_channel = matrix.reshape(len(matrix), channels, *windows.kernel_sizes, *windows.output_sizes)
        outputs, kernel = range(2 + rank, 2 + 2 * rank), range(2, 2 + rank)
        return by_channel.transpose(0, *outputs, *kernel, 1)

    def _unfolded(self, activations: NDArray[Any], dtype: np.dtype[Any], windows: Windows) -> NDArray[Any]:
        by_position = channels_last_view(activations, self.data_format)
        batch, channels = by_position.shape[0], by_position.shape[-1]
        matrix = np.empty(self._matrix_shape(batch, channels, windows), dtype=dtype)
        unfold(by_position, windows, self._patches_view(matrix, channels, windows))
        return matrix

    def _folded(
        self, matrix: NDArray[Any], dtype: np.dtype[Any], windows: Windows, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        activations = np.zeros(shape, dtype=accumulation_dtype(dtype))
        by_position = channels_last_view(activations, self.data_format)
        fold(self._patches_view(matrix, by_position.shape[-1], windows), windows, by_position)
        return converted(activations, dtype)


@documented
@dataclass(frozen=True)
class Unfold(PatchOp):
    """The patches of an input as a matrix (im2col).

    Notes
    -----
    channels_first is PyTorch's ``unfold``, here for any number of spatial axes. channels_last has the order of
    TensorFlow's ``extract_patches``, which keeps the axes of the windows apart.

    Examples
    --------
    >>> import numpy as np
    >>> Unfold(kernel_size=2).forward(np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)).tolist()
    [[[1.0, 2.0], [2.0, 3.0]]]
    """

    description: ClassVar[str] = (
        "The patches of an input as a matrix (im2col), over 1, 2 or 3 spatial axes.\n\n"
        "Each window is a row of the matrix (channels_last), `matrix[n, o, (k, c)] = padded[n, o * stride + k * "
        "dilation, c]`, or a column of it (channels_first), `matrix[n, (c, k), o]`. So a convolution is a product of "
        "matrices: `matrix @ weight.reshape(-1, F)`, or `weight.reshape(F, -1) @ matrix`."
    )

    operands: ClassVar[tuple[Operand, ...]] = (INPUT,)
    output_layout: ClassVar[Layout] = PATCHES

    def resolve(self, input_shape: Sequence[int]) -> ResolvedOp[Windows]:  # noqa: D102
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        windows = self._windows(spatial, "input")
        return ResolvedOp(
            result_shapes={"output": self._matrix_shape(batch, channels, windows)},
            gradient_shapes={"input": layer_shape(batch, spatial, channels, self.data_format)},
            windows=windows,
            multiply_accumulates=batch * channels * math.prod(axis.tap_count for axis in windows.axes),
            costs=functools.partial(patch_costs, batch * channels, windows),
        )

    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Copy each window into a row, or a column, of a matrix.

        Returns
        -------
        ndarray, shape (N, windows, kernel * C) or (N, C * kernel, windows)
            Of the input's dtype; integers count as float64.
        """
        input = as_operand("input", input)
        return self._unfolded(input, common_dtype(input), self._resolved(input).windows)

    @computation
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to input: fold grad_output."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        gradient = self._checked_gradient(grad_output, resolved)
        return self._folded(gradient, common_dtype(gradient, input), resolved.windows, input.shape)


@documented
@dataclass(frozen=True)
class Fold(PatchOp):
    """Activations from a matrix of patches (col2im).

    Notes
    -----
    channels_first is PyTorch's ``fold``, here for any number of spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> Fold(output_size=[3], kernel_size=2).forward(np.ones((1, 2, 2))).ravel().tolist()
    [1.0, 2.0, 1.0]
    """

    description: ClassVar[str] = (
        "Activations from a matrix of patches (col2im), over 1, 2 or 3 spatial axes: the adjoint of `Unfold`.\n\n"
        "Each element of a patch is added to where `Unfold` takes it from; what comes from the padding is left out."
    )

    operands: ClassVar[tuple[Operand, ...]] = (Operand("input", f"Patches: {PATCHES}.", PATCHES),)

    output_size: tuple[int, ...] = parameter(LIST_PER_AXIS, "The spatial sizes of the output.")

    def __post_init__(self) -> None:
        super().__post_init__()
        rank = len(self.output_size)
        if rank > MAX_RANK:
            raise self._wrong_length(f"1 to {MAX_RANK} entries", "one for each spatial axis")
        if self.spatial_axes not in (None, rank):
            raise self._wrong_length(number_of(self.spatial_axes, "entry", "entries"), "as spatial_axes says")

    def _wrong_length(self, expected: str, reason: str) -> ParameterError:
        got = number_of(len(self.output_size), "entry", "entries")
        return ParameterError("output_size", "must have", expected, got=got, reason=reason)

    def resolve(self, input_shape: Sequence[int]) -> ResolvedOp[Windows]:  # noqa: D102
        shape = checked_sequence("input", input_shape)
        last, layout = self.data_format == "channels_last", PATCHES.text(self.data_format)
        if len(shape) != 3:
            got = number_of(len(shape), "axis", "axes")
            raise ShapeError("input", "must have", f"3 axes: {layout}", got=got)
        require_sizes("input", shape, has_batch=True)
        windows = self._windows(self.output_size, "output_size")
        taps, count = math.prod(windows.kernel_sizes), math.prod(windows.output_sizes)
        columns, rows = (shape[2], shape[1]) if last else (shape[1], shape[2])
        if columns % taps or rows != count:
            raise ShapeError(
                "input",
                "must have shape",
                f"{layout} with {count} windows and a multiple of {taps} elements of kernel * C",
                got=describe_shape(shape),
                reason=f"as output_size is {list(self.output_size)}",
            )
        channels = columns // taps
        return ResolvedOp(
            result_shapes={"output": layer_shape(shape[0], self.output_size, channels, self.data_format)},
            gradient_shapes={"input": shape},
            windows=windows,
            multiply_accumulates=math.prod(shape),
            costs=functools.partial(_fold_costs, shape[0] * channels, windows),
        )

    @computation
    def forward(self, input: ArrayLike) -> NDArray[Any]:
        """Add each patch to where it belongs.

        Returns
        -------
        ndarray, shape (N, *output_size, C) or (N, C, *output_size)
            Of the input's dtype; integers count as float64. float16 is summed in float32.
        """
        input = as_operand("input", input)
        resolved = self._resolved(input)
        return self._folded(input, common_dtype(input), resolved.windows, resolved.output_shape)

    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to input: unfold grad_output."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        gradient = self._checked_gradient(grad_output, resolved)
        return self._unfolded(gradient, common_dtype(gradient, input), resolved.windows)


def _fold_costs(planes: int, windows: Windows) -> Costs:
    costs = patch_costs(planes, windows)
    elements = planes * math.prod(windows.sizes)
    folding = costs.backward["input"]
    return Costs(Cost(folding.work + elements, folding.workspace_elements), {"input": costs.forward})
