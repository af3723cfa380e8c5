"""Every number that the playground shows is cnn_core's, and every cell that it lights is linked with the cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser.playground.checks import (
    check_formulas,
    check_frame,
    check_highlights,
    check_maxima,
    check_numbers,
    check_places,
)
from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.layers import KINDS, Example, examples, integers
from tests.browser.playground.playground import Playground


def views_of(example: Example) -> list[str]:
    return ["forward", *(name for name in example.computed() if name.startswith("grad_"))]


def items_of(example: Example) -> int:
    return int(example.computed()["output"].shape[0])


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_number_and_formula_of_every_view_is_that_of_cnn_core(shared: Playground, kind: str) -> None:
    for number, example in enumerate(examples(2, [kind], seed=31)):
        for view in views_of(example):
            item = number % items_of(example)
            shared.go(fragment_of(example, view=view, item=str(item)))
            check_numbers(shared, example, view, item)
            check_formulas(shared, example, view, item)


def unpooling(scheme: str, **parameters: Any) -> Example:
    """Two images of two channels, whose indices count 4 x 4 places by a scheme; one value overwrites another."""
    random = np.random.default_rng(7)
    places = np.stack([random.permutation(16)[:4] for _ in range(4)]).reshape(2, 2, 2, 2)
    places[1, 1, 1, 1] = places[1, 1, 0, 0]
    image, channel = np.ogrid[:2, :2]
    offset = {"plane": 0, "image": 16 * channel, "tensor": 32 * image + 16 * channel}[scheme]
    tensors = {
        "input": integers(random, (2, 2, 2, 2), 1, 9),
        "indices": (places + np.broadcast_to(offset, (2, 2))[:, :, None, None]).astype(np.int64),
        "grad_output": integers(random, (2, 2, 5, 6) if parameters else (2, 2, 4, 4)),
    }
    common = {"data_format": "channels_first", "index_scheme": scheme, "output_size": [4, 4]}
    return Example("unpool", common | parameters, tensors)


ONNX = {"framework": "onnx", "kernel_size": 2, "stride": 2, "output_size": [5, 6]}


@pytest.mark.parametrize(
    "example",
    [unpooling("plane"), unpooling("image"), unpooling("tensor"), unpooling("tensor", **ONNX)],
    ids=["plane", "image", "tensor", "onnx"],
)
def test_a_value_is_linked_with_the_place_that_its_index_names(shared: Playground, example: Example) -> None:
    asked = Example(example.op, ONNX, example.tensors) if "framework" in example.parameters else example
    for item in range(2):
        for view in views_of(example):
            shared.go(fragment_of(asked, item=str(item), view=view))
            check_numbers(shared, example, view, item)
            check_formulas(shared, example, view, item)
        shared.go(fragment_of(asked, item=str(item)))
        check_places(shared, example, item)
        check_highlights(shared, example, np.random.default_rng(item), item)


LINKED = [kind for kind in KINDS if kind not in {"unpool", "unfold", "fold"}]


@pytest.mark.parametrize("part", range(8))
def test_the_highlights_of_200_random_layers_are_the_windows_of_the_oracle(shared: Playground, part: int) -> None:
    random = np.random.default_rng(part)
    for example in examples(200, list(KINDS), seed=200)[part::8]:
        item = int(random.integers(items_of(example)))
        shared.go(fragment_of(example, item=str(item)))
        check_frame(shared, example, item)
        if example.op not in {"unfold", "fold"}:
            check_places(shared, example, item)
        check_highlights(shared, example, random, item)
        if example.parameters.get("mode") == "max":
            check_maxima(shared, example, item)
