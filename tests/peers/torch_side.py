"""The same operations written for PyTorch: with its own arguments where it has them, else as a composition.

Padding per side, padding beyond half of the kernel and dilated average pooling are not among the arguments of PyTorch's
poolings; explicit padding, cropping and, for averages, a depthwise convolution with a constant weight express them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor

from tests.peers.cases import Array, Axis, Case

# Finite stand-ins, so that padding with -inf is below every value and, where amax is to compare NaNs, NaN is above it.
MINUS_INFINITY, PLUS_INFINITY, NOT_A_NUMBER = -1e300, 1e299, 1e300


def evaluate(case: Case, operands: dict[str, Array], *, native: bool | None = None) -> dict[str, Array]:
    """Compute output and all gradients in float64, in the layout of the case.

    native=False takes the composition even where PyTorch's own arguments express the case.
    """
    native = is_native(case) if native is None else native
    leaves = {name: leaf(operand) for name, operand in operands.items() if name != "grad_output"}
    grad_output = torch.tensor(np.ascontiguousarray(operands["grad_output"]), dtype=torch.float64)
    if case.operation == "conv":
        output = _conv(case, leaves["input"], leaves["weight"], leaves.get("bias"), native)
    elif case.operation == "avg":
        output = (_native_avg_pool if native else _composed_avg_pool)(case, leaves["input"])
    elif native:
        output = _native_max_pool(case, leaves["input"])
    else:
        keys = leaf(to_keys(operands["input"]))
        output = _composed_max_pool(case, keys)
        leaves["input"] = keys
    output.backward(grad_output)
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    if case.operation == "conv" and "bias" not in leaves:
        channel_axis = 1 if case.channels_first else case.rank + 1
        gradients["bias"] = grad_output.sum([axis for axis in range(case.rank + 2) if axis != channel_axis])
    if case.operation == "max" and not native:
        output = from_keys(output)
    return _as_arrays(output, gradients)


def evaluate_ties(case: Case, operands: dict[str, Array], ties: str) -> dict[str, Array]:
    """Compute max pooling whose gradient goes to all tied maxima: autograd of amax shares it equally."""
    keys = leaf(to_keys(operands["input"], NOT_A_NUMBER))
    windows = _windows_of_keys(case, keys)
    taps = tuple(range(-case.rank, 0))
    output = windows.amax(taps)
    if ties == "split":
        surrogate = output
    else:
        surrogate = ((windows == output[(..., *[None] * case.rank)]).detach() * windows).sum(taps)
    grad_output = torch.tensor(np.ascontiguousarray(operands["grad_output"]), dtype=torch.float64)
    surrogate.backward(channels_first(case, grad_output))
    return _as_arrays(as_case(case, from_keys(output)), {"input": keys.grad})


def forward_native(case: Case, operands: dict[str, Array], dtype: torch.dtype) -> Array:
    """Compute the output in another dtype by PyTorch's own arguments."""
    tensors = {name: torch.tensor(np.ascontiguousarray(operand), dtype=dtype) for name, operand in operands.items()}
    with torch.no_grad():
        if case.operation == "conv":
            output = _conv(case, tensors["input"], tensors["weight"], tensors.get("bias"), native=True)
        elif case.operation == "max":
            output = _native_max_pool(case, tensors["input"])
        else:
            output = _native_avg_pool(case, tensors["input"])
    array: Array = output.numpy()
    return array


def is_native(case: Case) -> bool:
    """Whether PyTorch's own arguments express the case."""
    axes = case.axes()
    if case.operation == "conv":
        return _is_torch_same(case) or all(axis.before == axis.after for axis in axes)
    if not all(axis.before == axis.after <= axis.kernel // 2 for axis in axes):
        return False
    return case.operation == "max" or _has_avg_pool(case, [axis.size for axis in axes])


def _has_avg_pool(case: Case, sizes: Sequence[int]) -> bool:
    """Whether PyTorch has this average pooling of spatial sizes: no dilation; no avg_pool3d with a larger kernel."""
    axes = case.axes()
    fits = case.rank < 3 or all(size >= axis.kernel for size, axis in zip(sizes, axes, strict=True))
    return fits and all(axis.dilation == 1 for axis in axes)


# -------------------------------------------------------------------------------------------------------- convolution


def _is_torch_same(case: Case) -> bool:
    return case.parameters.get("padding") == "same" and all(axis.stride == 1 for axis in case.axes())


def _conv(case: Case, input: Tensor, weight: Tensor, bias: Tensor | None, native: bool) -> Tensor:
    axes = case.axes()
    input = channels_first(case, input)
    if not case.channels_first:
        weight = in_order(weight.movedim((-1, -2), (0, 1)))
    padding: str | list[int]
    if not native:
        input, padding = pad(input, [(axis.before, axis.after) for axis in axes]), [0] * case.rank
    elif _is_torch_same(case):
        padding = "same"
    else:
        padding = [axis.before for axis in axes]
    output = _by_rank("conv", case)(
        input,
        weight,
        None if bias is None else bias.reshape(-1),
        stride=[axis.stride for axis in axes],
        padding=padding,
        dilation=[axis.dilation for axis in axes],
        groups=case.parameters.get("groups", 1),
    )
    return as_case(case, output)


# -------------------------------------------------------------------------------------------------------- max pooling


def _native_max_pool(case: Case, input: Tensor) -> Tensor:
    axes = case.axes()
    output = _by_rank("max_pool", case)(
        channels_first(case, input),
        ints(axes, "kernel"),
        case.parameters.get("stride"),  # None where the case leaves it to the default
        padding=ints(axes, "before"),
        dilation=ints(axes, "dilation"),
        ceil_mode=case.parameters.get("ceil_mode", False),
    )
    return as_case(case, output)


def _composed_max_pool(case: Case, keys: Tensor) -> Tensor:
    """Max pooling of the stand-ins, padded with -inf to the exact reach of the windows."""
    axes = case.axes()
    padded = pad(channels_first(case, keys), reach(axes), -torch.inf)
    output = _by_rank("max_pool", case)(
        padded, ints(axes, "kernel"), ints(axes, "stride"), dilation=ints(axes, "dilation")
    )
    return as_case(case, output)


def _windows_of_keys(case: Case, keys: Tensor) -> Tensor:
    """All windows, (N, C, *output, *kernel)."""
    axes = case.axes()
    windows = pad(channels_first(case, keys), reach(axes), -torch.inf)
    for number, axis in enumerate(axes):
        windows = windows.unfold(2 + number, axis.extent, axis.stride)[..., :: axis.dilation]
    return windows


def to_keys(input: Array, not_a_number: float = np.nan) -> Array:
    keys = np.where(np.isnan(input), not_a_number, input.astype(np.float64))
    keys[input == -np.inf] = MINUS_INFINITY
    keys[input == np.inf] = PLUS_INFINITY
    return keys


def from_keys(output: Tensor) -> Tensor:
    output = output.detach().clone()
    output[output == MINUS_INFINITY] = -torch.inf
    output[output == NOT_A_NUMBER] = torch.nan
    output[output == PLUS_INFINITY] = torch.inf
    return output


# ---------------------------------------------------------------------------------------------------- average pooling


def _native_avg_pool(case: Case, input: Tensor) -> Tensor:
    axes = case.axes()
    output = _avg_pool(
        case,
        channels_first(case, input),
        case.parameters.get("stride"),
        ints(axes, "before"),
        case.parameters.get("ceil_mode", False),
        case.parameters.get("count_include_pad", False),
        case.parameters.get("divisor_override"),
    )
    return as_case(case, output)


def _avg_pool(
    case: Case,
    input: Tensor,
    stride: Sequence[int] | int | None,
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    kernel = ints(case.axes(), "kernel")
    if case.rank == 3:
        return F.avg_pool3d(input, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    if case.rank == 2:
        return F.avg_pool2d(input, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    if divisor is None:
        return F.avg_pool1d(input, kernel, stride, padding, ceil_mode, count_include_pad)
    # avg_pool1d has no divisor_override: one axis more.
    stride = kernel if stride is None else [stride] if isinstance(stride, int) else list(stride)
    output = F.avg_pool2d(
        input.unsqueeze(2), [1, *kernel], [1, *stride], [0, *padding], ceil_mode, count_include_pad, divisor
    )
    return output.squeeze(2)


def _composed_avg_pool(case: Case, input: Tensor) -> Tensor:
    axes = case.axes()
    input = channels_first(case, input)
    inside = torch.ones((1, 1, *input.shape[2:]), dtype=input.dtype)
    padding = [(axis.before, axis.after) for axis in axes]
    divisor: Tensor | float
    if case.parameters.get("divisor_override") is not None:
        divisor = float(case.parameters["divisor_override"])
    elif case.parameters.get("count_include_pad", False):
        divisor = _sums(case, pad(inside, padding, 1.0))
    else:
        divisor = _sums(case, pad(inside, padding))
    return as_case(case, _sums(case, pad(input, padding)) / divisor)


def _sums(case: Case, padded: Tensor) -> Tensor:
    """The sum of each window over an input that is padded already."""
    axes = case.axes()
    if _has_avg_pool(case, padded.shape[2:]):
        ceil_mode = case.parameters.get("ceil_mode", False)
        sums = _avg_pool(case, padded, ints(axes, "stride"), [0] * case.rank, ceil_mode, True, 1)
        # A last window that starts in the padding after the input is dropped; seen from here it starts in the input.
        for number, axis in enumerate(axes):
            sums = sums.narrow(2 + number, 0, axis.output)
        return sums
    padded = pad(padded, [(0, axis.overhang) for axis in axes])
    channels = padded.shape[1]
    ones = torch.ones((channels, 1, *ints(axes, "kernel")), dtype=padded.dtype)
    return _by_rank("conv", case)(
        padded, ones, stride=ints(axes, "stride"), dilation=ints(axes, "dilation"), groups=channels
    )


# ------------------------------------------------------------------------------------------------------------- shared


def _by_rank(name: str, case: Case) -> Callable[..., Tensor]:
    function: Callable[..., Tensor] = getattr(F, f"{name}{case.rank}d")
    return function


def _as_arrays(output: Tensor, gradients: dict[str, Tensor]) -> dict[str, Array]:
    tensors = {"output": output} | {f"grad_{name}": gradient for name, gradient in gradients.items()}
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def ints(axes: list[Axis], field: str) -> list[int]:
    return [getattr(axis, field) for axis in axes]


def leaf(operand: Array) -> Tensor:
    return torch.tensor(np.ascontiguousarray(operand), dtype=torch.float64, requires_grad=True)


def channels_first(case: Case, tensor: Tensor) -> Tensor:
    return tensor if case.channels_first else in_order(tensor.movedim(-1, 1))


def in_order(tensor: Tensor) -> Tensor:
    """The same tensor with the strides of its shape, whatever the layout that it is a view of.

    Given the strides of channels_last, PyTorch 2.13 sends the gradient of a max_pool3d window of -inf to another window
    (its first index leaves out the depth), and a conv2d with one output channel may fail in backward with "grad_weight
    must be contiguous".
    """
    return tensor.clone(memory_format=torch.contiguous_format)


def as_case(case: Case, tensor: Tensor) -> Tensor:
    return tensor if case.channels_first else tensor.movedim(1, -1)


def reach(axes: list[Axis]) -> list[tuple[int, int]]:
    """Padding so that the last window ends where the padded input does; negative where a tail is cropped."""
    return [(axis.before, axis.after + axis.overhang) for axis in axes]


def pad(tensor: Tensor, padding: list[tuple[int, int]], value: float = 0.0) -> Tensor:
    sides = [side for before_and_after in reversed(padding) for side in before_and_after]
    return F.pad(tensor, sides, value=value)
