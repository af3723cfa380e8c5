"""A computation stops at its next block: on every thread, with nothing left behind."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cnn_core import Cancellation, Cancelled, Conv, DeadlineExceeded, ParameterError, get_threads, set_threads
from cnn_core.runtime import blas, threads
from cnn_core.runtime.cancellation import check_cancelled
from cnn_core.runtime.placement import is_pinned
from cnn_core.runtime.threads import run_blocks
from cnn_core.runtime.workspace import Workspace
from tests.cnn_core.layers_in_blocks import BLOCK_BYTES, CATALOGUE, calls, same_bits
from tests.cnn_core.small_blocks import small_blocks
from tests.cnn_core.stopping import StopsAt

PATIENCE = 60
"""Seconds until a thread that nobody joins counts as a failure."""


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = get_threads()
    yield
    set_threads(before)


def blocks_of(count: int, work: Callable[[int], None]) -> None:
    run_blocks(range(count), lambda _: work)


# ----------------------------------------------------------------------------------------------------------- the token


def test_a_token_that_is_not_cancelled_changes_nothing() -> None:
    done: list[int] = []
    set_threads(1)
    with Cancellation(), Cancellation(seconds=3600):
        blocks_of(5, done.append)
    assert done == list(range(5))


@pytest.mark.parametrize("blocks", [1, 5])
def test_what_begins_within_a_cancelled_token_raises_at_once(blocks: int) -> None:
    token, done = Cancellation(), list[int]()
    states = [token.is_cancelled]
    token.cancel()
    assert [*states, token.is_cancelled] == [False, True]
    for _ in range(2):  # it stays cancelled
        with pytest.raises(Cancelled) as caught, token:
            blocks_of(blocks, done.append)
        assert not isinstance(caught.value, (DeadlineExceeded, ValueError))
    assert done == []


def test_no_more_than_the_block_at_work_is_computed() -> None:
    set_threads(1)
    token, done = Cancellation(), list[int]()

    def work(block: int) -> None:
        done.append(block)
        if block == 2:
            token.cancel()

    with pytest.raises(Cancelled), token:
        blocks_of(100, work)
    assert done == [0, 1, 2]


def test_another_thread_may_cancel() -> None:
    set_threads(1)
    token, started, computing = Cancellation(), threading.Event(), threading.Event()

    def work(_: int) -> None:
        started.set()
        assert computing.wait(PATIENCE)

    def cancel() -> None:
        started.wait(PATIENCE)
        token.cancel()
        computing.set()

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(Cancelled), token:
        blocks_of(100, work)
    other.join(PATIENCE)


def test_a_deadline_is_told_from_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    token, done = Cancellation(seconds=2.5), list[int]()
    set_threads(1)
    with token:
        blocks_of(3, done.append)
        now += 2.25
        blocks_of(3, done.append)
        now += 0.25
        with pytest.raises(DeadlineExceeded, match=r"2\.5 seconds"):
            blocks_of(3, done.append)
        token.cancel()
        with pytest.raises(Cancelled) as caught:
            blocks_of(3, done.append)
    assert not isinstance(caught.value, DeadlineExceeded)
    assert len(done) == 6


def test_a_time_limit_of_zero_is_over_at_once() -> None:
    with pytest.raises(DeadlineExceeded), Cancellation(seconds=0):
        blocks_of(1, lambda _: None)


@pytest.mark.parametrize("seconds", [-1, -0.1, float("nan"), True, "1", [1], 1j])
def test_other_time_limits_are_refused(seconds: Any) -> None:
    with pytest.raises(ParameterError, match="at least 0") as caught:
        Cancellation(seconds=seconds)
    assert caught.value.subject == "seconds"


def test_the_context_ends_with_the_with_block() -> None:
    token = Cancellation()
    token.cancel()
    with pytest.raises(Cancelled), token:
        check_cancelled()
    check_cancelled()
    with token:
        pass
    blocks_of(3, lambda _: None)


def test_either_of_two_tokens_stops_what_is_within_both() -> None:
    for cancelled in range(2):
        outer, inner = tokens = Cancellation(), Cancellation()
        with outer:
            with inner:
                check_cancelled()
                tokens[cancelled].cancel()
                with pytest.raises(Cancelled):
                    check_cancelled()
            if cancelled == 0:
                with pytest.raises(Cancelled):
                    check_cancelled()
            else:
                check_cancelled()


def test_a_token_may_be_entered_twice_and_by_several_threads() -> None:
    token = Cancellation()
    barrier = threading.Barrier(4, timeout=PATIENCE)

    def enter() -> bool:
        with token, token:
            check_cancelled()
            if barrier.wait() == 0:
                token.cancel()
            barrier.wait()
            try:
                check_cancelled()
            except Cancelled:
                return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert all(future.result(PATIENCE) for future in [pool.submit(enter) for _ in range(4)])
    check_cancelled()


def test_other_threads_and_contexts_are_not_stopped() -> None:
    token = Cancellation()
    token.cancel()
    elsewhere = contextvars.copy_context()
    with token:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(check_cancelled).result(PATIENCE)
        elsewhere.run(check_cancelled)
        with pytest.raises(Cancelled):
            contextvars.copy_context().run(check_cancelled)


# ----------------------------------------------------------------------------------------------------- several threads


def test_the_threads_that_help_see_the_token() -> None:
    """The caller is in its one block until a helper has raised: if it did not, the blocks would never end."""
    set_threads(2)
    token, caller = Cancellation(), threading.get_ident()
    cancelled, by_helper = threading.Event(), list[int]()

    def work(block: int) -> None:
        if threading.get_ident() == caller:
            assert cancelled.wait(PATIENCE)
            return
        by_helper.append(block)
        token.cancel()
        cancelled.set()

    with pytest.raises(Cancelled), token:
        blocks_of(100, work)
    assert len(by_helper) == 1


def test_no_thread_computes_any_more_when_the_call_raises() -> None:
    """They have views of the caller's arrays."""
    set_threads(3)
    for stop_at in (1, 2, 3, 7, 20):
        at_work, lock, token = 0, threading.Lock(), StopsAt(stop_at)

        def work(_: int, lock: threading.Lock = lock) -> None:
            nonlocal at_work
            with lock:
                at_work += 1
            time.sleep(0.002)  # so that others are within a block when one raises
            with lock:
                at_work -= 1

        with pytest.raises(Cancelled), token:
            blocks_of(50, work)
        assert at_work == 0


def test_nothing_is_left_behind() -> None:
    """The number of busy threads, the pins, the threads of BLAS, and the memory of each thread."""
    set_threads(3, pin=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    random = np.random.default_rng(0)
    image, weight = random.standard_normal((2, 40, 40, 8)), random.standard_normal((3, 3, 8, 8))
    op = Conv(padding=1)
    with small_blocks(BLOCK_BYTES, BLOCK_BYTES) as counts:
        expected = op.forward(image, weight)
        assert max(counts) >= 8
        with Workspace() as workspace:
            workspace.arrays((1000,), dtype="uint8")  # kept memory is taken, and given back
        for stop_at in range(1, 9):
            with pytest.raises(Cancelled), StopsAt(stop_at):
                op.forward(image, weight)
            assert threads._threads._busy == 0
            assert blas.one_blas_thread._users == 0
            assert not is_pinned()
            assert allowed is None or os.sched_getaffinity(0) == allowed
            assert op.forward(image, weight).tobytes() == expected.tobytes()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", CATALOGUE)
def test_the_next_computation_on_the_same_threads_is_right(name: str, count: int) -> None:
    compute = calls(name)
    set_threads(count)
    with small_blocks(BLOCK_BYTES, BLOCK_BYTES) as counts:
        expected = compute()  # blocks and steps are kept for the next call, which does not check while it lists them
        counts.clear()
        counting = StopsAt()
        with counting:
            assert same_bits(compute(), expected)
        assert counting.checks >= sum(counts)
        for stop_at in sorted({1, counting.checks // 2, counting.checks}):
            with pytest.raises(Cancelled), StopsAt(stop_at):
                compute()
            assert same_bits(compute(), expected), f"{name} after check {stop_at} on {count} threads"


def test_memory_is_given_back() -> None:
    """The workspace is that which the thread kept, not memory of a call that never ended."""
    set_threads(1)
    kept: list[int] = []

    def make_worker(workspace: Workspace) -> Callable[[int], None]:
        (array,) = workspace.arrays((1000,), dtype="uint8")
        kept.append(array.ctypes.data)
        return lambda _: None

    run_blocks(range(3), make_worker)
    with pytest.raises(Cancelled), StopsAt(2):
        run_blocks(range(3), make_worker)
    run_blocks(range(3), make_worker)
    assert len(set(kept)) == 1
