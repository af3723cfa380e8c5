"""The search for a mistake: each hypothesis is tried by computing what the caller would have got."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_core import ConvpoolError
from cnn_core.runtime.cancellation import check_cancelled

from ..operations.tolerance import Tolerance, is_floating
from .comparison import Comparison
from .explanation import Explanation, different
from .fits import MAX_NOISE, Fit, Fits, residual_of
from .hypotheses import COMPUTATIONS, RESULTS, Altered, Hypothesis, Results, ResultsHypothesis, Variant
from .hypotheses.hypothesis import CONVOLUTION
from .layer import Layer, Scenario, Tensors

__all__ = ["Search"]

Array = NDArray[Any]

WORK_OF_ATTEMPT, WORK_OF_COMPARISON, WORK_PER_ELEMENT = 2**22, 2**20, 2**6
"""Multiply-accumulates that take about as long as what is done for each hypothesis besides computing it, for each of
its results that is compared with a claim, and for each element of these."""

WORK_OF_STEP = 2**15
"""The same for a step of a loop over windows."""

MAX_NEAREST = 3
NEAREST = 0.3
"""What may be left of the error, for a hypothesis that does not reproduce the claim to be named all the same."""


@dataclass(frozen=True)
class _Candidate:
    """A mistake as it is tried, or two, with what an explanation says of it."""

    id: str
    sentence: str
    rule: str
    scenario: Scenario
    parameters: Mapping[str, Any]
    about: str = ""

    @classmethod
    def of(cls, hypothesis: Any, variant: Variant) -> _Candidate:
        sentence = hypothesis.sentence.replace("{}", variant.text)
        return cls(hypothesis.id, sentence, hypothesis.rule, variant.scenario, variant.parameters, hypothesis.about)

    def and_then(self, hypothesis: Any, sentence: str, parameters: Mapping[str, Any], scenario: Scenario) -> _Candidate:
        return _Candidate(
            f"{self.id}+{hypothesis.id}",
            f"{self.sentence} And: {sentence}",
            self.rule,
            scenario,
            {**self.parameters, **parameters} if self.parameters and parameters else {},
        )


class Search:
    """Tries the hypotheses on a layer with what somebody claims of it.

    Parameters
    ----------
    layer : Layer
    claimed : dict of str to ndarray
        What was computed, by the names of results and gradients.
    exact : dict of str to ndarray
        What is right, as far as there is such a thing.
    comparisons : dict of str to Comparison
        Of those claimed tensors that have the right shape.
    tolerances : dict of str to Tolerance
        Of all claimed tensors.
    max_work : int
        What may be computed, see ``cnn_core.kernels.cost.Cost``.

    Attributes
    ----------
    tried : int
        Hypotheses, and pairs of them, whose results were compared.
    is_complete : bool
        Whether none was left out because of the work.
    """

    def __init__(
        self,
        layer: Layer,
        claimed: Mapping[str, Array],
        exact: Tensors,
        comparisons: Mapping[str, Comparison],
        tolerances: Mapping[str, Tolerance],
        max_work: int,
    ) -> None:
        self._layer, self._comparisons = layer, comparisons
        self._claimed = {
            name: array.astype(np.float64) if is_floating(array.dtype) else array for name, array in claimed.items()
        }
        self._fits = Fits(layer, self._claimed, exact, comparisons, tolerances)
        self._wrong = [name for name in claimed if name not in comparisons or not comparisons[name].agrees]
        self._work_left = max_work
        self._right_results = exact
        self._nearest: list[tuple[float, _Candidate, str]] = []
        self._effective: list[tuple[Hypothesis, Variant]] = []
        self.tried, self.is_complete = 0, True

    def explanations(self) -> list[Explanation]:
        """Return what explains the wrong tensors, the best first."""
        found = self._of_own_windows() or list(self._singles())
        open_names = [name for name in self._wrong if not any(name in each.names for each in found)]
        if open_names:
            found.extend(self._pairs(open_names))
        explanations = list(different(sorted(found, key=self._rank)))
        still_open = [name for name in open_names if not any(name in each.names for each in found)]
        return explanations or list(self._nearest_of(still_open))

    def _rank(self, explanation: Explanation) -> tuple[Any, ...]:
        """Return what comes first: what explains most; then what is about one gradient, if only that is wrong."""
        is_of_one = self._wrong == [explanation.about] and (
            explanation.about == "indices" or "weight" in self._layer.op.differentiable
        )
        return -len(explanation.names), explanation.precision is not None, explanation.changes_right, not is_of_one

    # ---------------------------------------------------------------------------------------------------------- singles

    def _of_own_windows(self) -> list[Explanation]:
        """Explain gradients by a ``grad_output`` that has another shape than the output, if that alone leads to them.

        Other paddings, for example, would lead to the same numbers then, and explain nothing.
        """
        if any(self._layer.result_shape(name) is not None for name in self._wrong):
            return []
        given, output = (
            list(shape) for shape in (self._layer.tensors["grad_output"].shape, self._layer.resolved.output_shape)
        )
        sentence = (
            f"The gradients are those of the windows that grad_output has, {given}, where the output has {output}: "
            "grad_output comes from a layer with another stride, padding or kernel."
        )
        candidate = _Candidate("grad_output_shape", sentence, CONVOLUTION, Scenario(), {})
        explanation = self._explained(candidate, self._outcome(candidate.scenario, self._wrong), self._wrong)
        return [explanation] if explanation is not None and len(explanation.names) == len(self._wrong) else []

    def _singles(self) -> Iterator[Explanation]:
        best: dict[tuple[str, str], Explanation] = {}
        for candidate, outcome in self._single_outcomes():
            explanation = self._explained(candidate, outcome, self._wrong)
            known = best.get((candidate.id, candidate.about))
            # of the ways to make a mistake, the one that explains most
            if explanation is not None and (known is None or len(explanation.names) > len(known.names)):
                best[candidate.id, candidate.about] = explanation
        yield from best.values()
        yield from self._coarser()

    def _single_outcomes(self) -> Iterator[tuple[_Candidate, Tensors]]:
        for hypothesis in COMPUTATIONS:
            for variant in hypothesis.variants(self._layer):
                candidate = _Candidate.of(hypothesis, variant)
                outcome = self._outcome(candidate.scenario, self._wrong)
                if not outcome or any(not self._is_right(name, array) for name, array in outcome.items()):
                    self._effective.append((hypothesis, variant))
                if outcome:
                    yield candidate, outcome
        for altering in RESULTS:
            for candidate, altered in self._altered(altering, self._layer, self._right_results):
                yield candidate, altered.tensors

    def _altered(
        self, hypothesis: ResultsHypothesis, layer: Layer, tensors: Tensors
    ) -> Iterator[tuple[_Candidate, Altered]]:
        for altered in hypothesis.alter(Results(layer, tensors, self._claimed)):
            if any(name in self._wrong for name in altered.tensors):
                sentence = hypothesis.sentence.replace("{}", altered.text)
                yield _Candidate(hypothesis.id, sentence, hypothesis.rule, Scenario(), {}, hypothesis.about), altered

    @functools.cached_property
    def _only_coarser(self) -> dict[str, Fit]:
        """The wrong tensors that are right for sums in a coarser type."""
        wrong = (name for name in self._wrong if name in self._comparisons)
        fits = {name: self._fits.fit(name, self._right_results[name], None) for name in wrong}
        return {name: fit for name, fit in fits.items() if fit.precision is not None}

    def _coarser(self) -> Iterator[Explanation]:
        """Explain errors by sums in a coarser type."""
        fits = self._only_coarser
        by_type: dict[np.dtype[Any], list[str]] = {}
        for name, fit in fits.items():
            if fit.precision is not None:
                by_type.setdefault(fit.precision, []).append(name)
        for precision, names in by_type.items():
            yield Explanation(
                f"{precision.name}_sums",
                f"The sums are computed in {precision.name}: what is off is rounding.",
                "docs/diagnosis.md#tolerance",
                {"accumulation": precision.name},
                tuple(names),
                changes_right=False,
                precision=None,
                residual=max(fits[name].residual for name in names),
            )

    # ------------------------------------------------------------------------------------------------------------ pairs

    def _pairs(self, names: Sequence[str]) -> Iterator[Explanation]:
        """Yield the first pair that reproduces each of some tensors."""
        left = list(names)
        for candidate, outcome in self._pair_outcomes(names):
            explanation = self._explained(candidate, outcome, left)
            if explanation is not None:
                yield explanation
                left = [name for name in left if name not in explanation.names]
                if not left:
                    return

    def _pair_outcomes(self, names: Sequence[str]) -> Iterator[tuple[_Candidate, Tensors]]:
        usual = [hypothesis for hypothesis in RESULTS if hypothesis.in_pairs]
        for hypothesis, variant in self._effective:
            first = _Candidate.of(hypothesis, variant)
            tensors = self._outcome(first.scenario, names, of_any_shape=True)
            for altering in usual if tensors else ():
                for second, altered in self._altered(altering, self._layer, tensors):
                    yield first.and_then(altering, second.sentence, {}, first.scenario), altered.tensors
        for one, other in itertools.combinations(usual, 2):
            for first, altered in self._altered(one, self._layer, self._right_results):
                for second, again in self._altered(other, self._layer, {**self._right_results, **altered.tensors}):
                    yield first.and_then(other, second.sentence, {}, Scenario()), again.tensors
        for (one_hypothesis, one_variant), (hypothesis, variant) in itertools.combinations(self._effective, 2):
            if one_hypothesis is hypothesis:
                continue
            scenario = one_variant.scenario.with_another(variant.scenario)
            outcome = self._outcome(scenario, names) if scenario else {}
            if outcome and scenario:
                sentence = hypothesis.sentence.replace("{}", variant.text)
                first = _Candidate.of(one_hypothesis, one_variant)
                yield first.and_then(hypothesis, sentence, variant.parameters, scenario), outcome

    # --------------------------------------------------------------------------------------------------------- outcomes

    def _affords(self, work: int, elements: int = 0) -> bool:
        """Take work from what is left, or return that it or its memory is too much: then the search is not complete."""
        check_cancelled()
        if work > self._work_left or elements > self._layer.room:
            self.is_complete = False
            return False
        self._work_left -= work
        return True

    def _outcome(self, scenario: Scenario, names: Sequence[str], *, of_any_shape: bool = False) -> Tensors:
        """Return those results of a scenario that have the shape of their claim, as far as the work allows."""
        if not self._affords(WORK_OF_ATTEMPT):
            return {}
        try:
            changed = self._layer.changed(scenario)
            if scenario.loop and type(changed.op) is not type(self._layer.op):
                return {}
            wanted, work, elements = [], 0, 0
            for name in names:
                computing = changed.computing(name)
                shape = computing.result_shape(name)
                may_fit = of_any_shape or scenario.readings or scenario.loop or shape == self._claimed[name].shape
                if shape is not None and may_fit:
                    wanted.append(name)
                    work += computing.work([name])
                    elements += computing.elements([name])
            if scenario.loop:
                work += WORK_OF_STEP * math.prod(axis.output_size for axis in changed.windows.axes)
            if not wanted or not self._affords(work, elements):
                return {}
            found = changed.outcome(scenario, wanted)
        except (ConvpoolError, IndexError, ValueError):  # its parameters or shapes do not go together
            return {}
        return {
            name: array for name, array in found.items() if of_any_shape or array.shape == self._claimed[name].shape
        }

    def _explained(self, candidate: _Candidate, outcome: Tensors, names: Sequence[str]) -> Explanation | None:
        size = sum(self._claimed[name].size for name in names if name in outcome)
        if not self._affords(WORK_OF_COMPARISON + WORK_PER_ELEMENT * size):
            return None
        self.tried += 1
        fits: dict[str, Fit] = {}
        for name in names:
            array = outcome.get(name)
            if array is None or array.shape != self._claimed[name].shape or self._is_right(name, array):
                continue
            fit = self._fits.fit(name, array, candidate.scenario)
            # what coarser sums explain without a mistake needs none
            if fit.precision is not None and not (fit.is_coarser and name in self._only_coarser):
                fits[name] = fit
            else:
                self._nearest.append((fit.residual, candidate, name))
        if not fits or (candidate.about and candidate.about not in fits):
            return None
        coarser = [fit.precision for fit in fits.values() if fit.is_coarser and fit.precision is not None]
        precision = min(coarser, key=lambda dtype: dtype.itemsize, default=None)
        sentence = candidate.sentence
        parameters = dict(candidate.parameters)
        if precision is not None:
            sentence += f" And the sums are computed in {precision.name}."
            parameters |= {"accumulation": precision.name} if parameters else {}
        return Explanation(
            candidate.id,
            sentence,
            candidate.rule,
            parameters,
            tuple(fits),
            self._changes_right(candidate, outcome),
            precision,
            max(fit.residual for fit in fits.values()),
            about=candidate.about,
        )

    def _is_right(self, name: str, array: Array) -> bool:
        """Return whether a candidate leads to what is right: it does not matter here."""
        comparison = self._comparisons.get(name)
        if comparison is None or residual_of(array, comparison.exact) > MAX_NOISE:
            return False
        return dataclasses.replace(comparison, claimed=array).agrees

    def _changes_right(self, candidate: _Candidate, outcome: Tensors) -> bool:
        """Return whether a candidate would make a tensor wrong that is right."""
        right = [name for name in self._claimed if name not in self._wrong]
        others = {name: array for name, array in outcome.items() if name in right}
        if candidate.scenario != Scenario():
            others = self._outcome(candidate.scenario, right, of_any_shape=True)
        return any(
            array.shape != self._claimed[name].shape
            or self._fits.fit(name, array, candidate.scenario).precision is None
            for name, array in others.items()
        )

    def _nearest_of(self, names: Sequence[str]) -> Iterator[Explanation]:
        """Yield what comes nearest to wrong tensors that nothing explains."""
        for name in names:
            comparison = self._comparisons.get(name)
            if comparison is None or not np.isfinite(comparison.residual):
                continue
            near = [each for each in self._nearest if each[2] == name and each[0] < NEAREST * comparison.residual]
            for residual, candidate, _ in sorted(near, key=lambda each: each[0])[:MAX_NEAREST]:
                yield Explanation(
                    candidate.id,
                    f"Near, but not all of it: {candidate.sentence}",
                    candidate.rule,
                    candidate.parameters,
                    (name,),
                    changes_right=False,
                    precision=None,
                    residual=residual,
                    agrees=False,
                )
