"""Replicas behind a balancer that sends each request to the one with the fewest: how long every request takes.

A replica has processors, each of which computes one request at a time, in the order in which they came, and places: as
many requests as it may have. Who finds no place at any replica waits at the balancer for the first that is free, and
gives up after its patience. That is HAProxy's ``leastconn`` with ``maxconn`` and ``timeout queue``, and a service with
CONVPOOL_COMPUTE_THREADS and CONVPOOL_MAX_REQUESTS, of requests each of which is computed on one thread.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Replicas", "bursty", "erlang_c", "poisson", "simulate", "waiting_time"]

Times = NDArray[np.float64]
Arrivals = Callable[[int, np.random.Generator], Times]


@dataclass(frozen=True)
class Replicas:
    """What the requests meet.

    Parameters
    ----------
    count : int
    processors : int
        Of each.
    places : float
        Of each; infinite if there is no limit.
    patience : float
        Seconds that a request waits for a place.
    """

    count: int
    processors: int = 1
    places: float = 64
    patience: float = math.inf


def simulate(arrivals: Times, services: Times, replicas: Replicas, random: np.random.Generator) -> Times:
    """Return how many seconds each request took; infinity if it waited for a place in vain.

    Parameters
    ----------
    arrivals : ndarray
        Shape (n,), ascending, in seconds.
    services : ndarray
        Shape (n,): seconds of a processor that each request needs.
    replicas : Replicas
    random : Generator
        Decides between replicas that have equally few requests.
    """
    count = replicas.count
    present = [0] * count
    idle = [replicas.processors] * count
    waiting: list[deque[int]] = [deque() for _ in range(count)]
    queue: deque[int] = deque()
    ends: list[tuple[float, int, int]] = []
    taken = np.full(len(arrivals), math.inf)
    coins = random.random((len(arrivals), count)) if count > 1 else np.zeros((len(arrivals), 1))

    def begin(now: float, request: int, replica: int) -> None:
        idle[replica] -= 1
        heapq.heappush(ends, (now + services[request], replica, request))

    def give(now: float, request: int, replica: int) -> None:
        present[replica] += 1
        if idle[replica]:
            begin(now, request, replica)
        else:
            waiting[replica].append(request)

    def end_until(time: float) -> None:
        while ends and ends[0][0] <= time:
            now, replica, request = heapq.heappop(ends)
            taken[request] = now - arrivals[request]
            present[replica] -= 1
            idle[replica] += 1
            if waiting[replica]:
                begin(now, waiting[replica].popleft(), replica)
            while queue and now - arrivals[queue[0]] > replicas.patience:
                queue.popleft()
            if queue:
                give(now, queue.popleft(), replica)

    for request, now in enumerate(arrivals):
        end_until(now)
        chosen = min(range(count), key=lambda replica: (present[replica], coins[request, replica]))
        if present[chosen] < replicas.places:
            give(now, request, chosen)
        else:
            queue.append(request)
    end_until(math.inf)
    return taken


# ------------------------------------------------------------------------------------------------------------- arrivals


def poisson(rate: float) -> Arrivals:
    """Return independent arrivals.

    Parameters
    ----------
    rate : float
        Requests per second.
    """
    return lambda count, random: np.cumsum(random.exponential(1 / rate, count))


def bursty(rate: float, times: float = 4.0, share: float = 0.1, lasting: float = 5.0) -> Arrivals:
    """Return arrivals in two states, calm and burst, whose lengths are exponential: a Markov-modulated Poisson process.

    Parameters
    ----------
    rate : float
        Requests per second on average.
    times : float
        How many times as many come in a burst as in the calm.
    share : float
        Of the time that is a burst.
    lasting : float
        Seconds of a burst, on average.
    """
    calm = rate / (1 - share + share * times)

    def arrive(count: int, random: np.random.Generator) -> Times:
        # as many calms and bursts as give some more than that count, and again if that was too few
        pairs = max(8, math.ceil(1.5 * count / rate / (lasting / share)))
        while True:
            lengths = random.exponential([lasting * (1 - share) / share, lasting], (pairs, 2)).ravel()
            # the number of arrivals that are expected until the end of each state; in that measure they are uniform
            expected = np.cumsum(lengths * np.tile([calm, calm * times], pairs))
            uniform = np.cumsum(random.exponential(1, count))
            if uniform[-1] < expected[-1]:
                return np.interp(uniform, np.append(0, expected), np.append(0, np.cumsum(lengths)))
            pairs *= 2

    return arrive


# --------------------------------------------------------------------------------------------------------- closed forms


def erlang_c(load: float, servers: int) -> float:
    """Return the probability that a request waits in M/M/c (Erlang's C formula).

    Parameters
    ----------
    load : float
        Arrivals per second times seconds of service: less than the number of servers.
    servers : int
    """
    blocked = 1.0  # Erlang's B formula, by its recursion
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def waiting_time(rate: float, service: float, servers: int) -> float:
    """Return the mean seconds that a request waits in M/M/c."""
    return erlang_c(rate * service, servers) * service / (servers - rate * service)
