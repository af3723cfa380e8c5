"""What the playground must show of a layer, as functions that raise AssertionError where it does not."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from tests.browser.playground.layers import Example
from tests.browser.playground.oracle import Frame, Layout, Windows, frame_of, windows_of
from tests.browser.playground.playground import Cell, Playground
from tests.oracle.adaptive import winners
from tests.oracle.padding_modes import source_index
from tests.oracle.windows import AnyArray

ITEM_TENSORS = ("input", "output", "indices", "grad_output", "grad_input")
"""The tensors of which the page shows one item of the batch."""


def indices_of(name: str, array: AnyArray, item: int) -> range:
    """The flat indices of the cells that are shown of a tensor."""
    if name not in ITEM_TENSORS:
        return range(array.size)
    size = math.prod(array.shape[1:])
    return range(item * size, (item + 1) * size)


def same(shown: float, expected: float) -> bool:
    return shown == expected or (math.isnan(shown) and math.isnan(expected))


def check_numbers(page: Playground, example: Example, view: str = "forward", item: int = 0) -> None:
    """Every number of every grid is cnn_core's or the operand's, and nothing of a view is missing."""
    expected = example.tensors | example.computed()
    shown = page.values()
    needed = {*example.operands, "output"} if view == "forward" else {view, "grad_output"}
    assert needed <= shown.keys() <= expected.keys(), (view, shown.keys())
    for name, cells in shown.items():
        array = expected[name]
        assert sorted(cells) == list(indices_of(name, array, item)), (view, name)
        wrong = {index: got for index, got in cells.items() if not same(got, float(array.reshape(-1)[index]))}
        assert not wrong, (view, name, wrong, example.parameters)
    for cell in page.cells():
        check_text(cell)


def check_text(cell: Cell) -> None:
    """What is written in a cell is its number to five digits; padding that is no number of a sum is left empty."""
    if cell.index is None and cell.text == "":
        return
    assert math.isclose(number(cell.text), cell.value, rel_tol=1e-4, abs_tol=1e-12) or same(
        number(cell.text), cell.value
    ), cell


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace("\N{MINUS SIGN}", "-").replace("\N{INFINITY}", "inf"))


def check_places(page: Playground, example: Example, item: int = 0) -> None:
    """Each channel or kernel is one grid, the last two spatial axes down and across, in order."""
    shapes = {name: array.shape for name, array in (example.operands | example.computed()).items()}
    frame = frame_of(example.op, example.parameters, example.operands)
    grids = page.tables()
    for name in {"input", "output", "weight"} & grids.keys():
        framed = frame is not None and name == "input"
        shape = frame.shape if framed and frame is not None else shapes[name]
        indices = np.arange(math.prod(shape)).reshape(shape)
        channels = (0, 1) if example.first else ((0, -1) if name != "weight" else (-1, -2))
        planes = np.moveaxis(indices, channels, (0, 1))
        if name != "weight":
            planes = planes[[0 if framed else item]]
        rows = planes.shape[-2] if planes.ndim > 3 else 1
        expected = planes.reshape(-1, rows, planes.shape[-1]).tolist()
        assert sorted(grids[name]) == sorted(expected), (name, example.parameters)


# ------------------------------------------------------------------------------------------------------------ padding


def check_frame(page: Playground, example: Example, item: int = 0) -> None:
    """The padding is drawn with its contents, the overhang of ceil_mode as such, and nothing else."""
    frame = frame_of(example.op, example.parameters, example.operands)
    cells = {cell.frame: cell for cell in page.cells() if cell.frame is not None}
    if frame is None:
        assert cells == {}
        return
    assert sorted(cells) == list(range(math.prod(frame.shape))), (len(cells), frame)
    input = example.tensors["input"]
    layout = Layout(input.shape, first=example.first)
    mode = example.parameters.get("padding_mode", "zeros")
    after = padding_after(example, frame, layout)
    for index, cell in cells.items():
        *at, channel = place_in(frame, index)
        sources = [source_index(one, size, mode) for one, size in zip(at, layout.sizes, strict=True)]
        inside = all(0 <= one < size for one, size in zip(at, layout.sizes, strict=True))
        overhang = any(one >= end for one, end in zip(at, after, strict=True))
        if inside:
            expected = layout.flat(item, tuple(at), channel)
            assert cell.index == expected
            assert not cell.classes & {"padding", "overhang"}
            continue
        assert cell.index is None
        assert "padding" in cell.classes
        assert ("overhang" in cell.classes) == overhang, (at, cell)
        known = [one for one in sources if one is not None]
        # a zero of the quantized layers is the zero point
        value = float(example.tensors.get("input_zero_point", np.array(0.0)))
        if len(known) == len(at):
            value = float(input.reshape(-1)[layout.flat(item, tuple(known), channel)])
        assert cell.value == value, (at, cell)


def padding_after(example: Example, frame: Frame, layout: Layout) -> list[int]:
    """Where the explicit padding ends on each axis; the drawn layers give it in elements."""
    pairs = example.parameters["padding"]
    assert [pair[0] for pair in pairs] == list(frame.before)
    return [size + pair[1] for size, pair in zip(layout.sizes, pairs, strict=True)]


def place_in(frame: Frame, index: int) -> tuple[int, ...]:
    """Spatial coordinates from the input's first element, then the channel."""
    _, *position = (int(one) for one in np.unravel_index(index, frame.shape))
    channel, spatial = (position[0], position[1:]) if frame.first else (position[-1], position[:-1])
    return (*(one - before for one, before in zip(spatial, frame.before, strict=True)), channel)


# --------------------------------------------------------------------------------------------------------- highlights


def check_highlights(page: Playground, example: Example, random: np.random.Generator, item: int = 0) -> None:
    """What is lit at a cell of the output, the input or the weight is what the oracle links with it."""
    windows = windows_of(example.op, example.parameters, example.operands)
    frame = frame_of(example.op, example.parameters, example.operands)
    wanted: list[tuple[str, int]] = []
    for name, count in (("output", 9), ("input", 6), ("weight", 5), ("indices", 4)):
        array = example.computed()["output"] if name == "output" else example.tensors.get(name)
        if array is not None:
            shown = indices_of(name, array, item)
            wanted += [(name, int(index)) for index in random.choice(shown, min(count, len(shown)), replace=False)]
    for (name, index), answer in zip(wanted, page.walk(wanted), strict=True):
        context = (example.op, example.parameters, name, index)
        assert answer["here"] == [f"{name}:{index}"], (context, answer["here"])
        expected = linked(windows, example, "input" if name == "indices" else name, index, item)
        lit = answer["lit"]
        assert sorted(set(lit)) == sorted(lit), (context, lit)
        for tensor, cells in expected.items():
            got = {int(place.split(":")[1]) for place in lit if place.startswith(f"{tensor}:")}
            assert got == cells, (context, tensor, got, cells)
        if frame is not None:
            places = {frame.index(term.at, term.channel) for _, term in terms_of(windows, name, index, item)}
            layout = Layout(example.tensors["input"].shape, first=example.first)
            sources = {frame.index(*layout.place(cell)) for cell in expected["input"]}  # what the padding repeats
            if name != "input" and example.parameters.get("padding_mode", "zeros") != "zeros":
                assert set(answer["source"]) == sources - places, context
            assert set(answer["lit_frame"]) == places | sources, (context, answer["lit_frame"], places)


def terms_of(windows: Windows, name: str, index: int, item: int) -> list[tuple[int, Any]]:
    """The terms that a cell takes part in, with their output cells, of the item that is shown."""
    outputs = indices_of("output", np.empty(windows.output_shape), item)
    if name == "output":
        return [(index, term) for term in windows.terms[index]]
    return [(output, term) for output in outputs for term in windows.terms[output] if getattr(term, name) == index]


def linked(windows: Windows, example: Example, name: str, index: int, item: int) -> dict[str, set[int]]:
    """The cells of each tensor that a cell is linked with."""
    terms = terms_of(windows, name, index, item)
    found = {
        "output": {output for output, _ in terms},
        "input": {term.input for _, term in terms if term.input is not None},
    }
    if "weight" in example.tensors:
        found["weight"] = {term.weight for _, term in terms}
    if "indices" in example.tensors:  # one for each value
        found["indices"] = found["input"]
    if "bias" in example.tensors:
        axis = 1 if example.first else -1
        outputs = {index} if name == "output" else found["output"]
        found["output"] = outputs  # of a transposed convolution a cell may have its bias alone
        found["bias"] = {int(np.unravel_index(output, windows.output_shape)[axis]) for output in outputs}
    return found


def check_maxima(page: Playground, example: Example, item: int = 0) -> None:
    """The maxima that receive a gradient are ringed, the cells that only tie with one are dotted."""
    windows = windows_of(example.op, example.parameters, example.operands)
    values = example.tensors["input"].reshape(-1)
    receive, tie = set(), set()
    for output in indices_of("output", np.empty(windows.output_shape), item):
        under = [term.input for term in windows.terms[output] if term.input is not None]
        numbers = [float(values[cell]) for cell in under]
        receive |= {under[tap] for tap in winners(numbers, example.parameters.get("ties", "first"))}
        tie |= {under[tap] for tap in winners(numbers, "all")}
    shown = [cell for cell in page.cells() if cell.tensor == "input"]
    assert {cell.index for cell in shown if "max" in cell.classes} == receive
    assert {cell.index for cell in shown if "tie" in cell.classes} == tie - receive


# ------------------------------------------------------------------------------------------------------------ formula


def check_formulas(page: Playground, example: Example, view: str = "forward", item: int = 0) -> None:
    """The formula of each cell of the result names it, and comes to its number."""
    name = "output" if view == "forward" else view
    array = example.computed()[name]
    wanted = [(name, index) for index in indices_of(name, array, item)]
    for (_, index), answer in zip(wanted, page.walk(wanted), strict=True):
        expected = float(array.reshape(-1)[index])
        position = ", ".join(str(int(one)) for one in np.unravel_index(index, array.shape))
        assert " = " in answer["formula"], answer
        label, *terms, rest = re.split(r"\s=\s", answer["formula"].strip())
        assert label == f"{name}[{position}]"
        assert same(float(answer["value"]), expected), answer
        shown = re.match(r"\s*(\N{MINUS SIGN}?\S+)", rest)
        assert shown is not None
        assert math.isclose(number(shown[1]), expected, rel_tol=1e-4, abs_tol=1e-12), answer
        for text in terms:
            got = evaluated(text.removesuffix(" + …"))
            if text.endswith("…"):  # a sum over the batch, of which the terms of an item are shown
                expected = float(of_item(example, item).computed()[name].reshape(-1)[index])
            if example.op == "qlinear_conv":
                got = min(max(got, 0.0), 255.0)  # the output's type is uint8
            assert math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-3), (answer, expected)


def of_item(example: Example, item: int) -> Example:
    """The layer with a gradient of one item of the batch only."""
    gradient = np.zeros_like(example.tensors["grad_output"])
    gradient[item] = example.tensors["grad_output"][item]
    return Example(example.op, example.parameters, example.tensors | {"grad_output": gradient})


def evaluated(text: str) -> float:
    """The value of a sum as the page writes it."""
    python = text.replace("\N{MINUS SIGN}", "-").replace("\N{MULTIPLICATION SIGN}", "*")
    python = re.sub(r"\|([^|]*)\|", r"abs(\1)", python).replace("^", "**")
    assert re.fullmatch(r"(abs|max|round|e|[-+*/()., \d])+", python), text
    return float(eval(python, {"__builtins__": {}}, {"abs": abs, "max": lambda *all: max(all), "round": round}))
