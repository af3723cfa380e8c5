"""Max pooling."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnn_core.geometry import AnyWindows
from cnn_core.kernels.cost import Costs
from cnn_core.kernels.pool.argmax import chosen_taps
from cnn_core.kernels.pool.argmax_by_axis import (
    chosen_elements,
    maximum_costs,
    maximum_levels,
    positions_of_chosen,
    route_to_chosen,
    route_to_tied,
    window_maximum,
)
from cnn_core.kernels.pool.blocks import PoolBlock, PoolSizes, Reduction, Route, pool_backward, pool_forward, write_rows
from cnn_core.operands import accumulation_dtype, as_operand, common_dtype, split_layer_shape
from cnn_core.ops.base import ResolvedOp, computation
from cnn_core.ops.docstrings import documented
from cnn_core.ops.indices import Indexed
from cnn_core.ops.pool_base import Pool
from cnn_core.ops.rules import FLAG, TIES
from cnn_core.parameters import Direction, Framework, Ties, parameter
from cnn_core.runtime.workspace import Workspace

__all__ = ["MaxPool", "MaxPoolResult"]


class MaxPoolResult(NamedTuple):
    """The maxima of all windows, and their indices."""

    output: NDArray[Any]
    indices: NDArray[np.int64]


OFTEN_HELD = 8
"""Elements held for each of the input that a block of full size may have."""


@documented
@dataclass(frozen=True)
class MaxPool(Indexed, Pool):
    """Max pooling.

    Notes
    -----
    NaN is larger than everything, as in PyTorch and JAX: a window that holds one gives NaN. Its gradient goes to the
    last NaN of the window with ties="first" (PyTorch, ``MaxPoolKernel.cpp``), else to all of them. A window with no tap
    inside the input is an error. ``first`` is the rule of PyTorch, JAX and TensorFlow's 2-D kernel; ``all`` is that of
    TensorFlow's 3-D kernel and of the notebook that convpool began as. The index of a maximum is that of the element
    which ``first`` gives the gradient to; a window that holds nothing but minus infinity has the index of its first tap
    inside the input.

    Examples
    --------
    >>> import numpy as np
    >>> tied = np.array([1.0, 3.0, 3.0, 2.0]).reshape(1, 4, 1)
    >>> MaxPool(kernel_size=2).forward(tied).ravel().tolist()
    [3.0, 3.0]
    >>> MaxPool(kernel_size=4, ties="split").backward(np.ones((1, 1, 1)), tied).ravel().tolist()
    [0.0, 0.5, 0.5, 0.0]
    >>> MaxPool(kernel_size=2, return_indices=True).forward(tied).indices.ravel().tolist()
    [1, 2]
    """

    description: ClassVar[str] = (
        "Max pooling over 1, 2 or 3 spatial axes.\n\n"
        "`output[n, o, c] = max over the taps k inside the input of input[n, o * stride - before + k * dilation, c]`."
    )

    results: ClassVar[tuple[str, ...]] = ("output", "indices")
    framework_defaults: ClassVar[Mapping[Framework, Mapping[str, Any]]] = {"tensorflow": {"ties": "tensorflow"}}

    ties: Ties = parameter(
        TIES,
        "Which of several equal maxima receives the gradient; first: the first in row-major order; all: each gets the "
        "full gradient; split: each gets an equal share; tensorflow: the first, but all with three spatial axes.",
        "first",
    )
    return_indices: bool = parameter(FLAG, "Whether forward also returns the index of each maximum.", False)

    @computation
    def forward(self, input: ArrayLike) -> NDArray[Any] | Any:  # a union with MaxPoolResult would burden every caller
        """Compute the maximum of each window.

        Returns
        -------
        ndarray or MaxPoolResult
            The output, of the input's dtype; integers count as float64. With return_indices also the indices.
        """
        input = as_operand("input", input)
        resolved = self._resolved(input)
        axes, dtype = self._spatial_axes(resolved.windows), common_dtype(input)
        sizes = self._sizes_of(input, resolved.windows)
        output = np.empty(resolved.output_shape, dtype=dtype)
        if not self.return_indices:

            def maxima(part: NDArray[Any], block: PoolBlock, results: Sequence[NDArray[Any]]) -> None:
                window_maximum(_comparable(part), block.windows, axes, *results)

            pool_forward(dataclasses.replace(sizes, held=1), input, lambda _: maxima, [output])
            return output
        counted = self._counted(*split_layer_shape("input", input.shape, self.data_format))
        positions = [np.empty(resolved.output_shape, dtype=np.int64) for _ in axes]

        def make_reduction(workspace: Workspace) -> Reduction:
            def reduce(part: NDArray[Any], block: PoolBlock, results: Sequence[NDArray[Any]]) -> None:
                part = _comparable(part)
                chosen = chosen_taps(workspace, axes, part, block)
                if chosen is not None:
                    largest, found = chosen.largest, chosen.positions()
                else:
                    levels = maximum_levels(part, block.windows, axes)
                    largest, found = levels[-1].largest, positions_of_chosen(levels)
                found[0] += block.inputs[-1].start
                for result, values in zip(results, (largest, *found), strict=True):
                    result[...] = values

            return reduce

        pool_forward(sizes, input, make_reduction, [output, *positions])
        return MaxPoolResult(output, counted.encode(positions))

    @computation
    def backward(self, grad_output: ArrayLike, input: ArrayLike) -> NDArray[Any]:
        """Compute the gradient of ``sum(grad_output * forward(input))`` with respect to the input."""
        input = as_operand("input", input)
        resolved = self._resolved(input)
        gradient = self._checked_gradient(grad_output, resolved)
        dtype = common_dtype(gradient, input)
        axes, sums = self._spatial_axes(resolved.windows), accumulation_dtype(dtype)
        ties = self._ties(resolved.windows)

        def make_route(workspace: Workspace) -> Route:
            def route(gradient: NDArray[Any], part: NDArray[Any], block: PoolBlock, target: NDArray[Any]) -> None:
                gradient, part = gradient.astype(sums, copy=False), _comparable(part)
                if ties == "first" and part.dtype == sums:
                    chosen = chosen_taps(workspace, axes, part, block)
                    if chosen is not None:
                        chosen.route(gradient, target)
                        return
                levels = maximum_levels(part, block.windows, axes)
                if ties == "first":
                    routed = route_to_chosen(gradient, levels)
                else:
                    routed = route_to_tied(gradient, levels, shared=ties == "split")
                write_rows(routed, block, axes[0], target)

            return route

        routed = np.empty(input.shape, dtype=dtype)
        pool_backward(self._sizes_of(input, resolved.windows), input, gradient, make_route, routed)
        return routed

    def _held(self, windows: AnyWindows) -> int:
        return max(1, chosen_elements(1, windows) // (OFTEN_HELD * max(1, math.prod(windows.sizes))))

    def _costs(self, sizes: PoolSizes) -> Costs:
        # of each axis the positions of the maxima, in 64 bits, and their share of an index
        outputs = sizes.planes * math.prod(sizes.windows.output_sizes)
        positions = 2 * (len(sizes.windows.axes) + 1) * outputs if self.return_indices else 0
        costs = sizes.in_blocks(functools.partial(maximum_costs, with_positions=self.return_indices), positions)
        if self.return_indices:
            return costs
        alone = dataclasses.replace(sizes, held=1).in_blocks(functools.partial(maximum_costs, with_positions=False))
        return Costs(alone.forward, costs.backward)

    def _ties(self, windows: AnyWindows) -> Ties:
        if self.ties == "tensorflow":
            return "all" if len(windows.axes) == 3 else "first"
        return self.ties

    def result_names(self) -> tuple[str, ...]:  # noqa: D102
        return self.results if self.return_indices else ("output",)

    def result_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.dtype[Any]]:  # noqa: D102
        return super().result_dtypes(dtypes) | ({"indices": np.dtype(np.int64)} if self.return_indices else {})

    def resolved_parameters(  # noqa: D102
        self, resolved: ResolvedOp[AnyWindows], itemsize: int = 8, direction: Direction = "forward"
    ) -> dict[str, Any]:
        return super().resolved_parameters(resolved, itemsize, direction) | {"ties": self._ties(resolved.windows)}


def _comparable(input: NDArray[Any]) -> NDArray[Any]:
    # float16 is compared as float32, which holds its values exactly: NumPy has no fast loops for float16
    return input.astype(accumulation_dtype(common_dtype(input)), copy=False)
