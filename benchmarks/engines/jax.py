"""JAX on the CPU, compiled, channels-last."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import lax

from benchmarks.engines.computation import Computation
from benchmarks.suite import Layer

LAYOUTS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def version() -> str:
    return f"JAX {jax.__version__}"


def build(layer: Layer, operands: dict[str, Any]) -> list[Computation]:
    rank = len(layer.kernel)
    strides, padding = (layer.stride,) * rank, ((layer.padding, layer.padding),) * rank
    names = ["input", "weight", "bias"] if layer.kind == "conv" else ["input"]

    def compute(input: Any, *rest: Any) -> Any:
        if layer.kind == "conv":
            weight, bias = rest
            product = lax.conv_general_dilated(
                input,
                weight,
                strides,
                padding,
                rhs_dilation=(layer.dilation,) * rank,
                dimension_numbers=LAYOUTS[rank],
                feature_group_count=layer.groups,
            )
            return product + bias
        pool = linen.max_pool if layer.kind == "max" else linen.avg_pool
        return pool(input, layer.kernel, strides, padding)

    jax.config.update("jax_enable_x64", layer.dtype == "float64")
    arrays = [jnp.asarray(operands[name]) for name in names]
    gradient = jnp.asarray(operands["grad_output"])
    forward = jax.jit(compute)
    # compiled from the operands: it finds maxima itself, and leaves out of forward what no gradient needs
    backward = jax.jit(lambda gradient, *arrays: jax.vjp(compute, *arrays)[1](gradient))
    return [
        Computation(
            "NHWC",
            lambda: forward(*arrays).block_until_ready(),
            lambda: jax.block_until_ready(backward(gradient, *arrays)),
        )
    ]
