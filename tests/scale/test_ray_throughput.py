"""How much more two replicas of Ray Serve compute than one.

As in the test of HAProxy, numbers of replicas take turns, medians are compared, and a comparison that fails is made
again, since others use this machine, too.
"""

from __future__ import annotations

import statistics

from .ray_cluster import ray_cluster
from .ray_throughput import throughput

ATTEMPTS, TURNS, SECONDS = 3, 3, 4.0
REPLICAS = 2
"""On two cores there is no room for more beside Ray's own processes."""


def test_two_replicas_compute_as_much_as_two() -> None:
    found = []
    with ray_cluster(REPLICAS) as cluster:
        for _ in range(ATTEMPTS):
            one, two = [], []
            for _ in range(TURNS):
                one.append(throughput(cluster, 1, SECONDS))
                two.append(throughput(cluster, REPLICAS, SECONDS))
            found.append(statistics.median(two) / statistics.median(one))
            if found[-1] >= 0.9 * REPLICAS:
                return
    raise AssertionError(f"two replicas compute {found} times as much as one")
