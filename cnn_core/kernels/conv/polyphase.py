"""The gradient of the input as correlations of grad_output with parts of the flipped weight.

With stride 1 it is a single one. With stride s an element x gets something from the taps k alone for which x + before -
k * dilation is a multiple of s: those of every s-th element are the same ones. So the elements of each phase, every
s-th one, are a correlation of grad_output with stride 1, whose weight is every so many taps:

    stride 2, three taps, before = 1      elements 0, 2, 4, ...: tap 1      elements 1, 3, 5, ...: taps 2 and 0

What is gathered so for each element need not be added to it piece by piece, as ``spread`` does.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

from cnn_core.geometry import AxisWindows, Windows
from cnn_core.kernels.conv.problem import ConvProblem, conv_problem

__all__ = ["PolyphaseComponent", "polyphase_components"]


@dataclass(frozen=True)
class PolyphaseComponent:
    """Elements of grad_input that get something from the same taps.

    Parameters
    ----------
    elements : tuple of slice
        (*S,).
    taps : tuple of slice
        (*K,).
    problem : ConvProblem or None
        That of grad_output with these taps of the flipped weight; None if there are no taps.
    """

    elements: tuple[slice, ...]
    taps: tuple[slice, ...]
    problem: ConvProblem | None


@dataclass(frozen=True)
class _AxisComponent:
    elements: slice
    taps: slice
    windows: AxisWindows | None


def polyphase_components(problem: ConvProblem) -> list[PolyphaseComponent] | None:
    """Return the phases of a correlation's gradient; None if windows lie in the padding alone, which no phase has."""
    by_axis: list[list[_AxisComponent]] = []
    for axis in problem.windows.axes:
        along_axis = _axis_phases(axis)
        if along_axis is None:
            return None
        by_axis.append(along_axis)
    group_features = problem.features // problem.groups
    found = []
    for along in itertools.product(*by_axis):
        axes = tuple(component.windows for component in along if component.windows is not None)
        correlation = None
        if len(axes) == len(along):
            shape = (*(axis.kernel_size for axis in axes), group_features, problem.channels)
            correlation = conv_problem(problem.batch, shape, problem.groups, Windows(axes), problem.itemsize)
        elements, taps = tuple(component.elements for component in along), tuple(component.taps for component in along)
        found.append(PolyphaseComponent(elements, taps, correlation))
    return found


def _axis_phases(axis: AxisWindows) -> list[_AxisComponent] | None:
    """Return the phases along one axis; None if one of them needs less of grad_output than there is."""
    stride, dilation = axis.stride, axis.dilation
    common = math.gcd(stride, dilation)
    between_taps, between_outputs = stride // common, dilation // common
    found = []
    for first in range(min(stride, axis.size)):
        elements = slice(first, axis.size, stride)
        count = len(range(first, axis.size, stride))
        # taps k for which first + before - k * dilation is a multiple of the stride
        taps = [tap for tap in range(min(between_taps, axis.kernel_size)) if _meets(axis, first, tap)]
        if not taps:
            found.append(_AxisComponent(elements, slice(0, 0), None))
            continue
        tap = taps[0]
        taken = len(range(tap, axis.kernel_size, between_taps))
        output = (first + axis.before - tap * dilation) // stride
        before = (taken - 1) * between_outputs - output
        after = count + output - axis.output_size
        if before < 0 or after < 0:
            return None
        windows = dataclasses.replace(
            axis,
            size=axis.output_size,
            kernel_size=taken,
            stride=1,
            dilation=between_outputs,
            before=before,
            after=after,
            output_size=count,
        )
        found.append(_AxisComponent(elements, slice(tap, axis.kernel_size, between_taps), windows))
    return found


def _meets(axis: AxisWindows, element: int, tap: int) -> bool:
    return (element + axis.before - tap * axis.dilation) % axis.stride == 0
