"""The process manager: a slow worker is waited for, and one that ended is replaced and its end explained."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from uvicorn.supervisors import Multiprocess

from service.workers import WorkerSupervisor
from tests.clients import running_server

SECONDS = 120.0


def supervisor(monkeypatch: pytest.MonkeyPatch, *, alive: bool, status: int | None) -> WorkerSupervisor:
    """A supervisor of one worker that uvicorn replaces when it looks."""
    worker = SimpleNamespace(pid=1, exitcode=status, process=SimpleNamespace(is_alive=lambda: alive))
    made = WorkerSupervisor.__new__(WorkerSupervisor)
    made.processes = [worker]  # type: ignore[list-item]
    made.config = SimpleNamespace(timeout_worker_healthcheck=60)  # type: ignore[assignment]

    def replace(self: Any) -> None:
        self.processes = [SimpleNamespace(pid=2)]

    monkeypatch.setattr(Multiprocess, "keep_subprocess_alive", replace)
    return made


@pytest.mark.parametrize(
    ("alive", "status", "reason"),
    [
        (False, -9, "was killed by signal 9 (SIGKILL)"),
        (False, -11, "was killed by signal 11 (SIGSEGV)"),
        (False, -200, "was killed by signal 200 (unknown)"),
        (False, 1, "ended with exit status 1"),
        (True, None, "did not answer for 60 s and was killed"),
    ],
)
def test_a_death_says_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, alive: bool, status: int | None, reason: str
) -> None:
    monkeypatch.setattr(logging.getLogger("convpool"), "propagate", True)
    supervisor(monkeypatch, alive=alive, status=status).keep_subprocess_alive()
    assert [record.getMessage() for record in caplog.records] == [f"Worker [1] {reason}; [2] takes its place"]


def children_of(pid: int) -> list[int]:
    """The workers of a manager; another child of it tracks what they share."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{pid}\n" in status.read_text() and b"spawn_main" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc to look workers up in")
def test_a_killed_worker_is_replaced() -> None:
    with running_server("--workers", "2") as (url, process):
        workers = children_of(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while len(set(children_of(process.pid)) - {workers[0]}) < 2:
            assert time.monotonic() < deadline, "no worker took its place"
            time.sleep(0.1)
        assert workers[1] in children_of(process.pid)
        assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200
