"""Where errors are, on masks that are made for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core import Conv, Unfold
from service.diagnosis.layer import Layer
from service.diagnosis.where import where_errors_are
from service.operations.catalogue import CATALOGUE

LAYER = Layer(CATALOGUE[0], Conv(padding=1), {"input": np.ones((2, 6, 7, 3)), "weight": np.ones((3, 3, 3, 4))})
FIRST = Layer(
    CATALOGUE[0],
    Conv(padding=1, data_format="channels_first"),
    {"input": np.ones((2, 3, 6, 7)), "weight": np.ones((4, 3, 3, 3))},
)


def at(*index: Any, shape: tuple[int, ...] = (2, 6, 7, 4)) -> Any:
    mask = np.zeros(shape, dtype=bool)
    mask[index] = True
    return mask


ALL = slice(None)


@pytest.mark.parametrize(
    ("mask", "pattern", "words"),
    [
        (at(ALL), "all", "Every element"),
        (at(ALL, -1), "last_row", "the last row"),
        (at(ALL, ALL, 0), "first_column", "the first column"),
        (at(ALL, ALL, ALL, 2), "one_channel", "channel 2"),
        (at(1), "last_image", "the last image"),
        (at(ALL, slice(None, None, 2)), "every_kth_row", "every second row, from 0 on"),
        (at(ALL, ALL, slice(1, None)), "all_but_first_column", "all but the first column"),
        (at(ALL, slice(0, 5)), "all_but_last_row", "all but the last row"),
        (at(ALL, slice(2, 4)), "some_rows", "rows 2 to 3"),
        (at(0, 1, 2, 3), "block", "the first image and in row 1 and in column 2 and in the last channel"),
    ],
)
def test_positions_along_an_axis(mask: Any, pattern: str, words: str) -> None:
    found = where_errors_are(LAYER, "output", mask)
    assert found.pattern == pattern
    assert words in found.sentence
    turned = where_errors_are(FIRST, "output", np.moveaxis(mask, -1, 1))
    assert turned.pattern == pattern
    assert found.sentence.startswith(("All and only", "Every", "Errors"))


def test_the_border_is_where_windows_reach_into_the_padding() -> None:
    border = at(ALL)
    border[:, 1:-1, 1:-1] = False
    assert where_errors_are(LAYER, "output", border).pattern == "border"
    assert where_errors_are(LAYER, "output", ~border).pattern in {"interior", "block"}
    assert where_errors_are(FIRST, "output", np.moveaxis(border, -1, 1)).pattern == "border"


def test_axes_of_a_gradient_of_the_weight() -> None:
    shape = (3, 3, 3, 4)
    assert where_errors_are(LAYER, "grad_weight", at(ALL, ALL, 1, shape=shape)).pattern == "one_input_channel"
    assert where_errors_are(LAYER, "grad_weight", at(0, shape=shape)).pattern == "first_kernel_row"
    assert where_errors_are(FIRST, "grad_weight", at(0, shape=(4, 3, 3, 3))).pattern == "first_output_channel"
    assert where_errors_are(LAYER, "grad_bias", at(3, shape=(4,))).pattern == "last_output_channel"


def test_no_pattern() -> None:
    mask = np.random.default_rng(0).random((2, 6, 7, 4)) < 0.5
    found = where_errors_are(LAYER, "output", mask)
    assert found.pattern == "scattered"
    assert "%" in found.sentence


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_errors_of_unfold_whose_windows_are_all_along_one_axis(data_format: Any, rank: int) -> None:
    (unfold,) = (each for each in CATALOGUE if each.name == "unfold")
    op = Unfold(kernel_size=2, padding=1, data_format=data_format)
    layer = Layer(
        unfold,
        op,
        {"input": np.ones((2, 3, *(3,) * rank) if data_format == "channels_first" else (2, *(3,) * rank, 3))},
    )
    mask = np.random.default_rng(0).random(layer.resolved.output_shape) < 0.5
    assert where_errors_are(layer, "output", mask).pattern == "scattered"
