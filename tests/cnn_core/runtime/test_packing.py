"""BLAS's packing buffers are touched once, in as many threads at a time as compute, before the first large product."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from cnn_core import Conv, set_threads
from cnn_core.kernels import conv
from cnn_core.runtime import packing
from cnn_core.runtime.blas import is_openblas


@pytest.fixture
def touching(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that multiplied; each waits for all others, so that they do it at the same time."""
    threads: list[int] = []

    def multiply(barrier: threading.Barrier) -> None:
        barrier.wait(60)
        threads.append(threading.get_ident())

    monkeypatch.setattr(packing, "_multiply", multiply)
    return threads


def test_as_many_threads_as_compute_touch_at_once_and_only_once(touching: list[int]) -> None:
    touched = packing._Touched()
    touched.touch(3)
    assert len(set(touching)) == 3
    touched.touch(3)
    touched.touch(2)
    assert len(touching) == 3
    touched.touch(4)
    assert len(touching) == 7


def test_a_forked_child_touches_its_own_buffers(touching: list[int]) -> None:
    touched = packing._Touched()
    touched.touch(1)
    touched.forget()
    touched.touch(1)
    assert len(touching) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_fork_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing._touched, "count", 5)
    child = os.fork()
    if not child:
        os._exit(packing._touched.count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_thread_to_be_had_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", start)
    packing._Touched().touch(3)


@pytest.mark.parametrize(("rows", "is_large"), [(64, True), (16, False)])
def test_large_layers_touch_before_their_first_product(
    rows: int, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(conv, "touch_packing_buffers", asked.append)
    set_threads(2)
    input, weight = np.ones((1, rows, 64, 64), np.float32), np.ones((1, 1, 64, 64), np.float32)
    op = Conv()
    output = op.forward(input, weight)
    assert asked == [2] * is_large
    op.backward(output, input, weight)
    assert asked == [2] * 3 * is_large


def test_another_blas_is_left_alone(touching: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_touched", packing._Touched())
    monkeypatch.setattr(packing, "is_openblas", lambda: False)
    packing.touch_packing_buffers(2)
    assert not touching
    monkeypatch.setattr(packing, "is_openblas", lambda: True)
    packing.touch_packing_buffers(2)
    assert len(touching) == 2


def test_openblas_is_known_by_its_functions() -> None:
    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert is_openblas() == ("openblas" in build)
