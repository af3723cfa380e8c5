"""Layers over arrays on several processes, one of which ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from convpool import Conv, MaxPool
from convpool.arrays.dask import backward, forward
from tests.waiting import wait_until

# the workers' own threads, and what is left of one that was killed
pytestmark = pytest.mark.filterwarnings("ignore")

CONV, POOL = Conv(padding=1, stride=2, algorithm="direct"), MaxPool(kernel_size=3, stride=2)
RANDOM = np.random.default_rng(0)
IMAGES, WEIGHT = (
    RANDOM.integers(-4, 5, (12, 30, 30, 3)).astype("float32"),
    RANDOM.integers(-4, 5, (3, 3, 3, 4)).astype("float32"),
)
EXPECTED = POOL.forward(CONV.forward(IMAGES, WEIGHT))


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_two_processes_compute_what_one_call_does(client: Client) -> None:
    images = da.from_array(IMAGES, chunks=(2, 11, 9, 3))
    output = forward(POOL, forward(CONV, images, WEIGHT))
    gradient = CONV.forward(IMAGES, WEIGHT)
    gradients = backward(CONV, da.from_array(gradient, chunks=(3, 8, 8, 4)), images, WEIGHT)
    np.testing.assert_array_equal(output.compute(), EXPECTED)
    computed, expected = client.compute(list(gradients)), CONV.backward(gradient, IMAGES, WEIGHT)
    for future, whole in zip(computed, expected, strict=True):
        np.testing.assert_array_equal(future.result(), whole)


def test_a_process_is_killed_and_the_result_is_right(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "open"

    def gated(chunk: Any, block_info: Any = None) -> Any:
        """The last image's chunks come when the gate is open."""
        while block_info[0]["chunk-location"][0] == 5 and not gate.exists():
            time.sleep(0.02)
        return chunk

    pids = client.run(os.getpid)
    images = da.from_array(IMAGES, chunks=(2, 11, 9, 3)).map_blocks(gated, meta=np.empty((0,) * 4, "float32"))
    output = client.persist(forward(POOL, forward(CONV, images, WEIGHT)))
    prefix = output.name

    def finished(dask_scheduler: Any = None) -> dict[str, int]:
        """How many chunks of the output each worker has."""
        return {
            address: sum(str(task.key).startswith(f"('{prefix}'") for task in worker.has_what)
            for address, worker in dask_scheduler.workers.items()
        }

    wait_until(lambda: max(client.run_on_scheduler(finished).values(), default=0) > 0)
    held = client.run_on_scheduler(finished)
    killed = max(held, key=held.__getitem__)
    os.kill(pids[killed], signal.SIGKILL)
    wait_until(lambda: killed not in client.run_on_scheduler(finished))
    gate.touch()
    np.testing.assert_array_equal(output.compute(), EXPECTED)
    assert killed not in client.run(os.getpid)
