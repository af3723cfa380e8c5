"""Sums in a type that is too narrow, as data: the results are right but for their rounding."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.mistakes import honest
from tests.mistakes.drawing import Random, draw, with_operands
from tests.mistakes.entries import several_taps
from tests.mistakes.layers import AnyArray, Layer
from tests.mistakes.mistake import Case, case_of


@dataclasses.dataclass(frozen=True)
class NarrowSums:
    """A port that sums in ``sums`` what it stores in ``stored``; ``expected`` names that."""

    layer: str
    mode: str
    expected: tuple[str, ...]
    sums: str
    stored: str
    tensors: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.mode or self.layer}: {self.sums} sums, {self.stored} claimed"

    @property
    def spoils(self) -> tuple[str, ...]:
        return self.tensors

    def case(self, seed: int) -> Case:
        """Draw layers until the narrow sums show in each tensor, far beyond the rounding of honest ones."""
        random = np.random.default_rng([seed, *self.name.encode()])
        wide = "float32" if self.stored == "float16" else self.stored
        for _ in range(100):
            layer = honest.in_type(self.draw(random), self.stored)
            claimed = honest.results(layer, random, self.sums, self.stored)
            exact = honest.results(layer, random, "float64", "float64")
            magnitudes = honest.results(absolute(layer), random, "float64", "float64")
            shows = [
                shows_clearly(claimed[name], exact[name], magnitudes[name], wide, self.stored) for name in self.tensors
            ]
            if all(shows):
                return case_of(layer, {name: claimed[name] for name in self.tensors})
        raise AssertionError(f"{self.name} never showed")

    def draw(self, random: Random) -> Layer:
        fixed: dict[str, Any] = {"mode": self.mode} if self.mode else {"groups": 1, "channels": 6, "features": 3}
        if self.mode == "avg":
            fixed = {"mode": "avg", "channels": 2, "rank": 2, "kernel": (3, 3)}
        return with_operands(draw(random, self.layer, several_taps, **fixed), random)


def absolute(layer: Layer) -> Layer:
    return dataclasses.replace(layer, operands={name: np.abs(operand) for name, operand in layer.operands.items()})


def shows_clearly(claimed: AnyArray, exact: AnyArray, magnitude: AnyArray, wide: str, stored: str) -> bool:
    """Whether some element is off by far more than the rounding of its sum in a wide type and of its storage."""
    allowed = 100 * np.finfo(wide).eps * magnitude + np.finfo(stored).eps * np.abs(exact)
    return bool(np.any(np.abs(claimed.astype(np.float64) - exact) > 2 * allowed))


NARROW_SUMS = tuple(
    NarrowSums(layer, mode, (f"{sums}_sums",), sums, stored, tensors)
    for layer, mode, tensors in (
        ("conv", "", ("output",)),
        ("conv", "", ("grad_input", "grad_weight")),
        ("conv_transpose", "", ("output",)),
        ("pool", "avg", ("output",)),
    )
    for sums, stored in (("float32", "float64"), ("float16", "float32"), ("float16", "float16"))
)
