"""docs/golden-cases.md says enough to draw the same cases: here it is done again from its text, for convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.cases.call import draw_layer
from tests.service.cases.oracles import call_of, cases_of
from tests.service.cases.test_streams import documented

SEED = 77


class Words:
    """The choices of a case, as the page has them."""

    def __init__(self, case: int) -> None:
        self._words: Iterator[int] = iter(documented(SEED, case, "layer", 4000))

    def between(self, low: int, high: int) -> int:
        return low if low == high else low + next(self._words) % (high - low + 1)

    def of(self, *candidates: Any) -> Any:
        return candidates[self.between(0, len(candidates) - 1)]

    def each(self, rank: int, *candidates: Any) -> tuple[Any, ...]:
        return tuple(self.of(*candidates) for _ in range(rank))


def drawn_convolution(words: Words) -> dict[str, Any]:
    """One try for a convolution of which everything is open."""
    rank = words.of(1, 2, 3)
    stride = words.each(rank, 1, 1, 2, 3)
    padding: Any = words.of("valid", "same", "same_lower", "number", "axes", "sides", "sides")
    if padding == "number":
        padding = words.of(0, 1, 1, 2)
    elif padding == "axes":
        padding = words.each(rank, 0, 1, 1, 2)
    elif padding == "sides":
        padding = tuple(words.each(2, 0, 1, 1, 2) for _ in range(rank))
    dilation = words.each(rank, 1, 1, 2, 3)
    groups = words.of(1, 1, 2, 3)
    mode = words.of("zeros", "zeros", "reflect", "replicate", "circular")
    batch = words.between(1, 3)
    kernel = tuple(words.between(1, {1: 5, 2: 4, 3: 3}[rank]) for _ in range(rank))
    group_channels, features = words.between(1, 3), groups * words.between(1, 3)
    sizes = []
    for axis in range(rank):
        if padding in ("same", "same_lower"):
            low = 2
        else:
            before, after = sides(padding, axis)
            source = {"reflect": max(before, after) + 1, "circular": max(before, after)}.get(mode, 1)
            low = max(1, (kernel[axis] - 1) * dilation[axis] + 1 - before - after, source)
        sizes.append(words.between(low, low + {1: 9, 2: 6, 3: 3}[rank]))
    shapes = {"input": (batch, *sizes, groups * group_channels), "weight": (*kernel, group_channels, features)}
    if words.of(True, True, True, False):
        shapes["bias"] = (features,)
    return {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
        "shapes": shapes,
    }


def sides(padding: Any, axis: int) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    entry = padding if isinstance(padding, int) else padding[axis]
    return entry if isinstance(entry, tuple) else (entry, entry)


def is_valid(layer: dict[str, Any]) -> bool:
    """Whether reflected or circular padding has elements to copy; everything else is valid as it is drawn."""
    if layer["padding_mode"] not in ("reflect", "circular") or layer["padding"] not in ("same", "same_lower"):
        return True
    spatial, kernel = layer["shapes"]["input"][1:-1], layer["shapes"]["weight"][:-2]
    for axis, size in enumerate(spatial):
        stride, extent = layer["stride"][axis], (kernel[axis] - 1) * layer["dilation"][axis] + 1
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        if total - total // 2 > size - (layer["padding_mode"] == "reflect"):
            return False
    return True


def test_layers_can_be_drawn_again_from_the_page() -> None:
    call = call_of("conv", seed=SEED, count=60)
    repeated = 0
    for number in range(call.count):
        words = Words(number)
        while not is_valid(again := drawn_convolution(words)):
            repeated += 1
        layer = draw_layer(call, number)
        drawn = {name: getattr(layer.op, name) for name in again if name != "shapes"}
        assert {**drawn, "shapes": layer.shapes} == again
    assert repeated > 0


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 10), ("float32", 23), ("float64", 26)])
def test_elements_can_be_drawn_again_from_the_page(dtype: str, bits: int) -> None:
    shapes = {"input": [1, 1, 1], "weight": [1, 1, 1], "bias": None}
    (case,) = cases_of(call_of("conv", seed=SEED, count=1, parameters={}, shapes=shapes, dtype=dtype))
    for name, array in case.operands.items():
        expected = [((word >> (63 - bits)) - 2**bits) / 2**bits for word in documented(SEED, 0, name, array.size)]
        np.testing.assert_array_equal(array.ravel(), np.array(expected, dtype))


def test_integers_can_be_drawn_again_from_the_page() -> None:
    parameters = {"mode": "avg", "kernel_size": 3}
    content: dict[str, Any] = {"parameters": parameters, "shapes": {"input": [1, 9, 9, 2]}, "dtype": "float16"}
    (case,) = cases_of(call_of("pool", seed=SEED, count=1, kind="integers", **content))
    largest = min(8, 2**11 // (10 * 9))  # 9 taps and the division; 9 divides
    for name, array in case.operands.items():
        expected = [9 * (word % (2 * largest + 1) - largest) for word in documented(SEED, 0, name, array.size)]
        assert array.ravel().tolist() == expected
