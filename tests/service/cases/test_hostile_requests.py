"""Requests for cases that nobody can mean: each is refused, or answered with cases."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.clients import ApplicationClient
from tests.service.cases.oracles import ENTRIES

LARGE = (10**9, [10**9], [[1, 10**9]], [[[1, 10**9]]])
VALUES: dict[str, tuple[Any, ...]] = {
    "stride": (1, "any", 0, -1, "x", None, 2**70, [], [[]], [[[]]], 1.5, True, {"a": 1}, *LARGE),
    "padding": ("any", "same", ["same", "valid"], [["same"]], "same_lower", *LARGE),
    "dilation": ("any", 1, 0, *LARGE),
    "groups": ("any", [1, 2], 10**6, 2**40),
    "kernel_size": ("any", 3, [2, [3, 3]], *LARGE),
    "output_size": ("any", 1, [3, [3, 3]], *LARGE),
    "mode": ("max", "any", ["max", "avg", "lp"], "none", []),
    "norm_type": ("any", 1, 2.5, 1e308, -1, 20),
    "divisor_override": ("any", 0, -1, 2**40, [3, None]),
    "padding_mode": ("any", "reflect", ["circular", "zeros"]),
    "framework": ("torch", "any", ["onnx", "jax"]),
    "spatial_axes": (1, 4, [1, 2], "any"),
    "output_padding": ("any", 10**6, "to_stride"),
    "data_format": ("any", "channels_first"),
    "algorithm": ("direct", "any"),
    "unknown\0": (1,),
}
SHAPES: tuple[Any, ...] = (
    [1, 4, 4, 1],
    [None] * 3,
    [None] * 5,
    [None] * 50,
    [[1, 3], [5, 9], [5, 9], [1, 2]],
    [0, 0, 0],
    [2**31 - 1] * 3,
    [2**31, 1, 1],
    [[5, 1], 1, 1],
    [1.5, 1, 1],
    [[1, 2, 3], 1, 1],
    [-1, 1, 1],
    [],
    "any",
    None,
)
MEMBERS: dict[str, tuple[Any, ...]] = {
    "dtype": ("float32", "float64", "float16", "int8", "bfloat16", "object", "", None, 1),
    "kind": ("random", "integers", "edges", "none", None, ["random"]),
    "directions": (["forward"], ["backward"], [], ["forward"] * 2, "forward", ["x"], None),
    "count": (1, 2, 3, 0, -1, 10**9, 2**80, 1.0, 1.5, True, None, "3", [1]),
    "seed": (0, -1, 2**53 - 1, 2**53, 2**64, -(2**80), 1.0, 1e300, True, None, "1"),
}


REQUIRED: dict[str, dict[str, Any]] = {
    "pool": {"mode": "any"},
    "unfold": {"kernel_size": 2},
    "fold": {"kernel_size": 2, "output_size": "any"},
}


def request(layer: str, draw: random.Random) -> dict[str, Any]:
    names = draw.sample(list(VALUES), draw.randrange(4))
    required = REQUIRED.get(layer, {}) if draw.random() < 0.8 else {}
    parameters: Any = {**required, **{name: draw.choice(VALUES[name]) for name in names}}
    if draw.random() < 0.2:
        parameters = draw.choice(("any", "none", None, [], 1))
    body = {"count": 2, "parameters": parameters}
    if draw.random() < 0.4:
        operands = draw.sample(("input", "weight", "bias", "indices", "none", "weight_zero_point"), draw.randrange(3))
        body["shapes"] = {name: draw.choice(SHAPES) for name in operands}
    for name in draw.sample(list(MEMBERS), draw.randrange(3)):
        body[name] = draw.choice(MEMBERS[name])
    return body


@pytest.mark.parametrize("layer", ENTRIES)
def test_whatever_is_asked_for_is_answered_or_refused(client: ApplicationClient, layer: str) -> None:
    draw = random.Random(layer)
    statuses = set()
    for _ in range(60):
        body = request(layer, draw)
        response = client.post(f"/{layer}/cases", json=body)
        assert response.status_code in {200, 400, 413, 422}, f"{response.text} to {body}"
        statuses.add(response.status_code)
    assert 422 in statuses


def test_a_parameter_that_no_layer_is_without_is_required(client: ApplicationClient) -> None:
    for layer, name in (("unfold", "kernel_size"), ("fold", "kernel_size"), ("fold", "output_size"), ("pool", "mode")):
        response = client.post(f"/{layer}/cases", json={"parameters": {}})
        assert response.status_code == 422, response.text
        assert f"/parameters/{name}" in {error["pointer"] for error in response.json()["errors"]}
