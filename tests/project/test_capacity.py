"""The simulation of replicas agrees with queueing theory, and the plan with both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.scaling.capacity import plan
from benchmarks.scaling.simulation import Replicas, bursty, erlang_c, poisson, simulate, waiting_time

REQUESTS, SEEDS, WARM_UP = 40_000, 12, 4_000


def runs(rate: float, replicas: Replicas) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Seconds that requests took, and seconds of service, of each seed, with a mean of one second of service."""
    found = []
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        services = random.exponential(1, REQUESTS)
        taken = simulate(poisson(rate)(REQUESTS, random), services, replicas, random)
        found.append((taken[WARM_UP:], services[WARM_UP:]))
    return found


def assert_near(found: list[float], expected: float) -> None:
    """The mean over seeds is within five standard errors, which are small."""
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 5 * error
    assert error < 0.06 * expected


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.8])
def test_one_replica_is_m_m_1(rate: float) -> None:
    """Times are exponential with mean 1 / (1 - rate), so every quantile is known."""
    found = runs(rate, Replicas(1, 1, math.inf))
    assert_near([float(np.mean(taken)) for taken, _ in found], 1 / (1 - rate))
    assert_near([float(np.quantile(taken, 0.99)) for taken, _ in found], math.log(100) / (1 - rate))


@pytest.mark.parametrize("as_replicas", [True, False])
@pytest.mark.parametrize(("count", "rate"), [(2, 1.2), (5, 4.0), (10, 8.0)])
def test_a_common_queue_is_m_m_c(count: int, rate: float, as_replicas: bool) -> None:
    """Whether it is that of a replica's processors, or that of the balancer before replicas with one place each."""
    replicas = Replicas(count, 1, 1) if as_replicas else Replicas(1, count, math.inf)
    found = runs(rate, replicas)
    waited = [taken - services for taken, services in found]
    assert_near([float(np.mean(one > 1e-9)) for one in waited], erlang_c(rate, count))
    assert_near([float(np.mean(one)) for one in waited], waiting_time(rate, 1, count))


def test_erlang_s_formula() -> None:
    """By its definition, a sum."""
    for servers, load in ((1, 0.5), (3, 2.0), (8, 7.5)):
        terms = [load**count / math.factorial(count) for count in range(servers)]
        last = load**servers / math.factorial(servers) * servers / (servers - load)
        assert erlang_c(load, servers) == pytest.approx(last / (sum(terms) + last))


def test_the_fewest_is_between_a_common_queue_and_chance() -> None:
    """Who joins the shortest of several queues waits longer than in a common one, and shorter than in any of them."""
    found = runs(3.2, Replicas(4, 1, math.inf))
    waited = [float(np.mean(taken - services)) for taken, services in found]
    assert waiting_time(3.2, 1, 4) < min(waited)
    assert max(waited) < waiting_time(0.8, 1, 1)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 3)), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.floats(0, 5),
)
def test_nobody_is_lost(
    requests: list[tuple[float, float]], count: int, processors: int, places: int, patience: float
) -> None:
    arrivals = np.cumsum([pause for pause, _ in requests])
    services = np.array([service for _, service in requests])
    random = np.random.default_rng(0)
    taken = simulate(arrivals, services, Replicas(count, processors, places), random)
    assert np.all(np.isfinite(taken))
    assert np.all(taken >= services - 1e-9)
    if len(requests) <= count * min(processors, places):  # there is an idle processor for each
        np.testing.assert_allclose(taken, services)
    impatient = simulate(arrivals, services, Replicas(count, processors, places, patience), random)
    served = np.isfinite(impatient)
    if places <= processors:  # who has a place is computed at once
        assert np.all(impatient[served] <= services[served] + patience + 1e-9)


def test_bursts_have_the_mean_rate_and_are_burstier() -> None:
    random = np.random.default_rng(0)
    for arrive, is_bursty in ((poisson(50), False), (bursty(50, lasting=2), True)):
        times = arrive(200_000, random)
        assert np.all(np.diff(times) >= 0)
        assert len(times) / times[-1] == pytest.approx(50, rel=0.1)
        counts = np.bincount(times.astype(int))
        index_of_dispersion = np.var(counts) / np.mean(counts)
        assert (index_of_dispersion > 3) if is_bursty else index_of_dispersion == pytest.approx(1, abs=0.1)


def test_the_plan_is_the_least_number_that_theory_allows() -> None:
    """With a single place for each, replicas are M/M/c, whose distribution of times is known."""
    rate, wanted = 4.2, 6.0
    services = np.random.default_rng(0).exponential(1, 100_000)
    found = list(plan(poisson(rate), services, wanted, Replicas(0, 1, 1), rate, 40_000, 6))
    assert [one.replicas for one in found] == list(range(5, 5 + len(found)))
    sufficient = next(count for count in range(5, 20) if late(wanted, rate, count) < 0.01)
    assert found[-1].replicas == sufficient
    assert found[-1].p99 + found[-1].error <= wanted
    with pytest.raises(ValueError, match="no number of replicas suffices"):
        list(plan(poisson(rate), services, 1.0, Replicas(0, 1, 1), rate, 1000, 2))


def late(seconds: float, rate: float, servers: int) -> float:
    """The probability that a request takes longer in M/M/c with a mean of one second of service."""
    waits, spare = erlang_c(rate, servers), servers - rate
    if spare == 1:
        return math.exp(-seconds) * (1 + waits * seconds)
    return math.exp(-seconds) * (1 - waits / (1 - spare)) + waits / (1 - spare) * math.exp(-spare * seconds)
