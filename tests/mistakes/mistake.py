"""What an entry of the tables is, and how a case is drawn from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.mistakes.drawing import Random, names
from tests.mistakes.layers import RIGHT, AnyArray, Layer, Wrong

Results = Mapping[str, AnyArray]
Make = Callable[[Layer, Wrong, tuple[str, ...]], Results]


@dataclass(frozen=True)
class Case:
    """A request to check: the layer, its parameters, the operands and what a port made of them."""

    layer: str
    parameters: dict[str, Any]
    tensors: dict[str, AnyArray]

    def __str__(self) -> str:
        shapes = {name: f"{tensor.dtype}{list(tensor.shape)}" for name, tensor in self.tensors.items()}
        return f"{self.layer} {self.parameters} {shapes}"


@dataclass(frozen=True)
class Mistake:
    """A mistake as data: where it is made, what it spoils, and what names it.

    Attributes
    ----------
    name : str
        Unique in the tables.
    expected : tuple of str
        The ids of explanations that name it.
    draw : callable
        Draws a layer in which it may matter.
    make : callable
        The port: gives the tensors asked for, with the mistakes that it is told to make.
    wrong : str
        The mistakes that make() is told to make.
    spoils : tuple of str
        The tensors that the mistake is in; all of them are claimed.
    beside : tuple of str
        Tensors that are claimed in addition, now and then, and that the mistake leaves right.
    """

    name: str
    layer: str
    expected: tuple[str, ...]
    draw: Callable[[Random], Layer]
    make: Make
    wrong: str
    spoils: tuple[str, ...]
    beside: tuple[str, ...] = ()

    def case(self, seed: int) -> Case:
        """Draw layers until the mistake spoils each of the tensors clearly, and make it."""
        random = np.random.default_rng([seed, *self.name.encode()])
        for _ in range(200):
            layer = self.draw(random)
            made = self.make(layer, names(self.wrong), self.spoils)
            right = self.make(layer, RIGHT, self.spoils)
            if all(clearly_different(made[name], right[name]) for name in self.spoils):
                beside = self.beside if self.beside and random.random() < 0.5 else ()
                return case_of(layer, {**self.make(layer, RIGHT, beside), **made})
        raise AssertionError(f"{self.name} never mattered")


def case_of(layer: Layer, claimed: Results) -> Case:
    """The request that checks these results of a layer."""
    operands = dict(layer.operands)
    if not any(name.startswith("grad") for name in claimed):
        operands.pop("grad_output", None)
    claims = {f"claimed_{name}": np.ascontiguousarray(tensor) for name, tensor in claimed.items()}
    if "indices" not in claimed:
        layer = dataclasses.replace(layer, return_indices=False)
    return Case(layer.name, layer.parameters(), operands | claims)


def clearly_different(one: AnyArray, other: AnyArray) -> bool:
    """Whether a spoiled tensor differs by more than any rounding, somewhere."""
    if one.shape != other.shape:
        return True
    difference = np.abs(one - other)
    return bool(np.any(np.isnan(difference)) or np.max(difference, initial=0) > 1e-2 * np.max(np.abs(other), initial=0))
