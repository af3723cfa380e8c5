"""What a correlation and its gradients cost, by the algorithms that are chosen for its sizes.

The time is predicted for float64, whose blocks hold the fewest windows, and for sums that are computed directly; the
memory for whichever type takes more.
"""

from __future__ import annotations

import math

from cnn_core.geometry import Windows
from cnn_core.kernels.conv import col2im as spread
from cnn_core.kernels.conv import depthwise
from cnn_core.kernels.conv import fft as fourier
from cnn_core.kernels.conv import im2col_gemm as direct
from cnn_core.kernels.conv import select as choice
from cnn_core.kernels.conv import window_blocking as widened
from cnn_core.kernels.conv.problem import ConvProblem, Division, conv_problem
from cnn_core.kernels.conv.winograd import blocks as tile_blocks
from cnn_core.kernels.conv.winograd import kernel as winograd
from cnn_core.kernels.conv.winograd import tiles
from cnn_core.kernels.cost import MOVED_ELEMENT, STEP, Cost, Costs
from cnn_core.parameters import Algorithm, Direction, TakenAlgorithm
from cnn_core.runtime.threads import get_threads
from cnn_core.runtime.workspace import MAX_KEPT_BYTES, view_cache_elements

__all__ = ["correlation_costs"]

DEPTHWISE_PRODUCT, DEPTHWISE_LOOP = 20, 100
"""Work of an elementwise product and its sum, and of one of NumPy's loops over the channels, which are short where
there are few of them."""

DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")

GROUPS_OF_A_STEP = 10
"""Products of small matrices that take as long as a step in Python."""


def correlation_costs(
    batch: int,
    channels: int,
    weight_shape: tuple[int, ...],
    windows: Windows,
    algorithm: Algorithm,
    *,
    transposed: bool = False,
) -> Costs:
    """Return what a correlation costs, and what each of its gradients costs.

    Parameters
    ----------
    batch, channels : int
    weight_shape : tuple of int
        (*K, C/G, F).
    windows : Windows
    algorithm : str
    transposed : bool
        Whether it is for a transposed convolution, whose output is the gradient of the input.
    """
    groups = channels // weight_shape[-2]
    in_float32, in_float64 = (conv_problem(batch, weight_shape, groups, windows, itemsize) for itemsize in (4, 8))
    both = (in_float32, in_float64)
    forward, grad_input, grad_weight = 0, 0, 0
    for problem in both:
        in_forward, in_backward = (
            choice.taken(problem, algorithm, direction, transposed=transposed) for direction in DIRECTIONS
        )
        of_correlate, of_input, of_weight = (
            (in_backward, in_forward, in_backward) if transposed else (in_forward, in_backward, in_backward)
        )
        forward = max(forward, _memory_of_correlate(problem, of_correlate))
        grad_input = max(grad_input, _memory_of_grad_input(problem, of_input))
        grad_weight = max(grad_weight, _memory_of_grad_weight(problem, of_weight))
    positions = math.prod(in_float64.positions)
    return Costs(
        Cost(_work_of_correlate(in_float64), forward),
        {
            "input": Cost(_work_of_grad_input(in_float64), grad_input),
            "weight": Cost(_work_of_correlate(in_float64), grad_weight),
            # few positions at a time are added up, and their sums in float64
            "bias": Cost(MOVED_ELEMENT * positions * in_float64.features, 2**17 + 4 * in_float64.features),
        },
    )


def _threads(units: int) -> int:
    return max(1, min(get_threads(), units))


def _memory_of_patches(problem: ConvProblem, division: Division, patch: int) -> int:
    """Return the elements that one thread holds for patches of so many elements."""
    block = division.counts
    positions = math.prod(block)
    # the numbers of the pieces that patches are taken from, in 64 bits, thrice while they are made
    numbers = 6 * positions * problem.taps * problem.groups if problem.groups > 1 else 0
    elements = positions * (patch + problem.features) + problem.span(block) * problem.channels + numbers
    return elements + view_cache_elements(division.steps)


def _memory_of_depthwise(problem: ConvProblem) -> int:
    block = depthwise.division(problem).counts
    repeats = problem.features // problem.channels
    span = problem.span(block) * problem.channels * (repeats if repeats == 1 else 2 * repeats)
    return (
        span + math.prod(block) * problem.features + view_cache_elements(depthwise.grad_weight_division(problem).steps)
    )


def _memory_of_correlate(problem: ConvProblem, algorithm: TakenAlgorithm) -> int:
    chosen = choice.chosen(problem, algorithm)
    if chosen is depthwise:
        found = depthwise.division(problem)
        runs = depthwise.run_windows(problem) * problem.weights
        return runs + _threads(found.steps) * _memory_of_depthwise(problem)
    of_direct = _memory_of_direct(problem)
    if chosen is widened:
        # the output may be computed apart, and again if it is not all finite
        return _elements_of_widened(problem) + max(of_direct, _memory_of_direct(widened.wide(problem)))
    if chosen is fourier:
        of_block, of_weight = fourier.block_elements(problem)
        return of_direct + 5 * of_weight + _threads(fourier.division(problem).steps) * of_block
    if chosen is not winograd:
        return of_direct
    found = tile_blocks.division(problem)
    kept = _threads(found.steps) * (sum(tile_blocks.tile_elements(problem, found)) + view_cache_elements(found.steps))
    # tiles that are not finite are computed again
    return tile_blocks.points_of_weight(problem) + kept + of_direct


def _memory_of_direct(problem: ConvProblem) -> int:
    found = direct.division(problem)
    patches = _memory_of_patches(problem, found, problem.taps * problem.channels + 1)
    return 2 * problem.weights + _threads(found.steps) * patches


def _elements_of_widened(problem: ConvProblem) -> int:
    """Return the elements of a wider weight, and of an output or its gradient where the channels are in one piece."""
    return widened.wide(problem).weights + math.prod(problem.positions) * problem.features


def _memory_of_grad_weight(problem: ConvProblem, algorithm: TakenAlgorithm) -> int:
    chosen = choice.chosen(problem, algorithm)
    if chosen is depthwise:
        partial_sums = depthwise.partial_sum_count(problem)
        # sums in float64, two elements each in float32, and those of a block
        return 2 * (partial_sums + 1) * problem.weights + _threads(partial_sums) * (
            _memory_of_depthwise(problem) + 2 * problem.weights
        )
    if chosen is widened:
        return _elements_of_widened(problem) + _memory_of_direct_gradient(widened.wide(problem))
    of_direct = _memory_of_direct_gradient(problem)
    if chosen is fourier:
        of_block, of_weight = fourier.block_elements(problem)
        partial_sums = fourier.partial_sum_count(problem)
        return of_direct + 4 * partial_sums * of_weight + _threads(partial_sums) * of_block
    if chosen is not winograd:
        return of_direct
    partial_sums, parts_of_points = tile_blocks.partial_sum_count(problem), tile_blocks.point_parts(problem)
    points = tiles.POINTS // parts_of_points
    found = tile_blocks.grad_weight_division(problem)
    elements = sum(tile_blocks.tile_elements(problem, found, points)) + sum(
        tile_blocks.gradient_elements(problem, points)
    )
    kept = _threads(partial_sums * parts_of_points) * (elements + view_cache_elements(found.steps * parts_of_points))
    totals = (partial_sums + 1) * tile_blocks.points_of_weight(problem) + problem.weights
    return totals + max(kept, of_direct) + _threads(partial_sums) * MAX_KEPT_BYTES // problem.itemsize


def _memory_of_direct_gradient(problem: ConvProblem) -> int:
    parts = direct.weight_parts(problem)
    partial_sums = direct.partial_sum_count(problem)
    columns = direct.part_columns(problem)
    *_, sums, products, by_part = direct.gradient_elements(problem)
    found = direct.grad_weight_division(problem)
    per_thread = _memory_of_patches(problem, found, columns) + sums + products + by_part
    per_thread += view_cache_elements(found.steps * len(parts))
    return (partial_sums if partial_sums > 1 else 0) * problem.weights + _threads(
        partial_sums * len(parts)
    ) * per_thread


def _memory_of_grad_input(problem: ConvProblem, algorithm: TakenAlgorithm) -> int:
    of_spread = _memory_of_spread(problem)
    if choice.spreading(problem) is widened:
        of_spread = _elements_of_widened(problem) + max(of_spread, _memory_of_spread(widened.wide(problem)))
    of_phases = (_memory_of_correlate(each, algorithm) for each in choice.gathered_sizes(problem, algorithm))
    return max(of_spread, 3 * problem.weights + max(of_phases, default=0))


def _memory_of_spread(problem: ConvProblem) -> int:
    found = spread.division(problem)
    block = found.counts
    positions = math.prod(block)
    patch = problem.channels if spread.goes_by_tap(problem) else problem.taps * problem.channels
    # NumPy adds by way of a copy where it cannot tell that windows are apart: those that leave gaps, and single taps
    last = problem.windows.axes[-1]
    run = 1 if spread.goes_by_tap(problem) else last.kernel_size
    added = run * problem.channels if run == 1 or last.extent < last.stride else 0
    per_thread = problem.span(block) * problem.channels + positions * (patch + added + 3 * problem.features)
    units = spread.units(problem)
    per_thread += spread.views(problem) * view_cache_elements(found.steps * len(units))
    # of each unit the matrices of its weight, and of one a copy while they are made
    return problem.weights + -(-problem.weights // spread.cuts(problem)) + _threads(len(units)) * per_thread


def _work_of_correlate(problem: ConvProblem) -> int:
    positions = math.prod(problem.positions)
    work = positions * problem.weights
    if depthwise.applies(problem):
        loop = max(problem.channels, problem.features // problem.channels)
        work += (DEPTHWISE_PRODUCT + DEPTHWISE_LOOP // loop) * positions * problem.weights
        found, steps = depthwise.division(problem), problem.taps * depthwise.division(problem).steps
    else:
        work += MOVED_ELEMENT * positions * problem.taps * problem.channels
        found = direct.division(problem)
        steps = found.steps * (1 + problem.groups // GROUPS_OF_A_STEP)
    return work + MOVED_ELEMENT * _copied_elements(problem, found) + STEP * steps


def _work_of_grad_input(problem: ConvProblem) -> int:
    found = spread.division(problem)
    positions = math.prod(problem.positions)
    work = positions * problem.weights + MOVED_ELEMENT * positions * problem.taps * problem.channels
    if depthwise.applies(problem):
        loop = max(problem.channels, problem.features // problem.channels)
        work += (DEPTHWISE_PRODUCT + DEPTHWISE_LOOP // loop) * positions * problem.weights
    steps = spread.tap_steps(problem) if spread.goes_by_tap(problem) else spread.patch_steps(problem)
    by_spreading = work + MOVED_ELEMENT * _copied_elements(problem, found) + STEP * steps
    return max(by_spreading, sum(_work_of_correlate(each) for each in choice.gathered_sizes(problem, "direct")))


def _copied_elements(problem: ConvProblem, division: Division) -> int:
    """Return the elements of the parts of the padded input that are copied, in all blocks together.

    Where taps are far apart or windows overlap much, blocks copy what they span many times over.
    """
    return division.steps * problem.channels * problem.span(division.counts)
