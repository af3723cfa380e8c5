"""A Ray cluster of several nodes on this machine, with the service on it, in a process of its own that takes commands.

Ray reads its environment when it is imported, and leaves processes behind where a test fails: a process for each
cluster has its own environment, and all that it has started can be found by one variable in it, and ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients import free_port
from tests.waiting import SECONDS, wait_until

__all__ = ["RayCluster", "ray_cluster"]

MARK = "RAY_TMPDIR"
"""Variable that all processes of a cluster have, with a value of its own."""

OBJECT_STORE_BYTES = 80 * 2**20

LIGHT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DEDUP_LOGS": "0",
    "PYTHONWARNINGS": "ignore",
}


class RayCluster:
    """What tests ask of a cluster.

    Attributes
    ----------
    base_url : str
        Of the proxy on the head node, on which no replica runs.
    address : str
        For ``--address`` of Ray's own commands.
    environment : dict
        That of the cluster's processes.
    """

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self._process = process
        self.environment = environment
        self._deployed: tuple[dict[str, str], dict[str, Any]] = ({}, {})
        ready = self._reply()
        self.base_url, self.address = str(ready["base_url"]), str(ready["address"])

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the cluster has ended: {self._process.wait()}"
        reply: dict[str, Any] = json.loads(line)
        assert "error" not in reply, reply["error"]
        return reply

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Let the cluster do something, and return what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def deploy(self, environment: dict[str, str] | None = None, **arguments: Any) -> None:
        """Deploy the service with these CONVPOOL_ variables and arguments, unless it is, and wait until it serves."""
        wanted = (environment or {}, arguments)
        if wanted != self._deployed:
            self._deployed = ({}, {})
            self.ask("deploy", environment=wanted[0], arguments=arguments)
            self._deployed = wanted

    @property
    def replicas(self) -> int:
        """How many replicas run."""
        return int(self.ask("replicas")["running"])

    def kill_node(self) -> None:
        """Kill a node on which a replica runs, as a machine loses its power."""
        self.ask("kill_node")

    def add_node(self) -> None:
        """Add a node with room for one replica."""
        self.ask("add_node")

    def pids(self, title: str = "") -> list[int]:
        """Return the processes of the cluster whose command line begins so."""
        return [pid for pid in _pids(self.environment[MARK]) if _command_line(pid).startswith(title)]


def _pids(value: str) -> list[int]:
    """Return the processes that have this value in their environment."""
    found, wanted = [], f"{MARK}={value}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextlib.contextmanager
def ray_cluster(nodes: int = 2, *, haproxy: bool = False, **environment: str) -> Iterator[RayCluster]:
    """Yield a cluster of a head node, with Ray Serve's proxy on it, and nodes with one processor each.

    Parameters
    ----------
    nodes : int
    haproxy : bool
        Whether Ray lets HAProxy send requests to the replicas, in place of its own proxy.
    **environment : str
        More variables for all processes of the cluster.
    """
    folder = tempfile.mkdtemp(prefix="ray")  # short: the paths of sockets are below it
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CONVPOOL_"))}
    full = {**own, **LIGHT, MARK: folder, **(_haproxy(folder) if haproxy else {}), **environment}
    log = Path(folder) / "driver.log"
    command = [sys.executable, "-m", "tests.scale.ray_cluster", str(nodes)]
    try:
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                command, env=full, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as process,
        ):
            try:
                yield RayCluster(process, full)
                process.communicate(timeout=SECONDS)  # the end of its commands is the end of the cluster
                wait_until(lambda: not _pids(folder), 20.0)
            except BaseException:
                sys.stderr.write(log.read_text()[-5000:])
                raise
            finally:
                _kill_all(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _haproxy(folder: str) -> dict[str, str]:
    """Return the variables of HAProxy mode, with ports and files that no other cluster on this machine has."""
    start = free_port()
    own = Path(folder) / "haproxy"
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(start + 100),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(own / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(own / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(own),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(own / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(own / "metrics.sock"),
    }


def _kill_all(folder: str) -> None:
    """Kill what a cluster has left, and what that has started meanwhile."""
    while pids := _pids(folder):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------------- the process


class _Cluster:
    """The cluster, in its own process."""

    def __init__(self, nodes: int) -> None:
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster

        self._serve = serve
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(nodes):
            self.add_node()
        ray.init(address=self._cluster.address, logging_level="warning", log_to_driver=False)
        port = free_port()
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        self.ready = {"base_url": f"http://127.0.0.1:{port}", "address": self._cluster.address}

    def deploy(self, environment: dict[str, str], arguments: dict[str, Any]) -> None:
        from convpool.ray_serve import Arguments, app

        self._serve.delete("default")
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            built = app(Arguments(**arguments))
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._serve.run(built)

    def replicas(self) -> dict[str, int]:
        deployments = self._serve.status().applications["default"].deployments
        return {"running": int(deployments["convpool"].replica_states.get("RUNNING", 0))}

    def add_node(self) -> None:
        self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)

    def kill_node(self) -> None:
        self._cluster.remove_node(next(iter(self._cluster.worker_nodes)), allow_graceful=False)

    def close(self) -> None:
        import ray

        self._serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()


def main() -> None:
    # what libraries print must not come between the replies
    replies, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    os.dup2(2, 1)
    cluster = _Cluster(int(sys.argv[1]))
    replies.write(f"{json.dumps(cluster.ready)}\n")
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            reply = getattr(cluster, command)(**arguments) or {}
        except Exception as error:  # noqa: BLE001  (the test reports it)
            reply = {"error": f"{command}: {error!r}"}
        replies.write(f"{json.dumps(reply)}\n")
    cluster.close()


if __name__ == "__main__":
    main()
