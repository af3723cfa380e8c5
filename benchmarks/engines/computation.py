"""What an engine builds for a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Computation"]


@dataclass(frozen=True)
class Computation:
    """A layer in one of the ways in which an engine can compute it.

    Parameters
    ----------
    name : str
        Which way it is: the layout.
    forward : callable
        Returns the output.
    backward : callable or None
        Returns the gradients of input, weight and bias, or of the input alone, from the operands and the gradient of
        the output: whatever else it needs of forward, it computes. None if the engine has no backward.
    backward_alone : callable or None
        The same, from what a forward before has saved; None if forward saves nothing that would help.
    """

    name: str
    forward: Callable[[], Any]
    backward: Callable[[], tuple[Any, ...]] | None
    backward_alone: Callable[[], tuple[Any, ...]] | None = None
