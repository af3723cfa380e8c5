"""What the convolution ops share: channels and groups, the shape of a bias, and the computation in its layout."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError, describe, number_of
from ..geometry import Windows, resolve_windows
from ..kernels.channel_sums import channel_sums
from ..kernels.conv.problem import ConvProblem, conv_problem
from ..kernels.conv.select import taken
from ..kernels.passes import converted
from ..operands import Layout, accumulation_dtype, channels_last_view, checked_sequence, common_dtype, describe_shape
from ..parameters import Algorithm, Direction, Framework, Padding, PerAxis, TakenAlgorithm, parameter, subset_of
from .base import INPUT, Op, Operand, ResolvedOp, computation
from .docstrings import documented
from .rules import ALGORITHM, DILATION_TEXT, GROUPS, PADDING, POSITIVE_PER_AXIS, SAME_TEXT, STRIDE_TEXT
from .weight_layout import WEIGHT_AXES, Weight, split_weight_shape

__all__ = [
    "OUTPUT_AXES",
    "OUTPUT_CHANNELS",
    "WEIGHT",
    "ConvGradients",
    "Convolution",
    "DifferentiableConvolution",
    "checked_bias_shape",
]

Array = NDArray[Any]

WEIGHT = Operand("weight", f"Kernels: {WEIGHT_AXES}.", WEIGHT_AXES)
OUTPUT_CHANNELS = Layout(("C_out",), ("C_out",))
OUTPUT_AXES = Layout(("N", "*spatial", "C_out"), ("N", "C_out", "*spatial"))


class ConvGradients(NamedTuple):
    """The gradients of a convolution; None for those that were not requested."""

    grad_input: Array | None = None
    grad_weight: Array | None = None
    grad_bias: Array | None = None


@dataclass(frozen=True, kw_only=True)
class ResolvedConvolution(ResolvedOp[Windows]):
    """A differentiable convolution of given shapes.

    Parameters
    ----------
    problem : callable
        Returns the cross-correlation that is computed, or whose adjoint is, for an itemsize of the sums.
    """

    algorithm: Callable[[int, Direction], TakenAlgorithm]
    problem: Callable[[int], ConvProblem]


@dataclass(frozen=True)
class Convolution(Op):
    """Base of the convolution ops: windows of an input meet a weight, group by group."""

    output_layout: ClassVar[Layout] = OUTPUT_AXES
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"jax": {"data_format": "channels_first"}}

    stride: PerAxis = parameter(POSITIVE_PER_AXIS, STRIDE_TEXT, 1)
    padding: Padding = parameter(PADDING, f"Padding around the input; {SAME_TEXT}", 0)
    dilation: PerAxis = parameter(POSITIVE_PER_AXIS, DILATION_TEXT, 1)
    groups: int = parameter(
        GROUPS, "Number of groups that the channels are divided into; equal to the number of channels: depthwise.", 1
    )

    def _kernel_first(self, weight: Array) -> Array:
        """View a weight of either layout as (*kernel, C/groups, C_out)."""
        return weight if self.data_format == "channels_last" else np.moveaxis(weight, (0, 1), (-1, -2))

    def _over_input(
        self, spatial: tuple[int, ...], channels: int, weight_shape: Sequence[int]
    ) -> tuple[Weight, Windows]:
        """Return the weight, which must fit an input, and its windows over that input."""
        weight = split_weight_shape(weight_shape, len(spatial), self.data_format)
        if channels != weight.group_channels * self.groups:
            raise ShapeError(
                "weight",
                "must have",
                f"{number_of(channels, 'channel', 'channels')} in all groups together",
                got=number_of(weight.group_channels * self.groups, "channel", "channels")
                + (f", {weight.group_channels} in each of {self.groups} groups" if self.groups > 1 else ""),
                reason="as input has",
            )
        self._require_groups(weight)
        windows = resolve_windows(
            spatial, weight.kernel_sizes, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        return weight, windows

    def _require_groups(self, weight: Weight) -> None:
        if weight.features % self.groups:
            raise ParameterError(
                "groups",
                "must be",
                f"a divisor of {weight.features}",
                got=describe(self.groups),
                reason="the channels C_out of weight",
            )


def checked_bias_shape(bias_shape: Sequence[int] | None, channels: int, rank: int) -> tuple[int, ...]:
    """Return the shape of a bias: (channels,), also if there is none, or with ones before it for every other axis."""
    if bias_shape is None:
        return (channels,)
    shape = checked_sequence("bias", bias_shape)
    if not shape:
        raise ShapeError(
            "bias",
            "must be",
            f"a list of {number_of(channels, 'value', 'values')}",
            got="a number",
            reason="one for each output channel, such as [0.5] for one channel",
        )
    whole = (1,) * (rank + 1) + (channels,)
    if shape not in ((channels,), whole):
        raise ShapeError(
            "bias",
            "must have shape",
            f"{(channels,)} or {whole}",
            got=describe_shape(shape),
            reason="one value for each output channel",
        )
    return shape


@documented
@dataclass(frozen=True)
class DifferentiableConvolution(Convolution):
    """Base of the ops that are linear in their input and their weight: what forward and backward have in common."""

    operands: ClassVar[tuple[Operand, ...]] = (
        INPUT,
        WEIGHT,
        Operand(
            "bias",
            f"One value for each output channel: {OUTPUT_CHANNELS}, or (1, ..., 1, C_out) with as many axes as input.",
            OUTPUT_CHANNELS,
            optional=True,
        ),
    )
    differentiable: ClassVar[tuple[str, ...]] = ("input", "weight", "bias")

    algorithm: Algorithm = parameter(
        ALGORITHM,
        "How the sums are computed: auto and direct sum the products directly, so integer-valued sums are exact; "
        "fastest may lose precision (error up to 1e-5 of the largest result, float32 only); winograd (windows of 3 x "
        "3) and fft round more. Where one does not apply, direct is used.",
        "auto",
    )

    def _problem_and_algorithm(
        self, batch: int, weight: Weight, windows: Windows, *, transposed: bool = False
    ) -> dict[str, Any]:
        """Return the fields of that name of a ResolvedConvolution."""
        problem = functools.cache(
            functools.partial(conv_problem, batch, weight.kernel_first_shape, self.groups, windows)
        )

        @functools.cache
        def algorithm(itemsize: int, direction: Direction) -> TakenAlgorithm:
            return taken(problem(itemsize), self.algorithm, direction, transposed=transposed)

        return {"problem": problem, "algorithm": algorithm}

    @abstractmethod
    def resolve(  # noqa: D102
        self, input_shape: Sequence[int], weight_shape: Sequence[int], bias_shape: Sequence[int] | None = None
    ) -> ResolvedConvolution: ...

    # All arrays are channels-last, the weight (*kernel, C/groups, C_out), the bias with one axis.

    @abstractmethod
    def _write_output(
        self, resolved: ResolvedConvolution, input: Array, weight: Array, bias: Array | None, output: Array
    ) -> None: ...

    @abstractmethod
    def _write_grad_input(
        self, resolved: ResolvedConvolution, grad_output: Array, weight: Array, grad_input: Array
    ) -> None: ...

    @abstractmethod
    def _write_grad_weight(
        self, resolved: ResolvedConvolution, input: Array, grad_output: Array, grad_weight: Array
    ) -> None: ...

    @computation
    def forward(self, input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
        """Compute the convolution."""
        input, weight, bias = self._arrays(input, weight, bias)
        resolved = self._resolved(input, weight, bias)
        dtype = common_dtype(input, weight, bias)
        sums = accumulation_dtype(dtype)
        output = np.empty(resolved.output_shape, dtype=sums)
        self._write_output(
            resolved,
            channels_last_view(input, self.data_format),
            self._kernel_first(converted(weight, sums)),
            None if bias is None else bias.reshape(-1).astype(sums, copy=False),
            channels_last_view(output, self.data_format),
        )
        return converted(output, dtype)

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

        Returns
        -------
        ConvGradients
            grad_input, grad_weight and grad_bias, each of its operand's shape and of the operands' common floating
            dtype. grad_bias is computed whether or not a bias was given; without one its shape is that of one axis.
            Elements of the input that no window covers have gradient 0.
        """
        wrt = subset_of(self.differentiable).check("wrt", wrt)
        input, weight, bias = self._arrays(input, weight, bias)
        resolved = self._resolved(input, weight, bias)
        gradient = self._checked_gradient(grad_output, resolved)
        dtype = common_dtype(gradient, input, weight, bias)
        sums = accumulation_dtype(dtype)
        shapes, by_position = resolved.gradient_shapes, channels_last_view(gradient, self.data_format)
        grad_input = grad_weight = grad_bias = None
        if "input" in wrt:
            grad_input = np.empty(shapes["input"], dtype=sums)
            target = channels_last_view(grad_input, self.data_format)
            self._write_grad_input(resolved, by_position, self._kernel_first(converted(weight, sums)), target)
            grad_input = converted(grad_input, dtype)
        if "weight" in wrt:
            grad_weight = np.empty(shapes["weight"], dtype=sums)
            target = self._kernel_first(grad_weight)
            self._write_grad_weight(resolved, channels_last_view(input, self.data_format), by_position, target)
            grad_weight = converted(grad_weight, dtype)
        if "bias" in wrt:
            grad_bias = converted(converted(channel_sums(by_position), sums), dtype).reshape(shapes["bias"])
        return ConvGradients(grad_input, grad_weight, grad_bias)
