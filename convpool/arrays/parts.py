"""Which part of the operands a part of a result needs, and how it is computed: one rule for all engines.

A part is a box, from where to where it goes along each axis of the array. Every layer can be divided along the batch;
convolutions and poolings of a kernel_size can be divided along the spatial axes; poolings along the channels too. What
is computed for a box is what one call over the whole array computes there: windows at the borders of the array have its
padding, windows at the borders of parts have the elements of their neighbours.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_core import AvgPool, Conv, ConvTranspose, MaxPool, MaxUnpool
from cnn_core.geometry import AxisWindows
from cnn_core.kernels.conv.alignment import Alignment, forward_alignment, grad_input_alignment
from cnn_core.kernels.conv.problem import ConvProblem
from cnn_core.operands import accumulation_dtype, as_operand, spatial_axes, split_layer_shape
from cnn_core.ops.base import Op, ResolvedOp
from cnn_core.ops.conv_base import Convolution, ResolvedConvolution
from cnn_core.ops.indices import ElementIndices
from cnn_core.ops.pool_base import Pool
from cnn_core.ops.unfold import PatchOp

from .spans import Range, Span, chunks_of_elements, chunks_of_windows, over_elements, over_windows
from .tasks import BackwardTask, BiasTask, ForwardTask, Indices, Like, Placement

__all__ = ["Box", "Layer", "axis_names"]

Box = tuple[Range, ...]
Chunks = tuple[tuple[int, ...], ...]
Shape = tuple[int, ...]

LINEAR = (Convolution, AvgPool, MaxUnpool, PatchOp)
"""Ops whose gradient with respect to the input does not depend on the input's values."""


class Layer:
    """An op over operands of given shapes and types.

    Parameters
    ----------
    op : Op
    shapes : mapping of str to tuple of int
        Of the operands of forward that are given, by name.
    dtypes : mapping of str to dtype
        The same, and that of grad_output for gradients, which it is converted to.

    Raises
    ------
    ConvpoolError
        If they do not fit the op, as the op itself raises it.
    """

    def __init__(self, op: Op, shapes: Mapping[str, Shape], dtypes: Mapping[str, np.dtype[Any]]) -> None:
        self.op, self.shapes, self.dtypes = op, shapes, dtypes
        self._ops: dict[Any, Op] = {}
        for operand in op.operands:
            if operand.name in dtypes:
                accepted = (dtypes[operand.type_of].name,) if operand.type_of in dtypes else operand.dtypes
                as_operand(operand.name, np.empty(0, dtypes[operand.name]), accepted)
        if "grad_output" in dtypes:
            as_operand("grad_output", np.empty(0, dtypes["grad_output"]))
        self.resolved: ResolvedOp[Any] = op.resolve(*(shapes.get(operand.name) for operand in op.operands))
        self.is_transposed = isinstance(op, ConvTranspose)
        axes = self.resolved.windows.axes
        is_spatial = isinstance(op, (Convolution, Pool)) and all(isinstance(axis, AxisWindows) for axis in axes)
        self.windows: tuple[AxisWindows, ...] = axes if is_spatial else ()
        """Along the spatial axes; empty if the layer cannot be divided there."""

    @property
    def divisible_axes(self) -> tuple[int, ...]:
        """The axes of the input, and of the output, along which the layer can be divided."""
        spatial = spatial_axes(len(self.windows), self.op.data_format) if self.windows else ()
        channels = (self._channel_axis,) if self.windows and isinstance(self.op, Pool) else ()
        return (0, *spatial, *channels)

    @property
    def _ceil_mode(self) -> bool:
        return isinstance(self.op, Pool) and self.op.ceil_mode

    @property
    def _channel_axis(self) -> int:
        return 1 if self.op.data_format == "channels_first" else 1 + len(self.windows)

    def output_chunks(self, chunks: Chunks) -> Chunks:
        """Return the chunks of the output that follow those of the input: by the middle of each window."""
        output = self.resolved.output_shape
        if not self.windows:
            return (chunks[0], *((size,) for size in output[1:]))
        follow = chunks_of_elements if self.is_transposed else chunks_of_windows
        along = iter([follow(axis, chunk) for axis, chunk in zip(self.windows, self._spatial(chunks), strict=True)])
        channels = chunks[self._channel_axis] if isinstance(self.op, Pool) else (output[self._channel_axis],)
        return tuple(
            chunks[0] if axis == 0 else channels if axis == self._channel_axis else next(along)
            for axis in range(len(output))
        )

    def forward(self, box: Box) -> tuple[ForwardTask, Box | None]:
        """Return what computes a box of the output, and the box of the input that it needs; None for none.

        The task takes that box and the other operands; those of an op that has indices are of the box's images.
        """
        indices = self._indices(box)
        if not self.windows:
            return ForwardTask(self._part_op([]), indices=indices), self._whole(box, self.shapes["input"])
        if self.is_transposed:
            spans, placement = self._placed(box)
            if spans is None:
                return ForwardTask(self.op, placement=placement), None
            task = ForwardTask(self._part_op(spans), placement=placement)
            return task, self._box(box, [span.windows for span in spans], self.shapes["input"])
        aligned, of_aligned = self._aligned(box)
        spans = self._over_windows(aligned)
        names = [operand.name for operand in self.op.operands]
        zero_point = names.index("input_zero_point") if "input_zero_point" in names else None
        if indices is not None:
            indices = dataclasses.replace(indices, plane=tuple(span.elements for span in spans))
        task = ForwardTask(self._part_op(spans), self._zeros(spans), zero_point, of_aligned, indices)
        return task, self._box(box, [span.elements for span in spans], self.shapes["input"])

    def grad_input(self, box: Box) -> tuple[BackwardTask, Box | None, Box]:
        """Return what computes a box of grad_input, the box of grad_output that it needs, or None, and of the input.

        Where the task's ``operands`` say that an operand's values do not matter, it is no argument.
        """
        output, shape = self.resolved.output_shape, self.shapes["input"]
        if not self.windows:
            part = self._whole(box, shape)
            operands = self._operands("input", part)
            task = BackwardTask(self._part_op([]), "input", operands, indices=self._indices(box))
            return task, self._whole(box, output), part
        if self.is_transposed:
            aligned, of_aligned = self._aligned(box)
            spans = self._over_windows(aligned)
            task = BackwardTask(
                self._part_op(spans),
                "input",
                self._operands("input", aligned),
                zeros=(self._zeros(spans), ()),
                placement=of_aligned,
            )
            return task, self._box(box, [span.elements for span in spans], output), aligned
        placed, placement = self._placed(box)
        if placed is None:
            return BackwardTask(self.op, "input", (), placement=placement), None, box
        part = self._box(box, [span.elements for span in placed], shape)
        task = BackwardTask(
            self._part_op(placed),
            "input",
            self._operands("input", part),
            dtype=self.dtypes["grad_output"],
            placement=placement,
        )
        return task, self._box(box, [span.windows for span in placed], output), part

    def grad_weight_summand(self, box: Box) -> tuple[BackwardTask, Box, Box]:
        """Return what computes a box's summand of grad_weight, with the boxes of grad_output and of the input it needs.

        Parameters
        ----------
        box : Box
            Of the windows: of grad_output, or of the input for a transposed layer. The summands of boxes that make up
            all of it make up the gradient. They are of the type that sums are computed in.
        """
        spans = self._over_windows(box)
        elements, zeros = [span.elements for span in spans], self._zeros(spans)
        none: tuple[Range, ...] = ()
        if self.is_transposed:
            boxes, all_zeros = (self._box(box, elements, self.resolved.output_shape), box), (zeros, none)
        else:
            boxes, all_zeros = (box, self._box(box, elements, self.shapes["input"])), (none, zeros)
        task = BackwardTask(
            self._part_op(spans),
            "weight",
            self._operands("weight", boxes[1]),
            zeros=all_zeros,
            dtype=accumulation_dtype(self.gradient_dtype),
        )
        return task, *boxes

    def grad_bias_summand(self) -> BiasTask:
        """Return what computes the summand of grad_bias of any box of grad_output, which is all that it needs."""
        return BiasTask(self.op.data_format, self.resolved.gradient_shapes["bias"])

    @functools.cached_property
    def gradient_dtype(self) -> np.dtype[Any]:
        """The type of the gradients; ``dtypes`` must have that of grad_output."""
        return self.op.gradient_dtype(self.dtypes)

    def _operands(self, wrt: str, part: Box) -> tuple[Like | None, ...]:
        """Return which operands of forward matter for a gradient: None; and of the others what they are like."""
        input_matters = wrt == "weight" or not isinstance(self.op, LINEAR)
        likes: list[Like | None] = []
        for operand in self.op.operands:
            name = operand.name
            if name == "input":
                shape = tuple(stop - start for start, stop in part)
                likes.append(None if input_matters else Like(shape, self.dtypes[name]))
            elif name == "indices" or (name == "weight" and wrt == "input"):
                likes.append(None)
            elif name in self.shapes:
                likes.append(Like(self.shapes[name], self.dtypes[name]))
        return tuple(likes)

    def _part_op(self, spans: Sequence[Span]) -> Op:
        """Return the op with the padding of a part, and with indices within its plane."""
        padding, overhangs = tuple(span.padding for span in spans), any(span.overhangs for span in spans)
        uncovered = tuple(span.uncovered for span in spans)
        key = padding, overhangs, uncovered
        if key not in self._ops:  # most parts have the padding of many others
            self._ops[key] = self._changed_op(padding, uncovered, overhangs=overhangs)
        return self._ops[key]

    def _changed_op(self, padding: tuple[Range, ...], uncovered: tuple[int, ...], *, overhangs: bool) -> Op:
        changes: dict[str, Any] = {}
        if isinstance(self.op, MaxPool) and self.op.return_indices:
            changes |= {"index_scheme": "plane", "storage_order": "row_major"}
        if padding:
            changes["padding"] = padding
            if isinstance(self.op, ConvTranspose):
                changes |= {"output_padding": uncovered, "output_size": None}
            elif isinstance(self.op, Conv):
                changes["padding_mode"] = "zeros"
            elif isinstance(self.op, Pool):
                changes["ceil_mode"] = overhangs
        return dataclasses.replace(self.op, **changes) if changes else self.op

    def _over_windows(self, box: Box) -> list[Span]:
        along = self._spatial(box)
        return [
            over_windows(axis, *part, ceil_mode=self._ceil_mode) for axis, part in zip(self.windows, along, strict=True)
        ]

    def _aligned(self, box: Box) -> tuple[Box, Placement | None]:
        """Return the windows that are computed for a box of them, and where the box is among them.

        They are more than those of the box where their bits depend on their place among neighbours.
        """
        if self._problem is None:
            return box, None
        axis = spatial_axes(len(self.windows), self.op.data_format)[-1]
        start, stop = box[axis]
        first, last = forward_alignment(self._problem).around(start, stop, self.windows[-1].output_size)
        if start == stop or (first, last) == (start, stop):
            return box, None
        shape = tuple(stop - start for start, stop in box)
        source = tuple(slice(start - first, stop - first) if each == axis else slice(None) for each in range(len(box)))
        placement = Placement(shape, self._result_dtype, source, (slice(None),) * len(box))
        return (*box[:axis], (first, last), *box[axis + 1 :]), placement

    def _placed(self, box: Box) -> tuple[list[Span] | None, Placement]:
        """Return the windows over a box of elements, or None if there are none, and where what they cover is in it."""
        shape, dtype = tuple(stop - start for start, stop in box), self._result_dtype
        along = self._spatial(box)
        alignments: list[Alignment | None] = [None] * len(along)
        if self._problem is not None:
            alignments[-1] = grad_input_alignment(self._problem)
        spans = [
            over_elements(axis, *part, ceil_mode=self._ceil_mode, alignment=alignment)
            for axis, part, alignment in zip(self.windows, along, alignments, strict=True)
        ]
        found = [span for span in spans if span is not None]
        if len(found) < len(spans):
            return None, Placement(shape, dtype)
        source, target = [], []
        for span, (start, stop) in zip(found, along, strict=True):
            first, last = max(start, span.elements[0]), min(stop, span.elements[1])
            source.append(slice(first - span.elements[0], last - span.elements[0]))
            target.append(slice(first - start, last - start))
        whole = slice(None)
        return found, Placement(
            shape, dtype, self._per_axis(whole, source, whole), self._per_axis(whole, target, whole)
        )

    @functools.cached_property
    def _problem(self) -> ConvProblem | None:
        """The convolution that is computed, or None for other ops: its kernels determine the order of sums."""
        if not isinstance(self.resolved, ResolvedConvolution):
            return None
        return self.resolved.problem(accumulation_dtype(self._result_dtype).itemsize)

    @functools.cached_property
    def _result_dtype(self) -> np.dtype[Any]:
        return self.gradient_dtype if "grad_output" in self.dtypes else self.op.result_dtypes(self.dtypes)["output"]

    def _indices(self, box: Box) -> Indices | None:
        """Return how a part's indices, if there are any, become those of the whole."""
        op = self.op
        if not (isinstance(op, MaxUnpool) or (isinstance(op, MaxPool) and op.return_indices)):
            return None
        batch, _, channels = split_layer_shape("input", self.shapes["input"], op.data_format)
        sizes = self.resolved.windows.sizes
        counted = ElementIndices(batch, sizes, channels, op.data_format, op.index_scheme, op.storage_order)
        channel = box[self._channel_axis][0] if self.windows else 0
        return Indices(counted, box[0][0], channel, tuple((0, size) for size in sizes))

    def _zeros(self, spans: Sequence[Span]) -> tuple[Range, ...]:
        if not any(any(span.zeros) for span in spans):
            return ()
        return self._per_axis((0, 0), [span.zeros for span in spans], (0, 0))

    def _spatial(self, per_axis: Sequence[Any]) -> list[Any]:
        return [per_axis[axis] for axis in spatial_axes(len(self.windows), self.op.data_format)]

    def _per_axis(self, of_batch: Any, along: Sequence[Any], of_channels: Any) -> tuple[Any, ...]:
        """Return one value for each axis, in the layout's order."""
        if self.op.data_format == "channels_first":
            return (of_batch, of_channels, *along)
        return (of_batch, *along, of_channels)

    def _box(self, box: Box, along: Sequence[Range], shape: Shape) -> Box:
        """Return the box of another array of the layer: the same images, and channels if each is for itself."""
        axis = self._channel_axis
        channels = box[axis] if isinstance(self.op, Pool) else (0, shape[axis])
        part: Box = self._per_axis(box[0], along, channels)
        return part

    @staticmethod
    def _whole(box: Box, shape: Shape) -> Box:
        return (box[0], *((0, size) for size in shape[1:]))


def axis_names(op: Op, operand: str, ndim: int) -> tuple[str, ...]:
    """Return what each axis of an operand with so many axes is, or of the output for ``grad_output``.

    Examples
    --------
    >>> axis_names(Conv(), "input", 4)
    ('N', 'spatial axis 0', 'spatial axis 1', 'C')
    """
    layouts = {each.name: each.layout for each in op.operands}
    axes = layouts.get(operand, op.output_layout).axes(op.data_format)
    count = ndim - (len(axes) - 1)
    expanded = ([f"spatial axis {i}" for i in range(count)] if axis == "*spatial" else [axis] for axis in axes)
    return tuple(itertools.chain.from_iterable(expanded))
