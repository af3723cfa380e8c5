"""Max unpooling: the values of a max pooling back at their positions."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, describe
from ..geometry import AdaptiveAxis, AnyWindows, resolve_transposed
from ..kernels.cost import Cost, Costs
from ..kernels.passes import contiguous, parts
from ..operands import ACTIVATIONS, checked_sequence, common_dtype, layer_shape, require_shape, split_layer_shape
from ..parameters import Direction, Framework, Padding, PerAxis, one_per_axis, optional, parameter
from .base import Operand, ResolvedOp
from .docstrings import documented
from .indices import Indexed, as_indices
from .rules import PADDING, POSITIVE_PER_AXIS, STRIDE_TEXT, is_padded, require_size

__all__ = ["MaxUnpool"]

INDEX_DTYPES = (
    *(f"{sign}int{bits}" for bits in (64, 32, 16, 8) for sign in ("", "u")),
    "float64",
    "float32",
    "float16",
)
MOVE = 50
"""Work of an element that is scattered or gathered by its index."""


@documented
@dataclass(frozen=True)
class MaxUnpool(Indexed):
    """Max unpooling.

    Notes
    -----
    Sizes as in PyTorch (``MaxUnpool2d``) and ONNX (``MaxUnpool``). Where several values have the same index, the last
    one in row-major order is in the output, and it alone gets the gradient; PyTorch leaves the value undefined and
    gives all of them the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> values, positions = np.array([3.0, 2.0]).reshape(1, 2, 1), np.array([1, 3]).reshape(1, 2, 1)
    >>> MaxUnpool(kernel_size=2).forward(values, positions).ravel().tolist()
    [0.0, 3.0, 0.0, 2.0]
    """

    description: ClassVar[str] = (
        "Max unpooling over 1, 2 or 3 spatial axes: zeros, and each value at the position that its index names.\n\n"
        "`output[position that indices[n, i, c] counts] = input[n, i, c]`."
    )

    operands: ClassVar[tuple[Operand, ...]] = (
        Operand("input", f"Pooled values: {ACTIVATIONS}.", ACTIVATIONS),
        Operand("indices", "The index of each value: of input's shape.", ACTIVATIONS, dtypes=INDEX_DTYPES),
    )
    differentiable: ClassVar[tuple[str, ...]] = ("input",)
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"onnx": {"stride": 1}}

    kernel_size: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS), "Size of the windows that were pooled; needed unless output_size is given.", None
    )
    stride: PerAxis | None = parameter(optional(POSITIVE_PER_AXIS), f"{STRIDE_TEXT} kernel_size if not given.", None)
    padding: Padding = parameter(PADDING, "Padding of the input that was pooled.", 0)
    output_size: PerAxis | None = parameter(
        optional(POSITIVE_PER_AXIS),
        "The requested spatial sizes. With framework=onnx, indices still refer to those that kernel_size gives; the "
        "values are then at the start of the output.",
        None,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size(self.kernel_size, self.output_size)
        if self.kernel_size is None:
            for name, is_given in (("stride", self.stride is not None), ("padding", is_padded(self.padding))):
                if is_given:
                    raise ParameterError(
                        name, "must be", "left out without kernel_size", got=describe(getattr(self, name))
                    )

    def _defaults_for(self, given: Mapping[str, Any], framework: Framework) -> Mapping[str, Any]:
        defaults = super()._defaults_for(given, framework)
        # without kernel_size there is no stride, whatever the framework's default is
        return {name: value for name, value in defaults.items() if name != "stride" or "kernel_size" in given}

    def resolve(  # noqa: D102
        self, input_shape: Sequence[int], indices_shape: Sequence[int] | None = None
    ) -> ResolvedOp[AnyWindows]:
        batch, spatial, channels = split_layer_shape("input", input_shape, self.data_format, self.spatial_axes)
        shape = layer_shape(batch, spatial, channels, self.data_format)
        if indices_shape is not None:
            require_shape(
                "indices", checked_sequence("indices", indices_shape), shape, "one index for each element of input"
            )
        windows = self._windows(spatial)
        sizes = self._sizes(windows)
        elements = math.prod(shape)
        return ResolvedOp(
            result_shapes={"output": layer_shape(batch, sizes, channels, self.data_format)},
            gradient_shapes={"input": shape},
            windows=windows,
            multiply_accumulates=elements,
            costs=functools.partial(_costs, elements, batch * channels * math.prod(sizes)),
        )

    def resolved_parameters(  # noqa: D102
        self, resolved: ResolvedOp[AnyWindows], itemsize: int = 8, direction: Direction = "forward"
    ) -> dict[str, Any]:
        values = super().resolved_parameters(resolved, itemsize, direction)
        if self.padding in ("same", "same_lower"):
            # n * stride elements, which no padding in numbers leads to where the stride exceeds the windows
            values["padding"] = self.padding
        return values

    def forward(self, input: ArrayLike, indices: ArrayLike) -> NDArray[Any]:
        """Put each value at the position that its index names.

        Raises
        ------
        OperandError
            If an index is not a whole number, or is out of range.
        """
        input, indices = self._arrays(input, indices)
        resolved = self._resolved(input, indices)
        positions = self._positions(indices, resolved)
        output = np.zeros(resolved.output_shape, dtype=common_dtype(input))
        values, elements = contiguous(input).reshape(-1), output.reshape(-1)
        for part in parts(positions.shape, positions.itemsize):
            # NumPy keeps the last of several values for one element
            elements[positions[part]] = values[part]
        return output

    def backward(self, grad_output: ArrayLike, input: ArrayLike, indices: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input, indices))`` with respect to the input.

        Returns
        -------
        ndarray, shape of input
            Of the common floating dtype of grad_output and input. A value that another one overwrote has gradient 0.

        Raises
        ------
        OperandError
            If an index is not a whole number, or is out of range.
        """
        input, indices = self._arrays(input, indices)
        resolved = self._resolved(input, indices)
        gradient = self._checked_gradient(grad_output, resolved)
        positions = self._positions(indices, resolved)
        counter = np.arange(positions.size)
        shown = np.empty(gradient.size, dtype=np.int64)
        for part in parts(positions.shape, positions.itemsize):
            shown[positions[part]] = counter[part]
        fetched = np.empty(positions.shape, dtype=common_dtype(gradient, input))
        values = contiguous(gradient).reshape(-1)
        for part in parts(positions.shape, positions.itemsize):
            chosen = positions[part]
            fetched[part] = values[chosen]
            fetched[part][shown[chosen] != counter[part]] = 0
        return fetched.reshape(input.shape)

    def _positions(self, indices: NDArray[Any], resolved: ResolvedOp[AnyWindows]) -> NDArray[np.int64]:
        """Return where in the flat output each element of the flat input goes."""
        batch, sizes, channels = split_layer_shape("output", resolved.output_shape, self.data_format)
        counted = self._counted(batch, resolved.windows.sizes, channels)
        return counted.flat_positions(as_indices("indices", indices, counted.count), sizes).reshape(-1)

    def _sizes(self, windows: AnyWindows) -> tuple[int, ...]:
        """Return the spatial sizes of the output: output_size, or those that indices refer to."""
        counted = windows.sizes
        if self.output_size is None:
            return counted
        sizes = one_per_axis("output_size", self.output_size, len(counted))
        for axis, (size, smallest) in enumerate(zip(sizes, counted, strict=True)):
            if size < smallest:
                raise ParameterError(
                    "output_size",
                    f"must be on spatial axis {axis}",
                    f"at least {smallest}",
                    got=str(size),
                    reason="the size that kernel_size gives and that indices of framework=onnx refer to",
                )
        return sizes

    def _windows(self, spatial: tuple[int, ...]) -> AnyWindows:
        """Return windows over the sizes that indices refer to, one for each value."""
        rank = len(spatial)
        if self.output_size is not None and (self.framework != "onnx" or self.kernel_size is None):
            # the windows do not matter: take those of a pooling to the input's sizes
            sizes = one_per_axis("output_size", self.output_size, rank)
            return AnyWindows(tuple(AdaptiveAxis(size, output) for size, output in zip(sizes, spatial, strict=True)))
        assert self.kernel_size is not None  # noqa: S101  (checked when the op was created)
        return resolve_transposed(
            spatial,
            one_per_axis("kernel_size", self.kernel_size, rank),
            stride=self.kernel_size if self.stride is None else self.stride,
            padding=self.padding,
            dilation=1,
            output_padding=0,
            output_size=None,
            sets_padding=False,
        )


def _costs(elements: int, output_elements: int) -> Costs:
    # for each value: masks of its index and, in 64 bits, the index, its digits, its position and a counter
    workspace = 16 * elements
    forward = Cost(MOVE * elements + output_elements, workspace)
    return Costs(forward, {"input": Cost(MOVE * elements + output_elements, workspace + 2 * output_elements)})
