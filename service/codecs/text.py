"""Parameters written as text: in a query string and in the fields of a form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from ..problems import Finding, InvalidRequest
from .names import pointer_to

__all__ = ["MAX_VALUE", "MAX_VALUES", "NOT_GIVEN", "parse_text_parameters"]

NOT_GIVEN: Any = object()
"""Value of a form field that was left empty, which browsers send nevertheless."""

PYTHON_LITERALS = {"": NOT_GIVEN, "None": NOT_GIVEN, "True": True, "False": False}
JSON_WORDS = {"true", "false", "null"}
LIST = re.compile(r"[(\[]?((?:\s*[\w.+-]+\s*,)+\s*[\w.+-]*\s*)[)\]]?")
"""Items with commas between them, with or without brackets: "2,1", "(2, 1)", "(2,)", "input,weight"."""

MAX_VALUE = 4096
"""Maximum length of a value, in characters."""

MAX_VALUES = 64
"""Maximum number of values, more than any request needs: a bound on the findings of one response."""


def parse_text_parameters(pairs: Sequence[tuple[str, str | bytes]]) -> dict[str, Any]:
    """Return parameters by name: each value is JSON, or a bare word where it is a string.

    The other ways in which HTTP libraries write values are read too: a list as a name that comes several times
    (``stride=2&stride=1``), with brackets after the name (``stride[]=2``), as ``2,1`` or ``(2, 1)``; True, False and
    None as Python writes them; and an empty value, or None, for a parameter that is not given. Bytes are not text, and
    are returned unchanged: no parameter accepts them, so the error names the parameter.

    Raises
    ------
    InvalidRequest
        If there are more values than any request has, or a value is longer than any parameter's.
    """
    if len(pairs) > MAX_VALUES:
        got, expected = f"{len(pairs)} parameters", f"at most {MAX_VALUES}"
        raise InvalidRequest.of("", "there are too many parameters", got=got, expected=expected)
    values: dict[str, list[Any]] = {}
    lists = set()
    findings = []
    for name, text in pairs:
        if name.endswith("[]"):
            name = name.removesuffix("[]")  # noqa: PLW2901
            lists.add(name)
        if isinstance(text, str) and len(text) > MAX_VALUE:
            got = f"{len(text)} characters"
            expected = f"at most {MAX_VALUE} characters"
            findings.append(Finding.of(pointer_to(name), "a parameter is too long", got=got, expected=expected))
            continue
        values.setdefault(name, []).append(text if isinstance(text, bytes) else _parse(text))
    if findings:
        raise InvalidRequest(*findings)
    return {name: given if name in lists or len(given) > 1 else given[0] for name, given in values.items()}


def _parse(text: str) -> Any:
    if text in PYTHON_LITERALS:
        return PYTHON_LITERALS[text]
    if text.isidentifier() and text not in JSON_WORDS:
        return text  # as is; trying to parse it as JSON takes longer than all the rest
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    listed = LIST.fullmatch(text)
    return [_parse(item.strip()) for item in listed[1].split(",") if item.strip()] if listed else text
