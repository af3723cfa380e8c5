"""Transposed convolution and patches with JAX's defaults against JAX in float64, forward and the vector products back.

``draw_transposed(seed, index)`` and ``draw_patches(seed, index)`` draw a case again. JAX compiles each new shape, so
that these are fewer cases than of other frameworks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest

from cnn_core import ConvTranspose, Unfold
from tests.peers.cases import Array, draw_per_axis, draw_windows, per_axis, resolve_padding
from tests.peers.drawn import Drawn, compute, generator, grad_output_for
from tests.peers.tally import Tally

BOUND = 1e-10
CASES = {"conv_transpose": 150, "patches": 60}
LAYOUTS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NHWDC", "HWDIO", "NHWDC")}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def draw_transposed(seed: int, index: int) -> Drawn:
    """Draw a transposed convolution, a third of them with strides above the kernel: the same for the same arguments."""
    random = generator("jax conv_transpose", seed, index)
    rank = 1 + index % 3
    parameters: dict[str, Any] = {"framework": "jax"}
    kernel = draw_per_axis(random, {}, "kernel_size", rank, 1, 3, given=True)
    stride = draw_per_axis(random, parameters, "stride", rank, 1, 5, default=[1] * rank)
    dilation = draw_per_axis(random, parameters, "dilation", rank, 1, 2, default=[1] * rank)
    spatial = [int(size) for size in random.integers(1, {1: 8, 2: 4, 3: 3}[rank] + 1, size=rank)]
    how = random.choice(["valid", "same", "explicit"])
    if how == "explicit":
        spans = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(spatial, kernel, stride, dilation, strict=True)]
        parameters["padding"] = [
            [int(side) for side in random.integers(0, 1 + min(3, (span - 1) // 2), size=2)] for span in spans
        ]
    elif how == "same" or random.random() < 0.5:
        parameters["padding"] = str(how)
    channels_in, channels_out = (int(channels) for channels in random.integers(1, 4, size=2))
    operands = {
        "input": random.standard_normal((int(random.integers(1, 3)), *spatial, channels_in)),
        "weight": random.standard_normal((*kernel, channels_out, channels_in)),
    }
    return Drawn("jax conv_transpose", seed, index, ConvTranspose, parameters, operands)


def transposed_by_jax(drawn: Drawn) -> Callable[..., Any]:
    parameters, rank = drawn.parameters, drawn.rank
    stride, dilation = (per_axis(parameters.get(name, 1), rank) for name in ("stride", "dilation"))
    padding = parameters.get("padding", "valid")
    padding = padding.upper() if isinstance(padding, str) else [tuple(sides) for sides in padding]
    return functools.partial(
        jax.lax.conv_transpose,
        strides=stride,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=LAYOUTS[rank],
        transpose_kernel=True,
        use_consistent_padding=True,
    )


def differentiate(function: Callable[..., Any], operands: dict[str, Array], grad_output: Array) -> dict[str, Array]:
    arrays = list(map(np.ascontiguousarray, operands.values()))
    shape = jax.eval_shape(function, *arrays).shape
    assert shape == grad_output.shape, f"the output has shape {grad_output.shape}, the peer's has {shape}"

    def both(grad_output: Any, *arrays: Any) -> tuple[Any, ...]:
        output, pull_back = jax.vjp(function, *arrays)
        return output, *pull_back(grad_output)

    # compiled as one, and without optimization: that takes most of the time
    compiled = jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})
    output, *gradients = compiled(np.ascontiguousarray(grad_output), *arrays)
    assert output.dtype == np.float64
    return {"output": np.asarray(output)} | {
        f"grad_{name}": np.asarray(gradient) for name, gradient in zip(operands, gradients, strict=True)
    }


def compare(tally: Tally, drawn: Drawn, function: Callable[..., Any]) -> None:
    grad_output = grad_output_for(drawn)
    actual = compute(drawn, grad_output)
    for name, expected in differentiate(function, drawn.operands, grad_output).items():
        tally.close(name, actual[name], expected, BOUND)


def test_conv_transpose(seed: int, finish: Callable[..., None]) -> None:
    tally = Tally("conv_transpose, JAX, float64")
    above = 0
    for index in range(CASES["conv_transpose"]):
        drawn = draw_transposed(seed, index)
        kernel, rank = drawn.operands["weight"].shape[:-2], drawn.rank
        stride, dilation = (per_axis(drawn.parameters.get(name, 1), rank) for name in ("stride", "dilation"))
        above += any(s > (k - 1) * d + 1 for k, s, d in zip(kernel, stride, dilation, strict=True))
        padding = drawn.parameters.get("padding", "valid")
        kind = padding if isinstance(padding, str) else "explicit"
        tally.check(drawn, kind, lambda drawn=drawn: compare(tally, drawn, transposed_by_jax(drawn)))
    tally.title += f", {above} with a stride above the extent of a window"
    finish(tally, valid=30, same=30, explicit=30)
    assert above >= CASES["conv_transpose"] // 4


def draw_patches(seed: int, index: int) -> Drawn | None:
    """Draw an unfolding; None where no window fits, which in JAX is a matrix without columns."""
    random = generator("jax patches", seed, index)
    rank = 1 + index % 3
    parameters, spatial, kernel = draw_windows(random, rank, False, largest_dilation=2)
    parameters = {"framework": "jax"} | {name: one for name, one in parameters.items() if name != "data_format"}
    dilation = per_axis(parameters.get("dilation", 1), rank)
    for axis, (n, k, d) in enumerate(zip(spatial, kernel, dilation, strict=True)):
        padding = parameters.get("padding", 0)
        if not isinstance(padding, str) and n + sum(resolve_padding(padding, axis, n, k, 1, d)) < (k - 1) * d + 1:
            return None
        if padding == "valid" and n < (k - 1) * d + 1:
            return None
    shape = (int(random.integers(1, 3)), int(random.integers(1, 4)), *spatial)
    return Drawn("jax patches", seed, index, Unfold, parameters, {"input": random.standard_normal(shape)})


def patches_by_jax(drawn: Drawn) -> Callable[..., Any]:
    parameters, rank = drawn.parameters, drawn.rank
    kernel, stride, dilation = (
        per_axis(parameters.get(name, 1), rank) for name in ("kernel_size", "stride", "dilation")
    )
    padding = parameters.get("padding", 0)
    if isinstance(padding, str):
        padding = padding.upper()
    else:
        padding = [resolve_padding(padding, axis, 1, 1, 1, 1) for axis in range(rank)]

    def patches(input: Any) -> Any:
        output = jax.lax.conv_general_dilated_patches(input, kernel, stride, padding, rhs_dilation=dilation)
        return output.reshape(*output.shape[:2], -1)

    return patches


def test_patches(seed: int, finish: Callable[..., None]) -> None:
    """The gradient is the fold of grad_output."""
    tally = Tally("unfold, JAX's patches, float64")
    for index in range(CASES["patches"]):
        drawn = draw_patches(seed, index)
        if drawn is None:
            tally.outside["no window fits"] += 1
            continue
        tally.check(drawn, f"{drawn.rank}-d", lambda drawn=drawn: compare(tally, drawn, patches_by_jax(drawn)))
    finish(tally)
    assert min(tally.counts[f"{rank}-d"] for rank in (1, 2, 3)) >= CASES["patches"] // 4
