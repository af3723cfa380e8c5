"""The check of a claim: what the response says of each tensor, and what explains the wrong ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..operations.tolerance import Tolerance, is_floating
from .comparison import Comparison, narrower
from .explanation import Explanation
from .layer import Layer
from .search import Search
from .where import where_errors_are
from .windows import window_of

__all__ = ["Claim", "number", "report"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Claim:
    """What somebody computed, and the layer that it should be the result of.

    Parameters
    ----------
    layer : Layer
    tensors : dict of str to ndarray
        What was computed, by the names of results and gradients.
    accumulation : dtype, optional
        The type that the sums were computed in, if it is known.
    """

    layer: Layer
    tensors: Mapping[str, Array]
    accumulation: np.dtype[Any] | None = None

    def tolerances(self) -> dict[str, Tolerance]:
        """Return what each tensor may be off by."""
        terms = self.layer.term_counts()
        found = {}
        for name, array in self.tensors.items():
            storage, accumulation = array.dtype, self.accumulation
            if accumulation is not None and is_floating(storage):
                storage = narrower(storage, accumulation)
            found[name] = Tolerance.of(terms.get(name, 0), storage, accumulation)
        return found


@np.errstate(all="ignore")  # whatever is claimed; and mistaken results may overflow
def report(claim: Claim, parameters: Mapping[str, Any], max_work: int) -> dict[str, Any]:
    """Return the response to a check.

    Parameters
    ----------
    claim : Claim
    parameters : mapping of str to object
        As they were resolved.
    max_work : int
        What the search for explanations may compute.
    """
    layer, tolerances = claim.layer, claim.tolerances()
    possible = [name for name in claim.tensors if layer.result_shape(name) is not None]
    exact, magnitudes = layer.compute(possible), layer.magnitudes(possible)
    comparisons = {
        name: Comparison(claim.tensors[name], exact[name], magnitudes.get(name), tolerances[name])
        for name in possible
        if exact[name].shape == claim.tensors[name].shape
    }
    agrees = all(name in comparisons and comparisons[name].agrees for name in claim.tensors)
    search = Search(layer, claim.tensors, exact, comparisons, tolerances, max_work)
    explanations = [] if agrees else search.explanations()
    return _without_none(
        {
            "agrees": agrees,
            "tensors": {
                name: _compared(layer, name, comparisons[name])
                if name in comparisons
                else _of_another_shape(layer, name, claim.tensors[name], tolerances[name])
                for name in claim.tensors
            },
            "explanations": [_explanation(each, parameters) for each in explanations],
            "hint": None if agrees else _hint(explanations),
            "parameters": parameters,
            "tried": {"hypotheses": search.tried, "complete": search.is_complete},
        }
    )


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    """Leave out, at every level, what there is not."""
    return {
        name: _without_none(member) if isinstance(member, dict) else member
        for name, member in members.items()
        if member is not None
    }


def _compared(layer: Layer, name: str, comparison: Comparison) -> dict[str, Any]:
    off = int(comparison.wrong.sum())
    bounds = comparison.bounds
    return {
        "agrees": comparison.agrees,
        "shape": {"got": list(comparison.claimed.shape), "expected": list(comparison.expected.shape)},
        "dtype": comparison.claimed.dtype.name,
        "max_absolute_error": number(comparison.max_absolute_error),
        "max_relative_error": number(comparison.max_relative_error),
        "max_ulps": number(comparison.max_ulps),
        "elements_off": off,
        "fraction_off": off / comparison.wrong.size if comparison.wrong.size else 0.0,
        "tolerance": _tolerance(comparison.tolerance, float(np.max(bounds, initial=0.0))),
        "first_difference": _first_difference(layer, name, comparison) if off else None,
        "where": where_errors_are(layer, name, comparison.wrong)._asdict() if off else None,
    }


def _of_another_shape(layer: Layer, name: str, claimed: Array, tolerance: Tolerance) -> dict[str, Any]:
    expected = layer.result_shape(name)
    sentence = "The shape is another one, so no element can be compared."
    if expected is None:
        given, output = list(layer.tensors["grad_output"].shape), list(layer.resolved.output_shape)
        sentence = f"grad_output has the shape {given} and the output {output}: there is no such gradient."
    return {
        "agrees": False,
        "shape": {"got": list(claimed.shape), "expected": None if expected is None else list(expected)},
        "dtype": claimed.dtype.name,
        "max_absolute_error": None,
        "max_relative_error": None,
        "max_ulps": None,
        "elements_off": claimed.size,
        "fraction_off": 1.0,
        "tolerance": _tolerance(tolerance, 0.0),
        "first_difference": None,
        "where": {"pattern": "shape", "sentence": sentence},
    }


def _tolerance(tolerance: Tolerance, largest: float) -> dict[str, Any]:
    return {
        "largest": largest,
        "terms": tolerance.terms,
        "unit_roundoff": tolerance.unit_roundoff,
        "reason": tolerance.reason,
    }


def _first_difference(layer: Layer, name: str, comparison: Comparison) -> dict[str, Any]:
    flat = int(np.argmax(comparison.wrong))
    index = tuple(int(each) for each in np.unravel_index(flat, comparison.wrong.shape))
    return {
        "index": list(index),
        "got": number(comparison.claimed[index].item()),
        "expected": number(comparison.expected[index].item()),
        "window": window_of(layer, name, index),
    }


def _explanation(explanation: Explanation, parameters: Mapping[str, Any]) -> dict[str, Any]:
    sentence = explanation.sentence
    changed = {name: value for name, value in explanation.parameters.items() if name in parameters}
    if changed:
        theirs, asked = (_written(values) for values in (changed, {name: parameters[name] for name in changed}))
        sentence += f" The numbers are those of {theirs}; the request says {asked}."
    if explanation.changes_right:
        sentence += " The tensors that are right were computed without it."
    return {
        "id": explanation.id,
        "sentence": sentence,
        "agrees": explanation.agrees,
        "tensors": list(explanation.names),
        "residual": number(explanation.residual),
        "parameters": dict(explanation.parameters),
        "rule": explanation.rule,
    }


def _written(values: Mapping[str, Any]) -> str:
    """Write parameters as a sentence has them."""
    return " and ".join(
        f"{name} {value if isinstance(value, str) else orjson.dumps(value).decode()}" for name, value in values.items()
    )


def _hint(explanations: list[Explanation]) -> str | None:
    fitting = [each for each in explanations if each.agrees]
    if fitting:
        alike = [each for each in fitting if each.names == fitting[0].names]
        if len(alike) > 1:
            return (
                f"{len(alike)} explanations lead to the same numbers here. Operands that tell them apart: kernel, "
                "stride and padding unequal along the axes, several images and channels, no symmetric weight."
            )
        return None
    return (
        "No mistake that is known here leads to these numbers. Look at where the errors are and at the first "
        "difference, and check a layer with fewer features: one image, one channel, stride 1, no padding."
    )


def number(value: float | None) -> float | int | str | None:
    """Return a number as JSON has it: NaN and infinities as words."""
    if value is None or isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
