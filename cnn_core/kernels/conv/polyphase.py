"""The gradient with respect to the input by polyphase decomposition: as convolutions of grad_output.

With stride 1 it is a single convolution of grad_output with the flipped weight. With stride s, an input element x
receives something only from the taps k for which x + before - k * dilation is a multiple of s, and those are the same
taps for every s-th element. So the elements of one polyphase component, every s-th one, are a convolution of
grad_output with stride 1, whose weight is every so many taps:

    stride 2, three taps, before = 1      elements 0, 2, 4, ...: tap 1      elements 1, 3, 5, ...: taps 2 and 0

Each element is gathered once; nothing is added to it patch by patch, as ``col2im`` does.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import AxisWindows, Windows
from ..passes import fill
from .direct import direct_kernel
from .kernel import ConvKernel, GradInputKernel
from .problem import ConvProblem, cached_per_problem, conv_problem, transposed_weight

__all__ = ["Polyphase", "PolyphaseComponent", "component_problems", "polyphase_components"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Polyphase:
    """The ``GradInputKernel`` of problems that have polyphase components.

    Parameters
    ----------
    forward_kernel : callable
        Returns the kernel of a component.
    col2im : GradInputKernel
        The kernel of weights that are not finite.
    """

    forward_kernel: Callable[[ConvProblem], ConvKernel]
    col2im: GradInputKernel

    def grad_input(
        self, problem: ConvProblem, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
    ) -> None:
        """Write the gradient with respect to the input, one component after the other."""
        # grad_output is padded with zeros here, of which an infinite weight would make NaN
        if not np.isfinite(weight).all():
            self.col2im.grad_input(problem, grad_output, weight, bias, grad_input)
            return
        for component in polyphase_components(problem):
            target = grad_input[(slice(None), *component.elements)]
            if component.problem is None:
                fill(target, 0 if bias is None else bias)
                continue
            flipped = transposed_weight(weight[component.taps], problem.groups)
            gradient = grad_output[(slice(None), *component.outputs)]
            self.forward_kernel(component.problem).forward(component.problem, gradient, flipped, bias, target)

    def workspace(self, problem: ConvProblem) -> int:
        """Return the elements of a flipped weight and of the kernel that takes the most."""
        components = component_problems(problem)
        largest = max((self.forward_kernel(each).forward_workspace(each) for each in components), default=0)
        return max(self.col2im.workspace(problem), 3 * problem.weights + largest)

    def work(self, problem: ConvProblem) -> int:
        """Return the work of the slower of both ways."""
        components = component_problems(problem)
        return max(self.col2im.work(problem), sum(direct_kernel(each).work(each) for each in components))


@dataclass(frozen=True)
class PolyphaseComponent:
    """Input elements that receive something from the same taps.

    Parameters
    ----------
    elements : tuple of slice
        (*S,).
    taps : tuple of slice
        (*K,).
    outputs : tuple of slice
        The windows that have these taps there, (*O,): not those that are wholly in the padding.
    problem : ConvProblem or None
        The convolution of their part of grad_output with these taps of the flipped weight; None if there are no taps.
    """

    elements: tuple[slice, ...]
    taps: tuple[slice, ...]
    outputs: tuple[slice, ...]
    problem: ConvProblem | None


@dataclass(frozen=True)
class _AxisComponent:
    elements: slice
    taps: slice
    outputs: slice
    windows: AxisWindows | None


def component_problems(problem: ConvProblem) -> list[ConvProblem]:
    """Return the problems of the components that have taps."""
    return [each.problem for each in polyphase_components(problem) if each.problem is not None]


@cached_per_problem
def polyphase_components(problem: ConvProblem) -> list[PolyphaseComponent]:
    """Return the components of the gradient."""
    by_axis = [_axis_components(axis) for axis in problem.windows.axes]
    group_features = problem.features // problem.groups
    components = []
    for along in itertools.product(*by_axis):
        axes = tuple(component.windows for component in along if component.windows is not None)
        of_component = None
        if len(axes) == len(along):
            shape = (*(axis.kernel_size for axis in axes), group_features, problem.channels)
            of_component = conv_problem(problem.batch, shape, problem.groups, Windows(axes), problem.itemsize)
        elements, taps = tuple(component.elements for component in along), tuple(component.taps for component in along)
        outputs = tuple(component.outputs for component in along)
        components.append(PolyphaseComponent(elements, taps, outputs, of_component))
    return components


def _axis_components(axis: AxisWindows) -> list[_AxisComponent]:
    """Return the components along one axis."""
    stride, dilation = axis.stride, axis.dilation
    common = math.gcd(stride, dilation)
    between_taps, between_outputs = stride // common, dilation // common
    components = []
    for first in range(min(stride, axis.size)):
        elements = slice(first, axis.size, stride)
        count = len(range(first, axis.size, stride))
        # taps k for which first + before - k * dilation is a multiple of the stride
        taps = [tap for tap in range(min(between_taps, axis.kernel_size)) if _meets(axis, first, tap)]
        if not taps:
            components.append(_AxisComponent(elements, slice(0, 0), slice(0, 0), None))
            continue
        tap = taps[0]
        tap_count = len(range(tap, axis.kernel_size, between_taps))
        output = (first + axis.before - tap * dilation) // stride
        before = (tap_count - 1) * between_outputs - output
        after = count + output - axis.output_size
        outputs = slice(max(0, -before), axis.output_size - max(0, -after))
        if outputs.start >= outputs.stop:
            components.append(_AxisComponent(elements, slice(0, 0), slice(0, 0), None))
            continue
        windows = dataclasses.replace(
            axis,
            size=outputs.stop - outputs.start,
            kernel_size=tap_count,
            stride=1,
            dilation=between_outputs,
            before=max(0, before),
            after=max(0, after),
            output_size=count,
        )
        components.append(_AxisComponent(elements, slice(tap, axis.kernel_size, between_taps), outputs, windows))
    return components


def _meets(axis: AxisWindows, element: int, tap: int) -> bool:
    return (element + axis.before - tap * axis.dilation) % axis.stride == 0
