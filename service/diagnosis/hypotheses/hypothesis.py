"""What a hypothesis is: a mistake, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..layer import Layer, Scenario, Tensors

__all__ = ["CONVOLUTION", "Altered", "Hypothesis", "Results", "ResultsHypothesis", "Variant", "rule"]

Array = NDArray[Any]


def rule(section: str) -> str:
    """Return the link to a section of the page of disagreements."""
    return f"docs/where-frameworks-disagree.md#{section}"


CONVOLUTION = rule("convolution-and-its-geometry")


@dataclass(frozen=True)
class Variant:
    """One way to make a mistake.

    Parameters
    ----------
    scenario : Scenario
        What is computed then.
    text : str
        What the sentence of the hypothesis says of it, in place of ``{}``.
    parameters : mapping of str to object
        The parameters with which the layer computes just that; empty if there are none.
    """

    scenario: Scenario
    text: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hypothesis:
    """A mistake in what is computed.

    Parameters
    ----------
    id : str
    sentence : str
        What the caller did, with ``{}`` for the text of a variant.
    rule : str
        Link to the rule that it breaks.
    variants : callable
        From a layer to the ways to make the mistake there; none where it does not matter.
    about : str
        The tensor that must be wrong for it; empty for any.
    """

    id: str
    sentence: str
    rule: str
    variants: Callable[[Layer], Iterable[Variant]]
    about: str = ""


class Altered(NamedTuple):
    """Results as a mistake alters them: those that it does, and what the sentence says of it."""

    tensors: Tensors
    text: str = ""


@dataclass(frozen=True)
class Results:
    """Results before a mistake in what is done with them, and what was claimed.

    Parameters
    ----------
    layer : Layer
        What they were computed by.
    tensors : dict of str to ndarray
    claimed : dict of str to ndarray
        In float64 if they are floating numbers.
    """

    layer: Layer
    tensors: Tensors
    claimed: Tensors

    def of_claimed_shape(self, *names: str) -> Iterable[tuple[str, Array, Array]]:
        """Yield name, result and claim of those that have the shape of their claim, and elements."""
        for name in names or tuple(self.tensors):
            result, claim = self.tensors.get(name), self.claimed.get(name)
            if result is not None and claim is not None and result.shape == claim.shape and result.size:
                yield name, result, claim

    @property
    def bias(self) -> Array | None:
        """The bias as an array that broadcasts over the output, if there is one."""
        bias = self.layer.tensors.get("bias")
        if bias is None:
            return None
        shape = [1] * (self.layer.rank + 2)
        shape[self.layer.channel_axis] = -1
        return np.reshape(bias, shape)


@dataclass(frozen=True)
class ResultsHypothesis:
    """A mistake in what is done with the results.

    Parameters
    ----------
    id, sentence, rule : str
        As of a ``Hypothesis``.
    alter : callable
        From the results to what a mistake makes of them.
    in_pairs : bool
        Whether it is tried together with another mistake: not what could explain whatever that one leaves.
    about : str
        As of a ``Hypothesis``.
    """

    id: str
    sentence: str
    rule: str
    alter: Callable[[Results], Iterable[Altered]]
    in_pairs: bool = False
    about: str = ""
