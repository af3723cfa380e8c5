"""Golden cases as a task of the service: predicted before anything is computed, and computed case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core.runtime.cancellation import check_cancelled

from ..codecs.message import TensorType
from ..operations.operation import CatalogueEntry
from ..operations.prediction import Prediction
from ..operations.task import Plan
from ..problems import InvalidRequest
from .call import MAX_TRIES, CasesCall, Layer, draw_layer
from .computing import compute_case, operand_types
from .edge_table import EDGES
from .request import DEFAULT_COUNT, MAX_COUNT, parsed
from .writers import ComputedCases

__all__ = ["CasesTask", "planning_work"]

MEMORY_OF_CASE, MEMORY_OF_TENSOR = 4096, 1024
"""Bytes that a case takes besides its elements: its part of the manifest, and headers and objects of each tensor."""

MAX_TRIES_EACH = 10
"""Layers that are drawn for a case on average; for a single one it may be MAX_TRIES."""

PLANNING_WORK, WORK_OF_CASE = 2**22, 2**24
"""Multiply-accumulates that take about as long as drawing a layer, and as what is done for the smallest case: drawing
takes half of it, but holds the GIL, so a thousand cases count as long and leave the other threads to others."""

PASSES = 2
"""How often a case is computed: its results, and the sums of the absolute values of their terms, for the tolerance."""

SMALL, WORK_OF_ELEMENT, WORKSPACE_OF_ELEMENT = 2**16, 32, 16
"""What a layer is small up to, in multiply-accumulates and elements with their padding, and what each of them takes at
most."""

FLOAT64 = np.dtype(np.float64)
WIDENED = 6
"""Arrays in float64 of all elements of a case while it is computed: operands and results of both passes, and words."""


def planning_work(parameters: Mapping[str, Any]) -> int:
    """Return the work of planning a request that was not checked yet, in multiply-accumulates that take as long."""
    count = parameters.get("count", DEFAULT_COUNT if parameters.get("kind") != "edges" else len(EDGES))
    return PLANNING_WORK * (count if isinstance(count, int) and 0 < count <= MAX_COUNT else 1)


@dataclass
class _Totals:
    """What is predicted for the cases so far."""

    elements: dict[np.dtype[Any], int]
    overhead: int = 0
    workspace: int = 0
    work: int = 0
    tries: int = 0


@dataclass(frozen=True, eq=False)
class CasesTask:
    """The golden cases of a layer.

    Parameters
    ----------
    entry : CatalogueEntry
    """

    entry: CatalogueEntry

    @property
    def name(self) -> str:
        """Name in documentation and metrics, for example conv_cases."""
        return f"{self.entry.name}_cases"

    @property
    def path(self) -> str:
        """Path in the URL, for example /conv/cases."""
        return f"/{self.entry.name}/cases"

    @property
    def operand_names(self) -> tuple[str, ...]:
        """No tensor comes with a request."""
        return ()

    def known_plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan | None:  # noqa: ARG002
        """No plan is remembered: planning takes a fraction of computing."""
        return None

    def plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan:  # noqa: ARG002
        """Check a request, draw the layers of all its cases, and predict what they take.

        The layers are drawn again when they are computed: they are functions of their numbers, and keeping them would
        take memory that nobody has granted.

        Raises
        ------
        InvalidRequest
        """
        call = parsed(self.entry, parameters)
        totals = _Totals({})
        for case in range(call.count):
            check_cancelled()
            layer = draw_layer(call, case)
            totals.tries += layer.tries
            if totals.tries > MAX_TRIES + MAX_TRIES_EACH * case:
                raise _too_rare(totals.tries, case)
            _add(totals, call, layer)
        results = [TensorType((count,), dtype) for dtype, count in totals.elements.items()]
        # the last one is the manifest and the headers: see ``writers``
        results.append(TensorType((totals.overhead,), np.dtype(np.uint8)))
        return Plan(call, Prediction({}, tuple(results), totals.workspace, totals.work))

    def compute(self, plan: Plan, tensors: Mapping[str, NDArray[Any]]) -> ComputedCases:  # noqa: ARG002
        """Compute the cases."""
        call: CasesCall = plan.call
        cases = []
        for case in range(call.count):
            check_cancelled()
            cases.append(compute_case(call, draw_layer(call, case), case))
        return ComputedCases(call, cases)


def _too_rare(tries: int, case: int) -> InvalidRequest:
    return InvalidRequest.of(
        "/parameters",
        "too few of the layers that were drawn are valid",
        got=f"{case} of {tries}",
        expected=f"one of {MAX_TRIES_EACH}",
        hint="give shapes and parameters of which more fit each other, or ask for fewer cases",
    )


def _add(totals: _Totals, call: CasesCall, layer: Layer) -> None:
    """Add what a case takes."""
    tensors = _tensors(call, layer)
    for tensor in tensors:
        totals.elements[tensor.dtype] = totals.elements.get(tensor.dtype, 0) + math.prod(tensor.shape)
    elements = sum(math.prod(tensor.shape) for tensor in tensors)
    work, workspace = _costs(call, layer, elements)
    totals.overhead += MEMORY_OF_CASE + MEMORY_OF_TENSOR * len(tensors)
    totals.workspace = max(totals.workspace, FLOAT64.itemsize * (workspace + WIDENED * elements))
    totals.work += WORK_OF_CASE + PASSES * work + elements


def _tensors(call: CasesCall, layer: Layer) -> list[TensorType]:
    """Return all tensors of a case."""
    types, resolved = operand_types(call, layer), layer.resolved
    tensors = [TensorType(shape, types[name]) for name, shape in layer.shapes.items()]
    if "forward" in call.directions:
        own = layer.op.result_dtypes(types)
        tensors += [TensorType(shape, own[name]) for name, shape in resolved.result_shapes.items()]
    if "backward" in call.directions:
        tensors.append(TensorType(resolved.output_shape, call.dtype))
        tensors += [TensorType(shape, call.dtype) for shape in resolved.gradient_shapes.values()]
    return tensors


def _costs(call: CasesCall, layer: Layer, elements: int) -> tuple[int, int]:
    """Return the work of a case and the elements of its workspace: bounds for a small one, which are quicker."""
    windows = layer.resolved.windows
    padding = math.prod(1 + before + after for before, after in windows.padding)
    most = layer.resolved.multiply_accumulates + elements * padding
    if most <= SMALL:
        return WORK_OF_ELEMENT * most, WORKSPACE_OF_ELEMENT * most
    costs = layer.resolved.costs()
    each = [cost for direction in call.directions for cost in costs.of(direction, layer.op.differentiable)]
    return sum(cost.work for cost in each), max(cost.workspace_elements for cost in each)
