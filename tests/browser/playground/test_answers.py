"""Answers that come late, not at all, or as problem documents."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.playground.behaviour import (
    check_absence_is_said_and_survived,
    check_no_stale_answer_is_drawn,
    check_problem,
    conv_of,
)
from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.playground import Playground
from tests.clients import running_server


@pytest.mark.parametrize("seed", range(4))
def test_no_stale_answer_is_drawn(shared: Playground, seed: int) -> None:
    check_no_stale_answer_is_drawn(shared, seed)
    shared.complaints.clear()  # requests that the page gave up


def test_the_service_goes_away_and_comes_back(shared: Playground) -> None:
    check_absence_is_said_and_survived(shared)


def test_a_server_is_killed_and_started_again(context: BrowserContext) -> None:
    """A process of its own, and with it all connections that the browser has kept open."""
    before, after = conv_of(1), conv_of(2, 1)
    with running_server() as (url, process), context.new_page() as page:
        playground = Playground(page, url)
        playground.open(fragment_of(before, cell="output:4"))
        playground.await_picture()
        process.kill()
        process.wait()
        page.evaluate("(fragment) => { location.hash = fragment; }", fragment_of(after))
        expect(page.locator("#unreachable")).to_contain_text("The service does not answer")
        expect(page.locator("#picture")).to_have_class("stale")
        assert list(playground.values()["output"].values()) == before.computed()["output"].reshape(-1).tolist()
        port = urlsplit(url).port
        with running_server(port=port):
            page.set_default_timeout(60_000)  # it tries again every 8 seconds
            playground.await_picture()
            expect(page.locator("#unreachable")).to_be_hidden()
            assert list(playground.values()["output"].values()) == after.computed()["output"].reshape(-1).tolist()
            playground.complaints.clear()  # the browser's own, of the requests that failed
            playground.go(fragment_of(before))
            assert list(playground.values()["output"].values()) == before.computed()["output"].reshape(-1).tolist()
            playground.assert_sound()


def test_the_page_opens_when_the_service_comes(playground: Playground) -> None:
    page = playground.page
    page.route("**/ops", lambda route: route.abort("connectionrefused"))
    page.goto(playground.server_url)
    expect(page.locator("#unreachable")).to_be_visible()
    page.unroute("**/ops")
    playground.await_picture()
    expect(page.locator("#unreachable")).to_be_hidden()


@pytest.mark.parametrize("answer", [{"status": 502, "body": "<h1>Bad gateway</h1>", "content_type": "text/html"}])
def test_an_answer_of_a_proxy_is_no_answer(shared: Playground, answer: Any) -> None:
    page = shared.page
    page.route("**/conv/*", lambda route: route.fulfill(**answer))
    page.evaluate("location.hash = '#v1&op=conv&stride=2'")
    expect(page.locator("#unreachable")).to_be_visible()
    page.unroute("**/conv/*")
    shared.await_picture()
    expect(page.locator("#unreachable")).to_be_hidden()
    shared.complaints.clear()


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"stride": 0}, "/stride"),
        ({"padding": "symmetric"}, "/padding"),
        ({"padding": [1, 1, 1]}, "/padding"),
        ({"dilation": 9}, ""),
        ({"groups": 2}, ""),
        ({"stride": 0, "padding": -1}, "/padding"),
        ({"padding": 5, "padding_mode": "reflect"}, "/input"),
        ({"spatial_axes": 3}, ""),
    ],
)
def test_a_problem_stands_at_its_control(shared: Playground, parameters: dict[str, Any], pointer: str) -> None:
    pointers = check_problem(shared, conv_of(**parameters))
    assert not pointer or pointer in pointers
