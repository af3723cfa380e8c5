"""The NumPy array file, format versions 1.0, 2.0 and 3.0 (numpy.lib.format).

The header is a Python literal. It is read here with a cap on its length, a set of allowed characters and a whitelist of
types, so that no header can cost more than its own few bytes; numpy's own reader accepts far more than tensors.
"""

from __future__ import annotations

import ast
import functools
import io
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..problems import InvalidRequest, UnreadablePayload, counted
from .buffers import aligned, in_type_of_numpy, tensor_at, widened_bytes
from .codec import Codec
from .described import DescribedOperation, ExampleFile
from .media_types import JSON, NPY, SAFETENSORS
from .message import (
    DTYPES,
    MAX_CACHED_HEADERS,
    Body,
    Buffer,
    Decoded,
    Encoded,
    Limits,
    RequestContext,
    ResponseContext,
    TensorType,
    require_plausible_shape,
)
from .names import looks_like_json

__all__ = [
    "LOOKS_LIKE_JSON",
    "MAGIC",
    "SENT_AS_TEXT",
    "NpyCodec",
    "NpyHead",
    "decode_npy",
    "encode_npy",
    "npy_files",
    "npy_head",
    "npy_head_bytes",
    "read_npy_head",
]

MAGIC = b"\x93NUMPY"
FORMATS: dict[tuple[int, ...], tuple[struct.Struct, str]] = {
    (1, 0): (struct.Struct("<H"), "latin-1"),
    (2, 0): (struct.Struct("<I"), "latin-1"),
    (3, 0): (struct.Struct("<I"), "utf-8"),
}
"""The field of the header's length, and the header's encoding, of each format version."""

MAX_HEADER = 4096
HEADER_CHARACTERS = re.compile(r"[A-Za-z0-9_ \r\n\t{}()\[\]'\",:<>|=?.+\x80-\U0010ffff-]*")
LONG_INTEGER = re.compile(r"(?<=[0-9])L(?=\s*[,)])")
"""An integer as Python 2 may have written it in a shape."""


def _descriptions() -> dict[str, np.dtype[Any]]:
    """Return what the header's descr may say, as ``numpy.dtype`` reads it: '<f4', '>f8', '|u1', and other spellings."""
    codes = [*np.typecodes["Float"], *np.typecodes["AllInteger"], *(np.dtype(name).str[1:] for name in DTYPES)]
    dtypes = {name: np.dtype(scalar) for name, scalar in np.sctypeDict.items() if isinstance(name, str)}
    dtypes |= {f"{order}{code}": np.dtype(f"{order}{code}") for code in codes for order in ("", "<", ">", "=", "|")}
    return {spelling: dtype for spelling, dtype in dtypes.items() if dtype.name in DTYPES}


DESCRIPTIONS = _descriptions()

OTHER_KINDS = {
    "?": "booleans",
    "b": "booleans",
    "c": "complex numbers",
    "f": "floating point numbers of another size",
    "M": "dates",
    "m": "durations",
    "O": "Python objects",
    "S": "bytes",
    "U": "text",
    "V": "raw bytes",
}
"""What the letters of other dtypes mean, to be named in errors."""

OTHER_DESCRIPTION = re.compile(r"[<>=|]?([?bcfMmOSUV])[0-9]*(\[.*\])?")

RAW_BFLOAT16 = f"as bfloat16, which npy cannot name, is written; {SAFETENSORS} can"
"""Hint for raw bytes, two for each element."""

LINE_END = re.compile(rb"[\r\n]")
SENT_AS_TEXT = "if curl sent it, use --data-binary and not -d, which removes line ends and null bytes"

LOOKS_LIKE_JSON = f"it looks like JSON, which is sent with Content-Type: {JSON}"


def decode_npy(content: memoryview, name: str, limits: Limits) -> NDArray[Any]:
    """Return the array in an npy file, of native byte order, C order and natural alignment.

    Parameters
    ----------
    content : memoryview
        The file, of bytes that may be overwritten. The array is a view of it, unless it is in Fortran order.
    name : str
        The operand that it is for, to be named in errors.
    limits : Limits
        Limits that the memory of a copy is charged to.

    Raises
    ------
    UnreadablePayload
        If the bytes are not an npy file, or hold more or fewer bytes than its header says.
    InvalidRequest
        If it has a type or a number of axes that no tensor may have.
    """
    head = read_npy_head(content, name)
    needed, present = head.data_bytes, len(content) - head.size
    if needed != present:
        raise _unreadable(
            name,
            f"its header promises {counted(needed, 'bytes of data')}",
            f"{present} bytes of data",
            f"{counted(needed, 'bytes of data')}",
            content,
        )
    array = tensor_at(aligned(content, head.size), 0, head.dtype, head.shape, "F" if head.fortran_order else "C")
    if not array.flags.c_contiguous:
        limits.charge(array.nbytes)
    return np.ascontiguousarray(array) if array.ndim else array


class NpyHead(NamedTuple):
    """What stands before the data of an npy file.

    Parameters
    ----------
    dtype : dtype
        As it is written, in the byte order of the file.
    fortran_order : bool
    shape : tuple of int
    size : int
        Bytes of the head: where the data starts.
    """

    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]
    size: int

    @property
    def data_bytes(self) -> int:
        """Bytes of the data that follow."""
        return self.dtype.itemsize * math.prod(self.shape)


def npy_head_bytes(start: Buffer) -> int:
    """Return how many bytes of an npy file its head takes, or are needed to tell, from those that there are.

    It is never more than ``read_npy_head`` accepts; for what is no npy file, what there is tells that.
    """
    version = tuple(start[6:8])
    if not MAGIC.startswith(bytes(start[: len(MAGIC)])) or (len(version) == 2 and version not in FORMATS):
        return 0
    length_field = FORMATS[version][0] if version in FORMATS else FORMATS[1, 0][0]
    before = 8 + length_field.size
    if len(start) < before:
        return before
    (length,) = length_field.unpack(start[8:before])
    return before + min(int(length), MAX_HEADER)


def read_npy_head(content: memoryview, name: str) -> NpyHead:
    """Return the head of an npy file, whose type and shape are ones that a tensor may have.

    Raises
    ------
    UnreadablePayload
        If the bytes are not an npy file, or end within its header.
    InvalidRequest
        If it has a type or a number of axes that no tensor may have.
    """
    header, start = _read_header(content, name)
    description, shape = header["descr"], header["shape"]
    dtype = DESCRIPTIONS.get(description) if isinstance(description, str) else None
    if dtype is None:
        got, hint = "a structured dtype", ""
        if isinstance(description, str):
            match = OTHER_DESCRIPTION.fullmatch(description)
            got = OTHER_KINDS[match[1]] if match else "another dtype"
            hint = RAW_BFLOAT16 if description.endswith("V2") else ""
        raise InvalidRequest.of(f"/{name}", f"{name} has another dtype", got=got, expected=", ".join(DTYPES), hint=hint)
    require_plausible_shape(name, shape, dtype.itemsize)
    return NpyHead(dtype, header["fortran_order"], shape, start)


def _read_header(content: memoryview, name: str) -> tuple[Mapping[str, Any], int]:
    """Return the header with its three entries, and where the data starts."""
    if bytes(content[: len(MAGIC)]) != MAGIC:
        raise _unreadable(name, "it does not start with the npy magic string", "other bytes", "an npy file", content)
    version = tuple(content[6:8])
    if version not in FORMATS:
        got = f"version {'.'.join(map(str, version))}" if len(version) == 2 else "no version"
        raise _unreadable(name, "its format version is not known", got, "version 1.0, 2.0 or 3.0", content)
    length_field, encoding = FORMATS[version]
    start = 8 + length_field.size
    if len(content) < start:
        raise _unreadable(name, "it ends within its header", f"{len(content)} bytes", "a whole header", content)
    (length,) = length_field.unpack(content[8:start])
    if length > MAX_HEADER:
        raise _unreadable(name, "its header is too long", f"{length} bytes", f"at most {MAX_HEADER} bytes", content)
    if len(content) < start + length:
        raise _unreadable(
            name, "it ends within its header", f"{len(content)} bytes", f"{start + length} bytes", content
        )
    header = _parse_header(bytes(content[start : start + length]), encoding)
    if header is None:
        raise _unreadable(
            name,
            "its header is broken",
            "another header",
            "a dict of descr, fortran_order and shape as numpy writes it",
            content,
        )
    return header, start + length


@functools.lru_cache(MAX_CACHED_HEADERS)
def _parse_header(raw: bytes, encoding: str) -> Mapping[str, Any] | None:
    try:
        text = raw.decode(encoding).strip()
        if not HEADER_CHARACTERS.fullmatch(text):
            return None
        header = ast.literal_eval(LONG_INTEGER.sub("", text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        return None
    shape = header["shape"]
    if not isinstance(shape, tuple) or any(type(size) is not int or size < 0 for size in shape):
        return None
    return header if isinstance(header["fortran_order"], bool) else None


def _unreadable(name: str, reason: str, got: str, expected: str, content: memoryview) -> Exception:
    is_stripped = bytes(content[: len(MAGIC)]) == MAGIC and not LINE_END.search(content[:MAX_HEADER])
    hint = f"it has no line end, which numpy puts after the header: {SENT_AS_TEXT}" if is_stripped else ""
    if looks_like_json(content):
        hint = LOOKS_LIKE_JSON
    fault = f"{name} is not a readable npy file: {reason}"
    return UnreadablePayload.of(f"/{name}", fault, got=got, expected=expected, hint=hint)


def encode_npy(array: NDArray[Any]) -> list[Buffer]:
    """Return an npy file, format 1.0, little-endian and in C order, as its header and a view of the array's data."""
    array = in_type_of_numpy(array)
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")  # no axes stay none
    header = _written_header(array.dtype.str, array.shape)
    return [header, array.reshape(-1).data.cast("B")] if array.size else [header]


def npy_head(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the head of an npy file, format 1.0, of a tensor in little-endian and C order."""
    return _written_header(dtype.newbyteorder("<").str, shape)


@functools.lru_cache(MAX_CACHED_HEADERS)
def _written_header(description: str, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
    return header.getvalue()


class NpyCodec(Codec):
    """One operand, or one result, as an npy file."""

    media_type: ClassVar[str] = NPY
    reads_views: ClassVar[bool] = True
    title: ClassVar[str] = "npy"
    limitation: ClassVar[str] = "holds one tensor and the operation needs several"
    responds_in_kind: ClassVar[bool] = False  # by its preference, unless there are several results
    preference: ClassVar[int] = 2

    def can_read(self, operands: int, *, typed: bool) -> bool:  # noqa: D102
        return operands == 1

    def can_write(self, results: int) -> bool:  # noqa: D102
        return results == 1

    def decode(self, body: Body, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        name = request.operands[0]
        return Decoded({name: decode_npy(memoryview(body), name, limits)})

    def response_memory(self, results: Sequence[TensorType], options: Mapping[str, Any]) -> int:  # noqa: D102
        return widened_bytes(results)

    def encode(self, results: Mapping[str, NDArray[Any]], response: ResponseContext) -> Encoded:  # noqa: D102
        (array,) = results.values()
        return Encoded(encode_npy(array))

    def example_files(self, operation: DescribedOperation) -> dict[str, ExampleFile]:  # noqa: D102
        name = operation.required_operands[0]
        return npy_files({name: operation.example_operands[name]})

    def encode_example(self, operation: DescribedOperation) -> Encoded:  # noqa: D102
        return Encoded(encode_npy(operation.example_operands[operation.required_operands[0]]))


def npy_files(tensors: Mapping[str, NDArray[Any]]) -> dict[str, ExampleFile]:
    """Return an npy file for each tensor, by the file's name."""
    return {f"{name}.npy": ExampleFile(encode_npy(tensor), NPY) for name, tensor in tensors.items()}
