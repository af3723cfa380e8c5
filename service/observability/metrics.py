"""The metrics, as prometheus-client keeps them, and how requests are recorded in them.

A request is recorded once its response is written, and only as a tuple in a list; ten times a second the list is added
to the counters. With several workers these lie in files that all of them read (``shared_directory.py``), so each worker
can answer for all.
"""

from __future__ import annotations

import collections
import os
import platform
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from cnn_core import __version__

__all__ = [
    "REGISTRY",
    "RequestRecord",
    "count_rejection",
    "flush",
    "observe_loop_delay",
    "record",
    "refresh_gauges",
    "register_gauge",
    "set_build_info",
]

# a sample more for each, which files of several workers do not have anyway
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry(auto_describe=True)
"""All metrics of this process."""

MAX_PENDING = 1000
"""Requests that are recorded at once at most: a millisecond or two."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the buckets of durations."""

DELAYS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

GaugeMode = Literal["livesum", "livemin", "livemax"]
"""How the values of several workers become one; those of a worker that has ended do not count."""


class RequestRecord(NamedTuple):
    """What is recorded of one request.

    Parameters
    ----------
    operation : str
        One of few names; never what a client makes up.
    status : int
        0 if no response was sent.
    received, sent : int
        Bytes of the bodies.
    duration : float
        Seconds from the head of the request to the end of the response.
    stages : mapping of str to float
        Seconds that each stage took: ``receive``, ``queue``, ``compute`` and ``send``, those that there were.
    """

    operation: str
    status: int
    received: int
    sent: int
    duration: float
    stages: Mapping[str, float]


class _Durations(Histogram):
    """A histogram that takes many values at once, in a fraction of the time that one after the other takes.

    It relies on what prometheus-client's ``Histogram`` keeps in ``_upper_bounds``, ``_buckets`` and ``_sum``;
    ``tests/service/observability/test_metrics.py`` fails where that changes.
    """

    def observe_all(self, amounts: Iterable[float]) -> None:
        """Observe each of the amounts."""
        amounts = list(amounts)
        for index, count in collections.Counter(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[index].inc(count)
        self._sum.inc(sum(amounts))


_requests = Counter(
    "convpool_requests",
    "Requests by operation and status of the response; none, if the client left before there was one.",
    ["operation", "status"],
    registry=REGISTRY,
)
_durations = _Durations(
    "convpool_request_duration_seconds",
    "Time from the head of a request to the end of its response.",
    ["operation"],
    buckets=SECONDS,
    registry=REGISTRY,
)
_stages = _Durations(
    "convpool_stage_duration_seconds",
    "Time that a request spent in a stage: receive (its body), queue, compute (decode, compute, encode) or send.",
    ["operation", "stage"],
    buckets=SECONDS,
    registry=REGISTRY,
)
_received = Counter(
    "convpool_received_bytes", "Bytes of the requests' bodies, as they were sent.", ["operation"], registry=REGISTRY
)
_sent = Counter(
    "convpool_sent_bytes", "Bytes of the responses' bodies, as they were sent.", ["operation"], registry=REGISTRY
)
_rejections = Counter(
    "convpool_rejections",
    "Requests and connections that a limit of this server ended, by reason.",
    ["reason"],
    registry=REGISTRY,
)
_loop_delays = Histogram(
    "convpool_event_loop_delay_seconds",
    "How much later than planned the event loop came to a timer, ten times a second: what others were held up by.",
    buckets=DELAYS,
    registry=REGISTRY,
)
_starts = Counter("convpool_worker_starts", "Processes that have started to serve.", registry=REGISTRY)
_cpu = Counter(
    "process_cpu_seconds", "Processor time that the serving processes have spent, in seconds.", registry=REGISTRY
)
_build = Gauge(
    "convpool_build_info",
    "Versions of convpool, Python and NumPy, and the number of worker processes; always 1.",
    ["version", "python", "numpy", "workers"],
    multiprocess_mode="livemax",
    registry=REGISTRY,
)

_gauges: dict[str, tuple[Gauge, Callable[[], float]]] = {}
_pending: list[RequestRecord] = []
_flushing = threading.Lock()


def record(request: RequestRecord) -> None:
    """Record a request whose response is written."""
    _pending.append(request)
    if len(_pending) >= MAX_PENDING:
        flush()


def flush() -> None:
    """Add the requests that were recorded since the last time to the counters; on any thread."""
    with _flushing:
        pending = _pending[:]
        del _pending[: len(pending)]
    if not pending:
        return
    requests, received, sent = (collections.Counter[tuple[str, ...]]() for _ in range(3))
    durations, stages = (collections.defaultdict[tuple[str, ...], list[float]](list) for _ in range(2))
    for request in pending:
        key = (request.operation,)
        requests[request.operation, str(request.status or "none")] += 1
        received[key] += request.received
        sent[key] += request.sent
        durations[key].append(request.duration)
        for stage, seconds in request.stages.items():
            stages[request.operation, stage].append(seconds)
    for counter, counts in ((_requests, requests), (_received, received), (_sent, sent)):
        for labels, count in counts.items():
            counter.labels(*labels).inc(count)
    for histogram, values in ((_durations, durations), (_stages, stages)):
        for labels, amounts in values.items():
            histogram.labels(*labels).observe_all(amounts)


def count_rejection(reason: str) -> None:
    """Count a request or a connection that a limit of this server ended; on any thread.

    Parameters
    ----------
    reason : str
        One of few words, such as ``body_timeout``; never what a client makes up.
    """
    _rejections.labels(reason).inc()


def register_gauge(name: str, description: str, value: Callable[[], float], mode: GaugeMode = "livesum") -> None:
    """Show a number that something else keeps; of several functions for one name, the last counts.

    Parameters
    ----------
    name : str
        Such as ``convpool_open_connections``; ends with its unit, if it has one.
    description : str
        A sentence; also the metric's line in docs/operating.md.
    value : callable
        Returns the number; called on the event loop once a second, so it must be cheap.
    mode : str, optional
        How the numbers of several workers become one.
    """
    known = _gauges.get(name)
    gauge = known[0] if known else Gauge(name, description, multiprocess_mode=mode, registry=REGISTRY)
    _gauges[name] = (gauge, value)


def refresh_gauges() -> None:
    """Read the numbers that the gauges show."""
    for gauge, value in _gauges.values():
        gauge.set(value())
    _process.refresh()


def observe_loop_delay(seconds: float) -> None:
    """Observe how much too late a timer was."""
    _loop_delays.observe(seconds)


def set_build_info(workers: int) -> None:
    """Say what runs; called once by each process that serves."""
    _starts.inc()
    _build.labels(__version__, platform.python_version(), np.__version__, workers).set(1)


class _Process:
    """What prometheus-client finds out about a process, in metrics that can be added up over the workers."""

    def __init__(self) -> None:
        self._collector = ProcessCollector(registry=None)
        self._pid, self._cpu_seconds = os.getpid(), 0.0
        self._gauges: dict[str, Gauge] = {}

    def refresh(self) -> None:
        """Read the numbers; nothing on a system without /proc."""
        for family in self._collector.collect():
            value = family.samples[0].value
            if family.type == "counter":
                _cpu.inc(max(0.0, value - self._cpu_seconds))
                self._cpu_seconds = value
                continue
            gauge = self._gauges.get(family.name)
            if gauge is None:
                mode: GaugeMode = "livemin" if family.name == "process_start_time_seconds" else "livesum"
                gauge = Gauge(family.name, family.documentation, multiprocess_mode=mode, registry=REGISTRY)
                self._gauges[family.name] = gauge
            gauge.set(value)


_process = _Process()
