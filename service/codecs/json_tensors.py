"""Tensors in JSON: a nested list; or {"dtype", "shape", "data"} with a flat list; or the same with "base64".

A number is a tensor without axes.

The structure of nested lists is verified level by level with whole-list operations, so that a ragged list, a null or a
string among the numbers is found at the speed of the interpreter's own loops. Tensors are written in chunks: one chunk
takes some milliseconds, so that the threads that serve other requests get the GIL in between.
"""

from __future__ import annotations

import base64
import binascii
import decimal
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..problems import InvalidRequest, RequestProblem, counted
from .buffers import in_type_of_numpy, type_of_numpy
from .json_numbers import MAX_EXACT_INTEGER, ExactNumbers
from .message import DTYPES, MAX_NDIM, Buffer, TensorType, require_plausible_shape

__all__ = ["TensorForm", "form_of", "json_kind", "longest_text", "read_dtype", "read_tensor", "write_tensor"]

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

Position = Callable[[int], str]
"""Returns the JSON pointer of an element from its index in the flattened tensor."""

Flatten = Callable[[dict[str, Any]], list[Any]]
"""Returns the numbers of the tensor from the members of the whole text."""


def form_of(value: Any) -> TensorForm:
    """Return the form that a tensor is written in."""
    if isinstance(value, dict):
        return "base64" if "base64" in value else "flat"
    return "nested"


# ------------------------------------------------------------------------------------------------------------- writing


def longest_text(tensor: TensorType, form: TensorForm) -> int:
    """Return an upper bound of the characters that a tensor is written with."""
    shape, dtype = tensor.shape, type_of_numpy(tensor.dtype)
    elements = math.prod(shape)
    if form == "base64":
        return MAX_TENSOR_HEADER + 4 * math.ceil(elements * dtype.itemsize / 3)
    lists = sum(math.prod(shape[:axis]) for axis in range(len(shape))) if form == "nested" else 0
    return MAX_TENSOR_HEADER + elements * MAX_NUMBER[dtype.name] + lists * len("[],")


def write_tensor(array: NDArray[Any], form: TensorForm) -> Iterator[Buffer]:
    """Yield the chunks of a tensor's text.

    Parameters
    ----------
    array : ndarray
        Of finite numbers, unless the form is base64.
    form : {"nested", "flat", "base64"}
    """
    array = in_type_of_numpy(array)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if form == "nested":
        yield from _nested_text(array)
        return
    yield orjson.dumps({"dtype": array.dtype.name, "shape": list(array.shape)})[:-1]
    if form == "flat":
        yield b',"data":'
        yield from _nested_text(array.reshape(-1))
        yield b"}"
        return
    yield b',"base64":"'
    content = array.reshape(-1).data.cast("B") if array.size else memoryview(b"")
    for start in range(0, len(content), CHUNK_BYTES):
        yield base64.b64encode(content[start : start + CHUNK_BYTES])
    yield b'"}'


def _nested_text(array: NDArray[Any]) -> Iterator[Buffer]:
    """Yield the text of nested lists: of one row after the other, or of as many rows as make a chunk."""
    if array.size <= CHUNK_NUMBERS:
        yield orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
        return
    rows = max(1, CHUNK_NUMBERS * len(array) // array.size)
    yield b"["
    for start in range(0, len(array), rows):
        if start:
            yield b","
        if rows == 1:
            yield from _nested_text(array[start])
        else:
            # without the brackets around these rows
            yield memoryview(orjson.dumps(array[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY))[1:-1]
    yield b"]"


# ------------------------------------------------------------------------------------------------------------- reading


def read_tensor(value: Any, pointer: str, default_dtype: str | None, text: ExactNumbers) -> NDArray[Any]:
    """Return the tensor that a JSON value is.

    Parameters
    ----------
    value : object
        The parsed value.
    pointer : str
        Where it is, to be named in errors.
    default_dtype : str or None
        The body's ``dtype``, if there is one: the type of nested lists.
    text : ExactNumbers
        The whole text.

    Raises
    ------
    InvalidRequest
        With the pointer of the first element that is wrong.
    """
    name = pointer.removeprefix("/")
    if isinstance(value, list):
        return _nested(value, pointer, default_dtype or DEFAULT_DTYPE, text)
    if type(value) in {int, float}:  # as deeply nested as a tensor without axes is: not at all
        dtype = default_dtype or DEFAULT_DTYPE
        return _numbers([value], dtype, lambda _: pointer, text, lambda members: [members[name]]).reshape(())
    if not isinstance(value, dict):
        expected = "a nested list, a number, or an object with dtype, shape and data or base64"
        raise _invalid(pointer, "is not a tensor", json_kind(value), expected)
    if set(value) not in ({"dtype", "shape", "data"}, {"dtype", "shape", "base64"}):
        expected = "exactly the members dtype, shape and one of data and base64"
        hint = TYPED_ARRAY if "0" in value else ""
        raise _invalid(pointer, "is an object with other members", f"{len(value)} members", expected, hint)
    dtype = read_dtype(value["dtype"], f"{pointer}/dtype")
    shape = _shape(value["shape"], f"{pointer}/shape")
    require_plausible_shape(name, shape, np.dtype(dtype).itemsize)
    return (
        _flat(value["data"], pointer, dtype, shape, text)
        if "data" in value
        else _base64(value["base64"], pointer, dtype, shape)
    )


def read_dtype(value: Any, pointer: str) -> str:
    """Return the name of a type, or raise InvalidRequest."""
    if not isinstance(value, str) or value not in DTYPES:
        raise _invalid(pointer, "is not a dtype", json_kind(value), f"one of {', '.join(DTYPES)}")
    return value


def _shape(value: Any, pointer: str) -> tuple[int, ...]:
    expected = f"a list of at most {MAX_NDIM} integers >= 0"
    if not isinstance(value, list) or len(value) > MAX_NDIM:
        raise _invalid(pointer, "is not a shape", json_kind(value), expected)
    if any(type(size) is not int or size < 0 for size in value):
        raise _invalid(pointer, "has an entry that is not a size", "another entry", expected)
    return tuple(value)


def _nested(value: list[Any], pointer: str, dtype: str, text: ExactNumbers) -> NDArray[Any]:
    shape: list[int] = []
    items: list[Any] = value
    while True:
        shape.append(len(items) if not shape else len(items) // max(1, math.prod(shape)))
        kinds = set(map(type, items))
        if list not in kinds:
            break
        if len(shape) == MAX_NDIM:
            raise _invalid(pointer, "is nested too deeply", f"more than {MAX_NDIM} levels", "3 to 5 levels")
        if kinds != {list}:
            index = next(index for index, item in enumerate(items) if not isinstance(item, list))
            raise _invalid(
                _path(pointer, shape, index),
                "is among lists but is not a list itself",
                json_kind(items[index]),
                "a list",
            )
        lengths = set(map(len, items))
        if len(lengths) > 1:
            first = len(items[0])
            index = next(index for index, item in enumerate(items) if len(item) != first)
            where = _path(pointer, shape, index)
            raise _invalid(where, "makes the tensor ragged", f"a list of {len(items[index])}", f"a list of {first}")
        items = list(itertools.chain.from_iterable(items))

    def flatten(members: dict[str, Any]) -> list[Any]:
        numbers: list[Any] = members[pointer.removeprefix("/")]
        for _ in shape[1:]:
            numbers = list(itertools.chain.from_iterable(numbers))
        return numbers

    return _numbers(items, dtype, lambda index: _path(pointer, shape, index), text, flatten).reshape(shape)


def _path(pointer: str, shape: Sequence[int], index: int) -> str:
    """Return the pointer of the element with an index in row-major order."""
    steps = []
    for size in reversed(shape):
        index, step = divmod(index, size)
        steps.append(step)
    return "/".join([pointer, *(str(step) for step in reversed(steps))])


def _flat(value: Any, pointer: str, dtype: str, shape: tuple[int, ...], text: ExactNumbers) -> NDArray[Any]:
    name = pointer.removeprefix("/")
    pointer = f"{pointer}/data"
    if not isinstance(value, list):
        raise _invalid(pointer, "is not a list", json_kind(value), "a flat list of numbers")
    if len(value) != math.prod(shape):
        raise _invalid(pointer, "does not fit the shape", f"{len(value)} numbers", counted(math.prod(shape), "numbers"))

    def flatten(members: dict[str, Any]) -> list[Any]:
        return members[name]["data"]  # type: ignore[no-any-return]

    return _numbers(value, dtype, lambda index: f"{pointer}/{index}", text, flatten).reshape(shape)


def _base64(value: Any, pointer: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    pointer = f"{pointer}/base64"
    if not isinstance(value, str):
        raise _invalid(pointer, "is not a string", json_kind(value), "a string of base64")
    size = np.dtype(dtype).itemsize * math.prod(shape)
    characters = 4 * math.ceil(size / 3) if size < 2**53 else 4 * (size // 3 + 1)
    if len(value) != characters:
        got, expected = f"{len(value)} characters", counted(characters, "characters")
        raise _invalid(pointer, "does not fit the shape and dtype", got, expected)
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if len(content) != size:
        raise _invalid(pointer, "is not base64", "other text", "the standard alphabet with padding, no line breaks")
    little_endian = np.frombuffer(content, dtype=np.dtype(dtype).newbyteorder("<"))
    return little_endian.astype(dtype, copy=False).reshape(shape)


def _numbers(items: list[Any], dtype: str, position: Position, text: ExactNumbers, flatten: Flatten) -> NDArray[Any]:
    """Return a flat array of numbers, each rounded once and with its sign.

    No integer is rounded that float64 would round, and nothing overflows.
    """
    kinds = set(map(type, items))
    if not kinds <= {int, float}:
        index = next(index for index, item in enumerate(items) if type(item) not in {int, float})
        raise _invalid(position(index), "is not a number", json_kind(items[index]), "a number")
    target = np.dtype(dtype)
    if target.kind in "iu":
        _require_integers(items, target, position)
    numbers = np.array(items, dtype=np.float64)
    largest = max(numbers.max(initial=0), -numbers.min(initial=0))
    if int in kinds and largest >= MAX_EXACT_INTEGER:
        inexact = (index for index, item in enumerate(items) if type(item) is int and not _is_written_float(item))
        if (first := next(inexact, None)) is not None:
            expected = "an integer up to 2^53, or a number with a decimal point to be rounded"
            raise _invalid(position(first), "is an integer that float64 cannot hold", "a larger integer", expected)
    if target.kind in "iu":
        return np.array(items, dtype=target)
    may_be_inexact = float in kinds or largest >= MAX_EXACT_INTEGER
    if may_be_inexact and target.itemsize < numbers.itemsize and _is_near_a_tie(numbers, target):
        numbers = np.array(flatten(text.rounded_to_odd), dtype=np.float64)
    elif int in kinds and not numbers.all() and text.may_have_minus_zero:
        numbers = np.array(flatten(text.signed), dtype=np.float64)
    with np.errstate(over="ignore"):
        converted = numbers.astype(target, copy=False)
    finite = np.isfinite(converted)
    if not finite.all():
        index = int(np.argmin(finite))
        raise _invalid(
            position(index), f"is beyond the range of {dtype}", "a larger number", f"at most {np.finfo(target).max}"
        )
    return converted


def _is_near_a_tie(numbers: NDArray[Any], target: np.dtype[Any]) -> bool:
    """Return whether one of the numbers, or a neighbour of it, is the middle between two numbers of a narrower type."""
    with np.errstate(over="ignore"):
        for start in range(0, len(numbers), CHUNK_NUMBERS):
            chunk = numbers[start : start + CHUNK_NUMBERS]
            below, above = (np.nextafter(chunk, limit).astype(target) for limit in (-np.inf, np.inf))
            if (below != above).any():
                return True
    return False


def _is_written_float(integer: int) -> bool:
    """Return whether an integer is how some float64 is written, such as JavaScript's 9223372036854776000 for 2^63."""
    rounded = float(integer)
    return int(rounded) == integer or int(decimal.Decimal(repr(rounded))) == integer


def _require_integers(items: list[Any], target: np.dtype[Any], position: Position) -> None:
    limits = np.iinfo(target)
    for index, item in enumerate(items):
        if type(item) is not int or not limits.min <= item <= limits.max:
            expected = f"an integer from {limits.min} to {limits.max}"
            raise _invalid(position(index), f"is not of type {target.name}", "another number", expected)


def json_kind(value: Any) -> str:
    """Say what a JSON value is."""
    names = {
        str: "a string",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


def _invalid(pointer: str, fault: str, got: str, expected: str, hint: str = "") -> RequestProblem:
    subject = pointer.split("/")[1]
    return InvalidRequest.of(pointer, f"a value in {subject} {fault}", got=got, expected=expected, hint=hint)
