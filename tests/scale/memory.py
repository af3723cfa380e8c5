"""A limit of the memory of processes, page cache included, by control groups."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["MemoryLimit", "memory_limit"]

MOUNT = Path("/sys/fs/cgroup")


class MemoryLimit:
    """A group of processes that together may use so much memory; ``memory_limit`` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_v2 = (folder / "memory.max").exists()

    def set(self, limit: int) -> None:
        """Set the limit in bytes; swap counts, where there is any."""
        (self.folder / ("memory.max" if self._is_v2 else "memory.limit_in_bytes")).write_text(str(limit))
        with contextlib.suppress(OSError):  # where the kernel does not count swap
            swap = ("memory.swap.max", 0) if self._is_v2 else ("memory.memsw.limit_in_bytes", limit)
            (self.folder / swap[0]).write_text(str(swap[1]))

    def join(self) -> None:
        """Put the calling process into the group: for ``preexec_fn`` of a new one."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self) -> int:
        """Return the most bytes that were in use at a time, page cache included."""
        return int((self.folder / ("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes")).read_text())


@contextlib.contextmanager
def memory_limit(limit: int) -> Iterator[MemoryLimit]:
    """Yield a new group of processes that may use so many bytes; those in it must have ended at the end.

    Raises
    ------
    pytest.skip.Exception
        If no control group can be made here.
    """
    parent = MOUNT / "memory" if (MOUNT / "memory").is_dir() else MOUNT
    folder = parent / f"convpool-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir()
        group = MemoryLimit(folder)
        group.set(limit)
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no limit of memory can be set by control groups here: {error}")
    try:
        yield group
    finally:
        for _ in range(100):
            try:
                folder.rmdir()
                break
            except OSError:  # the last process is still being taken out
                time.sleep(0.1)
