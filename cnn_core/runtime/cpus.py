"""How many cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cpus"]

CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Return the number of cores that the affinity mask and the container's quota leave to this process."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(cgroup)
    return available if quota is None else max(1, min(available, math.ceil(quota)))


def _cgroup_quota(cgroup: Path) -> float | None:
    """Return the cores that the control group grants per period, or None if it sets no limit."""
    try:
        if (cgroup / "cpu.max").exists():  # version 2: "quota period", or "max period" for none
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:  # version 1: -1 means no limit
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
