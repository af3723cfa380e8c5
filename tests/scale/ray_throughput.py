"""What replicas of Ray Serve compute in a second, each with a quota of the processors, as on a node of its own."""

from __future__ import annotations

import contextlib
import time

from .load import Load
from .processors import share
from .ray_cluster import RayCluster

__all__ = ["CLIENTS", "throughput"]

SHARE = 0.3
"""Of a processor, for each replica: what is left of two is for the proxy and the clients."""

CLIENTS = 4
"""For each replica, so that it always has something to do."""


def throughput(cluster: RayCluster, replicas: int, seconds: float) -> float:
    """Return the right answers a second of so many replicas."""
    cluster.deploy(replicas=replicas)
    with contextlib.ExitStack() as shares:
        for pid in cluster.pids("ray::ServeReplica"):
            shares.enter_context(share(SHARE)).add(pid)
        with Load(cluster.base_url, clients=CLIENTS * replicas) as load:
            load.wait_for_more()
            before, start = load.right, time.perf_counter()
            time.sleep(seconds)
            found = (load.right - before) / (time.perf_counter() - start)
    assert not load.wrong
    assert not load.failures
    return found
