"""Tolerances bound what a correct computation in the type may be off by, without being far above it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.operations.tolerance import Tolerance, magnitudes, term_counts
from tests.service.cases.oracles import FLOATING, call_of, cases_of

CONVOLUTIONS = {"conv": "padding_mode", "conv_transpose": "output_padding"}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer", CONVOLUTIONS)
def test_tolerances_of_convolutions_are_above_those_of_all_elements(layer: str, data_format: str) -> None:
    names = ("stride", "padding", "dilation", "groups", CONVOLUTIONS[layer])
    parameters: dict[str, Any] = {"data_format": data_format, **dict.fromkeys(names, "any")}
    ratios = []
    for case in cases_of(call_of(layer, parameters=parameters, count=60, dtype="float64", seed=6)):
        terms = term_counts(case.layer.op, case.layer.resolved, case.layer.shapes)
        found = magnitudes(case.layer.op, case.operands, tuple(case.results))
        for name, result in case.results.items():
            exact = np.max(Tolerance.of(terms[name], np.dtype(np.float64)).bounds(result, found[name]))
            absolute, stated = case.tolerances[name]
            assert stated == terms[name]
            assert absolute >= exact * (1 - 1e-12)
            if found[name].any():
                ratios.append(absolute / exact)
    assert np.median(ratios) < 3


@pytest.mark.parametrize("layer", [entry.name for entry in FLOATING])
@pytest.mark.parametrize("kind", ["random", "edges"])
def test_tolerances_are_finite_and_small(layer: str, kind: str) -> None:
    for case in cases_of(call_of(layer, kind=kind, count=30)):
        for name, (absolute, terms) in case.tolerances.items():
            finite = case.results[name][np.isfinite(case.results[name])].astype(np.float64)
            assert 0 <= absolute < 1e-3 * max(1.0, np.abs(finite).max(initial=0.0))
            assert (absolute == 0) >= (terms == 0)


def test_an_empty_batch_has_tolerances() -> None:
    content: dict[str, Any] = {"parameters": {}, "shapes": {"input": [0, 5, 2]}, "count": 2}
    for case in cases_of(call_of("conv", **content)):
        assert case.results["output"].size == 0
        assert not case.results["grad_weight"].any()
        assert case.tolerances["grad_input"][0] >= 0
