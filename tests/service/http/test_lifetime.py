"""How a connection's time ends: heads that do not come, responses that are not taken, clients that stop or leave."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from service.http.protocol import Protocol
from tests.service.http.in_process import SECONDS, Running, head, received, response, serving

LENGTH_2 = "Content-Length: 2"
HEALTHY = head("/a", LENGTH_2) + b"hi"


def statuses(content: bytes) -> list[int]:
    return [int(part[:3]) for part in content.split(b"HTTP/1.1 ")[1:]]


# ---------------------------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("before", [b"", HEALTHY], ids=["first", "later"])
@pytest.mark.parametrize("part", [b"P", b"POST /a HTTP/1.1\r\nHost: h\r\n", head("/a")[:-2]])
def test_half_a_head_is_refused_in_time(before: bytes, part: bytes) -> None:
    with serving(header_timeout=0.2) as server, server.connect() as connection:
        connection.sendall(before + part)
        content = received(connection)
    assert statuses(content) == ([200] if before else []) + [408]
    assert b'"urn:convpool:problem:header-timeout"' in content
    assert b"within 0.2 s" in content


def test_a_head_that_drips_is_refused_in_time() -> None:
    with serving(header_timeout=0.3) as server, server.connect() as connection:
        sent, is_over = 0, threading.Event()

        def drip() -> None:
            nonlocal sent
            for byte in head("/a", *("X: y" for _ in range(2000))):
                if is_over.wait(0.01):
                    return
                connection.sendall(bytes([byte]))
                sent += 1

        dripping = threading.Thread(target=drip)
        dripping.start()
        content = connection.recv(2**16)
        is_over.set()
        dripping.join()
    assert statuses(content) == [408]
    assert 0 < sent < 100


@pytest.mark.parametrize("content", [b"", b"\r\n" * 10])
def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(content: bytes) -> None:
    with serving(header_timeout=0.2) as server, server.connect() as connection:
        connection.sendall(content)
        assert received(connection) == b""


@pytest.mark.parametrize("between", [b"", b"\r\n"])
def test_a_connection_that_was_used_is_kept_as_long_as_it_is_said(between: bytes) -> None:
    with serving(header_timeout=0.1, keep_alive=1) as server, server.connect() as connection:
        connection.sendall(HEALTHY)
        assert statuses(response(connection)) == [200]
        started = time.monotonic()
        connection.sendall(between)
        assert received(connection) == b""
        assert time.monotonic() - started > 0.5  # later than the head's time


def test_a_late_head_waits_for_the_response_before_it() -> None:
    with serving(header_timeout=0.2) as server, server.connect() as connection:
        connection.sendall(head("/wait") + b"POST /b")
        connection.settimeout(0.6)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(SECONDS)
        server.call(server.app.respond.set)
        assert statuses(received(connection)) == [200, 408]


def test_heads_that_cannot_be_read_yet_are_not_late() -> None:
    with serving(header_timeout=0.1) as server, server.connect() as connection:
        connection.sendall(head("/wait"))
        server.wait_until(lambda: "body 0" in server.app.seen)
        connection.sendall(HEALTHY + HEALTHY[:10])  # a request waits: nothing more is read
        server.wait_until(lambda: server.protocols()[0].flow.read_paused)
        connection.sendall(HEALTHY[10:])
        time.sleep(0.3)
        server.call(server.app.respond.set)
        content = b""
        while len(statuses(content)) < 3:
            content += connection.recv(2**16)
        assert statuses(content) == [200, 200, 200]


def test_an_ordinary_request_sets_no_timer_for_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    expect_head = Protocol.expect_head

    def counted(self: Protocol) -> None:
        calls.append(1)
        expect_head(self)

    monkeypatch.setattr(Protocol, "expect_head", counted)
    with serving() as server, server.connect() as connection:
        for number in range(5):
            connection.sendall(HEALTHY)
            assert statuses(response(connection)) == [200], number
    assert len(calls) == 1, "that of the connection"


# ------------------------------------------------------------------------------------------------------ clients that go


@pytest.fixture(params=["tcp", "unix"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "socket" if request.param == "unix" else None


def without_interim(content: bytes) -> bytes:
    return content.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_has_only_finished_its_request_gets_the_response(path: Path | None, version: str) -> None:
    with serving(path=path) as server, server.connect() as connection:
        connection.sendall(head("/a", LENGTH_2, version=version) + b"hi")
        connection.shutdown(socket.SHUT_WR)
        assert statuses(without_interim(received(connection))) == [200]


def test_it_gets_all_responses_to_its_requests(path: Path | None) -> None:
    with serving(path=path) as server, server.connect() as connection:
        connection.sendall(HEALTHY * 3)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(received(connection)) == [200, 200, 200]


def test_it_is_waited_for_with_interim_responses(path: Path | None) -> None:
    with serving(path=path) as server, server.connect() as connection:
        connection.sendall(head("/wait", LENGTH_2) + b"hi")
        connection.shutdown(socket.SHUT_WR)
        interim = b"".join(connection.recv(1) for _ in range(2 * len("HTTP/1.1 100 Continue\r\n\r\n")))
        assert without_interim(interim) == b""
        server.call(server.app.respond.set)
        assert statuses(without_interim(received(connection))) == [200]
        assert "http.disconnect" not in server.app.seen


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("resets", [False, True])
def test_a_client_that_is_gone_is_noticed(path: Path | None, version: str, resets: bool) -> None:
    with serving(path=path) as server:
        connection = server.connect()
        connection.sendall(head("/wait", LENGTH_2, version=version) + b"hi")
        server.wait_until(lambda: "body 2" in server.app.seen)
        if resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        server.wait_until(lambda: "http.disconnect" in server.app.seen)
        server.wait_until(lambda: len(server.connections) == 0)


def test_a_client_that_is_gone_with_requests_waiting_is_noticed_by_the_one_that_runs(path: Path | None) -> None:
    with serving(path=path) as server:
        connection = server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head("/wait") + HEALTHY)
        server.wait_until(lambda: "body 0" in server.app.seen)
        connection.close()
        server.call(server.app.respond.set)
        server.wait_until(lambda: not server.state.tasks)


@pytest.mark.parametrize("part", [b"POST /a HTTP/1.1\r\nHos", head("/a", LENGTH_2) + b"h", head("/a", LENGTH_2)])
def test_a_request_that_is_cut_short_is_told_so(path: Path | None, part: bytes) -> None:
    with serving(path=path) as server, server.connect() as connection:
        connection.sendall(HEALTHY + part)
        connection.shutdown(socket.SHUT_WR)
        content = received(connection)
        assert statuses(content) == [200, 400]
        assert b"ended within a request" in content
        if part.startswith(head("/a", LENGTH_2)):
            server.wait_until(lambda: server.app.seen[-1] == "disconnect")


def test_a_chunked_body_without_its_end_is_cut_short() -> None:
    with serving() as server, server.connect() as connection:
        connection.sendall(head("/a", "Transfer-Encoding: chunked") + b"2\r\nhi\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert statuses(received(connection)) == [400]
        server.wait_until(lambda: server.app.seen[-1] == "disconnect")


# ----------------------------------------------------------------------------------------------- responses nobody takes

BIG = 2**24
"""More than the system's buffers of a connection take."""


def stalled(server: Running, content: bytes) -> socket.socket:
    """A client that has asked, and takes nothing."""
    connection = server.connect(receive_buffer=2**12)
    connection.sendall(content)
    return connection


@pytest.mark.parametrize("field", ["", "Connection: close"])
def test_a_client_that_takes_nothing_is_broken_off(field: str) -> None:
    with serving(send_timeout=0.3) as server:
        server.app.size = BIG
        with stalled(server, head("/a", *filter(None, [field]))):
            server.wait_until(lambda: "/a" in server.app.seen)
            server.wait_until(lambda: len(server.connections) == 0)
            server.wait_until(lambda: server.app.release == ["/a"])  # send returns, and what it held is given back


def test_a_response_that_lies_in_the_transports_buffer_is_broken_off_too() -> None:
    """The application has long ended then: it waits for nothing that fits into the buffer."""
    with serving(send_timeout=0.3) as server:
        server.app.size = 40_000
        with stalled(server, HEALTHY):
            server.wait_until(lambda: len(server.protocols()) == 1)
            connection = server.protocols()[0]
            # until the system takes no more
            server.wait_until(
                lambda: server.call(lambda: connection.transport.write(b"z" * 2**20) or connection.flow.write_paused)
            )
            server.wait_until(lambda: len(server.connections) == 0)


def test_a_client_that_takes_a_byte_now_and_then_is_broken_off() -> None:
    with serving(send_timeout=0.3) as server:
        server.app.size = BIG
        with stalled(server, head("/a")) as connection:
            taken = 0
            while len(server.connections) or not server.app.seen:
                taken += len(connection.recv(1))
                assert taken < 1000
                time.sleep(0.01)


def test_a_client_that_takes_its_response_steadily_is_not_broken_off() -> None:
    with serving(send_timeout=0.2) as server:
        server.app.size = BIG
        with stalled(server, head("/a", "Connection: close")) as connection:
            taken = 0
            for _ in range(50):  # five times the limit: slowly, but steadily
                taken += len(connection.recv(2**12))
                time.sleep(0.02)
            assert len(server.connections) == 1
            assert taken + len(received(connection)) > BIG
            assert server.app.release == ["/a"]


def test_what_is_broken_off_is_reset() -> None:
    with serving(send_timeout=0.2) as server:
        server.app.size = BIG
        with stalled(server, head("/a")) as connection:
            server.wait_until(lambda: "/a" in server.app.seen)
            server.wait_until(lambda: len(server.connections) == 0)
            with pytest.raises(ConnectionResetError):
                received(connection)


# ------------------------------------------------------------------------------------------------------ nothing is left


def test_a_connection_leaves_nothing_behind() -> None:
    with serving(header_timeout=20, send_timeout=20) as server:
        server.app.size = 2
        for content in (
            b"",
            HEALTHY,
            HEALTHY * 3,
            HEALTHY[:20],
            head("/a", "Content-Length: 9") + b"h",
            head("/refuse", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 100,
            b"nonsense\r\n\r\n",
            head("/wait"),
            head("/wait") + HEALTHY * 2,
            *(b"G" for _ in range(40)),
        ):
            with server.connect() as connection:
                connection.sendall(content)
                time.sleep(0.01)
        with server.connect() as connection:
            for byte in HEALTHY[:40]:
                connection.sendall(bytes([byte]))
                time.sleep(0.001)
        server.wait_until(lambda: len(server.connections) == 0)
        server.wait_until(lambda: not server.state.tasks)
        server.wait_until(lambda: server.protocols() == [])
        assert not server.connections.busy
