"""The text of the metrics, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, openmetrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from .metrics import REGISTRY, flush, refresh_gauges
from .shared_directory import VARIABLE, reading_files

__all__ = ["OPENMETRICS", "TEXT", "Exposition"]

TEXT, OPENMETRICS = CONTENT_TYPE_PLAIN_0_0_4, openmetrics.exposition.CONTENT_TYPE_LATEST
"""The formats, by their media types."""

WRITERS: dict[str, Callable[[CollectorRegistry], bytes]] = {
    TEXT: generate_latest,
    OPENMETRICS: openmetrics.exposition.generate_latest,
}

MIN_SECONDS = 0.5
"""How old a text may be: however many ask, it is written no more than twice a second."""


class Exposition:
    """The metrics as texts: one is written at a time, off the event loop.

    Parameters
    ----------
    min_seconds : float
        How old a text may be that is sent once more.
    """

    def __init__(self, min_seconds: float = MIN_SECONDS) -> None:
        self._min_seconds = min_seconds
        self._lock = asyncio.Lock()
        self._texts: dict[str, tuple[float, bytes]] = {}

    async def text(self, media_type: str) -> bytes:
        """Return the metrics of all workers.

        Parameters
        ----------
        media_type : str
            ``TEXT`` or ``OPENMETRICS``.
        """
        async with self._lock:
            written, text = self._texts.get(media_type, (-self._min_seconds, b""))
            if time.monotonic() - written < self._min_seconds:
                return text
            flush()
            refresh_gauges()
            text = await asyncio.to_thread(_written, media_type)
            self._texts[media_type] = (time.monotonic(), text)
            return text


def _written(media_type: str) -> bytes:
    write = WRITERS[media_type]
    if VARIABLE not in os.environ:
        return write(REGISTRY)
    registry = CollectorRegistry()
    with reading_files() as directory:
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        return write(registry)
