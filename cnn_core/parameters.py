"""The types of parameters, and rules for their values.

A rule's text is what an error says was expected, what the JSON schema describes and what the docs show.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .errors import MAX_ECHOED, ParameterError, describe, number_of

DataFormat = Literal["channels_last", "channels_first"]
Framework = Literal["torch", "tensorflow", "onnx", "jax"]
IndexScheme = Literal["plane", "image", "tensor"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Algorithm = Literal["auto", "direct", "fastest", "winograd", "fft"]
TakenAlgorithm = Literal["direct", "winograd", "fft"]
Direction = Literal["forward", "backward"]
StorageOrder = Literal["row_major", "column_major"]
Ties = Literal["first", "all", "split", "tensorflow"]
AutomaticPadding = Literal["valid", "same", "same_lower"]
PerAxis = int | tuple[int, ...]
OutputPadding = int | tuple[int, ...] | Literal["to_stride"]
Padding = int | tuple[int, ...] | tuple[tuple[int, int], ...] | AutomaticPadding

MIN_RANK, MAX_RANK = 1, 3
"""Spatial axes of an operand."""

MAX_INTEGER = 2**31 - 1
"""No integer parameter may exceed this, so that all index arithmetic fits in 64 bits."""


@dataclass(frozen=True)
class Rule:
    """What a parameter may be: the words for it, the function that checks a value, and the JSON schema.

    Parameters
    ----------
    text : str
        What is accepted, worded to follow "must be".
    canonical : callable
        Takes a value and returns its canonical, hashable form; raises TypeError or ValueError for a value that
        the rule refuses.
    schema : dict
        JSON schema of the values.
    """

    text: str
    canonical: Callable[[Any], Any]
    schema: Mapping[str, Any]

    def check(self, name: str, value: Any) -> Any:
        """Return the canonical form of a value, or raise ParameterError."""
        try:
            return self.canonical(value.tolist() if isinstance(value, np.ndarray) else value)
        except (TypeError, ValueError) as error:
            hint = f"did you mean {error.word}?" if isinstance(error, _Misspelt) else ""
            raise ParameterError(name, "must be", self.text, got=describe(value), hint=hint) from None


def parameter(rule: Rule, description: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a parameter of an op: a dataclass field that carries its rule and its description."""
    return dataclasses.field(default=default, kw_only=True, metadata={"rule": rule, "description": description})


def canonical_fields(op: Any) -> None:
    """Check every parameter of a frozen op and put its canonical form in its place."""
    for field in dataclasses.fields(op):
        value = field.metadata["rule"].check(field.name, getattr(op, field.name))
        object.__setattr__(op, field.name, value)


def optional(rule: Rule) -> Rule:
    """Accept what a rule accepts, and None for "not given"."""
    schema = {"anyOf": [rule.schema, {"type": "null"}]}
    return Rule(rule.text, lambda value: None if value is None else rule.canonical(value), schema)


class _Misspelt(ValueError):
    """A word that is close to one of a rule's."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


SPELLINGS = {
    **dict.fromkeys(("NWC", "NHWC", "NDHWC"), "channels_last"),
    **dict.fromkeys(("NCW", "NCHW", "NCDHW"), "channels_first"),
    "pytorch": "torch",
    "tf": "tensorflow",
    "keras": "tensorflow",
    "same_upper": "same",
}
"""Other spellings of words that are accepted: those of the frameworks. All words are accepted in either case."""

CANONICAL_WORDS = {spelling.lower(): word for spelling, word in SPELLINGS.items()}

MEANT = {"mean": "avg", "average": "avg", "edge": "replicate", "wrap": "circular", "constant": "zeros"}
"""Words of others that are suggested: they may mean something else."""


def one_of(choices: Any) -> Rule:
    """Accept one of the strings of a Literal type."""
    words: tuple[str, ...] = get_args(choices)

    def canonical(value: Any) -> str:
        if isinstance(value, (list, tuple)) and len(value) == 1:  # as R's jsonlite writes every scalar
            (value,) = value
        if not isinstance(value, str):
            raise TypeError
        spelt = value.lower()
        spelt = CANONICAL_WORDS.get(spelt, spelt)
        if spelt in words:
            return words[words.index(spelt)]  # not the value itself, which may be of a class derived from str
        meant = MEANT.get(spelt, "")
        close = [meant] if meant in words else difflib.get_close_matches(spelt[:MAX_ECHOED], words, n=1)
        raise _Misspelt(close[0]) if close else ValueError

    # each spelling in one case: generators of clients make a constant of each, and take two cases for one constant
    spellings = [*words, *(spelling for spelling, word in SPELLINGS.items() if word in words)]
    return Rule("one of " + ", ".join(words), canonical, {"type": "string", "enum": spellings})


@functools.cache
def subset_of(words: tuple[str, ...]) -> Rule:
    """Accept a list that names some of the words, each at most once."""

    def canonical(value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple)) or not value:
            raise TypeError
        places = [words.index(item) for item in value if isinstance(item, str)]  # raises ValueError for other words
        if len(set(places)) != len(value):
            raise ValueError
        return tuple([words[place] for place in places])

    items = {"type": "string", "enum": list(words)}
    schema = {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}
    return Rule("a list of one or more of " + ", ".join(words) + ", each at most once", canonical, schema)


def one_per_axis(name: str, value: PerAxis, rank: int) -> tuple[int, ...]:
    """Give a per-axis parameter one value for each of ``rank`` spatial axes.

    Raises
    ------
    ParameterError
        If the parameter is a list of another length.
    """
    if isinstance(value, int):
        return (value,) * rank
    if len(value) == 1:  # PyTorch's way to write one value for all axes
        return value * rank
    require_length(name, len(value), rank)
    return value


def require_length(name: str, length: int, rank: int) -> None:
    """Raise ParameterError unless a per-axis parameter has one entry for each spatial axis."""
    if length != rank:
        raise ParameterError(
            name,
            "must have",
            number_of(rank, "entry", "entries"),
            got=number_of(length, "entry", "entries"),
            reason="one for each spatial axis",
            # a single image without its batch axis has one spatial axis less than is meant
            hint="if the input is a single image, its batch axis is missing" if length == rank + 1 else "",
        )
