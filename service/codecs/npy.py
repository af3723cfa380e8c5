"""The NumPy array file, format versions 1.0 and 2.0 (numpy.lib.format).

The header is a Python literal. It is read here with a cap on its length, a set of allowed characters and a whitelist of
types, so that no header can cost more than its own few bytes; numpy's own reader accepts far more than tensors.
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from service.codecs.message import DTYPES, Buffer, Codec, Decoded, Limits, TensorForm, require_plausible_shape
from service.problems import InvalidRequest, UnreadablePayload, counted

__all__ = ["NpyCodec", "decode_npy", "encode_npy"]

MAGIC = b"\x93NUMPY"
LENGTH_FIELDS: dict[tuple[int, ...], struct.Struct] = {(1, 0): struct.Struct("<H"), (2, 0): struct.Struct("<I")}
LONGEST_HEADER = 4096
HEADER_CHARACTERS = re.compile(r"[A-Za-z0-9_ \n\t{}()\[\]'\",:<>|=.+-]*")
# what the header's descr may say: '<f4', '>f8', '|u1'; some writers give even single bytes an order
DESCRIPTIONS = {
    f"{order}{dtype.kind}{dtype.itemsize}": dtype
    for dtype in map(np.dtype, DTYPES)
    for order in ("<>" if dtype.itemsize > 1 else "<>|")
}


OTHER_KINDS = {
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
"""What the letters of other dtypes stand for, to be named in errors."""


def decode_npy(content: memoryview, name: str) -> NDArray[Any]:
    """Return the array in an npy file, of native byte order, C order and natural alignment.

    Parameters
    ----------
    content : memoryview
        The file. The array is a view of it where its layout allows.
    name : str
        The operand that it is for, to be named in errors.

    Raises
    ------
    UnreadablePayload
        If the bytes are not an npy file, or hold more or fewer bytes than its header says.
    InvalidRequest
        If the type or the number of axes is none that a tensor has here.
    """
    header, start = _read_header(content, name)
    description, fortran_order, shape = header["descr"], header["fortran_order"], header["shape"]
    dtype = DESCRIPTIONS.get(description) if isinstance(description, str) else None
    if dtype is None:
        got = "a structured dtype"
        if isinstance(description, str):
            known = description[:1] in {"<", ">", "|"}
            got = OTHER_KINDS.get(description[1:2], "another dtype") if known else "a dtype without its byte order"
        raise InvalidRequest.of(
            f"/{name}",
            f"{name} has {got}; needed: {', '.join(DTYPES)}",
            got=got,
            expected=", ".join(DTYPES),
        )
    require_plausible_shape(name, shape, dtype.itemsize)
    needed, there = dtype.itemsize * math.prod(shape), len(content) - start
    if needed != there:
        raise _unreadable(
            name,
            f"its header promises {counted(needed, 'bytes of data')}",
            f"{there} bytes of data",
            f"{counted(needed, 'bytes of data')}",
        )
    flat = np.frombuffer(content, dtype=np.dtype(description), offset=start)
    array = flat.reshape(shape, order="F" if fortran_order else "C")
    # copies only what is big-endian, in Fortran order or badly aligned
    return np.require(array, dtype=dtype, requirements=["C", "A"])


def _read_header(content: memoryview, name: str) -> tuple[dict[str, Any], int]:
    """Return the header with its three entries, and where the data starts."""
    if bytes(content[:6]) != MAGIC:
        raise _unreadable(name, "it does not start with the npy magic string", "other bytes", "an npy file")
    version = tuple(content[6:8])
    length_field = LENGTH_FIELDS.get(version)
    if length_field is None:
        raise _unreadable(name, "its format version is none that holds plain arrays", "another version", "1.0 or 2.0")
    start = 8 + length_field.size
    if len(content) < start:
        raise _unreadable(name, "it ends within its header", f"{len(content)} bytes", "a whole header")
    (length,) = length_field.unpack(content[8:start])
    if length > LONGEST_HEADER:
        raise _unreadable(name, "its header is too long", f"{length} bytes", f"at most {LONGEST_HEADER} bytes")
    if len(content) < start + length:
        raise _unreadable(name, "it ends within its header", f"{len(content)} bytes", f"{start + length} bytes")
    header = _parse_header(bytes(content[start : start + length]))
    if header is None:
        raise _unreadable(
            name,
            "its header is broken",
            "another header",
            "a dict of descr, fortran_order and shape as numpy writes it",
        )
    return header, start + length


def _parse_header(raw: bytes) -> dict[str, Any] | None:
    text = raw.decode("latin-1").strip()
    if not HEADER_CHARACTERS.fullmatch(text):
        return None
    try:
        header = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        return None
    shape = header["shape"]
    if not isinstance(shape, tuple) or any(type(size) is not int or size < 0 for size in shape):
        return None
    return header if isinstance(header["fortran_order"], bool) else None


def _unreadable(name: str, reason: str, got: str, expected: str) -> Exception:
    return UnreadablePayload.of(
        f"/{name}",
        f"{name} is not a readable npy file: {reason}; got {got}, needed {expected}",
        got=got,
        expected=expected,
    )


def encode_npy(array: NDArray[Any]) -> list[Buffer]:
    """Return an npy file, format 1.0, little-endian and in C order, as its header and a view of the array's data."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    )
    return [header.getvalue(), array.reshape(-1).data.cast("B")] if array.size else [header.getvalue()]


class NpyCodec(Codec):
    """One operand, or one result, as an npy file."""

    media_type: ClassVar[str] = "application/x-npy"
    holds_one_tensor: ClassVar[bool] = True

    def decode(  # noqa: D102
        self, body: bytearray, operands: Sequence[str], options: Mapping[str, str], limits: Limits
    ) -> Decoded:
        (name,) = operands
        return Decoded({name: decode_npy(memoryview(body), name)})

    def encode(self, results: Mapping[str, NDArray[Any]], form: TensorForm) -> list[Buffer]:  # noqa: D102
        (array,) = results.values()
        return encode_npy(array)
