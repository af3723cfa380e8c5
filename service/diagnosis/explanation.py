"""What explains a wrong tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Explanation", "different"]


@dataclass(frozen=True)
class Explanation:
    """A mistake, or two, and which of the claimed tensors it reproduces.

    Parameters
    ----------
    id, sentence, rule : str
        Of the hypothesis; of both, joined, for a pair.
    parameters : mapping of str to object
        What makes convpool agree; empty if nothing does.
    names : tuple of str
        The wrong tensors that it reproduces.
    changes_right : bool
        Whether it would make another claimed tensor wrong, which is right.
    precision : dtype, optional
        The type in which sums must have been computed, if it is not the one that was expected.
    residual : float
        What is left of the error, relative to the result.
    agrees : bool
        Whether what is left is within the tolerance.
    about : str
        The tensor that the hypothesis is about; empty if it may be any.
    """

    id: str
    sentence: str
    rule: str
    parameters: Mapping[str, Any]
    names: tuple[str, ...]
    changes_right: bool
    precision: np.dtype[Any] | None
    residual: float
    agrees: bool = True
    about: str = ""


def different(explanations: Iterable[Explanation]) -> Iterator[Explanation]:
    """Leave out what an earlier explanation says as well: of the same mistake, or with the same parameters."""
    seen: set[Any] = set()
    for explanation in explanations:
        parameters = repr(sorted(explanation.parameters.items())) if explanation.parameters else ""
        keys = {(explanation.id, ""), *([("", parameters, explanation.names)] if parameters else [])}
        if not seen & keys:
            seen |= keys
            yield explanation
