"""A tiny layer takes as long as the interpreter needs for the calls that it makes: these are counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cnn_core import AvgPool, Conv, MaxPool
from cnn_core.kernels.conv import col2im
from cnn_core.runtime.workspace import MAX_KEPT_BYTES, Workspace
from tests.cnn_core.small_blocks import forget_what_is_kept

INPUT, WEIGHT, BIAS = (np.ones(shape, np.float32) for shape in ((2, 9, 7, 3), (5, 5, 3, 4), 4))
CONV, AVG, MAX = Conv(stride=2, padding=1), AvgPool(kernel_size=2), MaxPool(kernel_size=2)
CONVOLVED, POOLED = CONV.forward(INPUT, WEIGHT, BIAS), AVG.forward(INPUT)

CALLS: dict[str, tuple[Callable[[], Any], int]] = {
    "convolution, forward": (lambda: CONV.forward(INPUT, WEIGHT, BIAS), 100),
    "convolution, backward": (lambda: CONV.backward(CONVOLVED, INPUT, WEIGHT, BIAS), 200),
    "average, forward": (lambda: AVG.forward(INPUT), 140),
    "average, backward": (lambda: AVG.backward(POOLED, INPUT), 157),
    "maximum, forward": (lambda: MAX.forward(INPUT), 115),
    "maximum, backward": (lambda: MAX.backward(POOLED, INPUT), 258),
}
"""Layers, and a few more than the calls of each, of Python functions and of C functions other than NumPy's ufuncs."""


def calls_of(function: Callable[[], Any]) -> int:
    count = 0

    def profile(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(("compute", "most"), CALLS.values(), ids=CALLS)
def test_a_tiny_layer_that_was_computed_before_takes_few_calls(compute: Callable[[], Any], most: int) -> None:
    for _ in range(3):  # what follows from the shapes alone is kept from the first calls
        compute()
    assert calls_of(compute) <= most


@pytest.mark.parametrize(
    ("kernel", "parameters", "expected"),
    [
        ((5, 5), {"stride": 2}, 9),
        ((4, 3), {"stride": (4, 1)}, 3),
        ((3, 4), {"stride": (1, 4)}, 3),
        ((3, 2), {"stride": 2, "dilation": (2, 1)}, 3),
        ((2, 3, 4), {"stride": (2, 2, 1)}, 8),
    ],
)
def test_taps_that_the_stride_keeps_apart_are_added_at_once(
    monkeypatch: pytest.MonkeyPatch, kernel: tuple[int, ...], parameters: dict[str, Any], expected: int
) -> None:
    additions, count = col2im._Patches._additions, 0

    def counted(self: Any) -> Iterator[Any]:
        nonlocal count
        for addition in additions(self):
            count += 1
            yield addition

    monkeypatch.setattr(col2im._Patches, "_additions", counted)
    forget_what_is_kept()
    with Workspace() as workspace:  # of which nothing is kept
        workspace.arrays((2 * MAX_KEPT_BYTES,), dtype=np.uint8)
    op, image, weight = Conv(**parameters), np.ones((1, *(9,) * len(kernel), 2)), np.ones((*kernel, 2, 3))
    op.backward(op.forward(image, weight), image, weight, wrt=["input"])
    assert count == expected
