"""The safetensors file: named tensors behind a header in JSON, which also holds texts by name, ``__metadata__``.

The format is that of https://huggingface.co/docs/safetensors: eight bytes with the length of the header, the header,
and the data of the tensors, without gaps or overlaps. It is read here, not by the library, because that copies.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ..problems import InvalidRequest, UnreadablePayload, counted
from .buffers import ALIGNMENT, aligned, tensor_at, tensor_bytes
from .codec import Codec
from .described import as_text
from .media_types import SAFETENSORS
from .message import (
    BFLOAT16,
    DTYPES,
    MAX_CACHED_HEADERS,
    Body,
    Buffer,
    Decoded,
    Encoded,
    Limits,
    RequestContext,
    ResponseContext,
    require_plausible_shape,
)
from .names import joined, looks_like_json, pointer_to
from .npy import LOOKS_LIKE_JSON
from .text import parse_text_parameters

__all__ = ["SafetensorsCodec"]

LENGTH = struct.Struct("<Q")
MAX_HEADER = 2**16
"""Bytes; far more than the operands and parameters of any request need."""

MAX_TENSORS = 64
NOTHING = memoryview(b"")
METADATA = "__metadata__"
FRAMEWORK_MARK = "format"
"""Name in the metadata under which libraries note which framework wrote a file, such as pt. It is not a parameter."""

MEMBERS = {"dtype", "shape", "data_offsets"}
NATIVE: dict[str, np.dtype[Any]] = {
    f"{dtype.kind.upper()}{8 * dtype.itemsize}": dtype for dtype in map(np.dtype, DTYPES)
} | {"BF16": BFLOAT16}
"""The types by the names that the format has for them."""

LITTLE_ENDIAN: dict[str, np.dtype[Any]] = {code: dtype.newbyteorder("<") for code, dtype in NATIVE.items()}
CODES = {dtype: code for code, dtype in NATIVE.items()}
OTHER_DTYPES = {
    "BOOL", "C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0",
}  # fmt: skip
"""The names of types that no operand may have, to be named in errors."""


class Entry(NamedTuple):
    """A tensor as the header describes it: its data are the bytes from begin to end, behind the header."""

    begin: int
    end: int
    name: str
    dtype: np.dtype[Any]
    shape: Sequence[int]


class SafetensorsCodec(Codec):
    """Operands, or results, by name; parameters as texts in the metadata."""

    media_type: ClassVar[str] = SAFETENSORS
    aliases: ClassVar[tuple[str, ...]] = ("application/x-safetensors", "application/safetensors")
    reads_views: ClassVar[bool] = True
    title: ClassVar[str] = "safetensors"
    parameters_in: ClassVar[str] = f"in {METADATA} in safetensors"
    extension: ClassVar[str] = "safetensors"

    def decode(self, body: Body, request: RequestContext, limits: Limits) -> Decoded:  # noqa: D102
        content = memoryview(body)
        text = _header_text(content)
        entries, metadata = _read_header(text, tuple(request.operands), len(content) - LENGTH.size - len(text))
        data = aligned(content, LENGTH.size + len(text))
        tensors: dict[str, NDArray[Any]] = {}
        for entry in entries:
            tensor = tensor_at(data, entry.begin, entry.dtype, entry.shape)
            if not tensor.flags.aligned:  # it is behind a tensor of a smaller type
                limits.charge(tensor.nbytes)
                tensor = tensor.copy()
            tensors[entry.name] = tensor
        return Decoded(tensors, parse_text_parameters(metadata))

    def encode(self, results: Mapping[str, NDArray[Any]], response: ResponseContext) -> Encoded:  # noqa: D102
        header: dict[str, Any] = {}
        if response.parameters:
            header[METADATA] = {name: as_text(value) for name, value in response.parameters.items()}
        buffers: list[Buffer] = []
        position = 0
        # the largest types first: so all data are aligned
        for name, result in sorted(results.items(), key=lambda item: -item[1].itemsize):
            end = position + result.nbytes
            header[name] = {"dtype": CODES[result.dtype], "shape": result.shape, "data_offsets": (position, end)}
            buffers.append(tensor_bytes(result))
            position = end
        text = orjson.dumps(header)
        text += b" " * (-len(text) % ALIGNMENT)
        return Encoded([LENGTH.pack(len(text)) + text, *buffers])


def _header_text(content: memoryview) -> bytes:
    """Return the header as it is written."""
    size = len(content)
    if size < LENGTH.size:
        raise _unreadable("it ends within its first eight bytes", f"{size} bytes", "8 bytes and a header", content)
    (length,) = LENGTH.unpack_from(content)
    if length > MAX_HEADER:
        raise _unreadable("its header is too long", counted(length, "bytes"), f"at most {MAX_HEADER} bytes", content)
    end = LENGTH.size + length
    if size < end:
        raise _unreadable("it ends within its header", f"{size} bytes", f"{end} bytes or more", content)
    return bytes(content[LENGTH.size : end])


@functools.lru_cache(MAX_CACHED_HEADERS)
def _read_header(
    text: bytes, operands: tuple[str, ...], size: int
) -> tuple[Sequence[Entry], Sequence[tuple[str, str]]]:
    """Return the tensors and the parameters that a header describes, of a file with so many bytes of data.

    Requests for the same layer have the same header, which takes longer to read than the layer to compute.
    """
    header = _parsed(text)
    metadata = _metadata(header)
    entries = [_entry(name, member, operands) for name, member in header.items() if name != METADATA]
    _refuse_repeated_names(text, header)
    _refuse_gaps(entries, size)
    return entries, metadata


def _parsed(text: bytes) -> dict[str, Any]:
    """Return the header, whose members are of any type."""
    try:
        header = orjson.loads(text) if text.startswith(b"{") else None
    except orjson.JSONDecodeError:
        header = None
    if header is None:
        raise _unreadable("its header is broken", "other text", "a JSON object")
    if len(header) > MAX_TENSORS + 1:
        raise _unreadable("it has too many tensors", f"{len(header)} members", f"at most {MAX_TENSORS}")
    return header  # type: ignore[no-any-return]


def _metadata(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the texts in the metadata that are parameters."""
    metadata = header.get(METADATA, {})
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        expected = f'an object of strings, such as {{"{METADATA}": {{"stride": "2", "padding": "[1, 0]"}}}}'
        raise _unreadable(f"its {METADATA} is broken", "another value", expected)
    return [(name, value) for name, value in metadata.items() if name != FRAMEWORK_MARK]


def _entry(name: str, member: Any, operands: Sequence[str]) -> Entry:
    """Return a tensor as a member of the header describes it."""
    if name not in operands:
        pointer = pointer_to(name)
        fault = f"the safetensors file has a tensor {pointer.removeprefix('/')}".rstrip() + " that is not an operand"
        hint = f"parameters go in {METADATA} or in the query string"
        expected = f"tensors for {joined(operands)} only"
        raise InvalidRequest.of(pointer, fault, got="another tensor", expected=expected, hint=hint)
    if type(member) is not dict or member.keys() != MEMBERS:
        raise _broken(name, "its members are not those of a tensor", "dtype, shape and data_offsets, and nothing else")
    shape, offsets = member["shape"], member["data_offsets"]
    if not _are_sizes(shape):
        raise _broken(name, "its shape is not a shape", "a list of integers >= 0")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise _broken(name, "its data_offsets are not offsets", "a list of two integers >= 0")
    dtype = _dtype(name, member["dtype"])
    require_plausible_shape(name, shape, dtype.itemsize)
    begin, end = offsets
    needed = dtype.itemsize * math.prod(shape)
    if end - begin != needed:
        got = counted(end - begin, "bytes") if end >= begin else "an end before the beginning"
        fault = f"{name} has data_offsets that do not fit its dtype and shape"
        raise UnreadablePayload.of(f"/{name}", fault, got=got, expected=counted(needed, "bytes"))
    return Entry(begin, end, name, dtype, shape)


def _are_sizes(value: Any) -> bool:
    return type(value) is list and {int}.issuperset(map(type, value)) and min(value, default=0) >= 0


def _dtype(name: str, code: Any) -> np.dtype[Any]:
    if type(code) is not str:
        raise _broken(name, "its dtype is not a dtype", f"one of {', '.join(NATIVE)}")
    if code not in LITTLE_ENDIAN:
        got = code if code in OTHER_DTYPES else "another dtype"
        raise InvalidRequest.of(f"/{name}", f"{name} has another dtype", got=got, expected=", ".join(NATIVE))
    return LITTLE_ENDIAN[code]


def _refuse_repeated_names(text: bytes, header: Mapping[str, Any]) -> None:
    """Refuse a name that occurs in an object of a header twice: the parser keeps the last value without an error.

    Most headers are written in the shortest way; one that is as long as that has nothing but what the parser keeps.
    """
    if len(orjson.dumps(header)) == len(text.rstrip(b" ")):
        return
    try:
        json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        # RecursionError: in what the parser does not keep, anything may be
        raise _unreadable("a name occurs in its header twice", "two values", "one value") from None


def _object(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) < len(members):
        raise ValueError


def _refuse_gaps(entries: Sequence[Entry], size: int) -> None:
    """Refuse tensors that share bytes, and bytes that belong to no tensor."""
    position = 0
    for entry in sorted(entries):
        if entry.begin != position:
            fault = f"{entry.name} does not begin where the tensor before it ends"
            got, expected = counted(entry.begin, "bytes before it"), f"{position}: no gaps and no overlaps"
            raise UnreadablePayload.of(f"/{entry.name}", fault, got=got, expected=expected)
        position = entry.end
    if position != size:
        got, expected = f"{size} bytes of data", counted(position, "bytes, as its header says")
        raise _unreadable("its data are incomplete or too long", got, expected)


def _broken(name: str, reason: str, expected: str) -> Exception:
    fault = f"{name} is not a readable tensor of a safetensors file: {reason}"
    return UnreadablePayload.of(f"/{name}", fault, got="another value", expected=expected)


def _unreadable(reason: str, got: str, expected: str, content: memoryview = NOTHING) -> Exception:
    hint = LOOKS_LIKE_JSON if looks_like_json(content) else ""
    fault = f"the body is not a readable safetensors file: {reason}"
    return UnreadablePayload.of("", fault, got=got, expected=expected, hint=hint)
