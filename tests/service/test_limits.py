"""A request's body is limited in its size, in what it inflates to and in its time."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
import pytest

from tests.comparisons import normal
from tests.service import payloads
from tests.service.payloads import JSON, NPZ, application, json_body, limited

CALL = {"input": [[[1.0], [2.0], [4.0]]], "weight": [[[1.0]], [[-1.0]]]}
BODY = json.dumps(CALL).encode()
ANSWER = {"output": [[[-1.0], [-2.0]]]}
SECONDS = 20


# ------------------------------------------------------------------------------------------------------------ raw calls


@dataclass
class Raw:
    """One call of an application by hand, ASGI message by message.

    With ``ends_after_the_body`` what ``ends`` says comes after a whole body, else in place of its last part. With
    ``expects`` the client waits for the server's word before it sends the body, so the first message that the
    application asks for is that word.
    """

    content_length: object = len(BODY)
    parts: Iterable[bytes] = (BODY,)
    ends: str = "http.request"
    before_the_end: Callable[[], Awaitable[Any]] | None = None
    content_type: str = JSON
    path: str = "/conv/forward"
    query: bytes = b""
    drips: bool = False
    expects: bool = False
    ends_after_the_body: bool = False
    received: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, app: Any) -> Raw:
        headers = [(b"content-type", self.content_type.encode())]
        if self.content_length is not None:
            headers.append((b"content-length", str(self.content_length).encode()))
        if self.expects:
            headers.append((b"expect", b"100-continue"))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        parts = iter(self.parts)

        async def receive() -> dict[str, Any]:
            self.received += 1
            for part in parts:
                return {"type": "http.request", "body": part, "more_body": not self.ends_after_the_body}
            if self.before_the_end is not None:
                await self.before_the_end()
            if self.drips:
                return {"type": "http.request", "body": b" ", "more_body": True}
            return {"type": self.ends, "body": b"", "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            self.sent.append(dict(message))

        with anyio.fail_after(SECONDS):
            await app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        (status,) = [message["status"] for message in self.sent if message["type"] == "http.response.start"]
        return int(status)

    @property
    def headers(self) -> dict[bytes, bytes]:
        (headers,) = [message["headers"] for message in self.sent if message["type"] == "http.response.start"]
        return dict(headers)

    @property
    def answer(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))

    def assert_refused(self, status: int) -> None:
        assert self.status == status, self.answer
        assert self.headers[b"content-type"] == payloads.PROBLEM.encode()
        assert self.answer["status"] == status
        assert self.answer["detail"]

    def assert_answered(self) -> None:
        assert self.status == 200, self.answer
        assert self.answer == ANSWER


def with_app(story: Callable[[Any], Awaitable[None]], **settings: Any) -> None:
    """Run calls of one application inside its lifespan."""

    async def run() -> None:
        app = application(**settings)
        async with app.router.lifespan_context(app):
            await story(app)

    anyio.run(run)


def call_alone(raw: Raw, **settings: Any) -> Raw:
    async def story(app: Any) -> None:
        await raw.call(app)

    with_app(story, **settings)
    return raw


# ------------------------------------------------------------------------------------------------------------- the body


def test_a_raw_call_is_answered() -> None:
    call_alone(Raw()).assert_answered()
    call_alone(Raw(parts=[BODY[:5], b"", BODY[5:20], BODY[20:]])).assert_answered()
    call_alone(Raw(content_length=None)).assert_answered()


@pytest.mark.parametrize("content_type", [JSON, NPZ, "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("length", [1001, 10**12, 10**15])
def test_a_declared_body_over_the_cap_is_refused_unasked(content_type: str, length: int) -> None:
    raw = Raw(length, content_type=content_type, expects=True)
    call_alone(raw, max_body_bytes=1000, max_json_bytes=10**6)
    raw.assert_refused(413)
    assert raw.received == 0
    assert "1000" in raw.answer["detail"]


@pytest.mark.parametrize("content_length", [None, 900])
def test_a_body_that_grows_over_the_cap_is_not_read_on(content_length: int | None) -> None:
    refused = {413} if content_length is None else {400, 413}
    raw = call_alone(Raw(content_length, parts=[b" " * 300] * 1000, expects=True), max_body_bytes=1000)
    assert raw.status in refused, raw.answer
    assert raw.received <= 5
    with payloads.little_memory():  # a client that does not wait for an answer may be heard to the end, but not kept
        raw = call_alone(Raw(content_length, parts=[b" " * 10**6] * 100), max_body_bytes=1000)
    assert raw.status in refused, raw.answer


def test_a_body_as_large_as_the_cap_is_read() -> None:
    call_alone(Raw(), max_body_bytes=len(BODY)).assert_answered()
    call_alone(Raw(content_length=None), max_body_bytes=len(BODY)).assert_answered()
    call_alone(Raw(), max_body_bytes=len(BODY) - 1).assert_refused(413)
    call_alone(Raw(content_length=None), max_body_bytes=len(BODY) - 1).assert_refused(413)


@pytest.mark.parametrize("content_length", [len(BODY), None])
def test_json_has_a_cap_of_its_own(content_length: int | None) -> None:
    call_alone(Raw(content_length), max_json_bytes=len(BODY)).assert_answered()
    raw = call_alone(Raw(content_length, expects=True), max_json_bytes=len(BODY) - 1)
    raw.assert_refused(413)
    if content_length is not None:
        assert raw.received == 0


def test_the_cap_of_json_is_none_of_npz() -> None:
    operands = {"input": normal(1, 4, 1), "weight": normal(2, 1, 1)}
    with limited(max_json_bytes=10) as client:
        assert client.post("/conv/forward", **payloads.npz_request(operands, {})).status_code == 200
        payloads.refused(client, "/conv/shape", 413, **json_body({"shapes": {"input": [1, 4, 1]}}))


@pytest.mark.parametrize("length", [len(BODY) + 1, len(BODY) * 2, 30_000_000])
@pytest.mark.parametrize("parts", [[], [b""], [BODY], [BODY[:1]]])
def test_a_body_shorter_than_its_declared_length_is_refused(length: int, parts: list[bytes]) -> None:
    call_alone(Raw(length, parts=parts)).assert_refused(400)


@pytest.mark.parametrize("length", [0, 1, len(BODY) - 1])
def test_a_body_longer_than_its_declared_length_is_refused(length: int) -> None:
    raw = call_alone(Raw(length))
    assert raw.status in {400, 413}


@pytest.mark.parametrize("length", ["", "x", "-1", "1.0", "1e2", "+80", "0x50", "8_0", "80, 80", "٨٠", "9" * 5000])
def test_a_content_length_that_is_no_number(length: str) -> None:
    call_alone(Raw(length)).assert_refused(400)


def test_a_client_that_goes_away_is_no_error() -> None:
    """Nobody reads the answer, but the application must not raise, and the next request is served."""

    async def story(app: Any) -> None:
        for parts in ([], [BODY[:9]], [BODY]):
            await Raw(len(BODY) + 1, parts=parts, ends="http.disconnect").call(app)
        (await Raw().call(app)).assert_answered()

    with_app(story, max_requests=1, max_memory_bytes=2**14)


def test_a_body_that_does_not_come_in_time() -> None:
    raw = call_alone(Raw(parts=[BODY[:9]], before_the_end=anyio.sleep_forever, expects=True), body_timeout=0.1)
    raw.assert_refused(408)


def test_a_body_that_drips_does_not_come_in_time_either() -> None:
    async def drip() -> None:
        await anyio.sleep(0.01)

    raw = call_alone(Raw(10_000, before_the_end=drip, drips=True, expects=True), body_timeout=0.2)
    raw.assert_refused(408)
    assert 1 < raw.received < 100


def test_a_body_that_comes_steadily_may_take_longer() -> None:
    async def wait() -> None:
        await anyio.sleep(0.05)

    async def slowly(app: Any) -> None:
        raw = Raw(content_length=None, drips=True, before_the_end=wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(raw.call, app)
            while raw.received < 8:  # after 0.3 seconds
                await anyio.sleep(0.01)
            assert raw.sent == []
            tasks.cancel_scope.cancel()

    with_app(slowly, body_timeout=0.2, min_transfer_rate=1)


def test_a_fast_beginning_does_not_pay_for_a_long_pause() -> None:
    raw = Raw(2**20, parts=[bytes(2**18)], before_the_end=anyio.sleep_forever, expects=True, content_type=NPZ)
    call_alone(raw, body_timeout=0.1, min_transfer_rate=1)
    raw.assert_refused(408)


@pytest.mark.parametrize("content_type", [payloads.NPY, NPZ])
def test_what_is_missing_from_a_body_is_not_made_up(content_type: str) -> None:
    """Only the declared length tells that these bodies are cut short within their data."""
    array = np.ones((1, 4, 1))
    content = payloads.npy_bytes(array) if content_type == payloads.NPY else payloads.npz_bytes({"input": array})
    raw = Raw(len(content), parts=[content[:-16]], content_type=content_type, path="/pool/forward")
    call_alone(raw).assert_refused(400)
    assert "incomplete" in raw.answer["detail"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_members_of_an_npz_inflate_to_a_limited_sum(compression: int) -> None:
    operands = {"input": np.zeros((1, 100, 1)), "weight": np.zeros((2, 1, 1))}
    total = sum(len(payloads.npy_bytes(array)) for array in operands.values())
    options = payloads.typed(NPZ, payloads.npz_bytes(operands, compression))
    with limited(max_decompressed_bytes=total) as client:
        assert client.post("/conv/forward", **options).status_code == 200
    with limited(max_decompressed_bytes=total - 1) as client:
        payloads.refused(client, "/conv/forward", 413, **options)
