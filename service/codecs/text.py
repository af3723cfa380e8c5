"""Parameters written as text: in a query string and in the fields of a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from service.codecs.names import pointer_to
from service.problems import Finding, InvalidRequest

__all__ = ["LONGEST_VALUE", "MOST_VALUES", "NOT_GIVEN", "parse_text_parameters"]

NOT_GIVEN: Any = object()
"""Value of a form's field that nobody filled in; browsers send it all the same."""

LONGEST_VALUE = 4096
"""Characters of the longest value."""

MOST_VALUES = 64
"""More than any request has: a bound on the findings of one answer."""


def parse_text_parameters(pairs: Sequence[tuple[str, str | bytes]]) -> dict[str, Any]:
    """Return parameters by name: each value is JSON, or a bare word where it is a string.

    Bytes are no text, and stay what they are: no parameter has such a value, so they are an error of the parameter's.

    Raises
    ------
    InvalidRequest
        If there are more values than any request has, a name comes twice, or a value is longer than any parameter's.
    """
    if len(pairs) > MOST_VALUES:
        got, expected = f"{len(pairs)} parameters", f"at most {MOST_VALUES}"
        raise InvalidRequest.of("", f"there are {got}; needed: {expected}", got=got, expected=expected)
    parameters: dict[str, Any] = {}
    findings = []
    for name, text in pairs:
        pointer = pointer_to(name)
        if name in parameters:
            findings.append(Finding(pointer, "a parameter is given more than once", "more than one value", "one value"))
        elif isinstance(text, bytes):
            parameters[name] = text
        elif len(text) > LONGEST_VALUE:
            got = f"{len(text)} characters"
            expected = f"at most {LONGEST_VALUE} characters"
            findings.append(Finding(pointer, f"a parameter has {got}; needed: {expected}", got, expected))
        else:
            parameters[name] = _parse(text)
    if findings:
        raise InvalidRequest(*findings)
    return parameters


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
