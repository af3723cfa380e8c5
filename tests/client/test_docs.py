"""docs/client.md: its commands and programs run one after the other in one folder, and print what is printed there."""

from __future__ import annotations

from pathlib import Path

from tests.pages import Page

PAGE = Page("docs/client.md")


def test_everything_on_the_page_works_as_printed(server_url: str, tmp_path: Path) -> None:
    checked = 0
    for expected, printed in PAGE.outputs(tmp_path, server_url):
        assert printed == expected
        checked += 1
    assert checked == 7


def test_links_lead_somewhere() -> None:
    assert list(PAGE.broken_links()) == []
