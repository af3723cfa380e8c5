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
from cnn_core.kernels.conv.problem import Correlation, Division, correlation_of
from cnn_core.kernels.conv.winograd import blocks as tile_blocks
from cnn_core.kernels.conv.winograd import kernel as winograd
from cnn_core.kernels.conv.winograd import tiles
from cnn_core.kernels.cost import MOVED_ELEMENT, STEP, Cost, Costs
from cnn_core.parameters import Algorithm, Direction, TakenAlgorithm
from cnn_core.runtime.threads import get_threads
from cnn_core.runtime.workspace import MOST_KEPT_BYTES, made_elements

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
    in_float32, in_float64 = (correlation_of(batch, weight_shape, groups, windows, itemsize) for itemsize in (4, 8))
    both = (in_float32, in_float64)
    forward, grad_input, grad_weight = 0, 0, 0
    for sizes in both:
        in_forward, in_backward = (
            choice.taken(sizes, algorithm, direction, transposed=transposed) for direction in DIRECTIONS
        )
        of_correlate, of_input, of_weight = (
            (in_backward, in_forward, in_backward) if transposed else (in_forward, in_backward, in_backward)
        )
        forward = max(forward, _memory_of_correlate(sizes, of_correlate))
        grad_input = max(grad_input, _memory_of_grad_input(sizes, of_input))
        grad_weight = max(grad_weight, _memory_of_grad_weight(sizes, of_weight))
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


def _memory_of_patches(sizes: Correlation, division: Division, patch: int) -> int:
    """Return the elements that one thread holds for patches of so many elements."""
    block = division.counts
    positions = math.prod(block)
    # the numbers of the pieces that patches are taken from, in 64 bits, thrice while they are made
    numbers = 6 * positions * sizes.taps * sizes.groups if sizes.groups > 1 else 0
    elements = positions * (patch + sizes.features) + sizes.span(block) * sizes.channels + numbers
    return elements + made_elements(division.steps)


def _memory_of_depthwise(sizes: Correlation) -> int:
    block = depthwise.division(sizes).counts
    repeats = sizes.features // sizes.channels
    span = sizes.span(block) * sizes.channels * (repeats if repeats == 1 else 2 * repeats)
    return span + math.prod(block) * sizes.features + made_elements(depthwise.grad_weight_division(sizes).steps)


def _memory_of_correlate(sizes: Correlation, algorithm: TakenAlgorithm) -> int:
    chosen = choice.chosen(sizes, algorithm)
    if chosen is depthwise:
        found = depthwise.division(sizes)
        runs = depthwise.run_windows(sizes) * sizes.weights
        return runs + _threads(found.steps) * _memory_of_depthwise(sizes)
    of_direct = _memory_of_direct(sizes)
    if chosen is widened:
        # the output may be computed apart, and again if it is not all finite
        return _elements_of_widened(sizes) + max(of_direct, _memory_of_direct(widened.wide(sizes)))
    if chosen is fourier:
        of_block, of_weight = fourier.block_elements(sizes)
        return of_direct + 5 * of_weight + _threads(fourier.division(sizes).steps) * of_block
    if chosen is not winograd:
        return of_direct
    found = tile_blocks.division(sizes)
    kept = _threads(found.steps) * (sum(tile_blocks.tile_elements(sizes, found)) + made_elements(found.steps))
    # tiles that are not finite are computed again
    return tile_blocks.points_of_weight(sizes) + kept + of_direct


def _memory_of_direct(sizes: Correlation) -> int:
    found = direct.division(sizes)
    patches = _memory_of_patches(sizes, found, sizes.taps * sizes.channels + 1)
    return 2 * sizes.weights + _threads(found.steps) * patches


def _elements_of_widened(sizes: Correlation) -> int:
    """Return the elements of a wider weight, and of an output or its gradient where the channels are in one piece."""
    return widened.wide(sizes).weights + math.prod(sizes.positions) * sizes.features


def _memory_of_grad_weight(sizes: Correlation, algorithm: TakenAlgorithm) -> int:
    chosen = choice.chosen(sizes, algorithm)
    if chosen is depthwise:
        lanes = depthwise.lane_count(sizes)
        # sums in float64, two elements each in float32, and those of a block
        return 2 * (lanes + 1) * sizes.weights + _threads(lanes) * (_memory_of_depthwise(sizes) + 2 * sizes.weights)
    if chosen is widened:
        return _elements_of_widened(sizes) + _memory_of_direct_gradient(widened.wide(sizes))
    of_direct = _memory_of_direct_gradient(sizes)
    if chosen is fourier:
        of_block, of_weight = fourier.block_elements(sizes)
        lanes = fourier.lane_count(sizes)
        return of_direct + 4 * lanes * of_weight + _threads(lanes) * of_block
    if chosen is not winograd:
        return of_direct
    lanes, parts_of_points = tile_blocks.lane_count(sizes), tile_blocks.point_parts(sizes)
    points = tiles.POINTS // parts_of_points
    found = tile_blocks.grad_weight_division(sizes)
    elements = sum(tile_blocks.tile_elements(sizes, found, points)) + sum(tile_blocks.gradient_elements(sizes, points))
    kept = _threads(lanes * parts_of_points) * (elements + made_elements(found.steps * parts_of_points))
    totals = (lanes + 1) * tile_blocks.points_of_weight(sizes) + sizes.weights
    return totals + max(kept, of_direct) + _threads(lanes) * MOST_KEPT_BYTES // sizes.itemsize


def _memory_of_direct_gradient(sizes: Correlation) -> int:
    parts = direct.weight_parts(sizes)
    lanes = direct.lane_count(sizes)
    columns = direct.part_columns(sizes)
    *_, sums, products, by_part = direct.gradient_elements(sizes)
    found = direct.grad_weight_division(sizes)
    per_thread = _memory_of_patches(sizes, found, columns) + sums + products + by_part
    per_thread += made_elements(found.steps * len(parts))
    return (lanes if lanes > 1 else 0) * sizes.weights + _threads(lanes * len(parts)) * per_thread


def _memory_of_grad_input(sizes: Correlation, algorithm: TakenAlgorithm) -> int:
    of_spread = _memory_of_spread(sizes)
    if choice.spreading(sizes) is widened:
        of_spread = _elements_of_widened(sizes) + max(of_spread, _memory_of_spread(widened.wide(sizes)))
    of_phases = (_memory_of_correlate(each, algorithm) for each in choice.gathered_sizes(sizes, algorithm))
    return max(of_spread, 3 * sizes.weights + max(of_phases, default=0))


def _memory_of_spread(sizes: Correlation) -> int:
    found = spread.division(sizes)
    block = found.counts
    positions = math.prod(block)
    patch = sizes.channels if spread.goes_by_tap(sizes) else sizes.taps * sizes.channels
    # NumPy adds by way of a copy where it cannot tell that windows are apart: those that leave gaps, and single taps
    last = sizes.windows.axes[-1]
    run = 1 if spread.goes_by_tap(sizes) else last.kernel_size
    added = run * sizes.channels if run == 1 or last.extent < last.stride else 0
    per_thread = sizes.span(block) * sizes.channels + positions * (patch + added + 3 * sizes.features)
    units = spread.units(sizes)
    per_thread += spread.views(sizes) * made_elements(found.steps * len(units))
    # of each unit the matrices of its weight, and of one a copy while they are made
    return sizes.weights + -(-sizes.weights // spread.cuts(sizes)) + _threads(len(units)) * per_thread


def _work_of_correlate(sizes: Correlation) -> int:
    positions = math.prod(sizes.positions)
    work = positions * sizes.weights
    if depthwise.applies(sizes):
        loop = max(sizes.channels, sizes.features // sizes.channels)
        work += (DEPTHWISE_PRODUCT + DEPTHWISE_LOOP // loop) * positions * sizes.weights
        found, steps = depthwise.division(sizes), sizes.taps * depthwise.division(sizes).steps
    else:
        work += MOVED_ELEMENT * positions * sizes.taps * sizes.channels
        found = direct.division(sizes)
        steps = found.steps * (1 + sizes.groups // GROUPS_OF_A_STEP)
    return work + MOVED_ELEMENT * _copied_elements(sizes, found) + STEP * steps


def _work_of_grad_input(sizes: Correlation) -> int:
    found = spread.division(sizes)
    positions = math.prod(sizes.positions)
    work = positions * sizes.weights + MOVED_ELEMENT * positions * sizes.taps * sizes.channels
    if depthwise.applies(sizes):
        loop = max(sizes.channels, sizes.features // sizes.channels)
        work += (DEPTHWISE_PRODUCT + DEPTHWISE_LOOP // loop) * positions * sizes.weights
    steps = spread.tap_steps(sizes) if spread.goes_by_tap(sizes) else spread.patch_steps(sizes)
    by_spreading = work + MOVED_ELEMENT * _copied_elements(sizes, found) + STEP * steps
    return max(by_spreading, sum(_work_of_correlate(each) for each in choice.gathered_sizes(sizes, "direct")))


def _copied_elements(sizes: Correlation, division: Division) -> int:
    """Return the elements of the parts of the padded input that are copied, in all blocks together.

    Where taps are far apart or windows overlap much, blocks copy what they span many times over.
    """
    return division.steps * sizes.channels * sizes.span(division.counts)
