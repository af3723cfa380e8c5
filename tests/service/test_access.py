"""Without a valid API key no request reaches more than the few paths that need none, however it is written."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import STARTUP_FAILURE

from service.app import Application, create_app
from service.settings import Settings
from tests.clients import ApplicationClient, application_client, free_port, running_server
from tests.service.test_serving import UPGRADE, Raw, await_the_interim_response, connected, received
from tests.waiting import wait_until

KEY = "a-key-of-the-tests-0123456789"
WITH_KEY = f"Authorization: Bearer {KEY}"
OPEN = [
    *("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"),
    *("/", "/docs", "/openapi.json"),
]
OPEN_FOLDERS = ("/playground/", "/docs/", "/static-offline-docs/", "/examples/")
BODY = b'{"mode":"max","kernel_size":2,"input":[[[[1],[2]],[[3],[4]]]]}'
ANSWER = b'{"output":[[[[4.0]]]]}\n'


def opened(method: str, path: str) -> bool:
    """What the README says needs no key."""
    return method in ("GET", "HEAD") and (path in OPEN or path.startswith(OPEN_FOLDERS))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("access") / "keys"
    path.write_text(f"{KEY}\n")
    return str(path)


# ------------------------------------------------------------------------------------------------------ every spelling


@pytest.fixture(scope="module")
def guarded(key_file: str) -> Iterator[ApplicationClient]:
    with application_client(create_app(Settings(api_keys_file=key_file))) as client:
        yield client


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def answer(app: Any, scope: dict[str, Any]) -> Answer:
    """An application's response to a request as a server hands it over."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    defaults = {"type": "http", "http_version": "1.1", "scheme": "http", "server": ("testserver", 80), "client": None}
    try:
        await app({**defaults, "query_string": b"", "headers": [], "state": {}, **scope}, receive, send)
    except Exception:  # noqa: BLE001  (which a server answers with 500 unless the application has)
        if not messages:
            return Answer(500, {}, b"")
    start, *rest = messages
    return Answer(start["status"], dict(start["headers"]), b"".join(part.get("body", b"") for part in rest))


def in_routes(routes: Any) -> Iterator[str]:
    for route in routes:
        if hasattr(route, "original_router"):  # where FastAPI keeps those of a router that was included
            yield from in_routes(route.original_router.routes)
        else:
            yield route.path


def routed(app: Application) -> Iterator[str]:
    """Every path that an application has a route for, with what its parameters may be."""
    values = {"model": ("pool_forward", "no_model"), "version": ("1", "2")}
    values |= {"operation": ("conv_forward", "nothing"), "file": ("input.npy", "request.json")}
    for path in [*in_routes(app.routes), *app._handlers]:
        named = [name for name in values if f"{{{name}}}" in path]
        for chosen in itertools.product(*(values[name] for name in named)):
            yield path.format(**dict(zip(named, chosen, strict=True)))


APPLICATION = create_app(Settings())
assert isinstance(APPLICATION, Application)
PATHS = sorted({*routed(APPLICATION), "/static-offline-docs/swagger-ui.css", "/metrics"})
METHODS = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "QUERY", "get", "post", ""]
PREFIXES = ["", "", "/convpool", "/docs", "/examples", "/v2", "/static-offline-docs/x", "/conv"]
BEFORE = ["", "", "/", "/docs/..", "/static-offline-docs/..", "/examples/..", "/health/live/../..", "/.", "/;", "/\n"]
AFTER = ["", "", "", "/", "//", "\n", "\0", "?", "#", ";", "/.", "/..", "/../../docs", ".json", " ", "\xff"]
RESPELLINGS: list[Callable[[str], str]] = [
    str,
    str,
    str.upper,
    str.title,
    lambda text: text.replace("/", "//"),
    lambda text: text.strip("/"),
]


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """A path of the service, or one that something on the way may take for it."""
    path = draw(st.sampled_from(BEFORE)) + draw(st.sampled_from(PATHS)) + draw(st.sampled_from(AFTER))
    return draw(st.sampled_from(RESPELLINGS))(path)


def test_there_are_routes_to_try() -> None:
    assert len(PATHS) > 60
    assert {"/conv/forward", "/v2/models/conv_forward/infer", "/ops", "/pool/shape", "/v2"} <= set(PATHS)
    files = [path for path in PATHS if path.startswith(("/playground/", "/docs/"))]
    assert len(files) > 10
    assert sum(opened("GET", path) for path in PATHS) == len(OPEN) + len(files) + 1 + 4


@given(
    method=st.sampled_from(METHODS),
    path=spelled(),
    prefix=st.sampled_from(PREFIXES),
    is_prefixed=st.booleans(),
    key=st.sampled_from([b"", b"Bearer", b"Bearer wrong", KEY.encode(), b"Basic " + KEY.encode()]),
)
def test_no_path_leads_past_the_key(
    guarded: ApplicationClient,
    client: ApplicationClient,
    method: str,
    path: str,
    prefix: str,
    is_prefixed: bool,
    key: bytes,
) -> None:
    whole = prefix + path if is_prefixed else path
    scope: dict[str, Any] = {"method": method, "path": whole, "raw_path": whole.encode(), "root_path": prefix}
    own_id = (b"x-request-id", b"the-same-in-all-responses")
    scope["headers"] = [own_id, (b"authorization", key)] if key else [own_id]
    response = guarded.call(lambda app: answer(app, scope))
    relative = whole.removeprefix(prefix) if whole.startswith(f"{prefix}/") else whole
    if opened(method, relative):
        assert response.status != 401
    else:
        assert response.status == 401
        assert response.headers[b"www-authenticate"] == b"Bearer"
    # with a key it is as if none were needed
    scope["headers"] = [own_id, (b"authorization", b"Bearer " + KEY.encode())]
    with_key, without = (each.call(lambda app: answer(app, scope)) for each in (guarded, client))
    assert with_key.status == without.status
    assert with_key.body == without.body or relative == "/openapi.json"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT"])
def test_every_route_needs_a_key_unless_it_is_named(guarded: ApplicationClient, method: str) -> None:
    for path in PATHS:
        response = guarded.request(method, path)
        assert (response.status_code == 401) == (not opened(method, path)), path


# --------------------------------------------------------------------------------------------------- over a real socket


@pytest.fixture(scope="module")
def url(key_file: str) -> Iterator[str]:
    with running_server("--api-keys-file", key_file, "--max-requests", "1") as (base_url, _):
        yield base_url


def sent(url: str, line: str, *fields: str, body: bytes = b"") -> Raw:
    """The response to a request whose first line and fields are written as given."""
    with connected(url) as connection:
        length = [f"Content-Length: {len(body)}"] if body else []
        connection.sendall("\r\n".join([line, *fields, *length, "", ""]).encode("latin-1") + body)
        return received(connection)


JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    "target",
    [
        "/pool/forward",
        "//pool/forward",
        "/pool//forward",
        "/pool/forward/",
        "/pool%2Fforward",
        "/%70ool/forward",
        "/pool/forward%0A",
        "/docs/../pool/forward",
        "/docs/%2e%2e/pool/forward",
        "/static-offline-docs/..%2f..%2fpool/forward",
        "/examples/../pool/forward",
        "http://testserver/pool/forward",
        "HTTP://testserver/pool/forward",
        "http://testserver/docs/../pool/forward",
        "http://testserver",
        "pool/forward",
        "*",
        "/v2/models/pool_forward/infer",
        "/v2/models/pool_forward/versions/1/infer",
        "/v2//models/pool_forward/infer",
        "/v2",
        "/v2/",
        "/metrics",
        "/health",
        "/health/live/x",
    ],
)
def test_no_target_leads_past_the_key(url: str, target: str) -> None:
    for method in ("POST", "GET", "OPTIONS", "PUT"):
        if opened(method, target.removeprefix("http://testserver") or "/"):
            continue
        response = sent(url, f"{method} {target} HTTP/1.1", "Host: testserver", JSON, "Connection: close", body=BODY)
        assert response.status_code == 401 or (response.status_code, target) == (400, "pool/forward")
        assert response.headers.get("www-authenticate") == ("Bearer" if response.status_code == 401 else None)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_a_request_with_a_key_is_answered_in_absolute_form_and_http_1_0_too(url: str) -> None:
    for line in (
        "POST /pool/forward HTTP/1.1",
        "POST http://testserver/pool/forward HTTP/1.1",
        "POST /pool/forward HTTP/1.0",
    ):
        response = sent(url, line, "Host: testserver", JSON, WITH_KEY, body=BODY)
        assert (response.status_code, response.content) == (200, ANSWER)


def test_a_key_is_valid_for_its_own_request_alone(url: str) -> None:
    """Not for the next one of its connection, be it sent after the response or before."""
    head = f"POST /pool/forward HTTP/1.1\r\nHost: testserver\r\n{JSON}\r\nContent-Length: {len(BODY)}\r\n"
    with_key, without = (f"{head}{field}\r\n".encode() + BODY for field in (f"{WITH_KEY}\r\n", ""))
    with connected(url) as connection:
        statuses = []
        for request in (with_key, without, with_key):
            connection.sendall(request)
            statuses.append(received(connection).status_code)
    assert statuses == [200, 401, 200]
    last = with_key.replace(b"Host:", b"Connection: close\r\nHost:")
    with connected(url) as connection:
        connection.sendall(with_key + without + last)
        everything = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+)", everything) == [b"200", b"401", b"200"]


def test_a_client_that_waits_is_told_before_it_sends_anything(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"POST /pool/forward HTTP/1.1\r\nHost: testserver\r\nContent-Length: 9\r\n")
        connection.sendall(b"Expect: 100-continue\r\n\r\n")
        expected = b"HTTP/1.1 401 "
        assert connection.recv(len(expected), socket.MSG_WAITALL) == expected


def test_a_refused_request_takes_no_place(url: str) -> None:
    """The server takes one at a time."""
    head = f"POST /pool/forward HTTP/1.1\r\nHost: testserver\r\n{JSON}\r\n{WITH_KEY}\r\nExpect: 100-continue\r\n"
    with connected(url) as connection:
        connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode())
        await_the_interim_response(connection)
        refused = sent(url, "POST /pool/forward HTTP/1.1", "Host: testserver", JSON, body=BODY)
        assert refused.status_code == 401
        connection.sendall(BODY)
        assert received(connection).content == ANSWER


def test_offers_of_http_2_need_a_key_too(url: str) -> None:
    response = sent(url, "POST /pool/forward HTTP/1.1", "Host: testserver", JSON, *UPGRADE, body=BODY)
    assert response.status_code == 401
    response = sent(url, "POST /pool/forward HTTP/1.1", "Host: testserver", JSON, WITH_KEY, *UPGRADE, body=BODY)
    assert (response.status_code, response.content) == (200, ANSWER)


def test_a_server_does_not_start_with_an_unusable_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "serve", "--port", str(free_port()), "--workers", "2"]
    ended = subprocess.run(
        [*command, "--api-keys-file", str(tmp_path / "none")], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == STARTUP_FAILURE
    assert "cannot be read: No such file or directory" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_running_server_reads_a_changed_file_and_logs_no_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, other = tmp_path / "keys", "another-key-0123456789"
    path.write_text(f"{KEY}\n")
    with running_server("--api-keys-file", str(path)) as (base_url, _):

        def is_valid(key: str) -> bool:
            status = httpx.get(f"{base_url}/ops?key={key}", headers={"Authorization": f"Bearer {key}"}).status_code
            assert status in (200, 401)
            return status == 200

        assert is_valid(KEY)
        assert not is_valid(other)
        path.with_suffix(".new").write_text(f"{other}\n")
        path.with_suffix(".new").replace(path)
        wait_until(lambda: is_valid(other) and not is_valid(KEY))
    logged = capfd.readouterr().err
    assert "API keys required: 1 in " in logged
    assert KEY not in logged
    assert other not in logged
