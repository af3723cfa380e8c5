"""The page /docs in headless Chromium, which reaches nothing but the service itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from service.catalogue import LAYERS, OPERATIONS

OUTPUT = Path(__file__).parents[2] / "browser-output"
PUBLIC_NAME = "convpool.test"
"""Resolved to this machine by the browser alone: the page as it is away from localhost."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {PUBLIC_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
MILLISECONDS = 20_000
CALLS = [operation.path for operation in OPERATIONS] + [f"/{layer.name}/shape" for layer in LAYERS]
CONV_OUTPUT = [[[[-3.5], [-3.5], [3.5]], [[-3.5], [-3.5], [6.5]], [[7.5], [8.5], [9.5]]]]


class DocsPage:
    """The page, with all that it asks for and complains about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requested: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(MILLISECONDS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("requestfailed", self._on_failure)
        page.on("requestfinished", self._on_answer)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")

    def _on_failure(self, request: Request) -> None:
        self.complaints.append(f"failed: {request.url}: {request.failure}")

    def _on_answer(self, request: Request) -> None:
        response = request.response()
        if response is None or response.status >= 400:
            self.complaints.append(f"refused: {request.url}")

    def open(self, base_url: str, path: str = "/docs") -> None:
        self.page.goto(base_url + path)
        expect(self.page.locator(".opblock").first).to_be_visible(timeout=MILLISECONDS)

    def listed(self) -> set[tuple[str, str]]:
        """Method and path of every operation on the page."""
        return {
            (block.locator(".opblock-summary-method").inner_text(), self.path_of(block))
            for block in self.page.locator(".opblock").all()
        }

    @staticmethod
    def path_of(block: Locator) -> str:
        return block.locator(".opblock-summary-path").get_attribute("data-path") or ""

    def tried(self, method: str, path: str) -> Locator:
        """An operation that is opened and ready to be tried out."""
        summary = self.page.locator(f'.opblock-summary-path[data-path="{path}"]')
        block = self.page.locator(f".opblock-{method.lower()}").filter(has=summary)
        summary.click()
        button = block.get_by_role("button", name="Try it out")
        execute = block.get_by_role("button", name="Execute")
        expect(button.or_(execute).first).to_be_visible(timeout=MILLISECONDS)
        if not execute.is_visible():
            button.click()
        # Until the examples that the document refers to are fetched, there is no request body to execute with.
        expect(block.locator(".opblock-loading-animation")).to_have_count(0, timeout=MILLISECONDS)
        return block

    @staticmethod
    def answer(block: Locator) -> tuple[int, Any]:
        """Execute a tried operation; the status and the JSON that the page then shows."""
        block.get_by_role("button", name="Execute").click()
        row = block.locator(".live-responses-table tr.response")
        expect(row).to_be_visible(timeout=MILLISECONDS)
        status = row.locator(".response-col_status").inner_text().split()[0]
        shown = row.locator(".response-col_description pre").first.inner_text()
        return int(status), json.loads(shown)

    def fold(self, block: Locator) -> None:
        """Close an operation again."""
        block.locator(".opblock-summary-path").click()
        expect(block.locator(".opblock-body")).to_have_count(0)

    def assert_clean(self, base_url: str) -> None:
        assert self.complaints == []
        assert self.requested
        assert [url for url in self.requested if not url.startswith(f"{base_url}/")] == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("chromium is not on the PATH; on Debian: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest.fixture
def docs(context: BrowserContext) -> Iterator[DocsPage]:
    """A new page of its own."""
    with context.new_page() as page:
        yield DocsPage(page)


@pytest.fixture(scope="module")
def shared(context: BrowserContext, server_url: str) -> Iterator[DocsPage]:
    """One page on which operation after operation is tried out, as a user does."""
    with context.new_page() as page:
        docs = DocsPage(page)
        docs.open(server_url)
        yield docs


def example(server_url: str, path: str) -> Any:
    document = httpx.get(f"{server_url}/openapi.json").json()
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]


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


def test_the_root_leads_to_the_page(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url, "/")
    assert docs.page.url == f"{server_url}/docs"
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
    assert shown == httpx.post(server_url + path, json=example(server_url, path)).json()
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


def choose(block: Locator, media_type: str) -> None:
    block.locator(".opblock-section-request-body select").first.select_option(media_type)


def file_of(server_url: str, name: str) -> Any:
    content = httpx.get(f"{server_url}/examples/conv_forward/{name}").content
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_an_archive_can_be_sent(docs: DocsPage, server_url: str) -> None:
    docs.open(server_url)
    block = docs.tried("POST", "/conv/forward")
    choose(block, "application/x-npz")
    block.locator("input[type=file]").set_input_files(file_of(server_url, "request.npz"))
    block.locator("tr[data-param-name=padding] input").fill("same")
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
