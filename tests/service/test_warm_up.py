"""What is computed before the first request: on all threads at a time, and nothing that settings refuse is an error."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from service import app, warm_up
from service.app import create_app
from service.settings import Settings
from tests.clients import application_client
from tests.logs import logged

THREADS = 3


def responding(status: int, seen: list[str]) -> Any:
    """An application that waits until it is called by all at a time."""
    barrier = asyncio.Barrier(THREADS)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.timeout(10):
            await barrier.wait()
        message = await receive()
        assert not message["more_body"]
        assert dict(scope["headers"])[b"content-length"] == b"%d" % len(message["body"])
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return application


@pytest.mark.parametrize("status", [200, 413, 503])
def test_each_call_is_made_on_all_threads_at_a_time(status: int) -> None:
    seen: list[str] = []

    async def run() -> None:
        handlers = {path: responding(status, seen) for path in warm_up.CALLS}
        await warm_up.warm_up(None, handlers, Settings(compute_threads=THREADS))

    asyncio.run(run())
    assert seen == [path for path in warm_up.CALLS for _ in range(THREADS)]
    assert {path.split("/")[1] for path in seen} == {"conv", "pool"}


def test_a_service_that_cannot_compute_does_not_start() -> None:
    async def run() -> None:
        handlers = {path: responding(500, []) for path in warm_up.CALLS}
        await warm_up.warm_up(None, handlers, Settings(compute_threads=THREADS))

    with pytest.raises(RuntimeError, match="cannot compute"):
        asyncio.run(run())


def test_the_calls_are_valid_and_are_no_requests_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []

    async def recorded(*arguments: Any) -> int:
        statuses.append(await original(*arguments))
        return statuses[-1]

    original = warm_up._status
    monkeypatch.setattr(warm_up, "_status", recorded)
    with logged("convpool") as records, application_client(create_app(Settings(compute_threads=2))):
        pass
    assert statuses == [200] * 2 * len(warm_up.CALLS)
    assert records == []


@pytest.mark.parametrize("limit", ["max_body_bytes", "max_work", "max_requests", "max_memory_bytes"])
def test_limits_that_refuse_the_calls_do_not_end_the_start(limit: str) -> None:
    with application_client(create_app(Settings.model_validate({limit: 1}))) as client:
        assert client.get("/health/ready").status_code == 200


def test_what_exists_after_the_warm_up_is_left_out_of_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    async def warmed(*_: Any) -> None:
        order.append("warm-up")

    monkeypatch.setattr(app, "warm_up", warmed)
    monkeypatch.setattr(gc, "freeze", lambda: order.append("freeze"))
    with application_client(create_app(Settings())):
        assert order == ["warm-up", "freeze"]
