"""The predicted cost of a computation, which follows from the shapes: a service limits requests by it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MOVED_ELEMENT", "STEP", "Cost", "Costs"]

STEP = 100_000
"""Work of one interpreter iteration with its NumPy calls, some microseconds."""

MOVED_ELEMENT = 10
"""Work of copying an element, or of adding it to another, where memory is read and written in order."""


@dataclass(frozen=True)
class Cost:
    """The cost of computing an output, or one gradient.

    Parameters
    ----------
    work : int
        An estimate of the time: in multiply-accumulates of a large convolution in float32 on one core, some tenths
        of a nanosecond each.
    workspace_elements : int
        Upper bound of the elements, of the type that is computed in, that are allocated at any one time, not counting
        the operands in that type and the results.
    """

    work: int
    workspace_elements: int


@dataclass(frozen=True)
class Costs:
    """The costs of a layer.

    Parameters
    ----------
    forward : Cost
        Of the output.
    backward : dict of str to Cost
        Of the gradient of each differentiable operand.
    """

    forward: Cost
    backward: dict[str, Cost]
