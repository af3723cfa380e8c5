"""How much is computed at one time, and what need not be computed at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import numpy as np
import pytest

from cnn_core.runtime.cancellation import check_cancelled
from service import app as app_module
from service.http import handler
from service.operations import scheduling
from service.operations.operation import Operation
from service.operations.scheduling import LIGHT_WORK, LONG_WORK, TINY_WORK, ComputePool
from service.problems import ClientGone, ComputeTimeout, QueueTimeout
from service.settings import Settings
from tests.clients import ApplicationClient
from tests.service import payloads
from tests.service.payloads import application, json_body, limited
from tests.service.test_limits import Raw

REQUEST = {"mode": "max", "kernel_size": 1, "input": [[[1.0]]]}
SECONDS = 30


class Gate:
    """Stands in for the computation: counts those that run at one time, and holds them until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
        application(compute_threads=threads)  # computes its examples when it is made
        self.started = threading.Semaphore(0)
        self.opened = threading.Event()
        self.running = self.most = self.total = 0
        self._lock = threading.Lock()
        compute = Operation.compute

        def held(operation: Operation, *arguments: Any) -> Any:
            with self._lock:
                self.running += 1
                self.total += 1
                self.most = max(self.most, self.running)
            self.started.release()
            assert self.opened.wait(SECONDS)
            with self._lock:
                self.running -= 1
            return compute(operation, *arguments)

        monkeypatch.setattr(Operation, "compute", held)
        monkeypatch.setattr(app_module, "warm_up", lambda *_: asyncio.sleep(0))
        # nothing is computed on the event loop, nor on the threads for what is light
        monkeypatch.setattr(handler, "SMALL_WORK", -1)
        monkeypatch.setattr(handler, "LIGHT_WORK", -1)
        monkeypatch.setattr(scheduling, "TINY_WORK", -2)
        monkeypatch.setattr(scheduling, "LIGHT_WORK", -1)


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_requests_are_computed_at_one_time_as_there_are_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    gate = Gate(monkeypatch, threads)
    with limited(compute_threads=threads) as client, ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(client.post, "/pool/forward", json=REQUEST) for _ in range(8)]
        for _ in range(threads):
            assert gate.started.acquire(timeout=SECONDS)
        assert not gate.started.acquire(timeout=0.2)
        gate.opened.set()
        assert [answer.result(SECONDS).status_code for answer in answers] == [200] * 8
    assert gate.most == threads


def test_the_core_computes_on_as_many_threads_as_requests_do() -> None:
    script = (
        "import cnn_core, service.operations.scheduling\n"
        "from service.settings import Settings\n"
        "service.operations.scheduling.ComputePool(Settings(compute_threads=3)).close()\n"
        "print(cnn_core.get_threads())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert ran.stdout.split() == ["3"]


# ---------------------------------------------------------------------------------------------------------- the order


class Job:
    """A function for the pool that runs until it is told to end, and looks at its token as kernels do."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()
        self._name, self._order = name, order

    def __call__(self) -> str:
        self._order.append(self._name)
        self.started.set()
        while not self.may_end.wait(0.001):
            check_cancelled()
        return self._name


class Jobs:
    """Jobs that run in a pool, and the order in which they started."""

    def __init__(self, **settings: Any) -> None:
        self.pool = ComputePool(Settings(**settings))
        self.order: list[str] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, name: str, work: int) -> tuple[Job, asyncio.Task[str]]:
        """Hand over a job; it has started if it can."""
        job = Job(name, self.order)
        task = asyncio.create_task(self.pool.run(job, work, self.gone))
        await asyncio.sleep(0)
        return job, task

    async def started(self, job: Job) -> None:
        assert await asyncio.to_thread(job.started.wait, SECONDS)


def story(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, SECONDS))


SHORT, LONGER, LONG = 2 * LIGHT_WORK, 10 * LIGHT_WORK, 2 * LONG_WORK


def test_what_is_short_overtakes_what_is_long() -> None:
    async def run() -> None:
        jobs = Jobs(compute_threads=1)
        first, _ = await jobs.run("first", SHORT)
        await jobs.started(first)
        waiting = [await jobs.run(name, work) for name, work in (("long", LONG), ("longer", LONGER), ("short", SHORT))]
        assert jobs.pool.waiting == 3
        for job in (first, *(job for job, _ in waiting)):
            job.may_end.set()
        await asyncio.gather(*(task for _, task in waiting))
        assert jobs.order == ["first", "short", "longer", "long"]

    story(run())


def test_what_is_long_is_not_overtaken_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "WORK_PER_SECOND", 1e30)  # any work takes no time: who came first is first

    async def run() -> None:
        jobs = Jobs(compute_threads=1)
        first, _ = await jobs.run("first", SHORT)
        await jobs.started(first)
        waiting = [await jobs.run(name, work) for name, work in (("long", LONG), ("short", SHORT))]
        for job in (first, *(job for job, _ in waiting)):
            job.may_end.set()
        await asyncio.gather(*(task for _, task in waiting))
        assert jobs.order == ["first", "long", "short"]

    story(run())


def test_long_computations_leave_a_thread_to_others() -> None:
    async def run() -> None:
        jobs = Jobs(compute_threads=2)
        (long, task), (second, second_task) = await jobs.run("long", LONG), await jobs.run("second", LONG)
        await jobs.started(long)
        short, short_task = await jobs.run("short", SHORT)
        await jobs.started(short)
        assert not second.started.is_set()
        for job in (long, second, short):
            job.may_end.set()
        await asyncio.gather(task, second_task, short_task)

    story(run())


def test_what_is_light_is_computed_beside_anything() -> None:
    async def run() -> None:
        jobs = Jobs(compute_threads=1)
        running = [await jobs.run(f"{work}", work) for work in (SHORT, LIGHT_WORK, TINY_WORK)]
        for job, task in reversed(running):  # each ends while all that is larger still runs
            job.may_end.set()
            await task

    story(run())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_what_may_take_long_has_a_lower_priority() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def run() -> None:
        jobs, own = Jobs(compute_threads=1), priority()
        assert await jobs.pool.run(priority, TINY_WORK, jobs.gone) == own
        assert await jobs.pool.run(priority, LIGHT_WORK, jobs.gone) == own
        assert await jobs.pool.run(priority, SHORT, jobs.gone) == min(own + 10, 19)

    story(run())


def test_waiting_for_a_thread_has_a_limit() -> None:
    async def run() -> None:
        jobs = Jobs(compute_threads=1, queue_timeout=0.02)
        job, task = await jobs.run("runs", SHORT)
        _, waiting = await jobs.run("waits", SHORT)
        with pytest.raises(QueueTimeout):
            await waiting
        assert jobs.pool.waiting == 0
        job.may_end.set()
        await task

    story(run())


@pytest.mark.parametrize("work", [0, SHORT])
def test_computing_has_a_limit(work: int) -> None:
    async def run() -> None:
        jobs = Jobs(compute_threads=1, compute_timeout=0.02)
        _, task = await jobs.run("endless", work)
        with pytest.raises(ComputeTimeout, match=r"0\.02 s"):
            await task
        job, task = await jobs.run("next", work)
        job.may_end.set()
        await task

    story(run())


@pytest.mark.parametrize("work", [0, SHORT])
def test_a_client_that_leaves_ends_its_computation_and_its_waiting(work: int) -> None:
    async def run() -> None:
        jobs = Jobs(compute_threads=1)
        endless, task = await jobs.run("endless", work)
        await jobs.started(endless)
        _, waiting = await jobs.run("waiting", work)
        jobs.gone.set_result(None)
        for each in (waiting, task):
            with pytest.raises(ClientGone):
                await each
        assert jobs.order == ["endless"]
        jobs.gone = asyncio.get_running_loop().create_future()
        job, task = await jobs.run("next", work)
        job.may_end.set()
        await task

    story(run())


def test_a_request_whose_client_leaves_stops_computing() -> None:
    """Through the application, with a real layer that would take many seconds."""
    body = payloads.npz_bytes(
        {"input": np.ones((1, 512, 512, 32), np.float32), "weight": np.ones((7, 7, 32, 64), np.float32)}
    )

    async def run() -> None:
        app = application(compute_threads=1)

        async def until_it_runs() -> None:
            while not app.state.pool.is_busy:
                await anyio.sleep(0.001)

        async with app.router.lifespan_context(app):
            raw = Raw(len(body), [body], ends="http.disconnect", ends_after_the_body=True, content_type=payloads.NPZ)
            raw.before_the_end = until_it_runs
            await raw.call(app)
            raw.assert_refused(503)
            assert "closed connection" in raw.answer["detail"]
            assert app.state.admission.memory == app.state.admission.places == 0
            (await Raw().call(app)).assert_answered()

    story(run())


def test_shapes_are_told_while_all_threads_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, 1)
    with limited(compute_threads=1) as client, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(client.post, "/pool/forward", json=REQUEST)
        assert gate.started.acquire(timeout=SECONDS)
        shapes = {"mode": "max", "kernel_size": 2, "shapes": {"input": [1, 4, 1]}}
        assert client.post("/pool/shape", **json_body(shapes)).json()["output_shape"] == [1, 2, 1]
        assert not answer.done()
        gate.opened.set()
        assert answer.result(SECONDS).status_code == 200


def test_what_a_client_left_while_it_waited_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, 1)

    async def story() -> None:
        app = application(compute_threads=1)
        async with app.router.lifespan_context(app):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Raw(before_the_end=stays()).call, app)
                assert await asyncio.to_thread(gate.started.acquire, timeout=SECONDS)
                # the second waits for the thread; by the time it is free, its client is gone
                left = await Raw(ends="http.disconnect", ends_after_the_body=True).call(app)
                assert left.status == 503
                gate.opened.set()
            assert (await Raw().call(app)).status == 200

    anyio.run(story)
    assert gate.total == 2


def stays() -> Any:
    """What a client does that has sent its body and waits."""

    async def wait() -> None:
        await anyio.sleep(0.05)

    return wait


def test_head_is_answered_where_get_is(client: ApplicationClient) -> None:
    pages = ("/", "/playground/service.js", "/docs", "/openapi.json")
    for path in (*pages, "/health/live", "/health/ready", "/ops", "/examples/conv_forward/input.npy"):
        asked = client.request("HEAD", path)
        assert asked.status_code == 200, path
        assert asked.headers["content-type"] == client.get(path).headers["content-type"]
    assert client.request("HEAD", "/docs/").status_code == client.get("/docs/").status_code == 307
    payloads.problem(client.request("PUT", "/ops"), 405)
