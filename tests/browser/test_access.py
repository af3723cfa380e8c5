"""The page /docs of a server that requires API keys, and pages of other origins."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.page import CONV_OUTPUT, DocsPage
from tests.clients import free_port, running_server

KEY = "a-key-of-the-tests-0123456789"
BODY = json.dumps({"mode": "max", "kernel_size": 2, "input": [[[[1], [2]], [[3], [4]]]]})
CALL = """async ([url, key, body]) => {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Accept": "application/json", "Authorization": `Bearer ${key}` },
    body,
  }).catch((error) => error.name);
  if (typeof answer === "string") return [answer];
  return [answer.status, answer.headers.get("Convpool-Parameters") !== null, await answer.json()];
}"""


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page of another origin</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def other_origin() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def guarded_url(tmp_path_factory: pytest.TempPathFactory, other_origin: str) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY)
    with running_server("--api-keys-file", str(path), "--cors-origins", other_origin) as (base_url, _):
        yield base_url


def test_a_key_is_entered_on_the_page_and_sent(docs: DocsPage, guarded_url: str) -> None:
    docs.open(guarded_url)
    block = docs.tried("POST", "/conv/forward")
    status, shown = docs.answer(block)
    assert (status, shown["title"]) == (401, "Unauthorized")
    docs.complaints.clear()  # of a status that is an error
    docs.page.locator(".auth-wrapper .authorize").first.click()
    dialog = docs.page.locator(".dialog-ux")
    dialog.locator("input").first.fill(KEY)
    dialog.locator("button.authorize").click()
    dialog.locator("button.btn-done").click()
    block.get_by_role("button", name="Clear").click()
    status, shown = docs.answer(block)
    assert (status, shown) == (200, {"output": CONV_OUTPUT})
    docs.assert_clean(guarded_url)


@pytest.mark.parametrize("path", ["/pool/forward", "/ops"])
def test_a_page_of_another_origin_that_is_allowed_calls_the_service(
    docs: DocsPage, guarded_url: str, other_origin: str, path: str
) -> None:
    docs.page.goto(other_origin)
    expected = httpx.post(
        guarded_url + path, content=BODY, headers={"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    )
    *answer, content = docs.page.evaluate(CALL, [guarded_url + path, KEY, BODY])
    assert answer == [expected.status_code, path == "/pool/forward"]
    for each in (content, wanted := expected.json()):
        each.pop("request_id", None)  # each request has its own
    assert content == wanted
    status, _, problem = docs.page.evaluate(CALL, [guarded_url + path, "wrong", BODY])
    assert (status, problem["title"]) == (401, "Unauthorized")


def test_a_page_of_another_origin_is_not_let_in_by_default(docs: DocsPage, server_url: str, other_origin: str) -> None:
    docs.page.goto(other_origin)
    assert docs.page.evaluate(CALL, [f"{server_url}/pool/forward", KEY, BODY]) == ["TypeError"]


def test_what_is_brought_into_the_page_does_not_run(context: BrowserContext, server_url: str) -> None:
    """A script, a script of another origin, a frame; and the page is shown in no frame."""
    page = context.new_page()
    page.goto(f"{server_url}/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    for element, attribute, value in (
        ("script", "textContent", "window.ran = true"),
        ("script", "src", "data:text/javascript,window.ran=true"),
        ("iframe", "src", f"{server_url}/docs"),
    ):
        with page.expect_event("console", lambda message: "Content Security Policy" in message.text):
            page.evaluate(
                "([name, attribute, value]) => document.body.append("
                "Object.assign(document.createElement(name), { [attribute]: value }))",
                [element, attribute, value],
            )
    assert page.evaluate("window.ran") is None
    page.close()
