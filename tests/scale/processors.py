"""Shares of the processors: several "machines" on one, by the quotas of control groups."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["Share", "share"]

MOUNTS = Path("/sys/fs/cgroup")
PERIOD = 0.05  # seconds; half of the kernel's default, so that a request waits less long for its next slice
MICROSECONDS = 1_000_000


class Share:
    """A group of processes that together may use a share of the processors; ``share`` makes it.

    Attributes
    ----------
    folders : list of Path
        Of the group in each hierarchy: one in version 2 of control groups; ``cpu`` and ``cpuacct`` in version 1.
    """

    def __init__(self, folders: list[Path], period: float = PERIOD) -> None:
        self.folders, self._period = folders, period

    def add(self, pid: int) -> None:
        """Put a process, with all of its threads, into the group; those that it starts later are in it, too."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit(self, processors: float) -> None:
        """Let the group use this many processors from now on."""
        period, quota = round(self._period * MICROSECONDS), round(processors * self._period * MICROSECONDS)
        if (limit := self.folders[0] / "cpu.max").exists():
            limit.write_text(f"{quota} {period}")
        else:
            (self.folders[0] / "cpu.cfs_period_us").write_text(str(period))
            (self.folders[0] / "cpu.cfs_quota_us").write_text(str(quota))

    def seconds(self) -> float:
        """Return the processor time that the group has used."""
        for folder in self.folders:
            if (file := folder / "cpuacct.usage").exists():
                return int(file.read_text()) / 1e9
            if (file := folder / "cpu.stat").exists() and "usage_usec" in (text := file.read_text()):
                return int(text.split("usage_usec")[1].split()[0]) / MICROSECONDS
        raise AssertionError(f"no account of processor time in {self.folders}")


@contextlib.contextmanager
def share(processors: float, period: float = PERIOD) -> Iterator[Share]:
    """Yield a new group of processes; at the end, those that are left in it go back to where they came from.

    Parameters
    ----------
    processors : float
        How many of them its processes may use together, such as 0.3.
    period : float
        Seconds in which they may use that share of them; what is left over is lost.

    Raises
    ------
    pytest.skip.Exception
        If no control group can be made here.
    """
    parents, name = _parents(), f"convpool-{uuid.uuid4().hex[:12]}"
    folders: list[Path] = []
    try:
        try:
            for parent in parents:
                (parent / name).mkdir()
                folders.append(parent / name)
            group = Share(folders, period)
            group.limit(processors)
        except OSError as error:
            pytest.skip(f"no quota of processors can be set by control groups here: {error}")
        yield group
    finally:
        for folder in reversed(folders):
            _remove(folder)


def _parents() -> list[Path]:
    """Return the folders of this process in the hierarchies that have the quota and the account of processor time."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path.lstrip("/")))
    if "cpu" in own:  # version 1: a mount for each controller, or for both together
        found = {(MOUNTS / name / own[name]).resolve() for name in ("cpu", "cpuacct") if name in own}
        return sorted(found, key=lambda folder: not (folder / "cpu.cfs_quota_us").exists())
    folder = MOUNTS / own.get("", "")
    with contextlib.suppress(OSError):  # as a rule only the first group of all may have both processes and groups
        (folder / "cgroup.subtree_control").write_text("+cpu")
    return [folder]


def _remove(folder: Path) -> None:
    """Remove a group; the kernel takes a moment to let those go that have ended."""
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            (folder.parent / "cgroup.procs").write_text(pid)
    deadline = time.monotonic() + 10
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
