"""Transposed and quantized convolutions with ONNX's defaults against ONNX Runtime, over random parameters.

``draw_transposed(seed, index)`` and ``draw_quantized(op, seed, index)`` draw a case again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cnn_core import ConvInteger, ConvTranspose, QLinearConv, ShapeError
from tests.oracle import quantized
from tests.peers import onnx_side
from tests.peers.cases import Array, draw_padding, draw_per_axis, draw_windows, per_axis, resolve_padding
from tests.peers.drawn import Drawn, generator
from tests.peers.tally import Tally

BOUND = 1e-5  # of max|a - b| / max|b|, in float32
CROPPED = "auto_pad=SAME_* crops the start where the stride exceeds the kernel"
CASES = {"ConvTranspose": 900, "ConvInteger": 500, "QLinearConv": 700}


# ----------------------------------------------------------------------------------------------- transposed convolution


def draw_transposed(seed: int, index: int) -> Drawn:
    """Draw a transposed convolution with ONNX's defaults: the same for the same arguments."""
    random = generator("onnx ConvTranspose", seed, index)
    rank = 1 + index % 3
    parameters: dict[str, Any] = {"framework": "onnx"}
    kernel = draw_per_axis(random, {}, "kernel_size", rank, 1, 4, given=True)
    stride = draw_per_axis(random, parameters, "stride", rank, 1, 4, default=[1] * rank)
    dilation = draw_per_axis(random, parameters, "dilation", rank, 1, 3, default=[1] * rank)
    padding = draw_padding(random, rank)
    if padding != 0:
        parameters["padding"] = padding
    if random.random() < 0.4:
        parameters["output_padding"] = [
            int(random.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True)
        ]
    spatial = []
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        cut = 0 if isinstance(padding, str) else sum(resolve_padding(padding, axis, 1, k, s, d))
        least = max(1, 1 + math.ceil((cut - (k - 1) * d) / s))
        spatial.append(least + int(random.integers(0, {1: 9, 2: 5, 3: 3}[rank])))
    if random.random() < 0.35:
        spans = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(spatial, kernel, stride, dilation, strict=True)]
        parameters["output_size"] = [max(1, span - int(random.integers(-1, 5))) for span in spans]
    groups = int(random.choice([1, 1, 2, 3]))
    if groups > 1:
        parameters["groups"] = groups
    multiplier, per_group = (int(channels) for channels in random.integers(1, 4, size=2))
    shapes = {
        "input": (int(random.integers(1, 4)), groups * multiplier, *spatial),
        "weight": (groups * multiplier, per_group, *kernel),
    }
    if random.random() < 0.6:
        shapes["bias"] = (groups * per_group,)
    operands = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return Drawn("onnx ConvTranspose", seed, index, ConvTranspose, parameters, operands)


def totals(drawn: Drawn) -> list[tuple[int, int, int, int]]:
    """Of each axis what the windows span with output_padding, the wanted size or that of same padding, s and d."""
    parameters, rank = drawn.parameters, drawn.rank
    kernel = drawn.operands["weight"].shape[2:]
    stride, dilation = (per_axis(parameters.get(name, 1), rank) for name in ("stride", "dilation"))
    more = per_axis(parameters.get("output_padding", 0), rank)
    wanted = parameters.get("output_size") or [n * s for n, s in zip(drawn.spatial, stride, strict=True)]
    geometry = zip(drawn.spatial, kernel, stride, dilation, more, wanted, strict=True)
    return [((n - 1) * s + (k - 1) * d + 1 + extra, size, s, d) for n, k, s, d, extra, size in geometry]


def excluded_transposed(drawn: Drawn) -> tuple[str, bool] | None:
    """Why ONNX Runtime cannot be compared with, and whether that is because it refuses the case."""
    more = per_axis(drawn.parameters.get("output_padding", 0), drawn.rank)
    axes = totals(drawn)
    if any(extra >= s for extra, (_, _, s, _) in zip(more, axes, strict=True)):
        return "output_padding of a stride or more is refused, below the dilation, too", True
    if "output_size" in drawn.parameters:
        if any(size - span + extra >= s for extra, (span, size, s, _) in zip(more, axes, strict=True)):
            return "output_shape of a stride more than the windows span is refused", True
    elif drawn.parameters.get("padding") in ("same", "same_lower") and any(span < size for span, size, _, _ in axes):
        return "auto_pad=SAME_* is less than a stride for each element where the stride exceeds the windows", False
    return None


def transpose(drawn: Drawn) -> Array:
    attributes = onnx_side.window_attributes(drawn.parameters, drawn.rank)
    for name, given in (("output_padding", "output_padding"), ("output_shape", "output_size")):
        if given in drawn.parameters:
            attributes[name] = drawn.parameters[given]
    return onnx_side.run("ConvTranspose", list(drawn.operands.values()), **attributes)[0]


def test_conv_transpose(seed: int, finish: Callable[..., None]) -> None:
    tally, refusals = Tally("ConvTranspose, ONNX Runtime"), Tally("ConvTranspose, refused by ONNX Runtime")
    for index in range(CASES["ConvTranspose"]):
        drawn = draw_transposed(seed, index)
        reason = excluded_transposed(drawn)
        if reason is not None:
            tally.outside[reason[0]] += 1
            if reason[1]:

                def refusal(drawn: Drawn = drawn) -> None:
                    with pytest.raises(onnx_side.REFUSAL):
                        transpose(drawn)

                refusals.check(drawn, reason[0], refusal)
            continue

        def comparison(drawn: Drawn = drawn) -> None:
            actual = ConvTranspose(**drawn.parameters).forward(*drawn.operands.values())
            assert actual.dtype == np.float32
            tally.close("output", actual, transpose(drawn), BOUND)

        padding = drawn.parameters.get("padding", "explicit pads")
        padding = padding if isinstance(padding, str) else "explicit pads"
        sized = " with output_shape" if "output_size" in drawn.parameters else ""
        tally.check(drawn, padding + sized, comparison)
    finish(tally, refusals)
    for padding, least in (("explicit pads", 8), ("same", 30), ("same_lower", 30), ("valid", 30)):
        for sized in ("", " with output_shape"):
            assert tally.counts[padding + sized] >= CASES["ConvTranspose"] // least // (1 + bool(sized)), (
                padding + sized
            )
    assert tally.outside.total() <= CASES["ConvTranspose"] // 3


# ----------------------------------------------------------------------------------------------- quantized convolution


def draw_quantized(op: type, seed: int, index: int) -> Drawn:
    """Draw a convolution of bytes with ONNX's defaults: the same for the same arguments.

    Signed weights have 7 bits: of 8, ONNX Runtime's products of bytes may saturate at 16 bits on processors that have
    no instruction which adds them in 32. A zero point for each filter is refused, unless all are the same.
    """
    random = generator(f"onnx {op.__name__}", seed, index)
    rank = 1 + index % 3
    parameters, spatial, kernel = draw_windows(random, rank, bool(random.random() < 0.05), largest_dilation=3)
    parameters = {name: given for name, given in parameters.items() if name not in {"data_format", "kernel_size"}}
    groups = int(random.choice([1, 1, 2, 3]))
    if groups > 1:
        parameters["groups"] = groups
    per_group, multiplier = (int(channels) for channels in random.integers(1, 5, size=2))
    filters = groups * multiplier
    types = [np.dtype(str(random.choice(["uint8", "int8"]))) for _ in range(2)]
    if op is QLinearConv and types[0] == np.int8 and random.random() < 0.9:
        types[1] = types[0]  # all that ONNX Runtime has for this input
    operands = {
        "input": draw_bytes(random, types[0], (int(random.integers(1, 4)), groups * per_group, *spatial)),
        "weight": draw_bytes(random, types[1], (filters, per_group, *kernel)),
    }
    if types[1] == np.int8:
        operands["weight"] //= 2
    zeros = [draw_bytes(random, dtype, (1,) if random.random() < 0.3 else ()) for dtype in types]
    if random.random() < 0.4:
        zeros = [np.zeros_like(zero) for zero in zeros]
    if op is ConvInteger:
        if random.random() < 0.8:
            operands["input_zero_point"] = zeros[0]
            if random.random() < 0.8:
                operands["weight_zero_point"] = zeros[1]
    else:
        operands |= draw_scales(random, operands, zeros)
        if random.random() < 0.5:
            operands["bias"] = random.integers(-50, 50, size=filters).astype(np.int32)
    return Drawn(f"onnx {op.__name__}", seed, index, op, {"framework": "onnx", **parameters}, operands)


def draw_scales(random: np.random.Generator, operands: dict[str, Array], zeros: list[Array]) -> dict[str, Array]:
    """Draw the further operands of QLinearConv; where results are to be half-way between integers, also small numbers.

    Powers of two are exact in float32, and halves are halves there; tenths are not, and float32 makes halves of what
    is next to one.
    """
    kind = str(random.choice(["spread", "halves", "tenths"]))
    filters, *sizes = operands["weight"].shape
    shapes: list[tuple[int, ...]] = [(), (filters,) if random.random() < 0.5 else ()]
    if kind == "spread":  # most of the sums to bytes
        scales = [np.asarray(random.uniform(0.3, 2.0, size=shape)) for shape in shapes]
        output_scale = np.sqrt(math.prod(sizes)) * random.uniform(20, 150)
    else:
        for name, zero in zip(("input", "weight"), zeros, strict=True):
            limits, near = np.iinfo(zero.dtype), random.integers(-3, 4, size=operands[name].shape)
            operands[name] = np.clip(near + int(zero.reshape(-1)[0]), limits.min, limits.max).astype(zero.dtype)
        if kind == "halves":
            scales = [np.asarray(2.0 ** random.integers(-2, 2, size=shape)) for shape in shapes]
            output_scale = 2.0 ** random.integers(0, 3)
        else:
            scales = [np.asarray(random.choice([0.1, 0.2, 0.3], size=shape)) for shape in shapes]
            output_scale = random.choice([0.1, 0.2, 0.6])
    return {
        "input_scale": scales[0].astype(np.float32),
        "input_zero_point": zeros[0],
        "weight_scale": scales[1].astype(np.float32),
        "weight_zero_point": np.full(filters, zeros[1].item()).astype(zeros[1].dtype) if shapes[1] else zeros[1],
        "output_scale": np.asarray(output_scale, np.float32),
        "output_zero_point": draw_bytes(random, zeros[0].dtype, ()),
    }


def draw_bytes(random: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    limits = np.iinfo(dtype)
    return np.asarray(random.integers(limits.min, limits.max + 1, size=shape), dtype)


def attributes_of(drawn: Drawn) -> dict[str, Any]:
    return onnx_side.window_attributes(drawn.parameters, drawn.rank)


def excluded_quantized(drawn: Drawn) -> str | None:
    """Why there is nothing to compare: an error of both, or ONNX Runtime's only."""
    axes = onnx_side.geometry(drawn.parameters, drawn.spatial, drawn.operands["weight"].shape[2:])
    if any(axis.output < 1 for axis in axes):
        return "a window larger than the padded input is an error"
    if drawn.parameters.get("padding") in ("same", "same_lower") and any(axis.dilation > 1 for axis in axes):
        return "auto_pad=SAME_* with dilation is refused"
    if onnx_side.crops_start(drawn.parameters, axes):
        return CROPPED
    types = [drawn.operands[name].dtype for name in ("input", "weight")]
    if drawn.op is QLinearConv and types == [np.int8, np.uint8]:
        return "QLinearConv of int8 and uint8 is not implemented"
    return None


def check_exclusion(drawn: Drawn, reason: str) -> None:
    with pytest.raises(onnx_side.REFUSAL):
        run_peer(drawn)
    if "larger" in reason:
        with pytest.raises(ShapeError):
            run_op(drawn)


ORDER = {
    ConvInteger: ["input", "weight", "input_zero_point", "weight_zero_point"],
    QLinearConv: [
        *("input", "input_scale", "input_zero_point", "weight", "weight_scale", "weight_zero_point"),
        *("output_scale", "output_zero_point", "bias"),
    ],
}


def operands_in_order(drawn: Drawn) -> list[Array | None]:
    operands = [drawn.operands.get(name) for name in ORDER[drawn.op]]
    return operands if operands[-1] is not None else operands[: len(drawn.operands)]


def run_op(drawn: Drawn) -> Array:
    result: Array = drawn.op(**drawn.parameters).forward(*operands_in_order(drawn))
    return result


def run_peer(drawn: Drawn) -> Array:
    result = np.int32 if drawn.op is ConvInteger else drawn.operands["output_zero_point"].dtype
    return onnx_side.run(drawn.op.__name__, operands_in_order(drawn), [result], **attributes_of(drawn))[0]


def compared(tally: Tally, refusals: Tally, op: type, seed: int) -> Iterator[Drawn]:
    """Draw the cases that can be compared, and check the others."""
    for index in range(CASES[op.__name__]):
        drawn = draw_quantized(op, seed, index)
        reason = excluded_quantized(drawn)
        if reason is None:
            yield drawn
        else:
            tally.outside[reason] += 1
            if reason != CROPPED:
                refusals.check(drawn, reason, lambda drawn=drawn, reason=reason: check_exclusion(drawn, reason))
    assert tally.compared >= 3 * CASES[op.__name__] // 4


def types_of(drawn: Drawn) -> str:
    return " ".join(drawn.operands[name].dtype.name for name in ("input", "weight"))


INEXACT = "ONNX Runtime's own sums of these types are not exact on this processor"
INEXACT_TYPES = {ConvInteger: "int8 uint8", QLinearConv: "uint8 int8"}
"""Of input and weight, for which that was seen on a processor with AVX2 and without VNNI; no others are excused."""


def exact_sums(drawn: Drawn) -> Array:
    """The sums of products in the layout of the case, by independent loops over Python's integers."""
    names = ("input", "weight", "input_zero_point", "weight_zero_point")
    operands = [drawn.operands.get(name, np.zeros(())) for name in names]
    given = {
        name: value for name, value in drawn.parameters.items() if name in {"stride", "padding", "dilation", "groups"}
    }
    sums = quantized.accumulated(*operands, data_format="channels_first", **given)
    return np.moveaxis(sums, -1, 1).astype(np.int64)


def test_conv_integer(seed: int, finish: Callable[..., None]) -> None:
    """convpool's sums are exact in every case; ONNX Runtime's are, but for one pair of types."""
    tally, refusals = Tally("ConvInteger, ONNX Runtime"), Tally("ConvInteger, refused")
    for drawn in compared(tally, refusals, ConvInteger, seed):
        exact = exact_sums(drawn).astype(np.int32)  # none of these reaches 32 bits
        tally.check(drawn, types_of(drawn), lambda: np.testing.assert_array_equal(run_op(drawn), exact, strict=True))  # noqa: B023
        peer = run_peer(drawn)
        if np.array_equal(peer, exact):
            continue
        if types_of(drawn) == INEXACT_TYPES[ConvInteger]:
            tally.outside[INEXACT] += 1
        else:
            tally.failures.append(f"ONNX Runtime is not exact\n    {drawn}")
    finish(tally, refusals, int8_int8=60, int8_uint8=60, uint8_int8=60, uint8_uint8=60)


def scaled_sums(drawn: Drawn) -> Array:
    """The exact sums, scaled in float64, before they are rounded."""
    operands = drawn.operands
    sums = exact_sums(drawn).astype(np.float64)
    by_filter = (-1, *[1] * drawn.rank)
    sums += operands.get("bias", np.zeros(1)).reshape(by_filter)
    scales = [operands[name].astype(np.float64) for name in ("input_scale", "weight_scale", "output_scale")]
    return sums * (scales[0] * scales[1].reshape(by_filter) / scales[2])


def test_qlinear_conv(seed: int, finish: Callable[..., None]) -> None:
    """The results are the same; but next to half-way between integers, where float32 rounds, they differ by one."""
    tally, refusals = Tally("QLinearConv, ONNX Runtime"), Tally("QLinearConv, refused")
    elements = by_one = half_way = 0
    for drawn in compared(tally, refusals, QLinearConv, seed):
        sums = scaled_sums(drawn)
        from_half = np.abs(sums - np.floor(sums) - 0.5)

        def comparison(drawn: Drawn = drawn, sums: Array = sums, from_half: Array = from_half) -> None:
            nonlocal by_one
            actual, expected = run_op(drawn), run_peer(drawn)
            limits = np.iinfo(actual.dtype)
            in_float64 = np.clip(np.rint(sums) + drawn.operands["output_zero_point"], limits.min, limits.max)
            sure = (from_half == 0) | (from_half > 1e-12 * np.maximum(1, np.abs(sums)))
            np.testing.assert_array_equal(actual[sure], in_float64[sure])
            assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
            apart = np.abs(actual.astype(int) - expected)
            if apart.max() > 1 and types_of(drawn) == INEXACT_TYPES[QLinearConv]:
                tally.outside[INEXACT] += 1
                return
            # three roundings to float32: of the product and the quotient of the scales, and of the scaled sum
            assert not apart[from_half > 4 * 2.0**-24 * np.maximum(1, np.abs(sums))].any(), "apart, not next to a half"
            assert apart.max() <= 1
            by_one += int(apart.sum())

        elements, half_way = elements + sums.size, half_way + int(np.sum(from_half == 0))
        tally.check(drawn, types_of(drawn), comparison)
    tally.title += f", {elements} elements, {half_way} of them half-way between integers, {by_one} differ by one"
    finish(tally, refusals, int8_int8=100, uint8_int8=100, uint8_uint8=100)
    assert half_way >= elements // 100
    assert by_one <= elements // 20
