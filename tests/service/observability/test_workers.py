"""Metrics of several workers: whichever answers, it answers for all, and also for one that was killed."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.observability import shared_directory
from service.observability.shared_directory import VARIABLE, forget_worker, reading_files, shared_metrics
from tests.clients import running_server
from tests.logs import logged
from tests.service.metrics import Scrape, samples
from tests.service.test_workers import children_of
from tests.waiting import wait_until

REQUESTS = 40
HAS_PROC = Path("/proc/self/status").exists()


def requests(found: Scrape) -> float:
    return found.sum("convpool_requests_total", operation="other", status="404")


@pytest.mark.skipif(not HAS_PROC, reason="the system has no /proc to look workers up in")
def test_workers_answer_for_each_other_and_for_one_that_was_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with running_server("--workers", "2") as (url, process):
        monkeypatch.delenv(VARIABLE)

        def scrape() -> Scrape:
            return samples(httpx.get(f"{url}/metrics").text)

        def scraped_until(condition: Callable[[Scrape], bool]) -> Scrape:
            """The first scrape of which this is true: the numbers of another worker are up to a second old."""
            found: list[Scrape] = []

            def holds() -> bool:
                found[:] = [scrape()]
                return condition(found[0])

            wait_until(holds)
            return found[0]

        scraped_until(lambda found: found.sum("convpool_worker_starts_total") == 2)
        for _ in range(REQUESTS):  # each on a connection of its own, which either worker may take
            httpx.get(f"{url}/nothing")
        before = scraped_until(lambda found: requests(found) == REQUESTS)
        assert before.sum("convpool_build_info", workers="2") == 1
        both = before.sum("process_resident_memory_bytes")

        killed, _ = children_of(process.pid)
        os.kill(killed, signal.SIGKILL)
        after = scraped_until(lambda found: found.sum("convpool_worker_starts_total") == 3)
        assert requests(after) == REQUESTS
        # what the killed one had in use is no longer counted: there are two again, not three
        wait_until(lambda: not [*tmp_path.glob(f"*/*_{killed}.db")])
        after = scraped_until(lambda found: found.sum("process_resident_memory_bytes") < 1.3 * both)
        assert requests(after) == REQUESTS
        assert [*tmp_path.iterdir()]
    assert not [*tmp_path.iterdir()]


WORKER = """
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
registry = CollectorRegistry()
Counter("counted", "", ["of"], registry=registry).labels("a").inc(3)
Gauge("used", "", multiprocess_mode="livesum", registry=registry).set(5)
Histogram("taken", "", buckets=[1, 2], registry=registry).observe(1.5)
import os
print(os.getpid())
"""


def read(directory: str) -> Scrape:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return samples(generate_latest(registry).decode())


def test_files_of_workers_that_have_ended_are_added_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_directory, "_parent", str(tmp_path))
    with shared_metrics(2):
        directory = os.environ[VARIABLE]

        def ended_worker() -> int:
            return int(subprocess.run([sys.executable, "-c", WORKER], check=True, capture_output=True).stdout)

        for number in range(1, 4):
            pid = ended_worker()
            assert read(directory).sum("used") == 5
            forget_worker(pid)
            assert sorted(path.name for path in Path(directory).glob("*.db")) == ["counter_0.db", "histogram_0.db"]
            found = read(directory)
            assert found.sum("counted_total", of="a") == 3 * number
            assert (found.sum("taken_count"), found.sum("taken_bucket", le="1.0")) == (number, 0)
            assert list(found.values("used")) == []
        forget_worker(pid)  # again: nothing is counted twice
        forget_worker(None)
        assert read(directory).sum("counted_total") == 9

        with reading_files():  # not now, but with the next one
            forget_worker(ended_worker())
            assert read(directory).sum("counted_total") == 12
            assert len([*Path(directory).glob("counter_*.db")]) == 2
        forget_worker(ended_worker())
        assert read(directory).sum("counted_total") == 15
        assert len([*Path(directory).glob("counter_*.db")]) == 1


def test_a_file_that_cannot_be_read_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "counter_7.db").write_bytes(struct.pack("iiii", 64, 0, 1000, 0) + bytes(100))
    with logged("convpool") as records:
        forget_worker(7)
    assert "worker [7]" in records[0].getMessage()
    assert not [*tmp_path.glob("*_7.db")]


@pytest.mark.parametrize("workers", [1, 2])
def test_only_what_a_supervisor_set_makes_files(tmp_path: Path, workers: int) -> None:
    """An operator's variable does not: its directory need not even exist."""
    code = (
        "import os\nfrom service.observability import metrics, shared_directory as shared\n"
        f"with shared.shared_metrics({workers}):\n"
        "    print(os.environ.get(shared.VARIABLE, ''), metrics._cpu._value._multiprocess)"
    )
    for directory in (tmp_path, tmp_path / "missing"):
        environment = {**os.environ, VARIABLE: str(directory)}
        found = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
        ).stdout.split(" ")
        assert found[-1].strip() == "False"
        assert found[0].startswith(str(tmp_path) if directory.exists() and workers > 1 else "/" if workers > 1 else "")
        assert (found[0] == "") == (workers == 1)
    assert not [*tmp_path.iterdir()]


def test_the_first_directory_that_can_be_written_to_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_directory, "IN_MEMORY", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with shared_metrics(2):
        assert Path(os.environ[VARIABLE]).parent == tmp_path
    assert VARIABLE not in os.environ
    assert not [*tmp_path.iterdir()]


def test_without_one_it_is_said_that_workers_answer_for_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared_directory, "IN_MEMORY", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with logged("convpool") as records, shared_metrics(2):
        assert VARIABLE not in os.environ
    assert "one worker at a time" in records[0].getMessage()
