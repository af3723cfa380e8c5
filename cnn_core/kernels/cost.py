"""What a computation costs, known from the shapes alone: for limits on what is computed for others."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MOVED_ELEMENT", "STEP", "Cost", "Costs"]

STEP = 100_000
"""Work of one step in Python, some microseconds."""

MOVED_ELEMENT = 10
"""Work of copying an element, or of adding it to another, where memory is read and written in order."""


@dataclass(frozen=True)
class Cost:
    """The cost of computing an output, or one gradient.

    Parameters
    ----------
    work : int
        An estimate of the time: in multiply-accumulates of a large convolution in float32 on one processor, some tenths
        of a nanosecond each.
    workspace_elements : int
        Upper bound of the elements, of the type that is computed in, that are held at one time beside the operands in
        that type and the results.
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
