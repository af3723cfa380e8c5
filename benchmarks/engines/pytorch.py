"""PyTorch, in both layouts in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from benchmarks.engines.computation import Computation
from benchmarks.suite import Layer

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVG_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def version() -> str:
    return f"PyTorch {torch.__version__}"


def set_threads(threads: int) -> None:
    torch.set_num_threads(threads)


def build(layer: Layer, operands: dict[str, Any]) -> list[Computation]:
    """Return a computation for each layout that PyTorch has for so many axes."""
    formats = {1: [torch.contiguous_format], 2: [torch.contiguous_format, torch.channels_last]}
    formats[3] = [torch.contiguous_format, torch.channels_last_3d]
    return [_in_format(layer, operands, order) for order in formats[len(layer.kernel)]]


def _in_format(layer: Layer, operands: dict[str, Any], order: torch.memory_format) -> Computation:
    rank = len(layer.kernel)

    def first(name: str) -> torch.Tensor:
        return torch.from_numpy(operands[name]).movedim(-1, 1).contiguous(memory_format=order)

    input, gradient = first("input").requires_grad_(), first("grad_output")
    leaves = [input]
    if layer.kind == "conv":
        weight = torch.from_numpy(operands["weight"]).permute(rank + 1, rank, *range(rank))
        weight = weight.contiguous(memory_format=order).requires_grad_()
        bias = torch.from_numpy(operands["bias"]).requires_grad_()
        leaves += [weight, bias]

        def forward() -> torch.Tensor:
            return CONVOLUTIONS[rank](input, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    elif layer.kind == "max":

        def forward() -> torch.Tensor:
            return MAX_POOLS[rank](input, layer.kernel, layer.stride, layer.padding)
    else:

        def forward() -> torch.Tensor:
            return AVG_POOLS[rank](input, layer.kernel, layer.stride, layer.padding)

    def infer() -> torch.Tensor:
        with torch.inference_mode():
            return forward()

    def backward() -> tuple[Any, ...]:
        return torch.autograd.grad(forward(), leaves, gradient)

    output = forward()

    def backward_alone() -> tuple[Any, ...]:
        return torch.autograd.grad(output, leaves, gradient, retain_graph=True)

    layout = "NCHW" if order == torch.contiguous_format else "NHWC"
    if layer.kind == "conv":  # whose backward takes nothing from forward but the operands
        return Computation(layout, infer, backward_alone)
    return Computation(layout, infer, backward, backward_alone)
