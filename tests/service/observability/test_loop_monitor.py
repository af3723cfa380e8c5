"""The event loop's delays, with a loop whose time the test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import generate_latest

from service.observability import metrics
from service.observability.loop_monitor import INTERVAL, TICKS_BETWEEN_REFRESHES, WINDOW, LoopMonitor
from service.observability.metrics import RequestRecord
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


def test_delays_are_observed_and_the_largest_of_a_minute_is_shown() -> None:
    loop: Any = Loop()
    before = scraped()
    LoopMonitor(loop)
    for late in (0.0, 0.3, 0.015, -0.001):
        loop.come(late)
    after = scraped()
    name = "convpool_event_loop_delay_seconds"
    assert after.sum(f"{name}_count") - before.sum(f"{name}_count") == 4
    assert after.sum(f"{name}_bucket", le="0.02") - before.sum(f"{name}_bucket", le="0.02") == 3
    assert abs(after.sum(MAX) - 0.3) < 1e-9
    for _ in range(WINDOW):
        loop.come(0.002)
    assert abs(scraped().sum(MAX) - 0.002) < 1e-9


def test_it_plans_from_when_it_came() -> None:
    loop: Any = Loop()
    LoopMonitor(loop)
    loop.come(5.0)
    assert loop.planned[0][0] == loop.now + INTERVAL  # a delay is counted once


def test_it_keeps_the_metrics_up_to_date_and_ends() -> None:
    loop, calls = Loop(), 0

    def counted() -> float:
        nonlocal calls
        calls += 1
        return 0.0

    monitor = LoopMonitor(loop)  # type: ignore[arg-type]
    metrics.register_gauge("tested_by_the_loop_monitor", "A number.", counted)
    metrics.record(RequestRecord("of_the_loop_monitor", 200, 0, 0, 0.0, {}))
    for _ in range(2 * TICKS_BETWEEN_REFRESHES):
        loop.come(0.0)
    assert calls == 2
    metrics.record(RequestRecord("of_the_loop_monitor", 200, 0, 0, 0.0, {}))
    monitor.close()
    assert not loop.planned
    assert scraped().sum("convpool_requests_total", operation="of_the_loop_monitor") == 2
