"""A server under attack: ``convpool serve`` in a process of its own, and what the system says of it."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from .wire import HOST, Connection, head

__all__ = ["MEBIBYTE", "Server"]

MEBIBYTE = 2**20
PATIENCE = 60.0
ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """``convpool serve`` on a free port of the loopback; a context manager, whose end ends the process.

    Parameters
    ----------
    log : Path
        File for what it prints.
    open_files : int, optional
        Most file descriptors that each of its processes may have.
    **settings
        By name, without the prefix; those that are not given have their defaults.
    """

    def __init__(self, log: Path, open_files: int | None = None, **settings: object) -> None:
        self.port = _free_port()
        own = {name: value for name, value in os.environ.items() if not name.startswith("CONVPOOL_")}
        given = {f"CONVPOOL_{name.upper()}": str(value) for name, value in settings.items()}
        arguments = ["-m", "service", "serve", "--port", str(self.port), "--log-level", "warning"]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**own, **given, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        if open_files is not None:  # long before the server listens
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
        try:
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process that was started: the only one, or the one that supervises the workers."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the processes that serve."""
        return [pid for pid in self._processes() if pid != self.pid and _listens(pid, self.port)] or [self.pid]

    def wait_until_ready(self) -> None:
        """Return once the server says that it is ready."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with exit status {self._process.returncode}")
            with contextlib.suppress(OSError, ValueError), Connection(self.port, 5) as connection:
                if connection.ask(head("/health/ready", method="GET")).status == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the server was not ready within {PATIENCE} s")

    def is_running(self) -> bool:
        """Return whether the process that was started still runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process that was started."""
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Wait for the end, and return the exit status; None if it did not end in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def close(self) -> None:
        """End it, at the latest after some seconds."""
        processes = self._processes()
        if self.is_running():
            self._process.terminate()
            if self.wait(10) is None:
                for pid in processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
        self._process.wait(PATIENCE)

    # ----------------------------------------------------------------------------------------- what the system says

    def memory(self) -> int:
        """Return the bytes that are resident."""
        return sum(_status(pid, "VmRSS") for pid in self._processes())

    def peak_memory(self) -> int:
        """Return the most bytes that were resident, since ``forget_peak`` if that was called."""
        return sum(_status(pid, "VmHWM") for pid in self._processes())

    def forget_peak(self) -> None:
        """Let the peak start again from what is resident now."""
        for pid in self._processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Return the processor time that was used."""
        total = 0
        for pid in self._processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])  # user and system
        return total / TICKS

    def open_sockets(self) -> int:
        """Return the number of sockets that are open."""
        return sum(len(_sockets(pid)) for pid in self._processes())

    def _processes(self) -> list[int]:
        found, left = [], [self._process.pid]
        while left:
            pid = left.pop()
            with contextlib.suppress(OSError):
                found.append(pid)
                for task in Path(f"/proc/{pid}/task").iterdir():
                    left += map(int, (task / "children").read_text().split())
        return found


def _status(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _sockets(pid: int) -> list[str]:
    links = []
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = str(link.readlink())
                if name.startswith("socket:"):
                    links.append(name)
    return links


def _listens(pid: int, port: int) -> bool:
    listening = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    listening.add(f"socket:[{fields[9]}]")
    return not listening.isdisjoint(_sockets(pid))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
