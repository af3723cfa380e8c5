# ruff: noqa: RUF001 (the signs of mathematics)
"""Write service/playground/examples.json: the layers that the playground offers, each as the fragment of a link.

Usage: python docs/make_examples.py (needs Node; the fragments are made by the page's own module)
"""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

PLAYGROUND = Path(__file__).parents[1] / "service" / "playground"
FILE = PLAYGROUND / "examples.json"
PROGRAM = """
import { readFileSync } from "node:fs";
const { DEFAULTS, encodeFragment } = await import(`${process.argv[1]}/state.js`);
const fragments = [];
for (const state of JSON.parse(readFileSync(0, "utf-8"))) {
  fragments.push(await encodeFragment({ ...DEFAULTS, ...state }));
}
process.stdout.write(JSON.stringify(fragments));
"""


@dataclasses.dataclass(frozen=True)
class Example:
    """A layer with its operands, and what to look at."""

    title: str
    note: str
    op: str
    parameters: dict[str, Any]
    operands: dict[str, ArrayLike]
    shown: dict[str, Any] = dataclasses.field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Return what the page calls its state."""
        tensors = {
            name: tensor(values, "int64" if name == "indices" else "float64") for name, values in self.operands.items()
        }
        return {"op": self.op, "parameters": self.parameters, "tensors": tensors, **self.shown}


def tensor(values: ArrayLike, dtype: str) -> dict[str, Any]:
    array = np.asarray(values, dtype)
    return {"dtype": dtype, "shape": array.shape, "data": array.ravel().tolist()}


def image(rows: ArrayLike) -> np.ndarray:
    """Return one item of one channel: (1, *spatial, 1)."""
    return np.asarray(rows, float)[None, ..., None]


def kernel(rows: ArrayLike) -> np.ndarray:
    """Return one filter over one channel: (*kernel, 1, 1)."""
    return np.asarray(rows, float)[..., None, None]


def counted(*shape: int, highest: int = 9) -> np.ndarray:
    """Return 1, 2, 3, ... and again from 1: numbers whose places are easily seen."""
    return (np.arange(np.prod(shape)) % highest + 1.0).reshape(shape)


def notebook(*shape: int) -> np.ndarray:
    """Return the notebook's random numbers, with two decimals."""
    return np.random.RandomState(1).randn(*shape).round(2)


SMALL = [[0, 1, 2, 1, 0], [1, 3, 0, 2, 1], [2, 0, 4, 0, 2], [1, 2, 0, 3, 1], [0, 1, 2, 1, 0]]
ACROSS = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
SQUARE = np.pad(np.full((4, 4), 9), 2)
TIED = [[5, 5, 1, 4], [2, 5, 4, 4], [3, 0, 7, 7], [3, 3, 7, 6]]
POOLED = [[5, 1, 4], [2, 8, 9], [6, 3, 7]]

EXAMPLES = [
    Example(
        "A 3 × 3 kernel over a 5 × 5 image",
        "Move over a cell of the output: the nine cells of its window light up, and the sum of nine products "
        "stands below. Change a number of the input, and see which outputs change.",
        "conv",
        {},
        {"input": image(SMALL), "weight": kernel(ACROSS)},
    ),
    Example(
        "Edges of a square: Sobel",
        "Two filters see a bright square: the first finds its left and right edges, the second those above and "
        "below. Inside and outside the output is 0.",
        "conv",
        {},
        {"input": image(SQUARE), "weight": np.stack([ACROSS, np.transpose(ACROSS)], -1)[:, :, None, :]},
    ),
    Example(
        "Padding with zeros",
        "All inputs and weights are 1, so that an output is the number of real cells in its window: 9 inside, 6 "
        "at an edge, 4 in a corner. That is why borders come out weaker with padding.",
        "conv",
        {"padding": 1},
        {"input": image(np.ones((4, 4))), "weight": kernel(np.ones((3, 3)))},
    ),
    Example(
        "What stands in the padding",
        "The kernel copies the upper left cell of its window, so the output shows the padding itself: here a "
        "mirror that leaves out the edge. Change padding_mode to replicate, circular and zeros.",
        "conv",
        {"padding": 2, "padding_mode": "reflect"},
        {"input": image(counted(4, 4, highest=16)), "weight": kernel([[1, 0], [0, 0]])},
    ),
    Example(
        "same: where the odd element goes",
        "A 2 × 2 kernel needs one row and one column of padding: same puts them at the end, same_lower at the "
        "start, and the numbers differ everywhere.",
        "conv",
        {"padding": "same"},
        {"input": image(counted(3, 3)), "weight": kernel([[1, 2], [3, 4]])},
        {"view": "compare", "by": "padding"},
    ),
    Example(
        "A stride that skips the last row",
        "The windows of stride 2 end at row and column 5 of 6. No output depends on the last ones, so their "
        "gradient is 0; where two windows overlap, it is the sum of two.",
        "conv",
        {"stride": 2},
        {"input": image(counted(6, 6)), "weight": kernel(counted(3, 3)), "grad_output": image(np.ones((2, 2)))},
        {"view": "grad_input"},
    ),
    Example(
        "Dilation: the same nine weights, farther apart",
        "With dilation 2 a 3 × 3 kernel reaches over 5 × 5 cells and touches nine of them. Pin an output and move"
        " to its neighbor: their windows share no cell.",
        "conv",
        {"dilation": 2},
        {"input": image(counted(7, 7)), "weight": kernel(ACROSS)},
    ),
    Example(
        "Two channels, two filters",
        "Each output adds up the windows of both channels, and the bias of its filter. The second filter "
        "subtracts the second channel from the first.",
        "conv",
        {},
        {
            "input": np.stack([counted(4, 4, highest=5), counted(4, 4, highest=3)], -1)[None],
            "weight": np.stack([np.ones((2, 2, 2)), np.ones((2, 2, 2)) * [1, -1]], -1),
            "bias": [10, 0],
        },
    ),
    Example(
        "Depthwise: one group for each channel",
        "With groups equal to the channels each filter sees one channel only: move over the outputs, and half of "
        "the input stays dark.",
        "conv",
        {"groups": 2, "padding": 1},
        {
            "input": np.stack([counted(4, 4, highest=5), counted(4, 4, highest=3)], -1)[None],
            "weight": np.stack([ACROSS, np.ones((3, 3))], -1)[:, :, None, :],
        },
    ),
    Example(
        "The notebook's convolution: stride 2, padding 1",
        "A 9 × 7 image, a 5 × 5 filter, stride 2 and padding 1 as in the notebook, with small integers: ⌊(9 + 2 −"
        " 5) / 2⌋ + 1 = 4 rows and ⌊(7 + 2 − 5) / 2⌋ + 1 = 3 columns.",
        "conv",
        {"stride": 2, "padding": 1},
        {
            "input": image(counted(9, 7, highest=4)),
            "weight": kernel(counted(5, 5, highest=3) - 2),
            "bias": np.full((1, 1, 1, 1), 1),
        },
    ),
    Example(
        "The gradient of a weight",
        "A weight gets one product for each window: input times grad_output. With a grad_output of one 1 the "
        "gradient is that window itself; change it, and see windows add up.",
        "conv",
        {},
        {
            "input": image(SMALL),
            "weight": kernel(ACROSS),
            "grad_output": image([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        },
        {"view": "grad_weight"},
    ),
    Example(
        "The notebook's max pooling: 3 × 3, stride 1",
        "The notebook's own numbers: in the first channel 1.74 is the maximum of three windows side by side. Its "
        "windows overlap, so that one cell may feed up to nine outputs.",
        "pool",
        {"mode": "max", "kernel_size": 3, "stride": 1},
        {"input": notebook(1, 5, 5, 3)},
    ),
    Example(
        "Ties: who gets the gradient?",
        "Three cells of the first window are 5. ties=first gives the whole gradient to the first of them, as "
        "PyTorch does; all gives it to each, as the notebook does, and split shares it.",
        "pool",
        {"mode": "max", "kernel_size": 2, "ties": "first"},
        {"input": image(TIED), "grad_output": image([[6, 6], [6, 6]])},
        {"view": "grad_input"},
    ),
    Example(
        "ceil_mode: a window that hangs over",
        "Five columns are no multiple of 2. ceil_mode adds windows that hang over the end (dashed) instead of "
        "leaving the last row and column out: switch it off and on.",
        "pool",
        {"mode": "max", "kernel_size": 2, "ceil_mode": True},
        {"input": image(SMALL)},
    ),
    Example(
        "Averages at the border",
        "All inputs are 36. With count_include_pad a corner is 4 · 36 / 9 = 16, because the zeros of the padding "
        "count; without it every average is 36.",
        "pool",
        {"mode": "avg", "kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": True},
        {"input": image(np.full((4, 4), 36))},
    ),
    Example(
        "One layer, four frameworks",
        "The same average pooling with the defaults of PyTorch, TensorFlow, ONNX and JAX: two count the zeros of "
        "the padding, two do not. No error tells you.",
        "pool",
        {"mode": "avg", "kernel_size": 3, "stride": 2, "padding": 1},
        {"input": image(counted(5, 5))},
        {"view": "compare"},
    ),
    Example(
        "Unpooling: back to where the maxima were",
        "The indices say where in the 6 × 6 plane each maximum stood: row · 6 + column. All other cells are 0.",
        "unpool",
        {"kernel_size": 2},
        {"input": image(POOLED), "indices": image([[0, 9, 5], [13, 14, 23], [31, 26, 35]])},
    ),
    Example(
        "Transposed convolution: a checkerboard",
        "Every input cell writes a 3 × 3 kernel of ones, two cells farther on each time. Where they overlap the "
        "output is 2 or 4: the checkerboard of generated images. A kernel of 4 × 4 overlaps evenly.",
        "conv_transpose",
        {"stride": 2},
        {"input": image(np.ones((3, 3))), "weight": kernel(np.ones((3, 3)))},
    ),
    Example(
        "One axis: a moving sum",
        "A kernel of three ones over a signal: each output is the sum of three neighbors, and the jump from 0 to "
        "9 becomes a slope.",
        "conv",
        {"padding": 1},
        {"input": image([0, 0, 0, 9, 9, 9, 0, 3, 0, 0]), "weight": kernel([1, 1, 1])},
    ),
    Example(
        "Three axes: a volume as slices",
        "A 2 × 2 × 2 kernel takes four cells of a slice, and four of the next one. Its weights are 1 for the "
        "first and −1 for the second: the output says how much the slices differ.",
        "conv",
        {},
        {"input": image(counted(3, 4, 4, highest=7)), "weight": kernel([[[1, 1], [1, 1]], [[-1, -1], [-1, -1]]])},
    ),
]


def fragments(states: list[dict[str, Any]]) -> list[str]:
    """Let the page's module write the states."""
    command = ["node", "--input-type=module", "--eval", PROGRAM, str(PLAYGROUND)]
    written = subprocess.run(command, input=json.dumps(states), capture_output=True, text=True, check=True, timeout=60)
    made: list[str] = json.loads(written.stdout)
    return made


def main() -> None:
    made = fragments([example.state() for example in EXAMPLES])
    entries = [
        {"title": example.title, "fragment": fragment, "note": example.note}
        for example, fragment in zip(EXAMPLES, made, strict=True)
    ]
    FILE.write_text(json.dumps(entries, ensure_ascii=False, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
