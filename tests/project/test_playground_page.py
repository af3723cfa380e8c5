"""docs/playground.md: its links into the playground are those of the examples, and show the numbers printed there."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from tests.pages import PRINTED_SERVER, PROJECT, Page
from tests.playground import PLAYGROUND, array, computed, opened

PAGE = Page("docs/playground.md")
LINK = re.compile(rf"\]\({PRINTED_SERVER}/(#[^)]*)\)|^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
HIDEABLE = {"answers", "formula", "parameters", "examples", "header", "tabs"}


def links() -> list[tuple[str, str]]:
    """The fragments, and the numbers that follow each, if any do."""
    found: list[tuple[str, str]] = []
    for fragment, numbers in LINK.findall(PAGE.text):
        if fragment:
            found.append((fragment, ""))
        else:
            found[-1] = (found[-1][0], numbers)
    return found


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_every_link_shows_the_numbers_that_follow_it(server_url: str) -> None:
    pairs = links()
    assert len(pairs) >= 12
    assert sum(bool(numbers) for _, numbers in pairs) == 10
    pictures = opened([fragment for fragment, _ in pairs], server_url)
    for (_, numbers), picture in zip(pairs, pictures, strict=True):
        view = picture["state"]["view"]
        name = view if view.startswith("grad_") else "output"
        expected = computed(picture)[name]
        np.testing.assert_allclose(array(picture["results"][name]), expected, rtol=1e-12, atol=1e-12)
        if numbers:
            printed = [[int(number) for number in line.split()] for line in numbers.splitlines()]
            grid = expected[..., 0, 0] if name == "grad_weight" else expected[0, ..., 0]
            np.testing.assert_array_equal(printed, grid)


def test_the_links_are_those_of_the_examples() -> None:
    examples = {example["fragment"] for example in json.loads((PLAYGROUND / "examples.json").read_text("utf-8"))}
    known = examples | {fragment.replace("=reflect", "=circular") for fragment in examples}
    for fragment, _ in links():
        assert re.sub(r"&hide=\w+", "", fragment) in known


def test_what_can_be_hidden_is_what_the_page_hides() -> None:
    (row,) = [line for line in PAGE.text.splitlines() if line.startswith("| `hide=")]
    named = set(re.findall(r"`(\w+)`", row))
    view = (PLAYGROUND / "view.js").read_text("utf-8")
    assert named & HIDEABLE == HIDEABLE
    assert set(re.findall(r'(?:isHidden|hide\.includes)\("(\w+)"\)', view)) == HIDEABLE
    assert named - HIDEABLE <= set(re.findall(r'\["(\w+)", "', view))


def test_links_within_the_project_lead_somewhere() -> None:
    assert list(PAGE.broken_links()) == []
    assert "docs/playground.md" in (PROJECT / "README.md").read_text("utf-8")
