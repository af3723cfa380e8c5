"""Transposed convolution against PyTorch's autograd in float64, over random combinations of the parameters.

``tests.peers.transposed.draw(seed, index)`` draws a case again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cnn_core import ConvpoolError
from tests.peers import transposed
from tests.peers.cases import Array
from tests.peers.drawn import Drawn, compute, grad_output_for
from tests.peers.tally import Tally

BOUND = 1e-10
CASES = 1000

pytestmark = pytest.mark.usefixtures("one_thread")


def expected_of(drawn: Drawn, grad_output: Array, native: bool) -> dict[str, Array]:
    tensors = transposed.leaves(drawn)
    output = transposed.forward(drawn, tensors, native)
    gradient = torch.tensor(np.ascontiguousarray(grad_output))
    output.backward(gradient)
    results = {"output": output.detach().numpy()}
    results |= {f"grad_{name}": tensor.grad.numpy() for name, tensor in tensors.items()}
    if "bias" not in tensors:
        channel_axis = 1 if drawn.channels_first else drawn.rank + 1
        results["grad_bias"] = grad_output.sum(axis=tuple(a for a in range(drawn.rank + 2) if a != channel_axis))
    return results


def check_refusal(drawn: Drawn, errors: tuple[type[ConvpoolError], ...]) -> None:
    operands = list(drawn.operands.values())
    with pytest.raises(errors):
        drawn.op(**drawn.parameters).output_shape(*(operand.shape for operand in operands))
    with pytest.raises(errors):
        drawn.op(**drawn.parameters).forward(*operands)


def test_float64(seed: int, finish: Callable[..., None]) -> None:
    tally, refusals = Tally("conv_transpose, float64"), Tally("conv_transpose, refused")
    for index in range(CASES):
        drawn = transposed.draw(seed, index)
        reasons = transposed.refused(drawn)
        if reasons:
            errors = tuple(reasons.values())
            refusals.check(drawn, min(reasons), lambda drawn=drawn, errors=errors: check_refusal(drawn, errors))
            continue
        native = transposed.is_native(drawn)

        def comparison(drawn: Drawn = drawn, native: bool = native) -> None:
            grad_output = grad_output_for(drawn)
            actual = compute(drawn, grad_output)
            for how in {native, False}:
                for name, expected in expected_of(drawn, grad_output, how).items():
                    tally.close(name, actual[name], expected, BOUND)

        tally.check(drawn, "native" if native else "composed", comparison)
    finish(tally, refusals, native=CASES // 4, composed=CASES // 4)
    sized = sum("output_size" in transposed.draw(seed, index).parameters for index in range(CASES))
    assert sized >= CASES // 8
    assert refusals.compared <= CASES // 4
