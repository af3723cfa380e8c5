"""Tensors in JSON: a nested list; or {"dtype", "shape", "data"} with a flat list; or the same with "base64".

A number is a tensor without axes.

Lists are read from their text by ``json_numbers``, base64 by ``json_base64``. Tensors are written in chunks: one chunk
takes about a millisecond, so that the threads that serve other requests get the GIL in between.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..problems import counted
from .buffers import in_type_of_numpy, type_of_numpy
from .json_base64 import base64_characters, decode_base64
from .json_lists import FLAT_LIST, list_shape, path, verified_shape
from .json_numbers import invalid, read_numbers
from .json_objects import Text, Unreadable, json_kind, kind_of, parse, read_members, require_json
from .message import DTYPES, MAX_NDIM, Buffer, Limits, TensorType, require_plausible_shape
from .steps import steps

__all__ = ["TensorForm", "longest_text", "read_data", "read_dtype", "read_tensor", "write_tensor"]

TensorForm = str
"""nested, flat or base64."""

DEFAULT_DTYPE = "float64"
CHUNK_NUMBERS = 2**14
CHUNK_BYTES = 3 * 2**18
"""A multiple of three, so that chunks of base64 join without padding between them."""

MAX_NUMBER = {"float16": 17, "float32": 17, "float64": 25, **{name: 22 for name in DTYPES if "int" in name}}
"""Maximum length of a number of each type in JSON, including the comma after it."""

MAX_TENSOR_HEADER = 256
"""Maximum length of dtype and shape in JSON."""

TYPED_ARRAY = "a typed array of JavaScript? send {dtype, shape, data: Array.from(x)}"
"""Hint for an object with the members "0", "1" and so on, as JSON.stringify writes a typed array."""


# ------------------------------------------------------------------------------------------------------------- writing


def longest_text(tensor: TensorType, form: TensorForm) -> int:
    """Return an upper bound of the characters that a tensor is written with."""
    shape, dtype = tensor.shape, type_of_numpy(tensor.dtype)
    elements = math.prod(shape)
    if form == "base64":
        return MAX_TENSOR_HEADER + 4 * math.ceil(elements * dtype.itemsize / 3)
    lists = _lists_in(shape) if form == "nested" else 0
    return MAX_TENSOR_HEADER + elements * MAX_NUMBER[dtype.name] + lists * len("[],")


def _lists_in(shape: Sequence[int]) -> int:
    """Return the number of lists that a tensor of a shape is written as."""
    return sum(math.prod(shape[:axis]) for axis in range(len(shape)))


def write_tensor(array: NDArray[Any], form: TensorForm) -> Iterator[Buffer]:
    """Yield the chunks of a tensor's text.

    Parameters
    ----------
    array : ndarray
        Of finite numbers, unless the form is base64.
    form : {"nested", "flat", "base64"}
    """
    array = in_type_of_numpy(array)
    shape = list(array.shape)  # before one without axes gets one
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if form == "nested":
        yield from _nested_text(array)
        return
    yield orjson.dumps({"dtype": array.dtype.name, "shape": shape})[:-1]
    if form == "flat":
        yield b',"data":'
        yield from _nested_text(array.reshape(-1))
        yield b"}"
        return
    yield b',"base64":"'
    content = array.reshape(-1).data.cast("B") if array.size else memoryview(b"")
    for start, end in steps(0, len(content), CHUNK_BYTES):
        yield base64.b64encode(content[start:end])
    yield b'"}'


def _nested_text(array: NDArray[Any]) -> Iterator[Buffer]:
    """Yield the text of nested lists: of one row after the other, or of as many rows as make a chunk."""
    written = array.size + _lists_in(array.shape)
    if written <= CHUNK_NUMBERS:
        yield orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
        return
    rows = max(1, CHUNK_NUMBERS * len(array) // written)
    yield b"["
    for start, end in steps(0, len(array), rows):
        if start:
            yield b","
        if rows == 1:
            yield from _nested_text(array[start])
        else:
            # without the brackets around these rows
            yield memoryview(orjson.dumps(array[start:end], option=orjson.OPT_SERIALIZE_NUMPY))[1:-1]
    yield b"]"


# ------------------------------------------------------------------------------------------------------------- reading


def read_tensor(text: Text, pointer: str, default_dtype: str | None, limits: Limits) -> tuple[NDArray[Any], TensorForm]:
    """Return the tensor that a JSON value is, and the form that it is written in.

    Parameters
    ----------
    text : memoryview
        The value.
    pointer : str
        Where it is, to be named in errors.
    default_dtype : str or None
        The body's ``dtype``, if there is one: the type of nested lists.
    limits : Limits
        Charged for the tensor, and for what a fault takes; the caller charges ``reading_memory``.

    Raises
    ------
    Unreadable
    InvalidRequest
        With the pointer of an element that is wrong.
    """
    first = chr(text[0])
    dtype = np.dtype(default_dtype or DEFAULT_DTYPE)
    if first == "[":
        return _lists(text, pointer, dtype, limits), "nested"
    if first != "{":
        number = read_numbers(text, 1, dtype, lambda _: pointer, limits) if first in "-0123456789" else None
        if number is None:
            expected = "a nested list, a number, or an object with dtype, shape and data or base64"
            raise invalid(pointer, "is not a tensor", kind_of(text, limits), expected)
        return number.reshape(()), "nested"  # as deeply nested as a tensor without axes is: not at all
    members = read_members(text)
    if set(members) not in ({"dtype", "shape", "data"}, {"dtype", "shape", "base64"}):
        expected = "exactly the members dtype, shape and one of data and base64"
        hint = TYPED_ARRAY if "0" in members else ""
        raise invalid(pointer, "is an object with other members", f"{len(members)} members", expected, hint)
    dtype = np.dtype(read_dtype(parse(members["dtype"], limits), f"{pointer}/dtype"))
    shape = _shape(parse(members["shape"], limits), f"{pointer}/shape")
    require_plausible_shape(pointer.removeprefix("/"), shape, dtype.itemsize)
    if "base64" in members:
        return _base64(members["base64"], f"{pointer}/base64", dtype, shape, limits), "base64"
    return read_data(members["data"], f"{pointer}/data", dtype, shape, limits, max_ndim=1), "flat"


def read_data(
    text: Text,
    pointer: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    limits: Limits,
    *,
    max_ndim: int = MAX_NDIM,
) -> NDArray[Any]:
    """Return the tensor of a known type and shape whose numbers are listed: flat, or nested in any regular way.

    Parameters
    ----------
    text : memoryview
        The list.
    pointer : str
        Where it is, to be named in errors: an element is named by its place in these lists.
    dtype : dtype
    shape : tuple of int
    limits : Limits
        Charged for the tensor, and for what a fault takes; the caller charges ``reading_memory``.
    max_ndim : int
        How deeply it may be nested; 1 is flat.

    Raises
    ------
    Unreadable
    InvalidRequest
    """
    if text[0] != ord("["):
        expected = FLAT_LIST if max_ndim == 1 else "a list of numbers"
        raise invalid(pointer, "is not a list", kind_of(text, limits), expected)
    numbers = _lists(text, pointer, dtype, limits, max_ndim)
    if numbers.size != math.prod(shape):
        got, expected = counted(numbers.size, "numbers"), counted(math.prod(shape), "numbers")
        raise invalid(pointer, "does not fit the shape", got, expected)
    return numbers.reshape(shape)


def read_dtype(value: Any, pointer: str) -> str:
    """Return the name of a type, or raise InvalidRequest."""
    if not isinstance(value, str) or value not in DTYPES:
        raise invalid(pointer, "is not a dtype", json_kind(value), f"one of {', '.join(DTYPES)}")
    return value


def _shape(value: Any, pointer: str) -> tuple[int, ...]:
    expected = f"a list of at most {MAX_NDIM} integers >= 0"
    if not isinstance(value, list) or len(value) > MAX_NDIM:
        raise invalid(pointer, "is not a shape", json_kind(value), expected)
    if any(type(size) is not int or size < 0 for size in value):
        raise invalid(pointer, "has an entry that is not a size", "another entry", expected)
    return tuple(value)


def _lists(text: Text, pointer: str, dtype: np.dtype[Any], limits: Limits, max_ndim: int = MAX_NDIM) -> NDArray[Any]:
    shape: Sequence[int] | None = list_shape(text)
    if shape is None or len(shape) > max_ndim or (numbers := _numbers(text, pointer, shape, dtype, limits)) is None:
        # irregular, empty, or with a number beyond the range of float64
        require_json(text, limits)
        shape = verified_shape(text, pointer, max_ndim)
        if not math.prod(shape):
            return np.empty(shape, dtype)
        numbers = _numbers(text, pointer, shape, dtype, limits)
    if numbers is None:
        raise Unreadable
    return numbers.reshape(shape)


def _numbers(
    text: Text, pointer: str, shape: Sequence[int], dtype: np.dtype[Any], limits: Limits
) -> NDArray[Any] | None:
    return read_numbers(text, math.prod(shape), dtype, lambda index: path(pointer, shape, index), limits)


def _base64(text: Text, pointer: str, dtype: np.dtype[Any], shape: tuple[int, ...], limits: Limits) -> NDArray[Any]:
    if text[0] != ord('"'):
        raise invalid(pointer, "is not a string", kind_of(text, limits), "a string of base64")
    encoded = base64_characters(text, limits)
    size = dtype.itemsize * math.prod(shape)
    characters = 4 * math.ceil(size / 3) if size < 2**53 else 4 * (size // 3 + 1)
    if len(encoded) != characters:
        require_json(text, limits)
        got, expected = f"{len(encoded)} characters", counted(characters, "characters")
        raise invalid(pointer, "does not fit the shape and dtype", got, expected)
    limits.charge(size)
    content = np.empty(size, np.uint8)
    if not decode_base64(encoded, content.data):
        require_json(text, limits)
        raise invalid(pointer, "is not base64", "other text", "the standard alphabet with padding, no line breaks")
    little_endian = content.view(dtype.newbyteorder("<"))
    return little_endian.astype(dtype, copy=False).reshape(shape)
