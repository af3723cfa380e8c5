"""Requests share places and memory: many or large ones wait, and leave something to small ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np

from tests.service import payloads
from tests.service.test_limits import BODY, SECONDS, Raw, call_alone, with_app


class Waiting(Raw):
    """A call whose body ends when it is told to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.started = anyio.Event()
        self.may_end = anyio.Event()
        self.before_the_end = self._wait

    async def _wait(self) -> None:
        self.started.set()
        await self.may_end.wait()


LARGE = payloads.npy_bytes(np.ones((1, 2**14, 1)))
SOON = 0.05
"""Seconds that a request waits which is refused in the end."""


POOL = {"content_type": payloads.NPY, "path": "/pool/forward", "query": b"mode=max&kernel_size=1"}


def large(**options: Any) -> Raw:
    """Return a call with a large body, whose results are as large."""
    return Raw(**{"content_length": len(LARGE), "parts": [LARGE], **POOL, **options})


def large_waiting() -> Waiting:
    """Return such a call, the end of whose body never comes."""
    return Waiting(content_length=len(LARGE), parts=[LARGE[:-1]], **POOL)


ROOM_FOR_THREE = 15 * len(LARGE) // 2
"""Bytes of memory, half of which three of those bodies may have."""


def test_bodies_that_are_on_their_way_leave_memory_to_small_requests() -> None:
    """Their declared length is reserved: none more is taken, and none is read that could not be kept."""

    async def story(app: Any) -> None:
        async with three_on_their_way(app) as waiting:
            refused = await large(expects=True).call(app)
            refused.assert_refused(503)
            assert int(refused.headers[b"retry-after"]) >= 1
            assert refused.received == 0
            (await Raw().call(app)).assert_answered()
            waiting.set()
        assert (await large().call(app)).status == 200

    with_app(story, max_memory_bytes=ROOM_FOR_THREE, queue_timeout=SOON)


def test_a_request_waits_for_memory_and_gets_it() -> None:
    async def story(app: Any) -> None:
        fourth = large()
        async with three_on_their_way(app) as waiting, anyio.create_task_group() as tasks:
            tasks.start_soon(fourth.call, app)
            await anyio.wait_all_tasks_blocked()
            assert fourth.received == 0
            waiting.set()
        assert fourth.status == 200

    with_app(story, max_memory_bytes=ROOM_FOR_THREE, queue_timeout=SECONDS)


@contextlib.asynccontextmanager
async def three_on_their_way(app: Any) -> AsyncIterator[anyio.Event]:
    """Send the beginning of three large bodies; the event lets them end."""
    waiting, may_end = [large_waiting() for _ in range(3)], anyio.Event()
    async with anyio.create_task_group() as tasks:
        for raw in waiting:
            raw.may_end = may_end
            tasks.start_soon(raw.call, app)
            await raw.started.wait()
        yield may_end


def test_a_request_that_is_alone_may_not_exceed_the_limit_either() -> None:
    async def story(app: Any) -> None:
        raw = await large(expects=True).call(app)
        raw.assert_refused(413)
        assert raw.received == 0

    with_app(story, max_memory_bytes=len(LARGE))


def test_memory_is_charged_for_what_is_computed_too() -> None:
    body = json.dumps({"mode": "max", "kernel_size": 1, "padding": 0, "input": [[[1.0]]]}).encode()
    few, many = Raw(len(body), [body], path="/pool/forward"), Raw(path="/conv_transpose/forward")
    many.parts = [json.dumps({"input": [[[1.0], [1.0]]], "weight": [[[1.0]]], "stride": 10_000}).encode()]
    many.content_length = len(many.parts[0])
    call_alone(few, max_memory_bytes=2**15)
    assert few.status == 200, few.answer
    call_alone(many, max_memory_bytes=2**15)
    many.assert_refused(413)


def test_chunked_bodies_are_charged_for_what_they_hold() -> None:
    async def story(app: Any) -> None:
        waiting = [Waiting(content_length=None, parts=[BODY[:-1]]) for _ in range(4)]
        async with anyio.create_task_group() as tasks:
            for raw in waiting:
                tasks.start_soon(raw.call, app)
                await raw.started.wait()
            assert app.state.admission.memory == 4 * (len(BODY) - 1)
            for raw in waiting:
                raw.may_end.set()
        for raw in waiting:
            raw.assert_refused(400)  # cut short, and not refused as too many
        assert app.state.admission.memory == 0

    with_app(story)


def test_a_large_chunked_body_takes_what_it_needs_as_it_arrives() -> None:
    async def story(app: Any) -> None:
        part = b" " * 2**16
        waiting = Waiting(content_length=None, parts=[part] * 20)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting.call, app)
            await waiting.started.wait()
            assert 20 * len(part) <= app.state.admission.memory <= 2 * 20 * len(part) + 2**20
            waiting.may_end.set()
        assert app.state.admission.memory == 0
        too_long = await Raw(None, parts=[part] * 33, expects=True).call(app)
        too_long.assert_refused(413)
        assert too_long.received == 33

    with_app(story, max_body_bytes=2**21, max_memory_bytes=2**22)


def test_bodies_that_drip_take_no_place_from_others() -> None:
    async def story(app: Any) -> None:
        waiting = [Waiting(parts=[BODY[:-1]]) for _ in range(20)]
        async with anyio.create_task_group() as tasks:
            for raw in waiting:
                tasks.start_soon(raw.call, app)
                await raw.started.wait()
            (await Raw().call(app)).assert_answered()
            for raw in waiting:
                raw.may_end.set()

    with_app(story, max_requests=1, queue_timeout=SOON)


def test_one_large_request_too_many_is_told_to_come_again() -> None:
    async def story(app: Any) -> None:
        waiting = [large_waiting() for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            for raw in waiting:
                tasks.start_soon(raw.call, app)
                await raw.started.wait()
            refused = await large(expects=True).call(app)
            refused.assert_refused(503)
            assert int(refused.headers[b"retry-after"]) >= 1
            assert refused.received == 0
            assert (await Raw(path="/health/live").call(app)).status in {200, 405}
            (await Raw().call(app)).assert_answered()  # one place in four is left to small requests
            waiting[0].may_end.set()
            while not waiting[0].sent:
                await anyio.sleep(0.001)
            assert (await large().call(app)).status == 200
            for raw in waiting:
                raw.may_end.set()
        for raw in waiting:
            raw.assert_refused(400)  # the last byte of their bodies never came

    with_app(story, max_requests=4, queue_timeout=SOON)


def test_one_address_has_its_share_only() -> None:
    async def story(app: Any) -> None:
        waiting = [large_waiting() for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            for raw in waiting:
                tasks.start_soon(raw.call, app)
                await raw.started.wait()
            refused = await Raw().call(app)
            refused.assert_refused(429)
            assert int(refused.headers[b"retry-after"]) >= 1
            for raw in waiting:
                raw.may_end.set()
        (await Raw().call(app)).assert_answered()

    with_app(story, max_requests=8, max_share_per_address=0.25)


def test_a_refused_request_leaves_its_place_to_others() -> None:
    async def story(app: Any) -> None:
        for raw in (
            Raw(len(LARGE) * 3),
            large(content_length=len(LARGE) + 1),
            Raw(parts=[b"{" * len(BODY)]),
            Raw(content_type="text/plain"),
            Raw(parts=[], before_the_end=anyio.sleep_forever, expects=True),
            large(parts=[], before_the_end=anyio.sleep_forever, expects=True),
            Raw(content_length=None, parts=[LARGE] * 5),
        ):
            await raw.call(app)
            assert raw.status in {400, 408, 413, 415}
            assert (await large().call(app)).status == 200
            assert app.state.admission.memory == app.state.admission.places == 0

    with_app(story, max_requests=1, max_memory_bytes=2**20, max_body_bytes=2 * len(LARGE), body_timeout=0.1)
