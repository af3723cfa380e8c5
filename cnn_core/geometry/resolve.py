"""From the parameters of an op to the windows over its input."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ParameterError, ShapeError
from ..parameters import Padding, PerAxis, one_per_axis
from .adaptive import AdaptiveAxis
from .axis import AxisWindows
from .padding import padding_of_axis
from .windows import AnyWindows, Windows

__all__ = ["resolve_adaptive", "resolve_windows"]


def resolve_windows(
    sizes: Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis,
    padding: Padding,
    dilation: PerAxis,
    ceil_mode: bool = False,
    subject: str = "input",
) -> Windows:
    """Place windows over an input, one axis at a time.

    The number of windows along an axis of size n is ``floor((n + before + after - e) / stride) + 1`` with the extent
    ``e = (kernel_size - 1) * dilation + 1``; with ceil_mode it is rounded up, and a last window that would start beyond
    the input and its leading padding is dropped.

    Parameters
    ----------
    sizes : sequence of int
        The spatial sizes of the input.
    kernel_size, stride, padding, dilation, ceil_mode
        As the parameters of the ops.
    subject : str
        The operand, or the parameter, that gives the sizes; an error names it.

    Raises
    ------
    ParameterError
        If the number of entries of a per-axis parameter is not that of the spatial axes.
    ShapeError
        If a window is larger than the padded input.

    Notes
    -----
    Sizes as in PyTorch (``aten/src/ATen/native/Pool.h``) and the ONNX operators. ``same`` as in TensorFlow: the output
    size is ``ceil(n / stride)``, and an odd pad has its extra element at the end (``same_lower``: at the start).

    Examples
    --------
    >>> resolve_windows((5, 5), 3, stride=2, padding="same", dilation=1).padding
    ((1, 1), (1, 1))
    """
    rank = len(sizes)
    strides = one_per_axis("stride", stride, rank)
    kernel_sizes = one_per_axis("kernel_size", kernel_size, rank)
    dilations = one_per_axis("dilation", dilation, rank)
    axes = []
    for axis in range(rank):
        size, step = sizes[axis], strides[axis]
        extent = (kernel_sizes[axis] - 1) * dilations[axis] + 1
        before, after = padding_of_axis(padding, axis, rank, size, step, extent)
        output_size = _output_size(axis, size, before, after, extent, step, ceil_mode=ceil_mode, subject=subject)
        axes.append(AxisWindows(size, kernel_sizes[axis], step, dilations[axis], before, after, output_size))
    return Windows(tuple(axes))


def _output_size(
    axis: int, size: int, before: int, after: int, extent: int, stride: int, *, ceil_mode: bool, subject: str
) -> int:
    room = size + before + after - extent
    if not ceil_mode:
        output_size = room // stride + 1
    else:
        output_size = -(-room // stride) + 1
        if (output_size - 1) * stride >= size + before:
            output_size -= 1
    if output_size < 1:
        needed = max(1, extent - stride + 1) if ceil_mode else extent
        raise (ShapeError if subject == "input" else ParameterError)(
            subject,
            f"must have on spatial axis {axis}",
            f"at least {needed} elements with padding",
            got=f"{size + before + after} elements with padding",
            reason=f"as a window spans {extent}",
            hint=f"{size} and the padding ({before}, {after})" if before or after else "",
        )
    return output_size


def resolve_adaptive(sizes: Sequence[int], output_size: PerAxis) -> AnyWindows:
    """Place the windows of an adaptive pooling over an input, by PyTorch's rule (``AdaptivePooling.h``)."""
    outputs = one_per_axis("output_size", output_size, len(sizes))
    return AnyWindows(tuple(AdaptiveAxis(size, output) for size, output in zip(sizes, outputs, strict=True)))
