"""The end of a server or of a worker, under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

from ..outcome import Context, Outcome, scenario
from ..server import Server
from ..wire import Connection, head

READY = head("/health/ready", method="GET")
CLIENTS = 8
REPLACED_WITHIN = 20.0


class _Arrivals:
    """New connections, one every 20 ms, each of which is asked whether the server is ready."""

    def __init__(self, server: Server) -> None:
        self.seen: Counter[str] = Counter()
        self._port = server.port
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._clock = threading.Thread(target=self._come)

    def start(self) -> None:
        self._clock.start()

    def stop(self) -> None:
        self._end.set()
        self._clock.join()
        for thread in self._threads:
            thread.join()

    def _come(self) -> None:
        while not self._end.wait(0.02):
            thread = threading.Thread(target=self._ask)
            thread.start()
            self._threads.append(thread)

    def _ask(self) -> None:
        try:
            connection = Connection(self._port, 5)
        except ConnectionRefusedError:
            self.seen["refused"] += 1
            return
        except OSError:
            self.seen["not_connected"] += 1
            return
        with connection:
            try:
                self.seen[f"ready_{connection.ask(READY).status}"] += 1
            except TimeoutError:
                self.seen["hung"] += 1
            except OSError:
                self.seen["reset"] += 1


def _end_under_load(context: Context, outcome: Outcome, workers: int) -> None:
    with context.server(workers=workers) as server, context.load(server, CLIENTS, 0.002) as load:
        load.run(1)
        load.start()
        time.sleep(min(2.0, context.seconds))
        arrivals = _Arrivals(server)
        server.signal(signal.SIGTERM)
        start = time.monotonic()
        arrivals.start()
        status = server.wait(40)
        outcome.note(seconds_to_end=round(time.monotonic() - start, 1), exit_status=str(status))
        time.sleep(0.2)
        arrivals.stop()
        figures = load.stop()
    figures.failures.pop("refused", None)  # the server is gone
    outcome.note_load("load", figures)
    outcome.note(**arrivals.seen)
    outcome.require_answered(figures, busy_is_allowed=True)
    outcome.require("new connections are served or refused", holds=not set(arrivals.seen) & {"hung", "reset"})
    outcome.require("exit status 0", holds=status == 0)


@scenario
def sigterm_1_worker(context: Context, outcome: Outcome) -> None:
    """SIGTERM to one process under the load of 8 clients."""
    _end_under_load(context, outcome, 1)


@scenario
def sigterm_2_workers(context: Context, outcome: Outcome) -> None:
    """SIGTERM to the supervisor of two workers under the load of 8 clients."""
    _end_under_load(context, outcome, 2)


def _replaced(server: Server, before: list[int]) -> float:
    """Wait until all of these workers are gone and as many others serve; return the seconds that it took."""
    start = time.monotonic()
    while time.monotonic() - start < REPLACED_WITHIN:
        now = server.workers()
        if len(now) >= len(before) and not set(now) & set(before):
            return time.monotonic() - start
        time.sleep(0.05)
    return REPLACED_WITHIN


def _wait_for_workers(server: Server, count: int) -> list[int]:
    end = time.monotonic() + REPLACED_WITHIN
    while len(server.workers()) < count and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)  # until it serves, not only listens
    return server.workers()


@scenario
def restart_by_sighup(context: Context, outcome: Outcome) -> None:
    """SIGHUP to the supervisor of two workers, twice, under the load of 8 clients."""
    with context.server(workers=2) as server, context.load(server, CLIENTS, 0.002) as load:
        _wait_for_workers(server, 2)
        load.run(1)
        load.start()
        taken = []
        for _ in range(2):
            before = server.workers()
            server.signal(signal.SIGHUP)
            taken.append(_replaced(server, before))
            time.sleep(1)
        figures = load.stop()
        after = load.run(1)
    outcome.note(replaced_after_s=", ".join(f"{seconds:.1f}" for seconds in taken))
    outcome.note_load("load", figures)
    outcome.require_answered(figures)
    outcome.require("workers are replaced", holds=max(taken) < REPLACED_WITHIN)
    outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures)


@scenario
def sigterm_to_each_worker(context: Context, outcome: Outcome) -> None:
    """SIGTERM to one worker after the other, under the load of 8 clients."""
    with context.server(workers=2) as server, context.load(server, CLIENTS, 0.002) as load:
        first = _wait_for_workers(server, 2)
        load.run(1)
        load.start()
        taken = []
        for pid in first:
            os.kill(pid, signal.SIGTERM)
            taken.append(_gone(server, pid))
            _wait_for_workers(server, 2)
        figures = load.stop()
    outcome.note(replaced_after_s=", ".join(f"{seconds:.1f}" for seconds in taken))
    outcome.note_load("load", figures)
    outcome.require_answered(figures)
    outcome.require("workers are replaced", holds=max(taken) < REPLACED_WITHIN)


def _gone(server: Server, pid: int) -> float:
    start = time.monotonic()
    while time.monotonic() - start < REPLACED_WITHIN:
        now = server.workers()
        if pid not in now and len(now) >= 2:
            return time.monotonic() - start
        time.sleep(0.05)
    return REPLACED_WITHIN


@scenario
def killed_worker(context: Context, outcome: Outcome) -> None:
    """Kill -9 of one of two workers, under the load of 8 clients."""
    with context.server(workers=2) as server, context.load(server, CLIENTS, 0.002) as load:
        victim = _wait_for_workers(server, 2)[0]
        load.run(1)
        load.start()
        os.kill(victim, signal.SIGKILL)
        taken = _gone(server, victim)
        figures = load.stop()
        after = load.run(1)
    lost = sum(figures.failures.values())
    outcome.note(lost=lost, replaced_after_s=round(taken, 1))
    outcome.note_load("load", figures)
    outcome.note_load("after", after)
    outcome.require("only requests of that worker fail, one a client at most", holds=lost <= CLIENTS)
    outcome.require("no wrong answer", holds=not figures.wrong and set(figures.statuses) == {200})
    outcome.require("the worker is replaced", holds=taken < REPLACED_WITHIN)
    outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures)
