"""Random transposed convolutions, their geometry by the rules of the documentation, and PyTorch's results."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor

from cnn_core import ConvpoolError, ConvTranspose, ParameterError, ShapeError
from tests.peers.cases import (
    AxisSizes,
    draw_batch,
    draw_memory,
    draw_padding,
    draw_per_axis,
    in_memory,
    per_axis,
    resolve_padding,
)
from tests.peers.drawn import Drawn, generator
from tests.peers.torch_side import in_order, leaf, pad

MAX_SIZE = {1: 10, 2: 5, 3: 3}
MAX_KERNEL = {1: 6, 2: 4, 3: 3}


@dataclasses.dataclass(frozen=True)
class Axis(AxisSizes):
    """One axis of a transposed convolution: what the windows of all elements span, and what of it is the output."""

    @property
    def span(self) -> int:
        return (self.size - 1) * self.stride + self.extent

    @property
    def output_padding(self) -> int:
        return self.output - (self.span - self.before - self.after)


def draw(seed: int, index: int) -> Drawn:
    """Draw a transposed convolution, valid or not: the same for the same arguments."""
    random = generator("conv_transpose", seed, index)
    rank = 1 + index % 3
    parameters: dict[str, Any] = {}
    if random.random() < 0.15:
        parameters["framework"] = str(random.choice(["torch", "tensorflow", "jax"]))
    elif random.random() < 0.5:
        parameters["data_format"] = str(random.choice(["channels_first", "channels_first", "channels_last"]))
    kernel = draw_per_axis(random, {}, "kernel_size", rank, 1, MAX_KERNEL[rank], given=True)
    stride = draw_per_axis(random, parameters, "stride", rank, 1, 5, default=[1] * rank)
    dilation = draw_per_axis(random, parameters, "dilation", rank, 1, 3, default=[1] * rank)
    padding = draw_padding(random, rank)
    if padding != 0 or random.random() < 0.5:
        parameters["padding"] = padding
    groups = int(random.choice([1, 1, 2, 3]))
    if groups > 1 or random.random() < 0.3:
        parameters["groups"] = groups
    per_group, multiplier = (int(channels) for channels in random.integers(1, 4, size=2))
    spatial = []
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        cut = 0 if isinstance(padding, str) else sum(resolve_padding(padding, axis, 1, k, s, d))
        # the least size with an output, but now and then less
        least = max(1, 1 + math.ceil((1 + cut - (k - 1) * d - 1) / s)) if random.random() < 0.97 else 1
        spatial.append(least + int(random.integers(0, MAX_SIZE[rank])))
    _draw_size(random, parameters, spatial, kernel, stride, dilation)
    first = parameters.get("data_format") == "channels_first" or parameters.get("framework") == "torch"
    channels_in, channels_out, batch = groups * multiplier, groups * per_group, draw_batch(random)
    shapes: dict[str, tuple[int, ...]] = {
        "input": (batch, channels_in, *spatial) if first else (batch, *spatial, channels_in),
        "weight": (channels_in, per_group, *kernel) if first else (*kernel, per_group, channels_in),
    }
    if random.random() < 0.6:
        flat = first or random.random() < 0.6
        shapes["bias"] = (channels_out,) if flat else (*[1] * (rank + 1), channels_out)
    memory = draw_memory(random)
    operands = {name: in_memory(random.standard_normal(shape), memory) for name, shape in shapes.items()}
    return Drawn("conv_transpose", seed, index, ConvTranspose, parameters, operands)


def _draw_size(
    random: np.random.Generator,
    parameters: dict[str, Any],
    spatial: list[int],
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
) -> None:
    """Draw output_padding or output_size: now and then one that is out of its limits."""
    padding = parameters.get("padding", 0)
    beyond = int(random.random() < 0.04)
    how = random.choice(["none", "output_padding", "output_padding", "output_size"])
    limits = [max(s, d) + beyond for s, d in zip(stride, dilation, strict=True)]
    chosen = [int(random.integers(0, limit)) for limit in limits]
    counts = padding not in ("same", "same_lower") or parameters.get("framework") == "tensorflow"
    if how == "output_padding" and (counts or beyond):
        if random.random() < 0.3:
            parameters["output_padding"] = min(chosen)
        else:
            parameters["output_padding"] = tuple(chosen) if random.random() < 0.5 else chosen
    elif how == "output_size":
        sizes = []
        for axis, (n, k, s, d) in enumerate(zip(spatial, kernel, stride, dilation, strict=True)):
            if padding in ("same", "same_lower"):
                sizes.append((n - 1) * s + 1 + int(random.integers(0, s + beyond)))
            else:
                cut = sum(resolve_padding(padding, axis, n, k, s, d))
                sizes.append((n - 1) * s + (k - 1) * d + 1 - cut + chosen[axis])
        if min(sizes) >= 1:
            parameters["output_size"] = sizes[0] if len(set(sizes)) == 1 and random.random() < 0.5 else sizes


def axes(drawn: Drawn) -> list[Axis]:
    parameters, rank = drawn.parameters, drawn.rank
    shape = drawn.operands["weight"].shape
    kernel = shape[2:] if drawn.channels_first else shape[:-2]
    stride, dilation = (per_axis(parameters.get(name, 1), rank) for name in ("stride", "dilation"))
    wanted = parameters.get("output_size")
    whole = [None] * rank if wanted is None else per_axis(wanted, rank)
    # These two's own default is to bring each window's part up to the stride; JAX's only where no numbers are given.
    in_words = isinstance(parameters.get("padding", "valid"), str)
    up_to_stride = parameters.get("framework") in ({"tensorflow", "jax"} if in_words else {"tensorflow"})
    resolved = []
    for axis, (n, k, s, d, size) in enumerate(zip(drawn.spatial, kernel, stride, dilation, whole, strict=True)):
        extent, padding = (k - 1) * d + 1, parameters.get("padding", 0)
        if padding in ("same", "same_lower"):
            output = n * s if size is None else size
            if size is None and _adds_to_same(parameters):
                output = (n - 1) * s + extent % 2 + per_axis(parameters["output_padding"], rank)[axis]
            total = max(0, (n - 1) * s + extent - output)
            before = total // 2 if padding == "same" else total - total // 2
            after = total - before
        else:
            before, after = resolve_padding(padding, axis, n, k, s, d)
            more = per_axis(parameters.get("output_padding", 0), rank)[axis]
            if up_to_stride and "output_padding" not in parameters:
                more = max(0, s - extent)
            output = (n - 1) * s + extent - before - after + more if size is None else size
        resolved.append(Axis(n, k, s, d, before, after, output))
    return resolved


def _adds_to_same(parameters: dict[str, Any]) -> bool:
    """Whether a given output_padding sets the size of same padding, which it does in Keras."""
    return parameters.get("framework") == "tensorflow" and "output_padding" in parameters


def refused(drawn: Drawn) -> dict[str, type[ConvpoolError]]:
    """Why the documentation calls this an error, and which one each reason is; empty for a valid case."""
    geometry, parameters = axes(drawn), drawn.parameters
    is_same = parameters.get("padding") in ("same", "same_lower")
    reasons: dict[str, type[ConvpoolError]] = {}
    if is_same and np.any(np.asarray(parameters.get("output_padding", 0)) != 0) and not _adds_to_same(parameters):
        reasons["output_padding with same padding"] = ParameterError
    if not is_same and any(not 0 <= axis.output_padding < max(axis.stride, axis.dilation) for axis in geometry):
        reasons["output_padding, given or implied, beyond its limit"] = ParameterError
    if is_same and any(math.ceil(axis.output / axis.stride) != axis.size for axis in geometry):
        reasons["a size that same padding cannot have"] = ParameterError
    if any(axis.output < 1 for axis in geometry):
        reasons["the padding takes away all of the output"] = ShapeError
    return reasons


def is_native(drawn: Drawn) -> bool:
    """Whether PyTorch's own arguments express the case."""
    return all(
        axis.before == axis.after and 0 <= axis.output_padding < max(axis.stride, axis.dilation) for axis in axes(drawn)
    )


def leaves(drawn: Drawn) -> dict[str, Tensor]:
    return {name: leaf(operand) for name, operand in drawn.operands.items()}


def forward(drawn: Drawn, tensors: dict[str, Tensor], native: bool) -> Tensor:
    """Compute the output in the layout of the case, by PyTorch's arguments or by cropping the whole."""
    geometry = axes(drawn)
    input, weight = tensors["input"], tensors["weight"]
    if not drawn.channels_first:
        input, weight = in_order(input.movedim(-1, 1)), in_order(weight.movedim((-1, -2), (0, 1)))
    bias = tensors["bias"].reshape(-1) if "bias" in tensors else None
    common: dict[str, Any] = {
        "stride": [axis.stride for axis in geometry],
        "dilation": [axis.dilation for axis in geometry],
        "groups": drawn.parameters.get("groups", 1),
    }
    function = getattr(F, f"conv_transpose{drawn.rank}d")
    if native:
        common["padding"] = [axis.before for axis in geometry]
        output = function(input, weight, bias, **common, output_padding=[axis.output_padding for axis in geometry])
        _check_module(drawn, geometry, input, weight, output, common, bias)
    else:
        # negative padding crops; what is missing at the end is out of every window's reach
        sides = [(-axis.before, axis.output + axis.before - axis.span) for axis in geometry]
        output = pad(function(input, weight, None, **common), sides)
        if bias is not None:
            output = output + bias.reshape(-1, *[1] * drawn.rank)
    return output if drawn.channels_first else output.movedim(1, -1)


def _check_module(
    drawn: Drawn,
    geometry: list[Axis],
    input: Tensor,
    weight: Tensor,
    output: Tensor,
    common: dict[str, Any],
    bias: Tensor | None,
) -> None:
    """Where PyTorch's module takes the output_size of the case, what it finds output_padding to be is the same."""
    if "output_size" not in drawn.parameters or any(axis.output_padding >= axis.stride for axis in geometry):
        return
    module = getattr(torch.nn, f"ConvTranspose{drawn.rank}d")(
        weight.shape[0],
        weight.shape[1] * common["groups"],
        [axis.kernel for axis in geometry],
        **common,
        bias=bias is not None,
        dtype=torch.float64,
    )
    with torch.no_grad():
        module.weight.copy_(weight)
        if bias is not None:
            module.bias.copy_(bias)
        by_module = module(input, output_size=[axis.output for axis in geometry])
    torch.testing.assert_close(by_module, output.detach(), rtol=1e-12, atol=1e-12)
