"""What is computed for one part of a result: functions of the parts of the operands, which any engine may call.

They are objects of a few hundred bytes, so that they can be sent to other machines.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvTranspose, MaxPoolResult, MaxUnpool, OperandError
from cnn_core.kernels.channel_sums import channel_sums
from cnn_core.operands import channels_last_view
from cnn_core.ops.base import Op
from cnn_core.ops.indices import ElementIndices
from cnn_core.parameters import DataFormat

__all__ = ["BackwardTask", "BiasTask", "ForwardTask", "Indices", "Like", "Placement"]

Array = NDArray[Any]
Shape = tuple[int, ...]
Slices = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """An operand whose values do not matter, only its shape and its type."""

    shape: Shape
    dtype: np.dtype[Any]

    def zeros(self) -> Array:
        """Return it as zeros, in the memory of one."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the elements that windows cover are in a part of a result; no window reaches the rest of the part.

    Parameters
    ----------
    shape : tuple of int
        Of the part.
    dtype : dtype
    source, target : tuple of slice
        Of what was computed, and of the part; ``source`` is None if nothing is.
    """

    shape: Shape
    dtype: np.dtype[Any]
    source: Slices | None = None
    target: Slices | None = None

    def of(self, computed: Array | None, rest: Any = 0) -> Array:
        """Return the part, with ``rest`` where no window reaches."""
        if computed is not None and self.source is not None:
            shown = computed[self.source]
            if shown.shape == self.shape:
                return np.ascontiguousarray(shown)  # a view would keep what is around it in memory
        part = np.empty(self.shape, dtype=self.dtype)
        part[...] = rest
        if computed is not None and self.source is not None and self.target is not None:
            part[self.target] = computed[self.source]
        return part


@dataclass(frozen=True, slots=True)
class Indices:
    """How indices of elements of a part become those of the whole, and back.

    Parameters
    ----------
    counted : ElementIndices
        How the elements of the whole are counted.
    image, channel : int
        The first image and the first channel of the part.
    plane : tuple of (start, stop)
        The part of the plane along each axis.
    """

    counted: ElementIndices
    image: int = 0
    channel: int = 0
    plane: tuple[tuple[int, int], ...] = ()

    @property
    def _before(self) -> int:
        """The indices of all elements before the first image and channel."""
        counted = self.counted
        plane = math.prod(counted.spatial)
        if counted.scheme == "plane":
            return 0
        first = self.channel * (1 if counted.data_format == "channels_last" else plane)
        return first + (self.image * plane * counted.channels if counted.scheme == "tensor" else 0)

    def of_whole(self, in_part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the whole for row-major ones of the part's plane."""
        sizes = [stop - start for start, stop in self.plane]
        positions = np.unravel_index(in_part, sizes)
        moved = tuple(along + start for along, (start, _) in zip(positions, self.plane, strict=True))
        in_plane = np.ravel_multi_index(moved, self.counted.spatial).astype(np.int64, copy=False)
        return self.counted.encode(in_plane) + self._before

    def of_part(self, indices: Array) -> Array:
        """Return the indices of the part's images for those of the whole; they are negative before the part."""
        if not self._before:
            return indices
        return indices.astype(np.int64 if indices.dtype.kind in "iu" else np.float64) - self._before

    @contextlib.contextmanager
    def of_own_images(self) -> Iterator[None]:
        """Let an error say what it may come from, if indices count the whole tensor."""
        try:
            yield
        except OperandError as error:
            if self.counted.scheme == "tensor":
                error.add_hint(
                    f"where chunks begin with image {self.image}, an index less {self._before}, as with "
                    "index_scheme=tensor it must be of an image of its own chunk; if it is of another one, rechunk the "
                    "input and the indices: rechunk({0: -1})"
                )
            raise


@dataclass(frozen=True)
class ForwardTask:
    """One part of an output.

    Parameters
    ----------
    op : Op
        With the padding of the part.
    zeros : tuple of (before, after), optional
        Padding that the input gets as elements, along each of its axes.
    zero_point : int, optional
        The operand that has the value of such elements; 0 without.
    placement : Placement, optional
        If more is computed, or less, than the part.
    indices : Indices, optional
        Of the results or the operand, if there are indices.
    """

    op: Op
    zeros: tuple[tuple[int, int], ...] = ()
    zero_point: int | None = None
    placement: Placement | None = None
    indices: Indices | None = None

    def __call__(self, input: Any, *operands: Any) -> Any:
        """Compute the part from that of the input, None if it needs none, and the other operands; None if left out."""
        if self.zeros:
            given = None if self.zero_point is None else operands[self.zero_point - 1]
            input = np.pad(input, self.zeros, constant_values=0 if given is None else given.item())
        op: Any = self.op
        if isinstance(op, MaxUnpool) and self.indices is not None:
            with self.indices.of_own_images():
                return op.forward(input, self.indices.of_part(operands[0]))
        if isinstance(op, ConvTranspose) and self.placement is not None:
            bias = operands[1] if len(operands) > 1 else None
            channels = (-1, *(1,) * (len(self.placement.shape) - 2)) if op.data_format == "channels_first" else (-1,)
            rest = 0 if bias is None else bias.reshape(channels)
            computed = None if self.placement.source is None else op.forward(input, *operands)
            return self.placement.of(computed, rest)
        result = op.forward(input, *operands)
        if self.placement is not None:
            return self.placement.of(result)
        if isinstance(result, MaxPoolResult) and self.indices is not None:
            return MaxPoolResult(result.output, self.indices.of_whole(result.indices))
        return result


@dataclass(frozen=True)
class BackwardTask:
    """One part of a gradient, or one summand of it.

    Parameters
    ----------
    op : Op
        With the padding of the part.
    wrt : str
        The operand.
    operands : tuple
        Like in the place of each operand whose values do not matter, and None of each that is an argument.
    zeros : tuple of (tuple of (before, after))
        Padding that grad_output, and the input, get as elements.
    dtype : dtype, optional
        What grad_output is converted to before anything is computed, so that a summand is not rounded.
    placement : Placement, optional
        If more is computed, or less, than the part.
    indices : Indices, optional
        Of the operand, if it has indices.
    """

    op: Op
    wrt: str
    operands: tuple[Like | None, ...]
    zeros: tuple[tuple[tuple[int, int], ...], ...] = ((), ())
    dtype: np.dtype[Any] | None = None
    placement: Placement | None = None
    indices: Indices | None = None

    def __call__(self, grad_output: Array, *given: Any) -> Array:
        """Compute the part from that of grad_output and the operands that matter."""
        if self.placement is not None and self.placement.source is None:
            return self.placement.of(None)
        rest = iter(given)
        operands = [next(rest) if like is None else like.zeros() for like in self.operands]
        if isinstance(self.op, MaxUnpool) and self.indices is not None:
            with self.indices.of_own_images():
                return self.op.backward(grad_output, operands[0], self.indices.of_part(operands[1]))
        grad_output, operands[0] = (
            np.pad(array, zeros) if zeros else array
            for array, zeros in zip((grad_output, operands[0]), self.zeros, strict=True)
        )
        if self.dtype is not None:
            grad_output = grad_output.astype(self.dtype, copy=False)
        op: Any = self.op
        if len(op.differentiable) == 1:
            gradient = op.backward(grad_output, *operands)
        else:
            gradient = getattr(op.backward(grad_output, *operands, wrt=(self.wrt,)), f"grad_{self.wrt}")
        return gradient if self.placement is None else self.placement.of(gradient)


@dataclass(frozen=True, slots=True)
class BiasTask:
    """One summand of the gradient of a bias: the sums of a part of grad_output over all axes but its channels.

    Parameters
    ----------
    data_format : str
    shape : tuple of int
        Of the bias.
    """

    data_format: DataFormat
    shape: Shape

    def __call__(self, grad_output: Array) -> Array:
        """Return the sums in float64."""
        with np.errstate(all="ignore"):
            return channel_sums(channels_last_view(grad_output, self.data_format)).reshape(self.shape)
