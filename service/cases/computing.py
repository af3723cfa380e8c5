"""The operands and the results of a case: sums in float64 that are exact, rounded once to the type of the case."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import AvgPool
from cnn_core.ops.base import Op

from ..codecs.buffers import converted
from ..operations.operation import CatalogueEntry, ParsedCall
from .call import CasesCall, Layer
from .exactness import divisors
from .operands import Filling, drawn_indices
from .tolerances import tolerances

__all__ = ["Case", "compute_case", "operand_types"]

Array = NDArray[Any]
Tensors = Mapping[str, Array]

FLOAT64 = np.dtype(np.float64)
INDEX = np.dtype(np.int64)
TYPES_BESIDE_BYTES = {
    "bias": np.dtype(np.int32),
    **dict.fromkeys(("input_scale", "weight_scale", "output_scale"), np.dtype(np.float32)),
}
"""The types of the operands of a convolution of bytes that are no bytes."""

MIN_BITS = 1
"""Bits of the coarsest grid, of halves. Only sums of more than 2^50 terms would need less."""


@dataclass(frozen=True)
class Case:
    """One case.

    Parameters
    ----------
    layer : Layer
    operands, results : mapping of str to ndarray
    tolerances : mapping of str to (float, int)
        For each result what it may be off by, and the terms of its longest sum.
    """

    layer: Layer
    operands: Tensors
    results: Tensors
    tolerances: Mapping[str, tuple[float, int]]


def operand_types(call: CasesCall, layer: Layer) -> dict[str, np.dtype[Any]]:
    """Return the type of each operand of forward."""
    own = {} if call.is_floating else TYPES_BESIDE_BYTES
    return {name: own.get(name, INDEX if name == "indices" else call.dtype) for name in layer.shapes}


def compute_case(call: CasesCall, layer: Layer, case: int) -> Case:
    """Fill the operands of a case and compute its results."""
    operands = _filled(call, layer, case)
    op = layer.op
    results: dict[str, Array] = {}
    exact = {name: _widened(array) for name, array in operands.items()}
    for direction in call.directions:
        computed = _gradients(call.entry, op, layer, exact) if direction == "backward" else _outputs(call, op, exact)
        results |= computed
    canonical = {name: _canonical(array, call.dtype) for name, array in results.items()}
    return Case(layer, operands, canonical, tolerances(call, layer, exact, results))


def _filled(call: CasesCall, layer: Layer, case: int) -> dict[str, Array]:
    sums = layer.sums
    fills = layer.edge.fills if layer.edge is not None else {}
    largest = max(1, sums.largest_integer(call.dtype)) if call.is_floating else 1
    bits = max(MIN_BITS, sums.grid_bits(call.dtype)) if call.is_floating else 0
    filling = Filling(call.seed, case, bits=bits, largest=largest, multiple=max(1, sums.divisor), terms=sums.terms)
    operands: dict[str, Array] = {}
    for name, dtype in operand_types(call, layer).items():
        shape = layer.shapes[name]
        if name == "indices" and name not in fills:
            operands[name] = drawn_indices(filling, layer.op, layer.resolved, shape)
        else:
            operands[name] = filling.fill(name, shape, dtype, fills.get(name) or _usual_fill(name, call))
    if "backward" in call.directions:
        fill = fills.get("grad_output") or _usual_fill("grad_output", call)
        operands["grad_output"] = filling.fill("grad_output", layer.resolved.output_shape, call.dtype, fill)
    return operands


def _usual_fill(name: str, call: CasesCall) -> str:
    if call.is_floating:
        return "grid" if call.kind == "random" else "integers"
    if name.endswith("scale"):
        return "scale" if call.kind == "random" else "power of two"
    return "bias of sums" if name == "bias" else "bytes"


def _widened(array: Array) -> Array:
    """Return an operand in the type that it is computed with; what is no floating number of the case keeps its own."""
    return converted(array, FLOAT64) if array.dtype in (np.float16, np.float32) else array


def _outputs(call: CasesCall, op: Op, operands: Tensors) -> dict[str, Array]:
    return call.entry.forward.results_of(ParsedCall(op, {}), operands)


def _gradients(entry: CatalogueEntry, op: Op, layer: Layer, operands: Tensors) -> dict[str, Array]:
    if isinstance(op, AvgPool) and layer.sums.divisor:
        return {"grad_input": _exact_gradient_of_averages(op, layer, operands)}
    (backward,) = (operation for operation in entry.operations if operation.direction == "backward")
    return backward.results_of(ParsedCall(op, {}), operands)


def _exact_gradient_of_averages(op: AvgPool, layer: Layer, operands: Tensors) -> Array:
    """Return the gradient of averages, of which only the last step is rounded: one division by a common multiple.

    The shares of the windows are quotients, which would each be rounded.
    """
    multiple = layer.sums.divisor
    if op.divisor_override is not None:
        factors: Any = np.sign(op.divisor_override)
    else:
        factors = multiple // divisors(op, layer.resolved)
    summing = dataclasses.replace(op, divisor_override=1)
    with np.errstate(all="ignore"):
        gradient: Array = summing.backward(operands["grad_output"] * factors, operands["input"])
        gradient /= multiple
    return gradient


def _canonical(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return a result in the type of the case, with one NaN and one zero: the positive ones."""
    if array.dtype.kind != "f":
        return array
    result = converted(array, dtype)
    if result is array:
        result = array.copy()
    result[np.isnan(result)] = np.nan
    result[result == 0] = 0
    return result
