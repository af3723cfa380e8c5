"""What the convolution ops share: the layout of a weight, its channels and groups, and the shape of a bias."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.errors import ParameterError, ShapeError, describe, number_of
from cnn_core.geometry import Windows, resolve_windows
from cnn_core.kernels.channel_sums import channel_sums
from cnn_core.operands import (
    accumulation_dtype,
    as_operand,
    channels_last_view,
    checked_sequence,
    common_dtype,
    describe_shape,
    require_sizes,
)
from cnn_core.ops.base import Op, ResolvedOp, computation
from cnn_core.parameters import (
    ALGORITHM,
    PADDING,
    POSITIVE_PER_AXIS,
    Algorithm,
    Framework,
    Padding,
    PerAxis,
    TakenAlgorithm,
    integer_from,
    parameter,
    subset_of,
)

__all__ = ["ConvGradients", "Convolution", "DifferentiableConvolution", "Weight", "checked_bias_shape"]


class ConvGradients(NamedTuple):
    """The gradients of a convolution; None for those that were not asked for."""

    grad_input: NDArray[Any] | None = None
    grad_weight: NDArray[Any] | None = None
    grad_bias: NDArray[Any] | None = None


@dataclass(frozen=True)
class Weight:
    """The sizes of a weight.

    Parameters
    ----------
    shape : tuple of int
        In the layout of its op.
    kernel_sizes : tuple of int
    group_channels : int
        Channels of one group, C/groups.
    features : int
        Channels on the other side, C_out.
    """

    shape: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    group_channels: int
    features: int

    @property
    def kernel_first_shape(self) -> tuple[int, ...]:
        """(*kernel, C/groups, C_out)."""
        return (*self.kernel_sizes, self.group_channels, self.features)


@dataclass(frozen=True)
class Convolution(Op):
    """Base of the convolution ops: windows of an input meet a weight, group by group."""

    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"jax": {"data_format": "channels_first"}}

    stride: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one window to the next.", 1)
    padding: Padding = parameter(
        PADDING, "Padding around the input; same gives ceil(n / stride) outputs with the odd element at the end.", 0
    )
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, "Distance from one tap of a window to the next; 1 is dense.", 1)
    groups: int = parameter(integer_from(1), "Number of groups that the channels are divided into.", 1)

    def _kernel_first(self, weight: NDArray[Any]) -> NDArray[Any]:
        """View a weight of either layout as (*kernel, C/groups, C_out)."""
        return weight if self.data_format == "channels_last" else np.moveaxis(weight, (0, 1), (-1, -2))

    def _split_weight_shape(self, weight_shape: Sequence[int], rank: int) -> Weight:
        shape = checked_sequence("weight", weight_shape)
        if len(shape) != rank + 2:
            layout = (
                "(*kernel, C/groups, C_out)" if self.data_format == "channels_last" else "(C_out, C/groups, *kernel)"
            )
            hints = {
                rank + 3: "the batch axis of input is missing, or weight has an axis too many",
                rank + 1: "weight lacks an axis, perhaps one of size 1, or input has one too many",
            }
            raise ShapeError(
                "weight",
                "weight must have",
                expected=f"{rank + 2} axes: {layout}",
                got=f"{len(shape)} axes",
                reason="as many as input",
                hint=hints.get(len(shape), ""),
            )
        require_sizes("weight", shape)
        if self.data_format == "channels_last":
            return Weight(shape, shape[:-2], shape[-2], shape[-1])
        return Weight(shape, shape[2:], shape[1], shape[0])

    def _over_input(
        self, spatial: tuple[int, ...], channels: int, weight_shape: Sequence[int]
    ) -> tuple[Weight, Windows]:
        """Return the weight, which must fit an input, and its windows over that input."""
        weight = self._split_weight_shape(weight_shape, len(spatial))
        self._require_group_channels(channels, weight)
        windows = resolve_windows(
            spatial, weight.kernel_sizes, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        return weight, windows

    def _require_groups(self, weight: Weight) -> None:
        if weight.features % self.groups:
            raise ParameterError(
                "groups",
                "groups must be",
                expected=f"a divisor of {weight.features}",
                got=describe(self.groups),
                reason="the channels C_out of weight",
            )

    def _require_group_channels(self, channels: int, weight: Weight) -> None:
        if channels != weight.group_channels * self.groups:
            raise ShapeError(
                "weight",
                "weight must have",
                expected=f"{number_of(channels, 'channel', 'channels')} in all groups together",
                got=f"{weight.group_channels * self.groups}: {weight.group_channels} in each of {self.groups} groups",
                reason="as input has",
            )
        self._require_groups(weight)


def checked_bias_shape(bias_shape: Sequence[int] | None, channels: int, rank: int) -> tuple[int, ...]:
    """Return the shape of a bias, (channels,) if there is none.

    Raises
    ------
    ShapeError
        If it is neither (channels,) nor as many axes as the input has, all but the last one of size 1.
    """
    if bias_shape is None:
        return (channels,)
    shape = checked_sequence("bias", bias_shape)
    if not shape:
        raise ShapeError(
            "bias",
            "bias must be",
            expected=f"a list of {number_of(channels, 'value', 'values')}",
            got="a number",
            reason="one for each output channel, such as [0.5] for one channel",
        )
    whole = (1,) * (rank + 1) + (channels,)
    if shape not in ((channels,), whole):
        raise ShapeError(
            "bias",
            "bias must have shape",
            expected=f"{(channels,)} or {whole}",
            got=describe_shape(shape),
            reason="one value for each output channel",
        )
    return shape


@dataclass(frozen=True)
class DifferentiableConvolution(Convolution):
    """Base of the ops that are linear in their input and their weight: what forward and backward have in common."""

    differentiable: ClassVar[tuple[str, ...]] = ("input", "weight", "bias")

    algorithm: Algorithm = parameter(
        ALGORITHM,
        "How the sums are computed: auto and direct add the products themselves, so that sums of integers are exact; "
        "winograd (windows of 3 x 3) and fft round more; fastest takes whichever is fastest in float32 within that "
        "bound. Where one does not apply, direct is taken.",
        "auto",
    )

    @abstractmethod
    def resolve(
        self,
        input_shape: Sequence[int],
        weight_shape: Sequence[int],
        bias_shape: Sequence[int] | None = None,
    ) -> ResolvedOp[Windows]:
        """Resolve the op for operands of these shapes; allocates nothing."""

    @abstractmethod
    def _write_output(
        self,
        input: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        windows: Windows,
        output: NDArray[Any],
        algorithm: TakenAlgorithm,
    ) -> None:
        """Write the output; all arrays channels-last, the weight (*kernel, C/groups, C_out), the bias with one axis."""

    @abstractmethod
    def _write_grad_input(
        self,
        grad_output: NDArray[Any],
        weight: NDArray[Any],
        windows: Windows,
        grad_input: NDArray[Any],
        algorithm: TakenAlgorithm,
    ) -> None:
        """Write the gradient with respect to the input; layouts as in ``_write_output``."""

    @abstractmethod
    def _write_grad_weight(
        self,
        input: NDArray[Any],
        grad_output: NDArray[Any],
        windows: Windows,
        grad_weight: NDArray[Any],
        algorithm: TakenAlgorithm,
    ) -> None:
        """Write the gradient with respect to the weight; layouts as in ``_write_output``."""

    @computation
    def forward(self, input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> NDArray[Any]:
        """Compute the convolution.

        Parameters
        ----------
        input : array_like, shape (N, *spatial, C) or (N, C, *spatial)
        weight : array_like, shape (*kernel, C/groups, C_out) or (C_out, C/groups, *kernel)
        bias : array_like, shape (C_out,) or (1, ..., 1, C_out) with as many axes as input, optional
            Of dtype float16, float32, float64 or an integer type, as all operands.

        Returns
        -------
        ndarray, shape (N, *output, C_out) or (N, C_out, *output)
            Of the operands' common floating dtype; integers count as float64.

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither float16, float32, float64 nor an integer of at most 64 bits.
        """
        input, weight = as_operand("input", input), as_operand("weight", weight)
        bias = None if bias is None else as_operand("bias", bias)
        resolved = self._resolved(input, weight, bias)
        dtype = common_dtype(input, weight, bias)
        sums = accumulation_dtype(dtype)
        output = np.empty(resolved.output_shape, dtype=sums)
        self._write_output(
            channels_last_view(input, self.data_format),
            self._kernel_first(weight.astype(sums, copy=False)),
            None if bias is None else bias.reshape(-1).astype(sums, copy=False),
            resolved.windows,
            channels_last_view(output, self.data_format),
            resolved.algorithm(sums.itemsize, "forward"),
        )
        return output.astype(dtype, copy=False)

    @computation
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        wrt: Sequence[str] = ("input", "weight", "bias"),
    ) -> ConvGradients:
        """Compute the gradients of ``sum(grad_output * forward(input, weight, bias))``.

        Parameters
        ----------
        grad_output : array_like, shape of the output of ``forward``
        input, weight, bias : array_like
            The operands of ``forward``.
        wrt : sequence of {"input", "weight", "bias"}
            The operands whose gradients are computed.

        Returns
        -------
        ConvGradients
            grad_input, grad_weight and grad_bias, each of its operand's shape and of the operands' common floating
            dtype. grad_bias is computed whether or not a bias was given; without one its shape is (C_out,). Elements of
            the input that no window covers have gradient 0.

        Raises
        ------
        ParameterError
            If a per-axis parameter has another number of entries than the input has spatial axes.
        ShapeError
            If the shapes of the operands fit neither each other nor the parameters.
        DtypeError
            If an operand is neither float16, float32, float64 nor an integer of at most 64 bits.
        """
        wrt = subset_of(self.differentiable).check("wrt", wrt)
        input, weight = as_operand("input", input), as_operand("weight", weight)
        bias = None if bias is None else as_operand("bias", bias)
        resolved = self._resolved(input, weight, bias)
        gradient = self._checked_gradient(grad_output, resolved)
        dtype = common_dtype(gradient, input, weight, bias)
        sums = accumulation_dtype(dtype)
        shapes = resolved.gradient_shapes
        results = {f"grad_{name}": np.empty(shapes[name], dtype=sums) for name in wrt}
        by_position = channels_last_view(gradient, self.data_format)
        algorithm = resolved.algorithm(sums.itemsize, "backward")
        if "input" in wrt:
            self._write_grad_input(
                by_position,
                self._kernel_first(weight.astype(sums, copy=False)),
                resolved.windows,
                channels_last_view(results["grad_input"], self.data_format),
                algorithm,
            )
        if "weight" in wrt:
            self._write_grad_weight(
                channels_last_view(input, self.data_format),
                by_position,
                resolved.windows,
                self._kernel_first(results["grad_weight"]),
                algorithm,
            )
        if "bias" in wrt:
            results["grad_bias"][...] = channel_sums(by_position).reshape(shapes["bias"])
        return ConvGradients(**{name: array.astype(dtype, copy=False) for name, array in results.items()})
