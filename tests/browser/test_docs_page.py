"""The page /docs in headless Chromium, which reaches nothing but the service itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.page import CALLS, CONV_OUTPUT, OUTPUT, PUBLIC_NAME, DocsPage, choose, of_example


@pytest.fixture(scope="module")
def shared(context: BrowserContext, server_url: str) -> Iterator[DocsPage]:
    """One page on which operation after operation is tried out, as a user does."""
    with context.new_page() as page:
        docs = DocsPage(page)
        docs.open(server_url)
        yield docs


def test_the_page_lists_every_operation(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    paths = httpx.get(f"{server_url}/openapi.json").json()["paths"]
    assert docs.listed() == {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {("POST", path) for path in CALLS} | {("GET", "/ops")} <= docs.listed()
    expect(docs.page.locator(".info .title")).to_contain_text("convpool")
    expect(docs.page.locator(".errors-wrapper")).to_have_count(0)
    OUTPUT.mkdir(exist_ok=True)
    docs.page.screenshot(path=OUTPUT / "docs.png", full_page=True)
    docs.assert_clean(server_url)


def test_the_page_asks_nobody_else_under_a_public_name(docs: DocsPage, server_url: str) -> None:
    base_url = server_url.replace("127.0.0.1", PUBLIC_NAME)
    docs.open(base_url)
    status, shown = docs.answer(docs.tried("POST", "/conv/forward"))
    assert (status, shown) == (200, {"output": CONV_OUTPUT})
    docs.assert_clean(base_url)


@pytest.mark.parametrize("path", CALLS)
def test_a_call_can_be_tried_out(shared: DocsPage, server_url: str, path: str) -> None:
    block = shared.tried("POST", path)
    status, shown = shared.answer(block)
    assert status == 200
    assert shown == of_example(server_url, path)
    if path == "/conv/forward":
        assert shown == {"output": CONV_OUTPUT}
        OUTPUT.mkdir(exist_ok=True)
        block.screenshot(path=OUTPUT / "conv-forward.png")
    shared.fold(block)
    shared.assert_clean(server_url)


def test_a_call_can_be_tried_out_over_a_slow_network(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    session = docs.page.context.new_cdp_session(docs.page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 300, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    for path in CALLS:
        block = docs.tried("POST", path)
        status, _ = docs.answer(block)
        assert status == 200
        docs.fold(block)
    docs.assert_clean(server_url)


@pytest.mark.parametrize("path", ["/ops", "/health/live", "/health/ready"])
def test_a_question_can_be_tried_out(shared: DocsPage, server_url: str, path: str) -> None:
    block = shared.tried("GET", path)
    status, shown = shared.answer(block)
    assert status == 200
    assert shown == httpx.get(server_url + path).json()
    shared.fold(block)
    shared.assert_clean(server_url)


def test_a_description_is_rendered(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    description = docs.tried("POST", "/conv/forward").locator(".opblock-description")
    expect(description.locator("li", has_text="weight").first).to_be_visible()
    commands = description.locator("pre").all_inner_texts()
    assert len(commands) >= 3
    assert all(command.lstrip().startswith("curl ") for command in commands)
    assert "```" not in description.inner_text()


def file_of(server_url: str, name: str) -> Any:
    content = httpx.get(f"{server_url}/examples/conv_forward/{name}").content
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_an_archive_can_be_sent(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    block = docs.tried("POST", "/conv/forward")
    choose(block, "application/x-npz")
    block.locator("input[type=file]").set_input_files(file_of(server_url, "request.npz"))
    status, shown = docs.answer(block)
    assert (status, shown) == (200, {"output": CONV_OUTPUT})
    docs.assert_clean(server_url)


def test_a_form_can_be_sent_as_it_is_shown(docs: DocsPage, server_url: str) -> None:
    """With the required operands chosen and nothing else touched; a browser then sends the optional file empty."""
    docs.open(server_url)
    block = docs.tried("POST", "/conv/forward")
    choose(block, "multipart/form-data")
    fields = block.locator(".opblock-section-request-body input[type=file]")
    expect(fields).to_have_count(3)
    for position, name in enumerate(("input.npy", "weight.npy")):
        fields.nth(position).set_input_files(file_of(server_url, name))
    status, shown = docs.answer(block)
    assert status == 200, shown
    assert set(shown) == {"output"}
    docs.assert_clean(server_url)


@pytest.mark.parametrize("path", ["/conv/forward", "/pool/backward", "/pool/shape"])
def test_opening_an_operation_asks_for_nothing_and_makes_few_elements(
    docs: DocsPage, server_url: str, path: str
) -> None:
    """What makes opening slow: fetches, highlighted examples, and how Swagger UI resolves OpenAPI 3.1."""
    docs.open(server_url)
    assert httpx.get(f"{server_url}/openapi.json").json()["openapi"].startswith("3.0.")
    asked = [url for url in docs.requested if not url.endswith("/favicon.png")]
    block = docs.tried("POST", path)
    assert [url for url in docs.requested if not url.endswith("/favicon.png")] == asked
    assert block.locator("*").count() < 600
    expect(block.locator("pre span")).to_have_count(0)
