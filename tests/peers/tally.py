"""The bookkeeping of a comparison: how many cases of which kind, what was left out and why, the worst errors."""

from __future__ import annotations

import collections
import dataclasses
import sys
from collections.abc import Callable

import numpy as np
import pytest

from tests.peers.cases import Array

RESULTS = ("output", "grad_input", "grad_weight", "grad_bias")


@dataclasses.dataclass
class Tally:
    """What was compared, what could not be and why, and how far the two were apart."""

    title: str
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    outside: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    worst: dict[str, float] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)

    @property
    def compared(self) -> int:
        return self.counts.total()

    def check(self, case: object, how: str, comparison: Callable[[], None]) -> None:
        """Run a comparison; note a failure with all that is needed to replay it."""
        try:
            comparison()
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 (whatever a case raises is its failure)
            self.failures.append(f"{type(error).__name__}: {error}\n    {case}")
        self.counts[how] += 1

    def close(self, name: str, actual: Array | None, expected: Array, bound: float) -> None:
        """Assert shape, dtype kind, and values: NaN and infinities in the same places, the others within the bound."""
        assert actual is not None, f"{name} is missing"
        assert actual.shape == expected.shape, f"{name} has shape {actual.shape}, the peer's has {expected.shape}"
        error = relative_error(actual, expected)
        self.worst[name] = max(self.worst.get(name, 0.0), error)
        assert error <= bound, f"the relative error of {name} is {error:.3g}"

    def add(self, other: Tally) -> None:
        self.counts += other.counts
        self.outside += other.outside
        for name, worst in other.worst.items():
            self.worst[name] = max(self.worst.get(name, 0.0), worst)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {how}" for how, count in sorted(self.counts.items()))
        outside = ", ".join(f"{count} {why}" for why, count in sorted(self.outside.items())) or "none"
        worst = ", ".join(f"{name} {worst:.1e}" for name, worst in self.worst.items())
        return f"{self.title}: {self.compared} compared ({counts}); not compared: {outside}; worst errors: {worst}"


def write(request: pytest.FixtureRequest, tally: Tally) -> None:
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\n{tally}\n")


def relative_error(actual: Array, expected: Array) -> float:
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    assert np.array_equal(actual[~finite], expected[~finite], equal_nan=True), "NaN or infinities differ"
    actual, expected = actual[finite], expected[finite]
    assert np.isfinite(actual).all(), "NaN or an infinity where the peer has a number"
    if actual.size == 0:
        return 0.0
    return float(np.abs(actual - expected).max() / (np.abs(expected).max() or 1.0))
