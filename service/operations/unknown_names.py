"""Names that an operation does not know: what was most likely meant by them, or why they do not apply."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..codecs.names import pointer_to
from ..problems import Finding

__all__ = ["MAX_PARAMETERS", "unknown_names"]

MAX_PARAMETERS = 32
"""Maximum number of parameters, more than any operation has: a bound on the findings of one response."""

MIN_SIMILARITY, MIN_SIMILARITY_FROM_THE_START = 0.7, 0.6
"""Similarity, as difflib measures it, from which a name is suggested: in general, and with the same first letter.
So norm may mean norm_type (0.62), but activation does not mean dilation (0.67)."""

OTHER_NAMES: dict[str, str] = {
    # the notebook's
    "a_prev": "input",
    "prev_a": "input",
    "b": "bias",
    "pad": "padding",
    "filter_size": "kernel_size",
    "grad_y": "grad_output",
    "grad_a": "grad_output",
    # the frameworks'
    "layout": "data_format",
    "x": "input",
    "w": "weight",
    "filter": "weight",
    "filters": "weight",
    "ksize": "kernel_size",
    "kernel_shape": "kernel_size",
    "pool_size": "kernel_size",
    "window_shape": "kernel_size",
    "pads": "padding",
    "auto_pad": "padding",
    "strides": "stride",
    "dilations": "dilation",
    "dilation_rate": "dilation",
    "group": "groups",
    "feature_group_count": "groups",
    "p": "norm_type",
    "dout": "grad_output",
    "dy": "grad_output",
}
"""Other names of operands and parameters, in lower case, and what they are called here; to be suggested."""

OTHER_NAMES_BY_OPERATION = {"kernel": ("kernel_size", "weight")}
"""Names that mean the first of these that an operation knows."""


def unknown_names(
    accepted: Iterable[str],
    values: Mapping[str, Any],
    other_known_names: Sequence[str],
    explained: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Return a finding for each name that is not accepted, with the name that was most likely meant.

    Parameters
    ----------
    accepted : iterable of str
        Names of the parameters.
    values : mapping of str to object
        The parameters as they came.
    other_known_names : sequence of str
        Names that may be given but are not parameters.
    explained : mapping of str to str
        Why a name is not accepted, in words that follow it, for example "is a parameter only with mode=max".
    """
    known = [*other_known_names, *accepted]
    expected = f"one of {', '.join(known)}"
    findings: list[Finding] = []
    is_listed = False
    for name in [name for name in values if name not in known[len(other_known_names) :]][:MAX_PARAMETERS]:
        if name in other_known_names:
            message = f"{name} is an operand, not a parameter; send it in the request body"
            findings.append(Finding(f"/{name}", message, "an operand", "a parameter"))
            continue
        if name in explained:
            got = "a parameter that does not apply"
            findings.append(Finding(f"/{name}", f"{name} {explained[name]}", got, "no such parameter"))
            continue
        pointer = pointer_to(name)
        meant = _meant(name, known)
        message = f"unknown name {pointer.removeprefix('/')}".rstrip() + (f"; did you mean {meant}?" if meant else "")
        if not is_listed:  # once is enough
            message += f"{' ' if meant else '. '}Known here: {', '.join(known)}"
        findings.append(Finding(pointer, message, "an unknown name", "a known name" if is_listed else expected))
        is_listed = True
    return findings


def _meant(name: str, known: Sequence[str]) -> str:
    """Return the known name that a name means elsewhere, or that it is closest to; empty if there is none."""
    name = name[:40]
    others = OTHER_NAMES_BY_OPERATION.get(name.lower(), (OTHER_NAMES.get(name.lower(), ""),))
    from_the_start = [other for other in known if other[:1] == name[:1].lower()]
    close = difflib.get_close_matches(name, from_the_start, n=1, cutoff=MIN_SIMILARITY_FROM_THE_START)
    close += difflib.get_close_matches(name, known, n=1, cutoff=MIN_SIMILARITY)
    return next((other for other in (*others, *close) if other in known), "")
