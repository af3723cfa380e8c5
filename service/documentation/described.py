"""An operation as the codecs document it, and the files of its example."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException

from cnn_core.ops.base import Operand

from ..codecs import Buffer, Codec
from ..codecs.described import DescribedOperand, DescribedOperation
from ..diagnosis import CLAIMED, CheckTask, diagnose
from ..diagnosis.task import ACCUMULATION
from ..http.negotiation import checkable_codecs, readable_codecs
from ..operations.catalogue import CATALOGUE, OPERATIONS
from ..operations.operation import CatalogueEntry, Operation
from .examples import SERVER, check_example, example
from .parameters import request_properties, type_name

__all__ = [
    "described_check",
    "described_operation",
    "example_file",
    "example_media_types",
    "example_report",
    "operand_text",
]

ACCUMULATION_PROPERTY = {
    "title": "Accumulation",
    **ACCUMULATION.schema,
    "description": "The type that your sums are computed in. Default: that of the claimed tensor, float32 for float16.",
}


@functools.cache
def described_operation(operation: Operation) -> DescribedOperation:
    """Return what codecs need to document an operation."""
    parameters, tensors = example(operation)
    operands = (
        DescribedOperand(operand.name, operand_text(operand), not operand.optional, bool(operand.dtypes))
        for operand in operation.operands
    )
    return DescribedOperation(
        title=type_name(operation.name),
        url=f"{SERVER}{operation.path}",
        files_url=f"{SERVER}/examples/{operation.name}",
        operands=tuple(operands),
        parameters=request_properties(operation),
        results=operation.results,
        required_results=_required_results(operation),
        example_parameters=parameters,
        example_operands=tensors,
        example_results=operation.results_of(operation.parse_parameters(parameters), tensors),
    )


@functools.cache
def described_check(entry: CatalogueEntry) -> DescribedOperation:
    """Return what codecs need to document the check of a layer."""
    parameters, tensors = check_example(entry)
    task = CheckTask(entry, 0)
    of_layer = {operand.name: operand for operand in (*entry.operands, entry.grad_output)}
    operands = [
        DescribedOperand(
            name, operand_text(of_layer[name]), name in task.required_operands, bool(of_layer[name].dtypes)
        )
        for name in task.operand_names
        if name in of_layer
    ]
    operands += [
        DescribedOperand(
            f"{CLAIMED}{name}",
            f"What you have computed as {name}.",
            required=False,
            typed=bool(entry.operands[0].dtypes),
        )
        for name in task.claimable
    ]
    return DescribedOperation(
        title=type_name(task.name),
        url=f"{SERVER}{task.path}",
        files_url=f"{SERVER}/examples/{task.name}",
        operands=tuple(operands),
        parameters={**request_properties(entry.forward), "accumulation": ACCUMULATION_PROPERTY},
        results=(),
        required_results=(),
        example_parameters=parameters,
        example_operands=tensors,
        example_results={},
    )


@functools.cache
def example_report(entry: CatalogueEntry) -> dict[str, Any]:
    """Return the response to the example of a check."""
    return diagnose(entry, *check_example(entry))


def _required_results(operation: Operation) -> tuple[str, ...]:
    # a request may ask for some of several gradients only; of what forward returns, the output is always there
    if operation.direction == "forward" or len(operation.results) == 1:
        return operation.results[:1]
    return ()


def operand_text(operand: Operand) -> str:
    """Return what an operand is, and its types if it has its own."""
    types = f" Of {', '.join(operand.dtypes)}." if operand.dtypes else ""
    return f"{operand.description}{types}"


def example_file(operation: str, file: str) -> tuple[Sequence[Buffer], str]:
    """Return the content and the media type of a file of /examples; a 404 if there is none of that name."""
    described, codecs = _with_examples().get(operation, (None, ()))
    for codec in codecs:
        files = codec.example_files(described)
        if file in files:
            return files[file]
    raise HTTPException(404)


def example_media_types() -> list[str]:
    """Return the media types of the files of /examples."""
    files = (codec.example_files(described) for described, codecs in _with_examples().values() for codec in codecs)
    return list(dict.fromkeys(file.media_type for each in files for file in each.values()))


def _with_examples() -> dict[str, tuple[Any, tuple[Codec, ...]]]:
    """Return by name what has examples, and the codecs that they are written in."""
    found: dict[str, tuple[Any, tuple[Codec, ...]]] = {
        operation.name: (described_operation(operation), readable_codecs(operation)) for operation in OPERATIONS
    }
    for entry in CATALOGUE:
        found[f"{entry.name}_check"] = described_check(entry), checkable_codecs(entry)
    return found
