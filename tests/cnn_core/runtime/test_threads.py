"""Computation on several threads: the same results on any number of them, errors that arrive, and none left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import cnn_core
from cnn_core import Conv, ParameterError, get_threads, set_threads
from cnn_core.runtime.threads import run_blocks
from cnn_core.runtime.workspace import Workspace
from tests.cnn_core.layers_in_blocks import BLOCK_BYTES, CATALOGUE, CONVOLUTIONS, POOLINGS, calls, same_bits
from tests.cnn_core.small_blocks import small_blocks

PATIENCE = 60
"""Seconds until a thread that nobody joins, or that joins nobody, counts as a failure."""


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = get_threads()
    yield
    set_threads(before)


# --------------------------------------------------------------------------------------------------------- the results


@pytest.mark.parametrize("name", CATALOGUE)
def test_results_are_the_same_on_any_number_of_threads(name: str) -> None:
    for odd in (False, True):
        compute = calls(name, odd=odd)
        set_threads(1)
        with small_blocks(BLOCK_BYTES, BLOCK_BYTES) as counts:
            expected = compute()
            assert max(counts) >= 4
            for count in (2, 3, 8) if odd else (2, 2, 3):
                set_threads(count)
                assert same_bits(compute(), expected), f"{name} on {count} threads"


@pytest.mark.parametrize("name", ["direct", "fastest", "depthwise", "grouped", "transposed", "1-D"])
def test_sums_side_by_side_are_the_same_on_any_number_of_threads(name: str) -> None:
    """In float64, and with as many sums side by side as there may be at most."""
    compute = calls(name, "float64")
    set_threads(1)
    with small_blocks(BLOCK_BYTES):
        expected = compute()
        for count in (2, 3, 8):
            set_threads(count)
            assert same_bits(compute(), expected), f"{name} on {count} threads"


def test_layers_of_their_real_size() -> None:
    random = np.random.default_rng(0)
    image, weight = (random.standard_normal(shape, dtype=np.float32) for shape in ((4, 40, 41, 64), (3, 3, 64, 48)))
    single = random.standard_normal((3, 3, 1, 64), dtype=np.float32)
    results: list[list[Any]] = []
    for count in (1, 2, 8):
        set_threads(count)
        results.append([])
        for op, kernel in ((Conv(padding=1), weight), (Conv(padding=1, groups=64), single), (Conv(stride=2), weight)):
            output = op.forward(image, kernel)
            results[-1] += [output, *op.backward(output, image, kernel)]
    assert same_bits(results[1], results[0])
    assert same_bits(results[2], results[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_at_the_same_time(threads: int) -> None:
    """From more Python threads than there are to compute with, while their number changes."""
    names = [*list(CONVOLUTIONS)[::3], *list(POOLINGS)[::4]]
    with small_blocks(BLOCK_BYTES, BLOCK_BYTES):
        expected = {name: calls(name)() for name in names}
        set_threads(threads)

        def repeatedly(start: int) -> list[str]:
            turned = names[start:] + names[:start]
            return [name for name in turned if not same_bits(calls(name)(), expected[name])]

        def keep_changing(done: threading.Event) -> None:
            while not done.wait(0.005):
                set_threads(1 + get_threads() % 4)

        done = threading.Event()
        with ThreadPoolExecutor(6) as pool:
            changing = pool.submit(keep_changing, done) if threads == 3 else None
            wrong = [name for listed in pool.map(repeatedly, range(5)) for name in listed]
            done.set()
            if changing is not None:
                changing.result()
    assert wrong == []


# ---------------------------------------------------------------------------------------------------------- the number


def test_the_number_is_that_which_was_set() -> None:
    assert 1 <= get_threads() <= (os.cpu_count() or 1)
    for count in (1, 2, 1024):
        set_threads(count)
        assert get_threads() == count
    assert cnn_core.set_threads is set_threads
    assert {"get_threads", "set_threads"} <= set(cnn_core.__all__)


@pytest.mark.parametrize("count", [0, -1, True, False, 1.5, 2.0, "2", None, 1025, 2**40, [2]])
def test_other_numbers_are_refused(count: Any) -> None:
    before = get_threads()
    with pytest.raises(ParameterError, match="1024") as caught:
        set_threads(count)
    assert caught.value.subject == "count"
    assert get_threads() == before


# ---------------------------------------------------------------------------------------------------------- run_blocks


def together(parties: int) -> Callable[[], None]:
    """A function that returns when as many threads have called it."""
    barrier = threading.Barrier(parties)
    return lambda: void(barrier.wait(PATIENCE))


def void(_: object) -> None:
    """Drop what was returned."""


def all_take_part(threads: int) -> None:
    """Compute a block on each of so many threads, of which none returns before all of them are there."""
    wait = together(threads)
    run_blocks(range(threads), lambda _: lambda _: wait())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_block_is_computed_once(threads: int) -> None:
    set_threads(threads)
    for blocks in (0, 1, 2, 100):
        computed: list[int] = []
        run_blocks(range(blocks), lambda _, computed=computed: computed.append)  # type: ignore[misc]
        assert sorted(computed) == list(range(blocks))


@pytest.mark.parametrize("threads", [2, 4])
def test_as_many_threads_take_part_each_with_a_workspace_of_its_own(threads: int) -> None:
    set_threads(threads)
    for _ in range(2):
        wait, workspaces, helpers = together(threads), set[int](), set[int]()

        def make_worker(workspace: Workspace, wait: Any = wait, workspaces: Any = workspaces) -> Callable[[int], None]:
            (array,) = workspace.arrays((1000,), dtype="float32")
            workspaces.add(array.ctypes.data)
            return lambda _: wait()

        def counting(workspace: Workspace, make: Any = make_worker, helpers: Any = helpers) -> Callable[[int], None]:
            helpers.add(threading.get_ident())
            compute: Callable[[int], None] = make(workspace)
            return compute

        run_blocks(range(threads), counting)
        assert len(workspaces) == len(helpers) == threads
        assert threading.get_ident() in helpers


def test_no_more_threads_take_part_than_are_allowed() -> None:
    taking_part: set[int] = set()
    set_threads(1)
    run_blocks(range(200), lambda _: lambda _: taking_part.add(threading.get_ident()))
    assert taking_part == {threading.get_ident()}


class Broken(Exception):
    """What a block raises here."""


@pytest.mark.parametrize("where", ["caller", "helper", "everywhere"])
@pytest.mark.parametrize("early", [False, True])
def test_an_error_reaches_the_caller_and_later_calls_work(where: str, early: bool) -> None:
    """From a block, or before any, where what computes them is made."""
    set_threads(3)
    caller = threading.get_ident()

    def fails() -> bool:
        return where == "everywhere" or (threading.get_ident() == caller) is (where == "caller")

    for _ in range(4):  # an error that took a thread along would leave none by now
        wait = together(3)

        def make_worker(_: Workspace, wait: Any = wait) -> Callable[[int], None]:
            wait()
            if early and fails():
                raise Broken

            def compute(_: int) -> None:
                if fails():
                    raise Broken

            return compute

        with pytest.raises(Broken):
            run_blocks([0] * 300, make_worker)
        # the same threads again, all of them
        all_take_part(3)
    assert same_bits(calls("direct")(), calls("direct")())


def test_no_block_begins_after_an_error() -> None:
    set_threads(1)
    begun: list[int] = []

    def compute(block: int) -> None:
        begun.append(block)
        if block == 3:
            raise Broken

    with pytest.raises(Broken):
        run_blocks(range(100), lambda _: compute)
    assert begun == [0, 1, 2, 3]


def test_an_error_of_a_layer_arrives_from_any_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_threads(2)
    matmul, failing = np.matmul, 5

    def fail_once(*arguments: Any, **named: Any) -> Any:
        nonlocal failing
        failing -= 1
        if failing == 0:
            raise Broken
        return matmul(*arguments, **named)

    expected = calls("direct")()
    with small_blocks(BLOCK_BYTES):
        monkeypatch.setattr(np, "matmul", fail_once)
        with pytest.raises(Broken):
            calls("direct")()
        monkeypatch.undo()
    assert same_bits(calls("direct")(), expected)


def test_where_no_thread_can_be_started_the_caller_computes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers limit the threads of all their processes together."""
    set_threads(1)
    with small_blocks(BLOCK_BYTES):
        expected = calls("direct")()
        for _ in range(2):
            set_threads(3)  # threads of before are not used again
            monkeypatch.setattr(threading.Thread, "start", refuse_to_start)
            assert same_bits(calls("direct")(), expected)
            monkeypatch.undo()
    all_take_part(3)


def refuse_to_start(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_blocks_within_a_block() -> None:
    set_threads(3)
    computed: list[tuple[int, int]] = []

    def outer(first: int) -> None:
        run_blocks(range(5), lambda _: lambda second: computed.append((first, second)))

    run_blocks(range(20), lambda _: outer)
    assert sorted(computed) == [(first, second) for first in range(20) for second in range(5)]


# ---------------------------------------------------------------------------------------------------------- error state


def test_the_error_state_of_the_caller_reaches_all_threads() -> None:
    """A state of "raise" raises in helpers, and one of "ignore" keeps them from warning, which pytest would raise."""
    set_threads(2)
    caller, large = threading.get_ident(), np.full(3, 1e300)

    def overflowing(helpers_only: bool) -> Callable[[Workspace], Callable[[int], None]]:
        wait = together(2)

        def compute(_: int) -> None:
            wait()
            if not helpers_only or threading.get_ident() != caller:
                np.multiply(large, large)

        return lambda _: compute

    with np.errstate(all="ignore"):
        run_blocks(range(2), overflowing(False))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        run_blocks(range(2), overflowing(True))


@pytest.mark.parametrize("name", CATALOGUE)
def test_nothing_warns_or_raises_on_any_thread(name: str) -> None:
    """Of infinities, NaN and overflow; float32 cannot hold the squares."""
    set_threads(3)
    random = np.random.default_rng(0)
    shapes = CONVOLUTIONS[name][1:] if name in CONVOLUTIONS else POOLINGS[name][1:]
    operands = [(1e30 * random.standard_normal(shape)).astype(np.float32) for shape in shapes]
    operands[0].reshape(-1)[:3] = np.inf, -np.inf, np.nan
    op: Any = CONVOLUTIONS[name][0] if name in CONVOLUTIONS else POOLINGS[name][0]
    with np.errstate(all="raise"), small_blocks(BLOCK_BYTES):
        output = op.forward(*operands)
        op.backward(output[0] if isinstance(output, tuple) else output, *operands)


# ------------------------------------------------------------------------------------------------------ other processes

SCRIPT = """
import atexit, multiprocessing, os, signal, sys, threading
import numpy as np
import cnn_core

cnn_core.set_threads(3)
op, weight = cnn_core.Conv(padding=1), np.random.default_rng(0).standard_normal((3, 3, 40, 40))
image = np.random.default_rng(1).standard_normal((6, 40, 40, 40))
expected = op.forward(image, weight)

def check():
    signal.alarm(20)
    right = np.array_equal(op.forward(image, weight), expected)
    signal.alarm(0)
    return right

def in_child():
    child = os.fork()
    if not child:
        os._exit(0 if check() and check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
SITUATIONS = {
    "a fork": "assert [in_child() for _ in range(3)] == [0] * 3; assert check()",
    "a fork beside a computation": """
done, pool, large = threading.Event(), cnn_core.MaxPool(kernel_size=3, stride=1), np.ones((4, 60, 60, 40))
forever = lambda: [pool.forward(large) for _ in iter(done.is_set, True)]  # without BLAS, which has locks of its own
computing = threading.Thread(target=forever)
computing.start()
codes = [0]
while codes[-1] == 0 and len(codes) < 10:
    codes.append(in_child())
done.set()
computing.join()
assert codes == [0] * 10, codes
""",
    "a fork that ends as programs do": """
child = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(0 if check() else 1))
child.start()
child.join()
assert child.exitcode == 0, child.exitcode
""",
    "a thread that ends after the program": """
threading.Thread(target=lambda: [threading.main_thread().join(), print("right" if check() else "wrong")]).start()
""",
    "what runs at the exit": 'atexit.register(lambda: print("right" if check() else "wrong"))',
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_computation_in(situation: str) -> None:
    script = SCRIPT + situation
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]  # it is of forks beside threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("right\n" if "print" in situation else "")
