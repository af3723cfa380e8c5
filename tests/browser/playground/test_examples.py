"""The examples on the page: the first is what it opens with, and none of them is a problem."""

from __future__ import annotations

import json

from playwright.sync_api import BrowserContext, Page

from tests.playground import PLAYGROUND

EXAMPLES: list[dict[str, str]] = json.loads((PLAYGROUND / "examples.json").read_text("utf-8"))


def open_page(page: Page, url: str) -> None:
    page.goto("about:blank")  # another fragment alone would not load the page again
    page.goto(url)
    page.wait_for_selector("html[data-ready]")


def numbers(page: Page) -> dict[str, list[str]]:
    """The numbers of each grid by the tensor's name."""
    shown: dict[str, list[str]] = {}
    for grid in page.locator("table[role=grid]").all():
        cells = grid.locator("[role=gridcell][data-value]").all()
        shown.setdefault(str(grid.get_attribute("data-tensor")), []).extend(
            str(cell.get_attribute("data-value")) for cell in cells
        )
    return shown


def test_the_page_opens_with_the_first(context: BrowserContext, server_url: str) -> None:
    with context.new_page() as page:
        open_page(page, f"{server_url}/")
        first = numbers(page)
        assert set(first) == {"input", "weight", "output"}
        open_page(page, f"{server_url}/{EXAMPLES[0]['fragment']}")
        assert numbers(page) == first


def test_the_menu_opens_every_one_without_a_problem(context: BrowserContext, server_url: str) -> None:
    with context.new_page() as page:
        exceptions: list[str] = []
        page.on("pageerror", lambda error: exceptions.append(str(error)))
        open_page(page, f"{server_url}/")
        for number, example in enumerate(EXAMPLES):
            drawn = int(page.locator("html").get_attribute("data-ready") or 0)
            page.locator("#examples summary").click()
            link = page.locator("#examples a").nth(number)
            assert link.locator("b").inner_text() == example["title"]
            link.click()
            page.wait_for_selector(f"html:not([data-ready='{drawn}'])")
            problems = page.locator("#problem, .problem, #unreachable")
            assert [text for text in problems.all_inner_texts() if text.strip()] == [], example["title"]
            assert page.url == f"{server_url}/{example['fragment']}"
        assert exceptions == []
