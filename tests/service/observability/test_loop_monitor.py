"""The event loop's delays, with a loop whose time the test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from service.observability import loop_monitor, metrics
from service.observability.loop_monitor import INTERVAL, TICKS_BETWEEN_REFRESHES, WINDOW, LoopMonitor
from tests.service.metrics import Scrape, samples

MAX = "convpool_event_loop_delay_max_seconds"


class Loop:
    """A loop that comes to its only timer when the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.planned: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        self.planned = [(when, callback)]
        return self

    def cancel(self) -> None:
        self.planned = []

    def come(self, late: float) -> None:
        ((when, callback),) = self.planned
        self.now = when + late
        callback()


def scraped() -> Scrape:
    metrics.refresh_gauges()
    return samples(generate_latest(metrics.REGISTRY).decode())


def test_delays_are_observed_and_the_largest_of_a_minute_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[float] = []
    monkeypatch.setattr(loop_monitor, "observe_loop_delay", observed.append)
    loop: Any = Loop()
    LoopMonitor(loop)
    for late in (0.0, 0.3, 0.015, -0.001):
        loop.come(late)
    assert observed == pytest.approx([0.0, 0.3, 0.015, 0.0])
    assert scraped().sum(MAX) == pytest.approx(0.3)
    for _ in range(WINDOW):
        loop.come(0.002)
    assert scraped().sum(MAX) == pytest.approx(0.002)


def test_a_delay_is_one_of_the_histogram() -> None:
    registry = CollectorRegistry()
    delays = Histogram("delays", "", buckets=metrics.DELAYS, registry=registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_loop_delays", delays)
        metrics.observe_loop_delay(0.015)
    found = samples(generate_latest(registry).decode())
    assert (found.sum("delays_bucket", le="0.01"), found.sum("delays_bucket", le="0.02")) == (0, 1)


def test_it_plans_from_when_it_came() -> None:
    loop: Any = Loop()
    LoopMonitor(loop)
    loop.come(5.0)
    assert loop.planned[0][0] == loop.now + INTERVAL  # a delay is counted once


def test_it_keeps_the_metrics_up_to_date_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loop: Any = Loop()
    refreshes: list[None] = []
    flushes: list[None] = []
    monkeypatch.setattr(loop_monitor, "refresh_gauges", lambda: refreshes.append(None))
    monkeypatch.setattr(loop_monitor, "flush", lambda: flushes.append(None))
    monitor = LoopMonitor(loop)
    for _ in range(2 * TICKS_BETWEEN_REFRESHES):
        loop.come(0.0)
    assert (len(refreshes), len(flushes)) == (2, 2 * TICKS_BETWEEN_REFRESHES)
    monitor.close()
    assert not loop.planned
    assert len(flushes) == 2 * TICKS_BETWEEN_REFRESHES + 1  # the last requests are recorded too
