"""The project's pages on the service: what is on them, where their links lead, and the rules that answers refer to."""

from __future__ import annotations

import asyncio
import html.parser
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from service.diagnosis.hypotheses import COMPUTATIONS, RESULTS
from service.documentation import pages
from service.documentation.pages import DocumentationPage
from tests.clients import ApplicationClient
from tests.pages import PROJECT, Page
from tests.service.test_access import answer

NAMES = sorted(path.name for path in (PROJECT / "docs").glob("*.md"))
each_page = pytest.mark.parametrize("name", NAMES)


class Parsed(html.parser.HTMLParser):
    """The ids, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.cells = 0
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag not in ("script", "style", "form", "iframe", "object")
        assert "style" not in given
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "a":
            self.links.append(given["href"] or "")
        elif tag in ("link", "img"):
            self.loaded.append(given.get("href") or given.get("src") or "")
        self.cells += tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data


def page(client: ApplicationClient, name: str) -> Parsed:
    response = client.get(f"/docs/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Parsed(response.text)


def test_there_are_pages() -> None:
    assert {"where-frameworks-disagree.md", "diagnosis.md", "golden-cases.md"} <= set(NAMES)


@each_page
def test_a_page_has_everything_that_is_written(client: ApplicationClient, name: str) -> None:
    parsed, source = page(client, name), Page(f"docs/{name}")
    words = re.sub(r"\s+", " ", parsed.text)
    for block in source.blocks:
        assert re.sub(r"\s+", " ", block.content).strip() in words
    outside = re.sub(r"^```.*?^```", "", source.text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    assert headings
    for heading in headings:
        assert heading.replace("`", "") in parsed.text
    rows = re.findall(r"^\|.*\|$", outside, re.MULTILINE)
    rules = [row for row in rows if set(row) <= set("|-: ")]
    assert parsed.cells >= 2 * (len(rows) - len(rules))


@each_page
def test_links_lead_to_what_the_service_has(client: ApplicationClient, name: str) -> None:
    parsed = page(client, name)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {"../", "../docs", *NAMES} <= set(parsed.links)
    for link in parsed.links:
        if link.startswith("https://"):
            continue
        assert not link.startswith(("/", "http:")), link
        target, _, heading = link.partition("#")
        path = f"/{target.removeprefix('../')}" if target.startswith("../") else f"/docs/{target or name}"
        assert client.get(path).status_code == 200, link
        assert not heading or path == "/" or heading in page(client, path.removeprefix("/docs/")).ids, link
    for address in parsed.loaded:
        assert client.get(f"/docs/{address}".replace("/docs/../", "/")).status_code == 200, address


def test_rules_that_answers_refer_to_are_there(client: ApplicationClient) -> None:
    rules = {each.rule for each in COMPUTATIONS} | {each.rule for each in RESULTS} | {"docs/diagnosis.md#tolerance"}
    assert len(rules) > 5
    for rule in rules:
        path, _, heading = rule.partition("#")
        assert heading in page(client, path.removeprefix("docs/")).ids, rule


def test_a_page_may_run_nothing_and_load_nothing_from_elsewhere(client: ApplicationClient) -> None:
    response = client.get("/docs/diagnosis.md")
    assert set(response.headers["content-security-policy"].split("; ")) == {
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    }
    assert client.get("/docs/pages.css").headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["/docs/nothing.md", "/docs/diagnosis", "/docs/decisions/0013-what-was-removed.md", "/docs/../README.md"]
)
def test_nothing_else_is_served(client: ApplicationClient, path: str) -> None:
    response = client.call(lambda app: answer(app, {"method": "GET", "path": path, "raw_path": path.encode()}))
    assert (response.status, response.headers[b"content-type"]) == (404, b"application/problem+json")


# -------------------------------------------------------------------------------------------------- what may be written


def rendered(tmp_path: Path, text: str) -> str:
    path = tmp_path / "a.md"
    path.write_text(text)
    document = DocumentationPage(path, {"a.md": "<A>", "b.md": "B"})
    response = asyncio.run(document.endpoint(Request({"type": "http", "headers": []})))
    return re.sub(r".*<main>|</main>.*", "", bytes(response.body).decode(), flags=re.DOTALL).strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[x](b.md#y)", '<p><a href="b.md#y">x</a></p>'),
        ("[x](#y)", '<p><a href="#y">x</a></p>'),
        ("[x](https://a.example/)", '<p><a href="https://a.example/">x</a></p>'),
        ("[`x` y](../README.md#z) [z](#y)", '<p><code>x</code> y <a href="#y">z</a></p>'),
        ("[x](decisions/0001.md)", "<p>x</p>"),
        ("[x](c.md)", "<p>x</p>"),
        ("[x](http://127.0.0.1:8000/#v1&op=conv)", '<p><a href="../#v1&amp;op=conv">x</a></p>'),
        ("![p](p.png)", '<p><img src="p.png" alt="p" /></p>'),
        ("# A `b`: c-d, é_1!", '<h1 id="a-b-c-d-é_1">A <code>b</code>: c-d, é_1!</h1>'),
        ("# A\n# A\n# A", '<h1 id="a">A</h1>\n<h1 id="a-1">A</h1>\n<h1 id="a-2">A</h1>'),
        ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ("[x](javascript:alert)", "<p>[x](javascript:alert)</p>"),
        ("{{TITLE}}", "<p>{{TITLE}}</p>"),
    ],
)
def test_a_text_becomes(tmp_path: Path, text: str, expected: str) -> None:
    assert rendered(tmp_path, text) == expected


def test_columns_are_aligned_without_a_style(tmp_path: Path) -> None:
    assert '<td align="right">1</td>' in rendered(tmp_path, "| a |\n|--:|\n| 1 |")


def test_of_many_who_ask_at_once_one_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.md"
    path.write_text("# A")
    document = DocumentationPage(path, {"a.md": "A"})
    several_ask, times, render = threading.Event(), 0, pages._page

    def counted(*arguments: Any) -> str:
        nonlocal times
        times += 1
        assert several_ask.wait(60)
        return render(*arguments)

    monkeypatch.setattr(pages, "_page", counted)

    async def ask() -> None:
        asked = [asyncio.create_task(document.endpoint(Request({"type": "http", "headers": []}))) for _ in range(8)]
        await asyncio.sleep(0)  # all have begun
        several_ask.set()
        responses = [await each for each in asked]
        responses.append(await document.endpoint(Request({"type": "http", "headers": []})))
        assert len({bytes(response.body) for response in responses}) == 1

    asyncio.run(ask())
    assert times == 1
