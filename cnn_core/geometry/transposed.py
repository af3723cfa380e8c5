"""From the parameters of a transposed op to the windows over its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnn_core.errors import ParameterError, ShapeError
from cnn_core.geometry.axis import AxisWindows
from cnn_core.geometry.padding import padding_of_axis, same_padding
from cnn_core.geometry.windows import Windows
from cnn_core.parameters import OutputPadding, Padding, PerAxis, one_per_axis

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
    """Lay windows over an output, one for each element of an input: the geometry of a transposed op.

    The output has ``(n - 1) * stride - before - after + e + output_padding`` elements along an axis, with the extent
    ``e = (kernel_size - 1) * dilation + 1``; with ``padding="same"`` it has ``n * stride``.

    Parameters
    ----------
    sizes : sequence of int
        The spatial sizes of the input.
    kernel_size, stride, dilation : int or tuple of int
    padding : int, tuple or str
        As the parameter ``padding`` of the ops.
    output_padding : int, tuple of int or "to_stride"
        Elements added at the end. "to_stride": as many as the stride exceeds the extent.
    output_size : int, tuple of int or None
        The wanted sizes, instead of ``output_padding``.
    sets_padding : bool
        Whether a wanted size, given or that of ``padding="same"``, sets the padding, as ONNX has it, instead of
        ``output_padding``: all that ``(n - 1) * stride + e + output_padding`` has more, with the odd element at the
        start unless the padding is ``same``. What it has less is zeros at the end.
    adds_to_same : bool
        Whether ``output_padding`` in numbers sets the size that ``padding="same"`` leads to, as Keras has it:
        ``(n - 1) * stride + e % 2 + output_padding`` elements. Else it is refused unless it is 0.

    Returns
    -------
    Windows
        Over the output: ``size`` of an axis is the size of the output, ``output_size`` that of the input.

    Raises
    ------
    ParameterError
        If a per-axis parameter has another number of entries than the input has spatial axes, or ``output_padding``,
        given or following from ``output_size``, is not less than the stride or the dilation.
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
    wanted = [None] * rank if output_size is None else list(one_per_axis("output_size", output_size, rank))
    added: list[int] | list[None] = [None] * rank
    if output_padding != "to_stride":
        added = list(one_per_axis("output_padding", output_padding, rank))
    axes = []
    for axis in range(rank):
        transposed = _TransposedAxis(axis, sizes[axis], kernel_sizes[axis], strides[axis], dilations[axis])
        size, extra = wanted[axis], added[axis]
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

    number: int
    size: int
    kernel_size: int
    stride: int
    dilation: int

    @property
    def extent(self) -> int:
        return (self.kernel_size - 1) * self.dilation + 1

    @property
    def span(self) -> int:
        """What all windows span together."""
        return (self.size - 1) * self.stride + self.extent

    def padded(self, pads: tuple[int, int], wanted: int | None, extra: int | None) -> AxisWindows:
        least = self.span - sum(pads)
        if wanted is not None:
            most = least + max(self.stride, self.dilation) - 1
            if not least <= wanted <= most:
                self._refuse("output_size", wanted, f"{max(1, least)} to {most}")
            return self._windows(wanted, pads)
        if extra is None:
            extra = max(0, self.stride - self.extent)
        self._require_output_padding(extra)
        if least + extra < 1:
            raise ShapeError(
                "input",
                f"spatial axis {self.number} must lead to",
                expected="at least 1 element of output",
                got=f"{least + extra} elements of output",
                hint=f"the windows of {self.size} elements span {self.span}, and the padding {pads} takes away all",
            )
        return self._windows(least + extra, pads)

    def same(self, wanted: int | None, extra: int | None, padding: str, *, adds: bool) -> AxisWindows:
        least, most = (self.size - 1) * self.stride + 1, self.size * self.stride
        if adds and wanted is None and extra is not None:
            without = least - 1 + self.extent % 2
            wanted = without + extra
            if not least <= wanted <= most:
                self._refuse("output_padding", extra, f"{least - without} to {most - without} with padding {padding}")
        elif extra:
            self._refuse("output_padding", extra, f"0 with padding {padding}, which gives {most} elements")
        if wanted is None:
            wanted = most
        elif not least <= wanted <= most:
            self._refuse("output_size", wanted, f"{least} to {most} with padding {padding}")
        pads = same_padding(wanted, self.size, self.stride, self.extent, at_end=padding == "same")
        return self._windows(wanted, pads)

    def with_padding_set(self, wanted: int | None, extra: int, *, at_end: bool) -> AxisWindows:
        self._require_output_padding(extra)
        if wanted is None:
            wanted = self.size * self.stride
        total = max(0, self.span + extra - wanted)
        less, more = total // 2, total - total // 2
        return self._windows(wanted, (less, more) if at_end else (more, less))

    def _windows(self, output: int, pads: tuple[int, int]) -> AxisWindows:
        return AxisWindows(output, self.kernel_size, self.stride, self.dilation, *pads, output_size=self.size)

    def _require_output_padding(self, extra: int) -> None:
        limit = max(self.stride, self.dilation)
        if extra >= limit:
            self._refuse("output_padding", extra, f"less than {limit}, the larger of stride and dilation")

    def _refuse(self, name: str, value: int, expected: str) -> None:
        raise ParameterError(
            name,
            f"{name} must be",
            expected=expected,
            got=str(value),
            reason=f"as on spatial axis {self.number} the windows of {self.size} elements of input span {self.span}",
        )
