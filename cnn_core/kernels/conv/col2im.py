"""The gradient with respect to the input by col2im: patches of gradients are added to where they were taken from.

    grad_input = col2im(grad_output @ weight.T)

Patches are computed for one block of windows at a time and added to the block of the input that these cover. Where taps
are adjacent along the last axis, all of them are added as one run, to every few windows at a time: as many as it takes
for their runs not to overlap. Where every channel is a group of its own, or patches would be added in very many parts,
each tap is computed and added by itself.

An element's terms are added one by one, those of the last windows first; along the last axis, where runs are added, in
turns. A block adds to what the blocks after it, which come first, have left. So sums have the same bits however many
windows a block has, and in a region of an image that begins at a multiple of ``aligned_windows``.

Axes in comments as in ``im2col_gemm``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.blocks import BLOCK_BYTES, block_limit
from ...runtime.threads import run_blocks, thread_count
from ...runtime.workspace import Workspace, view_cache_elements
from ..cost import MOVED_ELEMENT, STEP
from ..passes import checked, contiguous, fill
from ..products import least_rows, multiply, padded_elements
from .depthwise import DEPTHWISE, depthwise_work
from .patches import group_matrices, split_channels
from .problem import ConvProblem, Division, Layout, WindowBlock, cached_per_problem

__all__ = ["COL2IM", "Col2im", "aligned_windows"]

MAX_PREPARED = 64
"""Views are cached for blocks with at most this many additions; more views would take too much memory."""

USUAL_VIEWS = 8
"""Number of additions whose views take as much memory as the views of one layout in other kernels."""

Array = NDArray[Any]
Unit = tuple[slice, slice, slice]
"""Images, groups, and channels of each group."""

MIN_LONG = 128
"""Patches are long if they are added in more parts than this (times features / channels, if those are more)."""

MAX_TURNS_BYTES = BLOCK_BYTES
"""Maximum size of the patches of a window for each turn: each block has a multiple of so many windows."""

TAP_BLOCK_BYTES = BLOCK_BYTES
"""The products, their factors and the array that they are added to should fit the cache together."""

MIN_UNITS = 8
"""Minimum number of units, which are computed in parallel: enough for a machine with eight cores."""

MIN_CHANNELS = 16
"""Minimum number of groups or channels of a unit, where these are divided because there are few images."""


class Col2im:
    """The ``GradInputKernel`` that supports every problem."""

    def grad_input(
        self, problem: ConvProblem, grad_output: Array, weight: Array, bias: Array | None, grad_input: Array
    ) -> None:
        """Write the gradient with respect to the input."""
        by_image: dict[tuple[int, int], list[WindowBlock]] = {}
        for window_block in problem.window_blocks(_division(problem)):
            images = window_block.outputs[0]
            by_image.setdefault((images.start, images.stop), []).append(window_block)
        for blocks in by_image.values():
            if len(blocks) > 1:  # those of the last windows first
                blocks.sort(key=lambda block: [along.start for along in block.outputs], reverse=True)
        targets, units = split_channels(grad_input, problem.groups), _units(problem)  # (N, *S, G, C/G)
        make: type[_Taps] | type[_Patches] = _Taps if _goes_by_tap(problem) else _Patches
        matrices = {_key(unit): make.matrices(problem, weight, unit) for unit in units}
        by_channel = None if bias is None else split_channels(bias, problem.groups)

        def make_worker(workspace: Workspace) -> Callable[[Unit], None]:
            def compute(unit: Unit) -> None:
                images, groups, channels = unit
                target = targets[images, ..., groups, channels]
                fill(target, 0 if by_channel is None else by_channel[groups, channels])
                for block in checked(by_image[images.start, images.stop]):
                    shape = target.shape[-2:]
                    step = workspace.cached(
                        (make, block.layout, groups.start, shape),
                        functools.partial(make, problem, block.layout, groups, shape, workspace, weight.dtype),
                    )
                    region = target[(slice(None), *block.inputs[1:])]
                    step.compute(grad_output[block.outputs], matrices[_key(unit)], region)
                    np.copyto(region, step.inside)

            return compute

        run_blocks(units, make_worker)

    def workspace(self, problem: ConvProblem) -> int:
        """Return the elements of the weight's matrices and of each thread's patches and sums."""
        division = _division(problem)
        per_thread = sum(_thread_elements(problem)) + 2 * math.prod(division.counts) * problem.features
        # NumPy adds by way of a copy where it cannot tell that windows do not overlap
        (*ahead, along), last = division.counts, problem.windows.axes[-1]
        if not _goes_by_tap(problem):
            ahead += _taps_together(problem)
            along = -(-along // aligned_windows(problem)) * (last.kernel_size if _adds_runs(problem) else 1)
        per_thread += math.prod(ahead) * along * problem.channels
        units = _units(problem)
        features, at_once = problem.features // problem.groups, 1 if _goes_by_tap(problem) else problem.taps
        columns = {at_once * (channels.stop - channels.start) for _, _, channels in units}
        per_thread += problem.groups * max((padded_elements(features, each) for each in columns), default=0)
        per_thread += _view_factor(problem) * view_cache_elements(division.steps * len(units))
        # the weight matrices of all units, and a temporary copy of those of one unit
        parts = max(1, len({_key(unit) for unit in units}))
        matrices = problem.weights + -(-problem.weights // parts)
        return matrices + thread_count(len(units)) * per_thread

    def work(self, problem: ConvProblem) -> int:
        """Return the work of the products, of adding patches, and of the interpreter."""
        positions = math.prod(problem.positions)
        products = depthwise_work(problem) if DEPTHWISE.supports(problem) else positions * problem.weights
        steps = _division(problem).steps * (problem.taps if _goes_by_tap(problem) else _addition_count(problem))
        moved = positions * problem.taps * problem.channels + problem.copied_elements(_division(problem))
        return products + MOVED_ELEMENT * moved + STEP * steps


COL2IM = Col2im()


@cached_per_problem
def _division(problem: ConvProblem) -> Division:
    """Return the blocks of windows that are scattered at a time: as small as one image's, if it has several."""
    divided = _tap_division if _goes_by_tap(problem) else _patch_division
    of_one, of_all = divided(problem.one_image), divided(problem)
    positions = math.prod(of_one.counts)
    limit = of_one.bytes_per_position * positions
    if positions == math.prod(of_one.positions):
        limit = max(limit, of_all.limit)
    return dataclasses.replace(of_all, limit=limit)


@cached_per_problem
def _goes_by_tap(problem: ConvProblem) -> bool:
    """Return whether each tap is computed by itself, and not a patch at a time; by the layer alone."""
    many = MIN_LONG * max(problem.channels, problem.features)
    return DEPTHWISE.supports(problem) or _addition_count(problem) * problem.channels > many


def aligned_windows(problem: ConvProblem) -> int:
    """Return a multiple of how many windows along the last axis a region must begin at, for its sums to be the same."""
    return 1 if _goes_by_tap(problem) or not _adds_runs(problem) else _turns(problem)


def _view_factor(problem: ConvProblem) -> int:
    """Return the number of views cached for each layout, as a multiple of that in other kernels."""
    return 1 if _goes_by_tap(problem) or not _is_prepared(problem) else 1 + _addition_count(problem) // USUAL_VIEWS


def _addition_count(problem: ConvProblem) -> int:
    """Return in how many additions the patches of a block are added."""
    sizes = zip(problem.windows.kernel_sizes[:-1], _taps_together(problem), strict=True)
    return math.prod(-(-size // together) for size, together in sizes) * _turns(problem)


def _is_prepared(problem: ConvProblem) -> bool:
    return _addition_count(problem) <= MAX_PREPARED


def _turns(problem: ConvProblem) -> int:
    """Return in how many turns the runs of adjacent windows are added, so that those of one turn do not overlap."""
    last = problem.windows.axes[-1]
    return -(-last.kernel_size // last.stride) if _adds_runs(problem) else last.kernel_size


def _adds_runs(problem: ConvProblem) -> bool:
    last = problem.windows.axes[-1]
    of_turns = -(-last.kernel_size // last.stride) * problem.itemsize * problem.taps * problem.channels
    return problem.groups == 1 and last.dilation == 1 and of_turns <= MAX_TURNS_BYTES


def _taps_together(problem: ConvProblem) -> list[int]:
    """Return how many adjacent taps along each axis before the last are added at a time, so that none overlap."""
    axes = problem.windows.axes[:-1]
    return [min(axis.kernel_size, axis.stride) if axis.dilation == 1 else 1 for axis in axes]


def _tap_division(problem: ConvProblem) -> Division:
    elements = max(problem.channels, problem.features, problem.spanned_per_position)
    return Division(problem.positions, problem.itemsize * elements, TAP_BLOCK_BYTES)


def _patch_division(problem: ConvProblem) -> Division:
    elements = max(problem.taps * problem.channels, problem.features, problem.spanned_per_position)
    bytes_of_patch = problem.itemsize * elements
    # every block reads the whole weight: with a large one, blocks of more windows than fit the cache read less
    limit = block_limit(math.prod(problem.positions) * bytes_of_patch, problem.itemsize * problem.weights // 4)
    rows = least_rows(problem.features // problem.groups, problem.taps * problem.group_channels)
    return problem.in_blocks_of(rows, Division(problem.positions, bytes_of_patch, limit, aligned_windows(problem)))


@cached_per_problem
def _units(problem: ConvProblem) -> list[Unit]:
    """Return what threads compute in parallel: images, or groups or channels of images if there are few images.

    Windows that overlap are added one after the other; units have no elements in common.
    """
    step = _division(problem).counts[0]
    images = [slice(start, min(start + step, problem.batch)) for start in range(0, problem.batch, step)]
    count = -(-MIN_UNITS // max(1, len(images)))
    all_groups, all_channels = slice(0, problem.groups), slice(0, problem.group_channels)
    if problem.groups > 1:
        return [(some, groups, all_channels) for some in images for groups in _cut(problem.groups, count, MIN_CHANNELS)]
    # as for one image, since products with fewer columns may be added in another order
    channels = _cut(problem.group_channels, MIN_UNITS, MIN_CHANNELS)
    return [(some, all_groups, chosen) for some in images for chosen in channels]


def _cut(size: int, count: int, minimum: int) -> list[slice]:
    step = max(minimum, -(-size // count))
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _key(unit: Unit) -> tuple[int, int]:
    """Return what identifies the groups and channels of a unit; slices cannot be keys."""
    return unit[1].start, unit[2].start


@cached_per_problem
def _thread_elements(problem: ConvProblem) -> tuple[int, int, int]:
    """Return the elements that a thread allocates: a padded block, patches or products of a tap, and grad_output."""
    counts = _division(problem).counts
    positions, products = math.prod(counts), problem.channels * (1 if _goes_by_tap(problem) else problem.taps)
    return problem.span(counts) * problem.channels, positions * products, positions * problem.features


class _Scatter(ABC):
    """Gradients that blocks with the same layout add to some groups and channels; views are created in advance.

    Parameters
    ----------
    problem : ConvProblem
    layout : Layout
    groups : slice
    shape : tuple of int
        Groups and channels of each, (g, c).
    workspace : Workspace
    dtype : dtype
    """

    def __init__(
        self,
        problem: ConvProblem,
        layout: Layout,
        groups: slice,
        shape: tuple[int, ...],
        workspace: Workspace,
        dtype: np.dtype[Any],
    ) -> None:
        self._groups, self._all_groups = groups, problem.groups
        arrays = workspace.arrays(*((count,) for count in _thread_elements(problem)), dtype=dtype)
        padded, self._products, self._copied = arrays
        part = layout.windows
        whole = (layout.images, *part.padded_sizes, *shape)
        self._padded = padded[: math.prod(whole)].reshape(whole)
        self.inside: Array = self._padded[(slice(None), *part.inside)]
        """The gradient of the part of the input, (n, *s, g, c)."""
        self._has_padding = self.inside.size < self._padded.size
        self._prepare(problem, layout, shape)

    @abstractmethod
    def _prepare(self, problem: ConvProblem, layout: Layout, shape: tuple[int, ...]) -> None:
        """Make the views that each block needs."""

    @abstractmethod
    def compute(self, gradient: Array, matrices: Array, before: Array) -> None:
        """Write the gradient from a part of grad_output, added to what was there before, to ``inside``."""

    def _begin_with(self, before: Array) -> None:
        if self._has_padding:
            self._padded.fill(0)
        np.copyto(self.inside, before)


class _Patches(_Scatter):
    """Patches, added to the part of the padded grad_input one run of taps after the other."""

    def _prepare(self, problem: ConvProblem, layout: Layout, shape: tuple[int, ...]) -> None:
        count, channels = shape
        self._problem, self._axes = problem, layout.windows.axes
        matrices = (count, math.prod(layout.outputs), problem.taps * channels)
        self._patches = self._products[: math.prod(matrices)].reshape(matrices)
        if _adds_runs(problem):  # (n, *o, *K without KW, KW*c), as NumPy's loops begin faster with fewer axes
            self._by_window = self._patches.reshape(*layout.outputs, *problem.weight_shape[:-3], -1)
        else:
            by_group = self._patches.reshape(count, *layout.outputs, *problem.weight_shape[:-2], channels)
            self._by_window = np.moveaxis(by_group, 0, -2)  # (n, *o, *K, g, c)
        self._prepared = list(self._additions()) if _is_prepared(problem) else None

    def _additions(self) -> Iterator[tuple[Array, Array]]:
        """Yield views of the padded part, and what is added to each."""
        problem, padded, (*axes, last) = self._problem, self._padded, self._axes
        image, *steps, step = padded.strides[: 2 + len(axes)]
        adds_runs, turns = _adds_runs(problem), _turns(problem)
        together = _taps_together(problem)
        parts = (-(-axis.kernel_size // count) for axis, count in zip(axes, together, strict=True))
        ahead = (slice(None),) * (1 + len(axes))
        ahead_strides = (image, *(axis.stride * row for axis, row in zip(axes, steps, strict=True)))
        between_taps = [axis.dilation * row for axis, row in zip(axes, steps, strict=True)]
        for part in _offsets(tuple(parts)):
            first = [index * count for index, count in zip(part, together, strict=True)]
            taps = (slice(tap, tap + count) for tap, count in zip(first, together, strict=True))
            of_taps = self._by_window[(*ahead, slice(None), *taps)]
            start = sum(tap * between for tap, between in zip(first, between_taps, strict=True))
            for turn in range(turns):
                # either the adjacent taps of every few windows, or one tap of all windows
                apart: tuple[int, ...]
                if adds_runs:
                    added = of_taps[(*ahead, slice(turn, None, turns))]  # (n, *o, *k, KW*c)
                    offset, apart = turn * last.stride, (turns * last.stride * step, *between_taps, padded.itemsize)
                else:
                    added = of_taps[..., turn, :, :]  # (n, *o, *k, g, c)
                    offset, apart = turn * last.dilation, (last.stride * step, *between_taps, *padded.strides[-2:])
                if added.size:
                    strides = (*ahead_strides, *apart)
                    yield np.ndarray(added.shape, padded.dtype, padded.data, start + offset * step, strides), added

    @staticmethod
    def matrices(problem: ConvProblem, weight: Array, unit: Unit) -> Array:
        """Return a weight's part as one matrix for each group, (g, F/G, K*c)."""
        split = _split(problem, weight, unit)
        # BLAS takes matrices whose rows are contiguous
        return contiguous(split.reshape(-1, *split.shape[-2:]).transpose(1, 2, 0))

    def compute(self, gradient: Array, matrices: Array, before: Array) -> None:
        of_groups = group_matrices(gradient, self._all_groups, matrices.dtype, self._copied)[self._groups]
        multiply(of_groups, matrices, out=self._patches)
        self._begin_with(before)
        for region, added in checked(self._prepared or self._additions()):
            np.add(region, added, region)


class _Taps(_Scatter):
    """Products of one tap after the other, added to the part of the padded grad_input."""

    def _prepare(self, problem: ConvProblem, layout: Layout, shape: tuple[int, ...]) -> None:  # noqa: ARG002
        self._kernel, self._axes = problem.weight_shape[:-2], layout.windows.axes

    @staticmethod
    def matrices(problem: ConvProblem, weight: Array, unit: Unit) -> Array:
        """Return a weight's part as matrices of each tap and group, (*K, g, F/G, c)."""
        return contiguous(np.moveaxis(_split(problem, weight, unit), -3, -1))

    def compute(self, gradient: Array, matrices: Array, before: Array) -> None:
        self._begin_with(before)
        features, channels = matrices.shape[-2:]
        of_groups = split_channels(gradient, self._all_groups)[..., self._groups, :]  # (n, *o, g, F/G)
        *outputs, groups = of_groups.shape[:-1]
        products = self._products[: math.prod(of_groups.shape[:-1]) * channels]
        by_output = products.reshape(*outputs, groups, channels)
        multiplied: Callable[[Array], object]
        if features == 1:
            multiplied = lambda of_tap: np.multiply(of_groups, of_tap[:, 0], out=by_output)  # noqa: E731
        elif channels == 1:
            sums, of_groups = by_output[..., 0], contiguous(of_groups)  # einsum adds by the order of the axes in memory
            multiplied = lambda of_tap: np.einsum("...gf,gf->...g", of_groups, of_tap[..., 0], out=sums)  # noqa: E731
        else:
            rows = group_matrices(gradient, self._all_groups, products.dtype, self._copied)[self._groups]
            multiplied = functools.partial(multiply, rows, out=products.reshape(groups, -1, channels))
            by_output = np.moveaxis(products.reshape(groups, *outputs, channels), 0, -2)
        for taps in checked(_offsets(self._kernel)):
            covered = (
                slice(tap * axis.dilation, tap * axis.dilation + (axis.output_size - 1) * axis.stride + 1, axis.stride)
                for tap, axis in zip(taps, self._axes, strict=True)
            )
            region = self._padded[(slice(None), *covered)]
            multiplied(matrices[taps])
            np.add(region, by_output, out=region)


def _split(problem: ConvProblem, weight: Array, unit: Unit) -> Array:
    """Return the part of a weight that a unit needs, (*K, c, g, F/G)."""
    _, groups, channels = unit
    return split_channels(weight, problem.groups)[..., channels, groups, :]


def _offsets(kernel: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all taps of a kernel; without a list of them, of which there may be very many."""
    if not kernel:
        yield ()
        return
    for first in range(kernel[0]):
        for rest in _offsets(kernel[1:]):
            yield (first, *rest)
