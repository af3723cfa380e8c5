"""Unfold and fold against PyTorch in float64: its own on two axes, views of windows and their gradients on others.

``draw(seed, index)`` draws a case again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everyone writes it)
from torch import Tensor

from cnn_core import ConvpoolError, Fold, Unfold
from tests.peers.cases import (
    Array,
    Axis,
    draw_batch,
    draw_memory,
    draw_windows,
    in_memory,
    output_size,
    per_axis,
    resolve_padding,
)
from tests.peers.drawn import Drawn, compute, generator, grad_output_for
from tests.peers.tally import Tally
from tests.peers.torch_side import ints, leaf, pad

BOUND = 1e-10
CASES = 450  # of each of the two

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclasses.dataclass(frozen=True)
class Patches:
    """A drawn call, of unfold or of fold, with the geometry and the shape of its image (N, C, *spatial)."""

    drawn: Drawn
    axes: list[Axis]
    image: tuple[int, ...]

    @property
    def taps(self) -> int:
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def first(self) -> bool:
        return self.drawn.parameters.get("data_format") == "channels_first"

    def image_in_layout(self, image: Array) -> Array:
        return image if self.first else np.moveaxis(image, 1, -1)

    def matrix_in_layout(self, matrix: Array) -> Array:
        """From (N, C * taps, L), as PyTorch has it; the inverse is the same, but for the sizes."""
        if self.first:
            return matrix
        batch, _, windows = matrix.shape
        parts = matrix.reshape(batch, self.image[1], self.taps, windows)
        return np.moveaxis(parts, (1, 2), (3, 2)).reshape(batch, windows, self.taps * self.image[1])

    def image_first(self, image: Array) -> Array:
        return image if self.first else np.moveaxis(image, -1, 1)

    def matrix_first(self, matrix: Array) -> Array:
        if self.first:
            return matrix
        batch, windows, _ = matrix.shape
        parts = matrix.reshape(batch, windows, self.taps, self.image[1])
        return np.moveaxis(parts, (3, 2), (1, 2)).reshape(batch, self.image[1] * self.taps, windows)


def draw(op: type, seed: int, index: int) -> Patches:
    """Draw a call of unfold or fold: the same for the same arguments."""
    random = generator(op.__name__, seed, index)
    rank = 1 + index % 3
    parameters, spatial, kernel = draw_windows(random, rank, bool(random.random() < 0.05), largest_dilation=3)
    stride, dilation = (per_axis(parameters.get(name, 1), rank) for name in ("stride", "dilation"))
    axes = []
    for axis, (n, k, s, d) in enumerate(zip(spatial, kernel, stride, dilation, strict=True)):
        before, after = resolve_padding(parameters.get("padding", 0), axis, n, k, s, d)
        axes.append(Axis(n, k, s, d, before, after, output_size(n, k, s, d, before, after, False)))
    image = (draw_batch(random), int(random.integers(1, 4)), *spatial)
    shape = image
    if op is Fold:
        parameters["output_size"] = spatial if random.random() < 0.5 else tuple(spatial)
        windows = math.prod(max(0, axis.output) for axis in axes)
        shape = (image[0], image[1] * math.prod(kernel), windows)
    case = Patches(Drawn(op.__name__, seed, index, op, parameters, {}), axes, image)
    values = random.standard_normal(shape)
    values = case.matrix_in_layout(values) if op is Fold else case.image_in_layout(values)
    operands = {"input": in_memory(values, draw_memory(random))}
    return dataclasses.replace(case, drawn=dataclasses.replace(case.drawn, operands=operands))


def is_native(case: Patches) -> bool:
    return len(case.axes) == 2 and case.image[0] > 0 and all(axis.before == axis.after for axis in case.axes)


def own_arguments(case: Patches) -> dict[str, Any]:
    names = {"kernel_size": "kernel", "dilation": "dilation", "padding": "before", "stride": "stride"}
    return {name: ints(case.axes, field) for name, field in names.items()}


def unfold_by_views(case: Patches, image: Tensor) -> Tensor:
    """Take all windows as a view (N, C, *O, *K), and bring K before O."""
    windows = pad(image, [(axis.before, axis.after) for axis in case.axes])
    for number, axis in enumerate(case.axes):
        windows = windows.unfold(2 + number, axis.extent, axis.stride)[..., :: axis.dilation]
    rank, batch = len(case.axes), image.shape[0]
    by_channel = windows.permute(0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    return by_channel.reshape(batch, image.shape[1] * case.taps, math.prod(ints(case.axes, "output")))


def expected_of(case: Patches, grad_output: Array, native: bool) -> dict[str, Array]:
    operand = case.drawn.operands["input"]
    if case.drawn.op is Unfold:
        input = leaf(case.image_first(operand))
        output = F.unfold(input, **own_arguments(case)) if native else unfold_by_views(case, input)
        output.backward(torch.tensor(np.ascontiguousarray(case.matrix_first(grad_output))))
        return {
            "output": case.matrix_in_layout(output.detach().numpy()),
            "grad_input": case.image_in_layout(input.grad.numpy()),
        }
    matrix, gradient = leaf(case.matrix_first(operand)), leaf(case.image_first(grad_output))
    if native:
        image = F.fold(matrix, case.image[2:], **own_arguments(case))
        image.backward(gradient.detach())
        grad_input = matrix.grad
    else:  # the adjoint of unfolding, which is linear
        grad_input = unfold_by_views(case, gradient)
        image = torch.autograd.grad(grad_input, gradient, matrix.detach())[0]
    return {
        "output": case.image_in_layout(image.detach().numpy()),
        "grad_input": case.matrix_in_layout(grad_input.detach().numpy()),
    }


@pytest.mark.parametrize("op", [Unfold, Fold])
def test_float64(op: type, seed: int, finish: Callable[..., None]) -> None:
    tally, refusals = Tally(f"{op.__name__}, float64"), Tally(f"{op.__name__}, refused")
    for index in range(CASES):
        case = draw(op, seed, index)
        if any(axis.output < 1 for axis in case.axes):

            def refusal(case: Patches = case) -> None:
                with pytest.raises(ConvpoolError):
                    op(**case.drawn.parameters).forward(case.drawn.operands["input"])

            refusals.check(case.drawn, "window larger than the padded image", refusal)
            continue

        def comparison(case: Patches = case) -> None:
            grad_output = grad_output_for(case.drawn)
            actual = compute(case.drawn, grad_output)
            for native in {is_native(case), False}:
                for name, expected in expected_of(case, grad_output, native).items():
                    tally.close(name, actual[name], expected, BOUND)

        tally.check(case.drawn, "native" if is_native(case) else "composed", comparison)
    finish(tally, refusals, native=CASES // 10, composed=CASES // 2)
    assert refusals.compared <= CASES // 10
