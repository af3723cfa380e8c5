"""The operands of a call over chunked arrays: which value is which operand, and which axes may be chunked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnn_core import ConvpoolError, MaxUnpool
from cnn_core.errors import number_of
from cnn_core.ops.base import Op
from cnn_core.ops.conv_base import Convolution
from cnn_core.ops.pool_base import Pool

from .parts import Layer, axis_names

__all__ = ["ChunkError", "bound", "require_divisible", "require_known"]


class ChunkError(ConvpoolError):
    """An array is chunked along an axis that the op needs as a whole."""


def bound(op: Op, operands: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operands of a call of forward by name, None for those that are left out.

    Raises
    ------
    TypeError
        If there are too many, or one is missing, unknown or given twice.
    """
    names = [operand.name for operand in op.operands]
    if len(operands) > len(names):
        raise TypeError(f"{type(op).__name__} takes the operands {', '.join(names)}; got {len(operands)}")
    values = dict(zip(names, operands, strict=False))
    for name, value in named.items():
        if name not in names or name in values:
            problem = "is given twice" if name in values else f"is no operand of {type(op).__name__}"
            raise TypeError(f"{name} {problem}: its operands are {', '.join(names)}")
        values[name] = value
    for operand in op.operands:
        if values.get(operand.name) is None and not operand.optional:
            raise TypeError(f"{type(op).__name__} needs the operand {operand.name}")
    return {name: values.get(name) for name in names}


def require_known(name: str, chunks: Sequence[Sequence[float]]) -> None:
    """Raise ChunkError unless the sizes of an array's chunks, NaN if they are unknown, are known."""
    for axis, sizes in enumerate(chunks):
        if any(math.isnan(size) for size in sizes):
            raise ChunkError(
                name,
                "must have",
                "chunks of known sizes",
                got=f"unknown ones along axis {axis}",
                hint=f"compute them: {name}.compute_chunk_sizes()",
            )


def require_divisible(layer: Layer, name: str, chunks: Sequence[Sequence[int]]) -> None:
    """Raise ChunkError unless an operand, or grad_output, is one chunk along each axis that is needed as a whole."""
    names = axis_names(layer.op, name, len(chunks))
    for axis, sizes in enumerate(chunks):
        if len(sizes) > 1 and axis not in layer.divisible_axes:
            raise ChunkError(
                name,
                "must be",
                f"a single chunk along axis {axis} ({names[axis]})",
                reason=_reason(layer.op),
                got=number_of(len(sizes), "chunk", "chunks"),
                hint=f"rechunk it: {name} = {name}.rechunk({{{axis}: -1}})",
            )


def _reason(op: Op) -> str:
    if isinstance(op, Convolution):
        return "as each output channel is a sum over the channels of its group"
    if isinstance(op, Pool):
        return "as the windows of output_size are placed by all elements"
    if isinstance(op, MaxUnpool):
        return "as an index may name any element of its image"
    return f"as {type(op).__name__} has one matrix for each image"
