"""JSON: operands and parameters side by side in one object.

A tensor is a nested list; or {"dtype", "shape", "data"} with a flat list; or {"dtype", "shape", "base64"} with the
little-endian bytes in C order. The structure of nested lists is verified level by level with whole-list operations, so
that a ragged list, a null or a string among the numbers is found at the speed of the interpreter's own loops.
"""

from __future__ import annotations

import base64
import binascii
import collections
import decimal
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from service.codecs.message import (
    DTYPES,
    LARGEST_NDIM,
    Buffer,
    Codec,
    Decoded,
    Limits,
    TensorForm,
    require_plausible_shape,
)
from service.codecs.names import pointer_to
from service.problems import Finding, InvalidRequest, RequestProblem, TooLarge, UnreadablePayload, counted

__all__ = ["JsonCodec", "load_object"]

DEFAULT_DTYPE = "float64"
LARGEST_EXACT_INTEGER = 2**53
MOST_LISTS = 2_000_000
MOST_OBJECTS = 1_000
MOST_QUOTATION_MARKS = 10_000
"""A list, an object or a string takes far more memory than its text: a body full of them must not fill the memory.
Tensors may hold many lists, but no request holds more than a few objects and strings."""

MOST_MEMBERS = 64
TENSOR_MEMBERS = {"dtype", "shape", "data", "base64"}

Position = Callable[[int], str]
"""Gives the JSON pointer of an element from its number in the flattened tensor."""


def load_object(body: bytearray) -> dict[str, Any]:
    """Parse a body that must be a JSON object.

    Raises
    ------
    UnreadablePayload, TooLarge
    """
    if body.count(b"[") > MOST_LISTS:
        expected = f"at most {MOST_LISTS} lists"
        message = f"the body has more lists than are taken; needed: {expected}, or flat, base64 or binary tensors"
        raise TooLarge.of("", message, got="more lists", expected=expected)
    if body.count(b"{") > MOST_OBJECTS or body.count(b'"') > MOST_QUOTATION_MARKS:
        expected = "operands and parameters side by side in one object"
        message = f"the body has more objects or strings than any request; needed: {expected}"
        raise UnreadablePayload.of("", message, got="more objects or strings", expected=expected)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadablePayload.of(
            "",
            f"the body is not JSON: it breaks off or has an error at line {error.lineno}, column {error.colno}; "
            "JSON has no NaN, no Infinity and no number beyond the range of float64",
            got="text that is not JSON",
            expected="a JSON object in UTF-8",
        ) from None
    if not isinstance(content, dict):
        raise UnreadablePayload.of(
            "",
            "the body is JSON but no object; needed: operands and parameters side by side in one object",
            got=_describe(content),
            expected="an object",
        )
    _refuse_repeated(content, body)
    return content


def _refuse_repeated(content: Mapping[str, Any], body: bytearray) -> None:
    """Refuse a member that stands in the body twice; the parser keeps the last one and says nothing."""
    names = sorted(set(content) - TENSOR_MEMBERS)
    if not names or len(names) > MOST_MEMBERS:
        return  # too many members are an error of their own
    members = re.compile(b'"(' + b"|".join(re.escape(name.encode()) for name in names) + b')"[ \t\r\n]*:')
    found = collections.Counter(match.group(1).decode() for match in members.finditer(body))
    kept = collections.Counter(list(content))
    for value in content.values():
        kept.update(list(value) if isinstance(value, dict) else ())
    repeated = [name for name, count in found.items() if count > kept[name]]
    if repeated:
        message = "a member stands in the object more than once"
        raise InvalidRequest(*(Finding(pointer_to(name), message, "two values", "one value") for name in repeated))


class JsonCodec(Codec):
    """Operands and parameters in one JSON object; results in another."""

    media_type: ClassVar[str] = "application/json"

    def decode(  # noqa: D102
        self, body: bytearray, operands: Sequence[str], options: Mapping[str, str], limits: Limits
    ) -> Decoded:
        content = load_object(body)
        default_dtype = _dtype(content.pop("dtype"), "/dtype") if "dtype" in content else None
        present = [name for name in operands if name in content]
        tensors: dict[str, NDArray[Any]] = {}
        findings: list[Finding] = []
        for name in present:
            try:
                tensors[name] = _tensor(content[name], f"/{name}", default_dtype)
            except InvalidRequest as problem:
                findings.extend(problem.findings)
        if findings:
            raise InvalidRequest(*findings)
        parameters = {name: value for name, value in content.items() if name not in operands}
        form = _form(content[present[0]]) if present else "nested"
        return Decoded(tensors, parameters, form)

    def encode(self, results: Mapping[str, NDArray[Any]], form: TensorForm) -> list[Buffer]:  # noqa: D102
        content = {}
        for name, result in results.items():
            array = np.ascontiguousarray(result, dtype=result.dtype.newbyteorder("<"))
            if form != "base64" and not np.isfinite(array).all():
                raise InvalidRequest.of(
                    f"/{name}",
                    f"{name} holds NaN or infinity, which JSON has not; ask for npy or npz with the Accept header, or "
                    "send the first operand as base64",
                    got="a result that is not finite",
                    expected="Accept: application/x-npy or application/x-npz, or base64 tensors",
                )
            content[name] = _written(array, form)
        return [orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)]


def _form(value: Any) -> TensorForm:
    if isinstance(value, dict):
        return "base64" if "base64" in value else "flat"
    return "nested"


def _written(array: NDArray[Any], form: TensorForm) -> Any:
    if form == "nested":
        return array
    header = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if form == "flat":
        return header | {"data": array.reshape(-1)}
    return header | {"base64": base64.b64encode(array.data if array.size else b"").decode("ascii")}


def _tensor(value: Any, pointer: str, default_dtype: str | None) -> NDArray[Any]:
    if isinstance(value, list):
        return _nested(value, pointer, default_dtype or DEFAULT_DTYPE)
    if not isinstance(value, dict):
        expected = "a nested list, or an object with dtype, shape and data or base64"
        raise _invalid(pointer, "is no tensor", _describe(value), expected)
    if set(value) not in ({"dtype", "shape", "data"}, {"dtype", "shape", "base64"}):
        expected = "exactly the members dtype, shape and one of data and base64"
        raise _invalid(pointer, "is an object with other members", f"{len(value)} members", expected)
    dtype = _dtype(value["dtype"], f"{pointer}/dtype")
    if default_dtype not in (None, dtype):
        raise _invalid(f"{pointer}/dtype", "differs from the dtype beside the operands", dtype, str(default_dtype))
    shape = _shape(value["shape"], f"{pointer}/shape")
    require_plausible_shape(pointer.removeprefix("/"), shape, np.dtype(dtype).itemsize)
    return (
        _flat(value["data"], pointer, dtype, shape)
        if "data" in value
        else _base64(value["base64"], pointer, dtype, shape)
    )


def _dtype(value: Any, pointer: str) -> str:
    if not isinstance(value, str) or value not in DTYPES:
        raise _invalid(pointer, "is no dtype", _describe(value), f"one of {', '.join(DTYPES)}")
    return value


def _shape(value: Any, pointer: str) -> tuple[int, ...]:
    expected = f"a list of at most {LARGEST_NDIM} integers >= 0"
    if not isinstance(value, list) or len(value) > LARGEST_NDIM:
        raise _invalid(pointer, "is no shape", _describe(value), expected)
    if any(type(size) is not int or size < 0 for size in value):
        raise _invalid(pointer, "has an entry that is no size", "another entry", expected)
    return tuple(value)


def _nested(value: list[Any], pointer: str, dtype: str) -> NDArray[Any]:
    shape: list[int] = []
    items: list[Any] = value
    while True:
        shape.append(len(items) if not shape else len(items) // max(1, math.prod(shape)))
        kinds = set(map(type, items))
        if list not in kinds:
            break
        if len(shape) == LARGEST_NDIM:
            raise _invalid(pointer, "is nested too deeply", f"more than {LARGEST_NDIM} levels", "3 to 5 levels")
        if kinds != {list}:
            index = next(index for index, item in enumerate(items) if not isinstance(item, list))
            raise _invalid(_path(pointer, shape, index), "stands among lists", _describe(items[index]), "a list")
        lengths = set(map(len, items))
        if len(lengths) > 1:
            first = len(items[0])
            index = next(index for index, item in enumerate(items) if len(item) != first)
            where = _path(pointer, shape, index)
            raise _invalid(where, "makes the tensor ragged", f"a list of {len(items[index])}", f"a list of {first}")
        items = list(itertools.chain.from_iterable(items))
    return _numbers(items, dtype, lambda index: _path(pointer, shape, index)).reshape(shape)


def _path(pointer: str, shape: Sequence[int], index: int) -> str:
    """Return the pointer of the element that is number ``index`` in row-major order."""
    steps = []
    for size in reversed(shape):
        index, step = divmod(index, size)
        steps.append(step)
    return "/".join([pointer, *(str(step) for step in reversed(steps))])


def _flat(value: Any, pointer: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    pointer = f"{pointer}/data"
    if not isinstance(value, list):
        raise _invalid(pointer, "is no list", _describe(value), "a flat list of numbers")
    if len(value) != math.prod(shape):
        raise _invalid(pointer, "does not fit the shape", f"{len(value)} numbers", counted(math.prod(shape), "numbers"))
    return _numbers(value, dtype, lambda index: f"{pointer}/{index}").reshape(shape)


def _base64(value: Any, pointer: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    pointer = f"{pointer}/base64"
    if not isinstance(value, str):
        raise _invalid(pointer, "is no string", _describe(value), "a string of base64")
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


def _numbers(items: list[Any], dtype: str, position: Position) -> NDArray[Any]:
    """Return a flat array of numbers that the dtype holds without loss of an integer and without overflow."""
    kinds = set(map(type, items))
    if not kinds <= {int, float}:
        index = next(index for index, item in enumerate(items) if type(item) not in {int, float})
        raise _invalid(position(index), "stands where a number is needed", _describe(items[index]), "a number")
    target = np.dtype(dtype)
    if target.kind in "iu":
        return _integers(items, target, position)
    numbers = np.array(items, dtype=np.float64)
    if int in kinds and np.abs(numbers).max(initial=0) >= LARGEST_EXACT_INTEGER:
        inexact = (index for index, item in enumerate(items) if type(item) is int and not _is_written_float(item))
        if (found := next(inexact, None)) is not None:
            expected = "an integer up to 2^53, or a number with a decimal point to be rounded"
            raise _invalid(position(found), "is an integer that float64 cannot hold", "a larger integer", expected)
    with np.errstate(over="ignore"):
        converted = numbers.astype(target, copy=False)
    finite = np.isfinite(converted)
    if not finite.all():
        index = int(np.argmin(finite))
        raise _invalid(
            position(index), f"is beyond the range of {dtype}", "a larger number", f"at most {np.finfo(target).max}"
        )
    return converted


def _is_written_float(integer: int) -> bool:
    """Tell whether an integer is what some float64 is written as, such as JavaScript's 9223372036854776000 for 2^63."""
    rounded = float(integer)
    return int(rounded) == integer or int(decimal.Decimal(repr(rounded))) == integer


def _integers(items: list[Any], target: np.dtype[Any], position: Position) -> NDArray[Any]:
    limits = np.iinfo(target)
    for index, item in enumerate(items):
        if type(item) is not int or not limits.min <= item <= limits.max:
            expected = f"an integer from {limits.min} to {limits.max}"
            raise _invalid(position(index), f"is no {target.name}", "another number", expected)
    return np.array(items, dtype=target)


def _describe(value: Any) -> str:
    names = {
        str: "a string",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


def _invalid(pointer: str, fault: str, got: str, expected: str) -> RequestProblem:
    subject = pointer.split("/")[1]
    return InvalidRequest.of(
        pointer, f"a value in {subject} {fault}; got {got}, needed {expected}", got=got, expected=expected
    )
