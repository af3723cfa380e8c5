"""Several processes that serve, and the one that starts them and replaces those that end."""

from __future__ import annotations

import logging
import signal

from uvicorn.supervisors import Multiprocess

__all__ = ["WorkerSupervisor"]

logger = logging.getLogger("convpool")


class WorkerSupervisor(Multiprocess):
    """uvicorn's process manager, which says why a worker ended.

    It asks each worker twice a second whether it lives, and replaces one that does not answer within
    ``timeout_worker_healthcheck``. A worker answers once it has imported the application: with uvicorn's five seconds,
    workers on a loaded machine were killed while they started, and so were those that took their place.
    """

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that have ended or do not answer."""
        before = list(self.processes)
        alive = [process.process.is_alive() for process in before]
        super().keep_subprocess_alive()
        for process, was_alive, after in zip(before, alive, self.processes, strict=True):
            if process is not after:
                logger.error(
                    "Worker [%s] %s; [%s] takes its place", process.pid, self._reason(process, was_alive), after.pid
                )

    def _reason(self, process: object, was_alive: bool) -> str:
        if was_alive:
            return f"did not answer for {self.config.timeout_worker_healthcheck} s and was killed"
        status: int | None = process.exitcode  # type: ignore[attr-defined]
        if status is not None and status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else "unknown"
            return f"was killed by signal {-status} ({name})"
        return f"ended with exit status {status}"
