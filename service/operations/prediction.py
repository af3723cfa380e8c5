"""What a call will do, predicted from the shapes and types of its operands."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_core.ops.base import Op, ResolvedOp

from ..codecs.message import TensorType
from .bfloat16 import computable_types, returned_types

if TYPE_CHECKING:
    from .operation import CatalogueEntry, Operation

__all__ = ["OperandTypes", "Prediction", "predicted"]


@dataclass(frozen=True)
class Prediction:
    """What a call will do, known from the shapes and types of its operands alone.

    Parameters
    ----------
    parameters : mapping of str to object
        All of the op's parameters, resolved for each axis and side.
    results : tuple of TensorType
    workspace_bytes : int
        Memory in addition to the results and the operands.
    work : int
        See ``cnn_core.kernels.cost.Cost``.
    """

    parameters: Mapping[str, Any]
    results: tuple[TensorType, ...]
    workspace_bytes: int
    work: int

    @functools.cached_property
    def result_bytes(self) -> int:
        """Memory of the results."""
        return sum(result.nbytes for result in self.results)

    @functools.cached_property
    def parameters_text(self) -> str:
        """The parameters as a JSON object."""
        return json.dumps(self.parameters, separators=(",", ":"))


OperandTypes = tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
"""Name, shape and type of each operand."""


def predicted(operation: Operation, op: Op, wrt: tuple[str, ...] | None, operands: OperandTypes) -> Prediction:
    """Predict a call; for a tiny layer this takes longer than computing it, so plans are remembered."""
    shapes = {name: shape for name, shape, _ in operands}
    given = {name: dtype for name, _, dtype in operands}
    dtypes = computable_types(op, operation.operands, given)
    resolved = _resolved_as_one_image(operation.entry, op, shapes)
    if operation.direction == "forward":
        types, result_shapes = op.result_dtypes(dtypes), resolved.result_shapes
    else:
        types = dict.fromkeys(wrt or op.differentiable, op.gradient_dtype(dtypes))
        result_shapes = resolved.gradient_shapes
    costs = resolved.costs().of(operation.direction, wrt or op.differentiable)
    returned = returned_types(operation.operands, given, types)
    results = tuple(TensorType(result_shapes[name], dtype) for name, dtype in returned.items())
    computed_in = op.computation_dtype(dtypes)
    # operands, and finally the results, may exist in two types at a time
    converted = sum(math.prod(shape) for name, shape in shapes.items() if given[name] != computed_in)
    converted += sum(math.prod(result.shape) for result in results if result.dtype != computed_in)
    parameters = operation.entry.resolved_parameters(op, resolved, computed_in.itemsize, operation.direction)
    return Prediction(
        parameters=parameters if wrt is None else parameters | {"wrt": wrt},
        results=results,
        workspace_bytes=computed_in.itemsize * (max(cost.workspace_elements for cost in costs) + converted),
        work=sum(cost.work for cost in costs),
    )


def _resolved_as_one_image(entry: CatalogueEntry, op: Op, shapes: Mapping[str, tuple[int, ...]]) -> ResolvedOp[Any]:
    """Resolve an op; an empty batch, the only size that may be 0, still takes the iterations and taps of one image."""
    resolved = entry.resolve(op, shapes)
    if all(math.prod(shape) for shape in shapes.values()):
        return resolved
    return entry.resolve(op, {name: [max(1, size) for size in shape] for name, shape in shapes.items()})
