"""Tensors of the Open Inference Protocol are views of the body and of the results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.codecs import Encoded, Limits, RequestContext, ResponseContext
from service.codecs.message import Decoded
from service.codecs.v2 import V2BinaryCodec
from tests.service.payloads import AnyArray, little_memory
from tests.service.v2.messages import LENGTH, request

OPERANDS = ["first", "second", "third", "fourth"]
MEBIBYTE = 2**20


def decoded(arrays: Mapping[str, AnyArray], charged: list[int] | None = None, **options: Any) -> Decoded:
    sent = request(arrays, {}, **options)
    return decoded_from(bytearray(sent["content"]), sent["headers"], charged)


def decoded_from(body: bytearray, headers: Mapping[str, str], charged: list[int] | None = None) -> Decoded:
    limits = Limits(0, (charged if charged is not None else []).append)
    return V2BinaryCodec({"output": {}}, 2**20).decode(body, RequestContext(OPERANDS, headers=headers), limits)


def encoded(results: Mapping[str, AnyArray], **outputs: bool) -> Encoded:
    options = {"id": None, "outputs": outputs, "is_binary": True}
    return V2BinaryCodec({"output": {}}, 0).encode(results, ResponseContext(options, "conv_forward", {}))


def large(dtype: str, elements: int = MEBIBYTE) -> AnyArray:
    return np.random.default_rng(0).integers(0, 100, elements).astype(dtype)


@pytest.mark.parametrize("padding", range(8))
@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
def test_a_large_tensor_takes_no_memory_of_its_own(dtype: str, padding: int) -> None:
    array = large(dtype)
    sent = request({"first": array}, {}, binary=True, padding=padding)
    body, charged = bytearray(sent["content"]), list[int]()
    with little_memory(array.nbytes // 8):
        tensor = decoded_from(body, sent["headers"], charged).tensors["first"]
    assert sum(charged) < array.nbytes // 8
    assert np.shares_memory(tensor, np.frombuffer(body, np.uint8))
    assert tensor.flags.aligned
    np.testing.assert_array_equal(tensor, array, strict=True)


@pytest.mark.parametrize("padding", range(8))
@pytest.mark.parametrize("dtypes", list(itertools.permutations(["int8", "float16", "float32", "float64"])))
def test_tensors_of_any_types_follow_each_other(dtypes: tuple[str, ...], padding: int) -> None:
    """A tensor that cannot be moved, as the one before it of a narrower type ends there, is copied."""
    sizes = (300_001, 300_003, 300_007, 300_009)
    arrays = {name: large(dtype, size) for name, dtype, size in zip(OPERANDS, dtypes, sizes, strict=True)}
    tensors = decoded(arrays, binary=True, padding=padding).tensors
    for name, array in arrays.items():
        assert tensors[name].flags.aligned
        np.testing.assert_array_equal(tensors[name], array, strict=True)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_mixture_of_tensors(data: st.DataObject) -> None:
    """Small and large, in JSON and in binary, in any order and at any alignment."""
    dtypes = st.sampled_from(["int8", "uint16", "float32", "float64", "int64"])
    sizes = st.integers(0, 9) | st.integers(2**17, 2**17 + 9)
    arrays = {name: large(data.draw(dtypes), data.draw(sizes)) for name in data.draw(st.permutations(OPERANDS))}
    binary = [name for name, array in arrays.items() if array.size > 9 or data.draw(st.booleans())]
    charged = list[int]()
    tensors = decoded(arrays, charged, binary=binary, padding=data.draw(st.integers(0, 8))).tensors
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        assert tensors[name].flags.aligned
        np.testing.assert_array_equal(tensors[name], array, strict=True)


def test_a_small_body_may_be_decoded_twice() -> None:
    for padding in range(8):
        arrays = {"first": large("float64", 100), "second": large("float32", 100)}
        sent = request(arrays, {}, binary=True, padding=padding)
        body = bytearray(sent["content"])
        for _ in range(2):
            tensors = decoded_from(body, sent["headers"]).tensors
            for name, array in arrays.items():
                np.testing.assert_array_equal(tensors[name], array, strict=True)
        assert body == sent["content"]


def test_results_are_sent_from_their_own_memory() -> None:
    results = {"output": large("float64"), "grad": large("float32")}
    with little_memory(MEBIBYTE):
        buffers = encoded(results).buffers
    text, *data = buffers
    assert int(encoded(results).headers[LENGTH]) == len(text)
    for (_, array), buffer in zip(results.items(), data, strict=True):
        assert np.shares_memory(np.frombuffer(buffer, np.uint8), array)


@pytest.mark.parametrize("dtype", [">f8", ">i4", "<f2"])
def test_results_are_little_endian_and_in_c_order(dtype: str) -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    *_, data = encoded({"output": array.astype(array.dtype.newbyteorder("="))}).buffers
    assert bytes(data) == array.astype(array.dtype.newbyteorder("<")).tobytes("C")


def test_an_empty_result_has_no_bytes() -> None:
    assert sum(map(len, encoded({"output": np.zeros((0, 3))}).buffers[1:])) == 0


def test_the_memory_of_json_is_charged_before_it_is_parsed() -> None:
    charged = list[int]()
    decoded({"first": np.arange(1000.0)}, charged)
    assert charged[0] >= 1000 * 24
