"""A layer with operands: what is computed from them, with the parameters as they are or changed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import Conv, ConvpoolError
from cnn_core.geometry import AnyWindows, Windows, resolve_windows
from cnn_core.kernels.cost import Cost
from cnn_core.operands import channels_last_view
from cnn_core.ops.base import Op, ResolvedOp
from cnn_core.ops.pool_base import Pool
from cnn_core.parameters import one_per_axis

from ..operations.operation import CatalogueEntry
from ..operations.tolerance import magnitudes, term_counts

__all__ = ["MIN_ROOM", "Layer", "Reading", "Scenario", "Tensors"]

Array = NDArray[Any]
Tensors = dict[str, Array]
Axes = tuple[int, ...]

MIN_ROOM = 2**17
"""Elements that what is computed with other parameters may take of any layer."""


@dataclass(frozen=True)
class Reading:
    """Another way to read a tensor.

    Parameters
    ----------
    name : str
        An operand, or ``output``: then it is ``grad_output`` that is read otherwise.
    read : callable
        From the tensor as it is to the tensor as it is read.
    undo : callable
        From what belongs to the tensor as it is read (its gradient; the output) to what belongs to it as it is.
    """

    name: str
    read: Callable[[Array], Array]
    undo: Callable[[Array], Array]


@dataclass(frozen=True)
class Scenario:
    """What somebody may have computed in place of a layer.

    Parameters
    ----------
    changes : mapping of str to object
        Parameters with other values.
    readings : tuple of Reading
        Tensors that are read otherwise, one after the other.
    loop : callable, optional
        Computes some of the results in another way: from the changed layer to results by name.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    loop: Callable[[Layer], Tensors] | None = None

    def with_another(self, other: Scenario) -> Scenario | None:
        """Return both together, or None if they contradict each other."""
        if self.changes.keys() & other.changes.keys() or (self.loop and other.loop):
            return None
        return Scenario({**self.changes, **other.changes}, (*self.readings, *other.readings), self.loop or other.loop)


@dataclass(frozen=True, eq=False)
class Layer:
    """An op with its operands.

    Parameters
    ----------
    entry : CatalogueEntry
    op : Op
    tensors : dict of str to ndarray
        The operands of forward, those without a type of their own in float64, and ``grad_output`` if there is one.
    room : int
        Elements that anything may take that is computed with other parameters, or from operands read otherwise.
    """

    entry: CatalogueEntry
    op: Op
    tensors: Tensors
    room: int = MIN_ROOM

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the operands of forward."""
        return {name: tensor.shape for name, tensor in self.tensors.items() if name != "grad_output"}

    @functools.cached_property
    def resolved(self) -> ResolvedOp[Any]:
        """The op for these operands; ConvpoolError if they do not fit."""
        return self.entry.resolve(self.op, self.shapes)

    @property
    def windows(self) -> AnyWindows:
        """The windows over the spatial axes."""
        windows: AnyWindows = self.resolved.windows
        return windows

    @property
    def regular_windows(self) -> Windows | None:
        """The windows, if they are of one size at equal distances."""
        return self.windows if isinstance(self.windows, Windows) else None

    @property
    def rank(self) -> int:
        """How many spatial axes there are."""
        return len(self.windows.axes)

    @property
    def is_channels_last(self) -> bool:
        """Whether the channels are the last axis."""
        return self.op.data_format == "channels_last"

    @property
    def spatial(self) -> Axes:
        """The spatial axes of activations."""
        return tuple(range(1, 1 + self.rank)) if self.is_channels_last else tuple(range(2, 2 + self.rank))

    @property
    def channel_axis(self) -> int:
        """The axis of the channels of activations."""
        return 1 + self.rank if self.is_channels_last else 1

    @property
    def kernel_axes(self) -> Axes:
        """The spatial axes of a weight."""
        return tuple(range(self.rank)) if self.is_channels_last else tuple(range(2, 2 + self.rank))

    def result_shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a result or gradient; None if the layer has none of that name for these operands."""
        if name.startswith("grad_"):
            gradient = self.tensors.get("grad_output")
            if gradient is None or gradient.shape != self.resolved.output_shape:
                return None
            return self.resolved.gradient_shapes.get(name.removeprefix("grad_"))
        return self.resolved.output_shape if name in self.op.results else None

    def by_position(self, name: str) -> Array:
        """Return activations as a view (N, *spatial, C)."""
        return channels_last_view(self.tensors[name], self.op.data_format)

    def work(self, names: Iterable[str]) -> int:
        """Return the predicted work of computing some of the results."""
        return sum(cost.work for cost in self._costs(names))

    def elements(self, names: Collection[str]) -> int:
        """Return the predicted elements of computing some of the results: these, and the largest workspace."""
        results = sum(math.prod(self.result_shape(name) or ()) for name in names)
        return results + max((cost.workspace_elements for cost in self._costs(names)), default=0)

    def _costs(self, names: Iterable[str]) -> list[Cost]:
        costs, names = self.resolved.costs(), tuple(names)
        gradients = [costs.backward[name.removeprefix("grad_")] for name in names if name.startswith("grad_")]
        return gradients if len(gradients) == len(names) else [costs.forward, *gradients]

    def has_room_for_padded(self, windows: Windows) -> bool:
        """Return whether there is room for a copy of the input with its padding, and with what the windows reach."""
        sizes = (max(axis.reach, axis.before + axis.size + axis.after) for axis in windows.axes)
        others = math.prod(self.tensors["input"].shape) // max(1, math.prod(windows.sizes))
        return 2 * others * math.prod(sizes) <= self.room

    def compute(self, names: Iterable[str]) -> Tensors:
        """Compute some of the results and gradients, by name."""
        names = tuple(names)
        op: Any = self.op
        if "indices" in names:
            op = dataclasses.replace(op, return_indices=True)
        arguments = [self.tensors.get(operand.name) for operand in op.operands]
        found: Tensors = {}
        if any(not name.startswith("grad_") for name in names):
            returned = op.forward(*arguments)
            found |= {"output": returned} if isinstance(returned, np.ndarray) else returned._asdict()
        wrt = tuple(name.removeprefix("grad_") for name in names if name.startswith("grad_"))
        if wrt:
            options = {"wrt": wrt} if len(op.differentiable) > 1 else {}
            returned = op.backward(self.tensors["grad_output"], *arguments, **options)
            found |= {"grad_input": returned} if isinstance(returned, np.ndarray) else returned._asdict()
        return {name: found[name] for name in names}

    def magnitudes(self, names: Iterable[str]) -> Tensors:
        """Return for some of the results the sums of the absolute values of their terms, as far as they are sums."""
        return magnitudes(self.op, self.tensors, tuple(names))

    def term_counts(self) -> dict[str, int]:
        """Return how many terms the longest sum of each result has."""
        return term_counts(self.op, self.resolved, self.shapes)

    def changed(self, scenario: Scenario) -> Layer:
        """Return the layer that is computed in a scenario, whose operands are as it reads them.

        Raises
        ------
        ConvpoolError
            If its parameters do not go together.
        """
        tensors = dict(self.tensors)
        for reading in scenario.readings:
            name = "grad_output" if reading.name == "output" else reading.name
            if name in tensors:
                tensors[name] = reading.read(tensors[name])
        return dataclasses.replace(self, op=self._changed_op(scenario.changes), tensors=tensors)

    def _changed_op(self, changes: Mapping[str, Any]) -> Op:
        if not changes:
            return self.op
        selector = self.entry.selector
        if selector and selector in changes:  # another op: it has the parameters that both have
            kind = self.entry.ops[changes[selector]]
            shared = {each.name for each in kind.parameters()}
            values = {name: value for name, value in vars(self.op).items() if name in shared and value is not None}
            return kind(**{**values, **{name: value for name, value in changes.items() if name in shared}})
        return dataclasses.replace(self.op, **changes)

    def computing(self, name: str) -> Layer:
        """Return the layer that a loop computes a result with: for a gradient, as ``with_gradient_of_its_size``."""
        return self.with_gradient_of_its_size if name.startswith("grad_") else self

    @functools.cached_property
    def with_gradient_of_its_size(self) -> Layer:
        """Return the layer with ``grad_output`` as a loop over it reads it, where its sizes are not the output's.

        Where the output is larger, the windows that the loop does not come to contribute nothing: zeros. Where it is
        smaller, the loop has more windows: they reach further beyond the end, where nothing is.
        """
        gradient = self.tensors.get("grad_output")
        with contextlib.suppress(ConvpoolError):
            if gradient is None or gradient.shape == self.resolved.output_shape:
                return self
        windows = self._unchecked_windows()
        if gradient is None or windows is None or gradient.ndim != len(windows.axes) + 2:
            return self
        pads = []
        first_axis = 1 if self.is_channels_last else 2
        for axis, along in enumerate(windows.axes, first_axis):
            before = along.before
            # what lies outside of the input as a whole contributes nothing
            first = min(-(-(before - along.extent + 1) // along.stride), before // along.stride)
            first = min(max(0, first), gradient.shape[axis])
            stop = min(gradient.shape[axis], (along.size - 1 + before) // along.stride + 1)
            gradient = gradient.take(range(first, max(first, stop)), axis)
            before -= first * along.stride
            reach = (gradient.shape[axis] - 1) * along.stride + along.extent
            least = along.after if getattr(self.op, "count_include_pad", False) else 0  # it is in the divisors
            pads.append((before, max(least, reach - before - along.size)))
        changes: dict[str, Any] = {"padding": tuple(pads)}
        if isinstance(self.op, Pool):
            changes["ceil_mode"] = False
        layer = dataclasses.replace(self, op=dataclasses.replace(self.op, **changes))
        missing = [(0, more - less) for less, more in zip(gradient.shape, layer.resolved.output_shape, strict=True)]
        if any(end < 0 for _, end in missing) or 2 * math.prod(layer.resolved.output_shape) > self.room:
            return self
        return dataclasses.replace(layer, tensors={**self.tensors, "grad_output": np.pad(gradient, missing)})

    def _unchecked_windows(self) -> Windows | None:
        """Return the windows of a convolution or pooling, also where they are outside of the input, or larger."""
        op, rank = self.op, self.tensors["input"].ndim - 2
        stride: Any
        if isinstance(op, Conv):
            shape = self.tensors["weight"].shape
            kernel, stride = (shape[:rank] if self.is_channels_last else shape[2:]), op.stride
        elif isinstance(op, Pool) and op.kernel_size is not None:
            kernel = one_per_axis("kernel_size", op.kernel_size, rank)
            stride = kernel if op.stride is None else op.stride
        else:
            return None
        sizes = self.tensors["input"].shape[1:-1] if self.is_channels_last else self.tensors["input"].shape[2:]
        dilations = one_per_axis("dilation", op.dilation, rank)
        padding = op.padding
        if not isinstance(padding, str):
            each = one_per_axis("padding", padding, rank) if isinstance(padding, int) else padding
            pairs = [(side, side) if isinstance(side, int) else side for side in each]
            # a window may be larger than what there is: it reaches beyond the end
            padding = tuple(
                (before, max(after, (size - 1) * dilation + 1 - before - along))
                for (before, after), size, dilation, along in zip(pairs, kernel, dilations, sizes, strict=True)
            )
        return resolve_windows(sizes, kernel, stride=stride, padding=padding, dilation=dilations)

    def outcome(self, scenario: Scenario, names: Iterable[str]) -> Tensors:
        """Return what a scenario leads to on the layer that it has changed, for results that this has."""
        found: Tensors = {}
        if scenario.loop is not None:
            found = {name: array for name, array in scenario.loop(self).items() if name in names}
        else:
            for is_gradient in (False, True):
                wanted = [name for name in names if name.startswith("grad_") == is_gradient]
                found |= self.computing(wanted[0]).compute(wanted) if wanted else {}
        return {name: undone(scenario, name, array) for name, array in found.items()}


def undone(scenario: Scenario, name: str, array: Array) -> Array:
    """Return a result as it belongs to the tensors as they are."""
    for reading in reversed(scenario.readings):
        if name.removeprefix("grad_") == reading.name and (name.startswith("grad_") or name == "output"):
            array = reading.undo(array)
    return array
