"""What a request for cases asks for, checked, and the layers that it leads to: each one a function of its number."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cnn_core import ConvpoolError
from cnn_core.errors import describe
from cnn_core.ops.base import Op, ResolvedOp
from cnn_core.parameters import Direction

from ..operations.operation import CatalogueEntry
from ..problems import Finding, InvalidRequest
from .edges import Edge, edge_op
from .exactness import MAX_COUNTED_WINDOWS, Sums, sums_of
from .parameters import Choices, draw_op, draw_rank
from .sizes import Shapes, draw_shapes
from .streams import Draws
from .unfit import Unfit

__all__ = ["CasesCall", "Kind", "Layer", "draw_layer"]

Kind = Literal["random", "integers", "edges"]

MAX_TRIES = 200
"""Layers that are drawn for one case until one is valid."""


@dataclass(frozen=True)
class CasesCall:
    """A checked request.

    Parameters
    ----------
    entry : CatalogueEntry
    choices : Choices
        Of the parameters.
    shapes : Shapes
    ranks : frozenset of int
        Numbers of spatial axes that the shapes allow.
    dtype : dtype
    kind : {"random", "integers", "edges"}
    directions : tuple of str
    edges : tuple of Edge
        For kind ``edges``: those that the parameters allow.
    count, seed : int
    """

    entry: CatalogueEntry
    choices: Choices
    shapes: Shapes
    ranks: frozenset[int]
    dtype: np.dtype[Any]
    kind: Kind
    directions: tuple[Direction, ...]
    edges: Sequence[Edge]
    count: int
    seed: int

    @property
    def is_floating(self) -> bool:
        """Whether the operands are floating numbers, not bytes."""
        return self.dtype.kind == "f"


@dataclass(frozen=True)
class Layer:
    """The layer of a case.

    Parameters
    ----------
    op : Op
    resolved : ResolvedOp
    shapes : mapping of str to shape
        Of the operands of forward.
    edge : Edge, optional
        The entry of the table that it is.
    tries : int
        How many layers were drawn until this one.
    """

    op: Op
    resolved: ResolvedOp[Any]
    shapes: Mapping[str, tuple[int, ...]]
    edge: Edge | None = None
    tries: int = 1

    @functools.cached_property
    def sums(self) -> Sums:
        """What is known of its sums; counting the windows of a pooling takes memory."""
        return sums_of(self.op, self.resolved, self.shapes)


def draw_layer(call: CasesCall, case: int) -> Layer:
    """Draw the layer of a case.

    Raises
    ------
    InvalidRequest
        If none of MAX_TRIES layers is valid, or the only one that the request allows is not.
    """
    draws = Draws(call.seed, case)
    if call.edges:
        edge = call.edges[case % len(call.edges)]
        op = edge_op(edge, call.entry, call.choices, draws)
        shapes = edge.shapes_for(op)
        return Layer(op, call.entry.resolve(op, shapes), shapes, edge)
    for attempt in range(1, MAX_TRIES + 1):
        taken = draws.taken
        try:
            return dataclasses.replace(_draw_layer(call, draws), tries=attempt)
        except Unfit as unfit:
            if attempt < MAX_TRIES and draws.taken > taken:
                continue
            raise _impossible(unfit.finding, attempt) from None
    raise AssertionError  # the last attempt returns or raises


def _impossible(finding: Finding, attempts: int) -> InvalidRequest:
    if attempts == 1:
        return InvalidRequest(finding)
    message = f"none of {attempts} layers that were drawn is valid; of the last one: {finding.message}"
    hint = "give shapes and parameters of which more fit each other"
    return InvalidRequest(Finding(finding.pointer, f"{message}; {hint}", finding.got, finding.expected))


def _draw_layer(call: CasesCall, draws: Draws) -> Layer:
    rank = draw_rank(draws, call.choices, call.ranks)
    op = draw_op(draws, call.entry, call.choices, rank)
    try:
        shapes = draw_shapes(draws, call.entry, op, rank, call.shapes)
        resolved = call.entry.resolve(op, shapes)
    except ConvpoolError as error:
        raise Unfit.because(call.entry, error) from None
    except InvalidRequest as problem:  # an error of the core with a hint
        finding = problem.findings[0]
        raise Unfit(Finding(f"/parameters{finding.pointer}", finding.message, finding.got, finding.expected)) from None
    layer = Layer(op, resolved, shapes)
    if call.kind == "integers" and call.is_floating:
        _require_integers(layer, call.dtype)
    return layer


def _require_integers(layer: Layer, dtype: np.dtype[Any]) -> None:
    norm_type = getattr(layer.op, "norm_type", 1)
    if norm_type != 1:
        raise Unfit(
            Finding.of(
                "/parameters/norm_type",
                "with kind integers norm_type must be 1: other norms are no integers",
                got=describe(norm_type),
                expected="1",
                hint="or kind random",
            )
        )
    windows = max(axis.output_size for axis in layer.resolved.windows.axes)
    if windows > MAX_COUNTED_WINDOWS:
        raise Unfit(
            Finding.of(
                "/shapes",
                "a case of kind integers has too many windows along an axis",
                got=str(windows),
                expected=f"at most {MAX_COUNTED_WINDOWS}",
            )
        )
    if not layer.sums.largest_integer(dtype):
        raise Unfit(
            Finding.of(
                "/dtype",
                f"with kind integers {dtype.name} must hold every sum exactly",
                got=f"sums of {layer.sums.terms} terms, or too many divisors",
                expected="shorter sums, or a type of more digits",
                hint="give smaller shapes, kind random or dtype float64",
            )
        )
