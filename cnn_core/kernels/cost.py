"""The predicted cost of a computation, which follows from the shapes: a service limits requests by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..parameters import Direction

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


class Costs:
    """The costs of a layer; those that are given as a callable are computed when they are requested.

    Parameters
    ----------
    forward : Cost or callable
        Cost of the output.
    backward : mapping of str to Cost or callable
        Cost of the gradient of each differentiable operand.
    """

    def __init__(
        self, forward: Cost | Callable[[], Cost], backward: Mapping[str, Cost] | Mapping[str, Cost | Callable[[], Cost]]
    ) -> None:
        self._forward = forward
        self.backward: Mapping[str, Cost] = _WhenAsked(backward)

    @property
    def forward(self) -> Cost:
        """Cost of the output."""
        return _computed(self._forward)

    def of(self, direction: Direction, wrt: Sequence[str] = ()) -> list[Cost]:
        """Return the costs of a direction: of the output, or of the gradients of some operands, and no others."""
        return [self.forward] if direction == "forward" else [self.backward[name] for name in wrt]


class _WhenAsked(Mapping[str, Cost]):
    """Costs by name, each computed when it is requested."""

    def __init__(self, costs: Mapping[str, Cost] | Mapping[str, Cost | Callable[[], Cost]]) -> None:
        self._costs = costs

    def __getitem__(self, name: str) -> Cost:
        return _computed(self._costs[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._costs)

    def __len__(self) -> int:
        return len(self._costs)


def _computed(cost: Cost | Callable[[], Cost]) -> Cost:
    return cost if isinstance(cost, Cost) else cost()
