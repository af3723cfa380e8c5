"""From the parameters of a transposed op to the windows over its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ParameterError, ShapeError
from ..parameters import OutputPadding, Padding, PerAxis, one_per_axis
from .axis import AxisWindows
from .padding import padding_of_axis, same_padding
from .windows import Windows

__all__ = ["resolve_transposed"]


def resolve_transposed(
    sizes: Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis,
    padding: Padding,
    dilation: PerAxis,
    output_padding: OutputPadding,
    output_size: PerAxis | None,
    sets_padding: bool,
    adds_to_same: bool = False,
) -> Windows:
    """Place windows over an output, one for each element of an input: the geometry of a transposed op.

    The output has ``(n - 1) * stride - before - after + e + output_padding`` elements along an axis, with the extent
    ``e = (kernel_size - 1) * dilation + 1``; with ``padding="same"`` it has ``n * stride``.

    Parameters
    ----------
    sizes : sequence of int
        The spatial sizes of the input.
    kernel_size, stride, padding, dilation, output_padding, output_size
        As the parameters of ``ConvTranspose``.
    sets_padding : bool
        Whether a requested size, of output_size or of ``padding="same"``, sets the padding, as in ONNX, instead of
        output_padding: to what ``(n - 1) * stride + e + output_padding`` has more, with the odd element at the start
        unless the padding is ``same``. What it has less is zeros at the end.
    adds_to_same : bool
        Whether output_padding in numbers sets the size that ``padding="same"`` leads to, as in Keras:
        ``(n - 1) * stride + e % 2 + output_padding`` elements. Otherwise it must be 0.

    Returns
    -------
    Windows
        Over the output: ``size`` of an axis is the size of the output, ``output_size`` that of the input.

    Raises
    ------
    ParameterError
        If the number of entries of a per-axis parameter is not that of the spatial axes, or output_padding, given or
        following from output_size, is not less than the stride or the dilation.
    ShapeError
        If the output would be empty.

    Notes
    -----
    Sizes as in PyTorch (``ConvTranspose2d``) and ONNX (``ConvTranspose``); ``to_stride`` is the size rule of
    Keras (``deconv_output_length``) and of ``jax.lax.conv_transpose``, and ``same`` that of TensorFlow, ONNX and JAX.
    """
    rank = len(sizes)
    kernel_sizes = one_per_axis("kernel_size", kernel_size, rank)
    strides = one_per_axis("stride", stride, rank)
    dilations = one_per_axis("dilation", dilation, rank)
    requested = [None] * rank if output_size is None else list(one_per_axis("output_size", output_size, rank))
    added: list[int] | list[None] = [None] * rank
    if output_padding != "to_stride":
        added = list(one_per_axis("output_padding", output_padding, rank))
    axes = []
    for axis in range(rank):
        transposed = _TransposedAxis(axis, sizes[axis], kernel_sizes[axis], strides[axis], dilations[axis])
        size, extra = requested[axis], added[axis]
        is_same = padding in ("same", "same_lower")
        if sets_padding and (is_same or size is not None):
            windows = transposed.with_padding_set(size, extra or 0, at_end=padding == "same")
        elif is_same:
            windows = transposed.same(size, extra, str(padding), adds=adds_to_same)
        else:
            pads = padding_of_axis(padding, axis, rank, sizes[axis], strides[axis], transposed.extent)
            windows = transposed.padded(pads, size, extra)
        axes.append(windows)
    return Windows(tuple(axes))


@dataclass(frozen=True)
class _TransposedAxis:
    """One axis of an input whose elements each have a window over the output."""

    index: int
    size: int
    kernel_size: int
    stride: int
    dilation: int

    @property
    def extent(self) -> int:
        return (self.kernel_size - 1) * self.dilation + 1

    @property
    def span(self) -> int:
        """Elements from the start of the first window to the end of the last."""
        return (self.size - 1) * self.stride + self.extent

    def padded(self, pads: tuple[int, int], requested: int | None, extra: int | None) -> AxisWindows:
        smallest = self.span - sum(pads)
        if requested is not None:
            largest = smallest + max(self.stride, self.dilation) - 1
            if not smallest <= requested <= largest:
                self._refuse("output_size", requested, f"{max(1, smallest)} to {largest}")
            return self._windows(requested, pads)
        if extra is None:
            extra = max(0, self.stride - self.extent)
        self._require_output_padding(extra)
        if smallest + extra < 1:
            raise ShapeError(
                "input",
                f"must lead on spatial axis {self.index} to",
                "at least 1 element of output",
                got=f"{smallest + extra} elements of output",
                hint=f"the windows of {self.size} elements span {self.span}, and the padding {pads} takes away all",
            )
        return self._windows(smallest + extra, pads)

    def same(self, requested: int | None, extra: int | None, padding: str, *, adds: bool) -> AxisWindows:
        smallest, largest = (self.size - 1) * self.stride + 1, self.size * self.stride
        if adds and requested is None and extra is not None:
            without = smallest - 1 + self.extent % 2
            requested = without + extra
            if not smallest <= requested <= largest:
                self._refuse(
                    "output_padding", extra, f"{smallest - without} to {largest - without} with padding {padding}"
                )
        elif extra:
            self._refuse("output_padding", extra, f"0 with padding {padding}, which gives {largest} elements")
        if requested is None:
            requested = largest
        elif not smallest <= requested <= largest:
            self._refuse("output_size", requested, f"{smallest} to {largest} with padding {padding}")
        pads = same_padding(requested, self.size, self.stride, self.extent, at_end=padding == "same")
        return self._windows(requested, pads)

    def with_padding_set(self, requested: int | None, extra: int, *, at_end: bool) -> AxisWindows:
        self._require_output_padding(extra)
        if requested is None:
            requested = self.size * self.stride
        total = max(0, self.span + extra - requested)
        less, more = total // 2, total - total // 2
        return self._windows(requested, (less, more) if at_end else (more, less))

    def _windows(self, output: int, pads: tuple[int, int]) -> AxisWindows:
        return AxisWindows(output, self.kernel_size, self.stride, self.dilation, *pads, output_size=self.size)

    def _require_output_padding(self, extra: int) -> None:
        limit = max(self.stride, self.dilation)
        if extra >= limit:
            self._refuse("output_padding", extra, f"less than {limit}, the larger of stride and dilation")

    def _refuse(self, name: str, value: int, expected: str) -> None:
        raise ParameterError(
            name,
            "must be",
            expected,
            got=str(value),
            reason=f"as on spatial axis {self.index} the windows of {self.size} elements of input span {self.span}",
        )
