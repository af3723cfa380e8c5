"""Batches that are computed in groups of images while they arrive: of which operations, and how large a group is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codecs.message import TensorType
from ..problems import InvalidRequest, TooLarge
from ..settings import Settings
from .budget import check_budget
from .operation import Operation, ParsedCall
from .prediction import Prediction, predicted
from .scheduling import LONG_WORK
from .task import Plan

__all__ = ["BatchPlan", "StreamTask", "plan_batch", "stream_task"]

GROUP_BYTES = 2**22
"""Bytes of the images of a group, or of their results, whichever are more: several threads have something to do, and
the connection's buffers are kept filled meanwhile. An image that is larger is a group by itself."""

BATCH_AXIS = "N"


def stream_task(operation: Operation) -> StreamTask | None:
    """Return the task of an operation's streams, if it is computed image by image; else None.

    That is so for forward, if one operand alone has a batch axis, and if the output has one: both come first.
    """
    ops = operation.entry.ops.values()
    with_batch = [operand for operand in operation.operands if BATCH_AXIS in operand.layout.channels_last]
    layouts = [*(operand.layout for operand in with_batch), *(op.output_layout for op in ops)]
    is_first = all(axes[:1] == (BATCH_AXIS,) for each in layouts for axes in (each.channels_last, each.channels_first))
    is_by_image = operation.direction == "forward" and len(with_batch) == 1 and is_first
    return StreamTask(operation, with_batch[0].name) if is_by_image else None


@dataclass(frozen=True)
class StreamTask:
    """An operation on a batch that is streamed; what a group needs is planned by ``plan_batch``.

    Parameters
    ----------
    operation : Operation
        One that is computed image by image.
    batch : str
        Name of the operand that holds the images.
    """

    operation: Operation
    batch: str

    @property
    def name(self) -> str:
        """What it is called in documentation, metrics and logs, for example conv_forward_stream."""
        return f"{self.operation.name}_stream"

    @property
    def path(self) -> str:
        """Its path in the URL, for example /conv/forward/stream."""
        return f"{self.operation.path}/stream"

    @property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the operands."""
        return self.operation.operand_names

    def known_plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan | None:
        """Return the plan of one group."""
        return self.operation.known_plan(parameters, tensors)

    def plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan:
        """Return the plan of one group."""
        return self.operation.plan(parameters, tensors)

    def compute(self, plan: Plan, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute one group."""
        return self.operation.compute(plan, tensors)


@dataclass(frozen=True)
class BatchPlan:
    """How a batch is computed.

    Parameters
    ----------
    call : ParsedCall
    image_shape : tuple of int
        Of an image of the batch.
    images : int
        In the batch.
    group : int
        Images that are computed together.
    output : TensorType
        The result for the whole batch.
    prediction : Prediction
        Of one group.
    """

    call: ParsedCall
    image_shape: tuple[int, ...]
    images: int
    group: int
    output: TensorType
    prediction: Prediction

    @property
    def groups(self) -> Sequence[int]:
        """The number of images of each group: all have the same but for the last one."""
        return range(0, self.images, self.group)

    def size_of(self, start: int) -> int:
        """Return how many images the group that begins with an image has."""
        return min(self.group, self.images - start)


def plan_batch(
    task: StreamTask,
    parameters: Mapping[str, Any],
    operands: Mapping[str, NDArray[Any]],
    batch: TensorType,
    settings: Settings,
) -> BatchPlan:
    """Check the parameters and all operands, and return how the batch is computed. Nothing is allocated.

    Parameters
    ----------
    task : StreamTask
    parameters : mapping of str to object
    operands : mapping of str to ndarray
        All but the batch.
    batch : TensorType
    settings : Settings
        Their limits hold for one group, and those of an image for its body.

    Raises
    ------
    InvalidRequest, ConvpoolError
        If they do not fit each other.
    TooLarge
        If one image is too large for a request.
    """
    operation, name = task.operation, task.batch
    given = {each: TensorType(tensor.shape, tensor.dtype) for each, tensor in operands.items()} | {name: batch}
    call = operation.parse(parameters, given)
    results = call.op.result_names()
    if len(results) > 1:
        expected = "a layer with one result, since an npy file holds one"
        fault = "a streamed batch has one result"
        raise InvalidRequest.of("/return_indices", fault, got=f"{' and '.join(results)}", expected=expected)

    def of(images: int) -> Prediction:
        types = given | {name: TensorType((images, *batch.shape[1:]), batch.dtype)}
        native = [
            (each, types[each].shape, types[each].dtype.newbyteorder("="))
            for each in operation.operand_names
            if each in types
        ]
        return predicted(operation, call.op, None, tuple(native))

    whole = of(batch.shape[0]) if batch.shape else of(1)  # says what is wrong with the shape that came
    one = of(1)
    image_bytes = TensorType(batch.shape[1:], batch.dtype).nbytes
    if image_bytes > settings.max_body_bytes:
        got, expected = f"images of {image_bytes} bytes", f"at most {settings.max_body_bytes} bytes for each"
        raise TooLarge.of(f"/{name}", "an image is larger than this server allows", got=got, expected=expected)
    check_budget(one, 0, settings)
    images, largest = batch.shape[0], max(image_bytes, one.result_bytes, 1)
    group = max(1, min(images, GROUP_BYTES // largest, LONG_WORK // max(1, one.work)))
    prediction = of(group)
    try:
        check_budget(prediction, 0, settings)
    except TooLarge:
        group, prediction = 1, one
    (result,) = whole.results
    output = TensorType((images, *result.shape[1:]), np.dtype(result.dtype))
    return BatchPlan(call, batch.shape[1:], images, group, output, prediction)
