"""The container's health check, run as the container runs it: a file, with the settings in the environment."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

FILE = Path(__file__).parents[2] / "service" / "healthcheck.py"
SECONDS = 60

Wrap = Callable[[socket.socket], socket.socket]


@contextlib.contextmanager
def answering(
    listener: socket.socket, status: int, wrap: Wrap = lambda connection: connection
) -> Iterator[list[bytes]]:
    """Answer one request with a status; yield the list of what came."""
    came: list[bytes] = []

    def answer() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with wrap(connection) as secured:
                came.append(secured.recv(1000))
                secured.sendall(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)

    listener.settimeout(SECONDS)
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield came
    finally:
        thread.join(SECONDS)


def status_of_check(**settings: str) -> int:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CONVPOOL_")}
    ended = subprocess.run(
        [sys.executable, str(FILE)],
        env={**variables, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert ended.stderr == ""
    return ended.returncode


@pytest.fixture
def port() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, str(listener.getsockname()[1])


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1), (404, 1)])
def test_the_port(port: tuple[socket.socket, str], status: int, expected: int) -> None:
    listener, number = port
    with answering(listener, status) as came:
        assert status_of_check(CONVPOOL_HOST="0.0.0.0", CONVPOOL_PORT=number) == expected
    assert came[0].startswith(b"GET /health/ready HTTP/1.1\r\n")


def test_nobody_listens(port: tuple[socket.socket, str]) -> None:
    listener, number = port
    listener.close()
    assert status_of_check(CONVPOOL_PORT=number) == 1


@pytest.mark.parametrize("main", ["CONVPOOL_PORT", "CONVPOOL_UDS"])
def test_the_management_port_goes_first(port: tuple[socket.socket, str], main: str) -> None:
    listener, number = port
    with answering(listener, 200):
        settings = {"CONVPOOL_HOST": "::1", main: "1", "CONVPOOL_MANAGEMENT_HOST": "127.0.0.1"}
        assert status_of_check(**settings, CONVPOOL_MANAGEMENT_PORT=number) == 0


@pytest.mark.parametrize("name", ["CONVPOOL_PORT", "CONVPOOL_MANAGEMENT_PORT"])
def test_tls(port: tuple[socket.socket, str], name: str) -> None:
    listener, number = port
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("convpool.example").configure_cert(context)
    with answering(listener, 200, lambda connection: context.wrap_socket(connection, server_side=True)):
        assert status_of_check(**{name: number}, CONVPOOL_TLS_CERTIFICATE="/anywhere.pem") == 0


def test_a_unix_domain_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with answering(listener, 200):
            assert status_of_check(CONVPOOL_UDS=path, CONVPOOL_PORT="tcp://10.0.0.1:8000") == 0
