"""What a request takes in memory: measured for a whole request, from the first byte received to the last byte sent."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import re
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from cnn_core import get_threads
from cnn_core.runtime import workspace
from cnn_core.runtime.packing import touch_packing_buffers
from service.app import create_app
from service.settings import Settings
from tests.service import payloads
from tests.service.payloads import Operands, Parameters

CHUNK_BYTES = 2**18


class StoredRequest(NamedTuple):
    """A request whose body is in a file, so that it takes no memory before it is sent."""

    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: Path


class Exchange(NamedTuple):
    """The sizes of a request and of its response, in bytes, and the most memory that was taken meanwhile."""

    request: int
    response: int
    peak: int


def stored_request(folder: Path, path: str, encoder: str, operands: Operands, parameters: Parameters) -> StoredRequest:
    """Store a request in a folder."""
    request = httpx.Request("POST", f"http://testserver{path}", **payloads.ENCODERS[encoder](operands, parameters))
    body = folder / f"{encoder}.body"
    body.write_bytes(request.read())
    return StoredRequest(path, request.url.query, [(name.lower(), value) for name, value in request.headers.raw], body)


async def _send(app: FastAPI, request: StoredRequest) -> int:
    """Send a request in chunks; return the size of the body of its response, which is not stored."""
    received, statuses, rest = 0, [], request.body.stat().st_size
    with request.body.open("rb") as file:

        async def receive() -> dict[str, Any]:
            nonlocal rest
            if not rest:
                await asyncio.Future()  # the client waits for the response
            chunk = file.read(CHUNK_BYTES)
            rest -= len(chunk)
            return {"type": "http.request", "body": chunk, "more_body": rest > 0}

        async def send(message: Any) -> None:
            nonlocal received
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            received += len(message.get("body", b""))

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query,
            "headers": request.headers,
            "client": ("127.0.0.1", 123),
            "server": ("127.0.0.1", 80),
        }
        await app(scope, receive, send)
    assert statuses == [200]
    return received


def _exchange(request: StoredRequest, start: Callable[[], int], stop: Callable[[], int]) -> Exchange:
    app = create_app(Settings())

    async def exchange() -> Exchange:
        async with app.router.lifespan_context(app):
            touch_packing_buffers(get_threads())
            before = start()
            response = await _send(app, request)
            return Exchange(request.body.stat().st_size, response, stop() - before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "MAX_KEPT_BYTES", 0)  # what a thread keeps from another request would not be counted
        return asyncio.run(exchange())


def allocated(request: StoredRequest) -> Exchange:
    """Send a request; the peak is that of what Python and NumPy allocate."""

    def start() -> int:
        tracemalloc.start()
        return tracemalloc.get_traced_memory()[0]

    try:
        return _exchange(request, start, lambda: tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def resident(requests: Sequence[StoredRequest]) -> list[Exchange]:
    """Send requests one after the other in a process of their own, on Linux; the peaks are those of the process."""
    with pytest.MonkeyPatch.context() as patch:
        # large blocks go back to the system at once, as they do in a process that has not had any yet
        patch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**17))
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(_resident, requests))


def _resident(request: StoredRequest) -> Exchange:
    def status(name: str) -> int:
        found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    def start() -> int:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        return status("VmRSS")

    return _exchange(request, start, lambda: status("VmHWM"))
