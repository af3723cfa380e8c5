"""The page /docs of a service that a proxy has under a path of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import create_app
from service.documentation.examples import SERVER as PRINTED_SERVER
from service.settings import Settings
from tests.browser.page import CONV_OUTPUT, DocsPage, of_example
from tests.clients import free_port

PREFIX = "/tools/convpool"


class BehindPrefix:
    """What a reverse proxy does that has the service under a path of its own: it takes the path off.

    With ``told`` the service knows the path, as with uvicorn's ``--root-path``.
    """

    def __init__(self, app: ASGIApp, *, told: bool) -> None:
        self.app = app
        self.told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not scope["path"].startswith(f"{PREFIX}/"):
                await Response("not the service's", 404)(scope, receive, send)
                return
            if self.told:
                scope = {**scope, "root_path": PREFIX}
            else:
                scope = {
                    **scope,
                    "path": scope["path"].removeprefix(PREFIX),
                    "raw_path": scope["raw_path"].removeprefix(PREFIX.encode()),
                }
        await self.app(scope, receive, send)


@pytest.fixture(scope="module", params=[True, False], ids=["root_path", "a-proxy-that-says-nothing"])
def prefixed_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The base URL of the service behind a path prefix."""
    port = free_port()
    app = BehindPrefix(create_app(Settings()), told=request.param)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        base_url = f"http://127.0.0.1:{port}{PREFIX}"
        wait_until_answered(f"{base_url}/health/ready")
        yield base_url
    finally:
        server.should_exit = True
        thread.join(60)


def wait_until_answered(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer within {seconds} s")


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_works_behind_a_path_prefix(docs: DocsPage, prefixed_url: str, path: str) -> None:
    docs.open(prefixed_url, path)
    assert docs.page.url == f"{prefixed_url}/docs"
    for call in ("/conv/forward", "/pool/shape"):
        block = docs.tried("POST", call)
        status, shown = docs.answer(block)
        assert (status, shown) == (200, of_example(prefixed_url, call))
        docs.fold(block)
    docs.assert_clean(prefixed_url)


def test_commands_and_files_are_those_of_the_page_s_own_address(docs: DocsPage, prefixed_url: str) -> None:
    docs.open(prefixed_url)
    expect(docs.page.locator(".info")).to_contain_text(f"call {prefixed_url} ")
    description = docs.tried("POST", "/conv/forward").locator(".opblock-description")
    commands = description.locator("pre").all_inner_texts()
    (conv,) = (each for each in httpx.get(f"{prefixed_url}/ops").json()["operations"] if each["name"] == "conv_forward")
    assert len(commands) == len(conv["content_types"]) >= 3
    for command in commands:
        assert re.findall(r"http://.*?(?=/examples/|/conv/)", command)
        assert set(re.findall(r"http://.*?(?=/examples/|/conv/)", command)) == {prefixed_url}
        assert PRINTED_SERVER not in command
        bash = shutil.which("bash")
        assert bash is not None
        ran = subprocess.run([bash, "-c", command], capture_output=True, check=True, timeout=60)
        assert json.loads(ran.stdout) == {"output": CONV_OUTPUT}
    addresses = description.locator("a").evaluate_all("links => links.map(link => link.href)")
    assert addresses
    for address in addresses:
        assert address.startswith(f"{prefixed_url}/examples/conv_forward/")
        assert httpx.get(address).status_code == 200
