"""Convolution with padding of the input's own elements, and the gradients of gradients, against PyTorch in float64.

The geometries are those of ``tests.peers.cases.draw("conv", seed, index)``, whose padding has every form; the mode is
drawn here. PyTorch pads by ``F.pad``, then convolves without padding.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor

from cnn_core import Conv, ConvTranspose, ShapeError
from tests.peers import transposed
from tests.peers.cases import Array, Case, draw
from tests.peers.drawn import Drawn, generator, gradients
from tests.peers.tally import Tally
from tests.peers.torch_side import as_case, channels_first, in_order, leaf

BOUND = 1e-10
CASES = 1500
TWICE = 240  # of each op, differentiated twice
MODES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular", "zeros": "constant"}  # PyTorch's names

pytestmark = pytest.mark.usefixtures("one_thread")


def cases(seed: int, modes: list[str]) -> Iterator[Case]:
    """Draw convolutions whose windows fit, each with a mode; every rank comes with every mode."""
    for index in itertools.count():
        case = draw("conv", seed, index)
        if case.refused() is None:
            mode = modes[index // 3 % len(modes)]
            case = dataclasses.replace(case, parameters=case.parameters | {"padding_mode": mode})
            yield enlarged(case) if refused(case) and index % 5 else case


def enlarged(case: Case) -> Case:
    """The case with as many elements more as its padding wants of them."""
    more = [0, *(max(axis.before, axis.after) for axis in case.axes())]
    more.insert(1 if case.channels_first else len(more), 0)
    shape = tuple(size + extra for size, extra in zip(case.input_shape, more, strict=True))
    return dataclasses.replace(case, input_shape=shape)


def refused(case: Case) -> bool:
    """Whether the padding of some axis needs more elements than the input has there."""
    mode = case.parameters["padding_mode"]
    spare = {"reflect": -1, "circular": 0}
    return mode in spare and any(max(axis.before, axis.after) > axis.size + spare[mode] for axis in case.axes())


def convolve(case: Case, tensors: dict[str, Tensor]) -> Tensor:
    axes = case.axes()
    input, weight = channels_first(case, tensors["input"]), tensors["weight"]
    if not case.channels_first:
        weight = in_order(weight.movedim((-1, -2), (0, 1)))
    sides = [side for axis in reversed(axes) for side in (axis.before, axis.after)]
    padded = F.pad(input, sides, mode=MODES[case.parameters["padding_mode"]]) if any(sides) else input
    output = getattr(F, f"conv{case.rank}d")(
        padded,
        weight,
        tensors["bias"].reshape(-1) if "bias" in tensors else None,
        stride=[axis.stride for axis in axes],
        dilation=[axis.dilation for axis in axes],
        groups=case.parameters.get("groups", 1),
    )
    return as_case(case, output)


def with_bias_gradient(results: dict[str, Array], grad_output: Array, first: bool) -> dict[str, Array]:
    """Add the gradient of a bias that is not there: cnn_core has it, too."""
    channel_axis = 1 if first else grad_output.ndim - 1
    others = tuple(axis for axis in range(grad_output.ndim) if axis != channel_axis)
    return {"grad_bias": grad_output.sum(axis=others)} | results


def check_refusal(case: Case) -> None:
    operands = case.operands()
    del operands["grad_output"]
    op = Conv(**case.parameters)
    with pytest.raises(ShapeError, match="padding_mode"):
        op.output_shape(*(operand.shape for operand in operands.values()))
    with pytest.raises(ShapeError, match="padding_mode"):
        op.forward(*operands.values())
    if operands["input"].shape[0]:
        with pytest.raises(RuntimeError):
            convolve(case, {name: leaf(operand) for name, operand in operands.items()})


def test_padding_modes(seed: int, finish: Callable[..., None]) -> None:
    tally, refusals = Tally("conv with padding modes, float64"), Tally("conv with padding modes, refused")
    for case in itertools.islice(cases(seed, ["reflect", "replicate", "circular"]), CASES):
        mode = case.parameters["padding_mode"]
        if refused(case):
            refusals.check(case, mode, lambda case=case: check_refusal(case))
            continue

        def comparison(case: Case = case) -> None:
            operands = case.operands()
            grad_output = operands.pop("grad_output")
            tensors = {name: leaf(operand) for name, operand in operands.items()}
            output = convolve(case, tensors)
            output.backward(torch.tensor(np.ascontiguousarray(grad_output)))
            expected = {f"grad_{name}": tensor.grad.numpy() for name, tensor in tensors.items()}
            op = Conv(**case.parameters)
            tally.close("output", op.forward(*operands.values()), output.detach().numpy(), BOUND)
            actual = gradients(op.backward(grad_output, *operands.values()))
            for name, gradient in with_bias_gradient(expected, grad_output, case.channels_first).items():
                tally.close(name, actual[name], gradient, BOUND)

        padded = any(axis.before or axis.after for axis in case.axes())
        tally.check(case, mode if padded else "unpadded", comparison)
    finish(tally, refusals, reflect=CASES // 10, replicate=CASES // 6, circular=CASES // 8)


# --------------------------------------------------------------------------------------------- gradients of gradients


def double_backward(op: Any, operands: dict[str, Array], cotangents: dict[str, Array]) -> dict[str, Array]:
    """The recipe of docs/double-backward.md."""
    grad_output, input, weight = (operands[name] for name in ("grad_output", "input", "weight"))
    u, v, t = (cotangents[name] for name in ("input", "weight", "bias"))
    return {
        "grad_output": op.forward(u, weight, t) + op.forward(input, v),
        "input": op.backward(grad_output, input, v, wrt=["input"]).grad_input,
        "weight": op.backward(grad_output, u, weight, wrt=["weight"]).grad_weight,
    }


def expected_of_double_backward(
    forward: Callable[[dict[str, Tensor]], Tensor], operands: dict[str, Array], cotangents: dict[str, Array]
) -> dict[str, Array]:
    tensors = {name: leaf(operand) for name, operand in operands.items()}
    grad_output = tensors["grad_output"]
    output = forward({name: tensor for name, tensor in tensors.items() if name != "grad_output"})
    firsts = torch.autograd.grad(output, [tensors[name] for name in cotangents], grad_output, create_graph=True)
    total = sum(
        (torch.tensor(cotangent) * first).sum() for cotangent, first in zip(cotangents.values(), firsts, strict=True)
    )
    names = ["grad_output", "input", "weight"]
    seconds = torch.autograd.grad(total, [tensors[name] for name in names], materialize_grads=True)
    return {name: second.numpy() for name, second in zip(names, seconds, strict=True)}


def compare_double_backward(
    tally: Tally,
    case: Case | Drawn,
    op: Any,
    forward: Callable[[dict[str, Tensor]], Tensor],
    operands: dict[str, Array],
) -> None:
    random = generator("double backward", case.seed, case.index)
    cotangents = {name: random.standard_normal(operands[name].shape) for name in ("input", "weight", "bias")}
    expected = expected_of_double_backward(forward, operands, cotangents)
    for name, actual in double_backward(op, operands, cotangents).items():
        tally.close(f"of {name}", actual, expected[name], BOUND)


def test_double_backward_of_convolution(seed: int, finish: Callable[..., None]) -> None:
    tally = Tally("double backward of conv, float64")
    for case in cases(seed + 1, list(MODES)):
        if refused(case) or case.bias_shape is None:
            continue
        operands = case.operands()

        def comparison(case: Case = case, operands: dict[str, Array] = operands) -> None:
            op = Conv(**case.parameters)
            compare_double_backward(tally, case, op, lambda tensors: convolve(case, tensors), operands)

        tally.check(case, case.parameters["padding_mode"], comparison)
        if tally.compared == TWICE:
            break
    finish(tally, zeros=TWICE // 8, reflect=TWICE // 8, replicate=TWICE // 8, circular=TWICE // 8)


def test_double_backward_of_transposed_convolution(seed: int, finish: Callable[..., None]) -> None:
    tally = Tally("double backward of conv_transpose, float64")
    for index in itertools.count():
        drawn = transposed.draw(seed + 1, index)
        if transposed.refused(drawn) or "bias" not in drawn.operands:
            continue
        native = transposed.is_native(drawn)
        op = ConvTranspose(**drawn.parameters)

        def comparison(drawn: Drawn = drawn, op: ConvTranspose = op, native: bool = native) -> None:
            shape = op.output_shape(*(operand.shape for operand in drawn.operands.values()))
            operands = {"grad_output": drawn.generator().standard_normal(shape), **drawn.operands}
            forward = lambda tensors: transposed.forward(drawn, tensors, native)  # noqa: E731
            compare_double_backward(tally, drawn, op, forward, operands)

        tally.check(drawn, "native" if native else "composed", comparison)
        if tally.compared == TWICE:
            break
    finish(tally, native=TWICE // 4, composed=TWICE // 8)
