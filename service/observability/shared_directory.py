"""Where the workers keep their metrics, so that each of them can answer for all."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator

__all__ = ["VARIABLE", "forget_worker", "shared_metrics"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable by which prometheus-client finds the directory, in the workers too."""

IN_MEMORY = "/dev/shm"  # noqa: S108  (a directory of its own is made in it)
"""A file system that exists in every container, and is writable there even if nothing else is."""

logger = logging.getLogger("convpool")


@contextlib.contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """Let several workers share their metrics meanwhile, in a directory that is removed at the end.

    It lies in the directory that ``PROMETHEUS_MULTIPROC_DIR`` names, if it is set, else in memory, else where temporary
    files are. Without a place to write to, each worker answers for itself.

    Parameters
    ----------
    workers : int
        A single one keeps its metrics to itself.
    """
    if workers == 1:
        os.environ.pop(VARIABLE, None)
        yield
        return
    with contextlib.ExitStack() as resources:
        chosen = os.environ.pop(VARIABLE, "")
        resources.callback(os.environ.pop, VARIABLE, None)
        for parent in [*filter(None, [chosen]), IN_MEMORY, None]:
            with contextlib.suppress(OSError):
                made = tempfile.TemporaryDirectory(prefix="convpool-metrics-", dir=parent, ignore_cleanup_errors=True)
                os.environ[VARIABLE] = resources.enter_context(made)
                break
        else:
            logger.warning("No directory for metrics can be written to: /metrics shows one worker at a time")
        yield


def forget_worker(pid: int | None) -> None:
    """Let what a worker that has ended had in use count no more; what it counted stays."""
    if VARIABLE in os.environ:
        # not imported before the variable is set, by which prometheus-client decides how it keeps numbers
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

        mark_process_dead(pid)  # type: ignore[no-untyped-call]
