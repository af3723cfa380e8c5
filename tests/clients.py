"""The two ways in which tests reach the service: inside the process, and over a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import httpx
from fastapi import FastAPI

Returned = TypeVar("Returned")


class ApplicationClient:
    """Calls an application through httpx's ASGITransport from ordinary, synchronous tests."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, client: httpx.AsyncClient, app: FastAPI) -> None:
        self._portal = portal
        self._client = client
        self._app = app

    def call(self, function: Callable[[FastAPI], Awaitable[Returned]]) -> Returned:
        """Await what a function of the application returns, where the application runs."""
        return self._portal.call(function, self._app)

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            response = await self._client.request(method, url, **options)
            await anyio.sleep(0)  # what the application does once it has responded, such as logging
            return response

        return self._portal.call(send)

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)


@contextlib.contextmanager
def application_client(app: FastAPI) -> Iterator[ApplicationClient]:
    """Yield a client for an application whose lifespan runs; exceptions are answers, as they are behind a server."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    with anyio.from_thread.start_blocking_portal() as portal:
        lifespan = portal.wrap_async_context_manager(app.router.lifespan_context(app))
        with (
            lifespan,
            portal.wrap_async_context_manager(
                httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=60)
            ) as client,
        ):
            yield ApplicationClient(portal, client, app)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_server(
    *arguments: str, port: int | None = None, verify: ssl.SSLContext | None = None, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run ``convpool serve`` on a loopback port, if not on a certain one on a free one; yield its base URL and process.

    A server that speaks TLS is verified with a context. ``CONVPOOL_TEST_PYTHON`` names another environment's
    interpreter to run it with, ``CONVPOOL_TEST_LOG`` a file to log to.
    """
    variables = {**os.environ, **environment}
    port, python = port or free_port(), variables.pop("CONVPOOL_TEST_PYTHON", sys.executable)
    log = variables.pop("CONVPOOL_TEST_LOG", "")
    command = [python, "-m", "service", "serve", "--port", str(port), *arguments]
    with Path(log).open("wb") if log else contextlib.nullcontext() as stderr:
        process = subprocess.Popen(command, env=variables, stderr=stderr)
    base_url = f"{'https' if verify else 'http'}://127.0.0.1:{port}"
    try:
        wait_until_ready(base_url, process, verify=verify)
        yield base_url, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)


def wait_until_ready(
    base_url: str, process: subprocess.Popen[bytes], seconds: float = 120, verify: ssl.SSLContext | None = None
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit status {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{base_url}/health/ready", verify=verify or True).status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server was not ready within {seconds} s")
