"""Every number that the playground shows is cnn_core's, and every cell that it lights is linked with the cell."""

from __future__ import annotations

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
from tests.browser.playground.layers import KINDS, Example, examples
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
