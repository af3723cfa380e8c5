"""What a call raises, what it says, and when a call is repeated."""

from __future__ import annotations

import asyncio
import http.server
import io
import itertools
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convpool.client import (
    AsyncClient,
    BadGateway,
    Busy,
    CallError,
    Client,
    InvalidRequest,
    Problem,
    Retries,
    ServerGone,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    errors,
)
from service.app import create_app
from service.http.error_responses import KINDS
from service.settings import Settings
from tests.clients import free_port

OPERANDS = {"input": np.ones((1, 3, 1)), "weight": np.ones((2, 1, 1))}
AT_ONCE = Retries(attempts=4, first_pause=0)


def test_every_kind_of_problem_is_an_exception_of_its_name() -> None:
    ours = {status: kind.__name__ for status, kind in errors.KINDS.items()}
    theirs = {kind.status: problem.__name__ for problem, kind in KINDS.items()}
    theirs |= {422: "InvalidRequest", 429: "TooManyRequests"}  # ConvpoolError and AddressLimit, as their titles say
    theirs |= {502: "BadGateway"}  # which only a proxy says
    assert ours == theirs


def test_an_error_names_each_fault_and_the_request(local: Client) -> None:
    with pytest.raises(InvalidRequest) as raised:
        local.conv_forward(**OPERANDS, stride=0, paddding=1)
    error = raised.value
    assert (error.status, error.title) == (422, "Invalid request")
    assert [finding.pointer for finding in error.findings] == ["/stride", "/paddding"]
    assert error.findings[0].got == "0"
    assert error.findings[0].expected.startswith("an integer from 1")
    first, *faults, last = str(error).splitlines()
    assert first == "Invalid request (422)"
    assert [fault.split(":")[0].strip() for fault in faults] == ["/stride", "/paddding"]
    assert last == f"  request id: {error.request_id}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def scripted(*responses: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A server that gives one response after the other, the last one again and again; and what it was sent."""
    sent: list[httpx.Request] = []
    following = itertools.chain(responses, itertools.repeat(responses[-1]))

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        response = next(following)
        if isinstance(response, Exception):
            raise response
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)

    return httpx.MockTransport(respond), sent


def busy(retry_after: str | None = None, status: int = 503) -> httpx.Response:
    return httpx.Response(status, headers={} if retry_after is None else {"Retry-After": retry_after})


def right() -> httpx.Response:
    body = io.BytesIO()
    np.savez(body, output=[2.0, 2.0])
    return httpx.Response(200, headers={"Content-Type": "application/x-npz"}, content=body.getvalue())


def both_call(transport: httpx.MockTransport, retries: Retries = AT_ONCE) -> Iterator[Callable[[], Any]]:
    """A call by each of the clients."""

    def call() -> Any:
        with Client("http://server", transport=transport, retries=retries) as client:
            return client.conv_forward(**OPERANDS)

    async def awaited() -> Any:
        async with AsyncClient("http://server", transport=transport, retries=retries) as client:
            return await client.conv_forward(**OPERANDS)

    yield call
    yield lambda: asyncio.run(awaited())


@pytest.mark.parametrize(
    "first",
    [
        busy("0"),
        busy(format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), status=429),
        busy("when it suits"),
        busy(),
        httpx.Response(502, text="<html>"),  # of a proxy whose server has ended
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("too late"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
    ],
    ids=lambda first: f"{first!r:.40}",
)
def test_a_call_is_repeated_while_the_server_is_busy_or_gone(
    first: httpx.Response | Exception,
) -> None:
    for index in range(2):
        transport, sent = scripted(first, first, right())
        output = list(both_call(transport))[index]()
        assert output.ravel().tolist() == [2, 2]
        assert len(sent) == 3
        assert len({request.content for request in sent}) == 1


def test_a_call_is_repeated_over_a_socket_too() -> None:
    steps = iter([None, httpx.Response(503, headers={"Retry-After": "0"}), right()])
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            response = next(steps)
            if response is not None:  # else the connection ends without one
                self.send_response(response.status_code)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(response.content)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}", retries=AT_ONCE) as client:
            assert client.conv_forward(**OPERANDS).ravel().tolist() == [2, 2]
        server.shutdown()
        thread.join()
    assert len(received) == 3
    assert len(set(received)) == 1


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx.Response(400), errors.UnreadablePayload),
        (httpx.Response(401), Unauthorized),
        (httpx.Response(413), TooLarge),
        (httpx.Response(500, text="<html>"), Problem),
        (httpx.Response(422, headers={"Content-Type": "application/problem+json"}, text="["), InvalidRequest),
        (httpx.Response(504), Problem),
        (httpx.ReadTimeout("slow"), TimedOut),
        (busy("3600"), Busy),
        (httpx.Response(200, headers={"Content-Type": "text/html"}, text="<html>"), CallError),
    ],
)
def test_what_would_not_go_away_is_raised_at_once(response: httpx.Response | Exception, kind: type[CallError]) -> None:
    for index in range(2):
        transport, sent = scripted(response)
        with pytest.raises(kind) as raised:
            list(both_call(transport))[index]()
        assert type(raised.value) is kind
        assert len(sent) == 1


def test_repeating_ends() -> None:
    endless: dict[type[CallError], httpx.Response | Exception] = {
        Busy: busy(),
        TooManyRequests: busy(status=429),
        BadGateway: httpx.Response(502),
        ServerGone: httpx.ConnectError("refused"),
    }
    for kind, response in endless.items():
        transport, sent = scripted(response)
        with pytest.raises(kind):
            next(both_call(transport))()
        assert len(sent) == AT_ONCE.attempts


@given(
    st.integers(1, 10),
    st.floats(0, 100),
    st.one_of(st.none(), st.floats(0, 1000)),
    st.builds(Retries, st.integers(1, 10), st.floats(0, 100), st.floats(0, 10)),
)
def test_a_pause_is_as_long_as_asked_and_not_longer_than_there_is_patience(
    attempt: int, elapsed: float, asked: float | None, retries: Retries
) -> None:
    error = Busy(503, "Busy", retry_after=asked)
    try:
        pause = retries.pause(attempt, elapsed, error)
    except Busy:
        longest = (asked or 0) + retries.first_pause * 2 ** (attempt - 1)
        assert attempt >= retries.attempts or elapsed + longest > retries.patience
    else:
        assert attempt < retries.attempts
        assert pause >= (asked or 0)
        assert elapsed + pause <= retries.patience


def test_retry_after_is_seconds_or_a_date() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    for value, expected in {"7": 7, " 7 ": 7, in_a_minute: 60, "soon": None, "-1": None, "": None}.items():
        error = errors.problem_of(httpx.Response(503, headers={"Retry-After": value}))
        assert error.retry_after == (None if expected is None else pytest.approx(expected, abs=30)), value


def test_what_is_not_ours_is_described_by_its_status() -> None:
    transport, _ = scripted(httpx.Response(502, headers={"X-Request-ID": "abc"}, text="<html>secret</html>"))
    with pytest.raises(Problem) as raised:
        next(both_call(transport))()
    assert str(raised.value) == "Bad Gateway (502)\n  request id: abc"
    odd = {"title": 7, "errors": [1, {"message": "m"}], "detail": None}
    response = httpx.Response(422, headers={"Content-Type": "application/problem+json"}, text=json.dumps(odd))
    assert str(errors.problem_of(response)) == "7 (422)\n  m"


def test_a_server_that_is_not_there() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", retries=Retries(attempts=1))
    with client, pytest.raises(ServerGone, match=r"no server answers at .*convpool serve.*CONVPOOL_URL"):
        client.conv_forward(**OPERANDS)


def test_a_url_and_a_key_come_from_arguments_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    transport, sent = scripted(httpx.Response(404))
    monkeypatch.setenv("CONVPOOL_URL", "https://named.example/below/")
    monkeypatch.setenv("CONVPOOL_API_KEY", "of the environment")
    for options in ({}, {"base_url": "http://given.example", "api_key": "given"}):
        with Client(transport=transport, **options) as client, pytest.raises(Problem):  # type: ignore[arg-type]
            client.conv_forward(**OPERANDS, stride=(2, 1))
    first, second = sent
    assert str(first.url) == "https://named.example/below/conv/forward?stride=%5B2%2C1%5D"
    assert first.headers["Authorization"] == "Bearer of the environment"
    assert second.url.host == "given.example"
    assert second.headers["Authorization"] == "Bearer given"
    assert first.headers["Content-Type"] == "application/x-npz"


def test_a_url_must_be_one() -> None:
    with pytest.raises(ValueError, match="begins with http"):
        Client("localhost:8000")
    with pytest.raises(ValueError, match="not both"):
        Client("http://localhost:8000", local=True)


def test_a_server_that_wants_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{'secret' * 8}\n")
    keys.chmod(0o600)

    async def called(**options: Any) -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            AsyncClient("http://server", transport=transport, **options) as client,
        ):
            return await client.conv_forward(**OPERANDS)

    app = create_app(Settings(api_keys_file=str(keys)))
    with pytest.raises(Unauthorized):
        asyncio.run(called())
    assert asyncio.run(called(api_key="secret" * 8)).shape == (1, 2, 1)
