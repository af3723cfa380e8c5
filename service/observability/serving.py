"""What is observed while a process serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from .loop_monitor import LoopMonitor
from .metrics import set_build_info
from .tracing import RequestTracer

__all__ = ["observed"]


@contextlib.asynccontextmanager
async def observed(workers: int, tracer: RequestTracer | None) -> AsyncIterator[None]:
    """Keep the metrics up to date meanwhile, and send the last traces at the end.

    Parameters
    ----------
    workers : int
        Number of processes that serve.
    tracer : RequestTracer, optional
    """
    set_build_info(workers)
    monitor = LoopMonitor(asyncio.get_running_loop())
    try:
        yield
    finally:
        monitor.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close)
