"""The recipe of docs/double-backward.md: as printed, and against central differences over drawn convolutions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_core import Conv, ConvTranspose

PAGE = Path(__file__).parents[3] / "docs" / "double-backward.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def recipe() -> Any:
    namespace: dict[str, Any] = {}
    exec(BLOCKS[0], namespace)
    return namespace["double_backward"]


def test_the_page_s_code_runs_as_printed() -> None:
    assert len(BLOCKS) == 2
    exec("\n".join(BLOCKS), {})


@pytest.mark.parametrize(
    "op",
    [
        Conv(),
        Conv(stride=2, padding=((1, 0), (2, 1)), groups=2),
        Conv(padding="same", dilation=2, data_format="channels_first"),
        Conv(padding=2, padding_mode="circular"),
        ConvTranspose(stride=(2, 3), padding=1, output_padding=(1, 2), groups=2),
        ConvTranspose(stride=2, padding="same", data_format="channels_first"),
    ],
    ids=repr,
)
def test_it_agrees_with_central_differences(op: Any) -> None:
    random = np.random.default_rng(0)
    input = random.standard_normal((2, 4, 5, 6) if op.data_format == "channels_first" else (2, 5, 6, 4))
    shape = (4, 4 // op.groups, 2, 3)
    weight = random.standard_normal(shape if op.data_format == "channels_first" else (*shape[2:], shape[1], shape[0]))
    grad_output = random.standard_normal(op.output_shape(input.shape, weight.shape))
    operands = [grad_output, input, weight]
    cotangents = [random.standard_normal(gradient.shape) for gradient in op.backward(*operands)]

    def value(*operands: Any) -> float:
        results = op.backward(*operands)
        return float(sum(np.vdot(one, result) for one, result in zip(cotangents, results, strict=True)))

    for position, gradient in enumerate(recipe()(op, *operands, *cotangents)):
        direction = random.standard_normal(gradient.shape)
        # linear in each operand: the difference is exact but for rounding, whatever the step
        moved = [
            [*operands[:position], operands[position] + sign * direction, *operands[position + 1 :]] for sign in (1, -1)
        ]
        measured = (value(*moved[0]) - value(*moved[1])) / 2
        assert measured == pytest.approx(np.vdot(gradient, direction), rel=1e-11)
