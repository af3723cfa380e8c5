"""How ``convpool check`` writes what it has found: as text, as JSON, or as JUnit's XML."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from ..reports import Line, Report
from .arguments import show

__all__ = ["FORMATS", "Checked", "CheckedCase"]

NOTHING_CLAIMED, UNEXPLAINED = "nothing is claimed", "no explanation"
MAX_SHOWN = 10
"""Cases that differ of which a text says all."""


class CheckedCase(NamedTuple):
    """A case, and what the service says of the claim; None if nothing was claimed."""

    name: str
    purpose: str
    report: Report | None

    @property
    def agrees(self) -> bool:
        """Whether it was checked, and is right."""
        return self.report is not None and self.report.agrees

    @property
    def document(self) -> Mapping[str, Any]:
        """The service's report."""
        return self.report.document if self.report else {"agrees": False, "tensors": {}, "explanations": []}

    def lines(self) -> Iterator[Line]:
        """Yield what a person reads of it."""
        return self.report.lines() if self.report else iter([Line(NOTHING_CLAIMED, "red")])


class Checked(NamedTuple):
    """What was checked: cases from a file, or one layer."""

    layer: str
    cases: Sequence[CheckedCase]
    of_cases: bool = True

    @property
    def agree(self) -> bool:
        """Whether all do."""
        return all(case.agrees for case in self.cases)


def _text(checked: Checked) -> None:
    if not checked.of_cases:
        show(checked.cases[0].lines())
        return
    wrong = [case for case in checked.cases if not case.agrees]
    for case in wrong[:MAX_SHOWN]:
        show([Line(f"{case.name}: {case.purpose}" if case.purpose else case.name, "bold")])
        show(case.lines(), indent="  ")
    if len(wrong) > MAX_SHOWN:
        show([Line(f"and {len(wrong) - MAX_SHOWN} cases more, which --format json has")])
    for first, cases in _alike(wrong):
        like = first.name if cases == 1 else f"{cases} cases such as {first.name}"
        show([Line(f"{like}: {_explanation(first)[1]}", "yellow")])
    style = "bold green" if checked.agree else "bold red"
    show([Line(f"{checked.layer}: {len(checked.cases) - len(wrong)} of {len(checked.cases)} cases agree", style)])


def _alike(cases: Sequence[CheckedCase]) -> list[tuple[CheckedCase, int]]:
    """Return the first case of each mistake, and how many have it; the most frequent mistake first."""
    counts = Counter(_explanation(case)[0] for case in cases)
    first = {_explanation(case)[0]: case for case in reversed(cases)}
    return [(first[mistake], number) for mistake, number in counts.most_common()]


def _explanation(case: CheckedCase) -> tuple[str, str]:
    """Return the name of what explains a case best, and a sentence."""
    if case.report is None:
        return NOTHING_CLAIMED, NOTHING_CLAIMED
    fitting = [(explanation.id, explanation.sentence) for explanation in case.report.explanations if explanation.agrees]
    return fitting[0] if fitting else (UNEXPLAINED, UNEXPLAINED)


def _json(checked: Checked) -> None:
    cases = {case.name: case.document for case in checked.cases}
    many = {"layer": checked.layer, "agrees": checked.agree, "cases": cases}
    sys.stdout.write(f"{json.dumps(many if checked.of_cases else checked.cases[0].document)}\n")


def _junit(checked: Checked) -> None:
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", name=f"convpool check {checked.layer}")
    for element in (root, suite):
        failures = sum(not case.agrees for case in checked.cases)
        element.attrib.update(tests=str(len(checked.cases)), failures=str(failures), errors="0")
    for case in checked.cases:
        element = ET.SubElement(suite, "testcase", classname=f"convpool.{checked.layer}", name=case.name)
        if not case.agrees:
            lines = [line.text for line in case.lines()]
            failure = ET.SubElement(element, "failure", message=lines[0])
            failure.text = "\n".join(filter(None, [case.purpose, *lines]))
    sys.stdout.write(f"{ET.tostring(root, 'unicode', xml_declaration=True)}\n")


FORMATS: dict[str, Callable[[Checked], None]] = {"text": _text, "json": _json, "junit": _junit}
"""Each writes to the standard output."""
