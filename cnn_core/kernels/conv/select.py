"""Which kernel computes a problem: one rule for each.

Sums that are added directly are exact for integers; ``direct_kernel`` picks the form that suits the channels. Winograd
and FFT kernels are taken only where they are requested, or where ``fastest`` is requested and they are worth it.
"""

from __future__ import annotations

import functools
import math

from ...parameters import Algorithm, Direction, TakenAlgorithm
from .col2im import COL2IM
from .depthwise import DEPTHWISE
from .direct import direct_kernel
from .fft import FFT
from .kernel import ConvKernel, GradInputKernel
from .polyphase import Polyphase, component_problems
from .problem import ConvProblem, cached_per_problem
from .window_blocking import BLOCKED_COL2IM, WINDOW_BLOCKING
from .winograd.blocks import tile_counts
from .winograd.kernel import WINOGRAD

__all__ = ["col2im_kernel", "forward_kernel", "grad_input_kernel", "is_polyphase", "taken"]

FLOAT32_BYTES = 4

MIN_WINOGRAD_CHANNELS = 32
"""With fewer channels, the transforms take longer than the products that they save."""

MIN_WINOGRAD_TILES = 64
"""With fewer tiles in all images together, transforming the weight takes longer than the products that it saves."""

MIN_FFT_TAPS = 300
"""With fewer taps, the transforms take longer than the products that they save (docs/algorithms.md)."""

MIN_POLYPHASE_GROUP_CHANNELS = 8
"""With fewer channels in a group, the products of the components have too few columns to be fast."""

MAX_POLYPHASE_COMPONENTS = 8
"""With more components, each has too few windows for the time that it takes to begin."""


def taken(problem: ConvProblem, algorithm: Algorithm, direction: Direction, *, transposed: bool) -> TakenAlgorithm:
    """Return the algorithm that a direction of a layer takes; what it does not support is computed directly.

    Parameters
    ----------
    problem : ConvProblem
    algorithm : {"auto", "direct", "fastest", "winograd", "fft"}
        As the parameter of the ops. "auto" is "direct", whose sums of integers are exact.
    direction : {"forward", "backward"}
    transposed : bool
        Whether the layer is a transposed convolution, whose output is the gradient with respect to a convolution's
        input.
    """
    problems_of = functools.partial(_problems, problem, direction, transposed)
    if algorithm in {"winograd", "fastest"} and any(
        WINOGRAD.supports(each) and (algorithm == "winograd" or _is_worth_winograd(each))
        for each in problems_of("winograd")
    ):
        return "winograd"
    if algorithm in {"fft", "fastest"} and any(
        FFT.supports(each) and (algorithm == "fft" or _is_worth_fft(each)) for each in problems_of("fft")
    ):
        return "fft"
    return "direct"


def _problems(
    problem: ConvProblem, direction: Direction, transposed: bool, algorithm: TakenAlgorithm
) -> list[ConvProblem]:
    """Return the problems that a direction of a layer hands to a ``ConvKernel``."""
    if transposed and direction == "backward":
        return [problem]
    by_components = component_problems(problem) if is_polyphase(problem, algorithm) else []
    if transposed:
        return by_components
    return [problem] if direction == "forward" else [problem, *by_components]


def _is_worth_winograd(problem: ConvProblem) -> bool:
    # never trade accuracy for speed in float64
    return (
        problem.itemsize == FLOAT32_BYTES
        and min(problem.channels, problem.features) >= MIN_WINOGRAD_CHANNELS
        and math.prod(tile_counts(problem)) >= MIN_WINOGRAD_TILES
    )


def _is_worth_fft(problem: ConvProblem) -> bool:
    return problem.itemsize == FLOAT32_BYTES and problem.taps >= MIN_FFT_TAPS


@cached_per_problem
def forward_kernel(problem: ConvProblem, algorithm: TakenAlgorithm) -> ConvKernel:
    """Return the kernel of the cross-correlation, and of its gradient with respect to the weight."""
    if algorithm == "winograd" and WINOGRAD.supports(problem):
        return WINOGRAD
    if algorithm == "fft" and FFT.supports(problem):
        return FFT
    return direct_kernel(problem)


@cached_per_problem
def grad_input_kernel(problem: ConvProblem, algorithm: TakenAlgorithm) -> GradInputKernel:
    """Return the kernel of the gradient with respect to the input."""
    kernel = col2im_kernel(problem)
    if not is_polyphase(problem, algorithm):
        return kernel
    return Polyphase(lambda component: forward_kernel(component, algorithm), kernel)


def col2im_kernel(problem: ConvProblem) -> GradInputKernel:
    """Return the kernel of the gradient with respect to the input where polyphase components are not used."""
    return BLOCKED_COL2IM if WINDOW_BLOCKING.supports(problem) else COL2IM


def is_polyphase(problem: ConvProblem, algorithm: TakenAlgorithm) -> bool:
    """Return whether polyphase components compute the gradient with respect to the input, and faster than col2im."""
    if math.prod(axis.stride for axis in problem.windows.axes) > MAX_POLYPHASE_COMPONENTS:
        return False
    components = component_problems(problem)
    if problem.group_channels >= MIN_POLYPHASE_GROUP_CHANNELS or all(map(DEPTHWISE.supports, components)):
        return True
    return algorithm == "fft" and all(map(FFT.supports, components))
