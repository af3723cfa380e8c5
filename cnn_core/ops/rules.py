"""The rules of the ops' parameters, and the words that several of them share: each is written here once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from cnn_core.errors import ParameterError
from cnn_core.parameters import (
    MAX_INTEGER,
    MAX_RANK,
    Algorithm,
    AutomaticPadding,
    DataFormat,
    Framework,
    IndexScheme,
    OutputPadding,
    Padding,
    PaddingMode,
    PerAxis,
    Rule,
    StorageOrder,
    Ties,
    checked_integer,
    integer_schema,
    integers_from,
    list_per_axis_from,
    number_from,
    one_of,
    per_axis_from,
    per_axis_schema,
)

STRIDE_TEXT = "Distance from one window to the next."
DILATION_TEXT = "Distance from one tap of a window to the next; 1 is dense."
SAME_TEXT = (
    "same: output size ceil(n/stride); if the total padding is odd, the extra element goes at the end (same_lower: at "
    "the start)."
)
"""Descriptions of parameters that several ops have."""


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _nonzero(value: Any) -> int:
    if value == 0:
        raise ValueError
    return checked_integer(value, -MAX_INTEGER)


def _output_padding(value: Any) -> OutputPadding:
    return _TO_STRIDE.canonical(value) if isinstance(value, str) else per_axis_from(0).canonical(value)  # type: ignore[no-any-return]


def _padding(value: Any) -> Padding:
    if isinstance(value, str):
        return _AUTOMATIC.canonical(value)  # type: ignore[no-any-return]
    if not isinstance(value, (list, tuple)):
        return checked_integer(value, 0)
    if not value:
        raise ValueError
    if all(isinstance(pair, (list, tuple)) for pair in value):
        return tuple((checked_integer(before, 0), checked_integer(after, 0)) for before, after in value)
    return tuple(checked_integer(item, 0) for item in value)


_AUTOMATIC = one_of(AutomaticPadding)
_TO_STRIDE = one_of(Literal["to_stride"])

ALGORITHM = one_of(Algorithm)
DATA_FORMAT = one_of(DataFormat)
FRAMEWORK = one_of(Framework)
INDEX_SCHEME = one_of(IndexScheme)
LIST_PER_AXIS = list_per_axis_from(1)
NORM_TYPE = number_from(1)
PADDING_MODE = one_of(PaddingMode)
STORAGE_ORDER = one_of(StorageOrder)
TIES = one_of(Ties)
SPATIAL_AXES = Rule(
    "1, 2 or 3", lambda value: checked_integer(value, 1, MAX_RANK), {"type": "integer", "enum": [1, 2, 3]}
)
FLAG = Rule("true or false", _flag, {"type": "boolean"})
NONZERO_INTEGER = Rule(
    f"{integers_from(-MAX_INTEGER)} other than 0",
    _nonzero,
    {**integer_schema(-MAX_INTEGER), "not": {"enum": [0]}},
)
POSITIVE_PER_AXIS = per_axis_from(1)
OUTPUT_PADDING = Rule(
    f"{per_axis_from(0).text}, or to_stride",
    _output_padding,
    {"anyOf": [*per_axis_schema(0)["anyOf"], _TO_STRIDE.schema]},
)
PADDING = Rule(
    f"{integers_from(0)}, a list of one for each spatial axis, a list of [before, after] for each spatial axis, "
    "or one of valid, same, same_lower",
    _padding,
    {
        "anyOf": [
            *per_axis_schema(0)["anyOf"],
            {
                "type": "array",
                "items": {"type": "array", "items": integer_schema(0), "minItems": 2, "maxItems": 2},
                "minItems": 1,
            },
            _AUTOMATIC.schema,
        ]
    },
)


def is_padded(padding: Padding) -> bool:
    """Return whether a padding is more than none on every side."""
    return padding != "valid" and (isinstance(padding, str) or bool(np.any(padding)))


def require_size(subject: str, kernel_size: PerAxis | None, output_size: PerAxis | None) -> None:
    """Raise ParameterError unless the size of windows is given, or the sizes that they lead to."""
    if kernel_size is None and output_size is None:
        raise ParameterError("kernel_size", f"{subject} needs", expected="kernel_size, or output_size", got="neither")
