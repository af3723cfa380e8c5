"""Hypothesis strategies for whole operations: parameters exactly as a client writes them, and operands that fit.

The cases are valid by construction, the oracle's geometry filters the rest, and small, so that its loops keep up.
Arrays come from a drawn seed: a failing case shrinks in its geometry, which is where the rules are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from tests.oracle.windows import AnyArray, Array, Geometry, OracleError, Padding, PerAxis, geometry

quick_settings = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
thorough_settings = settings(quick_settings, max_examples=80)

largest_size = {1: 7, 2: 6, 3: 4}  # of a spatial axis, by the number of spatial axes
padding_forms = ["absent", "int", "per_axis", "pairs", "valid", "same", "same_lower"]
batches = st.sampled_from([1, 2, 1, 2, 1, 2, 0])


@dataclass(frozen=True, eq=False)
class ConvCase:
    """A valid call of a convolution; ``parameters`` is JSON-able."""

    parameters: dict[str, Any]
    input: AnyArray
    weight: AnyArray
    bias: AnyArray | None
    grad_output: AnyArray


@dataclass(frozen=True, eq=False)
class PoolCase:
    """A valid call of a pooling layer; ``parameters`` is JSON-able and says nothing of the kind of pooling."""

    parameters: dict[str, Any]
    input: AnyArray
    grad_output: AnyArray


@dataclass(frozen=True)
class Windows:
    """Drawn parameters of a window and spatial sizes that suit them."""

    sizes: list[int]
    kernel: list[int]
    uniform: bool
    stride: PerAxis | None
    padding: Padding | None
    dilation: PerAxis
    ceil_mode: bool

    def kernel_size(self) -> PerAxis:
        return self.kernel[0] if self.uniform else self.kernel

    def parameters(self) -> dict[str, Any]:
        """The given ones among stride, padding and dilation."""
        given: dict[str, Any] = {}
        if self.stride is not None:
            given["stride"] = self.stride
        if self.padding is not None:
            given["padding"] = self.padding
        if self.dilation != 1:
            given["dilation"] = self.dilation
        return given

    def geometry(self, default_stride: PerAxis | None) -> Geometry:
        """The oracle's view of these windows; what the rules forbid is filtered out here."""
        stride = default_stride if self.stride is None else self.stride
        padding = 0 if self.padding is None else self.padding
        try:
            return geometry(self.sizes, self.kernel, stride, padding, self.dilation, ceil_mode=self.ceil_mode)
        except OracleError:
            assume(condition=False)
            raise


def _one_or_list(values: list[int], uniform: bool) -> PerAxis:
    return values[0] if uniform else values


@st.composite
def _windows(draw: st.DrawFn, *, padding_stays_below_extent: bool, ceil_mode: bool = False) -> Windows:
    """Draw a window, its padding, and last the sizes on which it fits."""
    rank = draw(st.integers(1, 3))
    largest = largest_size[rank]
    uniform = draw(st.booleans())
    kernel: list[int] = []
    dilation: list[int] = []
    stride: list[int] = []
    for axis in range(rank):
        if uniform and axis > 0:
            kernel.append(kernel[0])
            dilation.append(dilation[0])
            stride.append(stride[0])
            continue
        kernel.append(draw(st.integers(1, 3)))
        dilation.append(draw(st.integers(1, min(3, (largest - 1) // max(1, kernel[axis] - 1)))))
        stride.append(draw(st.integers(1, 3)))
    extent = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]

    limits = [reach - 1 if padding_stays_below_extent else 3 for reach in extent]
    form = draw(st.sampled_from(padding_forms))
    sides = [(0, 0)] * rank
    padding: Padding | None = None
    if form == "int":
        padding = draw(st.integers(0, min(limits)))
        sides = [(padding, padding)] * rank
    elif form == "per_axis":
        each = [draw(st.integers(0, limit)) for limit in limits]
        padding, sides = each, [(one, one) for one in each]
    elif form == "pairs":
        sides = [(draw(st.integers(0, limit)), draw(st.integers(0, limit))) for limit in limits]
        padding = [list(pair) for pair in sides]
    elif form != "absent":
        padding = form

    sizes: list[int] = []
    for axis in range(rank):
        least = 1
        if form not in {"same", "same_lower"}:
            least = extent[axis] - sum(sides[axis])
            if ceil_mode:  # the last window may hang over the end
                least -= stride[axis] - 1
        if padding_stays_below_extent and kernel[axis] > 1 and draw(st.integers(0, 7)) < 7:
            least = max(least, dilation[axis])  # on fewer elements a dilated window can step over all of them
        sizes.append(draw(st.integers(max(1, least), largest)))
    return Windows(
        sizes=sizes,
        kernel=kernel,
        uniform=uniform and draw(st.booleans()),
        stride=draw(st.one_of(st.none(), st.just(_one_or_list(stride, uniform)))),
        padding=padding,
        dilation=_one_or_list(dilation, uniform),
        ceil_mode=ceil_mode,
    )


def _random(draw: st.DrawFn) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def _layout(data_format: str, batch: int, sizes: list[int], channels: int) -> tuple[int, ...]:
    """The shape of activations."""
    if data_format == "channels_first":
        return (batch, channels, *sizes)
    return (batch, *sizes, channels)


def _draw_data_format(draw: st.DrawFn, parameters: dict[str, Any]) -> str:
    """Put a data_format into the parameters, or leave it to its default."""
    given = draw(st.sampled_from([None, "channels_last", "channels_first"]))
    if given is not None:
        parameters["data_format"] = given
    return given or "channels_last"


@st.composite
def conv_cases(draw: st.DrawFn) -> ConvCase:
    """Convolutions with 1 to 3 spatial axes: groups, depthwise and its multiplier, every form of padding."""
    windows = draw(_windows(padding_stays_below_extent=False))
    resolved = windows.geometry(default_stride=1)
    parameters = windows.parameters()
    data_format = _draw_data_format(draw, parameters)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    if groups > 1 or draw(st.booleans()):
        parameters["groups"] = groups
    channels_per_group, filters_per_group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    filters = groups * filters_per_group
    batch = draw(batches)
    random = _random(draw)
    if data_format == "channels_first":
        weight_shape = (filters, channels_per_group, *windows.kernel)
    else:
        weight_shape = (*windows.kernel, channels_per_group, filters)
    bias_shape = draw(st.sampled_from([None, (filters,), (1,) * (len(windows.sizes) + 1) + (filters,)]))
    return ConvCase(
        parameters=parameters,
        input=random.standard_normal(_layout(data_format, batch, windows.sizes, groups * channels_per_group)),
        weight=random.standard_normal(weight_shape),
        bias=None if bias_shape is None else random.standard_normal(bias_shape),
        grad_output=random.standard_normal(_layout(data_format, batch, resolved.output, filters)),
    )


def _pool_case(draw: st.DrawFn, windows: Windows, more: dict[str, Any]) -> PoolCase:
    """The parts that all kinds of pooling share, with an input of zeros."""
    resolved = windows.geometry(default_stride=None)
    parameters = {"kernel_size": windows.kernel_size(), **windows.parameters(), **more}
    if windows.ceil_mode or draw(st.booleans()):
        parameters["ceil_mode"] = windows.ceil_mode
    data_format = _draw_data_format(draw, parameters)
    batch, channels = draw(batches), draw(st.integers(1, 3))
    random = _random(draw)
    return PoolCase(
        parameters=parameters,
        input=random.standard_normal(_layout(data_format, batch, windows.sizes, channels)),
        grad_output=random.standard_normal(_layout(data_format, batch, resolved.output, channels)),
    )


def _assume_valid_taps(windows: Windows) -> None:
    """Every window must reach at least one element of the input."""
    resolved = windows.geometry(default_stride=None)
    assume(all(resolved.valid(position) for position in resolved.positions()))


@st.composite
def _max_pool_cases_without_values(draw: st.DrawFn) -> PoolCase:
    windows = draw(_windows(padding_stays_below_extent=True, ceil_mode=draw(st.booleans())))
    _assume_valid_taps(windows)
    ties = draw(st.sampled_from([None, "first", "all", "split"]))
    return _pool_case(draw, windows, {} if ties is None else {"ties": ties})


def _max_pool_values(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """Values for max pooling: few of them, so that ties happen, or the ones that break comparisons."""
    if kind == "normal":
        return random.standard_normal(shape)
    few = [-2.0, -1.0, 0.0, 1.0]
    palette = {
        "few": few,
        "nan": [math.nan, math.nan, math.nan, *few],
        "minus_infinity": [-math.inf, -math.inf, -math.inf, *few],
        "only_minus_infinity": [-math.inf],
        "anything": [math.nan, math.nan, math.inf, -math.inf, *few],
    }[kind]
    return np.asarray(random.choice(palette, size=shape), dtype=np.float64)


@st.composite
def max_pool_cases(draw: st.DrawFn, *, finite: bool = False) -> PoolCase:
    """Max pooling, most often with ties; ``finite`` leaves out NaN and the infinities, which JSON cannot carry."""
    case = draw(_max_pool_cases_without_values())
    kinds = ["few", "few", "normal"]
    if not finite:
        kinds += ["nan", "nan", "minus_infinity", "only_minus_infinity", "anything"]
    kind = draw(st.sampled_from(kinds))
    return PoolCase(case.parameters, _max_pool_values(_random(draw), kind, case.input.shape), case.grad_output)


@st.composite
def spaced_max_pool_cases(draw: st.DrawFn) -> PoolCase:
    """Max pooling of values that are all 0.25 or more apart: no finite difference steps over a kink."""
    case = draw(_max_pool_cases_without_values())
    ranks = _random(draw).permutation(case.input.size).reshape(case.input.shape)
    return PoolCase(case.parameters, 0.25 * (ranks - case.input.size // 2), case.grad_output)


@st.composite
def avg_pool_cases(draw: st.DrawFn) -> PoolCase:
    """Average pooling with every divisor rule; windows that lie in the padding where these have an average."""
    count_include_pad = draw(st.booleans())
    divisor_override = draw(st.sampled_from([None, None, 1, 3, -2]))
    always_divisible = count_include_pad or divisor_override is not None
    windows = draw(_windows(padding_stays_below_extent=not always_divisible, ceil_mode=draw(st.booleans())))
    if not always_divisible:
        _assume_valid_taps(windows)
    more: dict[str, Any] = {}
    if count_include_pad or draw(st.booleans()):
        more["count_include_pad"] = count_include_pad
    if divisor_override is not None:
        more["divisor_override"] = divisor_override
    return _pool_case(draw, windows, more)
