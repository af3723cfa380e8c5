"""Random layers that are small, uneven in everything, and full of overlap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.mistakes.layers import AnyArray, Index, Layer, Wrong, read_windows

Random = np.random.Generator
Accept = Callable[[Layer], bool]


def choose(random: Random, *values: Any) -> Any:
    return values[int(random.random() * len(values))]


def whole(random: Random, low: int, high: int) -> int:
    return low + int(random.random() * (high - low + 1))


def per_axis(random: Random, rank: int, low: int, high: int) -> Index:
    return tuple(whole(random, low, high) for _ in range(rank))


def values_of(random: Random, kind: str, shape: Index) -> AnyArray:
    """Operands: what ties, what cancels, what is small."""
    normal = random.standard_normal(shape)
    if kind == "integers":
        return random.integers(-3, 4, shape).astype(np.float64)
    if kind == "ties":
        return random.integers(-1, 2, shape).astype(np.float64)
    if kind == "negative":
        return -np.abs(normal) - 0.1
    if kind == "offset":
        return normal + 1000.0
    if kind == "tiny":
        return normal * 1e-3
    return normal


def with_operands(layer: Layer, random: Random, kind: str = "normal", *, bias: bool = True) -> Layer:
    """Draw the operands of a layer; ``kind`` is that of its input."""
    input = values_of(random, kind, layer.activations(layer.sizes, layer.channels))
    operands: dict[str, AnyArray] = {"input": input}
    beside = kind if kind in {"integers", "tiny"} else "normal"
    if layer.name != "pool":
        operands["weight"] = values_of(random, beside, layer.kernel_shape())
        if bias:
            operands["bias"] = values_of(random, beside, (layer.features,)) + 1.0
    operands["grad_output"] = values_of(random, beside, layer.activations(layer.output, layer.features))
    return dataclasses.replace(layer, operands=operands)


def draw(random: Random, name: str, accept: Accept | None = None, **fixed: Any) -> Layer:
    """Draw layers until one is valid, small and accepted.

    ``fixed`` are fields of the layer, or its ``rank``: values, or functions that draw one.
    """
    for _ in range(20_000):
        fields = {field: value(random) if callable(value) else value for field, value in fixed.items()}
        layer = candidate(random, name, fields)
        output, most = layer.output, 48 if layer.rank == 3 else 30
        if min(output) < 1 or math.prod(output) > most or math.prod(layer.sizes) > 100:
            continue
        if name == "pool" and not every_window_has_an_element(layer):
            continue
        if name == "conv" and layer.padding_mode != "zeros":
            limit = 1 if layer.padding_mode == "reflect" else 0
            if any(max(pair) > n - limit for pair, n in zip(layer.padding, layer.sizes, strict=True)):
                continue
        if accept is None or accept(layer):
            return layer
    raise AssertionError(f"no layer of {name} with {fixed} is accepted")


def candidate(random: Random, name: str, fixed: dict[str, Any]) -> Layer:
    rank = fixed.pop("rank", None) or choose(random, 1, 2, 2, 2, 2, 3)
    groups = fixed.get("groups") or choose(random, 1, 1, 1, 2, 3)
    most = 2 if rank == 3 else 3
    low = 3 if rank == 3 else 4
    drawn: dict[str, Any] = {
        "layout": choose(random, "channels_last", "channels_first"),
        "images": whole(random, 2, 3),
        "sizes": per_axis(random, rank, low, 5 if rank == 3 else 8),
        "kernel": per_axis(random, rank, 1, most),
        "stride": per_axis(random, rank, 1, most),
        "dilation": choose(random, (1,) * rank, per_axis(random, rank, 1, 2)),
        "padding": tuple(zip(per_axis(random, rank, 0, 2), per_axis(random, rank, 0, 2), strict=True)),
        "groups": groups,
    }
    if name == "pool":
        drawn |= {"channels": whole(random, 1, 3), "groups": 1}
        fixed.setdefault("features", fixed.get("channels", drawn["channels"]))
    else:
        drawn |= {"channels": groups * whole(random, 1, 3), "features": groups * whole(random, 1, 3)}
        if name == "conv_transpose":
            drawn["sizes"] = per_axis(random, rank, 2, 2 if rank == 3 else 4)
            drawn["output_padding"] = tuple(
                choose(random, 0, 0, whole(random, 0, max(s, d) - 1))
                for s, d in zip(
                    fixed.get("stride", drawn["stride"]), fixed.get("dilation", drawn["dilation"]), strict=True
                )
            )
    return Layer(name=name, **{**drawn, **fixed})


def every_window_has_an_element(layer: Layer) -> bool:
    return all(any(tap is not None for tap in taps) for axis in read_windows(layer).effect() for taps in axis)


def uneven(layer: Layer) -> bool:
    """Kernels, strides and sizes that cannot be mistaken for each other."""
    return layer.rank > 1 and layer.stride[-1] != layer.stride[-2] and layer.sizes[-1] != layer.sizes[-2]


def overlapping(layer: Layer) -> bool:
    """Whether windows share elements, along every axis."""
    return all(
        s % d == 0 and s // d < k and n > 1
        for k, d, s, n in zip(layer.kernel, layer.dilation, layer.stride, layer.output, strict=True)
    )


def differs(layer: Layer, wrong: str, others: tuple[str, ...] = ()) -> bool:
    """Whether windows that are read wrongly read other elements than the right ones, and than those of the others."""
    effects = [read_windows(layer, names(one)).effect() for one in ("", *others)]
    return read_windows(layer, names(wrong)).effect() not in effects


def effect_of_backward(layer: Layer, wrong: str, late: Index = ()) -> tuple[Any, ...]:
    """The effect of a backward pass, whose windows are those of grad_output whatever it believes.

    ``late`` is by how many elements the padding is cut off too late: the gradient moves to the front.
    """
    windows = read_windows(layer, names(wrong))
    if late:
        windows = dataclasses.replace(windows, before=tuple(b + at for b, at in zip(windows.before, late, strict=True)))
    if layer.name == "conv_transpose":
        return dataclasses.replace(windows, sizes=layer.output).effect()
    return dataclasses.replace(windows, output=layer.output).effect()


def backward_differs(layer: Layer, wrong: str, others: tuple[str, ...] = (), late: Index = ()) -> bool:
    """Whether a backward pass hands to other elements than the right one, and than those of the others."""
    return effect_of_backward(layer, wrong, late) not in [effect_of_backward(layer, one) for one in ("", *others)]


def names(text: str) -> Wrong:
    """The mistakes in a text, between blanks."""
    return frozenset(text.split())
