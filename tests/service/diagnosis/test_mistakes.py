"""The diagnosis names the mistakes that independent loops make, and finds nothing in correct results.

The loops and the tables of their mistakes are in tests/mistakes; none of them calls the code under test.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest

from service.diagnosis import diagnose
from service.operations.catalogue import CATALOGUE
from tests.mistakes.correct import TYPES, correct_case
from tests.mistakes.mistake import Case, Mistake
from tests.mistakes.table import MISTAKES
from tests.mistakes.table_precision import NARROW_SUMS, NarrowSums

ENTRIES = {entry.name: entry for entry in CATALOGUE}
LEAST, FEW = 20, 8
"""Layers that each id is tried on, at least: all of them by ``make test-exhaustive``, some by ``make test``."""

Entry = Mistake | NarrowSums
TABLE: tuple[Entry, ...] = (*MISTAKES, *NARROW_SUMS)


def by_id() -> dict[str, list[Entry]]:
    """The entries of the tables by the id that names them best."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in TABLE:
        entries[entry.expected[0]].append(entry)
    return dict(entries)


BY_ID = by_id()


def checked(case: Case) -> dict[str, Any]:
    answer: dict[str, Any] = diagnose(ENTRIES[case.layer], case.parameters, case.tensors)
    return answer


def fault(entry: Entry, seed: int) -> str | None:
    """What is wrong with the diagnosis of one drawn layer; None if the first explanation is right."""
    case = entry.case(seed)
    answer = checked(case)
    assert not answer["agrees"], f"{entry.name}, seed {seed}: not noticed in {case}"
    first = next(iter(answer["explanations"]), None)
    if first is None:
        return f"{entry.name}, seed {seed}: no explanation of {case}"
    if first["id"] in entry.expected and first["agrees"] and set(entry.spoils) <= set(first["tensors"]):
        return None
    said = [(one["id"], one["agrees"], one["tensors"]) for one in answer["explanations"][:3]]
    return f"{entry.name}, seed {seed}: {said} instead of {entry.expected} for {case}"


def assert_named(cases: list[tuple[Entry, int]], allowed: float) -> None:
    faults = [found for entry, seed in cases if (found := fault(entry, seed))]
    assert len(faults) <= allowed, f"{len(faults)} of {len(cases)}:\n" + "\n".join(faults)


def cases_of(explanation: str, least: int) -> list[tuple[Entry, int]]:
    """At least so many layers in which the mistake is made, in each of its ways as often."""
    entries = BY_ID[explanation]
    return [(entry, seed) for seed in range(math.ceil(least / len(entries))) for entry in entries]


@pytest.mark.parametrize("explanation", BY_ID)
def test_the_first_explanation_is_the_mistake_that_was_made(explanation: str) -> None:
    assert_named(cases_of(explanation, FEW)[:FEW], allowed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("explanation", BY_ID)
def test_the_first_explanation_is_the_mistake_in_many_layers(explanation: str) -> None:
    cases = cases_of(explanation, 2 * LEAST)
    assert len(cases) >= LEAST
    assert_named(cases, allowed=0.05 * len(cases))


def accusation(seed: int, stored: str) -> str | None:
    """What is found in a correct result; None if nothing is."""
    case = correct_case(seed, stored)
    answer = checked(case)
    tensors = {name: one for name, one in answer["tensors"].items() if not one["agrees"]}
    if answer["agrees"] and not answer["explanations"] and not tensors:
        return None
    return f"{stored}, seed {seed}: {tensors or answer['explanations']} in {case}"


@pytest.mark.parametrize("stored", TYPES)
def test_correct_results_are_not_accused(stored: str) -> None:
    assert [found for seed in range(60) if (found := accusation(seed, stored))] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("stored", TYPES)
def test_many_correct_results_are_not_accused(stored: str) -> None:
    assert [found for seed in range(500) if (found := accusation(seed, stored))] == []
