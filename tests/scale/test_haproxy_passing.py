"""What passes through HAProxy: bodies of every size and both ways at once, addresses, and that a client has gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from convpool.client import Client
from tests.service.streaming.connections import MANY, MIB, exchanged, little_memory, pooled, sent_first
from tests.waiting import SECONDS, wait_until

from .layers import SMALL, Layer
from .names import Names
from .servers import CONFIGURATION, Balanced, balanced, free_port, haproxy

CLIENT = "127.0.0.77"
PIECE = b"x" * 1000


def test_large_bodies_pass_without_being_kept(tmp_path: Path) -> None:
    """30 MB are sent and come back, and HAProxy keeps hardly any of it."""
    image = np.arange(3_750_000, dtype=np.float64).reshape(1, 1500, 2500, 1)
    with balanced(tmp_path, 1) as servers, Client(servers.url) as client:
        assert client.pool_forward(image[:, :10, :10], mode="max", kernel_size=1).size == 100
        before = servers.peak_memory()
        assert np.array_equal(client.pool_forward(image, mode="max", kernel_size=1), image)
        assert servers.peak_memory() - before < 4 * 2**20


def test_streams_pass_both_ways_at_once(tmp_path: Path) -> None:
    """A result that is kept, one that is not, and the refusal of one that cannot be."""
    with balanced(tmp_path, 1, max_body_bytes=4 * MIB, max_result_bytes=16 * MIB) as servers:
        assert exchanged(servers.url, 4)[1] == pooled(4)
        before, replica = servers.peak_memory(), servers.replicas[0].process.pid
        with httpx.Client(base_url=servers.url, timeout=SECONDS) as client, little_memory(replica):
            for images, kernel_size in ((16, 1), (MANY, 4)):
                assert sent_first(client, images, kernel_size).content == pooled(images, kernel_size)
            assert exchanged(servers.url, MANY)[1] == pooled(MANY)
        head, body = exchanged(servers.url, 17, "", sent=0)
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"duplex=true" in body
        assert servers.peak_memory() - before < 4 * MIB


def test_the_service_sees_the_client_s_address(tmp_path: Path) -> None:
    with balanced(tmp_path, 1) as servers:
        transport = httpx.HTTPTransport(local_address=CLIENT)
        with httpx.Client(transport=transport, base_url=servers.url) as client:
            forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
            assert client.get("/ops", headers=forged).status_code == 200
        log = servers.replicas[0].log
        wait_until(lambda: f'{CLIENT}:0 "GET /ops" 200 ' in log.read_text())


def test_what_a_client_no_longer_waits_for_is_not_computed(tmp_path: Path) -> None:
    """Neither what a server is at, nor what waits for a place."""
    places = {"MAX_REQUESTS": 1, "QUEUE_TIMEOUT": "60s"}
    with balanced(tmp_path, 1, processors=0.1, haproxy=places) as servers:
        slow = SMALL._replace(padding=400)
        with contextlib.ExitStack() as clients:
            for _ in range(3):
                clients.enter_context(sent(servers, slow))
            wait_until(lambda: servers.counters()["qcur"] == "2")
        wait_until(lambda: (servers.counters()["qcur"], servers.counters()["scur"]) == ("0", "0"))
        log = servers.replicas[0].log
        wait_until(lambda: log.read_text().count("/conv/forward") == 1)
        assert '" 200 ' not in next(line for line in log.read_text().splitlines() if "/conv/forward" in line)
        with Client(servers.url) as client:
            assert np.array_equal(client.conv_forward(**SMALL.operands), SMALL.expected)


@contextlib.contextmanager
def sent(servers: Balanced, layer: Layer) -> Iterator[None]:
    """Send a request, and close the connection at the end."""
    url = httpx.URL(servers.url)
    operands = {"input": layer.input.tolist(), "weight": layer.weight.tolist(), "padding": layer.padding}
    request = httpx.Request("POST", f"{url}/conv/forward", json=operands)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection((url.host, url.port or 0)) as connection:
        connection.sendall("\r\n".join(["POST /conv/forward HTTP/1.1", *lines, "", ""]).encode() + request.read())
        yield


# ---------------------------------------------------------------------------------------- a server that answers early


class Echo(threading.Thread):
    """A server that is ready, and sends each piece of a chunked body, or of one of known size, back when it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._listening = socket.create_server(("127.0.0.2", 0))
        self.port = self._listening.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(ConnectionError):
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                if head.startswith(b"GET /end"):
                    return
                if not head.startswith(b"POST"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    continue
                body = head.partition(b"\r\n\r\n")[2]
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
                while piece := connection.recv(65536):  # as it came, framing and all
                    connection.sendall(piece)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.2", self.port)) as connection:
            connection.sendall(b"GET /end HTTP/1.1\r\n\r\n")
        self.join(SECONDS)
        self._listening.close()


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", f"Content-Length: {1000 * len(PIECE)}"])
def test_a_response_passes_while_the_request_still_arrives(tmp_path: Path, framing: str) -> None:
    """The client sends a piece only when it has the one before back."""
    with contextlib.ExitStack() as stack:
        echo = Echo()
        stack.callback(echo.close)
        names = stack.enter_context(Names(["127.0.0.2"]))
        port, status = free_port(), f"127.0.0.1:{free_port()}"
        given = {"LISTEN": f"127.0.0.1:{port}", "STATUS": status, "RESOLVER": names.address}
        stack.enter_context(haproxy(CONFIGURATION, {**given, "REPLICA": f"echo.test:{echo.port}"}, tmp_path / "log"))
        wait_until(lambda: ",UP," in httpx.get(f"http://{status}/;csv").text)
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS))
        connection.sendall(f"POST /echo HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        received = b""
        for number in range(5):
            piece = b"%d" % number + PIECE[1:]
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if "chunked" in framing else piece)
            while piece not in received:
                more = connection.recv(65536)
                assert more, received[:300]
                received += more
        assert received.startswith(b"HTTP/1.1 200 OK")
