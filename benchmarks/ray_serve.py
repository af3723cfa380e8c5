"""Ray Serve beside the service's own server: ``python -m benchmarks.ray_serve``, in the environment of test-scale.

Prints the median times of a small and of a 6 MB request, one after the other, and what two replicas do in a second
against one, where each may use a share of a processor.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np

from tests.clients import running_server
from tests.scale.ray_cluster import RayCluster, ray_cluster
from tests.scale.ray_throughput import throughput
from tests.service import payloads

SMALL = ("/pool/forward", payloads.json_body({"mode": "max", "kernel_size": 1, "input": [[[[1]]]]}), 500)
LARGE = (
    "/pool/forward",
    payloads.npy_request(
        {"input": np.zeros((1, 500, 500, 6), np.float32)}, {"mode": "max", "kernel_size": 1, "spatial_axes": 2}
    ),
    60,
)
"""Path, request and how often: 82 bytes, and 6 MB there and back."""

SECONDS = 12.0


def median_ms(base_url: str, path: str, options: dict[str, Any], count: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of the time of a request, after some that do not count."""
    times = []
    with httpx.Client(base_url=base_url, trust_env=False, timeout=60) as http:
        for number in range(count + count // 5):
            start = time.perf_counter()
            http.post(path, **options).raise_for_status()
            if number >= count // 5:
                times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), sorted(times)[int(0.99 * len(times))]


@contextlib.contextmanager
def servers(name: str) -> Iterator[tuple[str, RayCluster | None]]:
    """Yield the base URL of one server of this name, and the cluster if it is one."""
    if name == "uvicorn":
        with running_server(CONVPOOL_LOG_LEVEL="warning", CONVPOOL_COMPUTE_THREADS="1") as (base_url, _):
            yield base_url, None
    else:
        with ray_cluster(2, haproxy=name == "HAProxy mode") as cluster:
            cluster.deploy({"CONVPOOL_LOG_LEVEL": "warning"}, replicas=1)
            yield cluster.base_url, cluster


def main() -> None:
    """Measure and print."""
    for name in ("uvicorn", "Ray's own proxy", "HAProxy mode"):
        with servers(name) as (base_url, cluster):
            for size, call in (("82 B", SMALL), ("6 MB", LARGE)):
                middle, most = median_ms(base_url, *call)
                print(f"{name:16} {size}: p50 {middle:.2f} ms, p99 {most:.2f} ms", flush=True)
            if cluster is not None:
                one, two = throughput(cluster, 1, SECONDS), throughput(cluster, 2, SECONDS)
                print(f"{name:16} {one:.1f}/s by one replica, {two:.1f}/s by two: {two / one:.2f}", flush=True)


if __name__ == "__main__":
    main()
