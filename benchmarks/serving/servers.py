"""Servers under test: each a process of its own, which is suspended while others are timed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.processes import PATIENCE, ROOT

__all__ = ["ENVIRONMENTS", "SERVERS", "TITLES", "Server", "ServerError", "raw_socket"]

START_PATIENCE = 90.0

SERVERS: dict[str, tuple[str, ...]] = {
    "convpool": ("-m", "service", "serve", "--log-level", "warning", "--port", "{port}"),
    "plain": ("-m", "benchmarks.serving.peers.plain", "--port", "{port}"),
    "litserve": ("-m", "benchmarks.serving.peers.litserve", "--port", "{port}"),
    "bentoml": (
        *("-m", "bentoml", "serve", "benchmarks.serving.peers.bentoml:ConvForward"),
        *("--host", "127.0.0.1", "--port", "{port}"),
    ),
}
"""What Python is started with."""

TITLES = {
    "convpool": "convpool",
    "plain": "plain handler",
    "litserve": "LitServe",
    "bentoml": "BentoML",
}

ENVIRONMENTS = {
    "litserve": ROOT / ".venv-bench-litserve" / "bin" / "python",
    "bentoml": ROOT / ".venv-bench-bentoml" / "bin" / "python",
}
"""Whose Python a server is started with, where it is not the one that runs the benchmark."""

SETTINGS = {
    "CONVPOOL_MAX_BODY_BYTES": str(2**27),  # 64 MiB of data, and a header
    "CONVPOOL_MAX_MEMORY_BYTES": str(2**32),  # 64 large requests at once, which peers take without a limit
    "CONVPOOL_MAX_REQUESTS": "128",
    "BENTOML_DO_NOT_TRACK": "True",
    "LITSERVE_DISABLE_VERSION_CHECK": "1",
}


class ServerError(Exception):
    """A server did not start."""


class Server:
    """A running server, suspended until it is asked to go on.

    A context manager: leaving ends its processes.

    Parameters
    ----------
    arguments : tuple of str
        What Python is started with; ``{port}`` stands for the port.
    log : Path
        File for what it prints.
    python : Path
    """

    def __init__(self, arguments: tuple[str, ...], log: Path, python: Path = Path(sys.executable)) -> None:
        self.port = _free_port()
        self._log = log
        if not python.exists():
            raise ServerError(f"{python} does not exist")
        with log.open("w") as file:
            self._process = psutil.Popen(
                [str(python), *(argument.format(port=self.port) for argument in arguments)],
                cwd=ROOT,
                env={**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
            self.suspend()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def suspend(self) -> None:
        """Stop all its processes: some servers poll their queues even if there is nothing to do."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let all its processes go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """End all its processes."""
        self.resume()
        processes = self._processes()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=PATIENCE)

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _wait(self) -> None:
        end = time.monotonic() + START_PATIENCE
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise ServerError(f"it ended: {self._last_words()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise ServerError(f"it does not listen after {START_PATIENCE:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return " / ".join(line.strip() for line in lines[-4:] if line.strip()) or "it printed nothing"


def raw_socket(request_bytes: int, response_bytes: int, log: Path) -> Server:
    """Return a server that reads and sends so many bytes, and does nothing else."""
    sizes = ("--request-bytes", str(request_bytes), "--response-bytes", str(response_bytes))
    return Server(("-m", "benchmarks.serving.peers.raw_socket", "--port", "{port}", *sizes), log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
