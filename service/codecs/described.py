"""What a codec documents: an operation and its example, without what the operation computes or how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
from numpy.typing import NDArray

from .message import Buffer

__all__ = ["BINARY", "DescribedOperand", "DescribedOperation", "ExampleFile", "as_text", "command", "with_description"]

BINARY = {"type": "string", "format": "binary"}
"""Schema of a body, or of a part of a form, that is a file."""


class ExampleFile(NamedTuple):
    """A file under /examples: its content and its media type."""

    buffers: Sequence[Buffer]
    media_type: str


@dataclass(frozen=True)
class DescribedOperand:
    """An operand as the documentation has it.

    Parameters
    ----------
    name, description : str
    required : bool
    typed : bool
        Whether it has a type of its own, which a format must be able to name.
    """

    name: str
    description: str
    required: bool
    typed: bool


@dataclass(frozen=True, eq=False)
class DescribedOperation:
    """An operation as the documentation has it, and its example.

    Parameters
    ----------
    title : str
        Name as that of a type, for example ConvForward, with which the titles of its schemas begin.
    url : str
        Where it is called.
    files_url : str
        Where the files of its example are.
    operands : tuple of DescribedOperand
    parameters : mapping of str to dict
        JSON schema of each parameter.
    results, required_results : tuple of str
        All the results that there may be, and those that every response has.
    example_parameters : mapping of str to object
    example_operands, example_results : mapping of str to ndarray
    """

    title: str
    url: str
    files_url: str
    operands: tuple[DescribedOperand, ...]
    parameters: Mapping[str, Any]
    results: tuple[str, ...]
    required_results: tuple[str, ...]
    example_parameters: Mapping[str, Any]
    example_operands: Mapping[str, NDArray[Any]]
    example_results: Mapping[str, NDArray[Any]]

    @property
    def required_operands(self) -> list[str]:
        """Names of the operands that every request holds."""
        return [operand.name for operand in self.operands if operand.required]

    @property
    def url_with_parameters(self) -> str:
        """The URL with the example's parameters as its query string, for a shell."""
        query = urlencode({name: as_text(value) for name, value in self.example_parameters.items()})
        return f"'{self.url}?{query}'" if query else self.url


def as_text(value: Any) -> str:
    """Write a parameter as a query string or a form field has it."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def command(*parts: str) -> str:
    """Return a command for bash, with a line for each of its parts."""
    return " \\\n  ".join(parts)


def with_description(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Return a schema with a description of its own where it is used.

    OpenAPI 3.0 ignores what stands next to a reference, which is what a schema with a title becomes.
    """
    if "title" in schema:
        return {"allOf": [schema], "description": description}
    return {**schema, "description": description}
