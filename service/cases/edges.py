"""The edges: layers at the corners where ports break. An edge is data; the tables are the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnn_core.ops.base import Op

from ..operations.operation import CatalogueEntry
from .parameters import RULES, Choices, Open, exact_sums
from .streams import Draws

__all__ = ["Edge", "allowed_edges", "edge_op"]

FREE = ("data_format", "return_indices", "index_scheme", "storage_order")
"""Parameters that a request may set for any edge that does not set them: they do not change what it is about."""


@dataclass(frozen=True)
class Edge:
    """One corner.

    Parameters
    ----------
    id : str
    layer : str
        Name of the catalogue entry.
    purpose : str
        What breaks there, in a sentence.
    parameters : mapping of str to object
    shapes : mapping of str to shape
        Of the operands, with channels_last.
    fills : mapping of str to str
        What operands are filled with where that is the point, by name; see ``operands.FILLS``.
    """

    id: str
    layer: str
    purpose: str
    parameters: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    fills: Mapping[str, str] = field(default_factory=dict)

    @property
    def spatial_axes(self) -> int:
        """The number of its spatial axes."""
        sizes = self.parameters["output_size"] if self.layer == "fold" else self.shapes["input"][1:-1]
        return len(sizes)

    def kind(self, entry: CatalogueEntry) -> type[Op]:
        """Return the type of its op."""
        return entry.ops[self.parameters[entry.selector] if entry.selector else ""]

    def op(self, entry: CatalogueEntry, free: Mapping[str, Any]) -> Op:
        """Return its op, with values for free parameters."""
        own = {name: value for name, value in self.parameters.items() if name != entry.selector}
        kind = self.kind(entry)
        return kind(**exact_sums(kind), **free, **own)

    def shapes_for(self, op: Op) -> dict[str, tuple[int, ...]]:
        """Return the shapes of its operands in the layout of its op."""
        if op.data_format == "channels_last":
            return dict(self.shapes)
        return {name: _channels_first(name, shape) for name, shape in self.shapes.items()}


def _channels_first(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name == "weight":
        *kernel, group_channels, features = shape
        return (features, group_channels, *kernel)
    if name not in ("input", "indices"):
        return shape
    batch, *spatial, channels = shape
    return (batch, channels, *spatial)


def allowed_edges(table: tuple[Edge, ...], entry: CatalogueEntry, choices: Choices) -> tuple[Edge, ...]:
    """Return the edges of a layer whose parameters are those that a request gives; free ones may be anything."""
    return tuple(edge for edge in table if edge.layer == entry.name and _is_allowed(edge, entry, choices))


def _is_allowed(edge: Edge, entry: CatalogueEntry, choices: Choices) -> bool:
    op = edge.op(entry, {})
    for name, candidates in choices.items():
        if isinstance(candidates, Open) or (name in FREE and name not in edge.parameters):
            continue
        if name == entry.selector:
            if edge.parameters[name] not in candidates:
                return False
        elif name == "spatial_axes":
            if not {None, edge.spatial_axes}.intersection(candidates):
                return False
        elif hasattr(op, name):
            default = type(op).__dataclass_fields__[name].default
            wanted = (default if value is None else value for value in candidates)
            if not any(_is_same(getattr(op, name), value) for value in wanted):
                return False
    return True


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two values of a parameter are the same, of which one may be for all axes."""
    if isinstance(value, tuple) != isinstance(other, tuple):
        values, one = (value, other) if isinstance(value, tuple) else (other, value)
        return all(each in (one, (one, one)) for each in values)
    return bool(value == other)


def edge_op(edge: Edge, entry: CatalogueEntry, choices: Choices, draws: Draws) -> Op:
    """Return the op of an edge, with the free parameters that a request gives."""
    names = {parameter.name for parameter in edge.kind(entry).parameters()}
    free: dict[str, Any] = {}
    for name in FREE:
        candidates = choices.get(name)
        if candidates is None or name not in names or name in edge.parameters:
            continue
        value = RULES[name](draws, 1) if isinstance(candidates, Open) else draws.choose(candidates)
        if value is not None:
            free[name] = value
    return edge.op(entry, free)
