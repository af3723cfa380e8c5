"""Several servers on one machine, each with an address of its own, and HAProxy in front with the files of deploy/."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import wait_until_ready
from tests.waiting import SECONDS, wait_until

from .names import Names
from .processors import PERIOD, Share, share

__all__ = ["CONFIGURATION", "Balanced", "Replica", "balanced", "free_port", "haproxy"]

PROJECT = Path(__file__).parents[2]
CONFIGURATION = [PROJECT / "deploy" / "haproxy" / name for name in ("common.cfg", "http.cfg", "replicas.cfg")]
DELAY = 4.0
"""CONVPOOL_SHUTDOWN_DELAY: HAProxy notices within two checks, and a busy machine is slow."""


def free_port() -> int:
    """Return a port that is free on every address."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class Replica:
    """``convpool serve`` in a process of its own; ``Balanced.add`` starts it.

    Attributes
    ----------
    address : str
        Of the loopback network.
    process : Popen
    share : Share or None
        The processors that it may use.
    log : Path
    """

    def __init__(self, address: str, port: int, log: Path, settings: Mapping[str, object]) -> None:
        self.address, self.url, self.log = address, f"http://{address}:{port}", log
        self.share: Share | None = None
        given = {f"CONVPOOL_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "service", "serve", "--host", address, "--port", str(port)]
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **given}, stderr=file)

    def wait_until_ready(self) -> None:
        """Return once it says that it is ready."""
        wait_until_ready(self.url, self.process, SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        self.process.send_signal(number)

    def end(self) -> None:
        """End it at once, even if it is stopped."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)


class Balanced:
    """HAProxy and the servers behind it; ``balanced`` starts them.

    Attributes
    ----------
    url : str
        Of HAProxy.
    replicas : list of Replica
        Those that a name leads to.
    log : Path
        What HAProxy prints.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack, settings: Mapping[str, object]) -> None:
        self._folder, self._stack, self._settings = folder, stack, settings
        self._port, self._started = free_port(), 0
        self.names = stack.enter_context(Names())
        self.replicas: list[Replica] = []
        self.log = folder / "haproxy.log"
        self.url = self.status = ""

    def start_haproxy(self, **variables: object) -> None:
        """Start it with these variables of its configuration, as well as those that are needed here."""
        listen, status = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.url, self.status = f"http://{listen}", f"http://{status}"
        given = {"LISTEN": listen, "STATUS": status, "RESOLVER": self.names.address}
        given |= {"REPLICA": f"replica.test:{self._port}", **{name: str(value) for name, value in variables.items()}}
        self._haproxy = self._stack.enter_context(haproxy(CONFIGURATION, given, self.log))

    def add(self, count: int = 1, processors: float | None = None, period: float = PERIOD) -> list[Replica]:
        """Start servers, and return them once they are ready, when the name begins to lead to them.

        Parameters
        ----------
        count : int
        processors : float, optional
            How many each may use once it is ready; default: all.
        period : float
            Seconds in which each may use that share.
        """
        found = []
        for _ in range(count):
            self._started += 1
            address = f"127.0.0.{1 + self._started}"
            replica = Replica(address, self._port, self._folder / f"{address}.log", self._settings)
            self._stack.callback(replica.end)
            found.append(replica)
        for replica in found:
            replica.wait_until_ready()
            if processors is not None:
                replica.share = self._stack.enter_context(share(processors, period))
                replica.share.add(replica.process.pid)
        self.replicas += found
        self.names.addresses += [replica.address for replica in found]
        return found

    def forget(self, replica: Replica) -> None:
        """Let the name no longer lead to a server."""
        self.replicas.remove(replica)
        self.names.addresses.remove(replica.address)

    def counters(self, replica: Replica | None = None) -> dict[str, str]:
        """Return what HAProxy's status page says of a server, or of all of them together; nothing if it has none."""
        lines = httpx.get(f"{self.status}/;csv", timeout=SECONDS).text.removeprefix("# ")
        for line in csv.DictReader(io.StringIO(lines)):
            here = line["addr"].partition(":")[0] == replica.address if replica else line["svname"] == "BACKEND"
            if line["pxname"] == "convpool" and here:
                return line
        return {}

    def peak_memory(self) -> int:
        """Return the most bytes of memory that HAProxy has had."""
        status = Path(f"/proc/{self._haproxy.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def is_up(self, replica: Replica) -> bool:
        """Return whether HAProxy sends requests to a server."""
        return self.counters(replica).get("status", "").startswith("UP")

    def wait_until_up(self) -> None:
        """Wait until requests are sent to all servers that the name leads to, and have been checked."""
        wait_until(lambda: all(self.is_up(replica) for replica in self.replicas))


@contextlib.contextmanager
def balanced(
    folder: Path,
    count: int,
    *,
    processors: float | None = None,
    period: float = PERIOD,
    haproxy: Mapping[str, object] | None = None,
    **settings: object,
) -> Iterator[Balanced]:
    """Yield servers behind HAProxy, which sends requests to all of them.

    Parameters
    ----------
    folder : Path
        For logs.
    count : int
        Of the servers.
    processors : float, optional
        How many each may use.
    period : float
        Seconds in which each may use that share.
    haproxy : mapping, optional
        Environment variables of its configuration.
    **settings
        Of the service, by name, without the prefix.
    """
    with contextlib.ExitStack() as stack:
        servers = Balanced(folder, stack, {"compute_threads": 1, "shutdown_delay": DELAY, **settings})
        servers.add(count, processors, period)
        servers.start_haproxy(**(haproxy or {}))
        servers.wait_until_up()
        yield servers


@contextlib.contextmanager
def haproxy(files: list[Path], variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[Any]]:
    """Run HAProxy with these files; skip the test if it is not installed."""
    executable = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if executable is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    command = [executable, "-db", *(part for file in files for part in ("-f", str(file)))]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=output, stderr=subprocess.STDOUT)
    try:
        host, _, port = variables["LISTEN"].rpartition(":")
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
                break
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)
