"""docs/diagnosis.md: its call works as printed, it has every mistake that is tried, and rules lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

from service.diagnosis.hypotheses import COMPUTATIONS, RESULTS, Hypothesis, ResultsHypothesis
from tests.pages import PRINTED_SERVER, PROJECT, Page
from tests.project.test_readme import run

HYPOTHESES: list[Hypothesis | ResultsHypothesis] = [*COMPUTATIONS, *RESULTS]
DIAGNOSIS = Page("docs/diagnosis.md")
PAGE = DIAGNOSIS.text


def test_every_mistake_is_described() -> None:
    described = set(re.findall(r"^\| `([a-z_0-9]+)` \|", PAGE, re.MULTILINE)) - {"agrees", "tolerance", "where"}
    tried = {hypothesis.id for hypothesis in HYPOTHESES}
    tables = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.split("## Mistakes", 1)[1], re.MULTILINE))
    assert tables == tried
    assert described >= tried


def test_rules_are_sections_of_a_page() -> None:
    for rule in {hypothesis.rule for hypothesis in HYPOTHESES}:
        page, _, section = rule.partition("#")
        headings = re.findall(r"^#+ (.*)$", (PROJECT / page).read_text(), re.MULTILINE)
        assert section in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_call_works_as_printed(server_url: str, tmp_path: Path) -> None:
    (block,) = DIAGNOSIS.of("bash")
    report = json.loads(run(["bash", "-euc", block.replace(PRINTED_SERVER, server_url)], tmp_path))
    sentence = re.findall(r'first of its `explanations` is "(.*?)"', PAGE, re.DOTALL)[0].replace("\n", " ")
    assert report["explanations"][0]["sentence"] == sentence


def test_links_lead_somewhere() -> None:
    assert list(DIAGNOSIS.broken_links()) == []
