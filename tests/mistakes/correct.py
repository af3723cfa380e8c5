"""Random layers of all kinds with correct results, in which nothing may be found."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.mistakes import honest, pooling
from tests.mistakes.drawing import Random, choose, draw, whole, with_operands
from tests.mistakes.layers import Layer, same_padding
from tests.mistakes.mistake import Case, case_of

KINDS = ("normal", "normal", "integers", "ties", "negative", "offset", "tiny")
TYPES = {"float64": "float64", "float32": "float32", "float16": "float32"}
"""The type of operands and results, with that of an honest port's sums."""


def any_layer(random: Random) -> Layer:
    """A layer with any parameters and values."""
    name = choose(random, "conv", "conv", "conv_transpose", "pool", "pool")
    fixed: dict[str, Any] = {}
    if name == "conv" and random.random() < 0.3:
        fixed["padding_mode"] = choose(random, "reflect", "replicate", "circular")
    elif name != "conv_transpose" and random.random() < 0.2:
        fixed["same"] = choose(random, "same", "same_lower")
    if name == "pool":
        fixed["mode"] = choose(random, "max", "avg", "lp")
        fixed["ceil_mode"] = choose(random, False, True) and "same" not in fixed
        fixed["ties"] = choose(random, "first", "all", "split")
        fixed["count_include_pad"] = choose(random, False, True)
        fixed["divisor_override"] = choose(random, None, None, whole(random, 1, 9))
        fixed["norm_type"] = choose(random, 1.0, 2.0, 3.0, 2.5)
        fixed["return_indices"] = choose(random, False, True)
        fixed["index_scheme"] = choose(random, "plane", "image", "tensor")
        fixed["storage_order"] = choose(random, "row_major", "column_major")
    fixed["images"] = whole(random, 1, 3)
    layer = draw(random, name, **fixed)
    if layer.same:
        padding = tuple(same_padding(*axis) for axis in zip(layer.sizes, layer.extents, layer.stride, strict=True))
        turned = tuple((after, before) for before, after in padding)
        layer = dataclasses.replace(layer, padding=padding if layer.same == "same" else turned)
    return with_operands(layer, random, choose(random, *KINDS), bias=random.random() < 0.7)


def correct_case(seed: int, stored: str) -> Case:
    """A request with correct results, all of them or some."""
    random = np.random.default_rng([seed, *stored.encode()])
    layer = honest.in_type(any_layer(random), stored)
    claimed = honest.results(layer, random, TYPES[stored], stored)
    if layer.mode == "max" and layer.return_indices:
        claimed["indices"] = pooling.forward(layer)["indices"]
    if random.random() < 0.5:
        kept = choose(random, *claimed)
        claimed = {name: result for name, result in claimed.items() if name == kept or random.random() < 0.5}
    return case_of(layer, claimed)
