"""What the machine is, and what it can do at most."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

__all__ = ["cpu_model", "measured_peaks", "others_seconds"]

SIZE = 2048
COPIED_BYTES = 2**29  # and as many read: more than caches hold
ATTEMPTS = 5


def cpu_model() -> str:
    """Return the processor's name, and how many the system has."""
    try:
        name = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        name = None
    model = name[1] if name else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} processors"


def others_seconds() -> float | None:
    """Return the processor time that other processes took since the system began; None if it does not say.

    Only differences mean something, and only if the children of this process have ended.
    """
    try:
        user, nice, system, _idle, _waiting, *rest = map(
            int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
        )
    except (OSError, ValueError):
        return None
    taken = user + nice + system + sum(rest)  # of interrupts, and by other virtual machines
    return taken / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def measured_peaks(threads: int) -> dict[str, float]:
    """Return the most that NumPy reaches: GFLOP/s of sgemm, and GB/s, read and written, of copying.

    Parameters
    ----------
    threads : int
        Of copying; sgemm takes those that BLAS has in this process.
    """
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((SIZE, SIZE), dtype=np.float32) for _ in range(2))
    product = np.empty_like(left)
    source = np.ones(COPIED_BYTES // 4, dtype=np.float32)
    target = np.zeros_like(source)
    targets, sources = np.array_split(target, threads), np.array_split(source, threads)
    with ThreadPoolExecutor(threads) as pool:
        copying = _least_seconds(lambda: list(pool.map(np.copyto, targets, sources)))
    multiplying = _least_seconds(lambda: np.matmul(left, right, out=product))
    return {"sgemm_gflops": 2e-9 * SIZE**3 / multiplying, "copy_gbytes": 2e-9 * COPIED_BYTES / copying}


def _least_seconds(function: Callable[[], object]) -> float:
    function()
    taken = []
    for _ in range(ATTEMPTS):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)
