"""The page at / and what it loads: the files of the folder, and nothing else."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import pytest

from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.test_access import answer

FOLDER = Path(__file__).parents[3] / "service" / "playground"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())
ASSETS = [file for file in FILES if file != "index.html"]
MEDIA_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "LICENSE": "text/plain; charset=utf-8",
}


class Addresses(html.parser.HTMLParser):
    """What a page makes a browser fetch or lets a user go to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.found += [value for name, value in attrs if name in ("href", "src", "action") and value]


def test_there_are_files_to_serve() -> None:
    assert {"index.html", "service.js", "vendor/lit-html.js", "vendor/lit-html.LICENSE"} <= set(FILES)


def test_the_page_is_the_folder_s(client: ApplicationClient) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.content == (FOLDER / "index.html").read_bytes()
    assert re.match(r"<!doctype html>", response.text)


@pytest.mark.parametrize("file", ASSETS)
def test_a_file_is_served_as_what_it_is(client: ApplicationClient, file: str) -> None:
    response = client.get(f"/playground/{file}")
    assert response.status_code == 200
    assert response.headers["content-type"] == MEDIA_TYPES[file.rpartition(".")[2]]
    assert response.content == (FOLDER / file).read_bytes()


@pytest.mark.parametrize("path", ["/", "/playground/vendor/lit-html.js"])
def test_a_file_is_compressed_and_sent_again_only_when_it_has_changed(client: ApplicationClient, path: str) -> None:
    response = client.get(path, headers={"Accept-Encoding": "gzip"})
    is_compressed = len(response.content) >= 4096
    assert response.headers.get("content-encoding") == ("gzip" if is_compressed else None)
    assert (response.headers["cache-control"], response.headers["vary"]) == ("no-cache", "Accept-Encoding")
    tag = response.headers["etag"]
    again = client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": 'W/"another"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/playground", "/playground/", "/playground/main", "/playground/nothing.js", "/playground//service.js"),
        *("/playground/Service.js", "/playground/vendor", "/playground/vendor/../service.js", "/playground/../app.py"),
        *("/playground/./service.js", "/playground//etc/passwd", "/playground/service.js\0", "/index.html"),
        *("/playground/index.html", "/playground/service.js;", "/playground\\service.js"),
    ],
)
def test_nothing_else_is_served(client: ApplicationClient, path: str) -> None:
    """Of paths as the server hands them over: decoded, and with the dots in them."""
    response = client.call(lambda app: answer(app, {"method": "GET", "path": path, "raw_path": path.encode()}))
    assert response.status == 404
    assert response.headers[b"content-type"] == b"application/problem+json"


def test_a_file_is_only_read(client: ApplicationClient) -> None:
    for path in ("/", "/playground/service.js"):
        assert client.post(path).headers["allow"] in ("GET", "HEAD, GET", "GET, HEAD")
        payloads.problem(client.post(path), 405)


def test_the_page_names_no_other_host_and_only_files_that_there_are(client: ApplicationClient) -> None:
    page = client.get("/")
    assert re.findall(r"\w+://", page.text) == []
    for address in Addresses(page.text).found:
        assert not address.startswith("/")  # which would leave the prefix that a proxy has the service under
        if address != "data:,":  # an empty icon, so that the browser does not ask for one
            assert client.get(f"/{address}".partition("#")[0]).status_code == 200
