"""Several processes: one that dies is replaced, all can be replaced without losing a request, all end together."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from uvicorn.config import STARTUP_FAILURE

from service import workers
from service.settings import Settings
from service.workers import Order, Report, State, Supervisor
from tests.clients import running_server
from tests.logs import logged
from tests.service.load import under_load
from tests.waiting import wait_until

SECONDS = 120.0

has_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system has no /proc to look workers up in"
)


class FakeWorker:
    """A worker without a process, that reports what a test says."""

    def __init__(self, *_: object) -> None:
        self.state, self.is_outdated = State.STARTS, False
        self.orders: list[Order] = []
        self.waiting: list[Report] = []
        self.channel = SimpleNamespace(close=lambda: None)
        self.process: Any = SimpleNamespace(
            pid=1, exitcode=None, sentinel=0, join=lambda: None, kill=lambda: self.die(-9)
        )
        self.process.is_alive = lambda: self.process.exitcode is None

    def order(self, order: Order) -> None:
        self.orders.append(order)

    def reports(self) -> list[Report]:
        reports, self.waiting = self.waiting, []
        return reports

    def die(self, status: int) -> None:
        self.process.exitcode = status


class Run:
    """A supervisor of fake workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> None:
        self.started: list[FakeWorker] = []
        monkeypatch.setattr(workers, "Worker", self._start)
        monkeypatch.setattr(workers, "wait", lambda *_: None)
        self.supervisor = Supervisor(Settings(workers=count), [])
        self.step()

    def _start(self, *_: object) -> FakeWorker:
        self.started.append(FakeWorker())
        return self.started[-1]

    def step(self) -> None:
        self.supervisor.step()

    def serve(self) -> None:
        """Let all workers that start serve."""
        for worker in self.started:
            if worker.state is State.STARTS:
                worker.waiting.append(Report.SERVES)
        self.step()

    @property
    def serving(self) -> list[int]:
        """Numbers of the workers that serve, in the order of their start."""
        return [
            number
            for number, worker in enumerate(self.started)
            if worker.state is State.SERVES and worker.process.exitcode is None
        ]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (-9, "was killed by signal 9 (SIGKILL)"),
        (-11, "was killed by signal 11 (SIGSEGV)"),
        (-200, "was killed by signal 200 (unknown)"),
        (1, "ended with exit status 1"),
    ],
)
def test_a_death_says_its_reason(monkeypatch: pytest.MonkeyPatch, status: int, reason: str) -> None:
    run = Run(monkeypatch)
    run.serve()
    run.started[0].die(status)
    with logged("convpool") as records:
        run.step()
    assert [record.getMessage() for record in records] == [f"Worker [1] {reason}; another one takes its place"]
    assert len(run.started) == 3
    run.serve()
    assert run.serving == [1, 2]


def test_a_worker_that_starts_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    for _ in range(10):
        run.step()
    assert len(run.started) == 2
    assert run.started[0].orders == []


def test_what_cannot_start_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.started[0].die(STARTUP_FAILURE)
    run.step()
    assert run.supervisor.status == STARTUP_FAILURE
    assert len(run.started) == 2


def test_the_workers_are_replaced_one_after_the_other_and_each_by_one_that_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch)
    run.serve()
    run.supervisor.take_signals([signal.SIGHUP])
    for number in (0, 1):
        run.step()
        assert len(run.started) == 3 + number
        assert run.started[number].orders == []  # its successor does not serve yet
        run.serve()
        assert run.started[number].orders == [Order.END]
        run.step()
        assert len(run.started) == 3 + number  # it has not ended
        run.started[number].die(0)
    run.step()
    assert run.serving == [2, 3]
    assert len(run.started) == 4


def test_a_successor_that_cannot_start_ends_the_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.serve()
    run.supervisor.take_signals([signal.SIGHUP])
    run.step()
    run.started[2].die(STARTUP_FAILURE)
    with logged("convpool") as records:
        run.step()
    assert "keeping the workers as they are" in records[0].getMessage()
    assert run.supervisor.status == 0
    assert run.serving == [0, 1]
    assert len(run.started) == 3


def test_a_worker_that_is_asked_to_end_ends_once_its_successor_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.serve()
    run.started[1].waiting.append(Report.ASKED_TO_END)
    run.step()
    assert run.started[1].orders == []
    run.serve()
    assert run.started[1].orders == [Order.END]
    assert run.started[0].orders == []


def test_a_worker_that_dies_during_the_replacement_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.serve()
    run.supervisor.take_signals([signal.SIGHUP])
    run.step()
    run.started[0].die(-9)
    run.serve()
    for worker in run.started[:2]:
        if Order.END in worker.orders:
            worker.die(0)
    for _ in range(4):
        run.serve()
        for worker in run.started:
            if Order.END in worker.orders and worker.process.exitcode is None:
                worker.die(0)
    run.step()
    assert len(run.serving) == 2
    assert not {0, 1} & set(run.serving)


def children_of(pid: int) -> list[int]:
    """The workers of a manager; another child of it tracks what they share."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{pid}\n" in status.read_text() and b"spawn_main" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


def wait_for_workers(pid: int, *, without: set[int]) -> list[int]:
    """Return the workers, once there are two and none of those."""
    found: list[int] = []

    def are_there() -> bool:
        found[:] = children_of(pid)
        return len(found) == 2 and not set(found) & without

    wait_until(are_there, state=lambda: found)
    return found


@has_proc
def test_a_worker_that_was_stopped_and_killed_is_replaced() -> None:
    with running_server("--workers", "2") as (url, process):
        served = wait_for_workers(process.pid, without=set())
        os.kill(served[0], signal.SIGSTOP)
        os.kill(served[0], signal.SIGKILL)
        assert served[1] in wait_for_workers(process.pid, without={served[0]})
        assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200


@has_proc
def test_no_request_is_lost_while_workers_are_replaced() -> None:
    with running_server("--workers", "2", CONVPOOL_LOG_LEVEL="error") as (url, process):
        served = wait_for_workers(process.pid, without=set())
        with under_load(url) as load:
            process.send_signal(signal.SIGHUP)
            served = wait_for_workers(process.pid, without=set(served))
            load.wait_for_more()
            os.kill(served[0], signal.SIGTERM)
            served = wait_for_workers(process.pid, without={served[0]})
        assert load.failures == []
        with under_load(url) as load:
            os.kill(served[0], signal.SIGKILL)
            wait_for_workers(process.pid, without={served[0]})
        assert len(load.failures) <= len(load.served)  # at most what each client had in that worker
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


@has_proc
def test_the_workers_end_if_the_process_that_started_them_is_killed() -> None:
    with running_server("--workers", "2") as (url, process):
        served = wait_for_workers(process.pid, without=set())
        process.kill()
        process.wait(SECONDS)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in served))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health/live")
