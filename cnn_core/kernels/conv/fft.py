"""Convolution by Fourier transforms, for windows of very many taps over few channels.

The transform of a correlation is the product of a transform and a conjugate one. So each
output takes about as many products as the logarithm of the number of taps, not as many as there are taps:

    output      = inverse(transform(input) * conjugate(transform(weight)))
    grad_weight = inverse(transform(input) * conjugate(transform(grad_output)))

Blocks of windows are computed separately, each with the block of the input that it covers: the elements that a
transform wraps around are beyond the windows (overlap-save). Rounding is in proportion to the largest elements of a
block, not to each sum's own terms; a block whose outputs are not all finite is computed again directly, since one
infinity makes NaN of everything in a transform.

Axes in comments as in ``im2col_gemm``; T sizes of a transform, of which the last is halved.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.blocks import BLOCK_BYTES, blocks
from ...runtime.threads import run_blocks, thread_count
from ...runtime.workspace import Workspace
from ..finite import is_all_finite
from ..passes import checked
from .direct import direct_kernel
from .padded_block import PaddedBlock
from .problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem

__all__ = ["FFT", "FftKernel"]

Array = NDArray[Any]

MAX_PAIRS = 16
"""Maximum number of pairs of an input and an output channel in a group: each is a product of transforms."""

MAX_PARTIAL_SUMS = 4
"""Maximum number of partial sums, each with a transform of the weight's size."""

MIN_SPANS = 3
"""Length of a block along an axis, as a multiple of its windows: shorter blocks waste most of a transform."""

MAX_TRANSFORM = 2**22
"""Maximum number of elements of all transforms of a block together."""

MAX_TRANSFORMED = 2**20
"""Maximum number of elements that one call transforms along an axis, some hundredths of a second, so that a computation
can stop between calls; a single transform may be larger."""

FAST_SIZES = sorted(
    two * three * five
    for two in (2**power for power in range(24))
    for three in (3**power for power in range(15))
    for five in (5**power for power in range(11))
    if two * three * five <= 2 * MAX_TRANSFORM
)


class FftKernel:
    """The ``ConvKernel`` of many taps and few channels; its results are rounded."""

    def supports(self, problem: ConvProblem) -> bool:
        """Return whether channels are few, the stride is 1, and transforms fit the workspace."""
        return _supports(problem)

    def forward(self, problem: ConvProblem, input: Array, weight: Array, bias: Array | None, output: Array) -> None:
        """Write the cross-correlation."""
        transforms = _Transforms(problem)
        by_frequency = transforms.of_weight(weight).conj()  # (G, C/G, F/G, *T)
        not_finite: list[WindowBlock] = []

        def make_worker(workspace: Workspace) -> Callable[[WindowBlock], None]:
            def compute(block: WindowBlock) -> None:
                spectrum = transforms.of_part(input[block.inputs], block.layout, workspace)  # (n, G, C/G, *T)
                products = np.einsum("ngc...,gcf...->ngf...", spectrum, by_frequency)
                target = output[block.outputs]
                computed = transforms.back(products, target.shape[1:-1])  # (n, F, *o)
                if not is_all_finite(computed):
                    not_finite.append(block)
                    return
                by_position = np.moveaxis(computed, 1, -1)
                if bias is None:
                    target[...] = by_position
                else:
                    np.add(by_position, bias, out=target)

            return compute

        run_blocks(transforms.blocks(), make_worker)
        for block in not_finite:
            layout = block.layout
            part = ConvProblem(layout.images, problem.weight_shape, problem.groups, layout.windows, problem.itemsize)
            direct_kernel(problem).forward(part, input[block.inputs], weight, bias, output[block.outputs])

    def grad_weight(self, problem: ConvProblem, input: Array, grad_output: Array, grad_weight: Array) -> None:
        """Write the gradient with respect to the weight."""
        transforms = _Transforms(problem)
        partial_sums = _partial_sum_count(problem)
        divided = transforms.blocks()
        totals: list[Array | None] = [None] * partial_sums

        def make_worker(workspace: Workspace) -> Callable[[int], None]:
            def compute(partial_sum: int) -> None:
                total: Array | None = None
                for block in checked(divided[partial_sum::partial_sums]):
                    spectrum = transforms.of_part(input[block.inputs], block.layout, workspace)  # (n, G, C/G, *T)
                    gradient = transforms.of_gradient(grad_output[block.outputs], grad_weight.dtype)  # (n, G, F/G, *T)
                    products = np.einsum("ngc...,ngf...->gcf...", spectrum, gradient.conj())
                    total = products if total is None else np.add(total, products, out=total)
                totals[partial_sum] = total

            return compute

        run_blocks(range(partial_sums), make_worker)
        summed = [total for total in totals if total is not None]
        if not summed:
            grad_weight[...] = 0
            return
        total = summed[0]
        for other in summed[1:]:
            total += other
        transforms.write_taps(total, grad_weight)
        if not np.isfinite(grad_weight).all():
            direct_kernel(problem).grad_weight(problem, input, grad_output, grad_weight)

    def forward_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the weight's transform and of each thread's; blocks may be computed again."""
        of_block, of_weight = _block_elements(problem)
        direct = direct_kernel(problem).forward_workspace(problem)
        return direct + 5 * of_weight + thread_count(_division(problem).steps) * of_block

    def grad_weight_workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the partial sums and of each thread's transforms; the sums may be computed again."""
        of_block, of_weight = _block_elements(problem)
        partial_sums = _partial_sum_count(problem)
        direct = direct_kernel(problem).grad_weight_workspace(problem)
        return direct + 4 * partial_sums * of_weight + thread_count(partial_sums) * of_block

    def work(self, problem: ConvProblem) -> int:
        """Return the work of computing directly, which takes longer."""
        return direct_kernel(problem).work(problem)


FFT = FftKernel()


@cached_per_problem
def _supports(problem: ConvProblem) -> bool:
    """Return whether channels are few, the stride is 1, and transforms fit the workspace."""
    pairs = problem.group_channels * (problem.features // problem.groups)
    return (
        pairs <= MAX_PAIRS
        and all(axis.stride == 1 for axis in problem.windows.axes)
        # which may be so large that even their sizes take long to find
        and problem.span((1, *_block_outputs(problem))) <= MAX_TRANSFORM
        and math.prod(_transform_sizes(problem)) * (problem.channels + problem.features + pairs * problem.groups)
        <= MAX_TRANSFORM
    )


@cached_per_problem
def _division(problem: ConvProblem) -> Division:
    """Return the blocks that are transformed at a time: images, and some windows along the first axis."""
    axis = problem.windows.axes[0]
    others = math.prod(other.output_size - 1 + other.extent for other in problem.windows.axes[1:])
    bytes_per_row = problem.itemsize * (problem.channels + problem.features) * others
    rows = min(axis.output_size, max(MIN_SPANS * axis.extent, BLOCK_BYTES // bytes_per_row))
    positions = (problem.batch, axis.output_size, *(1 for _ in problem.windows.axes[1:]))
    return Division(positions, 1, max(1, rows))


def _block_outputs(problem: ConvProblem) -> tuple[int, ...]:
    """Return the most windows of a block along each axis."""
    division = _division(problem)
    _, first, *_ = division.counts
    return (first, *(axis.output_size for axis in problem.windows.axes[1:]))


@cached_per_problem
def _transform_sizes(problem: ConvProblem) -> tuple[int, ...]:
    """Return the sizes of the transforms: at least those of the part of the padded input that a block covers."""
    return tuple(
        _fast_size(count - 1 + axis.extent)
        for count, axis in zip(_block_outputs(problem), problem.windows.axes, strict=True)
    )


def _fast_size(least: int) -> int:
    """Return the smallest size from ``least`` on whose prime factors are 2, 3 and 5."""
    size: int = FAST_SIZES[bisect.bisect_left(FAST_SIZES, least)]
    return size


@cached_per_problem
def _partial_sum_count(problem: ConvProblem) -> int:
    """Return the number of partial sums (split-K)."""
    division = _division(problem)
    return max(1, min(MAX_PARTIAL_SUMS, division.steps))


def _block_elements(problem: ConvProblem) -> tuple[int, int]:
    """Return the elements that a thread holds for the transforms of a block, and those of the weight's transform."""
    division = _division(problem)
    images, *_ = division.counts
    *others, last = _transform_sizes(problem)
    elements = math.prod(others) * (last + 2)  # complex numbers are two each, and half of them are known from the rest
    pairs = problem.group_channels * problem.features
    # a part and its copy with the channels first, transforms before and after each axis, and their products
    return 4 * images * (problem.channels + problem.features) * elements, pairs * elements


class _Transforms:
    """The Fourier transforms of blocks of a correlation; channels before the axes that are transformed."""

    def __init__(self, problem: ConvProblem) -> None:
        self._problem = problem
        self._shape = _transform_sizes(problem)
        self._axes = tuple(range(-len(self._shape), 0))
        self._taps: tuple[Any, ...] = (
            ...,
            *(slice(0, axis.extent, axis.dilation) for axis in problem.windows.axes),
        )

    def blocks(self) -> list[WindowBlock]:
        """Return the blocks, which divide the images and the first axis."""
        division = _division(self._problem)
        whole = [slice(0, axis.output_size) for axis in self._problem.windows.axes[1:]]
        return self._problem.cached_blocks(
            (_Transforms, division), lambda: ((images, rows, *whole) for images, rows, *_ in division.blocks())
        )

    def _padded(self, layout: Layout, workspace: Workspace) -> PaddedBlock:
        images, *_ = _division(self._problem).counts
        elements = self._problem.channels * self._problem.span((images, *_block_outputs(self._problem)))
        (memory,) = workspace.arrays((elements,), dtype=f"f{self._problem.itemsize}")
        return PaddedBlock(memory, layout.images, layout.windows, (self._problem.channels,))

    def _forward(self, array: Array) -> Array:
        array = _along(np.fft.rfft, array, self._shape[-1], -1)
        for size, axis in zip(self._shape[-2::-1], self._axes[-2::-1], strict=True):
            array = _along(np.fft.fft, array, size, axis)
        return array

    def _back(self, array: Array) -> Array:
        for size, axis in zip(self._shape[:-1], self._axes[:-1], strict=True):
            array = _along(np.fft.ifft, array, size, axis)
        return _along(np.fft.irfft, array, self._shape[-1], -1)

    def _split(self, array: Array) -> Array:
        """Return (n, *s, channels) as (n, G, channels/G, *s), contiguous."""
        groups = self._problem.groups
        moved = np.ascontiguousarray(np.moveaxis(array, -1, 1))
        return moved.reshape(len(moved), groups, -1, *moved.shape[2:])

    def of_part(self, part: Array, layout: Layout, workspace: Workspace) -> Array:
        """Transform a part of the input (n, *s, C) with its padding: (n, G, C/G, *T)."""
        padded = workspace.cached((_Transforms, layout), lambda: self._padded(layout, workspace))
        padded.write(part, must_clear=workspace.claim(padded))
        return self._forward(self._split(padded.array))

    def of_gradient(self, gradient: Array, dtype: np.dtype[Any]) -> Array:
        """Transform a part of grad_output (n, *o, F): (n, G, F/G, *T)."""
        return self._forward(self._split(gradient.astype(dtype, copy=False)))

    def of_weight(self, weight: Array) -> Array:
        """Transform a weight (*K, C/G, F): (G, C/G, F/G, *T)."""
        problem = self._problem
        padded = np.zeros((problem.group_channels, problem.features, *self._shape), dtype=weight.dtype)
        padded[self._taps] = np.moveaxis(weight, (-2, -1), (0, 1))
        by_group = padded.reshape(problem.group_channels, problem.groups, -1, *self._shape)
        return self._forward(np.moveaxis(by_group, 0, 1))

    def back(self, products: Array, outputs: tuple[int, ...]) -> Array:
        """Transform products (n, G, F/G, *T) back to as many outputs as there are: (n, F, *o)."""
        computed = self._back(products)
        inside: tuple[Any, ...] = (..., *(slice(0, size) for size in outputs))
        cropped: Array = computed[inside]
        return cropped.reshape(len(products), self._problem.features, *outputs)

    def write_taps(self, products: Array, grad_weight: Array) -> None:
        """Transform products (G, C/G, F/G, *T) back to the taps of a weight (*K, C/G, F)."""
        computed = self._back(products)[self._taps]
        by_channel = np.moveaxis(computed, 0, 1)  # (C/G, G, F/G, *K)
        flat = by_channel.reshape(*grad_weight.shape[-2:], *grad_weight.shape[:-2])
        grad_weight[...] = np.moveaxis(flat, (0, 1), (-2, -1))


def _along(transform: Callable[..., Array], array: Array, size: int, axis: int) -> Array:
    """Transform along one axis, as ``transform(array, size, axis)`` does."""
    if array.size <= MAX_TRANSFORMED:
        return transform(array, size, axis)
    others = list(array.shape)
    others[axis] = 1
    result: Array | None = None
    for part in checked(blocks(others, array.shape[axis], MAX_TRANSFORMED)):
        chosen = list(part)
        chosen[axis] = slice(None)
        computed = transform(array[tuple(chosen)], size, axis)
        if result is None:
            others[axis] = computed.shape[axis]
            result = np.empty(others, dtype=computed.dtype)
        result[tuple(chosen)] = computed
    assert result is not None  # noqa: S101  (there is a part)
    return result
