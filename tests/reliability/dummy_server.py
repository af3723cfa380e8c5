"""A server that answers as a test wants, rightly or not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

Answer = Callable[[bytes], bytes]
"""Takes the body of a request, and returns what goes over the wire; nothing closes the connection."""


def response(status: int, body: bytes = b"", *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """Run a server that reads requests, each with a length, and answers them; yield its port."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while (length := _length(self.rfile)) is not None:
                content = answer(self.rfile.read(length))
                if not content:
                    return
                self.wfile.write(content)

    class Listening(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # the client left

    with Listening(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


def _length(file: Any) -> int | None:
    """Read a head, and return the length of the body after it; None at the end."""
    length = 0
    while line := file.readline():
        if line == b"\r\n":
            return length
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return None
