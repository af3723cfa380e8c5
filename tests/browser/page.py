"""Pages as the tests use them: what they ask for, and /docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

from service.operations.catalogue import CATALOGUE, OPERATIONS

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
CALLS = [operation.path for operation in OPERATIONS] + [f"/{layer.name}/shape" for layer in CATALOGUE]
CONV_OUTPUT = [[[[-3.5], [-3.5], [3.5]], [[-3.5], [-3.5], [6.5]], [[7.5], [8.5], [9.5]]]]


class RecordedPage:
    """A page, with all that it asks for and complains about."""

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

    def assert_clean(self, base_url: str) -> None:
        """Nothing was complained about, and nobody but the service was asked."""
        assert self.complaints == []
        assert self.requested
        assert [url for url in self.requested if not url.startswith(f"{base_url}/")] == []


class DocsPage(RecordedPage):
    """The page /docs."""

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
        expect(execute).to_be_visible(timeout=MILLISECONDS)
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


def of_example(server_url: str, path: str) -> Any:
    """The response to the example as one JSON body, which does not come from the page."""
    if path.endswith("/shape"):
        document = httpx.get(f"{server_url}/openapi.json").json()
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    else:
        body = httpx.get(f"{server_url}/examples/{path[1:].replace('/', '_')}/request.json").json()
    return httpx.post(server_url + path, json=body).json()


def choose(block: Locator, media_type: str) -> None:
    block.locator(".opblock-section-request-body select").first.select_option(media_type)
