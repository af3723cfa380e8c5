"""What all codecs share: the decoded request, the limits on decoding, and the interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.problems import InvalidRequest

__all__ = ["DTYPES", "Buffer", "Codec", "Decoded", "Limits", "TensorForm", "TensorType", "require_plausible_shape"]

Buffer = bytes | bytearray | memoryview
TensorForm = str


class TensorType(NamedTuple):
    """Shape and type of a tensor that does not exist yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Memory of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize


DTYPES = ("float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
"""The types that tensors may have on the wire."""

MAX_NDIM = 8
"""More axes than any operand has; NumPy itself stops at 64."""


MAX_SIZE = 2**31 - 1
MAX_TENSOR_BYTES = 2**62


def require_plausible_shape(name: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise InvalidRequest for a shape that no array can have, whatever data comes with it.

    That is more axes than any operand has, a size beyond what index arithmetic takes, or, where another axis is empty
    and no data are needed, sizes whose product is beyond memory.
    """
    elements = math.prod(max(1, size) for size in shape)
    if len(shape) > MAX_NDIM or any(size > MAX_SIZE for size in shape) or elements * itemsize > MAX_TENSOR_BYTES:
        expected = f"at most {MAX_NDIM} axes, each of at most {MAX_SIZE} elements, that memory can hold"
        message = f"{name} has a shape that no tensor has; needed: {expected}"
        raise InvalidRequest.of(f"/{name}", message, got="more axes or elements", expected=expected)


@dataclass(frozen=True)
class Decoded:
    """A request's payload.

    Parameters
    ----------
    tensors : dict of str to ndarray
        The operands that came, by name.
    parameters : dict of str to object
        The parameters that came with them, as JSON values.
    form : {"nested", "flat", "base64"}
        How a JSON answer writes its tensors.
    """

    tensors: dict[str, NDArray[Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    form: TensorForm = "nested"


@dataclass(frozen=True)
class Limits:
    """Limits on what decoding may allocate.

    Parameters
    ----------
    decompressed_bytes : int
        Bytes that the members of an archive may inflate to.
    charge : callable
        Called with the bytes of memory that are about to be taken beside the body; raises if there are too many.
    """

    decompressed_bytes: int
    charge: Callable[[int], None]


class Codec(ABC):
    """Reads payloads of one media type, and writes results if ``writes`` is true.

    ``holds_one_tensor`` tells that a payload is a single tensor without a name.
    """

    media_type: ClassVar[str]
    writes: ClassVar[bool] = True
    holds_one_tensor: ClassVar[bool] = False

    @abstractmethod
    def decode(self, body: bytearray, operands: Sequence[str], options: Mapping[str, str], limits: Limits) -> Decoded:
        """Decode a request body.

        Parameters
        ----------
        body : bytearray
            The whole body. Tensors may be views of it.
        operands : sequence of str
            Names of the operation's operands; every other name is a parameter's.
        options : mapping of str to str
            The parameters of the Content-Type header, such as ``boundary``.
        limits : Limits

        Raises
        ------
        UnreadablePayload, InvalidRequest, TooLarge
        """

    def memory_of_answer(self, results: Sequence[TensorType], form: TensorForm) -> int:
        """Return the bytes that an answer takes beside its results: none where their own memory is sent.

        Parameters
        ----------
        results : sequence of TensorType
        form : {"nested", "flat", "base64"}
        """
        return 0

    def encode(self, results: Mapping[str, NDArray[Any]], form: TensorForm) -> list[Buffer]:
        """Encode the results of an operation as chunks of a body.

        Parameters
        ----------
        results : mapping of str to ndarray
        form : {"nested", "flat", "base64"}
            How JSON writes the tensors; the other formats have only one form.

        Raises
        ------
        InvalidRequest
            If the format cannot hold the results.
        """
        raise TypeError(f"{self.media_type} is not an answer format")
