"""BLAS computes in one thread as long as blocks are computed, and in as many as before once they are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from cnn_core import AvgPool, Conv, ConvTranspose, LpPool, MaxPool, ShapeError
from cnn_core.runtime.blas import one_blas_thread

PATIENCE = 60


def libraries() -> list[dict[str, Any]]:
    """The BLAS that NumPy is linked with; SciPy may have loaded one of its own."""
    loaded = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    return [info for info in loaded if "numpy" in info["filepath"]] or loaded


def blas_threads() -> int:
    (count,) = {info["num_threads"] for info in libraries()}
    return int(count)


@pytest.fixture(params=[2, 3])
def before(request: pytest.FixtureRequest) -> Iterator[int]:
    """What the number is set to, as far as this machine has it."""
    if not libraries():
        pytest.skip("NumPy's BLAS is none whose threads can be counted")
    with threadpoolctl.threadpool_limits(limits=request.param, user_api="blas"):
        count = blas_threads()
        assert count > 1
        yield count


def test_one_thread_within_and_as_many_as_before_after(before: int) -> None:
    for _ in range(2):
        with one_blas_thread:
            assert blas_threads() == 1
        assert blas_threads() == before


def test_nested(before: int) -> None:
    with one_blas_thread:
        with one_blas_thread:
            assert blas_threads() == 1
        assert blas_threads() == 1
    assert blas_threads() == before


def test_an_error_within(before: int) -> None:
    with pytest.raises(KeyError), one_blas_thread:
        raise KeyError
    assert blas_threads() == before


def test_one_thread_is_left_at_that() -> None:
    with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
        with one_blas_thread:
            assert {info["num_threads"] for info in libraries()} <= {1}
        assert {info["num_threads"] for info in libraries()} <= {1}


def test_the_last_of_several_threads_restores(before: int) -> None:
    """The first to enter is the first to leave, and the second still computes."""
    entered, leave = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def stay(number: int) -> None:
        with one_blas_thread:
            entered[number].set()
            assert leave[number].wait(PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        staying = []
        for number in range(2):
            staying.append(pool.submit(stay, number))
            assert entered[number].wait(PATIENCE)
            assert blas_threads() == 1
        leave[0].set()
        staying[0].result(PATIENCE)
        assert blas_threads() == 1
        leave[1].set()
        staying[1].result(PATIENCE)
        assert blas_threads() == before


def test_many_entries_at_the_same_time(before: int) -> None:
    def enter(_: int) -> set[int]:
        seen = set()
        for _ in range(20):
            with one_blas_thread:
                seen.add(blas_threads())
        return seen

    with ThreadPoolExecutor(6) as pool:
        assert set().union(*pool.map(enter, range(12))) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize(
    "op", [Conv(), ConvTranspose(), MaxPool(kernel_size=2), AvgPool(kernel_size=2), LpPool(kernel_size=2)]
)
def test_layers_compute_within(before: int, op: Any) -> None:
    """What stands for an array is made one as a part of the computation."""
    seen: list[int] = []

    class Ones:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            seen.append(blas_threads())
            return np.ones((1, 4, 4, 2))

    weight = [np.ones((2, 2, 2, 2))] if isinstance(op, (Conv, ConvTranspose)) else []
    output = op.forward(Ones(), *weight)
    assert blas_threads() == before
    op.backward(output, Ones(), *weight)
    assert blas_threads() == before
    with pytest.raises(ShapeError):
        op.backward(output[:, 1:], Ones(), *weight)
    assert blas_threads() == before
    assert set(seen) == {1}
    assert len(seen) >= 3


SCRIPT = """
import os, signal, sys, threading
import numpy as np
import threadpoolctl
from cnn_core.runtime.blas import one_blas_thread

def threads():
    return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]

def in_child():
    child = os.fork()
    if not child:
        signal.alarm(5)
        with one_blas_thread:
            within = threads()
        os._exit(0 if (within, threads()) == ([1], [2]) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

threadpoolctl.threadpool_limits(limits=2)
assert threads() == [2]
"""
SITUATIONS = {
    "while nothing is computed": "assert in_child() == 0",
    "while another thread is within": """
entered, leave = threading.Event(), threading.Event()

def stay():
    with one_blas_thread:
        entered.set()
        leave.wait()

staying = threading.Thread(target=stay)
staying.start()
entered.wait()
code = in_child()
leave.set()
staying.join()
assert (code, threads()) == (0, [2]), code
""",
    "while another thread enters and leaves": """
done = threading.Event()

def repeat():
    while not done.is_set():
        with one_blas_thread:
            pass

repeating = threading.Thread(target=repeat)
repeating.start()
codes = {0}
for _ in range(20):
    if codes == {0}:
        codes.add(in_child())
done.set()
repeating.join()
assert (codes, threads()) == ({0}, [2]), codes
""",
}


@pytest.mark.skipif(not (hasattr(os, "fork") and libraries()), reason="there are no forks, or no BLAS that is known")
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_a_fork(situation: str) -> None:
    """A child has the number that its parent has where nothing is computed, and no lock that nobody opens."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + situation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
