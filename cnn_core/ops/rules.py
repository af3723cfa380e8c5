"""The rules of the ops' parameters, and the words that several of them share: each is written here once."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .. import parameters
from ..errors import ParameterError
from ..parameters import MAX_INTEGER, MAX_RANK, Padding, PerAxis, Rule, one_of

STRIDE_TEXT = "Distance from one window to the next."
DILATION_TEXT = "Distance from one tap of a window to the next; 1 is dense."
SAME_TEXT = (
    "same: output size ceil(n/stride); if the total padding is odd, the extra element goes at the end (same_lower: at "
    "the start)."
)
"""Descriptions of parameters that several ops have."""


def _integer(value: Any, smallest: int) -> int:
    # bool is an int to Python, but stride=True is a slip, not a stride of 1
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    if isinstance(value, (float, np.floating)) and float(value).is_integer():  # some languages write 2 as 2.0
        value = int(value)
    value = operator.index(value)
    if not smallest <= value <= MAX_INTEGER:
        raise ValueError
    return int(value)


def _integers_text(smallest: int) -> str:
    return f"an integer from {smallest} to {MAX_INTEGER}"


def _integer_schema(smallest: int) -> dict[str, Any]:
    return {"type": "integer", "format": "int32", "minimum": smallest, "maximum": MAX_INTEGER}


def _list_schema(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


def _list(value: Any, canonical: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    if not value:
        raise ValueError
    return tuple(canonical(item) for item in value)


def _per_axis_from(smallest: int) -> Rule:
    """Accept one integer, or one for each spatial axis."""

    def canonical(value: Any) -> PerAxis:
        if isinstance(value, (list, tuple)):
            return _list(value, lambda item: _integer(item, smallest))
        return _integer(value, smallest)

    integer = _integer_schema(smallest)
    text = f"{_integers_text(smallest)}, or a list of one for each spatial axis"
    return Rule(text, canonical, {"anyOf": [integer, _list_schema(integer)]})


def _norm_type(value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError
    try:
        exponent = float(value)
    except OverflowError:  # an integer beyond the range of float64
        raise ValueError from None
    if not 1 <= exponent < math.inf:
        raise ValueError
    return exponent


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _spatial_axes(value: Any) -> int:
    if _integer(value, 1) > MAX_RANK:
        raise ValueError
    return _integer(value, 1)


def _nonzero(value: Any) -> int:
    if _integer(value, -MAX_INTEGER) == 0:
        raise ValueError
    return _integer(value, -MAX_INTEGER)


def _output_padding(value: Any) -> Any:
    return (_TO_STRIDE if isinstance(value, str) else _FROM_ZERO).canonical(value)


def _padding(value: Any) -> Any:
    if isinstance(value, str):
        return _AUTOMATIC.canonical(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(pair, (list, tuple)) for pair in value):
        return tuple((_integer(before, 0), _integer(after, 0)) for before, after in value)
    return _FROM_ZERO.canonical(value)


_AUTOMATIC = one_of(parameters.AutomaticPadding)
_TO_STRIDE = one_of(Literal["to_stride"])
_FROM_ZERO = _per_axis_from(0)

ALGORITHM = one_of(parameters.Algorithm)
DATA_FORMAT = one_of(parameters.DataFormat)
FRAMEWORK = one_of(parameters.Framework)
INDEX_SCHEME = one_of(parameters.IndexScheme)
PADDING_MODE = one_of(parameters.PaddingMode)
STORAGE_ORDER = one_of(parameters.StorageOrder)
TIES = one_of(parameters.Ties)
FLAG = Rule("true or false", _flag, {"type": "boolean"})
SPATIAL_AXES = Rule("1, 2 or 3", _spatial_axes, {**_integer_schema(1), "maximum": MAX_RANK})
GROUPS = Rule(_integers_text(1), lambda value: _integer(value, 1), _integer_schema(1))
NORM_TYPE = Rule("a finite number of at least 1", _norm_type, {"type": "number", "format": "double", "minimum": 1})
NONZERO_INTEGER = Rule(
    f"{_integers_text(-MAX_INTEGER)} other than 0", _nonzero, {**_integer_schema(-MAX_INTEGER), "not": {"enum": [0]}}
)
POSITIVE_PER_AXIS = _per_axis_from(1)
LIST_PER_AXIS = Rule(
    f"a list of integers from 1 to {MAX_INTEGER}, one for each spatial axis",
    lambda value: _list(value, lambda item: _integer(item, 1)),
    _list_schema(_integer_schema(1)),
)
OUTPUT_PADDING = Rule(
    f"{_FROM_ZERO.text}, or to_stride", _output_padding, {"anyOf": [*_FROM_ZERO.schema["anyOf"], _TO_STRIDE.schema]}
)
PADDING = Rule(
    f"{_integers_text(0)}, a list of one for each spatial axis, a list of [before, after] for each spatial axis, "
    "or one of valid, same, same_lower",
    _padding,
    {
        "anyOf": [
            *_FROM_ZERO.schema["anyOf"],
            _list_schema({"type": "array", "items": _integer_schema(0), "minItems": 2, "maxItems": 2}),
            _AUTOMATIC.schema,
        ]
    },
)


def is_padded(padding: Padding) -> bool:
    """Return whether a padding is more than none on every side."""
    return padding != "valid" and (isinstance(padding, str) or bool(np.any(padding)))


def require_size(kernel_size: PerAxis | None, output_size: PerAxis | None) -> None:
    """Raise ParameterError unless the size of windows is given, or the sizes that they lead to."""
    if kernel_size is None and output_size is None:
        raise ParameterError("kernel_size", "must be", "given unless output_size is", got="neither")
