"""Streams on real connections: clients that read while they send, and clients that do not what they should."""

from __future__ import annotations

import contextlib
import io
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients import running_server

SECONDS = 60.0
MIB = 2**20
IMAGE = np.arange(2**18, dtype="<f4").reshape(512, 512, 1)  # 1 MiB
LIMITS: dict[str, Any] = {
    "CONVPOOL_MAX_BODY_BYTES": str(4 * MIB),
    "CONVPOOL_MAX_RESULT_BYTES": str(16 * MIB),
    "CONVPOOL_SEND_TIMEOUT": "1",
}
MANY = 192
PATH = "/pool/forward/stream?mode=max&kernel_size=1"


CLIENTS: list[Client] = []


@pytest.fixture(autouse=True)
def _connections_are_closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().socket.close()


def head_of(images: int) -> bytes:
    """The head of an npy file of so many images."""
    head = io.BytesIO()
    shape = (images, *IMAGE.shape)
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()


class Client:
    """Sends a batch image by image on a connection, and reads what comes back if it is told to."""

    def __init__(self, base_url: str, images: int, query: str = "&duplex=true") -> None:
        url = httpx.URL(base_url)
        self.socket = socket.create_connection((url.host, url.port or 0), timeout=SECONDS)
        CLIENTS.append(self)
        self.images, self.sent, self.error = images, 0, ""
        length = len(head_of(images)) + images * IMAGE.nbytes
        request = (
            f"POST {PATH}{query} HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-npy\r\nContent-Length: {length}"
        )
        self.socket.sendall(f"{request}\r\n\r\n".encode() + head_of(images))

    def send(self, images: int) -> None:
        """Send some images, or as much of them as the server takes."""
        content = memoryview(IMAGE.tobytes())
        try:
            for _ in range(images):
                rest = content
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
        content = bytearray()
        length = None
        with contextlib.suppress(ConnectionError):
            while length is None or len(content) < length:
                piece = self.socket.recv(MIB)
                if not piece:
                    break
                content += piece
                if length is None and (found := re.search(rb"content-length: (\d+)\r\n(?s:.*?)\r\n\r\n", content)):
                    length = found.end() + int(found[1])
        head, _, body = bytes(content).partition(b"\r\n\r\n")
        return head, body


def gauge(base_url: str, name: str) -> float:
    found = re.search(rf"^convpool_{name}(?:{{[^}}]*}})? (\S+)$", httpx.get(f"{base_url}/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def wait_until_idle(base_url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while gauge(base_url, "memory_charged_bytes") or gauge(base_url, "slots_in_use"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def peak(process: subprocess.Popen[bytes]) -> int:
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def whole(images: int) -> bytes:
    return head_of(images) + images * IMAGE.tobytes()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running_server(**LIMITS) as running:
        yield running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory another process has had")
def test_a_batch_passes_through_in_little_memory(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = server
    client = Client(url, 4)
    sending = client.sending(4)
    assert client.response()[1] == whole(4)
    sending.join(SECONDS)
    before = peak(process)
    for _ in range(2):  # on one connection, which the first stream leaves open
        client = Client(url, MANY)
        sending = client.sending(MANY)
        head, body = client.response()
        sending.join(SECONDS)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in head
        assert body == whole(MANY)
    assert peak(process) - before < 48 * MIB  # of 192 that came in and went out, and 4 that a body may have
    wait_until_idle(url)


def test_a_connection_goes_on_after_a_stream(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    client = Client(server[0], 8)
    sending = client.sending(8)
    assert client.response()[1] == whole(8)
    sending.join(SECONDS)
    client.socket.sendall(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.response()[0].startswith(b"HTTP/1.1 200 ")


def test_a_client_that_never_reads(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    client = Client(server[0], MANY)
    client.send(MANY)  # returns once the server has broken off the connection
    assert client.error in ("ConnectionResetError", "BrokenPipeError")
    assert client.sent < MANY * MIB / 2
    wait_until_idle(server[0])


@pytest.mark.parametrize(("images", "is_served"), [(15, True), (16, True), (17, False)])
def test_a_client_that_sends_everything_before_it_reads(
    server: tuple[str, subprocess.Popen[bytes]], images: int, is_served: bool
) -> None:
    client = Client(server[0], images, query="")
    client.send(images)
    head, body = client.response()
    if is_served:
        assert not client.error
        assert body == whole(images)
    else:
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"duplex=true" in body
    client.socket.close()
    wait_until_idle(server[0])


@pytest.mark.parametrize("query", ["", "&duplex=true"])
@pytest.mark.parametrize("half", [False, True])
def test_a_client_that_leaves(server: tuple[str, subprocess.Popen[bytes]], query: str, half: bool) -> None:
    client = Client(server[0], 16, query=query)
    sending = client.sending(10)
    if query:
        client.socket.recv(MIB)  # the response has begun
    sending.join(SECONDS)
    if half:
        client.socket.shutdown(socket.SHUT_WR)
        head, body = client.response()
        assert len(body) < len(whole(16))
        assert query or head.startswith(b"HTTP/1.1 400 ")
    else:
        client.socket.close()
    wait_until_idle(server[0])


def test_two_streams_where_memory_is_for_one() -> None:
    """The second one waits, and is served once the first one has ended."""
    memory: dict[str, Any] = {"CONVPOOL_MAX_MEMORY_BYTES": str(56 * MIB), "CONVPOOL_QUEUE_TIMEOUT": "60"}
    with running_server(**LIMITS, **memory) as (url, _):
        first, second = Client(url, 16), Client(url, 16)
        sending = first.sending(15)
        first.socket.recv(1, socket.MSG_PEEK)  # it has its memory
        charged = gauge(url, "memory_charged_bytes")
        assert 25 * MIB < charged < 49 * MIB
        other = second.sending(16)
        assert not select.select([second.socket], [], [], 0.5)[0]
        assert gauge(url, "memory_charged_bytes") == charged
        sending_last = threading.Thread(target=first.send_after, args=(sending, 1))
        sending_last.start()
        assert first.response()[1] == whole(16)
        sending_last.join(SECONDS)
        assert second.response()[1] == whole(16)
        other.join(SECONDS)
        wait_until_idle(url)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_shutdown_in_the_middle(goes_on: bool) -> None:
    """A stream that ends in time is served; another one is broken off, and the server ends."""
    with running_server(**LIMITS, CONVPOOL_GRACEFUL_SHUTDOWN="60" if goes_on else "1") as (url, process):
        client = Client(url, 16)
        sending = client.sending(10)
        client.socket.recv(1, socket.MSG_PEEK)
        process.send_signal(signal.SIGTERM)
        if goes_on:
            last = threading.Thread(target=client.send_after, args=(sending, 6))
            last.start()
            assert client.response()[1] == whole(16)
            last.join(SECONDS)
        else:
            assert len(client.response()[1]) < len(whole(16))
        sending.join(SECONDS)
        client.socket.close()
        assert process.wait(SECONDS) is not None
