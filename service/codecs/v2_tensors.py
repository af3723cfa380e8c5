"""Tensors of the Open Inference Protocol: their datatypes, and their data in JSON or as bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..problems import InvalidRequest, UnreadablePayload, counted
from .buffers import aligned, is_finite, tensor_at
from .json_tensors import longest_text, read_data, write_tensor
from .message import BFLOAT16, Body, Buffer, Limits, TensorType, require_plausible_shape

__all__ = [
    "DATATYPES",
    "NAMES",
    "BinaryData",
    "json_text",
    "longest_json",
    "read_json",
    "require_datatype",
    "require_json",
    "require_sizes",
]

DATATYPES: dict[str, np.dtype[Any]] = {
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BF16": BFLOAT16,
}
"""The types by the protocol's names."""

NAMES = {dtype: name for name, dtype in DATATYPES.items()}
"""The protocol's names of the types."""

LITTLE_ENDIAN = {dtype: dtype.newbyteorder("<") for dtype in NAMES}

OTHER_DATATYPES = {"BOOL": "truth values", "BYTES": "strings"}
"""Datatypes that the protocol has but no operation takes."""

ASK_FOR_BINARY = (
    'ask for binary data: "parameters": {"binary_data_output": true}, or {"binary_data": true} of an output'
)


def require_datatype(name: str, datatype: str) -> np.dtype[Any]:
    """Return the type that a datatype is, or raise InvalidRequest."""
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        kind = OTHER_DATATYPES.get(datatype)
        got = f"{datatype} ({kind})" if kind else "another datatype"
        fault, expected = f"{name} has a datatype that no operation takes", f"one of {', '.join(DATATYPES)}"
        raise InvalidRequest.of(f"/{name}", fault, got=got, expected=expected)
    return dtype


# ---------------------------------------------------------------------------------------------------------------- JSON


def read_json(
    name: str, data: msgspec.Raw, dtype: np.dtype[Any], shape: tuple[int, ...], limits: Limits
) -> NDArray[Any]:
    """Return the tensor whose data are numbers in JSON, in a flat list or in nested ones.

    Raises
    ------
    Unreadable, InvalidRequest, TooLarge, UnreadablePayload
    """
    if dtype == BFLOAT16:
        fault, expected = f"{name} is BF16, which has no form in JSON", "binary data, or FP32"
        raise InvalidRequest.of(f"/{name}", fault, got="data in JSON", expected=expected)
    require_plausible_shape(name, shape, dtype.itemsize)
    text = memoryview(data)
    if not shape and text[0] != ord("["):  # a number, as nested lists of no axes are
        text = memoryview(b"[%b]" % text.tobytes())
    return read_data(text, f"/{name}", dtype, shape, limits)


def require_json(name: str, result: NDArray[Any]) -> None:
    """Raise InvalidRequest if JSON cannot represent a result."""
    if result.dtype == BFLOAT16:
        fault, got = f"{name} is BF16, which has no form in JSON", "a result of BF16"
    elif not is_finite(result):
        fault, got = f"{name} contains NaN or infinity, which JSON cannot represent", "a result that is not finite"
    else:
        return
    raise InvalidRequest.of(f"/{name}", fault, got=got, expected="binary data", hint=ASK_FOR_BINARY)


def json_text(result: NDArray[Any]) -> Iterator[Buffer]:
    """Yield the chunks of a result's numbers as a flat list."""
    return write_tensor(result.reshape(-1), "nested")


def longest_json(result: TensorType) -> int:
    """Return an upper bound of the characters that a result's numbers are written with."""
    return 0 if result.dtype == BFLOAT16 else longest_text(result, "flat")


# -------------------------------------------------------------------------------------------------------------- binary


class BinaryData:
    """The bytes after the JSON of a request, of which each binary input takes its own, in their order.

    Parameters
    ----------
    body : bytearray or memoryview
        The whole body.
    start : int
        Where the bytes begin. The JSON before them has been read: large data are moved over its end if they do not lie
        aligned.
    """

    def __init__(self, body: Body, start: int) -> None:
        self._data = aligned(memoryview(body), start)
        self._position = 0

    def take(self, name: str, size: int, dtype: np.dtype[Any], shape: tuple[int, ...], limits: Limits) -> NDArray[Any]:
        """Return the next tensor: a view of the body, unless it is behind one of a narrower type and not aligned.

        Raises
        ------
        InvalidRequest
            If the size is not that of the shape and the type.
        """
        start, self._position = self._position, self._position + size
        count = math.prod(shape)
        if not count:  # any other shape is bounded by the size of the body
            require_plausible_shape(name, shape, dtype.itemsize)
        if size != count * dtype.itemsize:
            fault = f"the binary_data_size of {name} is not that of its shape and datatype"
            expected = counted(count * dtype.itemsize, "bytes")
            raise InvalidRequest.of(f"/{name}", fault, got=counted(size, "bytes"), expected=expected)
        tensor = tensor_at(self._data, start, LITTLE_ENDIAN[dtype], shape)
        if tensor.flags.aligned:
            return tensor
        limits.charge(size)
        return tensor.copy()


def require_sizes(sizes: Iterable[int], present: int) -> None:
    """Raise UnreadablePayload unless the sizes of the binary inputs are all the bytes that there are after the JSON."""
    needed = sum(sizes)
    if present != needed:
        fault = "the bytes after the JSON are not those that the binary_data_size of the inputs add up to"
        hint = "" if present else "the header Inference-Header-Content-Length says where they begin"
        got, expected = counted(present, "bytes"), counted(needed, "bytes")
        raise UnreadablePayload.of("", fault, got=got, expected=expected, hint=hint)
