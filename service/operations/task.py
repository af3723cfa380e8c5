"""What a path computes: the interface between the way of a request and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from .prediction import Prediction

__all__ = ["Plan", "Task"]


@dataclass(frozen=True)
class Plan:
    """A request whose parameters were checked, and what it will do to operands of known shapes and types.

    Parameters
    ----------
    call : object
        What the task made of the parameters: for an operation, a ``ParsedCall``.
    prediction : Prediction
    """

    call: Any
    prediction: Prediction


class Task(Protocol):
    """What a path computes: an operation, golden cases, or the check of a claim."""

    @property
    def name(self) -> str:
        """What it is called in documentation, metrics and logs, for example conv_forward."""

    @property
    def path(self) -> str:
        """Its path in the URL, for example /conv/forward."""

    @property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the tensors that a request may hold; every other name is a parameter's."""

    def known_plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan | None:
        """Return the plan of a request like one that was planned before, if there was one."""

    def plan(self, parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Plan:
        """Return the plan of a request: check it and predict it. It computes no result.

        Raises
        ------
        InvalidRequest, ConvpoolError
        """

    def compute(self, plan: Plan, tensors: Mapping[str, NDArray[Any]]) -> Any:
        """Compute what the response's writer takes: for an operation, its results by name."""
