"""Our HTTP protocol on a real socket in this process, so that tests can look into it; the application is a stub."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from service.http.body import BODY_IS_HERE
from service.http.connections import CONNECTIONS, Connections
from service.http.protocol import Protocol
from service.settings import Settings
from tests.waiting import wait_until

SECONDS = 20
"""Within which everything must have happened."""


@dataclass
class App:
    """An application that says what it saw: the requests' bodies, and the clients that left."""

    respond: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)
    size: int = 2
    release: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.seen.append(path)
        if path != "/refuse":
            body = b""
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.seen.append("disconnect")
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
            self.seen.append(f"body {len(body)}")
            assert scope["state"][BODY_IS_HERE]
        if path == "/wait":
            left = asyncio.ensure_future(receive())
            respond = asyncio.ensure_future(self.respond.wait())
            await asyncio.wait([left, respond], return_when=asyncio.FIRST_COMPLETED)
            respond.cancel()
            if left.done():
                self.seen.append(left.result()["type"])
                return
            left.cancel()
        status, content = (413, b"no") if path == "/refuse" else (200, b"x" * self.size)
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for start in range(0, len(content), 2**20):
            await send({"type": "http.response.body", "body": content[start : start + 2**20], "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.release.append(path)


@dataclass
class Running:
    """A server in this process."""

    app: App
    connections: Connections
    loop: asyncio.AbstractEventLoop
    state: ServerState
    address: Any
    reads: list[int] = field(default_factory=list)

    def connect(self, *, receive_buffer: int = 0) -> socket.socket:
        made = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        made.settimeout(SECONDS)
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.connect(self.address)
        if made.family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function on the event loop, and return what it returns."""

        async def called() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(SECONDS)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, state=lambda: (self.app.seen, len(self.connections)))

    def has_connections(self, number: int) -> bool:
        return len(self.connections) >= number

    def protocols(self) -> list[Any]:
        """Those that exist, also after their connection."""
        gc.collect()
        return [each for each in gc.get_objects() if isinstance(each, Protocol) and each.server_state is self.state]


@contextlib.contextmanager
def serving(
    limit: int = 100, path: Path | None = None, tls: ssl.SSLContext | None = None, **settings: Any
) -> Iterator[Running]:
    """Serve on a free port of the loopback interface, or on a Unix domain socket."""
    loop, app = uvloop.new_event_loop(), App()
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None, server_header=False)
    config.load()
    config.loaded_app = app
    config.timeout_keep_alive = settings.pop("keep_alive", 75)
    connections = Connections(Settings(**settings), limit)
    running = Running(app, connections, loop, ServerState(), None)

    class Counting(Protocol):
        def data_received(self, data: bytes) -> None:
            running.reads.append(len(data))
            super().data_received(data)

    def made() -> Protocol:
        return Counting(config, running.state, {CONNECTIONS: connections}, loop)

    async def start() -> asyncio.AbstractServer:
        if path is not None:
            running.address = str(path)
            return await loop.create_unix_server(made, str(path))
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        running.address = listening.getsockname()
        return await loop.create_server(made, sock=listening, ssl=tls)

    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield running
    finally:

        def end() -> None:
            server.close()
            for each in list(running.state.connections):
                each.transport.abort()
            for task in list(running.state.tasks):
                task.cancel()
            loop.call_later(0.05, loop.stop)

        loop.call_soon_threadsafe(end)
        thread.join(SECONDS)
        loop.close()


def received(connection: socket.socket) -> bytes:
    """Everything until the server's end."""
    return b"".join(iter(lambda: connection.recv(2**16), b""))


def response(connection: socket.socket) -> bytes:
    """One response of the stub, which may come in pieces."""
    content = b""
    while not content.endswith((b"xx", b"no")):
        piece = connection.recv(2**16)
        assert piece, content
        content += piece
    return content


def head(path: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/{version}", "Host: h", *fields, "", ""]).encode()
