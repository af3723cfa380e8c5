"""Computation takes few steps in Python, however many elements there are, and their number is known beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_core import AvgPool, Conv, MaxPool
from cnn_core.geometry import AxisWindows, Windows
from cnn_core.kernels.conv import col2im, problem
from cnn_core.kernels.cost import STEP
from cnn_core.runtime.blocks import block_count, blocks
from tests.cnn_core.small_blocks import forget_what_is_kept
from tests.comparisons import assert_close, normal
from tests.oracle import loops

LAYERS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "ordinary": (Conv(padding=1), (4, 30, 30, 8), (3, 3, 8, 8)),
    "a long kernel": (Conv(), (1, 20_000, 1), (1001, 1, 1)),
    "a long kernel of several channels": (Conv(), (1, 20_000, 2), (501, 2, 3)),
    "a long kernel of groups": (Conv(groups=2), (1, 10_000, 4), (501, 2, 4)),
    "depthwise": (Conv(padding=1, groups=16), (4, 30, 30, 16), (3, 3, 1, 16)),
    "depthwise of a large kernel": (Conv(padding=7, groups=32), (1, 40, 40, 32), (15, 15, 1, 32)),
    "many images": (Conv(padding=((1000, 0),), stride=2000), (5_000, 1, 1), (1, 1, 1)),
    "max": (MaxPool(kernel_size=3), (4, 30, 30, 8), ()),
    "global average": (AvgPool(kernel_size=100), (4, 100, 100, 8), ()),
}


class Steps:
    """Counts what the loops of the computation go through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start_again()
        for owner, name in ((col2im, "_offsets"), (Windows, "pieces"), (AxisWindows, "pieces")):
            monkeypatch.setattr(owner, name, self._counting(getattr(owner, name)))
        monkeypatch.setattr(problem, "blocks", self._counting(blocks))

    def start_again(self) -> None:
        self.count = 0
        forget_what_is_kept()  # blocks and pieces are, for the next call

    def _counting(self, loop: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            for item in loop(*arguments):
                self.count += 1
                yield item

        return counted


@pytest.mark.parametrize(("op", "input_shape", "weight_shape"), LAYERS.values(), ids=LAYERS.keys())
def test_the_steps_are_few_and_predicted(
    monkeypatch: pytest.MonkeyPatch, op: Any, input_shape: tuple[int, ...], weight_shape: tuple[int, ...]
) -> None:
    operands = [np.ones(shape) for shape in (input_shape, weight_shape) if shape]
    layer = op.resolve(*(operand.shape for operand in operands))
    steps = Steps(monkeypatch)
    output = op.forward(*operands)
    taps = math.prod(layer.windows.kernel_sizes)
    assert 0 < STEP * steps.count <= 3 * layer.costs().forward.work
    assert steps.count <= 100 + 10 * taps
    steps.start_again()
    op.backward(output, *operands)
    # the gradient of a maximum compares all taps at once
    assert STEP * steps.count <= 3 * sum(cost.work for cost in layer.costs().backward.values())
    assert steps.count <= 100 + 10 * taps


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(1, 200),
)
def test_blocks_are_counted_without_making_them(shape: list[int], bytes_per_element: int, limit: int) -> None:
    assert block_count(shape, bytes_per_element, limit) == len(list(blocks(shape, bytes_per_element, limit)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("channels", "features"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_tap_by_tap_and_patches_give_the_same(
    monkeypatch: pytest.MonkeyPatch, groups: int, channels: int, features: int
) -> None:
    op = Conv(stride=2, padding=((2, 1), (0, 3)), dilation=(1, 2), groups=groups)
    image, weight = normal(2, 7, 8, channels * groups), normal(3, 2, channels, features * groups)
    gradient = normal(*op.output_shape(image.shape, weight.shape))
    expected = loops.conv_backward(
        gradient, image, weight, stride=2, padding=[(2, 1), (0, 3)], dilation=[1, 2], groups=groups
    )
    for by_tap in (True, False):
        forget_what_is_kept()
        monkeypatch.setattr(col2im, "_goes_by_tap", lambda _, by_tap=by_tap: by_tap)
        assert_close(op.backward(gradient, image, weight, wrt=["input"]).grad_input, expected.grad_input)


def test_padding_that_blocks_copy_many_times_is_work() -> None:
    """Where taps are far apart, every block of a few windows copies the whole span of one."""
    costs = Conv(padding=((0, 0), (205, 205)), dilation=200).resolve((1, 801, 1, 64), (4, 3, 64, 1)).costs()
    rows, span = 201, 601 * 401 * 64
    for cost in (costs.forward, costs.backward["weight"], costs.backward["input"]):
        assert cost.work > rows * span
    # dense windows share most of what they span
    padded = Conv(padding=1).resolve((8, 56, 56, 64), (3, 3, 64, 64)).costs().forward
    assert padded.work < 1.1 * Conv().resolve((8, 58, 58, 64), (3, 3, 64, 64)).costs().forward.work
