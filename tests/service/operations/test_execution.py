"""How much is computed at one time, and what need not be computed at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from service.http import handler
from service.operations.operation import Operation
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
        monkeypatch.setattr(handler, "SMALL_WORK", -1)  # nothing is computed on the event loop


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
        "import cnn_core, service.operations.execution\n"
        "from service.settings import Settings\n"
        "service.operations.execution.ComputePool(Settings(compute_threads=3)).close()\n"
        "print(cnn_core.get_threads())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert ran.stdout.split() == ["3"]


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
    for path in ("/health/live", "/health/ready", "/ops", "/docs", "/openapi.json", "/examples/conv_forward/input.npy"):
        asked = client.request("HEAD", path)
        assert asked.status_code == 200, path
        assert asked.headers["content-type"] == client.get(path).headers["content-type"]
    assert client.request("HEAD", "/").status_code == client.get("/").status_code == 307
    payloads.problem(client.request("PUT", "/ops"), 405)
