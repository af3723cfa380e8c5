"""Golden cases and checks by the service itself: what the client asks for comes, and a mistake is named."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from cnn_core import AvgPool, Conv, LpPool, MaxPool
from convpool.cases import results_by_name
from convpool.client import AsyncClient, Cases, Client, InvalidRequest
from convpool.testing import assert_layer_matches

OPTIONS: dict[str, Any] = {
    "parameters": {"stride": [1, 2], "padding": "any"},
    "shapes": {"input": [2, [5, 8], [5, 8], 3], "weight": [3, 2, None, None]},
    "dtype": "float32",
    "count": 5,
    "seed": 3,
}


@pytest.fixture(scope="module")
def cases(local: Client) -> Cases:
    return local.cases("conv", **OPTIONS)


def test_cases_are_what_was_asked_for_and_always_the_same(local: Client, cases: Cases) -> None:
    assert (cases.layer, len(cases)) == ("conv", 5)
    for case in cases:
        assert case.operands["input"].dtype == np.float32
        assert case.operands["weight"].shape[:2] == (3, 2)
        assert case.parameters["stride"] in ([1, 1], [2, 2])
        assert set(case.results) == {"output", "grad_input", "grad_weight", "grad_bias"}
    assert local.cases_file("conv", **OPTIONS) == cases.content

    async def awaited() -> Cases:
        async with AsyncClient(local=True) as client:
            return await client.cases("conv", **OPTIONS)

    assert asyncio.run(awaited()).content == cases.content


@pytest.mark.parametrize("format", ["safetensors", "json", "jsonl"])
def test_files_of_other_formats(local: Client, format: str) -> None:
    content = local.cases_file("conv", format, **OPTIONS)
    assert content[8 * (format == "safetensors") :].startswith(b"{")
    assert b"case_0004" in content
    assert len(content.splitlines()) >= 5 * (format == "jsonl")


def test_a_format_that_there_is_not(local: Client) -> None:
    with pytest.raises(ValueError, match=r"format must be one of npz, .*; got 'zip'"):
        local.cases_file("conv", "zip")
    with pytest.raises(InvalidRequest, match=r"/kind: .*edges"):
        local.cases("conv", kind="edgs")


def op_of(parameters: dict[str, Any]) -> Any:
    given = dict(parameters)
    pools: dict[str, Any] = {"max": MaxPool, "avg": AvgPool, "lp": LpPool}
    return pools[given.pop("mode")](**given) if "mode" in given else Conv(**given)


def forward(*operands: Any, **parameters: Any) -> Any:
    return op_of(parameters).forward(*operands)


def backward(*operands: Any, **parameters: Any) -> Any:
    return op_of(parameters).backward(*operands)


@pytest.mark.parametrize("kind", ["random", "integers", "edges"])
@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        ("conv", {"stride": "any"}),
        ("pool", {"mode": "max", "kernel_size": 2}),
        ("pool", {"mode": "avg", "kernel_size": 2}),
        ("pool", {"mode": "lp", "kernel_size": 2, "norm_type": 1}),
    ],
)
def test_the_core_matches_every_case(local: Client, layer: str, parameters: dict[str, Any], kind: str) -> None:
    if kind == "edges":  # which have parameters of their own
        parameters = {name: value for name, value in parameters.items() if name == "mode"}
    found = local.cases(layer, parameters=parameters, kind=kind, count=20)
    assert_layer_matches(forward, found, backward=backward)


def test_every_result_that_is_right_is_confirmed(local: Client, cases: Cases) -> None:
    calls = ({"layer": "conv", "operands": case.operands, "claimed": case.results, **case.parameters} for case in cases)
    assert all(report.agrees for report in local.map("check", calls))


def test_a_mistake_is_named(local: Client, cases: Cases) -> None:
    case = cases[0]
    flipped = case.operands["weight"][::-1, ::-1]
    operands = {name: case.operands[name] for name in ("grad_output", "input", "weight")}
    gradients = Conv(**case.parameters).backward(operands["grad_output"], operands["input"], flipped)
    report = local.check("conv", operands, gradients, **case.parameters)
    assert not report.agrees
    assert set(report.tensors) == {"grad_input", "grad_weight", "grad_bias"}
    assert report.tensors["grad_bias"].agrees
    assert "explains grad_input" in str(report)
    assert set(results_by_name(gradients, [])) == set(report.tensors)


def test_a_failure_says_what_it_looks_like_without_being_asked(cases: Cases) -> None:
    def flipped(input: Any, weight: Any, bias: Any, **parameters: Any) -> Any:
        return forward(input, weight[::-1, ::-1], bias, **parameters)

    with pytest.raises(
        AssertionError, match=r"(?s)5 of 5 cases of conv differ\n.*explains output: The kernel is flipped"
    ):
        assert_layer_matches(flipped, cases)
