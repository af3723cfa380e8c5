"""Streams over connections: a batch, clients that send it in their own ways, and what the server has in memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import select
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from tests.waiting import wait_until

__all__ = [
    "LIMITS",
    "MANY",
    "MIB",
    "SECONDS",
    "Client",
    "batch",
    "exchanged",
    "gauge",
    "little_memory",
    "pooled",
    "sent_first",
    "wait_until_idle",
]

SECONDS = 60.0
MIB = 2**20
SIZE = 512
FIRST_IMAGE = np.arange(SIZE * SIZE, dtype="<f4").reshape(SIZE, SIZE, 1)  # 1 MiB
LIMITS: dict[str, Any] = {"CONVPOOL_MAX_BODY_BYTES": str(4 * MIB), "CONVPOOL_MAX_RESULT_BYTES": str(16 * MIB)}
MANY = 192
"""Images of a batch that is much larger than all that may be in memory."""
PATH = "/pool/forward/stream?mode=max&kernel_size="
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


# ----------------------------------------------------------------------------------------------------------- the batch


def head_of(images: int, size: int = SIZE) -> bytes:
    """The head of an npy file of so many images."""
    head = io.BytesIO()
    shape = (images, size, size, 1)
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()


def image(number: int) -> npt.NDArray[np.float32]:
    """An image that no other is equal to."""
    return FIRST_IMAGE + np.float32(number)


def batch(images: int) -> Iterator[bytes]:
    """The npy file of a batch in pieces."""
    return itertools.chain([head_of(images)], (image(number).tobytes() for number in range(images)))


def length_of(images: int) -> int:
    """The bytes of that file."""
    return len(head_of(images)) + images * FIRST_IMAGE.nbytes


def pooled(images: int, kernel_size: int = 1) -> bytes:
    """The file of its maximum over windows."""
    size = SIZE // kernel_size
    corners = (slice(kernel_size - 1, None, kernel_size),) * 2  # numbers grow in both directions
    return head_of(images, size) + b"".join(image(number)[corners].tobytes() for number in range(images))


# ------------------------------------------------------------------------------------------------------------- clients


class Received:
    """What has come of a response."""

    def __init__(self) -> None:
        self._content, self._length = bytearray(), -1

    def add(self, piece: bytes) -> None:
        self._content += piece
        head = rb"(?i)content-length: (\d+)\r\n(?s:.*?)\r\n\r\n"
        if self._length < 0 and (found := re.search(head, self._content)):
            self._length = found.end() + int(found[1])

    @property
    def is_whole(self) -> bool:
        return 0 <= self._length <= len(self._content)

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """The head and the body."""
        head, _, body = bytes(self._content).partition(b"\r\n\r\n")
        return head, body


def request_head(url: httpx.URL, images: int, kernel_size: int, query: str) -> bytes:
    fields = f"Host: h\r\nContent-Type: application/x-npy\r\nContent-Length: {length_of(images)}"
    return f"POST {url.path.rstrip('/')}{PATH}{kernel_size}{query} HTTP/1.1\r\n{fields}\r\n\r\n".encode()


def exchanged(
    base_url: str,
    images: int,
    query: str = "&duplex=true",
    *,
    sent: int | None = None,
    kernel_size: int = 1,
    trust: ssl.SSLContext | None = None,
) -> tuple[bytes, bytes]:
    """Send a batch, read the result meanwhile, and return the head and the body of the response, or what came of it.

    All is done in one thread: OpenSSL wants no other of a connection.

    Parameters
    ----------
    base_url : str
    images : int
    query : str
        What follows the other parameters.
    sent : int, optional
        Images that are sent; default: all.
    kernel_size : int
    trust : SSLContext, optional
        If the server speaks TLS.
    """
    url, received = httpx.URL(base_url), Received()
    pieces = itertools.chain(
        [request_head(url, images, kernel_size, query)],
        batch(images) if sent is None else itertools.islice(batch(images), 1 + sent),
    )
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((url.host, url.port or 0), SECONDS))
        if trust is not None:
            connection = stack.enter_context(trust.wrap_socket(connection, server_hostname=url.host))
        connection.setblocking(False)
        rest = memoryview(next(pieces))
        while not received.is_whole:
            assert any(select.select([connection], [connection] if rest else [], [], SECONDS)), "nothing goes on"
            try:
                while piece := connection.recv(MIB):
                    received.add(piece)
                break  # the server has ended the connection
            except BLOCKED:
                pass
            except ConnectionError:
                break
            try:
                rest = rest[connection.send(rest) :] or memoryview(next(pieces, b""))
            except BLOCKED:
                pass
            except (ConnectionError, ssl.SSLError):
                rest = memoryview(b"")  # the server reads no more, but may have sent something
        return received.parts


def sent_first(client: httpx.Client, images: int, kernel_size: int = 1) -> httpx.Response:
    """The response to a client that reads nothing before it has sent everything, or could not."""
    headers = {"Content-Type": "application/x-npy", "Content-Length": str(length_of(images))}
    return client.post(f"{PATH}{kernel_size}", content=batch(images), headers=headers)


class Client:
    """Sends a batch image by image on a plain connection, and reads what comes back if it is told to."""

    def __init__(self, base_url: str, images: int, query: str = "&duplex=true") -> None:
        url = httpx.URL(base_url)
        self.socket = socket.create_connection((url.host, url.port or 0), timeout=SECONDS)
        self.sent, self.error = 0, ""
        self._pieces = batch(images)
        self.socket.sendall(request_head(url, images, 1, query) + next(self._pieces))

    def send(self, images: int) -> None:
        """Send some more images, or as much of them as the server takes."""
        try:
            for piece in itertools.islice(self._pieces, images):
                rest = memoryview(piece)
                while rest:
                    taken = self.socket.send(rest)
                    self.sent += taken
                    rest = rest[taken:]
        except OSError as error:
            self.error = type(error).__name__

    def send_after(self, sending: threading.Thread, images: int) -> None:
        """Send some more images once a thread has sent its own."""
        sending.join(SECONDS)
        self.send(images)

    def sending(self, images: int) -> threading.Thread:
        thread = threading.Thread(target=self.send, args=(images,))
        thread.start()
        return thread

    def response(self) -> tuple[bytes, bytes]:
        """The head and the body of the response; of a broken one, what came."""
        received = Received()
        with contextlib.suppress(ConnectionError):
            while not received.is_whole and (piece := self.socket.recv(MIB)):
                received.add(piece)
        return received.parts


# ---------------------------------------------------------------------------------------------------------- the server


def gauge(base_url: str, name: str) -> float:
    found = re.search(rf"^convpool_{name}(?:{{[^}}]*}})? (\S+)$", httpx.get(f"{base_url}/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def wait_until_idle(base_url: str) -> None:
    wait_until(lambda: not gauge(base_url, "memory_charged_bytes") and not gauge(base_url, "slots_in_use"))


@contextlib.contextmanager
def little_memory(*pids: int, limit: int = 48 * MIB) -> Iterator[None]:
    """Fail if one of these processes then has had much more memory at a time than before: only Linux tells."""
    before = [_peak(pid) for pid in pids]
    yield
    for pid, then in zip(pids, before, strict=True):
        assert _peak(pid) - then < limit


def _peak(pid: int) -> int:
    if sys.platform != "linux":
        return 0
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
