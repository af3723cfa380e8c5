"""The panels on the page itself: opened, shared in a link, left with the keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.page import MILLISECONDS

TIES = "#v1&op=pool&view=compare&kernel_size=2&mode=max&stride=1&by=ties:grad_input"


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    complaints: list[str] = []
    with context.new_page() as page:
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
    assert complaints == []


def test_a_link_says_what_is_compared(page: Page, server_url: str) -> None:
    page.goto(f"{server_url}/{TIES}")
    columns = page.locator(".compare-column")
    expect(columns).to_have_count(4)
    expect(page.locator("[name=of]")).to_have_value("grad_input")
    page.locator(".compare [name=by]").select_option("ceil_mode")
    expect(columns).to_have_count(2)
    expect(page).to_have_url(re.compile("by=ceil_mode(:|%3A)grad_input"))


def test_compare_and_a_tab_are_open_at_the_same_time(page: Page, server_url: str) -> None:
    """Each is asked for once, and both stay."""
    page.goto(f"{server_url}/#v1&op=conv&view=compare&tab=overlap&padding=1")
    expect(page.locator(".compare-column")).to_have_count(4)
    expect(page.locator(".overlap-map")).to_have_count(2)
    drawn = page.evaluate("""async () => {
      let count = 0;
      const observer = new MutationObserver(() => count++);
      observer.observe(document.getElementById("page"), { subtree: true, childList: true });
      for (let turn = 0; turn < 20; turn++) await new Promise((go) => setTimeout(go, 10));
      observer.disconnect();
      return count;
    }""")
    assert drawn == 0
    page.locator("[data-tab=overlap]").click()
    expect(page.locator(".overlap-map")).to_have_count(0)
    expect(page.locator(".compare-column")).to_have_count(4)


@pytest.mark.parametrize("tab", ["main", "constructor"])
def test_a_tab_that_is_none_of_the_pages_opens_nothing(page: Page, server_url: str, tab: str) -> None:
    page.goto(f"{server_url}/#v1&op=conv&tab={tab}&padding=1")
    expect(page.locator('#picture [data-tensor="output"]')).to_be_visible()
    expect(page.locator("#panel")).to_have_text("")
    page.locator("[data-tab=overlap]").click()
    expect(page.locator(".overlap-map")).to_have_count(2)


def test_panels_follow_the_parameters(page: Page, server_url: str) -> None:
    page.goto(f"{server_url}/#v1&op=conv_transpose&tab=overlap&stride=2")
    expect(page.locator('[data-map="output"] .shape')).to_have_text("1 × 4 × 4 × 1")  # noqa: RUF001
    page.locator("#parameters [name=stride]").fill("1")
    expect(page.locator('[data-map="output"] .shape')).to_have_text("1 × 3 × 3 × 1")  # noqa: RUF001


def test_a_panel_that_is_closed_is_stopped(page: Page, server_url: str) -> None:
    page.goto(f"{server_url}/#v1&op=conv&tab=learn")
    page.locator("[name=rate]").press("Home")  # it would go on for long
    page.locator('[data-action="run"]').click()
    expect(page.locator(".learn-now")).to_contain_text(re.compile("Step [1-9]"))
    page.locator("[data-tab=table]").click()
    expect(page.locator('[data-table="input"]')).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    ask = "fetch('ops').then((answer) => answer.json())"
    page.evaluate(ask)
    asked.clear()  # of what was asked before it closed, the test is told late
    page.evaluate(ask)
    page.evaluate(ask)
    assert [url for url in asked if not url.endswith("/ops")] == []


def test_a_part_that_does_not_come_is_said_and_asked_for_again(page: Page, server_url: str) -> None:
    def lost(route: Route) -> None:
        route.abort()

    page.route("**/playground/overlap.js", lost)
    page.goto(f"{server_url}/#v1&op=conv")
    tab = page.locator("[data-tab=overlap]")
    tab.click()
    expect(page.locator("#panel")).to_contain_text("did not send this part")
    page.unroute("**/playground/overlap.js")
    tab.click()
    tab.click()
    expect(page.locator(".overlap-map")).to_have_count(2)


def test_arrow_keys_move_in_the_grids_of_a_panel(page: Page, server_url: str) -> None:
    page.goto(f"{server_url}/#v1&op=conv&tab=overlap&padding=1")
    cells = page.locator('[data-map="grad_input"] [role=gridcell]')
    cells.first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator('[data-map="grad_input"] [data-index="5"]')).to_be_focused()
    page.keyboard.press("F2")  # nothing to edit here
    page.keyboard.press("Enter")
    expect(page.locator(".editor")).to_have_count(0)
