"""An operation as the codecs document it, and the files of its example."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from starlette.exceptions import HTTPException

from cnn_core.ops.base import Operand

from ..codecs import Buffer
from ..codecs.described import DescribedOperand, DescribedOperation
from ..http.negotiation import readable_codecs
from ..operations.catalogue import OPERATIONS
from ..operations.operation import Operation
from .examples import SERVER, example
from .parameters import request_properties, type_name

__all__ = ["described_operation", "example_file", "example_media_types", "operand_text"]


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
    for candidate in OPERATIONS:
        if candidate.name == operation:
            for codec in readable_codecs(candidate):
                files = codec.example_files(described_operation(candidate))
                if file in files:
                    return files[file]
    raise HTTPException(404)


def example_media_types() -> list[str]:
    """Return the media types of the files of /examples."""
    files = (
        codec.example_files(described_operation(operation))
        for operation in OPERATIONS
        for codec in readable_codecs(operation)
    )
    return list(dict.fromkeys(file.media_type for each in files for file in each.values()))
