"""Tensors are views of a body: aligned, in native byte order, and what is around them keeps its bytes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.buffers import ALIGNMENT, COPIED_BYTES, aligned, tensor_at, tensor_bytes
from service.codecs.message import BFLOAT16, DTYPES
from tests.service.payloads import AnyArray
from tests.strategies import quick_settings

SIZES = st.sampled_from([0, 1, 7, 8, 9, 1000, COPIED_BYTES - 1, COPIED_BYTES, COPIED_BYTES + 3, 3 * COPIED_BYTES])


def bytes_of(buffer: memoryview | bytearray) -> AnyArray:
    return np.frombuffer(buffer, np.uint8)


@quick_settings
@given(SIZES, st.integers(ALIGNMENT - 1, 40), st.integers(0, 9), st.integers(0, 20))
def test_data_are_aligned_in_their_buffer(size: int, header: int, before: int, after: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    body = bytearray(b"b" * before + b"h" * header + data + b"a" * after)
    original = bytes(body)
    content = memoryview(body)[before : len(body) - after]
    read = aligned(content, header)
    assert read == data
    assert not size or bytes_of(read).ctypes.data % ALIGNMENT == 0
    if size < COPIED_BYTES:
        assert body == original
    else:
        assert np.shares_memory(bytes_of(read), bytes_of(body))
        assert body[: before + header - ALIGNMENT + 1] == original[: before + header - ALIGNMENT + 1]
        assert body[len(body) - after :] == original[len(body) - after :]


@pytest.mark.parametrize("size", [12, 24 * COPIED_BYTES])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", DTYPES)
def test_a_tensor_has_native_byte_order(
    name: str, byte_order: Literal["<", ">"], order: Literal["C", "F"], size: int
) -> None:
    stored = (np.arange(size) % 100).astype(np.dtype(name).newbyteorder(byte_order))
    body = bytearray(8 * b"x" + stored.tobytes())
    original = bytes(body)
    tensor = tensor_at(memoryview(body), 8, stored.dtype, (3, size // 3), order)
    assert tensor.dtype == np.dtype(name)
    np.testing.assert_array_equal(tensor, stored.reshape(3, -1, order=order))
    assert body[:8] == original[:8]
    if size > COPIED_BYTES or stored.dtype.isnative:
        assert np.shares_memory(tensor, bytes_of(body))
    if size < COPIED_BYTES:
        assert body == original


def test_an_empty_tensor_needs_no_bytes() -> None:
    for dtype in (np.dtype("<f4"), np.dtype(">f8"), BFLOAT16):
        assert tensor_at(memoryview(b""), 0, dtype, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", "|u1", BFLOAT16])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 3), (2, 3, 4)])
def test_the_bytes_of_a_tensor(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    little_endian = array.astype(array.dtype.newbyteorder("<"))
    assert bytes(tensor_bytes(array)) == little_endian.tobytes()
    transposed = np.asfortranarray(array)
    assert bytes(tensor_bytes(transposed)) == little_endian.tobytes()
    if array.size and array.dtype.isnative:
        assert np.shares_memory(bytes_of(tensor_bytes(array)), array)
