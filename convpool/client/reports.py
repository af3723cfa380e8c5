"""What ``POST /{layer}/check`` says of a claim, and ``POST /{layer}/shape`` of a layer, as Python has it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

__all__ = ["Explanation", "LayerShape", "Line", "Report", "TensorReport"]

FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""JSON has no numbers for these."""

MAX_EXPLANATIONS = 3
"""Explanations that a text shows; those that fit come first."""


class _FromJson:
    """What is made from a JSON object; members that this version does not know are left out."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Make it from a JSON object."""
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in document.items() if name in known})


@dataclass(frozen=True)
class LayerShape(_FromJson):
    """What a layer does to operands of given shapes.

    Parameters
    ----------
    output_shape : tuple of int
    parameters : dict
        Every parameter as it was resolved.
    padding : list of list of int
        Before and after, for each spatial axis.
    multiply_accumulates : int
    dtype : str
        The type that the bytes are counted for.
    bytes_in, bytes_out : int
    """

    output_shape: tuple[int, ...]
    parameters: dict[str, Any]
    padding: list[list[int]]
    multiply_accumulates: int
    dtype: str
    bytes_in: int
    bytes_out: int

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read a response."""
        document = json.loads(content)
        return cls.of(document | {"output_shape": tuple(document["output_shape"])})


class Line(NamedTuple):
    """A line of text, and how a terminal shows it: in words of rich, such as ``bold red``; empty for plain."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class TensorReport(_FromJson):
    """How one claimed tensor compares with the right one.

    Parameters
    ----------
    agrees : bool
    shape : dict
        ``got``, and ``expected`` unless the operands lead to no such result.
    dtype : str
    elements_off : int
        Elements that differ by more than the tolerance.
    fraction_off : float
    tolerance : dict
        ``largest``, ``terms``, ``unit_roundoff``, and the ``reason`` in words.
    max_absolute_error, max_relative_error, max_ulps : float or None
        None if the shapes differ.
    first_difference : dict or None
        ``index``, ``got``, ``expected``, and the ``window`` that the right one is computed from.
    where : dict or None
        The ``pattern`` of the elements that are off, and a ``sentence``.
    """

    agrees: bool
    shape: dict[str, list[int]]
    dtype: str
    elements_off: int
    fraction_off: float
    tolerance: dict[str, Any]
    max_absolute_error: float | None = None
    max_relative_error: float | None = None
    max_ulps: float | None = None
    first_difference: dict[str, Any] | None = None
    where: dict[str, str] | None = None

    def lines(self, name: str) -> Iterator[Line]:
        """Yield what a person reads of it."""
        if self.agrees:
            yield Line(f"{name} agrees: largest error {_number(self.max_absolute_error)}", "green")
            return
        got, expected = self.shape["got"], self.shape.get("expected")
        if got == expected:
            off = f"{self.elements_off} of {math.prod(got)} elements {'is' if self.elements_off == 1 else 'are'} off"
            largest = f"{_number(self.max_absolute_error)}; rounding allows {self.tolerance['largest']:.3g}"
            yield Line(f"{name} differs: {off}", "bold red")
            yield Line(f"  largest error {largest}")
        elif expected is None:
            yield Line(f"{name} cannot be compared", "bold red")
        else:
            yield Line(f"{name} differs: its shape is {_shape(got)}, and should be {_shape(expected)}", "bold red")
        if self.first_difference:
            first = self.first_difference
            yield Line(
                f"  first at {first['index']}: got {_number(first['got'])}, expected {_number(first['expected'])}"
            )
        if self.where:
            yield Line(f"  {self.where['sentence']}")


@dataclass(frozen=True)
class Explanation(_FromJson):
    """A mistake that would lead to what was claimed.

    Parameters
    ----------
    id : str
        Name of the hypothesis.
    sentence : str
    agrees : bool
        Whether the mistake reproduces the claim to within rounding.
    tensors : list of str
        The claimed tensors that it reproduces.
    residual : float
        What is left of the difference.
    parameters : dict
        The parameters to change so that the layer computes what was claimed; empty if none do.
    rule : str
        Where the docs say what is right.
    """

    id: str
    sentence: str
    agrees: bool
    tensors: list[str]
    residual: float
    parameters: dict[str, Any]
    rule: str

    def lines(self) -> Iterator[Line]:
        """Yield what a person reads of it."""
        fits = f"explains {', '.join(self.tensors)}" if self.agrees else "close, but does not fit"
        yield Line(f"{fits}: {self.sentence}", "bold yellow" if self.agrees else "")
        yield Line(f"  rule: {self.rule}", "dim")


@dataclass(frozen=True)
class Report(_FromJson):
    """Whether what was claimed is right and, if not, which mistake it looks like.

    Parameters
    ----------
    agrees : bool
    tensors : dict of str to TensorReport
    explanations : list of Explanation
        The best first.
    parameters : dict
        Every parameter of the layer as it was resolved.
    tried : dict
        How many ``hypotheses``, and whether the search was ``complete``.
    document : dict
        The JSON that it was made from.
    hint : str or None
        What to try next.
    """

    agrees: bool
    tensors: dict[str, TensorReport]
    explanations: list[Explanation]
    parameters: dict[str, Any]
    tried: dict[str, Any]
    document: dict[str, Any]
    hint: str | None = None

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read a response."""
        document = json.loads(content)
        numbers = _with_floats(document)
        tensors = {name: TensorReport.of(each) for name, each in numbers["tensors"].items()}
        explanations = [Explanation.of(each) for each in numbers["explanations"]]
        return cls.of({**numbers, "tensors": tensors, "explanations": explanations, "document": document})

    def lines(self) -> Iterator[Line]:
        """Yield what a person reads of it."""
        for name, tensor in self.tensors.items():
            yield from tensor.lines(name)
        fitting = [explanation for explanation in self.explanations if explanation.agrees]
        for explanation in (fitting or self.explanations)[:MAX_EXPLANATIONS]:
            yield from explanation.lines()
        if self.hint:
            yield Line(self.hint)

    def __str__(self) -> str:
        return "\n".join(line.text for line in self.lines())


def _with_floats(value: Any) -> Any:
    """Return JSON with the numbers that it spells as strings."""
    if isinstance(value, dict):
        return {name: _with_floats(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_floats(each) for each in value]
    return FLOATS.get(value, value) if isinstance(value, str) else value


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.9g}"


def _shape(sizes: list[int]) -> str:
    return f"({', '.join(map(str, sizes))})"
