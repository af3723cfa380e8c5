"""Several processes that serve, and the one that starts them and replaces those that end."""

from __future__ import annotations

import logging
import signal

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from .observability.shared_directory import forget_worker

__all__ = ["WorkerSupervisor"]

logger = logging.getLogger("convpool")


class WorkerSupervisor(Multiprocess):
    """uvicorn's process manager, for which a worker lives as long as its process does.

    uvicorn's own also kills a worker that does not answer a ping within some seconds. A worker that still imports the
    application answers none, so on a loaded machine no worker would ever serve. A separate thread answers pings, so
    they do not detect a stuck event loop either: ``/health/live`` does.
    """

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that have ended, and say why they did."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.process.is_alive():
                continue
            worker.kill()  # closes the pipes to it
            worker.process.join()
            forget_worker(worker.pid)  # what it counted stays
            reason = _how_it_ended(worker.exitcode or 0)
            if worker.exitcode == STARTUP_FAILURE:
                logger.error("Worker [%s] could not start (%s), nor could another: stopping", worker.pid, reason)
                self.should_exit.set()
                return
            logger.error("Worker [%s] %s; another one takes its place", worker.pid, reason)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    names = {each.value: each.name for each in signal.Signals}
    return f"was killed by signal {-status} ({names.get(-status, 'unknown')})"
