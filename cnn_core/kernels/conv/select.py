"""Which algorithm computes a correlation."""

from __future__ import annotations

import functools
import math
from types import ModuleType

from cnn_core.kernels.conv import col2im as spread
from cnn_core.kernels.conv import depthwise
from cnn_core.kernels.conv import fft as fourier
from cnn_core.kernels.conv import window_blocking as widened
from cnn_core.kernels.conv.exact import exact
from cnn_core.kernels.conv.polyphase import PolyphaseComponent, polyphase_components
from cnn_core.kernels.conv.problem import ConvProblem, cached_per_problem
from cnn_core.kernels.conv.winograd import blocks as tile_blocks
from cnn_core.kernels.conv.winograd import kernel as winograd
from cnn_core.parameters import Algorithm, Direction, TakenAlgorithm

__all__ = ["chosen", "gathered", "gathered_sizes", "spreading", "taken"]

FLOAT32_BYTES = 4
MIN_CHANNELS = 32
MIN_WINOGRAD_TILES = 64
"""Of all images together; with fewer, what is saved in products is lost in transforming the weight."""

MIN_FFT_TAPS = 300
"""Of a window; with fewer, transforms take longer than the products that they save."""

MIN_GROUP_CHANNELS = 8
"""Of a group, for grad_input to be a correlation: fewer make products of narrow matrices."""

MAX_POLYPHASE_COMPONENTS = 8
"""Of the strides: each is a correlation of its own, and has fewer windows than the one before."""


def taken(problem: ConvProblem, algorithm: Algorithm, direction: Direction, *, transposed: bool) -> TakenAlgorithm:
    """Return the algorithm that a direction of a layer takes; what it does not apply to there is computed directly.

    Parameters
    ----------
    problem : ConvProblem
    algorithm : {"auto", "direct", "fastest", "winograd", "fft"}
        As the parameter of the ops: "auto" is "direct", whose sums of integers are exact.
    direction : {"forward", "backward"}
    transposed : bool
        Whether the layer is a transposed convolution, whose output is the gradient of a correlation's input.
    """
    problems_of = functools.partial(_problems, problem, direction, transposed)
    if algorithm in {"winograd", "fastest"} and any(
        winograd.applies(each) and (algorithm == "winograd" or _is_worth_tiles(each))
        for each in problems_of("winograd")
    ):
        return "winograd"
    if algorithm in {"fft", "fastest"} and any(
        fourier.applies(each) and (algorithm == "fft" or _is_worth_transforms(each)) for each in problems_of("fft")
    ):
        return "fft"
    return "direct"


def _problems(
    problem: ConvProblem, direction: Direction, transposed: bool, algorithm: TakenAlgorithm
) -> list[ConvProblem]:
    """Return the correlations that a direction of a layer computes."""
    if transposed:
        return gathered_sizes(problem, algorithm) if direction == "forward" else [problem]
    return [problem] if direction == "forward" else [problem, *gathered_sizes(problem, algorithm)]


def chosen(problem: ConvProblem, algorithm: TakenAlgorithm) -> ModuleType:
    """Return the module that computes a correlation, and the gradient of its weight."""
    if algorithm == "winograd" and winograd.applies(problem):
        return winograd
    if algorithm == "fft" and fourier.applies(problem):
        return fourier
    return exact(problem)


def spreading(problem: ConvProblem) -> ModuleType:
    """Return the module that computes grad_input where no correlation does."""
    return widened if widened.applies(problem) else spread


def _is_worth_transforms(problem: ConvProblem) -> bool:
    return problem.itemsize == FLOAT32_BYTES and problem.taps >= MIN_FFT_TAPS


def _is_worth_tiles(problem: ConvProblem) -> bool:
    # in float64 nobody wants to wait less for fewer digits
    return (
        problem.itemsize == FLOAT32_BYTES
        and min(problem.channels, problem.features) >= MIN_CHANNELS
        and math.prod(tile_blocks.tile_counts(problem)) >= MIN_WINOGRAD_TILES
    )


def gathered(problem: ConvProblem, algorithm: TakenAlgorithm) -> list[PolyphaseComponent] | None:
    """Return the correlations that compute grad_input, if there are any and they are faster than spreading patches."""
    found = _phases(problem)
    if found is None or problem.group_channels >= MIN_GROUP_CHANNELS:
        return found
    correlations = _sizes_of(found)
    if all(depthwise.applies(each) for each in correlations):
        return found
    return found if algorithm == "fft" and all(fourier.applies(each) for each in correlations) else None


def gathered_sizes(problem: ConvProblem, algorithm: TakenAlgorithm) -> list[ConvProblem]:
    """Return the sizes of the correlations that compute grad_input; none if patches are spread."""
    return _sizes_of(gathered(problem, algorithm) or [])


def _sizes_of(found: list[PolyphaseComponent]) -> list[ConvProblem]:
    return [component.problem for component in found if component.problem is not None]


@cached_per_problem
def _phases(problem: ConvProblem) -> list[PolyphaseComponent] | None:
    return (
        polyphase_components(problem)
        if math.prod(axis.stride for axis in problem.windows.axes) <= MAX_POLYPHASE_COMPONENTS
        else None
    )
