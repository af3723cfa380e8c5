"""What goes in and out of a codec: the request and what is decoded of it, the limits, and the encoded response."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..problems import InvalidRequest

__all__ = [
    "BFLOAT16",
    "DTYPES",
    "MAX_CACHED_HEADERS",
    "MAX_NDIM",
    "OPERAND_DTYPES",
    "Body",
    "Buffer",
    "Decoded",
    "Encoded",
    "Limits",
    "RequestContext",
    "ResponseContext",
    "TensorType",
    "require_plausible_shape",
]

Buffer = bytes | bytearray | memoryview

Body = Any
"""A request's body: a bytearray or, for a codec that reads views, a memoryview of bytes that may be overwritten."""


class TensorType(NamedTuple):
    """Shape and type of a tensor that does not exist yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Memory of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize


DTYPES = ("float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
"""The types that tensors may have in every format: those that NumPy has itself."""

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
OPERAND_DTYPES = (*DTYPES, BFLOAT16.name)
"""The types that operands may have; not every format can name bfloat16."""

MAX_NDIM = 8
"""Maximum number of axes, more than any operand has; NumPy's own is 64."""

MAX_CACHED_HEADERS = 128
"""Headers of files that are remembered: requests for the same layer have the same ones again and again."""

MAX_SIZE = 2**31 - 1
MAX_TENSOR_BYTES = 2**62


def require_plausible_shape(name: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise InvalidRequest for a shape that no array can have, whatever data comes with it.

    That is more axes than any operand has, a size beyond what index arithmetic takes, or, where another axis is empty
    and no data are needed, sizes whose product is beyond memory.
    """
    elements = math.prod(filter(None, shape))
    if len(shape) > MAX_NDIM or max(shape, default=0) > MAX_SIZE or elements * itemsize > MAX_TENSOR_BYTES:
        expected = f"at most {MAX_NDIM} axes, each of at most {MAX_SIZE} elements, that memory can hold"
        fault = f"{name} has a shape that no tensor can have"
        raise InvalidRequest.of(f"/{name}", fault, got="more axes or elements", expected=expected)


@dataclass(frozen=True)
class RequestContext:
    """What a codec knows of a request in addition to its body.

    Parameters
    ----------
    operands : sequence of str
        Names of the operation's operands in their order; every other name is a parameter's.
    options : mapping of str to str
        The parameters of the Content-Type header, such as ``boundary``.
    headers : mapping of str to str
        All headers, found by names in any case.
    """

    operands: Sequence[str]
    options: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoded:
    """A request's payload.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The operands that came, by name.
    parameters : dict of str to object
        The parameters that came with them, as JSON values.
    response_options : mapping of str to object
        What the body says about its response, such as an id that comes back or the form of the tensors. The codec that
        writes the response takes the options that it knows.
    """

    tensors: dict[str, NDArray[Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    response_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponseContext:
    """What a codec knows of a response in addition to its results.

    Parameters
    ----------
    options : mapping of str to object
        The ``response_options`` of the decoded request.
    operation : str
        Name of the operation, for example conv_forward.
    parameters : mapping of str to object
        Every parameter as it was resolved.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    operation: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """A body as chunks, and the headers that it needs in addition to Content-Type and Content-Length."""

    buffers: list[Buffer]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Limits on what decoding may allocate.

    Parameters
    ----------
    decompressed_bytes : int
        Bytes that the members of an archive may inflate to.
    charge : callable
        Called with the bytes of memory that decoding is about to take; raises if there are too many.
    """

    decompressed_bytes: int
    charge: Callable[[int], None]
