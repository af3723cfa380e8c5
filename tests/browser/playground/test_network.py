"""What the playground asks for: little, of the service alone, under a strict policy."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.page import PUBLIC_NAME
from tests.browser.playground.behaviour import conv_of
from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.playground import Playground

MOST_REQUESTS = 15
MOST_BYTES = 120_000


def test_a_cold_page_asks_for_little(browser: Browser, server_url: str) -> None:
    """Bytes on the wire with their headers, as the browser counts them, until the picture has its links."""
    with browser.new_context() as context, context.new_page() as page:
        session, requests, received = context.new_cdp_session(page), list[str](), list[float]()
        session.send("Network.enable")
        session.on("Network.requestWillBeSent", lambda event: requests.append(event["request"]["url"]))
        session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        playground = Playground(page, server_url)
        page.goto(server_url)
        playground.await_picture()
        page.wait_for_load_state("networkidle")
        asked = [url for url in requests if not url.startswith("data:")]
        assert len(asked) <= MOST_REQUESTS, asked
        assert 20_000 < sum(received) <= MOST_BYTES, sum(received)
        assert playground.most_in_flight() == 1
        playground.assert_sound()


def test_the_policy_is_strict(server_url: str) -> None:
    response = httpx.get(server_url)
    directives = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert "<script>" not in response.text
    assert " style=" not in response.text


@pytest.mark.parametrize("tab", ["", "code", "table", "overlap", "learn", "image", "errors"])
def test_nothing_foreign_is_asked_for_and_no_policy_violated(
    context: BrowserContext, server_url: str, tab: str
) -> None:
    """Away from localhost too, where a browser is stricter."""
    with context.new_page() as page:
        playground = Playground(page, server_url.replace("127.0.0.1", PUBLIC_NAME))
        playground.open(fragment_of(conv_of(2, 1), **({"tab": tab} if tab else {})))
        playground.load_formulas()
        if tab:
            expect(page.locator("#panel")).not_to_be_empty()
        page.wait_for_load_state("networkidle")
        playground.assert_sound()
