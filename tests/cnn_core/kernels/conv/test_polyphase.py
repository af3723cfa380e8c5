"""Of each element, the phases of the strides have every tap that reaches it, once, and no other one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnn_core import Conv
from cnn_core.geometry import AxisWindows, Windows
from cnn_core.kernels.conv.col2im import Col2im
from cnn_core.kernels.conv.polyphase import polyphase_components
from cnn_core.kernels.conv.problem import ConvProblem
from tests.comparisons import normal
from tests.strategies import thorough_settings

Pairs = dict[int, set[tuple[int, int]]]


@st.composite
def axis_windows(draw: st.DrawFn) -> AxisWindows:
    size, kernel, stride = draw(st.integers(1, 12)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    dilation, before, after = draw(st.integers(1, 4)), draw(st.integers(0, 6)), draw(st.integers(0, 6))
    outputs = (size + before + after - (kernel - 1) * dilation - 1) // stride + 1
    assume(outputs > 0)
    return AxisWindows(size, kernel, stride, dilation, before=before, after=after, output_size=outputs)


def pairs_of(axis: AxisWindows) -> Pairs:
    """Of each element, the taps and outputs that it counts in, from the definition."""
    found: Pairs = {element: set() for element in range(axis.size)}
    for output, tap in itertools.product(range(axis.output_size), range(axis.kernel_size)):
        element = output * axis.stride - axis.before + tap * axis.dilation
        if 0 <= element < axis.size:
            found[element].add((tap, output))
    return found


@thorough_settings
@given(axis_windows())
def test_every_element_has_its_taps(axis: AxisWindows) -> None:
    found = polyphase_components(ConvProblem(1, (axis.kernel_size, 1, 1), 1, Windows((axis,)), 8))
    pairs: Pairs = {}
    for phase in found:
        elements = range(*phase.elements[0].indices(axis.size))
        taps = list(range(*phase.taps[0].indices(axis.kernel_size)))[::-1]  # the weight is flipped
        for number, element in enumerate(elements):
            assert element not in pairs
            pairs[element] = set()
            if phase.problem is None:
                continue
            (windows,) = phase.problem.windows.axes
            assert isinstance(windows, AxisWindows)
            assert windows.output_size == len(elements)
            assert windows.kernel_size == len(taps)
            for place, tap in enumerate(taps):
                output = number * windows.stride - windows.before + place * windows.dilation
                if 0 <= output < windows.size:
                    pairs[element].add((tap, phase.outputs[0].start + output))
    assert pairs == pairs_of(axis)


@pytest.mark.parametrize(
    ("stride", "shapes", "taken"),
    [
        (2, ((2, 11, 12, 8), (3, 3, 8, 9)), True),
        (2, ((2, 11, 12, 4), (3, 3, 4, 9)), False),  # too few channels
        (3, ((2, 11, 12, 8), (3, 3, 8, 9)), False),  # nine phases
        (1, ((2, 11, 12, 8), (3, 3, 8, 9)), True),
    ],
)
def test_which_gradients_are_gathered(
    stride: int, shapes: tuple[tuple[int, ...], tuple[int, ...]], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scattered: list[ConvProblem] = []
    original = Col2im.grad_input

    def noted(kernel: Col2im, problem: ConvProblem, *arrays: Any) -> None:
        scattered.append(problem)
        original(kernel, problem, *arrays)

    monkeypatch.setattr(Col2im, "grad_input", noted)
    image, weight = (normal(*shape) for shape in shapes)
    op = Conv(stride=stride, padding=1)
    op.backward(normal(*op.output_shape(*shapes)), image, weight, wrt=["input"])
    assert bool(scattered) is not taken
