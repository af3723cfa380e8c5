"""Requests for cases: the model of what they hold, and every rule that they may break."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, create_model

from cnn_core import Fold, ParameterError
from cnn_core.errors import describe
from cnn_core.parameters import Rule, one_of, subset_of

from ..codecs.names import joined, pointer_to
from ..operations.operation import CatalogueEntry
from ..operations.parameters import rule_field, validated
from ..operations.unknown_names import unknown_names
from ..problems import Finding, InvalidRequest
from .call import CasesCall, Kind
from .edge_table import EDGES
from .edges import allowed_edges
from .parameters import ANY, Choices, Open, open_choices
from .sizes import Range, Shapes, ranks_of

__all__ = ["DEFAULT_COUNT", "MAX_COUNT", "MAX_SEED", "cases_model", "parsed"]

MAX_COUNT = 10_000
MAX_SEED = 2**53 - 1
"""The largest integer that JSON holds in every language."""

MAX_CANDIDATES = 100
MAX_SIZE = 2**31 - 1
DEFAULT_COUNT = 10
FLOATS, BYTES = ("float32", "float64", "float16"), ("uint8", "int8")
WORD_FOR_ANY = ANY.value
COMPUTED_DIRECTLY = "is direct in all cases, so that sums are exact"


def _integer_from(low: int, high: int) -> Rule:
    def canonical(value: Any) -> int:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, float) and value.is_integer():  # some languages write 2 as 2.0
            value = int(value)
        if not low <= operator.index(value) <= high:
            raise ValueError
        return int(value)

    schema = {"type": "integer", "format": "int64", "minimum": low, "maximum": high}
    return Rule(f"an integer from {low} to {high}", canonical, schema)


def _parameters(value: Any) -> Any:
    if value != WORD_FOR_ANY and not isinstance(value, dict):
        raise TypeError
    return value


def _shapes(value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError
    return value


SIZE = _integer_from(0, MAX_SIZE)
COUNT = _integer_from(1, MAX_COUNT)
SEED = _integer_from(0, MAX_SEED)
KIND = one_of(Kind)
PARAMETERS = Rule('an object, or "any"', _parameters, {})
SHAPES = Rule(
    "an object with lists by operand",
    _shapes,
    {"type": "object", "additionalProperties": {"type": "array", "items": {}}},
)


def _types(entry: CatalogueEntry) -> tuple[str, ...]:
    """Return the types that the cases of a layer may have; the first is the default."""
    return BYTES if entry.operands[0].dtypes else FLOATS


@functools.cache
def cases_model(entry: CatalogueEntry) -> type[BaseModel]:
    """Return the model of a request for the cases of a layer."""
    directions = tuple(operation.direction for operation in entry.operations)
    types = _types(entry)
    fields: dict[str, Any] = {
        "parameters": rule_field(
            "parameters",
            Any,
            PARAMETERS,
            "For each parameter of the layer a value, a list of values to draw from, or any. Any for all of them, the "
            "default, leaves data_format as it is.",
            WORD_FOR_ANY,
        ),
        "shapes": rule_field(
            "shapes",
            Any,
            SHAPES,
            "For each operand a list: for each axis a size, [low, high], or null for what is drawn or follows. null in "
            "place of the list leaves an optional operand out.",
            None,
        ),
        "dtype": rule_field("dtype", str, one_of(Literal[types]), "Type of the operands and results.", types[0]),
        "kind": rule_field(
            "kind",
            str,
            KIND,
            "random: numbers whose results are correctly rounded. integers: results are integers that the type holds "
            "exactly. edges: the corners where ports break, from a table.",
            "random",
        ),
        "directions": rule_field(
            "directions", tuple[str, ...], subset_of(directions), "What there are results of.", directions
        ),
        "count": rule_field(
            "count", int | None, COUNT, "How many cases; 10 if not given, or the whole table for edges.", None
        ),
        "seed": rule_field("seed", int, SEED, "What everything is drawn from: the same seed, the same cases.", 0),
    }
    config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    return create_model(f"{entry.name}_cases", __config__=config, **fields)


def parsed(entry: CatalogueEntry, content: Mapping[str, Any]) -> CasesCall:
    """Return a checked request.

    Raises
    ------
    InvalidRequest
        With everything that is wrong with it. Pointers to parameters begin with ``/parameters``, to shapes with
        ``/shapes``.
    """
    model = cases_model(entry)
    values = {name: field.default for name, field in model.model_fields.items()}
    values |= validated(model, content, _parameter_names(entry))
    findings: list[Finding] = []
    choices = _choices(entry, values["parameters"], values["kind"], findings)
    shapes = _given_shapes(entry, values["shapes"] or {}, findings)
    kind: Kind = values["kind"]
    if kind == "edges" and shapes:
        findings.append(
            Finding.of(
                "/shapes", "edges have the shapes of the table", got="shapes", expected="no shapes for kind edges"
            )
        )
    if findings:
        raise InvalidRequest(*findings)
    edges = allowed_edges(EDGES, entry, choices) if kind == "edges" else ()
    if kind == "edges" and not edges:
        raise InvalidRequest.of(
            "/parameters",
            "no edge in the table has these parameters",
            got="parameters of no edge",
            expected="fewer parameters, or any",
        )
    ranks = {1, 2, 3}
    for operand, axes in shapes.items():
        if axes is not None:
            ranks &= ranks_of(operand, len(axes), is_folded=Fold in entry.ops.values())
    return CasesCall(
        entry=entry,
        choices=choices,
        shapes=shapes,
        ranks=frozenset(ranks),
        dtype=np.dtype(values["dtype"]),
        kind=kind,
        directions=tuple(values["directions"]),
        edges=edges,
        count=values["count"] or len(edges) or DEFAULT_COUNT,
        seed=values["seed"],
    )


def _parameter_names(entry: CatalogueEntry) -> tuple[str, ...]:
    names = dict.fromkeys(field.name for op in entry.ops.values() for field in op.parameters())
    names.pop("algorithm", None)
    return (*([entry.selector] if entry.selector else []), *names)


def _required(entry: CatalogueEntry) -> tuple[str, ...]:
    """Return the parameters that every layer has a value for: no op has a default."""
    if entry.selector:
        return (entry.selector,)
    (op,) = entry.ops.values()
    return tuple(field.name for field in op.parameters() if field.default is dataclasses.MISSING)


def _choices(entry: CatalogueEntry, given: Any, kind: str, findings: list[Finding]) -> Choices:
    if given == WORD_FOR_ANY:
        return open_choices(entry)
    rules = {field.name: field.metadata["rule"] for op in entry.ops.values() for field in op.parameters()}
    rules.pop("algorithm", None)
    if entry.selector:
        rules[entry.selector] = one_of(Literal[tuple(entry.ops)])
    for name in _required(entry) if kind != "edges" else ():  # each edge has its own
        if given.get(name) is None:
            text = f"{rules[name].text}; or a list of values to draw from, or any"
            fault = f"{name} is required in parameters"
            findings.append(Finding.of(f"/parameters/{name}", fault, got="nothing", expected=text))
    findings.extend(
        Finding(f"/parameters{finding.pointer}", finding.message, finding.got, finding.expected)
        for finding in unknown_names(rules, given, (), {"algorithm": COMPUTED_DIRECTLY})
    )
    choices: dict[str, tuple[Any, ...] | Open] = {}
    for name, value in given.items():
        if name in rules and value is not None:
            choices[name] = ANY if value == WORD_FOR_ANY else _candidates(name, value, rules[name], findings)
    return choices


def _candidates(name: str, value: Any, rule: Rule, findings: list[Finding]) -> tuple[Any, ...]:
    """Return the values that a parameter may have."""
    pointer = f"/parameters{pointer_to(name)}"
    if not isinstance(value, list):
        return _checked(name, [value], rule, [pointer], findings)
    if not 1 <= len(value) <= MAX_CANDIDATES:
        expected = f"1 to {MAX_CANDIDATES} values to draw from"
        findings.append(
            Finding.of(pointer, f"{name} has another number of values", got=f"{len(value)}", expected=expected)
        )
        return ()
    return _checked(name, value, rule, [f"{pointer}/{index}" for index in range(len(value))], findings)


def _checked(
    name: str, values: Sequence[Any], rule: Rule, pointers: Sequence[str], findings: list[Finding]
) -> tuple[Any, ...]:
    checked: list[Any] = []
    for value, pointer in zip(values, pointers, strict=True):
        try:
            checked.append(None if value is None else rule.check(name, value))
        except ParameterError as error:
            hint = "" if len(values) == 1 else "; a list is a set of values to draw from"
            findings.append(Finding(pointer, f"{error.message}{hint}", error.got, error.expected))
    return tuple(checked)


def _given_shapes(entry: CatalogueEntry, given: Mapping[str, Any], findings: list[Finding]) -> Shapes:
    operands = {operand.name: operand for operand in entry.operands}
    is_folded = Fold in entry.ops.values()
    shapes: dict[str, list[Range | None] | None] = {}
    for name, axes in given.items():
        pointer = f"/shapes{pointer_to(name)}"
        if name not in operands:
            fault = "shapes has a member that is no operand of forward"
            findings.append(Finding.of(pointer, fault, got="another name", expected=joined(tuple(operands))))
        elif axes is None:
            shapes[name] = None
            if not operands[name].optional:
                fault = f"{name} cannot be left out"
                findings.append(Finding.of(pointer, fault, got="null", expected="a list"))
        elif not isinstance(axes, list) or not ranks_of(name, len(axes), is_folded=is_folded):
            got = f"{len(axes)} axes" if isinstance(axes, list) else describe(axes)
            expected = f"a list of as many axes as {name} has with 1, 2 or 3 spatial axes"
            findings.append(Finding.of(pointer, f"{name} has no such shape", got=got, expected=expected))
        else:
            shapes[name] = [_range(f"{pointer}/{index}", axis, findings) for index, axis in enumerate(axes)]
    return shapes


def _range(pointer: str, value: Any, findings: list[Finding]) -> Range | None:
    if value is None:
        return None
    ends = value if isinstance(value, list) else [value, value]
    try:
        low, high = (SIZE.check("the size", end) for end in ends)
    except (ParameterError, ValueError):
        low, high = 1, 0
    if low > high:
        expected = f"a size from 0 to {MAX_SIZE}, [low, high] of two such sizes, or null"
        findings.append(Finding.of(pointer, "an axis has no such size", got=describe(value), expected=expected))
        return None
    return low, high
