"""Every operation of the catalogue is a method, and gives what the core computes, bit for bit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cnn_core import ConvGradients, MaxPoolResult
from convpool.client import AsyncClient, Client, InvalidRequest
from convpool.client.operations import OPERANDS
from service.operations.catalogue import OPERATIONS
from tests.service.calls import CALLS, EXAMPLES, assert_identical, computed
from tests.service.payloads import Call

PROJECT = Path(__file__).parents[2]


def test_every_operation_is_a_method_with_its_operands() -> None:
    catalogue = {
        operation.name: {operand.name: not operand.optional for operand in operation.operands}
        for operation in OPERATIONS
    }
    # the order counts: operands may be given by position
    assert {name: list(operands.items()) for name, operands in OPERANDS.items()} == {
        name: list(operands.items()) for name, operands in catalogue.items()
    }


def method_of(call: Call) -> str:
    return call.path.strip("/").replace("/", "_")


def by_name(call: Call, returned: Any) -> dict[str, Any]:
    if isinstance(returned, np.ndarray):
        return {call.results[0]: returned}
    assert isinstance(returned, ConvGradients if "grad_weight" in call.results else MaxPoolResult)
    return {name: array for name, array in returned._asdict().items() if array is not None}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_results_are_those_of_the_core(local: Client, call: Call) -> None:
    returned = getattr(local, method_of(call))(**call.operands, **call.parameters)
    assert_identical(by_name(call, returned), computed(call, call.operands))


def test_both_clients_agree_over_a_socket(server_url: str) -> None:
    async def awaited() -> list[Any]:
        async with AsyncClient(server_url) as client:
            return [await getattr(client, method_of(call))(**call.operands, **call.parameters) for call in EXAMPLES]

    with Client(server_url) as client:
        returned = [getattr(client, method_of(call))(**call.operands, **call.parameters) for call in EXAMPLES]
    for call, one, other in zip(EXAMPLES, returned, asyncio.run(awaited()), strict=True):
        assert_identical(by_name(call, one), by_name(call, other))
        assert_identical(by_name(call, one), computed(call, call.operands))


def test_lists_numbers_and_numpy_s_own_numbers_are_taken(local: Client) -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    kernel = np.ones((2, 2, 1, 1), np.uint8)
    output = local.conv_integer_forward(image, kernel, 1, stride=(np.int64(2), 2), padding=np.array([0, 0]))
    assert output.dtype == np.int32
    assert output.ravel().tolist() == [6, 14, 38, 46]
    assert local.pool_forward([[[1], [3], [2], [0]]], mode="max", kernel_size=2).ravel().tolist() == [3, 2]


def test_only_the_gradients_that_are_wanted_come(local: Client) -> None:
    gradients = local.conv_backward(np.ones((1, 2, 1)), np.ones((1, 3, 1)), np.ones((2, 1, 1)), wrt=["weight"])
    assert gradients.grad_input is None
    assert gradients.grad_bias is None
    assert gradients.grad_weight is not None
    assert gradients.grad_weight.ravel().tolist() == [2, 2]


def test_what_is_none_is_not_given(local: Client) -> None:
    output = local.conv_forward(np.ones((1, 3, 1)), np.ones((2, 1, 1)), None, stride=None, framework=None)
    assert output.shape == (1, 2, 1)


def test_the_shape_of_a_layer(local: Client) -> None:
    shape = local.shape(
        "conv", {"input": (2, 9, 8, 3), "weight": (3, 3, 3, 5)}, stride=2, padding="same", dtype="float32"
    )
    assert shape.output_shape == (2, 5, 4, 5)
    assert shape.padding == [[1, 1], [0, 1]]
    assert shape.bytes_out == 2 * 5 * 4 * 5 * 4
    with pytest.raises(InvalidRequest) as raised:
        local.shape("conv", {"input": (2, 9, 8, 3), "weight": (3, 3, 4, 5)})
    assert raised.value.findings[0].pointer.startswith("/shapes/")


def test_what_cannot_be_sent_is_refused_before_it_is(local: Client) -> None:
    image, weight = np.ones((1, 3, 1)), np.ones((2, 1, 1))
    with pytest.raises(TypeError, match="biass is no operand of this call"):
        local.conv_forward(image, weight, biass=np.ones(100))
    for other in (np.array([{}]), np.array(["1"]), weight.astype(ml_dtypes.bfloat16), weight + 1j):
        with pytest.raises(TypeError, match=f"an operand is an array of numbers of a type .*; got {other.dtype}"):
            local.conv_forward(image, other)
    with pytest.raises(TypeError, match="a parameter is a number, a string"):
        local.conv_forward(image, weight, stride=object())


class TestMap:
    """Many calls, several at a time."""

    CALLS: tuple[Mapping[str, Any], ...] = tuple(
        {"input": np.full((1, 3, 1), index), "weight": np.ones((1, 1, 1))} for index in range(40)
    )

    def test_results_come_in_order(self, local: Client) -> None:
        outputs = local.map("conv_forward", self.CALLS, concurrency=5)
        assert [output[0, 0, 0] for output in outputs] == list(range(40))

    def test_calls_are_taken_as_results_are(self, local: Client) -> None:
        taken: list[int] = []
        outputs = local.map("conv_forward", (taken.append(1) or call for call in self.CALLS), concurrency=3)  # type: ignore[func-returns-value]
        next(outputs)
        next(outputs)
        assert len(taken) <= 5
        outputs.close()  # type: ignore[attr-defined]

    def test_the_first_error_ends_it(self, local: Client) -> None:
        calls: list[dict[str, Any]] = [dict(call) for call in self.CALLS]
        calls[3]["stride"] = 0
        outputs = local.map("conv_forward", calls, concurrency=2)
        assert [next(outputs)[0, 0, 0] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(InvalidRequest, match="/stride"):
            next(outputs)
        assert list(outputs) == []

    def test_it_is_the_same_when_awaited(self, server_url: str) -> None:
        async def awaited() -> list[float]:
            async with AsyncClient(server_url) as client:
                outputs = [output[0, 0, 0] async for output in client.map("conv_forward", self.CALLS, concurrency=5)]
                with pytest.raises(InvalidRequest, match="/stride"):
                    [each async for each in client.map("conv_forward", [{**self.CALLS[0], "stride": 0}] * 9)]
                return outputs

        assert asyncio.run(awaited()) == list(range(40))

    def test_there_must_be_such_a_call(self, local: Client) -> None:
        with pytest.raises(ValueError, match=r"a call is one of conv_forward, .*; got 'conv'"):
            next(local.map("conv", []))


def test_the_asynchronous_client_computes_in_this_process_too() -> None:
    async def awaited() -> Any:
        async with AsyncClient(local=True) as client:
            return await client.conv_forward(np.ones((1, 3, 1)), np.ones((2, 1, 1)))

    assert asyncio.run(awaited()).ravel().tolist() == [2, 2]


def test_a_program_ends_that_closes_nothing() -> None:
    script = (
        "from convpool.client import Client; client = Client(local=True)\n"
        "outputs = client.map('pool_forward', [{'input': [[[1.0]]], 'mode': 'max', 'kernel_size': 1}] * 9)\n"
        "print(next(outputs).shape)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == "(1, 1, 1)\n"
