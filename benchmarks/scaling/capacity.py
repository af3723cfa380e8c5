"""Find how many replicas a load needs for a 99th percentile, by simulation.

    python -m benchmarks.scaling.capacity --rate 200 --p99 0.25 --service 0.018
    python -m benchmarks.scaling.capacity --rate 200 --p99 0.25 --services services.txt --arrivals bursty --processors 2

Service times are seconds of a processor, one on each line of a file: what single requests took on an idle replica, or
what the histogram convpool_stage_duration_seconds of a server says. Arrivals are a Poisson process, bursts and calms,
or a file of the times, in seconds, at which requests came. It prints for each number of replicas the percentile, and
what it may be wrong by: twice the standard error over seeds. The number that suffices is the least one whose
percentile with that is not more than what is wanted, and where nobody waits for a place in vain.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .simulation import Arrivals, Replicas, Times, bursty, poisson, simulate

WARM_UP = 0.1
"""Of the requests: they meet idle replicas, and do not count."""

MOST = 1000


class Estimate(NamedTuple):
    """What a number of replicas does: seconds, twice their standard error, and shares."""

    replicas: int
    median: float
    p99: float
    error: float
    utilisation: float
    refused: float


def estimate(arrive: Arrivals, services: Times, replicas: Replicas, requests: int, seeds: int) -> Estimate:
    """Simulate as often as there are seeds.

    Parameters
    ----------
    arrive : callable
        Makes times of arrival.
    services : ndarray
        Seconds; each request needs one of them, whichever.
    replicas : Replicas
    requests, seeds : int
    """
    medians, tails, refused, used = [], [], [], []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        arrivals = arrive(requests, random)
        needed = random.choice(services, len(arrivals))
        taken = simulate(arrivals, needed, replicas, random)[int(WARM_UP * len(arrivals)) :]
        medians.append(np.quantile(taken, 0.5, method="higher"))
        tails.append(np.quantile(taken, 0.99, method="higher"))
        refused.append(np.mean(np.isinf(taken)))
        used.append(needed.sum() / (arrivals[-1] * replicas.count * replicas.processors))
    error = 2 * np.std(tails, ddof=1) / math.sqrt(seeds) if np.all(np.isfinite(tails)) else math.inf
    return Estimate(
        replicas.count, *map(float, (np.mean(medians), np.mean(tails), error, np.mean(used), np.mean(refused)))
    )


def plan(
    arrive: Arrivals, services: Times, wanted: float, replicas: Replicas, rate: float, requests: int, seeds: int
) -> Iterator[Estimate]:
    """Yield an estimate for each number of replicas, from the least that keeps up to the one that suffices.

    Raises
    ------
    ValueError
        If no number of replicas can do it: some requests alone take longer.
    """
    alone = np.quantile(services, 0.99)
    if alone >= wanted:
        raise ValueError(
            f"no number of replicas suffices: one request in a hundred needs {alone:.3g} s by itself; "
            f"a p99 of {wanted:g} s is wanted"
        )
    least = math.floor(rate * float(np.mean(services)) / replicas.processors) + 1
    for count in range(least, least + MOST):
        found = estimate(arrive, services, dataclasses.replace(replicas, count=count), requests, seeds)
        yield found
        if found.p99 + found.error <= wanted and not found.refused:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="requests per second; of a trace: its own")
    parser.add_argument("--p99", type=float, required=True, help="seconds that 99 of 100 requests may take")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--service", type=float, help="mean seconds of a processor for a request; exponential")
    given.add_argument("--services", type=Path, help="file of such seconds, one on each line")
    parser.add_argument("--arrivals", default="poisson", help="poisson, bursty, or a file of times in seconds")
    parser.add_argument("--times", type=float, default=4.0, help="how many times as many requests come in a burst")
    parser.add_argument("--share", type=float, default=0.1, help="share of the time that is a burst")
    parser.add_argument("--lasting", type=float, default=5.0, help="mean seconds of a burst")
    parser.add_argument("--processors", type=int, default=1, help="of each replica")
    parser.add_argument("--places", type=int, default=64, help="CONVPOOL_MAX_REQUESTS")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds that a request waits for a place")
    parser.add_argument("--requests", type=int, default=50_000, help="for each seed")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    rate = options.rate
    if options.arrivals not in {"poisson", "bursty"}:
        trace = np.sort(np.loadtxt(options.arrivals, ndmin=1))
        rate = len(trace) / (trace[-1] - trace[0])
        arrive: Arrivals = lambda count, random: trace - trace[0]  # noqa: ARG005, E731 the same for each seed
    elif rate is None:
        parser.error("--rate is needed unless the arrivals are a trace")
    elif options.arrivals == "poisson":
        arrive = poisson(rate)
    else:
        arrive = bursty(rate, options.times, options.share, options.lasting)
    if options.services:
        services = np.loadtxt(options.services, ndmin=1)
    else:
        services = np.random.default_rng(0).exponential(options.service, 100_000)
    replicas = Replicas(0, options.processors, options.places, options.patience)
    print("replicas   p50 ms   p99 ms       +-   used   refused")
    try:
        for found in plan(arrive, services, options.p99, replicas, rate, options.requests, options.seeds):
            print(
                f"{found.replicas:8d} {1e3 * found.median:8.1f} {1e3 * found.p99:8.1f} {1e3 * found.error:8.1f} "
                f"{found.utilisation:6.0%} {found.refused:9.2%}",
                flush=True,
            )
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print(f"{found.replicas} replicas suffice")


if __name__ == "__main__":
    main()
