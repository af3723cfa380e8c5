"""The memory that a call takes stays within what the service predicts from shapes and types, for every operation."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from cnn_core import ConvpoolError, get_threads
from cnn_core.runtime import workspace
from cnn_core.runtime.packing import touch_packing_buffers
from service.operations.catalogue import OPERATIONS
from tests.declarations import DECLARATIONS
from tests.declarations.declaration import Declaration
from tests.shapes_in_memory import MemoryCase, Shape
from tests.strategies import quick_settings

OVERHEAD = 2**18
"""Bytes of iterators, slices, and NumPy's own buffers, which hold 8,192 elements of each of three operands."""

OPERATIONS_BY_NAME = {operation.name: operation for operation in OPERATIONS}


@pytest.fixture(scope="module", autouse=True)
def nothing_kept() -> Iterator[None]:
    """What a thread keeps from an earlier call would not be counted again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "MAX_KEPT_BYTES", 0)
        touch_packing_buffers(get_threads())  # once in a process, whichever layer is its first large one
        yield


COPIES_BYTES = 2**22
"""Of the copies of an example that are computed at once; far more than the overhead."""


def copies_of_the_example(declared: Declaration) -> MemoryCase:
    """The example with so large a batch that what is allocated for it is more than the overhead."""
    example = declared.example
    copies = COPIES_BYTES // sum(array.nbytes for array in example.operands.values())
    shapes = {
        name: (copies * array.shape[0], *array.shape[1:]) if name in declared.batched else array.shape
        for name, array in example.operands.items()
    }
    types = {name: "" if array.dtype.kind == "f" else array.dtype.name for name, array in example.operands.items()}
    return MemoryCase(example.parameters, {name: (shape, types[name]) for name, shape in shapes.items()})


CASES = [
    pytest.param(declared, case, id=f"{declared.name}-{name}")
    for declared in DECLARATIONS
    for name, case in [("copies of the example", copies_of_the_example(declared)), *declared.memory.items()]
]
RANDOM = [
    pytest.param(declared, declared.geometries, id=declared.name)
    for declared in DECLARATIONS
    if declared.geometries is not None
]


def peak(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def tensor(name: str, shape: Shape, dtype: str) -> np.ndarray[Any, Any]:
    """An operand whose values suit every op: indices 0, scales and zero points 1, and values of both signs."""
    if name == "indices":
        return np.zeros(shape, dtype)
    values = np.ones(shape, dtype)
    if name == "input" and values.dtype.kind not in "iu":
        values.reshape(-1)[::3] = -2
    return values


def require_predicted_memory(declared: Declaration, case: MemoryCase, dtype: str) -> None:
    tensors = {operand: tensor(operand, shape, own or dtype) for operand, (shape, own) in case.operands.items()}
    selected = {"mode": declared.mode} if declared.mode else {}
    for direction in ("forward", "backward") if declared.op.differentiable else ("forward",):
        operation = OPERATIONS_BY_NAME[f"{declared.layer}_{direction}"]
        call = operation.parse_parameters({**selected, **case.parameters})
        if direction == "backward":
            output_shape = operation.entry.resolve(call.op, case.shapes()).output_shape
            tensors = {"grad_output": np.ones(output_shape, dtype), **tensors}
        prediction = operation.predict(call, tensors)
        taken = peak(lambda: operation.results_of(call, tensors))  # noqa: B023  (called at once)
        assert taken <= prediction.result_bytes + prediction.workspace_bytes + OVERHEAD


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize(("declared", "case"), CASES)
def test_memory_stays_within_the_prediction(declared: Declaration, case: MemoryCase, dtype: str) -> None:
    require_predicted_memory(declared, case, dtype)


@pytest.mark.parametrize(("declared", "geometries"), RANDOM)
@given(st.data(), st.sampled_from(["bfloat16", "float16", "float32", "float64"]))
# most layers whose sizes are drawn apart are too large for a test
@settings(quick_settings, max_examples=15, suppress_health_check=[HealthCheck.filter_too_much])
def test_memory_stays_within_the_prediction_in_any_geometry(
    declared: Declaration, geometries: st.SearchStrategy[MemoryCase], data: st.DataObject, dtype: str
) -> None:
    case = data.draw(geometries)
    assume(all(math.prod(shape) < 2**20 for shape in case.shapes().values()))
    try:
        op = declared.create_op(**case.parameters)
        resolved = op.resolve(*(case.shapes().get(operand.name) for operand in op.operands))
    except ConvpoolError:
        reject()
    assume(math.prod(resolved.output_shape) < 2**20)
    assume(resolved.multiply_accumulates < 2**27)
    costs = resolved.costs()
    assume(all(cost.work < 2**31 for cost in (costs.forward, *costs.backward.values())))
    require_predicted_memory(declared, case, dtype)
