"""Pooling and unpooling with ONNX's defaults against ONNX Runtime, over random combinations of the parameters.

``draw(name, seed, index)`` draws the windows of a case again. What ONNX Runtime refuses, or is known to compute in
another way, is told by the geometry and counted; where it is an error, it is run to see that it is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnn_core import LpPool, MaxPool, MaxUnpool, ShapeError
from tests.peers import onnx_side
from tests.peers.cases import Array, Axis, draw_per_axis, draw_values, draw_windows, resolve_padding
from tests.peers.drawn import Drawn, generator
from tests.peers.tally import Tally

BOUND = 1e-5  # of max|a - b| / max|b|, in float32
TOO_LARGE = "a window larger than the padded input, an error of cnn_core"
CASES = {"LpPool": 1000, "MaxPool": 1200, "MaxUnpool": 600}


def draw(op: type, seed: int, index: int) -> tuple[Drawn, list[int], list[Axis]]:
    """Draw a pooling with ONNX's defaults, its kernel, and its windows."""
    random = generator(f"onnx {op.__name__}", seed, index)
    rank = 1 + index % 3
    parameters, spatial, kernel = draw_windows(random, rank, bool(random.random() < 0.05), largest_dilation=3)
    parameters.pop("data_format", None)
    if random.random() < 0.9:
        spatial = within_limits(parameters, spatial, kernel)
    if random.random() < 0.4:
        parameters["ceil_mode"] = bool(random.random() < 0.8)
    shape = (int(random.integers(1, 4)), int(random.integers(1, 5)), *spatial)
    if op is LpPool:
        input = random.standard_normal(shape).astype(np.float32)
        if random.random() < 0.7:
            parameters["norm_type"] = int(random.choice([1, 2, 3, 7]))
    else:
        kind = str(random.choice(["normal", "integers", "equal", "with -inf", "only -inf"]))
        dtype = random.choice(["float32", "float64", "int8", "uint8"]) if kind in ("integers", "equal") else "float32"
        input = draw_values(random, shape, kind)
        input = (input + 2 if dtype == "uint8" else input).astype(str(dtype))
        parameters["return_indices"] = True
        if random.random() < 0.7:
            parameters["storage_order"] = str(random.choice(["row_major", "column_major"]))
    drawn = Drawn(f"onnx {op.__name__}", seed, index, op, {"framework": "onnx", **parameters}, {"input": input})
    return drawn, kernel, onnx_side.geometry(parameters, spatial, kernel)


def within_limits(parameters: dict[str, Any], spatial: list[int], kernel: list[int]) -> list[int]:
    """Bring padding below the kernel's size, with elements in its place, and take dilation from same padding."""
    padding = parameters.get("padding", 0)
    if padding in ("same", "same_lower"):
        parameters.pop("dilation", None)
    if isinstance(padding, str):
        return spatial
    sides = [resolve_padding(padding, axis, 1, 1, 1, 1) for axis in range(len(kernel))]
    less = [tuple(min(side, k - 1) for side in both) for both, k in zip(sides, kernel, strict=True)]
    if less != sides:
        parameters["padding"] = less
    return [n + sum(both) - sum(fewer) for n, both, fewer in zip(spatial, sides, less, strict=True)]


def attributes_of(drawn: Drawn, kernel: list[int]) -> dict[str, Any]:
    attributes = onnx_side.window_attributes(drawn.parameters, drawn.rank) | {"kernel_shape": kernel}
    if "norm_type" in drawn.parameters:
        attributes["p"] = drawn.parameters["norm_type"]
    if "storage_order" in drawn.parameters:
        attributes["storage_order"] = int(drawn.parameters["storage_order"] == "column_major")
    return attributes


def excluded(drawn: Drawn, axes: list[Axis]) -> tuple[str, bool] | None:
    """Why ONNX Runtime cannot be compared with, and whether that is because it refuses the case."""
    is_same = drawn.parameters.get("padding") in ("same", "same_lower")
    if any(axis.output < 1 for axis in axes):
        return TOO_LARGE, False
    if is_same and any(axis.dilation > 1 for axis in axes):
        return "auto_pad=SAME_* leaves out the dilation", False
    if any(max(axis.before, axis.after) >= axis.kernel for axis in axes):
        return "padding of a whole kernel or more is refused", True
    if onnx_side.crops_start(drawn.parameters, axes):
        return "auto_pad=SAME_* crops the start where the stride exceeds the kernel", False
    if drawn.op is MaxPool and any(axis.has_window_without_taps for axis in axes):
        return "an error of cnn_core: a window without a tap in the input", False
    return None


def pool(drawn: Drawn, kernel: list[int]) -> list[Array]:
    results = [drawn.operands["input"].dtype, np.int64][: 1 + (drawn.op is MaxPool)]
    return onnx_side.run(drawn.op.__name__, [drawn.operands["input"]], results, **attributes_of(drawn, kernel))


@pytest.mark.parametrize("op", [LpPool, MaxPool])
def test_pooling(op: type, seed: int, finish: Callable[..., None]) -> None:
    tally, refusals = Tally(f"{op.__name__}, ONNX Runtime"), Tally(f"{op.__name__}, refused by ONNX Runtime")
    for index in range(CASES[op.__name__]):
        drawn, kernel, axes = draw(op, seed, index)
        reason = excluded(drawn, axes)
        if reason is not None:
            tally.outside[reason[0]] += 1
            if reason[1]:

                def refusal(drawn: Drawn = drawn, kernel: list[int] = kernel) -> None:
                    with pytest.raises(onnx_side.REFUSAL):
                        pool(drawn, kernel)

                refusals.check(drawn, reason[0], refusal)
            if reason[0] == TOO_LARGE:

                def larger(drawn: Drawn = drawn, kernel: list[int] = kernel, axes: list[Axis] = axes) -> None:
                    check_too_large(drawn, kernel, axes)

                refusals.check(drawn, reason[0], larger)
            continue

        def comparison(drawn: Drawn = drawn, kernel: list[int] = kernel) -> None:
            actual = op(**drawn.parameters).forward(drawn.operands["input"])
            expected = pool(drawn, kernel)
            if op is MaxPool:
                tally.close("output", actual.output, expected[0], 0.0)
                np.testing.assert_array_equal(actual.indices, expected[1], strict=True)
            else:
                assert actual.dtype == np.float32
                tally.close("output", actual, expected[0], BOUND)

        padded = any(axis.before or axis.after for axis in axes)
        tally.check(drawn, "padded" if padded else "unpadded", comparison)
    finish(tally, refusals, padded=CASES[op.__name__] // 4, unpadded=CASES[op.__name__] // 8)
    assert tally.outside.total() <= CASES[op.__name__] // 2


def check_too_large(drawn: Drawn, kernel: list[int], axes: list[Axis]) -> None:
    """An error of cnn_core; ONNX Runtime rounds the quotient towards zero, and then an output of no elements is one."""
    with pytest.raises(ShapeError):
        drawn.op(**drawn.parameters).forward(drawn.operands["input"])
    rooms = [(axis.before + axis.size + axis.after - axis.extent, axis.stride) for axis in axes]
    ceil_mode = drawn.parameters.get("ceil_mode", False)
    sizes = [1 + (math.ceil if ceil_mode else int)(room / stride) for room, stride in rooms]
    if min(sizes) < 0:
        with pytest.raises(onnx_side.REFUSAL):
            pool(drawn, kernel)
    else:
        assert pool(drawn, kernel)[0].shape[2:] == tuple(sizes)


def test_max_unpool(seed: int, finish: Callable[..., None]) -> None:
    """Indices count in the whole tensor: without output_size in the inferred one, with it alone in the wanted one."""
    tally = Tally("MaxUnpool, ONNX Runtime")
    for index in range(CASES["MaxUnpool"]):
        random = generator("onnx MaxUnpool", seed, index)
        rank = 1 + index % 3
        parameters: dict[str, Any] = {"framework": "onnx"}
        kernel = draw_per_axis(random, parameters, "kernel_size", rank, 1, 4, given=True)
        stride = draw_per_axis(random, parameters, "stride", rank, 1, 4, default=[1] * rank)
        spatial = [int(size) for size in random.integers(1, {1: 10, 2: 5, 3: 3}[rank] + 1, size=rank)]
        if random.random() < 0.5:
            parameters["padding"] = [[int(side) for side in random.integers(0, min(3, k), size=2)] for k in kernel]
        attributes = onnx_side.window_attributes(parameters, rank) | {"kernel_shape": kernel}
        cuts = [sum(sides) for sides in parameters.get("padding", [[0]] * rank)]
        sizes = [(n - 1) * s - cut + k for n, s, cut, k in zip(spatial, stride, cuts, kernel, strict=True)]
        if min(sizes) < 1:
            tally.outside["no element of output"] += 1
            continue
        wanted = None
        if random.random() < 0.3:  # without kernel_size, cnn_core's indices count as ONNX Runtime's
            sizes = [size + int(random.integers(0, 3)) for size in sizes]
            parameters = {"framework": "onnx", "output_size": sizes}
        shape = (int(random.integers(1, 4)), int(random.integers(1, 4)))
        wanted = np.array([*shape, *sizes]) if "output_size" in parameters else None
        input = random.standard_normal((*shape, *spatial)).astype(np.float32)
        elements, places = input.size, math.prod(shape) * math.prod(sizes)
        repeats = places < elements or random.random() < 0.3
        indices = random.choice(places, size=elements, replace=repeats).reshape(input.shape)
        drawn = Drawn("onnx MaxUnpool", seed, index, MaxUnpool, parameters, {"input": input, "indices": indices})

        def comparison(drawn: Drawn = drawn, wanted: Array | None = wanted, attributes: Any = attributes) -> None:
            operands = list(drawn.operands.values())
            actual = MaxUnpool(**drawn.parameters).forward(*operands)
            (expected,) = onnx_side.run("MaxUnpool", [*operands, wanted][: 2 + (wanted is not None)], **attributes)
            tally.close("output", actual, expected, 0.0)

        repeated = len(np.unique(indices)) < indices.size
        tally.check(drawn, ("inferred" if wanted is None else "wanted") + " with repeats" * repeated, comparison)
    finish(tally, inferred=150, wanted=70, inferred_with_repeats=50, wanted_with_repeats=20)
