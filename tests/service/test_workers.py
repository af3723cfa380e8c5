"""The process manager: a slow worker is waited for, and one that ended is replaced and its end explained."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from uvicorn.config import STARTUP_FAILURE

from service import workers
from service.workers import WorkerSupervisor
from tests.clients import running_server
from tests.logs import logged

SECONDS = 120.0


class Worker:
    """A process as uvicorn has it, which never answers a ping."""

    def __init__(self, *, alive: bool, status: int | None = None) -> None:
        self.pid, self.exitcode = 1, status
        self.process = SimpleNamespace(is_alive=lambda: alive, join=lambda: None)
        self.calls: list[str] = []

    def kill(self) -> None:
        self.calls.append("kill")

    def start(self) -> None:
        self.calls.append("start")


def supervisor(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> tuple[Any, Worker]:
    """A supervisor of one worker, and the worker that would take its place."""
    successor = Worker(alive=True)
    monkeypatch.setattr(workers, "Process", lambda *_: successor)
    made: Any = WorkerSupervisor.__new__(WorkerSupervisor)
    made.processes, made.config, made.sockets = [worker], None, []
    made.should_exit = threading.Event()
    return made, successor


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
    made, successor = supervisor(monkeypatch, Worker(alive=False, status=status))
    with logged("convpool") as records:
        made.keep_subprocess_alive()
    assert [record.getMessage() for record in records] == [f"Worker [1] {reason}; another one takes its place"]
    assert made.processes[0] is successor
    assert successor.calls == ["start"]


def test_a_worker_that_does_not_answer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Worker(alive=True)
    made, successor = supervisor(monkeypatch, slow)
    made.keep_subprocess_alive()
    assert made.processes[0] is slow
    assert slow.calls == successor.calls == []


def test_what_cannot_start_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, successor = supervisor(monkeypatch, Worker(alive=False, status=STARTUP_FAILURE))
    made.keep_subprocess_alive()
    assert made.should_exit.is_set()
    assert successor.calls == []


def children_of(pid: int) -> list[int]:
    """The workers of a manager; another child of it tracks what they share."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{pid}\n" in status.read_text() and b"spawn_main" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc to look workers up in")
def test_a_worker_that_was_stopped_and_killed_is_replaced() -> None:
    with running_server("--workers", "2") as (url, process):
        served = children_of(process.pid)
        assert len(served) == 2
        os.kill(served[0], signal.SIGSTOP)
        os.kill(served[0], signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while len(set(children_of(process.pid)) - {served[0]}) < 2:
            assert time.monotonic() < deadline, "no worker took its place"
            time.sleep(0.1)
        assert served[1] in children_of(process.pid)
        assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200
