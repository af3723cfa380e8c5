"""What browsers are told about the pages, and about every response."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import socket

import httpx
import pytest

from tests.clients import ApplicationClient
from tests.service.test_serving import connected


class Scripts(html.parser.HTMLParser):
    """The scripts of a page: the addresses of some, the text of others."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self._is_inline = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("src")
        self._is_inline = tag == "script" and not address
        if tag == "script" and address:
            self.addresses.append(address)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._is_inline = False

    def handle_data(self, data: str) -> None:
        if self._is_inline:
            self.texts.append(data)


def test_the_page_may_run_its_own_scripts_and_load_nothing_from_elsewhere(client: ApplicationClient) -> None:
    response = client.get("/docs")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    scripts = Scripts(response.text)
    assert len(scripts.texts) == len(scripts.addresses) == 1
    digest = base64.b64encode(hashlib.sha256(scripts.texts[0].encode()).digest()).decode()
    assert policy.pop("script-src") == f"'self' 'sha256-{digest}'"
    assert policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
    assert all(
        source in ("'self'", "'none'", "blob:", "data:") for sources in policy.values() for source in sources.split()
    )
    assert response.headers["referrer-policy"] == "no-referrer"
    assert " style=" not in response.text


def test_the_playground_may_run_its_own_files_and_load_nothing_from_elsewhere(client: ApplicationClient) -> None:
    response = client.get("/")
    assert set(response.headers["content-security-policy"].split("; ")) == {
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    }
    assert response.headers["referrer-policy"] == "no-referrer"
    scripts = Scripts(response.text)
    assert scripts.addresses
    assert scripts.texts == []
    assert " style=" not in response.text


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/playground/service.js", "/docs", "/static-offline-docs/swagger-ui.css"),
        *("/health/live", "/nothing", "/pool/forward"),
    ],
)
def test_no_response_is_to_be_taken_for_something_else(server_url: str, path: str) -> None:
    body = {"mode": "max", "kernel_size": 1, "input": [[[[1]]]]}
    with httpx.Client(base_url=server_url) as client:
        responses = [client.get(path), *(client.post(path, json=body) for _ in range(3))]
    assert {response.headers["x-content-type-options"] for response in responses} == {"nosniff"}


def test_nor_is_the_response_to_what_is_not_http(server_url: str) -> None:
    with connected(server_url) as connection:
        connection.sendall(b"not HTTP\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert b"x-content-type-options: nosniff" in received.lower()
