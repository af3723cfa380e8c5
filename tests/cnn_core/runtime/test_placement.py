"""Threads are pinned to separate cores while they compute, if the program asks for it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnn_core import get_threads, set_threads
from cnn_core.runtime import placement
from cnn_core.runtime.placement import is_pinned, pinned_to_core
from cnn_core.runtime.threads import run_blocks
from cnn_core.runtime.workspace import Workspace

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no thread can be kept to a processor")

PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
Masks = set[frozenset[int]]


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = get_threads()
    set_threads(2, pin=True)
    yield
    set_threads(before)


def masks_of_all_threads() -> Masks:
    masks = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # one that has just ended
            masks.add(frozenset(os.sched_getaffinity(int(task.name))))
    return masks


def meet(masks: list[frozenset[int]], *, fails: bool = False) -> Callable[[Workspace], Callable[[int], None]]:
    """Blocks that two threads compute at the same time."""
    barrier = threading.Barrier(2)

    def make_worker(_: Workspace) -> Callable[[int], None]:
        def compute(_: int) -> None:
            barrier.wait(60)
            masks.append(frozenset(os.sched_getaffinity(0)))
            barrier.wait(60)
            if fails:
                raise ValueError("a block")

        return compute

    return make_worker


@pytest.mark.skipif(PROCESSORS < 2, reason="there is one processor")
def test_two_threads_keep_to_two_processors() -> None:
    before = masks_of_all_threads()
    for _ in range(3):
        masks: list[frozenset[int]] = []
        run_blocks(range(2), meet(masks))
        assert [len(mask) for mask in masks] == [1, 1]
        assert len(set(masks)) == 2
        assert not is_pinned()
        assert masks_of_all_threads() == before
    assert not placement._taken


def test_no_thread_is_pinned_by_default() -> None:
    set_threads(2)
    before, masks = frozenset(os.sched_getaffinity(0)), list[frozenset[int]]()
    run_blocks(range(2), meet(masks))
    assert masks == [before, before]


def test_an_error_leaves_no_thread_behind_on_a_processor() -> None:
    before = masks_of_all_threads()
    with pytest.raises(ValueError, match="a block"):
        run_blocks(range(2), meet([], fails=True))
    assert masks_of_all_threads() == before
    assert not placement._taken


def test_a_thread_that_computes_alone_may_run_anywhere() -> None:
    before, found = os.sched_getaffinity(0), []

    def make_worker(_: Workspace) -> Callable[[int], None]:
        return lambda _: found.append(os.sched_getaffinity(0))

    run_blocks(range(1), make_worker)
    set_threads(1, pin=True)
    run_blocks(range(3), make_worker)
    assert found == [before] * 4


def test_a_call_within_a_block_begins_no_threads() -> None:
    """They would be kept to the processor of the thread that begins them."""
    names: set[int] = set()

    def make_worker(_: Workspace) -> Callable[[int], None]:
        def compute(_: int) -> None:
            if is_pinned():
                outer = threading.get_ident()
                run_blocks(range(5), lambda _: lambda _: names.add(threading.get_ident() - outer))

        return compute

    run_blocks(range(8), make_worker)
    assert names <= {0}


def test_more_threads_than_processors() -> None:
    allowed = os.sched_getaffinity(0)
    held = threading.Barrier(len(allowed) + 2)
    masks: list[set[int]] = []

    def hold() -> None:
        with pinned_to_core():
            held.wait(60)
            masks.append(os.sched_getaffinity(0))
            held.wait(60)
        masks.append(os.sched_getaffinity(0))

    threads = [threading.Thread(target=hold) for _ in range(len(allowed) + 1)]
    for thread in threads:
        thread.start()
    held.wait(60)
    held.wait(60)
    for thread in threads:
        thread.join()
    during = masks[: len(threads)]
    assert sorted(map(len, during)) == sorted([1] * len(allowed) + [len(allowed)])
    assert set().union(*(mask for mask in during if len(mask) == 1)) == allowed
    assert masks[len(threads) :] == [allowed] * len(threads)


def test_where_the_processor_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_current_core", None)
    before, masks = frozenset(os.sched_getaffinity(0)), list[frozenset[int]]()
    run_blocks(range(2), meet(masks))
    assert masks == [before, before]


def test_where_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    masks: list[frozenset[int]] = []
    run_blocks(range(2), meet(masks))
    assert len(masks) == 2
    assert not placement._taken
