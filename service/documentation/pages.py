"""The project's pages, Markdown in ``docs/``, as HTML below ``/docs/``: answers refer to the rules in them."""

from __future__ import annotations

import asyncio
import functools
import html
import itertools
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..http.documents import Document
from ..http.security_headers import page_headers
from .examples import SERVER

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["DocumentationPage", "documentation_pages"]

FOLDER = Path(__file__).parents[2] / "docs"
"""In a checkout, and in the package, where the build puts it."""
TEMPLATE = Path(__file__).parent / "pages.html"
STYLE = Path(__file__).parent / "pages.css"


@functools.cache
def documentation_pages() -> Mapping[str, Document | DocumentationPage]:
    """Return by path the pages that are there now, their style and their pictures."""
    pages = {path.name: path for path in sorted(FOLDER.glob("*.md"))}
    titles = {name: _title(path) for name, path in pages.items()}
    served: dict[str, Document | DocumentationPage] = {
        f"/docs/{name}": DocumentationPage(path, titles) for name, path in pages.items()
    }
    served["/docs/pages.css"] = Document(STYLE.read_bytes(), "text/css")
    for picture in sorted(FOLDER.glob("*.png")):
        served[f"/docs/{picture.name}"] = Document(picture.read_bytes(), "image/png")
    return MappingProxyType(served)


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("# ").strip()


class DocumentationPage:
    """A page that is rendered when it is first asked for, and then kept.

    Parameters
    ----------
    path : Path
    titles : mapping of str to str
        Of all pages, by their file names.
    """

    def __init__(self, path: Path, titles: Mapping[str, str]) -> None:
        self._path, self._titles = path, titles
        self._document: Document | None = None
        self._lock = threading.Lock()

    async def endpoint(self, request: Request) -> Response:
        """Respond to a request, as the endpoint of a route."""
        if self._document is None:
            await asyncio.to_thread(self._render)
        assert self._document is not None  # noqa: S101  (it was rendered)
        return self._document.response(request)

    def _render(self) -> None:
        with self._lock:  # of many who ask at once, one renders and the others wait
            if self._document is None:
                text = self._path.read_text(encoding="utf-8")
                page = _page(self._titles[self._path.name], text, self._titles)
                self._document = Document(page.encode(), "text/html", page_headers(page, has_scripts=False))


def _page(title: str, text: str, titles: Mapping[str, str]) -> str:
    # imported here, as it takes a tenth of a second, and most servers are never asked for a page
    from markdown_it import MarkdownIt  # noqa: PLC0415

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    _give_ids(tokens)
    for token in tokens:
        if "style" in token.attrs:  # of a table's column: text-align, which the page's policy lets no attribute say
            token.attrSet("align", str(token.attrs.pop("style")).removeprefix("text-align:"))
        if token.children:
            token.children = _mended(token.children, titles)
    links = [f'<a href="{html.escape(name)}">{html.escape(each)}</a>' for name, each in titles.items()]
    content = markdown.renderer.render(tokens, markdown.options, {})
    parts = {"TITLE": html.escape(title), "LINKS": "\n".join(links), "CONTENT": content}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], TEMPLATE.read_text(encoding="utf-8"))


def _give_ids(tokens: Sequence[Token]) -> None:
    """Give each heading the id that it has on GitHub."""
    known: dict[str, int] = {}
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            name = re.sub(r"[^\w\- ]", "", text).lower().replace(" ", "-")
            known[name] = count = known.get(name, -1) + 1
            opening.attrSet("id", f"{name}-{count}" if count else name)


def _mended(tokens: Sequence[Token], titles: Mapping[str, str]) -> list[Token]:
    """Return the parts of a text with links to what a server has; other links within the project are left out."""
    mended: list[Token] = []
    is_kept = True
    for token in tokens:
        if token.type == "link_open":
            target = str(token.attrGet("href"))
            if target.startswith(f"{SERVER}/"):
                target = f"..{target.removeprefix(SERVER)}"
                token.attrSet("href", target)
                is_kept = True
            else:
                page, _, _ = target.partition("#")
                is_kept = not page or page in titles or bool(re.match(r"https?:", target))
        if is_kept or token.type not in ("link_open", "link_close"):
            mended.append(token)
    return mended
