"""Every op of the catalogue predicts what it costs: one that forgets its work or its memory fails here.

The ops and their operands are those of the catalogue and its examples, so that a new op is tested without being named.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnn_core import get_threads, set_threads
from cnn_core.kernels.cost import Costs
from cnn_core.ops.base import Op
from cnn_core.runtime import workspace
from cnn_core.runtime.packing import touch_packing_buffers
from service.documentation.examples import example
from service.operations.catalogue import OPERATIONS
from service.operations.operation import Operation, ParsedCall

INPUT_BYTES = 2**22
OVERHEAD = 2**18
"""Bytes of iterators, slices and NumPy's own buffers."""

each_op = pytest.mark.parametrize(
    ("operation", "op"),
    [
        pytest.param(operation, op, id=f"{operation.name}-{op.__name__}")
        for operation in OPERATIONS
        for op in operation.entry.ops.values()
    ],
)

Tensors = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module", autouse=True)
def nothing_kept() -> Iterator[None]:
    """What a thread keeps from an earlier call would not be counted again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "MAX_KEPT_BYTES", 0)
        touch_packing_buffers(get_threads())
        yield


def many_images(operation: Operation, op: type[Op]) -> tuple[ParsedCall, Tensors]:
    """The catalogue's example for an op, with so large a batch that what the op holds can be told from its overhead."""
    parameters, tensors = example(operation)
    call = operation.parse_parameters({**parameters, **operation.entry.selecting(op)})
    image = tensors["input"]
    batch = INPUT_BYTES // image.nbytes
    many = {
        name: np.repeat(tensor, batch, axis=0) if tensor.shape == image.shape else tensor
        for name, tensor in tensors.items()
        if name != "grad_output"
    }
    if operation.direction == "backward":
        shapes = {name: tensor.shape for name, tensor in many.items()}
        many = {"grad_output": np.ones(operation.entry.resolve(call.op, shapes).output_shape), **many}
    return call, many


@each_op
def test_an_op_predicts_its_memory(operation: Operation, op: type[Op]) -> None:
    call, tensors = many_images(operation, op)
    prediction = operation.predict(call, tensors)
    tracemalloc.start()
    try:
        operation.results_of(call, tensors)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert prediction.result_bytes > 0
    # an op that predicts nothing must take nothing, or next to nothing
    overhead = OVERHEAD if prediction.workspace_bytes else 2**14
    assert taken <= prediction.result_bytes + prediction.workspace_bytes + overhead


@each_op
def test_an_op_predicts_its_work(operation: Operation, op: type[Op]) -> None:
    call, tensors = many_images(operation, op)
    entry = operation.entry
    resolved = entry.resolve(call.op, {name: tensor.shape for name, tensor in tensors.items()})
    wrt = op.differentiable if operation.direction == "backward" else ()
    costs = resolved.costs().of(operation.direction, wrt)
    assert len(costs) == max(1, len(wrt))
    assert all(cost.work > 0 for cost in costs)
    assert operation.predict(call, tensors).work == sum(cost.work for cost in costs)


@each_op
def test_a_plan_is_kept_for_equal_calls_only(operation: Operation, op: type[Op]) -> None:
    _, tensors = many_images(operation, op)
    parameters = {**example(operation)[0], **operation.entry.selecting(op)}
    plan = operation.plan(parameters, tensors)
    assert operation.known_plan(dict(parameters), {name: tensor.copy() for name, tensor in tensors.items()}) is plan
    assert operation.known_plan({**parameters, "framework": "torch"}, tensors) is not plan
    halves = {
        name: tensor[: len(tensor) // 2] if len(tensor) == len(tensors["input"]) else tensor
        for name, tensor in tensors.items()
        if tensor.ndim
    }
    scalars = {name: tensor for name, tensor in tensors.items() if not tensor.ndim}
    assert operation.known_plan(parameters, {**halves, **scalars}) is not plan
    assert operation.plan(parameters, {**halves, **scalars}).prediction.result_bytes < plan.prediction.result_bytes
    threads = get_threads()
    try:
        set_threads(threads + 1)  # each thread holds memory of its own
        assert operation.known_plan(parameters, tensors) is not plan
    finally:
        set_threads(threads)


def test_only_the_direction_and_the_gradients_that_are_asked_for_are_predicted() -> None:
    computed: list[str] = []
    conv = next(operation for operation in OPERATIONS if operation.name == "conv_backward")
    call, tensors = many_images(conv, conv.entry.ops[""])
    resolved = conv.entry.resolve(call.op, {name: tensor.shape for name, tensor in tensors.items()})
    costs = resolved.costs()

    def noted(name: str) -> Any:
        def cost() -> Any:
            computed.append(name)
            return costs.forward if name == "forward" else costs.backward[name]

        return cost

    asked = Costs(noted("forward"), {name: noted(name) for name in costs.backward})
    assert asked.of("backward", ("weight",)) == [costs.backward["weight"]]
    assert computed == ["weight"]
    assert asked.of("forward") == [costs.forward]
    assert computed == ["weight", "forward"]
    assert dict(asked.backward) == dict(costs.backward)
