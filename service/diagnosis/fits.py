"""How well what a mistake leads to reproduces a claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvpoolError

from ..codecs.message import BFLOAT16
from ..operations.tolerance import Tolerance, is_floating
from .comparison import Comparison, as_float, inner_product, narrower, root_mean_square
from .layer import Layer, Scenario, Tensors, undone

__all__ = ["MAX_NOISE", "Fit", "Fits", "residual_of"]

Array = NDArray[Any]

LOOSE = 16
"""How many times larger than those of the right result the terms of a mistaken one may be."""

MAX_NOISE = 0.05
"""What rounding may change a result by, as a share of it, for it to be taken for rounding."""

FLOAT16, FLOAT32, FLOAT64 = (np.dtype(name) for name in ("float16", "float32", "float64"))
COARSER = {FLOAT64: (FLOAT32, FLOAT16), FLOAT32: (FLOAT16, BFLOAT16), FLOAT16: (), BFLOAT16: ()}
"""The types in which sums may have been computed instead of another one."""


@dataclass(frozen=True)
class Fit:
    """How well results reproduce a claim: exactly but for rounding in a type, or (None) not."""

    precision: np.dtype[Any] | None
    residual: float
    is_coarser: bool = False


class Fits:
    """Compares results with what was claimed.

    Parameters
    ----------
    layer : Layer
    claimed : dict of str to ndarray
        In float64 if they are floating numbers.
    exact : dict of str to ndarray
        What is right, as far as there is such a thing.
    comparisons : dict of str to Comparison
        Of those claimed tensors that have the right shape.
    tolerances : dict of str to Tolerance
        Of all claimed tensors.
    """

    def __init__(
        self,
        layer: Layer,
        claimed: Tensors,
        exact: Tensors,
        comparisons: Mapping[str, Comparison],
        tolerances: Mapping[str, Tolerance],
    ) -> None:
        self._layer, self._claimed, self._right_results = layer, claimed, exact
        self._comparisons, self._tolerances = comparisons, tolerances
        self._hopeless_residuals: dict[str, float] = {}

    def fit(self, name: str, exact: Array, scenario: Scenario | None) -> Fit:
        """Return how well a result reproduces its claim."""
        claim, tolerance = self._claimed[name], self._tolerances[name]
        residual = residual_of(claim, exact)
        if residual > self._hopeless(name):
            return Fit(None, residual)
        if tolerance.terms == 0 and scenario is not None and (scenario.loop or scenario.changes):
            # what is exact may be a sum with another mode, or in another loop
            terms = self._layer.changed(scenario).term_counts().get(name, 0)
            tolerance = dataclasses.replace(tolerance, terms=terms)
        comparison = Comparison(claim, exact, self._magnitude(name, exact, scenario), tolerance)
        if scenario is not None and comparison.agrees:
            return Fit(tolerance.accumulation, residual)
        if tolerance.terms == 0 or not is_floating(tolerance.storage) or residual > MAX_NOISE:
            return Fit(None, residual)
        for accumulation in COARSER.get(tolerance.accumulation, ()):
            storage = narrower(tolerance.storage, accumulation)
            coarser = dataclasses.replace(tolerance, accumulation=accumulation, storage=storage)
            if dataclasses.replace(comparison, tolerance=coarser).agrees:
                return Fit(accumulation, residual, is_coarser=True)
        return Fit(None, residual)

    def _hopeless(self, name: str) -> float:
        """Return a residual beyond which no result of about the right size reproduces a claim."""
        if name not in self._hopeless_residuals:
            tolerance, comparison = self._tolerances[name], self._comparisons.get(name)
            cancelled = 1.0
            if comparison is not None and comparison.magnitude is not None:
                # sums whose terms cancel are as far off as their terms are larger
                scale = root_mean_square(comparison.exact)
                cancelled = _largest(comparison.magnitude) / scale if scale else float("inf")
            relative = float(tolerance.relative_to_terms) * cancelled if tolerance.terms else 0.0
            self._hopeless_residuals[name] = max(MAX_NOISE, LOOSE * relative)
        return self._hopeless_residuals[name]

    def _magnitude(self, name: str, exact: Array, scenario: Scenario | None) -> Array | None:
        """Return the magnitudes of a result's terms; where they are not known by element, the largest for each."""
        comparison = self._comparisons.get(name)
        base = comparison.magnitude if comparison is not None else None
        if scenario is None and base is not None and base.shape == exact.shape:
            return base
        scale = max(1.0, root_mean_square(exact) / (root_mean_square(self._right_results.get(name, exact)) or 1.0))
        if scenario is None or scenario.loop or scenario == Scenario() or not self._is_near(name, exact, base, scale):
            if base is not None and base.shape == exact.shape:
                return np.maximum(base, np.abs(exact)) * scale
            return np.full(exact.shape, max(_largest(base), _largest(exact)) * scale)
        try:
            found = undone(scenario, name, self._layer.changed(scenario).computing(name).magnitudes([name])[name])
        except (ConvpoolError, KeyError, ValueError):
            found = np.empty(0)
        # what was done with the results after that may have changed their shape
        return found if found.shape == exact.shape else np.full(exact.shape, max(_largest(base), _largest(exact)))

    def _is_near(self, name: str, exact: Array, base: Array | None, scale: float) -> bool:
        """Return whether a result is so near to its claim that the tolerance of each element matters."""
        largest = np.full(exact.shape, max(_largest(base), _largest(exact)) * 4 * scale)
        return Comparison(self._claimed[name], exact, largest, self._tolerances[name]).agrees


def residual_of(claim: Array, exact: Array) -> float:
    """Return the root of the mean square of the differences, relative to that of the result, or of the claim."""
    claim, exact = as_float(claim).reshape(-1), as_float(exact).reshape(-1)
    with np.errstate(all="ignore"):
        difference = claim - exact
        squared = inner_product(difference, difference)
        scale = inner_product(exact, exact) or inner_product(claim, claim) or 1.0
        if np.isfinite(squared) and np.isfinite(scale):
            return float(np.sqrt(squared / scale))
    difference[(claim == exact) | (np.isnan(claim) & np.isnan(exact))] = 0
    if not np.isfinite(difference).all():
        return float("inf")
    return root_mean_square(difference) / (root_mean_square(exact) or root_mean_square(claim) or 1.0)


def _largest(array: Array | None) -> float:
    if array is None:
        return 0.0
    values = np.abs(array.astype(np.float64, copy=False))
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))
