"""Hold the simulation against servers: HAProxy and replicas with a share of the processors each, under random arrivals.

    python -m benchmarks.scaling.measured

Requests of three layers come at random times, whether or not those before have been answered. The same requests at
the same times are then simulated. How long each layer needs is the processor time that it took one replica, divided
by the replica's share; the sum is held to what the replicas took for all the requests together, as the machine is not
equally fast at all times. What the way to the server takes is added: the difference of a single small request. Needs
HAProxy and control groups.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from convpool.client.operations import Operations
from convpool.client.wire import Call
from tests.scale.layers import SMALL
from tests.scale.processors import Share
from tests.scale.servers import Replica, balanced

from .simulation import Replicas, Times, poisson, simulate

LAYERS = {20: 0.5, 90: 0.4, 180: 0.1}
"""Padding of the layer, which decides how much it computes, and the share of the requests."""

PERIOD = 0.01  # of the quota: short, so that it is like a slower processor
QUANTILES = (0.5, 0.9, 0.99)
ALONE, SEEDS, THREADS = 30, 16, 100


class _Requests(Operations):
    def _call(self, call: Call) -> Call:
        return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.25, help="of a processor, for each replica")
    parser.add_argument("--seconds", type=float, default=40, help="of each load")
    parser.add_argument("--utilisations", type=float, nargs="+", default=[0.5, 0.75])
    options = parser.parse_args()
    calls = [_Requests().conv_forward(**SMALL._replace(padding=padding).operands) for padding in LAYERS]
    random = np.random.default_rng(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        balanced(Path(folder), options.replicas, processors=options.share, period=PERIOD) as servers,
    ):
        alone = [of_one(servers.replicas[0], call, options.share) for call in calls]
        needed = np.array([service for service, _ in alone])
        on_the_way = max(0.0, alone[0][1] - alone[0][0])
        print("seconds that each layer needs:", needed.round(4), "and on the way:", round(on_the_way, 4))
        print(f"{options.replicas} replicas\n\n| used | requests/s | quantile | measured ms | simulated ms |")
        print("|---|---|---|---|---|")
        for utilisation in options.utilisations:
            rate = utilisation * options.replicas / float(needed @ list(LAYERS.values()))
            arrivals = poisson(rate)(int(rate * options.seconds), random)
            kinds = random.choice(len(calls), len(arrivals), p=list(LAYERS.values()))
            shares = [replica.share for replica in servers.replicas]
            before = used(shares)
            measured = at_times(servers.url, [calls[kind] for kind in kinds], arrivals)
            services = needed[kinds] * (used(shares) - before) / options.share / needed[kinds].sum()
            in_use = services.sum() / arrivals[-1] / options.replicas
            simulations = [
                on_the_way + simulate(arrivals, services, Replicas(options.replicas), np.random.default_rng(seed))
                for seed in range(SEEDS)
            ]
            for quantile in QUANTILES:
                found = 1e3 * np.quantile(simulations, quantile, axis=1)
                print(
                    f"| {in_use:.0%} | {rate:.1f} | {quantile:.0%} | {1e3 * np.quantile(measured, quantile):.0f} "
                    f"| {found.mean():.0f} ({found.min():.0f} to {found.max():.0f}) |",
                    flush=True,
                )


def used(shares: list[Share | None]) -> float:
    """Return the processor seconds of all replicas."""
    return sum(share.seconds() for share in shares if share)


def of_one(replica: Replica, call: Call, share: float) -> tuple[float, float]:
    """Return the seconds that a request needs with this share of a processor, and the median of what one took."""
    taken = []
    with httpx.Client(base_url=replica.url, timeout=60) as client:
        before = used([replica.share])
        for _ in range(ALONE):
            start = time.perf_counter()
            client.request(**call.request()).raise_for_status()
            taken.append(time.perf_counter() - start)
        return (used([replica.share]) - before) / ALONE / share, float(np.median(taken))


def at_times(url: str, calls: list[Call], arrivals: Times) -> Times:
    """Return the seconds from each arrival to its response."""
    taken = np.zeros(len(arrivals))
    local = threading.local()
    begin = time.perf_counter() + 0.5

    def send(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=url, timeout=60)
        local.client.request(**calls[number].request()).raise_for_status()
        taken[number] = time.perf_counter() - begin - arrivals[number]

    with ThreadPoolExecutor(THREADS) as pool:
        sent = []
        for number, at in enumerate(arrivals):
            time.sleep(max(0.0, begin + at - time.perf_counter()))
            sent.append(pool.submit(send, number))
        for one in sent:
            one.result()
    return taken


if __name__ == "__main__":
    main()
