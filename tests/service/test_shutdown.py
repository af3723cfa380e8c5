"""How the server ends: what has been accepted is served, what will not be served is not accepted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import httpx
import orjson
import pytest

from tests.clients import running_server
from tests.service.test_serving import (
    BODY,
    JSON,
    assert_answer,
    assert_problem,
    await_the_interim_response,
    head,
    received,
)
from tests.service.test_workers import children_of, has_proc, wait_for_workers
from tests.waiting import wait_until

SECONDS = 120.0

GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

Ending = Callable[[], subprocess.Popen[bytes]]


@contextlib.contextmanager
def connected(base_url: str) -> Iterator[socket.socket]:
    url = httpx.URL(base_url)
    with socket.create_connection((url.host, url.port or 0), timeout=SECONDS) as connection:
        yield connection


def processes_of(process: subprocess.Popen[bytes], workers: int) -> list[int]:
    """Those that serve."""
    return [process.pid] if workers == 1 else wait_for_workers(process.pid, without=set())


def fate_of_new_connection(base_url: str) -> str:
    """What becomes of a client that connects now."""
    try:
        return str(httpx.get(f"{base_url}/health/live", timeout=SECONDS).status_code)
    except httpx.ConnectError as error:
        return "refused" if "refused" in str(error) else repr(error)
    except httpx.TransportError as error:
        return repr(error)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_accepted_is_served_and_the_rest_is_refused(workers: int) -> None:
    with running_server("--workers", str(workers)) as (url, process), connected(url) as long, connected(url) as kept:
        processes_of(process, workers)
        kept.sendall(GET)
        assert received(kept).headers["connection"] is None
        long.sendall(head(JSON, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        await_the_interim_response(long)
        process.send_signal(signal.SIGTERM)
        fates: list[str] = []

        def is_refused() -> bool:
            fates.append(fate_of_new_connection(url))
            return fates[-1] == "refused"

        wait_until(is_refused, state=lambda: fates)  # at once, while a request is in progress
        assert set(fates) <= {"200", "refused"}
        long.sendall(BODY)
        response = received(long)
        assert_answer(response)
        assert response.headers["connection"] == "close"
        assert process.wait(SECONDS) == 0


@has_proc
@pytest.mark.parametrize("workers", [1, 2])
def test_connections_that_wait_to_be_accepted_are_served(workers: int) -> None:
    with running_server("--workers", str(workers)) as (url, process), contextlib.ExitStack() as connections:
        serving = processes_of(process, workers)
        for pid in serving:
            os.kill(pid, signal.SIGSTOP)
        waiting = [connections.enter_context(connected(url)) for _ in range(8)]
        for connection in waiting:
            connection.sendall(GET)
        process.send_signal(signal.SIGTERM)
        if workers > 1:
            wait_until_not_connectable(url)  # though the workers still have the socket
        for pid in serving:
            with contextlib.suppress(ProcessLookupError):  # one that did not serve yet was killed
                os.kill(pid, signal.SIGCONT)
        for connection in waiting:
            assert received(connection).status_code == 200
        assert process.wait(SECONDS) == 0


def wait_until_not_connectable(base_url: str) -> None:
    url = httpx.URL(base_url)

    def is_not_connectable() -> bool:
        try:
            with socket.create_connection((url.host, url.port or 0), timeout=0.3) as connection:
                connection.shutdown(socket.SHUT_WR)  # of those that came in time, nothing is expected
        except OSError:
            return True
        return False

    wait_until(is_not_connectable)


@pytest.mark.parametrize("workers", [1, 2])
def test_load_balancers_are_told_before_connections_are_refused(workers: int) -> None:
    arguments = ("--workers", str(workers), "--shutdown-delay", "600")
    with running_server(*arguments) as (url, process), connected(url) as kept:
        processes_of(process, workers)
        kept.sendall(GET)
        assert received(kept).status_code == 200
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/health/ready", timeout=SECONDS).status_code != 200)
        ready = httpx.get(f"{url}/health/ready", timeout=SECONDS)
        assert ready.status_code == 503
        assert ready.headers["content-type"] == "application/problem+json"
        assert ready.json()["errors"][0]["got"] == "a request"
        inference = httpx.get(f"{url}/v2/health/ready", timeout=SECONDS)
        assert (inference.status_code, inference.json()) == (503, {"ready": False, "live": True})
        model = httpx.get(f"{url}/v2/models/conv_forward/ready", timeout=SECONDS)
        assert (model.status_code, model.json()) == (503, {"name": "conv_forward", "ready": False})
        for path in ("/health/live", "/v2/health/live"):
            assert httpx.get(url + path, timeout=SECONDS).status_code == 200
        assert_answer(httpx.post(f"{url}/conv/forward", json=orjson.loads(BODY), timeout=SECONDS))
        process.send_signal(signal.SIGINT)  # which waits for nothing
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kept_alive_connection_may_send_one_more_request(workers: int) -> None:
    """The client of a connection that is closed cannot tell whether its request was begun."""
    with running_server("--workers", str(workers)) as (url, process), connected(url) as kept, connected(url) as long:
        processes_of(process, workers)
        kept.sendall(GET)
        assert received(kept).status_code == 200
        long.sendall(head(JSON, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        await_the_interim_response(long)
        process.send_signal(signal.SIGTERM)
        told = None
        while told is None:  # it may take a moment until the server ends
            kept.sendall(GET)
            response = received(kept)
            assert response.status_code == 200
            told = response.headers["connection"]
        assert told == "close"
        assert kept.recv(1) == b""
        long.sendall(BODY)
        assert_answer(received(long))
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_server_ends_with_status_0(sent: signal.Signals, workers: int) -> None:
    with running_server("--workers", str(workers)) as (url, process), connected(url) as kept:
        serving = processes_of(process, workers)
        kept.sendall(GET)
        assert received(kept).status_code == 200
        process.send_signal(sent)
        assert process.wait(SECONDS) == 0
        assert kept.recv(1) == b""
        assert workers == 1 or not set(serving) & set(children_of(process.pid))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_never_ends_is_given_up(workers: int) -> None:
    arguments = ("--workers", str(workers), "--graceful-shutdown", "1")
    with running_server(*arguments) as (url, process), connected(url) as stuck:
        stuck.sendall(head(JSON, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        await_the_interim_response(stuck)
        process.send_signal(signal.SIGTERM)
        response = received(stuck)
        assert_problem(response, 503)
        assert "retry-after" in response.headers
        assert process.wait(SECONDS) == 0
