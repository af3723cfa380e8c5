"""``convpool serve`` in processes of its own, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx
import numpy as np
import orjson
import pytest

from tests.clients import running_server
from tests.waiting import wait_until

SECONDS = 30
"""Within which everything must have happened; none of the tests is about speed."""
BODY_CAP = 10_000
REQUEST = {"input": [[[[1], [2]], [[3], [4]]]], "weight": [[[[10]]]], "bias": [0.5]}
BODY = orjson.dumps(REQUEST)
ANSWER = {"output": [[[[10.5], [20.5]], [[30.5], [40.5]]]]}
JSON = "Content-Type: application/json"
UPGRADE = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
"""What Java's HttpClient says with the first request on a connection."""


@pytest.fixture(scope="module")
def capped_url() -> Iterator[str]:
    """The base URL of a server that takes small bodies only."""
    with running_server(CONVPOOL_MAX_BODY_BYTES=str(BODY_CAP), CONVPOOL_LOG_LEVEL="warning") as (base_url, _):
        yield base_url


# ------------------------------------------------------------------------------------------------------------- helpers


class Raw(NamedTuple):
    """An answer as it came over a socket."""

    status_code: int
    headers: http.client.HTTPMessage
    content: bytes


@contextlib.contextmanager
def connected(base_url: str) -> Iterator[socket.socket]:
    url = httpx.URL(base_url)
    with socket.create_connection((url.host, url.port or 80), timeout=SECONDS) as connection:
        yield connection


def head(*fields: str) -> bytes:
    return "\r\n".join(["POST /conv/forward HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


def received(connection: socket.socket) -> Raw:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Raw(response.status, response.headers, response.read())


def await_the_interim_response(connection: socket.socket) -> None:
    """Read "100 Continue": the server has begun with the request, and waits for its body."""
    expected = b"HTTP/1.1 100 "
    assert connection.recv(len(expected), socket.MSG_WAITALL) == expected
    end = b""
    while not end.endswith(b"\r\n\r\n"):
        end += connection.recv(1)


def is_waiting(connection: socket.socket) -> bool:
    """Whether nothing has come over a connection yet."""
    return not select.select([connection], [], [], 0)[0]


def is_refused(base_url: str) -> bool:
    try:
        with connected(base_url):
            return False
    except ConnectionRefusedError:
        return True


def assert_answer(response: httpx.Response | Raw) -> None:
    assert response.status_code == 200, response.content
    assert orjson.loads(response.content) == ANSWER


def assert_problem(response: httpx.Response | Raw, status: int) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = orjson.loads(response.content)
    # malformed HTTP has no id
    assert problem.pop("request_id", None) == response.headers.get("x-request-id")
    assert set(problem) == {"type", "title", "status", "detail", "errors"}
    assert problem["status"] == status


class LongCall:
    """A convolution of ones; with two images it keeps one thread busy for a second or so. Its body is small."""

    size, kernel, channels, filters = 160, 15, 32, 64

    def __init__(self, images: int) -> None:
        self.images = images

    def send(self, connection: socket.socket) -> None:
        body = io.BytesIO()
        np.savez_compressed(
            body,
            input=np.ones((self.images, self.size, self.size, self.channels)),
            weight=np.ones((self.kernel, self.kernel, self.channels, self.filters)),
        )
        fields = ("Content-Type: application/x-npz", f"Content-Length: {len(body.getvalue())}")
        connection.sendall(head(*fields) + body.getvalue())

    def assert_complete(self, response: Raw) -> None:
        assert response.status_code == 200, response.content
        output = np.load(io.BytesIO(response.content))
        assert output.shape == (self.images, *[self.size - self.kernel + 1] * 2, self.filters)
        assert np.all(output == self.kernel * self.kernel * self.channels)


# --------------------------------------------------------------------------------------------- start, health and stop


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health(server_url: str, path: str) -> None:
    response = httpx.get(server_url + path)
    assert response.status_code == 200
    assert response.json() == {"status": path.removeprefix("/health/")}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_request_is_finished_after_sigterm(workers: int) -> None:
    with (
        running_server("--workers", str(workers)) as (base_url, process),
        httpx.Client() as idle,
        connected(base_url) as connection,
    ):
        assert idle.get(f"{base_url}/health/live").status_code == 200  # and the connection stays open
        connection.sendall(head(JSON, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        await_the_interim_response(connection)
        assert httpx.post(f"{base_url}/conv/forward", json=REQUEST, timeout=SECONDS).json() == ANSWER
        process.send_signal(signal.SIGTERM)
        if workers == 1:  # with several, the process that starts them holds the port until they have ended
            wait_until(lambda: is_refused(base_url))
        connection.sendall(BODY)
        assert_answer(received(connection))
        assert process.wait(SECONDS) == 0
        assert is_refused(base_url)


def test_an_idle_server_stops_with_status_0_on_sigint() -> None:
    with running_server() as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


# ------------------------------------------------------------------------------------------------------------ requests


def test_health_is_answered_while_a_long_computation_runs(server_url: str) -> None:
    was_running = False
    images = 1
    while not was_running:  # until it takes longer than the answers about health, on however fast a machine
        images *= 2
        call = LongCall(images)
        with connected(server_url) as connection:
            call.send(connection)
            for _ in range(3):
                assert httpx.get(f"{server_url}/health/live", timeout=SECONDS).status_code == 200
            was_running = is_waiting(connection)
            call.assert_complete(received(connection))


def test_concurrent_requests_give_the_results_of_lone_ones(server_url: str) -> None:
    generator = np.random.default_rng(0)
    bodies = [
        {
            "input": generator.standard_normal((2, 9, 9, 3)).tolist(),
            "weight": generator.standard_normal((3, 3, 3, 4)).tolist(),
            "padding": index % 3,
        }
        for index in range(8)
    ]
    with httpx.Client(base_url=server_url, timeout=SECONDS) as client, ThreadPoolExecutor(16) as threads:
        lone = [client.post("/conv/forward", json=body).json() for body in bodies]
        assert all("output" in answer for answer in lone)
        together = list(threads.map(lambda body: client.post("/conv/forward", json=body).json(), bodies * 8))
    assert together == lone * 8


def test_a_connection_serves_several_requests(server_url: str) -> None:
    url = httpx.URL(server_url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.connect()
        first = connection.sock
        # a refused body too must leave the connection fit for what follows
        for media_type, status in [("application/json", 200), ("text/plain", 415), ("application/json", 200)]:
            connection.request("POST", "/conv/forward", BODY, {"Content-Type": media_type})
            response = connection.getresponse()
            assert response.status == status
            assert "output" in orjson.loads(response.read()) or status == 415
            assert connection.sock is first


def test_a_chunked_body_is_read(server_url: str) -> None:
    chunks = (BODY[start : start + 7] for start in range(0, len(BODY), 7))
    response = httpx.post(f"{server_url}/conv/forward", content=chunks, headers={"Content-Type": "application/json"})
    assert "content-length" not in response.request.headers
    assert_answer(response)


def test_a_chunked_body_over_the_cap_is_refused(capped_url: str) -> None:
    chunks = (b" " * 1000 for _ in range(BODY_CAP // 1000 + 1))
    response = httpx.post(f"{capped_url}/conv/forward", content=chunks, headers={"Content-Type": "application/json"})
    assert_problem(response, 413)


def test_a_body_in_pieces_is_read(server_url: str) -> None:
    with connected(server_url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = head(JSON, f"Content-Length: {len(BODY)}") + BODY
        for start in range(0, len(request), 50):
            connection.sendall(request[start : start + 50])
        assert_answer(received(connection))


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_offer_of_http_2_does_not_lose_the_body(server_url: str, pieces: int) -> None:
    with connected(server_url) as connection:
        fields = head(JSON, f"Content-Length: {len(BODY)}", *UPGRADE)
        if pieces == 1:
            connection.sendall(fields + BODY)
        else:
            connection.sendall(fields)
            assert httpx.get(f"{server_url}/health/live").status_code == 200  # the server has seen the fields
            connection.sendall(BODY)
        assert_answer(received(connection))
        connection.sendall(head(JSON, f"Content-Length: {len(BODY)}") + BODY)
        assert_answer(received(connection))


def test_a_body_that_is_waited_for_is_asked_for(server_url: str) -> None:
    with connected(server_url) as connection:
        connection.sendall(head(JSON, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        await_the_interim_response(connection)
        connection.sendall(BODY)
        assert_answer(received(connection))


def test_a_body_over_the_cap_is_not_asked_for(capped_url: str) -> None:
    with connected(capped_url) as connection:
        connection.sendall(head(JSON, f"Content-Length: {BODY_CAP + 1}", "Expect: 100-continue"))
        expected = b"HTTP/1.1 413 "
        assert connection.recv(len(expected), socket.MSG_PEEK | socket.MSG_WAITALL) == expected
        assert_problem(received(connection), 413)


@pytest.mark.parametrize("connection_field", ["keep-alive", "close"])
@pytest.mark.parametrize(("media_type", "status"), [("application/json", 413), ("text/plain", 415)])
def test_a_client_that_sends_on_still_gets_the_refusal(
    capped_url: str, connection_field: str, media_type: str, status: int
) -> None:
    """A server that closes with data unread resets the connection, and many clients then never see the answer."""
    url = httpx.URL(capped_url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=SECONDS)
    with contextlib.closing(connection):
        fields = {"Content-Type": media_type, "Connection": connection_field}
        connection.request("POST", "/conv/forward", bytes(32 * 2**20), fields)
        response = connection.getresponse()
        assert_problem(Raw(response.status, response.headers, response.read()), status)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/conv/forward", 405, "POST"),
        ("PUT", "/pool/backward", 405, "POST"),
        ("OPTIONS", "/conv/forward", 405, "POST"),
        ("OPTIONS", "/ops", 405, "GET"),
        ("POST", "/ops", 405, "GET"),
        ("GET", "/nothing", 404, None),
        ("OPTIONS", "/nothing", 404, None),
        ("POST", "/conv", 404, None),
        ("POST", "/conv/sideways", 404, None),
        ("GET", "/examples/conv_forward/nothing.npy", 404, None),
        ("GET", "/examples/nothing/input.npy", 404, None),
        ("GET", "/%ff%00", 404, None),
    ],
)
def test_wrong_methods_and_paths_are_problems(
    server_url: str, method: str, path: str, status: int, allowed: str | None
) -> None:
    response = httpx.request(method, server_url + path)
    assert_problem(response, status)
    assert response.headers.get("allow") == allowed


def test_head_is_answered_without_a_body(server_url: str) -> None:
    with httpx.Client(base_url=server_url) as client:
        for path, status in [("/conv/forward", 405), ("/nothing", 404), ("/examples/conv_forward/input.npy", 200)]:
            response = client.head(path)
            assert response.status_code == status
            expected = "application/x-npy" if status == 200 else "application/problem+json"
            assert response.headers["content-type"] == expected
            assert response.content == b""
        assert client.get("/health/live").json() == {"status": "live"}  # on the same connection
