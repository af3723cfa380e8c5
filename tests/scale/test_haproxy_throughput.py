"""How much more several servers compute than one: each has a quota of the processors, as a machine of its own would.

What is compared is answers per second within one run, with the same HAProxy and as many clients for each server; both
are outside the quotas. Others use this machine, too: numbers of servers take turns, medians are compared, and a
comparison that fails is made again.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from tests.waiting import wait_until

from .load import Load
from .servers import Balanced, balanced

PROCESSORS = 0.25 if (os.cpu_count() or 1) < 4 else 0.5
"""Of each server: four of them, and who calls them, have room on two cores."""

CLIENTS = 4
"""For each server, so that it always has something to do."""

MOST = 4
ATTEMPTS, TURNS, SECONDS = 3, 3, 3.0
SHARE = 0.9
"""Of what as many servers would compute, each alone."""


def test_several_servers_compute_as_many_times_as_much(tmp_path: Path) -> None:
    with balanced(tmp_path, MOST, processors=PROCESSORS) as servers:
        found = []
        for _ in range(ATTEMPTS):
            found.append(speedups(servers))
            if all(times >= SHARE * count for count, times in found[-1].items()):
                return
    raise AssertionError(f"servers, and how many times as much as one they compute: {found}")


def test_a_slow_server_slows_only_what_it_is_at(tmp_path: Path) -> None:
    """Of three servers one gets a tenth of the processors: the others go on as two servers do."""
    with balanced(tmp_path, 3, processors=PROCESSORS) as servers:
        slow, found = servers.replicas[0].share, []
        assert slow is not None
        for _ in range(ATTEMPTS):
            well, ill = [], []
            for _ in range(TURNS):
                slow.limit(PROCESSORS)
                well.append(rate(servers, 3 * CLIENTS))
                slow.limit(0.1 * PROCESSORS)
                ill.append(rate(servers, 3 * CLIENTS))
            found.append(statistics.median(ill) / statistics.median(well))
            if found[-1] >= SHARE * 2 / 3:
                return
    raise AssertionError(f"with a slow server among three, they compute {found} of what they did")


def speedups(servers: Balanced) -> dict[int, float]:
    """Return how many times as much as one several servers compute, by their number."""
    rates: dict[int, list[float]] = {count: [] for count in range(1, MOST + 1)}
    addresses = [replica.address for replica in servers.replicas]
    for _ in range(TURNS):
        for count, found in rates.items():
            servers.names.addresses[:] = addresses[:count]
            wait_until(lambda count=count: servers.counters()["act"] == str(count))
            found.append(rate(servers, count * CLIENTS))

    one = statistics.median(rates[1])
    return {count: statistics.median(found) / one for count, found in rates.items()}


def rate(servers: Balanced, clients: int) -> float:
    """Return right answers per second."""
    with Load(servers.url, clients) as load:
        load.wait_until(lambda: load.right >= clients)
        start, before = time.perf_counter(), load.right
        time.sleep(SECONDS)
        end, after = time.perf_counter(), load.right
    assert (load.wrong, load.failures) == (0, [])
    return (after - before) / (end - start)
