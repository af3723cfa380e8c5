"""Mistakes that a parameter with another value makes: that value is also what makes convpool agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cnn_core import AvgPool, Conv, ConvTranspose, LpPool, MaxPool
from cnn_core.geometry import AxisWindows, Windows
from cnn_core.ops.base import Op
from cnn_core.ops.indices import Indexed
from cnn_core.ops.pool_base import Pool

from ..layer import Layer, Scenario
from .hypothesis import CONVOLUTION, Hypothesis, Variant, rule

__all__ = ["PARAMETERS"]

Changes = dict[str, Any]
Alternatives = Callable[[Layer, Windows], Iterable[tuple[Changes, str]]]

WINDOWS, AVERAGE, MAXIMUM = rule("pooling-windows"), rule("average-pooling"), rule("max-pooling")
MODES, TRANSPOSED, NORM = rule("padding-modes"), rule("transposed-convolution"), rule("lp-pooling")


def parameters_of(alternatives: Alternatives) -> Callable[[Layer], Iterator[Variant]]:
    """Return the variants that are other values of parameters, for layers whose windows are at equal distances."""

    def variants(layer: Layer) -> Iterator[Variant]:
        windows = layer.regular_windows
        if windows is None:
            return
        for changes, text in alternatives(layer, windows):
            yield Variant(Scenario(changes), text, _written(changes, layer.op))

    return variants


def _written(changes: Changes, op: Op) -> Changes:
    """Return parameters as JSON has them; null only for one that is given and has to be left out."""
    names = [name for name, value in changes.items() if value is not None or getattr(op, name, None) is not None]
    return {name: _listed(changes[name]) for name in names}


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _padding(layer: Layer, windows: Windows, pads: Iterable[tuple[int, int]]) -> Iterator[tuple[Changes, str]]:
    """Yield the change to a padding, if it is another one."""
    given = tuple(pads)
    if given != windows.padding and all(side >= 0 for pair in given for side in pair):
        changes: Changes = {"padding": given}
        if isinstance(layer.op, ConvTranspose):
            # with numbers for padding, the size is that of output_padding
            extra = tuple(axis.output_padding for axis in windows.axes)
            changes |= {"output_padding": extra, "output_size": None, "framework": None}
        yield changes, str(_listed(given))


def _no_padding(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    yield from _padding(layer, windows, [(0, 0)] * layer.rank)


def _other_side(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    yield from _padding(layer, windows, [(after, before) for before, after in windows.padding])


def _one_side(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    yield from _padding(layer, windows, [(before + after, 0) for before, after in windows.padding])
    yield from _padding(layer, windows, [(0, before + after) for before, after in windows.padding])
    yield from _padding(layer, windows, [(before, 0) for before, _ in windows.padding])
    yield from _padding(layer, windows, [(0, after) for _, after in windows.padding])


def _as_same(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    transposed = isinstance(layer.op, ConvTranspose)
    for word in ("same", "same_lower"):
        if layer.op.__dict__.get("padding") != word and not transposed:
            yield {"padding": word} | ({"ceil_mode": False} if isinstance(layer.op, Pool) else {}), word
    if layer.op.__dict__.get("padding") not in ("same", "same_lower"):
        return
    # the same on both sides, as PyTorch has it; the padding for a stride of 1, also where there is another
    less = [(axis.extent - 1) // 2 for axis in windows.axes]
    more = [axis.extent - 1 - half for axis, half in zip(windows.axes, less, strict=True)]
    for before, after in ((less, less), (more, more), (less, more), (more, less)):
        yield from _padding(layer, windows, zip(before, after, strict=True))


def _half_window(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    if layer.op.__dict__.get("padding") in ("same", "same_lower"):
        return
    for less in (0, 1):
        yield from _padding(layer, windows, [((axis.kernel_size - less) // 2,) * 2 for axis in windows.axes])


def _padding_off_by_one(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    for before, after in ((1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)):
        pads = [(max(0, pad[0] + before), max(0, pad[1] + after)) for pad in windows.padding]
        yield from _padding(layer, windows, pads)


def _padding_swapped(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    for order in _orders(layer.rank):
        yield from _padding(layer, windows, [windows.padding[axis] for axis in order])
    # as all begins, then all ends, where pairs are meant, and the reverse
    flat = [side for pair in windows.padding for side in pair]
    yield from _padding(layer, windows, zip(flat[: layer.rank], flat[layer.rank :], strict=True))
    pairs = [*(pair[0] for pair in windows.padding), *(pair[1] for pair in windows.padding)]
    yield from _padding(layer, windows, zip(pairs[::2], pairs[1::2], strict=True))


def _shifted(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    for axes in [*([axis] for axis in range(layer.rank)), [*range(layer.rank)]]:
        for step in (1, -1):
            pads = [
                (before + step, after - step) if axis in axes else (before, after)
                for axis, (before, after) in enumerate(windows.padding)
            ]
            yield from _padding(layer, windows, pads)


def _orders(rank: int) -> Iterator[tuple[int, ...]]:
    yield from itertools.islice(itertools.permutations(range(rank)), 1, None)


def _per_axis(name: str, values: Callable[[tuple[int, ...]], Iterable[tuple[int, ...]]]) -> Alternatives:
    """Return other values for a parameter that has one value for each axis."""

    def alternatives(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
        given = tuple(getattr(axis, name) for axis in windows.axes)
        seen = {given}
        for value in values(given):
            if value not in seen and min(value) >= 1 and name in layer.op.__dict__:
                seen.add(value)
                yield _with_pads(layer, windows, {name: value}), str(list(value))

    return alternatives


def _with_pads(layer: Layer, windows: Windows, changes: Changes) -> Changes:
    """Keep the padding where it would follow from what is changed."""
    if isinstance(layer.op.__dict__.get("padding"), str) and not isinstance(layer.op, ConvTranspose):
        return changes | {"padding": windows.padding}
    return changes


def _swapped(given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for order in _orders(len(given)):
        yield tuple(given[axis] for axis in order)


def _ones(given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    yield (1,) * len(given)


def _off_by_one(given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for step in (1, -1):
        yield tuple(value + step for value in given)
        yield tuple(max(1, value + step) for value in given)


def _off_by_one_on_one_axis(given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for step, axis in itertools.product((1, -1), range(len(given))):
        yield tuple(value + step * (other == axis) for other, value in enumerate(given))


def _same_on_all(given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for value in dict.fromkeys(given):
        yield (value,) * len(given)


def _up_to_six(given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for value in range(1, 7):
        yield (value,) * len(given)


def _other_padding(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    for side in range(7):
        yield from _padding(layer, windows, [(side, side)] * layer.rank)


def _as_kernel(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    given, sizes = tuple(axis.stride for axis in windows.axes), windows.kernel_sizes
    if isinstance(layer.op, Pool) and given != sizes:
        yield _with_pads(layer, windows, {"stride": sizes}), str(list(sizes))


def _rounded_otherwise(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    if isinstance(layer.op, Pool):
        yield {"ceil_mode": not layer.op.ceil_mode}, "down" if layer.op.ceil_mode else "up"
    elif isinstance(layer.op, Conv):
        pads = [(axis.before, axis.after + _missing(axis)) for axis in windows.axes]
        yield from ((changes, "up") for changes, _ in _padding(layer, windows, pads))


def _missing(axis: AxisWindows) -> int:
    """Return how many elements are missing for another window."""
    beyond = (axis.before + axis.size + axis.after - axis.extent) % axis.stride
    return axis.stride - beyond if beyond else 0


def _another(name: str, values: Iterable[Any], *kinds: type) -> Alternatives:
    """Return the other values that a parameter may have."""
    values = tuple(values)

    def alternatives(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:  # noqa: ARG001
        if isinstance(layer.op, kinds):
            for value in values:
                if getattr(layer.op, name) != value:
                    yield {name: value}, str(value)

    return alternatives


def _ties(value: str) -> Alternatives:
    def alternatives(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:  # noqa: ARG001
        if isinstance(layer.op, MaxPool) and layer.op.resolved_parameters(layer.resolved)["ties"] != value:
            yield {"ties": value}, value

    return alternatives


def _counted(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:  # noqa: ARG001
    if isinstance(layer.op, AvgPool):
        changes = {"count_include_pad": not layer.op.count_include_pad}
        yield changes, "not counted" if layer.op.count_include_pad else "counted"


def _divisors(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    if isinstance(layer.op, AvgPool):
        for divisor in dict.fromkeys((math.prod(windows.kernel_sizes), *windows.kernel_sizes, 1)):
            if layer.op.divisor_override != divisor:
                yield {"divisor_override": divisor}, f"always {divisor}"
        if layer.op.divisor_override is not None:
            yield {"divisor_override": None}, "the number of taps"


def _output_padding(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    if isinstance(layer.op, ConvTranspose):
        given = tuple(axis.output_padding for axis in windows.axes)
        for value in ((0,) * layer.rank, *_off_by_one(given), *_off_by_one_on_one_axis(given)):
            if value != given and min(value) >= 0:
                yield {"padding": windows.padding, "output_padding": value, "output_size": None}, str(list(value))


def _kernel_sizes(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    if "kernel_size" in vars(layer.op):
        sizes = windows.kernel_sizes
        for value in dict.fromkeys(
            (*_swapped(sizes), *_same_on_all(sizes), *_off_by_one(sizes), *_off_by_one_on_one_axis(sizes))
        ):
            if value != sizes and min(value) >= 1:
                strides = tuple(axis.stride for axis in windows.axes)
                yield _with_pads(layer, windows, {"kernel_size": value, "stride": strides}), str(list(value))


def _as_jax(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:
    if isinstance(layer.op, ConvTranspose):
        pads = [(axis.extent - 1 - axis.before, axis.extent - 1 - axis.after) for axis in windows.axes]
        yield from _padding(layer, windows, pads)


def _modes(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:  # noqa: ARG001
    for value, kind in layer.entry.ops.items():
        if layer.entry.selector and not isinstance(layer.op, kind):
            yield {layer.entry.selector: value}, value
            if kind is AvgPool:
                yield {layer.entry.selector: value, "count_include_pad": True}, f"{value} with its padding counted"


def _data_format(layer: Layer, windows: Windows) -> Iterator[tuple[Changes, str]]:  # noqa: ARG001
    other = "channels_first" if layer.is_channels_last else "channels_last"
    yield {"data_format": other}, other


def _hypothesis(id: str, sentence: str, link: str, alternatives: Alternatives, about: str = "") -> Hypothesis:
    return Hypothesis(id, sentence, link, parameters_of(alternatives), about)


PARAMETERS = (
    _hypothesis("count_include_pad", "The padding is {} in the divisor of an average.", AVERAGE, _counted),
    _hypothesis("divisor", "The divisor of an average is {}.", AVERAGE, _divisors),
    _hypothesis("padding_none", "The padding is missing.", CONVOLUTION, _no_padding),
    _hypothesis(
        "padding_other_side",
        "The padding is at the other side: an odd element of same padding belongs at the end (same_lower: at the "
        "start).",
        CONVOLUTION,
        _other_side,
    ),
    _hypothesis("output_padding", "The output padding is another one.", TRANSPOSED, _output_padding),
    _hypothesis(
        "ceil_mode",
        "The output size is rounded {}; it must be rounded the other way.",
        WINDOWS,
        _rounded_otherwise,
    ),
    _hypothesis(
        "padding_same",
        "The padding is another kind of same: that of another framework, or that of stride 1.",
        CONVOLUTION,
        _as_same,
    ),
    _hypothesis("padding_half_window", "The padding is half a window.", CONVOLUTION, _half_window),
    _hypothesis(
        "padding_transposed",
        "The padding is that of the convolution inside, as lax.conv_transpose has it.",
        TRANSPOSED,
        _as_jax,
    ),
    _hypothesis("padding_one_side", "The padding is at one side only.", CONVOLUTION, _one_side),
    _hypothesis(
        "padding_axes_swapped",
        "The paddings of the axes or of their sides are mixed up.",
        CONVOLUTION,
        _padding_swapped,
    ),
    _hypothesis(
        "shifted_by_one",
        "Every window starts one element too early or too late.",
        CONVOLUTION,
        _shifted,
    ),
    _hypothesis("padding_off_by_one", "The padding is off by one.", CONVOLUTION, _padding_off_by_one),
    _hypothesis("padding_another", "The padding is another one.", CONVOLUTION, _other_padding),
    _hypothesis("stride_swapped", "The strides of the axes are swapped.", CONVOLUTION, _per_axis("stride", _swapped)),
    _hypothesis("stride_one", "The stride is ignored: it is 1.", CONVOLUTION, _per_axis("stride", _ones)),
    _hypothesis("stride_kernel_size", "The stride is the size of the window.", WINDOWS, _as_kernel),
    _hypothesis("stride_off_by_one", "The stride is off by one.", CONVOLUTION, _per_axis("stride", _off_by_one)),
    _hypothesis(
        "stride_same_on_all_axes",
        "All axes have the stride of one of them.",
        CONVOLUTION,
        _per_axis("stride", _same_on_all),
    ),
    _hypothesis(
        "stride_off_by_one",
        "The stride of one axis is off by one.",
        CONVOLUTION,
        _per_axis("stride", _off_by_one_on_one_axis),
    ),
    _hypothesis("stride_another", "The stride is another one.", CONVOLUTION, _per_axis("stride", _up_to_six)),
    _hypothesis(
        "dilation_swapped", "The dilations of the axes are swapped.", CONVOLUTION, _per_axis("dilation", _swapped)
    ),
    _hypothesis("dilation_one", "The dilation is ignored: it is 1.", CONVOLUTION, _per_axis("dilation", _ones)),
    _hypothesis(
        "dilation_same_on_all_axes",
        "All axes have the dilation of one of them.",
        CONVOLUTION,
        _per_axis("dilation", _same_on_all),
    ),
    _hypothesis(
        "dilation_off_by_one",
        "The dilation is off by one: it is the distance between taps (1 is dense), not the gap between them.",
        CONVOLUTION,
        _per_axis("dilation", _off_by_one),
    ),
    _hypothesis(
        "dilation_off_by_one",
        "The dilation of one axis is off by one.",
        CONVOLUTION,
        _per_axis("dilation", _off_by_one_on_one_axis),
    ),
    _hypothesis("dilation_another", "The dilation is another one.", CONVOLUTION, _per_axis("dilation", _up_to_six)),
    _hypothesis(
        "padding_mode",
        "The padding is filled with something else.",
        MODES,
        _another("padding_mode", ("zeros", "reflect", "replicate", "circular"), Conv),
    ),
    _hypothesis("kernel_axes_swapped", "The windows have another size.", WINDOWS, _kernel_sizes),
    _hypothesis(
        "norm_type", "The exponent of the norm is another one.", NORM, _another("norm_type", (1.0, 2.0, 3.0), LpPool)
    ),
    _hypothesis("ties_first", "Of equal maxima the first gets the gradient.", MAXIMUM, _ties("first")),
    _hypothesis("ties_all", "Of equal maxima each gets the whole gradient.", MAXIMUM, _ties("all")),
    _hypothesis("ties_split", "Equal maxima share the gradient.", MAXIMUM, _ties("split")),
    _hypothesis(
        "index_scheme",
        "Indices count the elements of the {}.",
        MAXIMUM,
        _another("index_scheme", ("plane", "image", "tensor"), Indexed),
        about="indices",
    ),
    _hypothesis(
        "storage_order",
        "Indices count in {} order.",
        MAXIMUM,
        _another("storage_order", ("row_major", "column_major"), Indexed),
        about="indices",
    ),
    _hypothesis("mode", "The pooling is another one.", WINDOWS, _modes),
    _hypothesis("data_format", "The operands are taken for the other layout.", CONVOLUTION, _data_format),
)
"""In the order of how likely they are, where several lead to the same results."""
