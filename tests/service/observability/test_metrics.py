"""What is recorded, and what it adds up to."""

from __future__ import annotations

import itertools
import re
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from service.observability import metrics
from service.observability.metrics import RequestRecord
from tests.service.metrics import Scrape, samples

names = (f"tested_{number}" for number in itertools.count())


def scraped() -> Scrape:
    return samples(generate_latest(metrics.REGISTRY).decode())


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from(metrics.SECONDS)), min_size=1, max_size=30))
def test_many_values_at_once_are_what_one_after_the_other_is(amounts: list[float]) -> None:
    registry = CollectorRegistry()
    once = metrics._Durations("once", "", ["of"], buckets=metrics.SECONDS, registry=registry)
    each = Histogram("each", "", ["of"], buckets=metrics.SECONDS, registry=registry)
    once.labels("a").observe_all(amounts)
    for amount in amounts:
        each.labels("a").observe(amount)
    found = samples(generate_latest(registry).decode())
    for suffix in ("bucket", "count"):
        assert list(found.values(f"once_{suffix}")) == list(found.values(f"each_{suffix}"))
    assert found.sum("once_sum") == pytest.approx(found.sum("each_sum"))


def test_requests_are_counted_once_they_are_flushed() -> None:
    one, other = next(names), next(names)
    for _ in range(3):
        metrics.record(RequestRecord(one, 200, 10, 20, 0.002, {"receive": 0.001, "send": 0.0001}))
    metrics.record(RequestRecord(one, 503, 1, 2, 7.0, {}))
    metrics.record(RequestRecord(other, 0, 0, 0, 100.0, {"queue": 61.0}))
    metrics.flush()
    metrics.flush()  # nothing is counted twice
    found = scraped()
    assert found.sum("convpool_requests_total", operation=one, status="200") == 3
    assert found.sum("convpool_requests_total", operation=one, status="503") == 1
    assert found.sum("convpool_requests_total", operation=other, status="none") == 1
    assert found.sum("convpool_received_bytes_total", operation=one) == 31
    assert found.sum("convpool_sent_bytes_total", operation=one) == 62
    assert found.sum("convpool_request_duration_seconds_sum", operation=one) == pytest.approx(7.006)
    assert found.sum("convpool_request_duration_seconds_bucket", operation=one, le="0.0025") == 3
    assert found.sum("convpool_request_duration_seconds_bucket", operation=one, le="10.0") == 4
    assert found.sum("convpool_stage_duration_seconds_count", operation=one, stage="receive") == 3
    assert found.labels("convpool_stage_duration_seconds_count", "stage") <= {"receive", "queue", "compute", "send"}
    assert found.sum("convpool_stage_duration_seconds_bucket", operation=other, stage="queue", le="60.0") == 0
    assert found.sum("convpool_stage_duration_seconds_bucket", operation=other, stage="queue", le="+Inf") == 1


def test_what_is_recorded_does_not_pile_up() -> None:
    operation = next(names)
    for _ in range(3 * metrics.MAX_PENDING):
        metrics.record(RequestRecord(operation, 200, 0, 0, 0.0, {}))
        assert len(metrics._pending) < metrics.MAX_PENDING
    metrics.flush()
    assert scraped().sum("convpool_requests_total", operation=operation) == 3 * metrics.MAX_PENDING


def test_rejections_are_counted_on_any_thread() -> None:
    reason = next(names)
    threads = [threading.Thread(target=metrics.count_rejection, args=(reason,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scraped().sum("convpool_rejections_total", reason=reason) == 4


def test_of_several_functions_of_a_gauge_the_last_one_counts() -> None:
    name = next(names)
    for value in (1.0, 2.0):
        metrics.register_gauge(name, "A number.", lambda value=value: value)  # type: ignore[misc]
    metrics.refresh_gauges()
    assert list(scraped().values(name)) == [2]


def test_the_processor_time_only_grows() -> None:
    seen = []
    for _ in range(3):
        metrics.refresh_gauges()
        seen.append(scraped().sum("process_cpu_seconds_total"))
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert scraped().sum("process_resident_memory_bytes") > 2**20


def test_the_build_is_named() -> None:
    before = scraped().sum("convpool_worker_starts_total")
    metrics.set_build_info(3)
    found = scraped()
    assert found.sum("convpool_worker_starts_total") == before + 1
    assert found.sum("convpool_build_info", workers="3") == 1
    for label in ("version", "python", "numpy"):
        assert all(re.match(r"\d+\.\d+", value) for value in found.labels("convpool_build_info", label))
