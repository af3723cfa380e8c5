"""How long the event loop is held up, and the timer that keeps the metrics up to date."""

from __future__ import annotations

import asyncio
from collections import deque

from .metrics import flush, observe_loop_delay, refresh_gauges, register_gauge

__all__ = ["LoopMonitor"]

INTERVAL = 0.1
TICKS_BETWEEN_REFRESHES = 10
WINDOW = 600
"""Delays of which the largest is shown: those of a minute, whatever else happens to ask."""


class LoopMonitor:
    """Comes ten times a second and measures by how much it is late.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        Running.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._delays: deque[float] = deque([0.0], WINDOW)
        self._ticks = 0
        register_gauge(
            "convpool_event_loop_delay_max_seconds",
            "Longest time of the last minute that the event loop of a worker was held up.",
            lambda: max(self._delays),
            "livemax",
        )
        self._plan()

    def _plan(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        delay = max(0.0, self._loop.time() - self._due)
        observe_loop_delay(delay)
        self._delays.append(delay)
        flush()
        self._ticks += 1
        if self._ticks % TICKS_BETWEEN_REFRESHES == 0:
            refresh_gauges()
        self._plan()

    def close(self) -> None:
        """Come no more."""
        self._timer.cancel()
        flush()
