"""The number of processors: the affinity mask, and the quotas of control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnn_core.runtime.cpus import usable_cpus

HOST = 8
QUOTAS = [
    pytest.param("100000", "100000", 1, id="one"),
    pytest.param("50000", "100000", 1, id="half-is-one"),
    pytest.param("150000", "100000", 2, id="rounded-up"),
    pytest.param("300000", "100000", 3, id="three"),
    pytest.param("20000", "10000", 2, id="another-period"),
    pytest.param("9900000", "100000", HOST, id="more-than-the-host-has"),
]
UNREADABLE = ["", "100000", "max", "some thing", "100000 0", "100000 100000 100000", "nan 100000", "inf 100000"]


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(HOST)), raising=False)


def write_version_1(cgroup: Path, quota: str, period: str) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize(("quota", "period", "expected"), [*QUOTAS, ("max", "100000", HOST)])
def test_version_2(tmp_path: Path, quota: str, period: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} {period}\n")
    assert usable_cpus(tmp_path) == expected


@pytest.mark.parametrize(("quota", "period", "expected"), [*QUOTAS, ("-1", "100000", HOST)])
def test_version_1(tmp_path: Path, quota: str, period: str, expected: int) -> None:
    write_version_1(tmp_path, quota, period)
    assert usable_cpus(tmp_path) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "missing") == HOST


@pytest.mark.parametrize("text", UNREADABLE)
def test_an_unreadable_quota_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus(tmp_path) == HOST


def test_a_missing_or_absurd_period_is_no_quota(tmp_path: Path) -> None:
    write_version_1(tmp_path, "100000", "0")
    assert usable_cpus(tmp_path) == HOST
    (tmp_path / "cpu" / "cpu.cfs_period_us").unlink()
    assert usable_cpus(tmp_path) == HOST


def test_the_affinity_mask_is_a_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert usable_cpus(tmp_path) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert usable_cpus(tmp_path) == 1


def test_systems_without_affinity_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


def test_this_machine_has_a_processor() -> None:
    assert usable_cpus() >= 1
