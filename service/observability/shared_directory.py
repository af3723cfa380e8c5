"""Where the workers keep their metrics, so that each of them can answer for all.

prometheus-client decides when it is imported whether numbers lie in files: they do if ``PROMETHEUS_MULTIPROC_DIR`` is
set then. It must be in workers, where their supervisor has set it, and nowhere else: the operator's variable, which
names where the directory is to be made, is taken out of the environment when this module is imported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["VARIABLE", "forget_worker", "reading_files", "shared_metrics"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable by which prometheus-client finds the directory, in the workers too."""

IN_MEMORY = "/dev/shm"  # noqa: S108  (a directory of its own is made in it)
"""A file system that exists in every container, and is writable there even if nothing else is."""

LOCK = "lock"
"""File in the directory that is locked while files are read, or added up."""

ENDED = 0
"""In place of a process id, in the name of the files that have what workers counted that have ended."""

PREFIX = "convpool-metrics-"

logger = logging.getLogger("convpool")
_to_be_added: set[int] = set()


def _chosen() -> str:
    """Return what the operator chose, and take it out of the environment."""
    chosen = os.environ.get(VARIABLE, "")
    return "" if Path(chosen).name.startswith(PREFIX) else os.environ.pop(VARIABLE, "")


_parent = _chosen()


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
        yield
        return
    with contextlib.ExitStack() as resources:
        resources.callback(os.environ.pop, VARIABLE, None)
        for parent in [*filter(None, [_parent]), IN_MEMORY, None]:
            with contextlib.suppress(OSError):
                made = tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True)
                os.environ[VARIABLE] = resources.enter_context(made)
                break
        else:
            logger.warning("No directory for metrics can be written to: /metrics shows one worker at a time")
        yield


@contextlib.contextmanager
def _locked(directory: str, *, to_read: bool) -> Iterator[None]:
    """Lock the directory's files; BlockingIOError if they are to be changed while they are read."""
    import fcntl  # noqa: PLC0415  (which Windows does not have; there is one worker)

    with Path(directory, LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH if to_read else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def reading_files() -> Iterator[str]:
    """Yield the directory, whose files are not added up meanwhile."""
    directory = os.environ[VARIABLE]
    with _locked(directory, to_read=True):
        yield directory


def forget_worker(pid: int | None) -> None:
    """Let what a worker that has ended had in use count no more; what it counted stays.

    That is added to the files of all that have ended: a worker that ends again and again would fill the file system.

    Parameters
    ----------
    pid : int, optional
        Of the process; None if it never had one.
    """
    directory = os.environ.get(VARIABLE)
    if directory is None or pid is None:
        return
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  (only where there are workers)

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
    _to_be_added.add(pid)
    try:
        with _locked(directory, to_read=False):
            while _to_be_added:
                _add_up(directory, _to_be_added.pop())
    except BlockingIOError:
        pass  # a worker reads them: later, then
    except OSError as error:
        logger.warning("Cannot add up the metrics of the workers that have ended: %s", error)


def _add_up(directory: str, pid: int) -> None:
    from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415

    for kind in ("counter", "histogram"):
        file = Path(directory, f"{kind}_{pid}.db")
        if not file.exists():
            continue
        try:
            values = list(MmapedDict.read_all_values_from_file(str(file)))  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, struct.error) as error:
            # or whoever asks a worker for metrics gets none
            logger.warning("What worker [%s] counted is lost, as its file cannot be read: %s", pid, error)
            values = []
        total = MmapedDict(str(Path(directory, f"{kind}_{ENDED}.db")))  # type: ignore[no-untyped-call]
        with contextlib.closing(total):
            for key, value, _, _ in values:
                total.write_value(key, total.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
        file.unlink()
