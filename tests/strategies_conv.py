"""Hypothesis strategies for the relatives of convolution, and what their tests share: memory layouts and refusals.

As in ``tests.strategies``: parameters as a client writes them, operands that fit, small sizes, values from a seed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st

from cnn_core import ConvpoolError
from tests.oracle import conv_transpose
from tests.oracle.windows import AnyArray, Geometry, OracleError
from tests.strategies import (
    ConvCase,
    Windows,
    _draw_data_format,
    _layout,
    _one_or_list,
    _random,
    _windows,
    batches,
    conv_cases,
    padding_forms,
    quick_settings,
)

few_settings = settings(quick_settings, max_examples=12)
eight_bits = st.sampled_from(["int8", "uint8"])


@dataclass(frozen=True, eq=False)
class MatrixCase:
    """A valid call of Unfold, its output's size, and a matrix of the shape that it returns."""

    parameters: dict[str, Any]
    sizes: list[int]
    input: AnyArray
    matrix: AnyArray


@dataclass(frozen=True, eq=False)
class IntegerCase:
    """A valid call of ConvInteger; what QLinearConv needs besides is in ``scales``, ``output_zero_point``, ``bias``."""

    parameters: dict[str, Any]
    input: AnyArray
    weight: AnyArray
    input_zero_point: AnyArray
    weight_zero_point: AnyArray
    scales: tuple[AnyArray, AnyArray, AnyArray]
    output_zero_point: AnyArray
    bias: AnyArray | None

    def integer_operands(self) -> list[AnyArray]:
        """In the order of ConvInteger."""
        return [self.input, self.weight, self.input_zero_point, self.weight_zero_point]

    def quantized_operands(self) -> list[AnyArray | None]:
        """In the order of QLinearConv."""
        input_scale, weight_scale, output_scale = self.scales
        activations = [self.input, input_scale, self.input_zero_point]
        kernel = [self.weight, weight_scale, self.weight_zero_point]
        return [*activations, *kernel, output_scale, self.output_zero_point, self.bias]


# ---------------------------------------------------------------------------------------------- transposed convolution

axis_parameters = st.fixed_dictionaries(
    {},
    optional={
        "stride": st.integers(1, 5),
        "dilation": st.integers(1, 4),
        "padding": st.sampled_from(["same", "same_lower", "valid", 1, 2, 6, [[0, 3]], [[5, 1]]]),
        "output_padding": st.integers(1, 5),
        "output_size": st.integers(1, 30),
        "framework": st.sampled_from(["onnx", "tensorflow"]),
    },
)


@dataclass(frozen=True)
class TransposedWindows:
    """Drawn parameters of a transposed window, and the geometry that the oracle makes of them."""

    sizes: list[int]
    kernel: list[int]
    parameters: dict[str, Any]
    geometry: Geometry


@st.composite
def _transposed_windows(draw: st.DrawFn, *, frameworks: bool) -> TransposedWindows:
    """Draw all that decides over the output's size; ``frameworks`` adds the rules of ONNX and Keras."""
    rank = draw(st.integers(1, 3))
    numbers = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    sizes = draw(st.lists(st.integers(1, {1: 5, 2: 4, 3: 2}[rank]), min_size=rank, max_size=rank))
    kernel, stride = draw(numbers), draw(numbers)
    dilation = draw(st.lists(st.integers(1, 2 if rank == 3 else 3), min_size=rank, max_size=rank))
    uniform = draw(st.booleans())
    if uniform:
        stride, dilation = stride[:1] * rank, dilation[:1] * rank
    parameters: dict[str, Any] = {}
    if stride != [1] * rank or draw(st.booleans()):
        parameters["stride"] = _one_or_list(stride, uniform)
    if dilation != [1] * rank or draw(st.booleans()):
        parameters["dilation"] = _one_or_list(dilation, uniform)

    form = draw(st.sampled_from(padding_forms))
    if form == "int":
        parameters["padding"] = draw(st.integers(0, 2))
    elif form == "per_axis":
        parameters["padding"] = draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank))
    elif form == "pairs":
        pair = st.lists(st.integers(0, 3), min_size=2, max_size=2)
        parameters["padding"] = draw(st.lists(pair, min_size=rank, max_size=rank))
    elif form != "absent":
        parameters["padding"] = form
    follows_the_output = form in {"same", "same_lower"}

    limits = [max(pair) - 1 for pair in zip(stride, dilation, strict=True)]
    extents = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    reach = [(size - 1) * step + extent for size, step, extent in zip(sizes, stride, extents, strict=True)]
    extra = [draw(st.integers(0, limit)) for limit in limits]
    rule = draw(
        st.sampled_from(["none", "padding", "size", "size", *(["onnx", "onnx", "keras"] if frameworks else [])])
    )
    if rule == "padding" and not follows_the_output:
        parameters["output_padding"] = extra
    elif rule == "size" and follows_the_output:
        parameters["output_size"] = [
            draw(st.integers((size - 1) * step + 1, size * step)) for size, step in zip(sizes, stride, strict=True)
        ]
    elif rule == "size":
        given = parameters.get("padding", 0)
        if given == "valid":
            given = 0
        each = [given] * rank if isinstance(given, int) else given
        totals = [2 * one if isinstance(one, int) else sum(one) for one in each]
        wanted = [reach[axis] - totals[axis] + extra[axis] for axis in range(rank)]
        assume(min(wanted) >= 1)
        parameters["output_size"] = _one_or_list(wanted, len(set(wanted)) == 1 and draw(st.booleans()))
    elif rule == "onnx":
        parameters["framework"] = "onnx"
        parameters["output_size"] = [draw(st.integers(max(1, full - 4), full + 3)) for full in reach]
        if not follows_the_output and draw(st.booleans()):
            parameters["output_padding"] = extra
    elif rule == "keras":
        parameters["framework"] = "tensorflow"
        if follows_the_output and draw(st.booleans()):
            least = [1 - extent % 2 for extent in extents]
            parameters["output_padding"] = [
                draw(st.integers(one, one + step - 1)) for one, step in zip(least, stride, strict=True)
            ]
    try:
        resolved = conv_transpose.transposed_geometry(sizes, kernel, **parameters)
    except OracleError:
        assume(condition=False)
        raise
    return TransposedWindows(sizes, kernel, parameters, resolved)


@st.composite
def conv_transpose_cases(draw: st.DrawFn, *, frameworks: bool = True) -> ConvCase:
    """Transposed convolutions with 1 to 3 spatial axes; the data_format is given wherever a framework is."""
    windows = draw(_transposed_windows(frameworks=frameworks))
    parameters = dict(windows.parameters)
    if "framework" in parameters:
        data_format = draw(st.sampled_from(["channels_last", "channels_first"]))
        parameters["data_format"] = data_format
    else:
        data_format = _draw_data_format(draw, parameters)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    if groups > 1 or draw(st.booleans()):
        parameters["groups"] = groups
    channels, features_per_group = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    features = groups * features_per_group
    if data_format == "channels_first":
        weight_shape = (channels, features_per_group, *windows.kernel)
    else:
        weight_shape = (*windows.kernel, features_per_group, channels)
    bias_shape = draw(st.sampled_from([None, (features,), (1,) * (len(windows.sizes) + 1) + (features,)]))
    batch, random = draw(batches), _random(draw)
    return ConvCase(
        parameters=parameters,
        input=random.standard_normal(_layout(data_format, batch, windows.sizes, channels)),
        weight=random.standard_normal(weight_shape),
        bias=None if bias_shape is None else random.standard_normal(bias_shape),
        grad_output=random.standard_normal(_layout(data_format, batch, windows.geometry.sizes, features)),
    )


# ------------------------------------------------------------------------------------------------------- padding modes


@st.composite
def padding_mode_cases(draw: st.DrawFn) -> ConvCase:
    """Convolutions with a padding_mode that their padding allows, most often the one that is hardest to satisfy."""
    case = draw(conv_cases())
    first = case.parameters.get("data_format") == "channels_first"
    resolved = Windows(
        sizes=list(case.input.shape[2:] if first else case.input.shape[1:-1]),
        kernel=list(case.weight.shape[2:] if first else case.weight.shape[:-2]),
        uniform=False,
        stride=case.parameters.get("stride", 1),
        padding=case.parameters.get("padding", 0),
        dilation=case.parameters.get("dilation", 1),
        ceil_mode=False,
    ).geometry(default_stride=1)
    room = min(size - max(pair) for size, pair in zip(resolved.sizes, resolved.padding, strict=True))
    assume(any(map(any, resolved.padding)))
    modes = ["reflect", "reflect", "circular", "replicate"] if room > 0 else ["replicate"]
    if room == 0:
        modes = ["circular", "circular", "replicate"]
    parameters = {**case.parameters, "padding_mode": draw(st.sampled_from(modes))}
    return ConvCase(parameters, case.input, case.weight, case.bias, case.grad_output)


# ----------------------------------------------------------------------------------------------------- unfold and fold


@st.composite
def matrix_cases(draw: st.DrawFn) -> MatrixCase:
    """Calls of Unfold with every form of padding."""
    windows = draw(_windows(padding_stays_below_extent=False))
    resolved = windows.geometry(default_stride=1)
    parameters = {"kernel_size": windows.kernel_size(), **windows.parameters()}
    data_format = _draw_data_format(draw, parameters)
    batch, channels, random = draw(batches), draw(st.integers(1, 3)), _random(draw)
    rows, count = channels * math.prod(windows.kernel), math.prod(resolved.output)
    matrix_axes = (rows, count) if data_format == "channels_first" else (count, rows)
    return MatrixCase(
        parameters=parameters,
        sizes=windows.sizes,
        input=random.standard_normal(_layout(data_format, batch, windows.sizes, channels)),
        matrix=random.standard_normal((batch, *matrix_axes)),
    )


# -------------------------------------------------------------------------------------------------- quantized operands


def _integers(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> AnyArray:
    """Any values of the type, its extremes included."""
    limits = np.iinfo(dtype)
    return random.integers(int(limits.min), int(limits.max), size=shape, dtype=dtype, endpoint=True)


def _scale(draw: st.DrawFn, random: np.random.Generator, shape: tuple[int, ...], *, exact: bool) -> AnyArray:
    """Scales that make ties, which are powers of two, or that make none."""
    dtype = draw(st.sampled_from(["float32", "float64"]))
    values = 2.0 ** random.integers(-3, 1, shape) if exact else random.uniform(0.1, 1, shape)
    return np.asarray(values, dtype=dtype)


@st.composite
def integer_cases(draw: st.DrawFn) -> IntegerCase:
    """Quantized convolutions: all combinations of types, one zero point and scale or one for each filter."""
    windows = draw(_windows(padding_stays_below_extent=False))
    windows.geometry(default_stride=1)  # filters out what the rules forbid
    parameters = windows.parameters()
    data_format = _draw_data_format(draw, parameters)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    if groups > 1 or draw(st.booleans()):
        parameters["groups"] = groups
    channels_per_group, filters = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    batch, random = draw(batches), _random(draw)
    input_dtype, weight_dtype, output_dtype = draw(eight_bits), draw(eight_bits), draw(eight_bits)
    if data_format == "channels_first":
        weight_shape = (filters, channels_per_group, *windows.kernel)
    else:
        weight_shape = (*windows.kernel, channels_per_group, filters)
    single, per_filter = st.sampled_from([(), (1,)]), st.sampled_from([(), (1,), (filters,), (filters,)])
    exact = draw(st.booleans())
    output_step = _scale(draw, random, draw(single), exact=exact)
    widening = np.asarray(2.0 ** draw(st.integers(4, 10)), dtype=output_step.dtype)
    return IntegerCase(
        parameters=parameters,
        input=_integers(random, input_dtype, _layout(data_format, batch, windows.sizes, groups * channels_per_group)),
        weight=_integers(random, weight_dtype, weight_shape),
        input_zero_point=_integers(random, input_dtype, draw(single)),
        weight_zero_point=_integers(random, weight_dtype, draw(per_filter)),
        scales=(
            _scale(draw, random, draw(single), exact=exact),
            _scale(draw, random, draw(per_filter), exact=exact),
            np.asarray(output_step * widening),
        ),
        output_zero_point=_integers(random, output_dtype, draw(single)),
        bias=draw(st.sampled_from([None, random.integers(-3000, 3000, filters, dtype=np.int32)])),
    )


# ------------------------------------------------------------------------------------------------------ memory layouts


def backwards(array: AnyArray) -> AnyArray:
    """The same values as every second element of a larger array, in the reverse order along every axis."""
    larger = np.zeros([2 * size for size in array.shape], dtype=array.dtype)
    every_second: tuple[Any, ...] = (..., *[slice(None, None, -2)] * array.ndim)
    view: AnyArray = larger[every_second]
    view[...] = array
    return view


def read_only(array: AnyArray) -> AnyArray:
    """The same values where nobody can write."""
    array = array.copy()
    array.flags.writeable = False
    return array


def big_endian(array: AnyArray) -> AnyArray:
    """The same values with their most significant byte first."""
    return array.astype(array.dtype.newbyteorder(">"))


def repeated(array: AnyArray) -> AnyArray:
    """The first element along the last axis, seen as many times without being stored so often."""
    return np.broadcast_to(array[..., :1], array.shape)


memory_layouts = st.sampled_from([backwards, read_only, big_endian, repeated, np.asfortranarray])


# ------------------------------------------------------------------------------------------------------------ refusals


@contextlib.contextmanager
def refused(error: type[ConvpoolError], subjects: str, *words: object) -> Iterator[None]:
    """The body raises this error about one of the subjects ("a|b"), and its message holds the words.

    Words are what came and what was needed; each stands by itself in the message or is a part of it such as (3, 2).
    """
    with pytest.raises(error) as caught:
        yield
    assert getattr(caught.value, "subject", None) in subjects.split("|"), caught.value
    message = str(caught.value)
    separate = "".join(letter if letter.isalnum() or letter in "_-" else " " for letter in message).split()
    for word in map(str, words):
        assert word in separate if word.lstrip("-").isalnum() else word in message, f"{word} is not in {message!r}"
